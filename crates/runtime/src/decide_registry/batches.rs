//! What the log shall say about batches, and about their progress.
//!
//! A batch's actor and its operator may write at the same time. The operator's word stands: progress is written only onto
//! the document from which it was worked out.

use serde::Serialize;
use statehouse_contract::{
    Digest, Json, ReceiptKind, Rejection, RejectionCode, limits::BATCHES_MAX,
};
use statehouse_store::entry::{Asked, Body, Entry};

use super::{Judge, Rows, misdirected, schedules::named, text};
use crate::batch::{Batch, Phase, Spec, State};

#[derive(Serialize)]
struct BatchBody<'a> {
    name: &'a str,
    phase: Phase,
}

pub(super) fn put(
    judge: Judge<'_>,
    name: &str,
    document: &Json,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    named(name)?;
    let spec = Spec::read(document.as_str()).map_err(|why| misdirected(&why))?;
    if rows.document.is_some() {
        let detail = format!("there is a batch {name} already; take another name, or remove it");
        return Ok(judge.refuse(RejectionCode::AlreadyExists, detail, "put-batch"));
    }
    if rows.documents >= BATCHES_MAX {
        let detail = format!("the tenant has batches_max, {BATCHES_MAX}; remove one first");
        return Ok(judge.refuse(RejectionCode::LimitExceeded, detail, "put-batch"));
    }
    let actor = &judge.envelope.actor;
    let state = State {
        by: actor.name.to_string(),
        roles: actor.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        began: judge.circumstances.at.0,
        ..State::default()
    };
    Ok(set(judge, name, &Batch { spec, state }, ReceiptKind::Created))
}

pub(super) fn stop(judge: Judge<'_>, name: &str, rows: &Rows) -> Result<Entry, Rejection> {
    let Some(mut batch) = known(rows) else { return Ok(unknown(judge, name)) };
    batch.stop(&judge.envelope.actor.name, judge.circumstances.at);
    Ok(set(judge, name, &batch, ReceiptKind::Accepted))
}

pub(super) fn remove(judge: Judge<'_>, name: &str, rows: &Rows) -> Result<Entry, Rejection> {
    let Some(batch) = known(rows) else { return Ok(unknown(judge, name)) };
    if batch.is_running() {
        let detail = format!("batch {name} is running; stop it first");
        return Ok(judge.refuse(RejectionCode::NotHandled, detail, "remove-batch"));
    }
    let asked = judge.asked(ReceiptKind::Accepted, body(name, &batch));
    Ok(entry(judge, name, None, asked))
}

pub(super) fn advance(
    judge: Judge<'_>,
    name: &str,
    was: Digest,
    document: &Json,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    let found = rows.document.as_ref().map(|found| Digest::of(found.as_str().as_bytes()));
    if found != Some(was) {
        return Err(misdirected("the document has changed since; nothing was written"));
    }
    let asked = judge.asked(ReceiptKind::Accepted, Json::empty_object());
    Ok(entry(judge, name, Some(document), asked))
}

fn known(rows: &Rows) -> Option<Batch> {
    Batch::read(rows.document.as_ref()?.as_str())
}

fn unknown(judge: Judge<'_>, name: &str) -> Entry {
    judge.refuse(RejectionCode::InvalidRequest, format!("there is no batch {name}"), "batch")
}

fn body(name: &str, batch: &Batch) -> Json {
    text(&BatchBody { name, phase: batch.state.phase })
}

fn set(judge: Judge<'_>, name: &str, batch: &Batch, kind: ReceiptKind) -> Entry {
    let asked = judge.asked(kind, body(name, batch));
    entry(judge, name, Some(&text(batch)), asked)
}

fn entry(judge: Judge<'_>, name: &str, document: Option<&Json>, asked: Option<Asked>) -> Entry {
    let tenant = judge.envelope.target.tenant().cloned().expect("judged before");
    judge.entry(Body::BatchSet { tenant, name: name.into(), document: document.cloned(), asked })
}
