//! Fencing: the check that makes a late entry harmless.
//!
//! A deposed leader may still have decisions under way. They are not hunted down; they arrive, meet a newer term, epoch,
//! birth, version, digest or token, and write nothing. A fence is never an answer to a client: whoever decided reloads,
//! looks its key up and decides again.
//!
//! Before an entry is told to be wrong about an instance, this replica recomputes its own row: if *that* is bad, the
//! replica is set aside instead, because the others have applied the entry.
//!
//! This file knows no clock and no leases. A lease limits waste; only a fence makes things safe.
//!
//! Invariant `FENCE`: an entry decided under an older term, or at another version, changes no row.

use rusqlite::Connection;

use statehouse_contract::{
    Digest, KeyHash, ShardId, Timestamp, Version,
    mutant::{self, Mutant},
};

use crate::{
    buckets::BucketRow,
    entry::{Expect, Header, RowDigest},
    error::Fault,
    instances::{self, Standing},
};

/// Why an entry changed nothing, with what it expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fence {
    /// It was decided under another term than that of its place in the log.
    #[error("decided under term {expected}, its log term is {found}")]
    Term {
        /// The term of the decision.
        expected: u64,
        /// The term of the log entry.
        found: u64,
    },
    /// The instance's bucket has another epoch.
    #[error("bucket epoch: expected {expected}, found {found}")]
    BucketEpoch {
        /// The epoch of the decision.
        expected: u32,
        /// The present one.
        found: u32,
    },
    /// The instance's bucket is leaving or has left.
    #[error("bucket has moved to shard {to}")]
    BucketMoved {
        /// Where it goes.
        to: ShardId,
    },
    /// There should be no such instance, and there is.
    #[error("instance exists at version {found}")]
    Exists {
        /// How it stands.
        found: Version,
    },
    /// There should be such an instance, and there is none.
    #[error("no instance, expected version {expected}")]
    Missing {
        /// How it should stand.
        expected: Version,
    },
    /// The instance has moved on, or was born again.
    #[error("version: expected {expected}, found {found}")]
    Version {
        /// The version of the decision.
        expected: Version,
        /// The present one.
        found: Version,
    },
    /// Same version, other state: one of the two is wrong, and it is not this row.
    #[error("digest: expected {expected}, found {found}")]
    Digest {
        /// The digest of the decision.
        expected: RowDigest,
        /// The present one.
        found: RowDigest,
    },
    /// The entry does not make the next version.
    #[error("makes version {found}, expected {expected}")]
    Step {
        /// The next version.
        expected: u64,
        /// What the entry makes.
        found: u64,
    },
    /// A row of the due table is not there: cancelled or fired already.
    #[error("no due row at {at}")]
    DueMissing {
        /// Its time.
        at: Timestamp,
    },
    /// A task has another token, is not ready, or is gone.
    #[error("task token: expected {expected}, found {found:?}")]
    Token {
        /// The token of the decision.
        expected: u64,
        /// The present one; nothing if the task is gone or cannot be leased.
        found: Option<u64>,
    },
    /// A row of the outbox is not there, or there already.
    #[error("outbox row {version}-{n}")]
    Outbox {
        /// The version that wrote it.
        version: u64,
        /// Its number.
        n: u32,
    },
    /// A command that is settled was never postponed, or is settled already.
    #[error("no postponed command under {key:?}")]
    Settled {
        /// Its key.
        key: KeyHash,
    },
    /// The same version of a definition has other content.
    #[error("definition content: expected {expected}, found {found}")]
    Content {
        /// The digest of the entry.
        expected: Digest,
        /// The stored one.
        found: Digest,
    },
    /// A definition's version is not above the latest.
    #[error("definition version {expected} is not above {found}")]
    NotRising {
        /// The version of the entry.
        expected: u32,
        /// The latest.
        found: u32,
    },
    /// What the entry speaks of is not there.
    #[error("no such {what}")]
    Unknown {
        /// What it is.
        what: &'static str,
    },
}

impl Fence {
    /// Returns the word for metrics and transcripts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Term { .. } => "term",
            Self::BucketEpoch { .. } => "bucket_epoch",
            Self::BucketMoved { .. } => "bucket_moved",
            Self::Exists { .. } => "exists",
            Self::Missing { .. } => "missing",
            Self::Version { .. } => "version",
            Self::Digest { .. } => "digest",
            Self::Step { .. } => "step",
            Self::DueMissing { .. } => "due_missing",
            Self::Token { .. } => "token",
            Self::Outbox { .. } => "outbox",
            Self::Settled { .. } => "settled",
            Self::Content { .. } => "content",
            Self::NotRising { .. } => "not_rising",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// Checks that an entry was decided under the term of its place in the log.
pub(crate) fn term(header: &Header, found: u64) -> Result<(), Fence> {
    if header.decided_term == found || mutant::is(Mutant::NoTermFence) {
        return Ok(());
    }
    Err(Fence::Term { expected: header.decided_term, found })
}

/// Checks that a bucket is here and in the epoch of the decision.
pub(crate) fn bucket(expected: u32, found: &BucketRow) -> Result<(), Fence> {
    if let Some(to) = found.moved_to {
        return Err(Fence::BucketMoved { to });
    }
    if expected == found.epoch {
        return Ok(());
    }
    Err(Fence::BucketEpoch { expected, found: found.epoch })
}

/// Checks that an instance stands as it did when the entry was decided.
///
/// The outer error is damage of one's own row, which is looked for before the entry is blamed.
pub(crate) fn expect(
    connection: &Connection,
    expected: Expect,
    found: Option<&Standing>,
) -> Result<Result<(), Fence>, Fault> {
    let fence = match (expected, found) {
        (Expect::Absent, None) => return Ok(Ok(())),
        (Expect::Absent, Some(standing)) => Fence::Exists { found: standing.version },
        (Expect::At { version, .. }, None) => Fence::Missing { expected: version },
        // A deliberate bug: whatever stands there is taken for what was judged.
        (Expect::At { .. }, Some(_)) if mutant::is(Mutant::NoVersionFence) => return Ok(Ok(())),
        (Expect::At { version, digest }, Some(standing)) => {
            if version != standing.version {
                Fence::Version { expected: version, found: standing.version }
            } else if digest != standing.digest {
                Fence::Digest { expected: digest, found: standing.digest }
            } else {
                return Ok(Ok(()));
            }
        }
    };
    if let Some(standing) = found {
        instances::verify(connection, standing.version.born)?;
    }
    Ok(Err(fence))
}
