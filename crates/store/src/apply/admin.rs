//! Definitions, tenants, keys, quotas, schedules, batches, members, buckets, feature levels.
//!
//! "Same version, other content" is judged here, in shard 0, because only the order of its log is the truth; a copy in
//! another shard only has to agree with itself.

use statehouse_contract::{Digest, Json, NodeId, TenantId, Timestamp};

use super::{Batch, Stop};
use crate::{
    catalog::{self, DefinitionRow, DocumentRow, KeyRow, Kind, Name, TenantRow},
    due::{self, Slot},
    entry::{Authority, Body, DefinitionAdded, Header, KeyState},
    fence::Fence,
};

type Fenced<T> = Result<Result<T, Fence>, Stop>;

impl Batch<'_> {
    pub(super) fn admin(&mut self, header: &Header, body: &Body) -> Fenced<()> {
        match body {
            Body::DefinitionAdded(added) => self.definition_added(header, added),
            Body::CurrentSet { tenant, name, version, .. } => {
                let definition = Name {
                    kind: Kind::Definition,
                    tenant: tenant.as_str(),
                    name: name.as_str(),
                    version: *version,
                };
                if catalog::get::<DefinitionRow>(self.connection, definition)?.is_none() {
                    return Ok(Err(Fence::Unknown { what: "definition" }));
                }
                let current = Name::new(Kind::Current, tenant.as_str(), name.as_str());
                catalog::put(self.connection, &mut self.meta, current, version)?;
                Ok(Ok(()))
            }
            Body::TenantSet { tenant, .. } => self.tenant_set(header, tenant),
            Body::KeySet { tenant, id, state, .. } => self.key_set(header, tenant, id, state),
            Body::QuotaSet { tenant, quota, .. } => {
                let name = Name::new(Kind::Quota, tenant.as_str(), "");
                catalog::put(self.connection, &mut self.meta, name, quota)?;
                Ok(Ok(()))
            }
            Body::ScheduleSet { tenant, name, document, next, .. } => {
                self.schedule_set(tenant, name, document.as_ref(), *next)
            }
            Body::ScheduleFired { tenant, name, due, next } => {
                self.schedule_fired(tenant, name, *due, *next)
            }
            Body::BatchSet { tenant, name, document, .. } => {
                let row = Name::new(Kind::Batch, tenant.as_str(), name);
                self.document_set(row, document.as_ref(), None)
            }
            Body::MemberSet { node, document, .. } => self.member_set(*node, document.as_ref()),
            Body::BucketFrozen { bucket, epoch, to } => {
                let mut row = self.buckets.get(*bucket);
                if *epoch != row.epoch + 1 {
                    return Ok(Err(Fence::BucketEpoch { expected: *epoch, found: row.epoch }));
                }
                (row.epoch, row.moved_to) = (*epoch, Some(*to));
                self.buckets.put(self.connection, &mut self.meta, *bucket, row)?;
                Ok(Ok(()))
            }
            Body::BucketMoved { bucket, epoch, to } => {
                let mut row = self.buckets.get(*bucket);
                if *epoch <= row.epoch {
                    return Ok(Err(Fence::BucketEpoch { expected: *epoch, found: row.epoch }));
                }
                (row.epoch, row.moved_to) = (*epoch, (*to != self.meta.shard).then_some(*to));
                self.buckets.put(self.connection, &mut self.meta, *bucket, row)?;
                Ok(Ok(()))
            }
            Body::FeatureRaised { level, .. } => {
                self.meta.level = self.meta.level.max(*level);
                Ok(Ok(()))
            }
            Body::TermOpened { .. }
            | Body::Transitioned(_)
            | Body::Refused(_)
            | Body::TaskLeased(_)
            | Body::LeaseExtended(_)
            | Body::AttemptEnded(_)
            | Body::OutboxDone(_)
            | Body::DigestAt
            | Body::Swept(_) => Ok(Err(Fence::Unknown { what: "administration" })),
        }
    }

    fn definition_added(&mut self, header: &Header, added: &DefinitionAdded) -> Fenced<()> {
        let (tenant, name) = (added.tenant.as_str(), added.name.as_str());
        let row = Name { kind: Kind::Definition, tenant, name, version: added.version };
        if let Some(stored) = catalog::get::<DefinitionRow>(self.connection, row)? {
            let same = stored.digest == added.digest;
            let fence = Fence::Content { expected: added.digest, found: stored.digest };
            return Ok(if same { Ok(()) } else { Err(fence) });
        }
        let latest = catalog::latest(self.connection, tenant, name)?;
        let rises = match added.authority {
            Authority::Original => added.version > latest,
            Authority::Copy => true,
        };
        if !rises {
            return Ok(Err(Fence::NotRising { expected: added.version, found: latest }));
        }
        let value = DefinitionRow {
            name: added.name.clone(),
            version: added.version,
            digest: added.digest,
            document: added.document.clone(),
            authority: added.authority,
            deployed_at: header.decided_at,
            deployed_by: header.actor.name.clone(),
        };
        catalog::put(self.connection, &mut self.meta, row, &value)?;
        Ok(Ok(()))
    }

    fn tenant_set(&mut self, header: &Header, tenant: &TenantId) -> Fenced<()> {
        let name = Name::new(Kind::Tenant, tenant.as_str(), "");
        if catalog::get::<TenantRow>(self.connection, name)?.is_none() {
            let row = TenantRow { tenant: tenant.clone(), created_at: header.decided_at };
            catalog::put(self.connection, &mut self.meta, name, &row)?;
        }
        Ok(Ok(()))
    }

    fn key_set(
        &mut self,
        header: &Header,
        tenant: &TenantId,
        id: &str,
        state: &KeyState,
    ) -> Fenced<()> {
        let name = Name::new(Kind::Key, tenant.as_str(), id);
        let before: Option<KeyRow> = catalog::get(self.connection, name)?;
        let after = match (state, &before) {
            (KeyState::Revoked, None) => return Ok(Err(Fence::Unknown { what: "key" })),
            (KeyState::Revoked, Some(row)) => KeyRow {
                revoked_at: Some(row.revoked_at.unwrap_or(header.decided_at)),
                ..row.clone()
            },
            (KeyState::Valid { hash, name, roles }, _) => KeyRow {
                tenant: tenant.clone(),
                id: id.into(),
                hash: *hash,
                name: name.clone(),
                roles: roles.clone(),
                revoked_at: None,
            },
        };
        if let Some(before) = before {
            self.forget_hash(before.hash)?;
        }
        let (text, holder) = (after.hash.to_string(), (tenant.clone(), Box::<str>::from(id)));
        let by_hash = Name::new(Kind::KeyHash, "", &text);
        catalog::put(self.connection, &mut self.meta, by_hash, &holder)?;
        catalog::put(self.connection, &mut self.meta, name, &after)?;
        Ok(Ok(()))
    }

    fn forget_hash(&mut self, hash: Digest) -> Result<(), Stop> {
        let text = hash.to_string();
        let name = Name::new(Kind::KeyHash, "", &text);
        catalog::remove(self.connection, &mut self.meta, name)?;
        Ok(())
    }

    fn document_set(
        &mut self,
        name: Name<'_>,
        document: Option<&Json>,
        next: Option<Timestamp>,
    ) -> Fenced<()> {
        match document {
            None => catalog::remove(self.connection, &mut self.meta, name)?,
            Some(document) => {
                let row = DocumentRow { name: name.name.into(), document: document.clone(), next };
                catalog::put(self.connection, &mut self.meta, name, &row)?;
            }
        }
        Ok(Ok(()))
    }

    fn member_set(&mut self, node: NodeId, document: Option<&Json>) -> Fenced<()> {
        let text = node.to_string();
        self.document_set(Name::new(Kind::Member, "", &text), document, None)
    }

    fn schedule_set(
        &mut self,
        tenant: &TenantId,
        name: &str,
        document: Option<&Json>,
        next: Option<Timestamp>,
    ) -> Fenced<()> {
        let row = Name::new(Kind::Schedule, tenant.as_str(), name);
        let before: Option<DocumentRow> = catalog::get(self.connection, row)?;
        let before = before.and_then(|schedule| schedule.next);
        let next = document.and(next);
        if let Err(fence) = self.move_schedule(tenant, name, before, next)? {
            return Ok(Err(fence));
        }
        self.document_set(row, document, next)
    }

    fn schedule_fired(
        &mut self,
        tenant: &TenantId,
        name: &str,
        due: Timestamp,
        next: Option<Timestamp>,
    ) -> Fenced<()> {
        let row = Name::new(Kind::Schedule, tenant.as_str(), name);
        let before: Option<DocumentRow> = catalog::get(self.connection, row)?;
        let Some(before) = before else {
            return Ok(Err(Fence::Unknown { what: "schedule" }));
        };
        if before.next != Some(due) {
            return Ok(Err(Fence::DueMissing { at: due }));
        }
        if let Err(fence) = self.move_schedule(tenant, name, Some(due), next)? {
            return Ok(Err(fence));
        }
        self.document_set(row, Some(&before.document), next)
    }

    fn move_schedule(
        &mut self,
        tenant: &TenantId,
        name: &str,
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    ) -> Fenced<()> {
        let mut plan = due::Plan::default();
        if let Some(at) = before
            && let Err(missing) = plan.disarm(self.connection, Slot::schedule(at, tenant, name))?
        {
            return self.due_missing(&missing).map(Err);
        }
        if let Some(at) = after {
            plan.arm(self.connection, Slot::schedule(at, tenant, name))?;
        }
        plan.write(self.connection, &mut self.meta)?;
        Ok(Ok(()))
    }
}
