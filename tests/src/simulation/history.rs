//! The history of a run, in the format that the judge reads, and the trace by which two runs are compared.
//!
//! The clock of a history is the run's own. The trace is a running fingerprint of everything that happened, in order: a
//! run that is repeated must end with the same one, or something in it does not follow from the seed.
//!
//! Deliberately absent: files. A history is a text.

use serde_json::{Map, Value, json};

use statehouse_contract::Digest;

use super::subject::Answer;

/// Nanoseconds of a microsecond.
const NS: u64 = 1_000;

/// What is asked, in the words of the format.
#[derive(Clone, Debug, Default)]
pub struct Asking<'a> {
    /// The client.
    pub client: u32,
    /// In whose name.
    pub tenant: &'a str,
    /// The instance.
    pub instance: Option<&'a str>,
    /// The kind of question.
    pub op: &'a str,
    /// The key.
    pub key: Option<&'a str>,
    /// The command's name.
    pub cmd: Option<&'a str>,
    /// The expected version.
    pub expected: Option<u64>,
    /// How fresh a read must be.
    pub level: Option<&'a str>,
    /// The task and its token.
    pub task: Option<(String, u64)>,
}

/// Lines of a run.
#[derive(Debug, Default)]
pub struct History {
    text: String,
    attempts: u64,
}

impl History {
    /// Adds a line.
    pub fn line(&mut self, line: &Value) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    /// Adds a line that is a text already.
    pub fn raw(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Writes that an attempt begins, and returns its name.
    pub fn asked(&mut self, now_us: u64, asking: &Asking<'_>) -> u64 {
        self.attempts += 1;
        let mut line = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                line.insert(name.to_owned(), value);
            }
        };
        set("e", json!("inv"));
        set("t", json!(now_us * NS));
        set("id", json!(self.attempts));
        set("c", json!(asking.client));
        set("tenant", json!(asking.tenant));
        set("wf", json!(asking.instance));
        set("op", json!(asking.op));
        set("key", json!(asking.key));
        set("cmd", json!(asking.cmd));
        set("exp", json!(asking.expected));
        set("lvl", json!(asking.level));
        set("task", json!(asking.task.as_ref().map(|(task, _)| task)));
        set("tok", json!(asking.task.as_ref().map(|(_, token)| token)));
        self.line(&Value::Object(line));
        self.attempts
    }

    /// Writes what an attempt was told.
    pub fn told(&mut self, now_us: u64, attempt: u64, answer: &Answer) {
        let mut line = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                line.insert(name.to_owned(), value);
            }
        };
        set("e", json!("ret"));
        set("t", json!(now_us * NS));
        set("id", json!(attempt));
        set("out", json!(answer.out.word()));
        set("ver", json!(answer.version.map(|version| version.version)));
        // A start that was answered before it had a place has no life to name.
        let born = answer.version.map(|version| version.born).filter(|born| *born != 0);
        set("born", json!(born));
        set("reply", json!(answer.reply));
        set("reason", json!(answer.reason));
        set("state", json!(answer.state));
        set("task", json!(answer.task.as_ref().map(|(task, _)| task.to_string())));
        set("tok", json!(answer.task.as_ref().map(|(_, token)| token)));
        set("replayed", json!(answer.is_replayed.then_some(true)));
        self.line(&Value::Object(line));
    }

    /// Writes that a fault begins or ends.
    pub fn fault(&mut self, now_us: u64, fault: &str, phase: &str) {
        self.line(&json!({"e": "nem", "t": now_us * NS, "fault": fault, "ph": phase}));
    }

    /// Writes a node's wall clock, in milliseconds.
    pub fn anchor(&mut self, now_us: u64, node: u32, wall_ms: i64) {
        let wall = wall_ms * 1_000_000;
        self.line(
            &json!({"e": "anchor", "node": node.to_string(), "wall": wall, "t": now_us * NS}),
        );
    }

    /// Writes that everything is told.
    pub fn end(&mut self, now_us: u64, grace_ms: u64, skew_ms: u64) {
        let t = now_us * NS;
        self.line(&json!({"e": "end", "t": t, "grace_ms": grace_ms, "skew_ms": skew_ms}));
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The fingerprint of everything that happened so far.
#[derive(Clone, Debug)]
pub struct Trace {
    print: Digest,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Begins a trace, and keeps its lines if somebody wants to read them.
    #[must_use]
    pub fn new(keeps_lines: bool) -> Self {
        Self { print: Digest([0; 32]), lines: keeps_lines.then(Vec::new) }
    }

    /// Takes in what happened.
    pub fn take(&mut self, line: &str) {
        let mut bytes = self.print.0.to_vec();
        bytes.extend(line.as_bytes());
        self.print = Digest::of(&bytes);
        if let Some(lines) = &mut self.lines {
            lines.push(line.to_owned());
        }
    }

    /// Returns the fingerprint.
    #[must_use]
    pub const fn print(&self) -> Digest {
        self.print
    }

    /// Returns the lines, where they were kept.
    #[must_use]
    pub fn lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
