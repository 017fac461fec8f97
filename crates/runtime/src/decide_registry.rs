//! What the log of shard 0 shall say about tenants, keys, quotas, definitions and members, and each shard's log about its
//! own feature level. Pure.
//!
//! The same as `decide.rs`, for commands that belong to no instance: in go the envelope and the few rows that matter, out
//! comes an entry with its receipt, or a rejection. The caller has looked the key up.
//!
//! Absent on purpose: validating a definition; the edge has done it, and apply judges "same version, other content" again.
//!
//! Invariants: a definition's versions only rise; a stored body never holds a secret.

use std::collections::BTreeMap;

use serde::Serialize;
use statehouse_contract::{
    Build, Command, CommandEnvelope, DefinitionName, Digest, InstanceKey, Json, Members, NodeId,
    Quota, ReceiptKind, Rejection, RejectionCode, RoleName, ShardId, StoredReceipt, Target,
    TenantId, Timestamp,
};
use statehouse_store::entry::{
    Asked, Authority, Body, Cause, CauseKind, DefinitionAdded, Entry, Header, KeyState, Refused,
};

use crate::{
    key_age,
    reject::{self, misdirected},
};

mod batches;
mod levels;
mod members;
mod schedules;

/// A version of a definition as the rows know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownVersion {
    /// Its number.
    pub version: u32,
    /// The fingerprint of its document.
    pub digest: Digest,
}

/// The rows that matter for a command.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Whether the tenant that the command is about exists.
    pub tenant_exists: bool,
    /// The versions of the definition that the command is about, rising.
    pub versions: Vec<KnownVersion>,
    /// The document of the schedule or batch that the command is about.
    pub document: Option<Json>,
    /// How many schedules, or batches, the tenant has.
    pub documents: usize,
    /// Whether the key that the command is about exists.
    pub key_exists: bool,
    /// Every member that there ever was, for a command about members.
    pub members: Members,
    /// The voters of shard 0 and whether each answers, for the same.
    pub voters: BTreeMap<NodeId, bool>,
    /// The feature level of the shard, for a command that raises it.
    pub level: u16,
    /// The newest level that the build of each member of the shard knows, for the same; nothing where that is not known.
    pub builds: BTreeMap<NodeId, Option<u16>>,
}

/// Under which circumstances it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The time of the decision.
    pub at: Timestamp,
    /// The term of this leader.
    pub term: u64,
    /// This node.
    pub node: NodeId,
    /// What this node's build knows.
    pub build: Build,
}

/// Decides a command that belongs to no instance.
///
/// # Errors
/// A rejection that is not written down: it depends on the request alone, or the tenant is unknown.
pub fn decide(
    envelope: &CommandEnvelope,
    rows: &Rows,
    circumstances: Circumstances,
) -> Result<Entry, Rejection> {
    let judge = Judge { envelope, circumstances };
    if let Some(no) = key_age::expired(&envelope.key, circumstances.at) {
        return Err(no);
    }
    let shard = match (&envelope.target, &envelope.command) {
        (Target::Shard(shard), Command::RaiseFeature { .. }) => *shard,
        (Target::Shard(_), _) => return Err(misdirected("a shard takes its feature level alone")),
        (_, Command::RaiseFeature { .. }) => {
            return Err(misdirected(
                "a feature level is raised in a shard's own log: name the shard",
            ));
        }
        (Target::Instance(_) | Target::Tenant(_) | Target::Cluster, _) => ShardId(0),
    };
    match &envelope.command {
        Command::PutTenant { tenant } => Ok(judge.put_tenant(tenant, rows)),
        Command::Deploy { name, version, digest, document } => {
            let tenant = judge.tenant(rows)?;
            Ok(judge.deploy(tenant, name, *version, *digest, document, rows))
        }
        Command::SetCurrent { name, version } => {
            Ok(judge.set_current(judge.tenant(rows)?, name, *version, rows))
        }
        Command::PutKey { id, hash, name, roles } => {
            let valid = KeyState::Valid { hash: *hash, name: name.clone(), roles: roles.clone() };
            Ok(judge.put_key(judge.tenant(rows)?, id, valid, (name, roles), rows))
        }
        Command::RevokeKey { id } => Ok(judge.revoke_key(judge.tenant(rows)?, id, rows)),
        Command::SetQuota(quota) => Ok(judge.set_quota(judge.tenant(rows)?, quota)),
        Command::PutSchedule { name, document } => {
            judge.tenant(rows)?;
            schedules::put(judge, name, document, rows)
        }
        Command::RemoveSchedule { name } => {
            judge.tenant(rows)?;
            schedules::remove(judge, name, rows)
        }
        Command::PauseSchedule { name, paused } => {
            judge.tenant(rows)?;
            schedules::pause(judge, name, *paused, rows)
        }
        Command::BackfillSchedule { name, from, until } => {
            judge.tenant(rows)?;
            schedules::backfill(judge, name, (*from, *until), rows)
        }
        Command::AdvanceSchedule { name, was, document, next } => {
            judge.tenant(rows)?;
            schedules::advance(judge, name, *was, (document, *next), rows)
        }
        Command::PutBatch { name, document } => {
            judge.tenant(rows)?;
            batches::put(judge, name, document, rows)
        }
        Command::StopBatch { name } => {
            judge.tenant(rows)?;
            batches::stop(judge, name, rows)
        }
        Command::RemoveBatch { name } => {
            judge.tenant(rows)?;
            batches::remove(judge, name, rows)
        }
        Command::AdvanceBatch { name, was, document } => {
            judge.tenant(rows)?;
            batches::advance(judge, name, *was, document, rows)
        }
        Command::PutMember { node, document, replace } => {
            members::put(judge, *node, document, *replace, rows)
        }
        Command::RemoveMember { node } => members::remove(judge, *node, rows),
        Command::MoveBucket { .. } => Err(reject::not_in_this_release("moving a bucket")),
        Command::RaiseFeature { level } => levels::raise(judge, shard, *level, rows),
        Command::LeaseTasks { .. } | Command::ExtendLease { .. } => {
            Err(misdirected("a lease is given by the desk of a shard"))
        }
        Command::Start { .. }
        | Command::Send { .. }
        | Command::Signal { .. }
        | Command::Operate(_)
        | Command::CompleteTask { .. }
        | Command::FailTask { .. }
        | Command::StartTask { .. }
        | Command::StartChild { .. }
        | Command::ChildEnded { .. }
        | Command::Adopt { .. }
        | Command::Fire { .. } => {
            Err(misdirected("this command is for an instance, not for a tenant"))
        }
    }
}

#[derive(Clone, Copy)]
struct Judge<'a> {
    envelope: &'a CommandEnvelope,
    circumstances: Circumstances,
}

#[derive(Serialize)]
struct DeployedBody<'a> {
    name: &'a str,
    version: u32,
    digest: String,
}

#[derive(Serialize)]
struct CurrentBody<'a> {
    name: &'a str,
    current: u32,
}

#[derive(Serialize)]
struct TenantBody<'a> {
    tenant: &'a str,
}

#[derive(Serialize)]
struct KeyBody<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [RoleName]>,
    revoked: bool,
}

impl<'a> Judge<'a> {
    /// Returns the tenant that the command is about, if it exists. An unknown one is not written down: its name may be
    /// anybody's guess.
    fn tenant(self, rows: &Rows) -> Result<&'a TenantId, Rejection> {
        let tenant = self.envelope.target.tenant().filter(|_| rows.tenant_exists);
        tenant.ok_or_else(|| {
            Rejection::gateway(RejectionCode::UnknownTenant, "there is no such tenant")
        })
    }

    fn put_tenant(self, tenant: &TenantId, rows: &Rows) -> Entry {
        if rows.tenant_exists {
            let detail = format!("there is a tenant {tenant} already");
            return self.refuse(RejectionCode::AlreadyExists, detail, "put-tenant");
        }
        let body = text(&TenantBody { tenant: tenant.as_str() });
        let asked = self.asked(ReceiptKind::Created, body);
        self.entry(Body::TenantSet { tenant: tenant.clone(), asked })
    }

    fn deploy(
        self,
        tenant: &TenantId,
        name: &DefinitionName,
        version: Option<u32>,
        digest: Digest,
        document: &Json,
        rows: &Rows,
    ) -> Entry {
        let body = |version| {
            text(&DeployedBody { name: name.as_str(), version, digest: digest.to_string() })
        };
        let latest = rows.versions.last();
        let same = match version {
            Some(version) => rows.versions.iter().find(|known| known.version == version),
            None => latest.filter(|known| known.digest == digest),
        };
        match (same, version) {
            (Some(known), _) if known.digest == digest => {
                return self.accept_nothing(body(known.version), "deploy");
            }
            (Some(known), _) => {
                let detail = format!(
                    "version {} of {name} exists with other content (digest {}); deploy it as version {}",
                    known.version,
                    known.digest,
                    latest.map_or(1, |latest| latest.version + 1)
                );
                return self.refuse(RejectionCode::AlreadyExists, detail, "deploy");
            }
            (None, Some(version)) if latest.is_some_and(|latest| version <= latest.version) => {
                let latest = latest.map_or(0, |latest| latest.version);
                let detail = format!(
                    "version {version} of {name} is not above the latest, which is {latest}"
                );
                return self.refuse(RejectionCode::AlreadyExists, detail, "deploy");
            }
            (None, _) => {}
        }
        let version = version.unwrap_or_else(|| latest.map_or(1, |latest| latest.version + 1));
        let asked = self.asked(ReceiptKind::Created, body(version));
        self.entry(Body::DefinitionAdded(Box::new(DefinitionAdded {
            tenant: tenant.clone(),
            name: name.clone(),
            version,
            digest,
            document: document.clone(),
            authority: Authority::Original,
            asked,
        })))
    }

    fn set_current(
        self,
        tenant: &TenantId,
        name: &DefinitionName,
        version: u32,
        rows: &Rows,
    ) -> Entry {
        if !rows.versions.iter().any(|known| known.version == version) {
            let detail = format!("there is no version {version} of {name}");
            return self.refuse(RejectionCode::UnknownDefinition, detail, "set-current");
        }
        let body = text(&CurrentBody { name: name.as_str(), current: version });
        let asked = self.asked(ReceiptKind::Accepted, body);
        let (tenant, name) = (tenant.clone(), name.clone());
        self.entry(Body::CurrentSet { tenant, name, version, asked })
    }

    fn put_key(
        self,
        tenant: &TenantId,
        id: &str,
        state: KeyState,
        (name, roles): (&str, &[RoleName]),
        rows: &Rows,
    ) -> Entry {
        if rows.key_exists {
            let detail = format!("there is a key {id} already");
            return self.refuse(RejectionCode::AlreadyExists, detail, "put-key");
        }
        let body = KeyBody { id, name: Some(name), roles: Some(roles), revoked: false };
        let asked = self.asked(ReceiptKind::Created, text(&body));
        self.entry(Body::KeySet { tenant: tenant.clone(), id: id.into(), state, asked })
    }

    fn revoke_key(self, tenant: &TenantId, id: &str, rows: &Rows) -> Entry {
        if !rows.key_exists {
            let detail = format!("there is no key {id}");
            return self.refuse(RejectionCode::InvalidRequest, detail, "revoke-key");
        }
        let body = text(&KeyBody { id, name: None, roles: None, revoked: true });
        let asked = self.asked(ReceiptKind::Accepted, body);
        let (tenant, id) = (tenant.clone(), id.into());
        self.entry(Body::KeySet { tenant, id, state: KeyState::Revoked, asked })
    }

    fn set_quota(self, tenant: &TenantId, quota: &Quota) -> Entry {
        let asked = self.asked(ReceiptKind::Accepted, text(quota));
        self.entry(Body::QuotaSet { tenant: tenant.clone(), quota: quota.clone(), asked })
    }

    /// A command that finds everything as it wants it: nothing changes, but its answer is written down.
    fn accept_nothing(self, body: Json, what: &str) -> Entry {
        self.answered(self.receipt(ReceiptKind::Accepted, body), what)
    }

    fn refuse(self, code: RejectionCode, detail: String, what: &str) -> Entry {
        let no = reject::by_instance(code, detail);
        let no = Rejection { source: statehouse_contract::ErrorSource::Gateway, ..no };
        let place = match &self.envelope.target {
            Target::Shard(shard) => format!("/v1/cluster/shards/{shard}"),
            Target::Cluster => "/v1/cluster".to_owned(),
            Target::Tenant(tenant) | Target::Instance(InstanceKey { tenant, .. }) => {
                format!("/v1/tenants/{tenant}")
            }
        };
        let body = no.render(&place, self.envelope.correlation.as_ref(), &self.envelope.trace);
        self.answered(self.receipt(ReceiptKind::Refused(code), body), what)
    }

    fn answered(self, receipt: StoredReceipt, what: &str) -> Entry {
        self.entry(Body::Refused(Box::new(Refused {
            target: self.envelope.target.clone(),
            bucket_epoch: 0,
            expect: None,
            definition: None,
            key: self.envelope.key.clone(),
            expected: None,
            cause: Cause { kind: CauseKind::Operator, event: what.into(), data: None },
            receipt,
            receipt_keep_ms: None,
        })))
    }

    fn receipt(self, kind: ReceiptKind, body: Json) -> StoredReceipt {
        StoredReceipt { kind, fingerprint: self.envelope.fingerprint, version: None, body }
    }

    fn asked(self, kind: ReceiptKind, body: Json) -> Option<Asked> {
        let (target, key) = (self.envelope.target.clone(), self.envelope.key.clone());
        Some(Asked { target, key, receipt: self.receipt(kind, body) })
    }

    fn entry(self, body: Body) -> Entry {
        let Circumstances { at, term, node, .. } = self.circumstances;
        Entry {
            header: Header {
                decided_term: term,
                decided_by: node,
                decided_at: at,
                actor: self.envelope.actor.clone(),
                reason: self.envelope.reason.clone(),
                trace: self.envelope.trace.clone(),
                correlation: self.envelope.correlation.clone(),
            },
            body,
        }
    }
}

fn text<T: Serialize>(body: &T) -> Json {
    let text = serde_json::to_string(body).expect("numbers and texts always serialize");
    Json::from_trusted(text)
}

#[cfg(test)]
mod tests;
