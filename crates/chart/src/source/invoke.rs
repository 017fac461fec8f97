//! Reading work: invokes, retries, compensations.
//!
//! Deliberately absent: whether a step needs a compensation, and whether a workflow exists.

use super::{
    Compensate, ForEach, Invoke, Retry, RetryUse, Src, Text, Undo,
    reader::{At, Reader},
};
use crate::finding::FindingCode;

const INVOKE: [&str; 13] = [
    "id",
    "src",
    "input",
    "timeout",
    "heartbeat",
    "retry",
    "queue",
    "compensate",
    "onDone",
    "onError",
    "forEach",
    "detached",
    "description",
];
const UNDO: [&str; 7] = ["src", "input", "from", "once", "timeout", "heartbeat", "retry"];
const RETRY: [&str; 5] =
    ["maxAttempts", "initialInterval", "backoff", "maxInterval", "nonRetryable"];

/// Kinds of work that the platform runs itself.
pub const BUILT_IN: [&str; 5] = ["http", "wait", "log", "echo", "emit"];

/// What the names of their queues begin with. No worker from outside serves these.
pub const BUILT_IN_QUEUE: &str = "builtin.";

const ATTEMPTS_MAX: u64 = 1_000;
const INITIAL_INTERVAL_MS: u64 = 1_000;
const MAX_INTERVAL_MS: u64 = 300_000;

impl Reader {
    pub(super) fn invoke(&mut self, at: &At<'_>) -> Option<Invoke> {
        let fields = self.fields(at, "`invoke`", &INVOKE)?;
        let id = fields.get("id").and_then(|id| self.text(&id, "`id`"));
        if let Some(id) = &id {
            self.name(&id.text, &id.spot, "the invoke's id");
        }
        let (src, src_said) = match fields.get("src") {
            Some(src) => self.src(&src),
            None => {
                self.missing(&at.spot, "`invoke`", "src");
                unknown_src(&at.spot)
            }
        };
        Some(Invoke {
            spot: at.spot.clone(),
            // An empty id is filled with that of the state.
            id: id.unwrap_or_else(|| Text { text: String::new(), spot: at.spot.clone() }),
            src,
            src_said,
            input: fields.get("input").map(|input| self.template(&input)),
            timeout: fields.get("timeout").map(|timeout| self.delay(&timeout, "`timeout`")),
            heartbeat: fields
                .get("heartbeat")
                .map(|heartbeat| self.delay(&heartbeat, "`heartbeat`")),
            retry: fields.get("retry").map(|retry| self.retry_use(&retry)),
            queue: fields.get("queue").and_then(|queue| self.text(&queue, "`queue`")),
            compensate: fields
                .get("compensate")
                .and_then(|compensate| self.compensate(&compensate)),
            on_done: fields.get("onDone").map(|done| self.transitions(&done)).unwrap_or_default(),
            on_error: fields.get("onError").map(|error| self.on_error(&error)),
            for_each: fields.get("forEach").and_then(|each| self.for_each(&each)),
            detached: fields
                .get("detached")
                .is_some_and(|detached| self.truth(&detached, "`detached`")),
        })
    }

    fn on_error(&mut self, at: &At<'_>) -> Vec<super::Transition> {
        if at.node.as_text() == Some("collect") {
            let message = "`onError: collect` is reserved for a later release";
            self.report(FindingCode::ReservedKeyword, &at.spot, message, "write a transition");
            return Vec::new();
        }
        self.transitions(at)
    }

    fn src(&mut self, at: &At<'_>) -> (Src, Text) {
        match self.text(at, "`src`") {
            Some(said) => (self.src_of(&said), said),
            None => unknown_src(&at.spot),
        }
    }

    fn src_of(&mut self, said: &Text) -> Src {
        let (scheme, rest) = said.text.split_once(':').unwrap_or((&said.text, ""));
        let trouble = match scheme {
            "task" if is_kind(rest) => return Src::Task(rest.to_owned()),
            "workflow" => {
                let (definition, version) =
                    rest.split_once('@').map_or((rest, None), |(id, number)| (id, Some(number)));
                let number =
                    version.map(|text| text.parse::<u64>().ok().filter(|number| *number > 0));
                match number {
                    _ if !is_kind(definition) => "after `workflow:` stands a definition's id",
                    Some(None) => "after `@` stands a version number",
                    None => {
                        return Src::Workflow { definition: definition.to_owned(), version: None };
                    }
                    Some(version) => {
                        return Src::Workflow { definition: definition.to_owned(), version };
                    }
                }
            }
            "saga" if rest == "compensate" => return Src::Saga,
            "saga" => "the saga has one verb: `saga:compensate`",
            "task" => "after `task:` stands a kind",
            "human" | "timer" => "this scheme is reserved for a later release",
            _ if BUILT_IN.contains(&scheme) => {
                return Src::BuiltIn { scheme: scheme.to_owned(), rest: rest.to_owned() };
            }
            _ => "the scheme is unknown",
        };
        let advice = "write `task:<kind>`, `workflow:<id>@<version>`, `saga:compensate`, or one of http, wait, log, echo, emit";
        self.report(
            FindingCode::BadSource,
            &said.spot,
            format!("`{}`: {trouble}", said.text),
            advice,
        );
        Src::Unknown(said.text.clone())
    }

    fn for_each(&mut self, at: &At<'_>) -> Option<ForEach> {
        let fields = self.fields(at, "`forEach`", &["items", "as", "limit"])?;
        let Some(items) = fields.get("items") else {
            self.missing(&at.spot, "`forEach`", "items");
            return None;
        };
        let name = fields.get("as").and_then(|name| self.text(&name, "`as`"));
        if let Some(name) = &name {
            self.name(&name.text, &name.spot, "the item's name");
        }
        Some(ForEach {
            spot: at.spot.clone(),
            items: self.template(&items),
            name: name.unwrap_or_else(|| Text { text: "item".to_owned(), spot: at.spot.clone() }),
            limit: fields.get("limit").and_then(|limit| self.whole(&limit, "`limit`", 1)),
        })
    }

    fn compensate(&mut self, at: &At<'_>) -> Option<Compensate> {
        if at.node.as_text() == Some("none") {
            return Some(Compensate::None(at.spot.clone()));
        }
        let fields = self.fields(at, "`compensate`", &UNDO)?;
        let (src, src_said) = match fields.get("src") {
            Some(src) => self.src(&src),
            None => {
                self.missing(&at.spot, "`compensate`", "src");
                unknown_src(&at.spot)
            }
        };
        if matches!(src, Src::Saga | Src::Workflow { .. }) {
            let message = format!("`{}` cannot undo a step", src_said.text);
            self.report(
                FindingCode::BadSource,
                &src_said.spot,
                message,
                "name a task: `task:<kind>`",
            );
        }
        let from = fields.get("from").and_then(|from| self.text(&from, "`from`"));
        let from_start = match from.as_ref().map(|from| from.text.as_str()) {
            Some("start") => true,
            Some("success") | None => false,
            Some(other) => {
                let spot = from.as_ref().map_or(&at.spot, |from| &from.spot).clone();
                self.report(
                    FindingCode::WrongShape,
                    &spot,
                    format!("no `from: {other}`"),
                    "write `success` or `start`",
                );
                false
            }
        };
        Some(Compensate::By(Box::new(Undo {
            spot: at.spot.clone(),
            src,
            src_said,
            input: fields.get("input").map(|input| self.template(&input)),
            from_start,
            once: fields.get("once").is_some_and(|once| self.truth(&once, "`once`")),
            timeout: fields.get("timeout").map(|timeout| self.delay(&timeout, "`timeout`")),
            heartbeat: fields
                .get("heartbeat")
                .map(|heartbeat| self.delay(&heartbeat, "`heartbeat`")),
            retry: fields.get("retry").map(|retry| self.retry_use(&retry)),
        })))
    }

    fn retry_use(&mut self, at: &At<'_>) -> RetryUse {
        match at.node.as_text() {
            Some(name) => RetryUse::Ref(Text { text: name.to_owned(), spot: at.spot.clone() }),
            None => RetryUse::Inline(self.retry(at)),
        }
    }

    /// Reads a retry policy: every part of it, with the platform's own value for each that cannot be read.
    pub(super) fn retry(&mut self, at: &At<'_>) -> Retry {
        let fields = self.fields_or_none(at, "a retry policy", &RETRY);
        if at.node.as_object().is_some() && fields.get("maxAttempts").is_none() {
            self.missing(&at.spot, "a retry policy", "maxAttempts");
        }
        let attempts = fields.get("maxAttempts").and_then(|at| self.whole(&at, "`maxAttempts`", 1));
        let attempts = attempts.map_or(1, |attempts| {
            if attempts.value > ATTEMPTS_MAX {
                let message = "`maxAttempts` is too large";
                let advice = format!("write at most {ATTEMPTS_MAX}");
                self.report(FindingCode::WrongShape, &attempts.spot, message, advice);
            }
            attempts.value.min(ATTEMPTS_MAX)
        });
        let interval = |reader: &mut Self, keyword: &str| {
            fields.get(keyword).and_then(|at| reader.fixed_ms(&at, &format!("`{keyword}`")))
        };
        let initial = interval(self, "initialInterval").unwrap_or(INITIAL_INTERVAL_MS);
        Retry {
            spot: at.spot.clone(),
            max_attempts: u32::try_from(attempts).expect("bounded above"),
            initial_interval_ms: initial,
            backoff: fields
                .get("backoff")
                .and_then(|backoff| self.factor(&backoff, "`backoff`"))
                .unwrap_or(2.0),
            max_interval_ms: interval(self, "maxInterval")
                .unwrap_or_else(|| MAX_INTERVAL_MS.max(initial)),
            non_retryable: fields
                .get("nonRetryable")
                .map(|codes| self.texts(&codes, "`nonRetryable`"))
                .unwrap_or_default(),
        }
    }
}

fn unknown_src(spot: &super::Spot) -> (Src, Text) {
    (Src::Unknown(String::new()), Text { text: String::new(), spot: spot.clone() })
}

/// Returns whether a text may name a kind of task or a definition.
fn is_kind(text: &str) -> bool {
    let is_letter =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && text.chars().all(is_letter)
}
