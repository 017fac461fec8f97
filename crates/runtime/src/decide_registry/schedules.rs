//! What the log shall say about schedules, and about the progress of schedules and batches.
//!
//! A schedule's actor and its owner may write at the same time. The owner's word stands: progress is written only onto the
//! document from which it was worked out.

use serde::Serialize;
use statehouse_contract::{
    Digest, Json, ReceiptKind, Rejection, RejectionCode, Timestamp,
    limits::{SCHEDULE_NAME_BYTES_MAX, SCHEDULE_PENDING_MAX, SCHEDULES_MAX},
};
use statehouse_store::entry::{Body, Entry};

use super::{Judge, Rows, misdirected, text};
use crate::schedule::{Schedule, Spec, State};

#[derive(Serialize)]
struct ScheduleBody<'a> {
    name: &'a str,
    next: Option<String>,
    pending: usize,
}

/// Returns the rejection of a name that is none.
pub(super) fn named(name: &str) -> Result<(), Rejection> {
    let fits = (1..=SCHEDULE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits {
        return Ok(());
    }
    Err(misdirected(&format!(
        "name {name:?}: 1 to {SCHEDULE_NAME_BYTES_MAX} of A-Z, a-z, 0-9, . _ and -"
    )))
}

pub(super) fn put(
    judge: Judge<'_>,
    name: &str,
    document: &Json,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    named(name)?;
    let spec = Spec::read(document.as_str()).map_err(|why| misdirected(&why))?;
    let before = rows.document.as_ref().and_then(|found| Schedule::read(found.as_str()));
    if rows.document.is_none() && rows.documents >= SCHEDULES_MAX {
        let detail = format!("the tenant has schedules_max, {SCHEDULES_MAX}; remove one first");
        return Ok(judge.refuse(RejectionCode::LimitExceeded, detail, "put-schedule"));
    }
    let kind = match rows.document {
        Some(_) => ReceiptKind::Accepted,
        None => ReceiptKind::Created,
    };
    let actor = &judge.envelope.actor;
    let state = State {
        by: actor.name.to_string(),
        roles: actor.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        ..before.map(|schedule| schedule.state).unwrap_or_default()
    };
    Ok(set(judge, name, &Schedule { spec, state }, kind))
}

pub(super) fn pause(
    judge: Judge<'_>,
    name: &str,
    paused: bool,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    let Some(mut schedule) = known(rows) else { return Ok(unknown(judge, name)) };
    schedule.spec.paused = paused;
    Ok(set(judge, name, &schedule, ReceiptKind::Accepted))
}

pub(super) fn backfill(
    judge: Judge<'_>,
    name: &str,
    (from, until): (Timestamp, Timestamp),
    rows: &Rows,
) -> Result<Entry, Rejection> {
    let Some(mut schedule) = known(rows) else { return Ok(unknown(judge, name)) };
    if from >= until {
        return Err(misdirected("from is not before until"));
    }
    let just_before = Timestamp(from.0 - 1);
    let times = schedule.spec.upcoming(just_before, SCHEDULE_PENDING_MAX + 1);
    let times: Vec<i64> = times.into_iter().map(|at| at.0).filter(|at| *at < until.0).collect();
    if times.len() + schedule.state.pending.len() > SCHEDULE_PENDING_MAX {
        let detail = format!(
            "that would be more than schedule_pending_max, {SCHEDULE_PENDING_MAX} starts; take a shorter time"
        );
        return Ok(judge.refuse(RejectionCode::LimitExceeded, detail, "backfill-schedule"));
    }
    schedule.state.pending.extend(times);
    Ok(set(judge, name, &schedule, ReceiptKind::Accepted))
}

pub(super) fn remove(judge: Judge<'_>, name: &str, rows: &Rows) -> Result<Entry, Rejection> {
    if rows.document.is_none() {
        return Ok(unknown(judge, name));
    }
    let body = text(&ScheduleBody { name, next: None, pending: 0 });
    let asked = judge.asked(ReceiptKind::Accepted, body);
    Ok(entry(judge, name, None, None, asked))
}

pub(super) fn advance(
    judge: Judge<'_>,
    name: &str,
    was: Digest,
    (document, next): (&Json, Option<Timestamp>),
    rows: &Rows,
) -> Result<Entry, Rejection> {
    let found = rows.document.as_ref().map(|found| Digest::of(found.as_str().as_bytes()));
    if found != Some(was) {
        return Err(misdirected("the document has changed since; nothing was written"));
    }
    let asked = judge.asked(ReceiptKind::Accepted, Json::empty_object());
    Ok(entry(judge, name, Some(document), next, asked))
}

fn known(rows: &Rows) -> Option<Schedule> {
    Schedule::read(rows.document.as_ref()?.as_str())
}

fn unknown(judge: Judge<'_>, name: &str) -> Entry {
    judge.refuse(RejectionCode::InvalidRequest, format!("there is no schedule {name}"), "schedule")
}

fn set(judge: Judge<'_>, name: &str, schedule: &Schedule, kind: ReceiptKind) -> Entry {
    let next = schedule.spec.next_after(judge.circumstances.at);
    let body = text(&ScheduleBody {
        name,
        next: next.map(Timestamp::to_rfc3339),
        pending: schedule.state.pending.len(),
    });
    let asked = judge.asked(kind, body);
    entry(judge, name, Some(&text(schedule)), next, asked)
}

fn entry(
    judge: Judge<'_>,
    name: &str,
    document: Option<&Json>,
    next: Option<Timestamp>,
    asked: Option<statehouse_store::entry::Asked>,
) -> Entry {
    let tenant = judge.envelope.target.tenant().cloned().expect("judged before");
    judge.entry(Body::ScheduleSet {
        tenant,
        name: name.into(),
        document: document.cloned(),
        next,
        asked,
    })
}
