//! The bodies of answers: small JSON objects, written once and stored.
//!
//! The position is missing here; the log knows it and `contract::StoredReceipt::at` puts it in at the end.
//!
//! Absent on purpose: rejections; `contract::Rejection::render` writes those.

use serde::Serialize;
use statehouse_chart::{Outcome, Value};
use statehouse_contract::{InstanceKey, Json};
use statehouse_store::entry::{AttemptNext, Pin};

/// A timer that was armed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Armed {
    /// Its id.
    pub(super) id: String,
    /// When it is due (RFC 3339).
    pub(super) due: String,
}

/// What a transition did, as its answer tells it.
#[derive(Clone, Debug)]
pub(super) struct Moved<'a> {
    pub(super) key: &'a InstanceKey,
    pub(super) version: u64,
    pub(super) from: Vec<Box<str>>,
    pub(super) to: Vec<Box<str>>,
    pub(super) status: &'static str,
    pub(super) tasks: Vec<String>,
    pub(super) timers: Vec<Armed>,
}

#[derive(Serialize)]
struct MovedBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    version: u64,
    from: &'a [Box<str>],
    to: &'a [Box<str>],
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Json>,
    tasks: &'a [String],
    timers: &'a [Armed],
}

impl Moved<'_> {
    /// The body of a command's or verb's answer.
    pub(super) fn body(&self, reply: Option<&Value>) -> Json {
        self.write(None, reply)
    }

    /// The body of a start's answer: it says too which instance and what it runs.
    pub(super) fn start_body(&self, pin: &Pin, reply: Option<&Value>) -> Json {
        self.write(Some(pin), reply)
    }

    fn write(&self, pin: Option<&Pin>, reply: Option<&Value>) -> Json {
        text(&MovedBody {
            id: pin.map(|_| self.key.instance.as_str()),
            definition: pin.map(|pin| pin.name.as_str()),
            definition_version: pin.map(|pin| pin.version),
            digest: pin.map(|pin| pin.digest.to_string()),
            version: self.version,
            from: &self.from,
            to: &self.to,
            status: self.status,
            reply: reply.map(super::transition::json),
            tasks: &self.tasks,
            timers: &self.timers,
        })
    }
}

#[derive(Serialize)]
struct PostponedBody<'a> {
    postponed: bool,
    ticket: &'a str,
    version: u64,
}

/// The body of a command that waits for a later state.
pub(super) fn postponed(ticket: &str, version: u64) -> Json {
    text(&PostponedBody { postponed: true, ticket, version })
}

#[derive(Serialize)]
struct SignalBody {
    outcome: &'static str,
    version: u64,
}

/// The body of a signal's answer.
pub(super) fn signal(outcome: Outcome, version: u64) -> Json {
    let outcome = match outcome {
        Outcome::Accepted | Outcome::Settled | Outcome::Parked => "applied",
        Outcome::Postponed => "postponed",
        Outcome::Ignored => "ignored",
        Outcome::Dropped => "dropped",
        // A signal that makes the instance faulted is kept until an operator has decided.
        Outcome::Held | Outcome::Faulted => "held",
    };
    text(&SignalBody { outcome, version })
}

#[derive(Serialize)]
struct EndedBody<'a> {
    outcome: &'static str,
    task: &'a str,
    version: u64,
}

/// The body of a report that has moved the instance.
pub(super) fn ended(task: &str, outcome: &'static str, version: u64) -> Json {
    text(&EndedBody { outcome, task, version })
}

#[derive(Serialize)]
struct AttemptBody<'a> {
    outcome: &'static str,
    task: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
}

/// The body of a reported failure that does not move the instance.
pub(super) fn attempt(task: &str, next: AttemptNext) -> Json {
    text(&match next {
        AttemptNext::At(at) => {
            AttemptBody { outcome: "retry", task, retry_at: Some(at.to_rfc3339()) }
        }
        AttemptNext::Parked => AttemptBody { outcome: "parked", task, retry_at: None },
    })
}

fn text<T: Serialize>(body: &T) -> Json {
    let text = serde_json::to_string(body).expect("numbers, texts and JSON always serialize");
    Json::from_trusted(text)
}
