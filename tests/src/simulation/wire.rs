//! What travels: messages between nodes, requests of clients, and why a run has failed.
//!
//! The messages are those of a plain replicated log with terms and votes. It is the simulation's own and stands in for the
//! engine that the product uses; the records inside are the product's.
//!
//! Deliberately absent: encodings. A message is a value, and a copy travels as the path of an unchanging file.

use std::{fmt, path::PathBuf};

use statehouse_contract::{CommandEnvelope, Digest, InstanceKey};
use statehouse_store::{
    StoreError,
    log_file::{LogFileError, LogPosition, LogRecord},
};

/// What one node tells another.
#[derive(Clone, Debug)]
pub enum Message {
    /// A candidate asks for a vote.
    AskVote {
        /// Its term.
        term: u64,
        /// The end of its log.
        last: Option<LogPosition>,
    },
    /// The answer to a candidate.
    Vote {
        /// The voter's term.
        term: u64,
        /// Whether the candidate has it.
        is_granted: bool,
    },
    /// A leader's records, or none: then it is a heartbeat.
    Append {
        /// Its term.
        term: u64,
        /// What stands before the records.
        before: Option<LogPosition>,
        /// The records.
        records: Vec<LogRecord>,
        /// Up to where the leader knows them committed.
        commit: u64,
        /// The round of heartbeats to which it belongs.
        round: u64,
    },
    /// A follower's answer.
    Appended {
        /// Its term.
        term: u64,
        /// Whether the records fit.
        is_fit: bool,
        /// Up to where its log is the leader's; where they do not fit, where to try.
        upto: u64,
        /// The round that it answers.
        round: u64,
    },
    /// A copy of the shard, for a follower whose next record was purged.
    Copy {
        /// The leader's term.
        term: u64,
        /// Where the copy stands.
        upto: LogPosition,
        /// The fingerprint of the file.
        hash: Digest,
        /// The file.
        path: PathBuf,
        /// The round of heartbeats to which it belongs.
        round: u64,
    },
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A command at an instance.
    Command(Box<CommandEnvelope>),
    /// A task.
    Claim(Box<CommandEnvelope>),
    /// What is true now of an instance.
    Read(InstanceKey),
    /// What this node has of an instance.
    ReadHere(InstanceKey),
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub client: u32,
    /// Which attempt it is, of all.
    pub attempt: u64,
    /// What it asks.
    pub asked: Asked,
}

/// Why a run is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The promise that was broken, or what stopped.
    pub rule: String,
    /// What happened.
    pub what: String,
}

impl Failure {
    /// Returns a failure.
    pub fn of(rule: impl Into<String>, what: impl Into<String>) -> Self {
        Self { rule: rule.into(), what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::of("store", format!("the rows stopped: {error}"))
    }
}

impl From<LogFileError> for Failure {
    fn from(error: LogFileError) -> Self {
        Self::of("log file", format!("the log stopped: {error}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::of("simulation", format!("the directory of the run: {error}"))
    }
}
