//! Performing one step of a case: time first, then at most one event, then the queue.
//!
//! Deliberately absent: judging (`judge.rs`).

use serde_json::Value as Json;

use super::{Play, Told, known};
use crate::{
    refusal::{Refusal, RefusalKind},
    snapshot::{Work, WorkKind},
    trigger::{Call, Trigger, WorkError, WorkKey},
    value::Value,
};

/// What a step can do; at most one of the words after `advance`.
const ACTS: [&str; 7] = ["event", "command", "complete", "fail", "operator", "lease", "release"];
const WORDS: [&str; 26] = [
    "advance",
    "event",
    "command",
    "complete",
    "fail",
    "operator",
    "lease",
    "release",
    "data",
    "actor",
    "key",
    "deadline",
    "output",
    "error",
    "item",
    "nextConfiguration",
    "outcome",
    "code",
    "message",
    "reply",
    "versions",
    "tickets",
    "deferred",
    "tasks",
    "emitted",
    "context",
];
const MORE_WORDS: [&str; 4] = ["status", "finalOutput", "comment", "saga"];

/// Returns what a person calls this step.
pub(super) fn title(said: &Json) -> String {
    let act = ACTS.iter().find_map(|word| Some(format!("({word} {})", said.get(word)?)));
    act.unwrap_or_else(|| format!("(advance {})", said.get("advance").unwrap_or(&Json::Null)))
}

/// Performs a step.
pub(super) fn perform(play: &mut Play<'_>, said: &Json) -> Result<Told, String> {
    let words: Vec<&str> = WORDS.iter().chain(&MORE_WORDS).copied().collect();
    known("the step", said, &words)?;
    if ACTS.iter().filter(|word| said.get(word).is_some()).count() > 1 {
        return Err("a step has at most one event".to_owned());
    }
    play.emitted.clear();
    play.tickets.clear();
    let mut told = Told { version: play.snapshot.version, ..Told::default() };
    if let Some(ms) = said.get("advance") {
        play.advance(ms.as_i64().ok_or("`advance` is a number of milliseconds")?)?;
    }
    if let Some(trigger) = trigger(play, said)? {
        let answer = match trigger {
            Ok(trigger) => play.take(&trigger),
            // No such work is open.
            Err(NotOpen) => Err(Refusal { kind: RefusalKind::Stale, accepts: Vec::new() }),
        };
        told.hear(answer);
    }
    play.drain()?;
    Ok(told)
}

struct NotOpen;

fn trigger(play: &mut Play<'_>, said: &Json) -> Result<Option<Result<Trigger, NotOpen>>, String> {
    let text = |word: &str| said.get(word).and_then(Json::as_str);
    let call = |name: &str| Call {
        name: name.to_owned(),
        data: said.get("data").map_or_else(Value::empty, Value::from_json),
        actor: text("actor").unwrap_or_default().to_owned(),
    };
    if let Some(name) = text("event") {
        return Ok(Some(Ok(Trigger::Signal(call(name)))));
    }
    if let Some(name) = text("command") {
        play.commands += 1;
        let ticket = text("key").map_or_else(|| format!("~{}", play.commands), str::to_owned);
        let postpone_until =
            said.get("deadline").and_then(Json::as_i64).map(|ms| play.at.after_ms(ms));
        return Ok(Some(Ok(Trigger::Command { call: call(name), ticket, postpone_until })));
    }
    if let Some(verb) = text("operator") {
        let actor = text("actor").unwrap_or_default().to_owned();
        return Ok(Some(Ok(match verb {
            "retry" => Trigger::Retry,
            "skip" => Trigger::Skip,
            "pause" => Trigger::Pause,
            "resume" => Trigger::Resume,
            "cancel" => Trigger::Cancel { actor },
            "terminate" => Trigger::Terminate { actor },
            other => return Err(format!("there is no operator's verb `{other}`")),
        })));
    }
    Ok(work_trigger(play, said))
}

fn work_trigger(play: &Play<'_>, said: &Json) -> Option<Result<Trigger, NotOpen>> {
    let (verb, name) = ["complete", "fail", "lease", "release"]
        .into_iter()
        .find_map(|verb| Some((verb, said.get(verb)?.as_str()?)))?;
    if verb == "release" {
        let work = play.snapshot.releasing.first().copied();
        return Some(work.map(|work| Trigger::WorkReleased { work }).ok_or(NotOpen));
    }
    let Some(work) = find(play, name, said.get("item").and_then(Json::as_u64)) else {
        return Some(Err(NotOpen));
    };
    Some(Ok(match verb {
        "complete" => {
            let output = said.get("output").map_or(Value::Null, Value::from_json);
            Trigger::WorkDone { work, output }
        }
        "fail" => {
            let error = said.get("error");
            let text = |word: &str| {
                error.and_then(|error| error.get(word)?.as_str()).unwrap_or_default().to_owned()
            };
            let attempts = error.and_then(|error| error.get("attempts")?.as_u64()).unwrap_or(1);
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            Trigger::WorkFailed {
                work,
                error: WorkError { code: text("code"), message: text("message"), attempts },
            }
        }
        _ => Trigger::WorkStarted { work },
    }))
}

/// Returns the open task with this invoke id, or the running compensation with this `src`.
fn find(play: &Play<'_>, name: &str, item: Option<u64>) -> Option<WorkKey> {
    let is_it = |work: &&Work| match work.kind {
        WorkKind::Compensation => work.src == name,
        WorkKind::Task | WorkKind::Child => play.chart.invoke(work.invoke).id == name,
    };
    let is_item = |work: &&Work| item.is_none_or(|item| work.item.map(u64::from) == Some(item));
    play.snapshot
        .works
        .iter()
        .filter(|work| !work.is_closed)
        .filter(is_it)
        .find(is_item)
        .map(|work| work.key)
}
