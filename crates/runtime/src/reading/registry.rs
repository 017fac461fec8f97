//! Reading applied rows for the registry: what a command is judged by that belongs to no instance.
//!
//! These commands are rare and each reads what it needs, in one transaction. What every node keeps in memory of these rows,
//! quotas and members, is taken over from here too.
//!
//! Absent on purpose: judging; that is `decide_registry.rs`.

use statehouse_contract::{
    Command, CommandEnvelope, KeyHash, MemberDocument, Members, NodeId, Receipt, Target,
};
use statehouse_store::View;

use super::RowsError;
use crate::{
    decide_registry::{self, KnownVersion},
    reign::Reign,
    seat::Seat,
};

impl Reign {
    /// Reads the receipt under a key of a tenant, a shard or the cluster.
    ///
    /// # Errors
    /// As every reading.
    pub fn registry_receipt(
        &self,
        target: &Target,
        hash: KeyHash,
    ) -> Result<Option<Receipt>, RowsError> {
        Ok(self.view().receipt(target, hash)?)
    }

    /// Reads the rows that matter for a command that belongs to no instance, and gathers what else it is judged by.
    ///
    /// # Errors
    /// As every reading.
    pub fn registry_rows(
        &self,
        envelope: &CommandEnvelope,
    ) -> Result<decide_registry::Rows, RowsError> {
        let view = self.view();
        let mut rows = decide_registry::Rows::default();
        if let Command::PutMember { .. } | Command::RemoveMember { .. } = &envelope.command {
            rows.members = members_in(&view)?;
            rows.voters = self.seat().voters();
            return Ok(rows);
        }
        if let Command::RaiseFeature { .. } = &envelope.command {
            rows.level = view.meta()?.level;
            rows.builds = self.seat().builds();
            return Ok(rows);
        }
        let tenant = match (&envelope.command, &envelope.target) {
            (Command::PutTenant { tenant }, _) => tenant,
            (_, target) => match target.tenant() {
                Some(tenant) => tenant,
                None => return Ok(rows),
            },
        };
        rows.tenant_exists = view.tenant(tenant)?.is_some();
        if let Command::Deploy { name, .. } | Command::SetCurrent { name, .. } = &envelope.command {
            let all = view.definitions(tenant)?;
            let own = all.into_iter().filter(|row| row.name == *name);
            rows.versions =
                own.map(|row| KnownVersion { version: row.version, digest: row.digest }).collect();
        }
        match &envelope.command {
            Command::PutSchedule { name, .. }
            | Command::RemoveSchedule { name }
            | Command::PauseSchedule { name, .. }
            | Command::BackfillSchedule { name, .. }
            | Command::AdvanceSchedule { name, .. } => {
                let all = view.schedules(tenant)?;
                rows.documents = all.len();
                rows.document =
                    all.into_iter().find(|row| row.name == *name).map(|row| row.document);
            }
            Command::PutBatch { name, .. }
            | Command::StopBatch { name }
            | Command::RemoveBatch { name }
            | Command::AdvanceBatch { name, .. } => {
                let all = view.batches(tenant)?;
                rows.documents = all.len();
                rows.document =
                    all.into_iter().find(|row| row.name == *name).map(|row| row.document);
            }
            _ => {}
        }
        if let Command::PutKey { id, .. } | Command::RevokeKey { id } = &envelope.command {
            rows.key_exists = view.api_keys(tenant)?.iter().any(|key| key.id == *id);
        }
        Ok(rows)
    }

    /// Takes every tenant's quota over from the rows of shard 0.
    pub fn refresh_quotas(&self) {
        self.seat().refresh_quotas();
    }
}

impl Seat {
    /// Takes every tenant's quota over from this node's rows of shard 0.
    pub fn refresh_quotas(&self) {
        let view = self.registry().view();
        let Ok(tenants) = view.tenants() else { return };
        for row in tenants {
            if let Ok(Some(quota)) = view.quota(&row.tenant) {
                self.ground().quotas.set(&row.tenant, &quota);
            }
        }
    }
}

/// Reads the members of the cluster from the rows of shard 0.
///
/// # Errors
/// As every reading.
pub fn members_in(view: &View) -> Result<Members, RowsError> {
    let bad = |name: &str, why: String| RowsError::Unreadable(format!("member {name}: {why}"));
    let rows = view.members()?.into_iter().map(|row| {
        let node = row.name.parse::<NodeId>().map_err(|error| bad(&row.name, error.to_string()))?;
        let document = MemberDocument::parse(&row.document);
        Ok((node, document.map_err(|error| bad(&row.name, error.to_string()))?))
    });
    rows.collect::<Result<_, _>>().map(Members)
}
