//! What of an entry stays in history: everything that somebody may ask for later, without the heavy parts.
//!
//! Left out are snapshots (the instance row has the last one), documents (the catalog has them), task orders and outbox
//! commands (their tables have them while they are open). What is left is small and is enough for history pages, watches,
//! receipts, audit and the dump of the history format.

use statehouse_contract::{
    Json,
    mutant::{self, Mutant},
};

use crate::entry::{Asked, Body, DefinitionAdded, Entry, OutboxChange, TaskChange, Transitioned};

/// Returns the entry as history keeps it.
pub(crate) fn lean(entry: &Entry) -> Entry {
    let mut header = entry.header.clone();
    // A deliberate bug: what was done is kept, and not by whom and why.
    if mutant::is(Mutant::AuditDropped) {
        (header.actor.name, header.reason) = (Box::default(), None);
    }
    Entry { header, body: lean_body(&entry.body) }
}

fn lean_body(body: &Body) -> Body {
    match body {
        Body::Transitioned(t) => Body::Transitioned(Box::new(lean_transition(t))),
        Body::DefinitionAdded(added) => Body::DefinitionAdded(Box::new(DefinitionAdded {
            tenant: added.tenant.clone(),
            name: added.name.clone(),
            version: added.version,
            digest: added.digest,
            document: Json::null(),
            authority: added.authority,
            asked: added.asked.clone(),
        })),
        Body::TermOpened { .. }
        | Body::Refused(_)
        | Body::TaskLeased(_)
        | Body::LeaseExtended(_)
        | Body::AttemptEnded(_)
        | Body::OutboxDone(_)
        | Body::CurrentSet { .. }
        | Body::TenantSet { .. }
        | Body::KeySet { .. }
        | Body::QuotaSet { .. }
        | Body::ScheduleSet { .. }
        | Body::ScheduleFired { .. }
        | Body::BatchSet { .. }
        | Body::MemberSet { .. }
        | Body::BucketFrozen { .. }
        | Body::BucketMoved { .. }
        | Body::FeatureRaised { .. }
        | Body::DigestAt
        | Body::Swept(_) => body.clone(),
    }
}

fn lean_transition(t: &Transitioned) -> Transitioned {
    Transitioned {
        instance: t.instance.clone(),
        bucket_epoch: t.bucket_epoch,
        definition: t.definition.clone(),
        expect: t.expect,
        version: t.version,
        key: t.key.clone(),
        expected: t.expected,
        cause: t.cause.clone(),
        status: t.status,
        from: t.from.clone(),
        to: t.to.clone(),
        tags: t.tags.clone(),
        snapshot: Box::default(),
        parent: t.parent.clone(),
        due: t.due.clone(),
        tasks: t.tasks.iter().map(lean_task).collect(),
        outbox: t.outbox.iter().filter(|change| is_removal(change)).cloned().collect(),
        emitted: t.emitted.clone(),
        receipt: t.receipt.clone(),
        settled: t.settled.clone(),
        receipt_keep_ms: t.receipt_keep_ms,
    }
}

fn lean_task(change: &TaskChange) -> TaskChange {
    match change {
        TaskChange::Schedule { task, queue, order: _, ready_at } => TaskChange::Schedule {
            task: *task,
            queue: queue.clone(),
            order: Box::default(),
            ready_at: *ready_at,
        },
        TaskChange::Close { .. } | TaskChange::Cancel { .. } | TaskChange::Unpark { .. } => {
            change.clone()
        }
    }
}

const fn is_removal(change: &OutboxChange) -> bool {
    match change {
        OutboxChange::Add { .. } => false,
        OutboxChange::Remove { .. } => true,
    }
}

impl Body {
    /// Returns the client's command that this entry answers, where it belongs to no instance.
    #[must_use]
    pub const fn asked(&self) -> Option<&Asked> {
        match self {
            Self::TaskLeased(leased) => leased.asked.as_ref(),
            Self::LeaseExtended(extended) => extended.asked.as_ref(),
            Self::AttemptEnded(ended) => ended.asked.as_ref(),
            Self::DefinitionAdded(added) => added.asked.as_ref(),
            Self::CurrentSet { asked, .. }
            | Self::TenantSet { asked, .. }
            | Self::KeySet { asked, .. }
            | Self::QuotaSet { asked, .. }
            | Self::ScheduleSet { asked, .. }
            | Self::BatchSet { asked, .. }
            | Self::MemberSet { asked, .. }
            | Self::FeatureRaised { asked, .. } => asked.as_ref(),
            Self::TermOpened { .. }
            | Self::Transitioned(_)
            | Self::Refused(_)
            | Self::OutboxDone(_)
            | Self::ScheduleFired { .. }
            | Self::BucketFrozen { .. }
            | Self::BucketMoved { .. }
            | Self::DigestAt
            | Self::Swept(_) => None,
        }
    }

    /// Returns the word for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TermOpened { .. } => "term_opened",
            Self::Transitioned(_) => "transitioned",
            Self::Refused(_) => "refused",
            Self::TaskLeased(_) => "task_leased",
            Self::LeaseExtended(_) => "lease_extended",
            Self::AttemptEnded(_) => "attempt_ended",
            Self::OutboxDone(_) => "outbox_done",
            Self::DefinitionAdded(_) => "definition_added",
            Self::CurrentSet { .. } => "current_set",
            Self::TenantSet { .. } => "tenant_set",
            Self::KeySet { .. } => "key_set",
            Self::QuotaSet { .. } => "quota_set",
            Self::ScheduleSet { .. } => "schedule_set",
            Self::ScheduleFired { .. } => "schedule_fired",
            Self::BatchSet { .. } => "batch_set",
            Self::MemberSet { .. } => "member_set",
            Self::BucketFrozen { .. } => "bucket_frozen",
            Self::BucketMoved { .. } => "bucket_moved",
            Self::FeatureRaised { .. } => "feature_raised",
            Self::DigestAt => "digest_at",
            Self::Swept(_) => "swept",
        }
    }
}
