//! Definitions, tenants, keys, schedules, batches, members, as they are asked for.
//!
//! Absent on purpose: writing. `apply` alone writes these rows.

use statehouse_contract::{DefinitionName, Digest, Quota, TenantId};

use super::View;
use crate::{
    buckets::{BucketRow, Buckets},
    catalog::{self, DefinitionRow, DocumentRow, KeyRow, Kind, Name, TenantRow},
    error::StoreError,
};

impl View {
    /// Returns a version of a definition; without a version the current one.
    ///
    /// # Errors
    /// As every question.
    pub fn definition(
        &self,
        tenant: &TenantId,
        name: &DefinitionName,
        version: Option<u32>,
    ) -> Result<Option<DefinitionRow>, StoreError> {
        self.ask("read a definition", |connection| {
            let current = Name::new(Kind::Current, tenant.as_str(), name.as_str());
            let version = match version {
                Some(version) => Some(version),
                None => catalog::get::<u32>(connection, current)?,
            };
            let Some(version) = version else { return Ok(None) };
            let (tenant, name) = (tenant.as_str(), name.as_str());
            catalog::get(connection, Name { kind: Kind::Definition, tenant, name, version })
        })
    }

    /// Returns the version of a definition that new instances take.
    ///
    /// # Errors
    /// As every question.
    pub fn current(
        &self,
        tenant: &TenantId,
        name: &DefinitionName,
    ) -> Result<Option<u32>, StoreError> {
        let row = Name::new(Kind::Current, tenant.as_str(), name.as_str());
        self.ask("read a current version", |connection| catalog::get(connection, row))
    }

    /// Returns the highest stored version of a definition; 0 if there is none.
    ///
    /// # Errors
    /// As every question.
    pub fn latest_definition(
        &self,
        tenant: &TenantId,
        name: &DefinitionName,
    ) -> Result<u32, StoreError> {
        self.ask("read a latest version", |connection| {
            catalog::latest(connection, tenant.as_str(), name.as_str())
        })
    }

    /// Returns every version of every definition of a tenant, by name and version.
    ///
    /// # Errors
    /// As every question.
    pub fn definitions(&self, tenant: &TenantId) -> Result<Vec<DefinitionRow>, StoreError> {
        self.ask("list definitions", |connection| {
            catalog::list(connection, Kind::Definition, Some(tenant.as_str()))
        })
    }

    /// Returns every tenant.
    ///
    /// # Errors
    /// As every question.
    pub fn tenants(&self) -> Result<Vec<TenantRow>, StoreError> {
        self.ask("list tenants", |connection| catalog::list(connection, Kind::Tenant, None))
    }

    /// Returns a tenant.
    ///
    /// # Errors
    /// As every question.
    pub fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRow>, StoreError> {
        let row = Name::new(Kind::Tenant, tenant.as_str(), "");
        self.ask("read a tenant", |connection| catalog::get(connection, row))
    }

    /// Returns what a tenant may use, if anything was set.
    ///
    /// # Errors
    /// As every question.
    pub fn quota(&self, tenant: &TenantId) -> Result<Option<Quota>, StoreError> {
        let row = Name::new(Kind::Quota, tenant.as_str(), "");
        self.ask("read a quota", |connection| catalog::get(connection, row))
    }

    /// Returns a tenant's API keys, revoked ones too.
    ///
    /// # Errors
    /// As every question.
    pub fn api_keys(&self, tenant: &TenantId) -> Result<Vec<KeyRow>, StoreError> {
        self.ask("list keys", |connection| {
            catalog::list(connection, Kind::Key, Some(tenant.as_str()))
        })
    }

    /// Returns the API key whose secret has this hash, even if it was revoked.
    ///
    /// # Errors
    /// As every question.
    pub fn api_key(&self, hash: Digest) -> Result<Option<KeyRow>, StoreError> {
        let text = hash.to_string();
        self.ask("read a key", |connection| {
            let by_hash = Name::new(Kind::KeyHash, "", &text);
            let holder: Option<(TenantId, Box<str>)> = catalog::get(connection, by_hash)?;
            let Some((tenant, id)) = holder else { return Ok(None) };
            let row = Name::new(Kind::Key, tenant.as_str(), &id);
            Ok(catalog::get::<KeyRow>(connection, row)?.filter(|key| key.hash == hash))
        })
    }

    /// Returns a tenant's schedules.
    ///
    /// # Errors
    /// As every question.
    pub fn schedules(&self, tenant: &TenantId) -> Result<Vec<DocumentRow>, StoreError> {
        self.ask("list schedules", |connection| {
            catalog::list(connection, Kind::Schedule, Some(tenant.as_str()))
        })
    }

    /// Returns a tenant's batches.
    ///
    /// # Errors
    /// As every question.
    pub fn batches(&self, tenant: &TenantId) -> Result<Vec<DocumentRow>, StoreError> {
        self.ask("list batches", |connection| {
            catalog::list(connection, Kind::Batch, Some(tenant.as_str()))
        })
    }

    /// Returns the members of the cluster.
    ///
    /// # Errors
    /// As every question.
    pub fn members(&self) -> Result<Vec<DocumentRow>, StoreError> {
        self.ask("list members", |connection| catalog::list(connection, Kind::Member, None))
    }

    /// Returns what is known of a bucket: the epoch at which entries have to be decided, and whether it is here.
    ///
    /// # Errors
    /// As every question.
    pub fn bucket(&self, bucket: statehouse_contract::Bucket) -> Result<BucketRow, StoreError> {
        self.ask("read a bucket", |connection| Buckets::read(connection, bucket))
    }
}
