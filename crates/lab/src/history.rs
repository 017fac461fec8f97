//! The recorder: writes what clients ask and are told, while it happens (history format 1, JSON lines).
//!
//! One recorder per run, shared by all clients; its clock is the run's only clock. A line is written before its request
//! is sent and after its answer was read, so that the recorded interval contains the real one and "before" in the file
//! is "before" in the world.
//!
//! Writing goes through a buffer, because a run writes tens of thousands of lines a second. The first error is kept and
//! told at the end: a broken history is worse than none, but no reason to stop the load.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::answer::Out;

/// What a client asks; empty fields are left out of the line.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Asked<'a> {
    /// The client; it has one attempt at a time.
    pub c: u64,
    /// In whose name.
    pub tenant: &'a str,
    /// The instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wf: Option<&'a str>,
    /// `cmd`, `read`, `lease`, `done`, `list`, `watch`, `deploy` or `revoke`.
    pub op: &'static str,
    /// The idempotency key, the same on every retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The command's name; a start is `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<&'a str>,
    /// The expected version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// `lin`, `leader`, `session` or `stale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvl: Option<&'static str>,
    /// The lowest version that a read accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// The task that a worker speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<&'a str>,
    /// The token that a worker holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tok: Option<u64>,
}

/// What a client was told; empty fields are left out of the line.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Told<'a> {
    /// What it knows now.
    pub out: Out,
    /// The version in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ver: Option<u64>,
    /// The life that the version counts in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub born: Option<u64>,
    /// Digest of the answer's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<&'a str>,
    /// The rejection's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The node that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<&'a str>,
    /// How old the answer says it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The task that a worker was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<&'a str>,
    /// The token that a worker was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tok: Option<u64>,
    /// The server said that the answer was stored by an earlier attempt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// The tenants whose canaries stand anywhere in the answer.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    pub see: &'a [&'a str],
}

impl Told<'_> {
    /// Returns an answer that says nothing but its class.
    pub const fn only(out: Out) -> Self {
        Self {
            out,
            ver: None,
            born: None,
            reply: None,
            reason: None,
            node: None,
            age_ms: None,
            task: None,
            tok: None,
            replayed: false,
            see: &[],
        }
    }
}

/// Writes a history.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    attempts: AtomicU64,
    file: Mutex<Sink>,
}

#[derive(Debug)]
struct Sink {
    out: BufWriter<File>,
    broken: Option<io::Error>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    e: &'static str,
    t: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(flatten)]
    rest: &'a T,
}

#[derive(Serialize)]
struct Anchor<'a> {
    node: &'a str,
    wall: i64,
}

#[derive(Serialize)]
struct Fault<'a> {
    fault: &'a str,
    ph: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_ms: Option<u64>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    shards: &'a [u32],
}

#[derive(Serialize)]
struct End {
    grace_ms: u64,
    skew_ms: u64,
}

impl Recorder {
    /// Begins a history in a new file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let sink =
            Sink { out: BufWriter::with_capacity(256 * 1024, File::create(path)?), broken: None };
        let recorder =
            Self { start: Instant::now(), attempts: AtomicU64::new(0), file: Mutex::new(sink) };
        recorder.raw(b"{\"format\":1}");
        Ok(recorder)
    }

    /// Returns the run's clock, in nanoseconds.
    pub fn now(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Writes that a client begins an attempt, and returns the attempt's name. Call it before sending.
    pub fn asked(&self, asked: &Asked<'_>) -> u64 {
        // Relaxed: the names only have to differ.
        let id = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        self.line("inv", Some(id), asked);
        id
    }

    /// Writes what a client was told. Call it after reading the answer.
    pub fn told(&self, attempt: u64, told: &Told<'_>) {
        self.line("ret", Some(attempt), told);
    }

    /// Writes this machine's wall clock as the clock of a node on it.
    pub fn anchor(&self, node: &str) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        self.line("anchor", None, &Anchor { node, wall });
    }

    /// Writes that a fault begins, and how long its shards (all, if none are named) may go without an answer.
    pub fn fault_begins(&self, fault: &str, budget_ms: Option<u64>, shards: &[u32]) {
        self.line("nem", None, &Fault { fault, ph: "begin", budget_ms, shards });
    }

    /// Writes that a fault ends.
    pub fn fault_ends(&self, fault: &str) {
        self.line("nem", None, &Fault { fault, ph: "end", budget_ms: None, shards: &[] });
    }

    /// Writes a line as it is, such as one of a dump.
    pub fn raw(&self, line: &[u8]) {
        let mut sink = self.sink();
        if sink.broken.is_none()
            && let Err(error) = sink.out.write_all(line).and_then(|()| sink.out.write_all(b"\n"))
        {
            sink.broken = Some(error);
        }
    }

    /// Writes that every node's dump is in the file.
    pub fn end(&self, grace_ms: u64, skew_ms: u64) {
        self.line("end", None, &End { grace_ms, skew_ms });
    }

    /// Brings everything written so far into the file.
    ///
    /// # Errors
    /// Some line was not written.
    pub fn flush(&self) -> io::Result<()> {
        let mut sink = self.sink();
        match sink.broken.take() {
            Some(error) => Err(error),
            None => sink.out.flush(),
        }
    }

    fn line(&self, e: &'static str, id: Option<u64>, rest: &impl Serialize) {
        // The clock is read before the lock for an answer's sake too: waiting for the lock only widens the interval.
        let line = Line { e, t: self.now(), id, rest };
        let text = serde_json::to_vec(&line).expect("plain structs always serialize");
        self.raw(&text);
    }

    fn sink(&self) -> std::sync::MutexGuard<'_, Sink> {
        // A client that panicked while writing leaves at worst half a line, which the judge names.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_judge_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        let asked = Asked {
            c: 3,
            tenant: "t",
            wf: Some("o-1"),
            op: "cmd",
            key: Some("k"),
            cmd: Some("start"),
            ..Asked::default()
        };
        let attempt = recorder.asked(&asked);
        recorder.told(attempt, &Told { ver: Some(1), born: Some(9), ..Told::only(Out::Ok) });
        recorder.asked(&Asked {
            op: "read",
            lvl: Some("lin"),
            wf: Some("o-1"),
            tenant: "t",
            ..Asked::default()
        });
        recorder.anchor("local");
        recorder.fault_begins("kill", Some(500), &[1, 2]);
        recorder.fault_ends("kill");
        recorder.raw(br#"{"e":"entry","node":"a","tenant":"t","wf":"o-1","shard":1,"pos":9,"born":9,"ver":1,"kind":"start","key":"k","actor":"x","at":5}"#);
        recorder.raw(br#"{"e":"shard","node":"a","shard":1,"pos":9}"#);
        recorder.end(1000, 100);
        recorder.flush().unwrap();

        let history = statehouse_judge::History::parse(std::fs::read_to_string(&path).unwrap());
        assert_eq!(history.malformed, []);
        assert_eq!(
            (history.attempts.len(), history.faults.len(), history.anchors.len()),
            (2, 2, 1)
        );
        let verdict = statehouse_judge::judge(&history, &statehouse_judge::Demands::LEAST);
        assert!(verdict.is_valid(), "{verdict}");
        assert_eq!((verdict.counts.ok, verdict.counts.unknown), (1, 1));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told() {
        assert!(Recorder::create(Path::new("/nonexistent/history.jsonl")).is_err());
    }
}
