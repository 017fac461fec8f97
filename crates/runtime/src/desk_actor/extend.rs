//! A heartbeat: a lease lives longer, or its worker hears that it should stop.
//!
//! A lease that is over stays over: tokens only rise. So "no" needs no entry, only rows that are certainly not old: before a
//! desk says no, it lets a majority confirm that it still leads.
//!
//! Invariant: a lease never gets shorter by being extended.

use serde::Serialize;
use statehouse_chart::Snapshot;
use statehouse_contract::{Command, Consistency, Json, RejectionCode, Target, TaskId, Timestamp};
use statehouse_store::{
    Body, Entry, TaskRow, TaskState,
    entry::{LeaseExtended, TaskKey, TaskRef},
};

use super::{claim, failed, nothing, rejected};
use crate::{
    message::{Ask, Reply},
    order::Ordered,
    reading::RowsError,
    reign::{Proposed, Reign},
    reject,
};

/// How often an extension is tried again because the row had moved on.
const FENCED_MAX: u32 = 4;

/// What the rows say of a lease.
enum Lease {
    /// It is alive.
    Held { row: Box<TaskRow>, bucket_epoch: u32, until: Timestamp, is_cancelled: bool },
    /// It is over, or there is no such task.
    Over { is_known: bool },
}

#[derive(Serialize)]
struct ExtendedBody {
    lease_until: String,
    cancelled: bool,
}

/// Extends a lease and answers its worker.
pub(super) async fn extend(reign: &Reign, ask: &Ask) -> Reply {
    let Command::ExtendLease { task, token, lease_ms } = &ask.envelope.command else {
        return rejected(RejectionCode::InvalidRequest, "this is no heartbeat");
    };
    let Target::Instance(instance) = &ask.envelope.target else {
        return rejected(RejectionCode::InvalidRequest, "a heartbeat names its task's instance");
    };
    let key = claim::instance_of(&instance.tenant, task);
    for _ in 0..FENCED_MAX {
        let found = match look(reign, &key, task, *token) {
            Ok(Lease::Over { .. }) => match confirmed(reign, &key, task, *token).await {
                Ok(found) => found,
                Err(answer) => return *answer,
            },
            Ok(found) => found,
            Err(why) => return failed(&why),
        };
        let (row, bucket_epoch, until, is_cancelled) = match found {
            Lease::Held { row, bucket_epoch, until, is_cancelled } => {
                (row, bucket_epoch, until, is_cancelled)
            }
            Lease::Over { is_known: true } => return stale(task, *token),
            Lease::Over { is_known: false } => {
                let detail = format!("there is no task {task}");
                return rejected(RejectionCode::UnknownTask, detail);
            }
        };
        if is_cancelled {
            return nothing(reign, &ask.envelope, &body(until, true));
        }
        let at = reign.decide_at(Timestamp(0));
        let ms = match Ordered::decode(&row.order) {
            Ok(ordered) => claim::lease_ms(&ordered.order, *lease_ms),
            Err(why) => return failed(&why),
        };
        let until = until.max(at.after_ms(i64::try_from(ms).unwrap_or(i64::MAX)));
        let extended = LeaseExtended {
            task: TaskRef {
                instance: key.clone(),
                bucket_epoch,
                born: row.born,
                task: row.task,
                token: row.token,
            },
            until,
            asked: None,
        };
        let entry = Entry {
            header: claim::header(reign, &ask.envelope, at),
            body: Body::LeaseExtended(Box::new(extended)),
        };
        let before = ask.mark_proposed();
        match reign.propose(entry).await {
            Proposed::Applied(_) => return nothing(reign, &ask.envelope, &body(until, false)),
            Proposed::Fenced => ask.not_proposed(before),
            Proposed::Refused(no) => {
                ask.not_proposed(before);
                return Reply::Rejected(no);
            }
            Proposed::Known(_) | Proposed::KeyReused | Proposed::Unknown => {
                return Reply::Rejected(Box::new(reject::unknown()));
            }
        }
    }
    Reply::Rejected(Box::new(reject::not_proposed_here()))
}

/// Looks once more, at rows for which a majority vouches.
async fn confirmed(
    reign: &Reign,
    key: &statehouse_contract::InstanceKey,
    task: &TaskId,
    token: u64,
) -> Result<Lease, Box<Reply>> {
    let began = reign.seat().log().begin_read(Consistency::Linearizable).await;
    began.map_err(|why| Box::new(Reply::Rejected(Box::new(reject::from_read(&why)))))?;
    look(reign, key, task, token).map_err(|why| Box::new(failed(&why)))
}

fn look(
    reign: &Reign,
    key: &statehouse_contract::InstanceKey,
    task: &TaskId,
    token: u64,
) -> Result<Lease, RowsError> {
    let view = reign.seat().log().view();
    let Some(instance) = view.instance(key)? else { return Ok(Lease::Over { is_known: false }) };
    let name = TaskKey { version: task.version, n: task.n };
    let Some(row) = view.task(instance.version.born, name)? else {
        return Ok(Lease::Over { is_known: task.version <= instance.version.version });
    };
    let TaskState::Leased { until, .. } = row.state else {
        return Ok(Lease::Over { is_known: true });
    };
    if row.token != token {
        return Ok(Lease::Over { is_known: true });
    }
    let snapshot = Snapshot::decode(&instance.snapshot)
        .map_err(|error| RowsError::Unreadable(format!("snapshot of {key}: {error}")))?;
    let is_cancelled =
        snapshot.releasing.iter().any(|work| work.version == name.version && work.number == name.n);
    let bucket_epoch = view.bucket(key.bucket())?.epoch;
    Ok(Lease::Held { row: Box::new(row), bucket_epoch, until, is_cancelled })
}

fn stale(task: &TaskId, token: u64) -> Reply {
    let detail = format!(
        "the lease with token {token} of task {task} is over: stop working on it, its result will not be taken"
    );
    rejected(RejectionCode::StaleLease, detail)
}

fn body(until: Timestamp, cancelled: bool) -> Json {
    let body = ExtendedBody { lease_until: until.to_rfc3339(), cancelled };
    let text = serde_json::to_string(&body).expect("texts and flags always serialize");
    Json::from_trusted(text)
}
