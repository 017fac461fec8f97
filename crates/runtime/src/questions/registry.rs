//! Questions to shard 0 about tenants, keys and definitions.
//!
//! Absent on purpose: who may ask; the edge has checked it.

use std::{collections::BTreeMap, sync::Arc};

use statehouse_chart::Chart;
use statehouse_contract::{
    Consistency, Credential, DefinitionName, DefinitionRef, Digest, Quota, Rejection,
    RejectionCode, TenantId,
    view::{DefinitionRow, DefinitionVersion, DefinitionView, KeyView, TenantView},
};
use statehouse_store::entry::Pin;

use super::{deadline, read_failed};
use crate::{
    reading::{chart_in, current_version, resolve, unreadable},
    seat::Seat,
};

impl Seat {
    /// Answers a tenant's definitions.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn definitions(&self, tenant: &TenantId) -> Result<Vec<DefinitionRow>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let view = self.registry().view();
        let rows = view.definitions(tenant).map_err(|error| read_failed(&error))?;
        let mut named: BTreeMap<DefinitionName, Vec<DefinitionVersion>> = BTreeMap::new();
        for row in rows {
            named.entry(row.name).or_default().push(DefinitionVersion {
                version: row.version,
                digest: row.digest.to_string(),
                deployed_at: row.deployed_at.to_rfc3339(),
                deployed_by: row.deployed_by.into(),
            });
        }
        let listed = named.into_iter().map(|(name, versions)| {
            let current = self.current(tenant, &name)?;
            Ok(DefinitionRow { name, current, versions })
        });
        listed.collect()
    }

    /// Answers one definition's document.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn definition(
        &self,
        tenant: &TenantId,
        name: &DefinitionName,
        version: Option<u32>,
    ) -> Result<DefinitionView, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let current = self.current(tenant, name)?;
        let view = self.registry().view();
        let found = match version.or(current) {
            Some(version) => view.definition(tenant, name, Some(version)),
            None => Ok(None),
        };
        let row = found.map_err(|error| read_failed(&error))?.ok_or_else(|| {
            let detail = match version {
                Some(version) => format!("there is no version {version} of {name}"),
                None => format!("there is no definition {name}"),
            };
            Rejection::gateway(RejectionCode::UnknownDefinition, detail)
        })?;
        Ok(DefinitionView {
            name: row.name,
            version: row.version,
            current: current == Some(row.version),
            digest: row.digest.to_string(),
            document: row.document,
        })
    }

    fn current(&self, tenant: &TenantId, name: &DefinitionName) -> Result<Option<u32>, Rejection> {
        let reference = DefinitionRef { name: name.clone(), version: None, digest: None };
        let found = current_version(&self.registry().view(), tenant, &reference);
        found.map_err(|error| read_failed(&error))
    }

    /// Returns the chart of a resolved definition from the rows of shard 0; nothing if there is none.
    pub(crate) fn registry_chart(
        &self,
        tenant: &TenantId,
        definition: &DefinitionRef,
    ) -> Result<Option<Arc<Chart>>, Rejection> {
        let (Some(version), Some(digest)) = (definition.version, definition.digest) else {
            return Ok(None);
        };
        let pin = Pin { name: definition.name.clone(), version, digest };
        let chart = chart_in(self, &self.registry().view(), tenant, &pin);
        chart.map(Some).map_err(|why| unreadable(&why))
    }

    /// Returns another version of a definition from the rows of shard 0; nothing if there is none.
    pub(crate) async fn registry_version(
        &self,
        tenant: &TenantId,
        pin: &Pin,
        version: u32,
    ) -> Result<Option<(Pin, Arc<Chart>)>, Rejection> {
        let asked = DefinitionRef { name: pin.name.clone(), version: Some(version), digest: None };
        let found = resolve(self, tenant, &asked).await?;
        let chart = self.registry_chart(tenant, &found)?;
        let pin = found.digest.map(|digest| Pin { name: found.name, version, digest });
        Ok(pin.zip(chart))
    }

    /// Answers every tenant.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let rows = self.registry().view().tenants().map_err(|error| read_failed(&error))?;
        Ok(rows.into_iter().map(|row| row.tenant).collect())
    }

    /// Answers a tenant's quota and keys, without secrets.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<TenantView, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let view = self.registry().view();
        let read = |error: statehouse_store::StoreError| read_failed(&error);
        if view.tenant(tenant).map_err(read)?.is_none() {
            let detail = "there is no such tenant";
            return Err(Rejection::gateway(RejectionCode::UnknownTenant, detail));
        }
        let none = Quota { commands_per_s: None, instances: None, refusals_per_s: None };
        let quota = view.quota(tenant).map_err(read)?.unwrap_or(none);
        let keys = view.api_keys(tenant).map_err(read)?.into_iter().map(|key| KeyView {
            id: key.id.into(),
            name: key.name.into(),
            roles: key.roles,
            revoked: key.revoked_at.is_some(),
        });
        Ok(TenantView { tenant: tenant.clone(), quota, keys: keys.collect() })
    }

    /// Answers who holds an API key; nobody for one that is unknown or was revoked.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub fn credential(&self, hash: Digest) -> Result<Option<Credential>, Rejection> {
        self.ground().caches.credential(hash, || {
            let found =
                self.registry().view().api_key(hash).map_err(|error| read_failed(&error))?;
            let valid = found.filter(|key| key.revoked_at.is_none());
            Ok(valid.map(|key| Credential {
                tenant: key.tenant,
                id: key.id,
                name: key.name,
                roles: key.roles,
            }))
        })
    }
}
