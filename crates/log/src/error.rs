//! What the log says no with. After each error the one question is answered: was it written?
//!
//! [`ProposeError`] is matched variant by variant by whoever turns it into an answer: every variant but
//! `Unknown` is certain that nothing was written and nothing will be.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use statehouse_contract::{NodeId, ShardId};
use statehouse_store::{StoreError, log_file::LogFileError};

/// Why an entry was not applied, or why nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was written. Safe to try elsewhere.
    #[error("this replica does not lead the shard in the entry's term")]
    NotLeader {
        /// Who may lead it, if anybody is known.
        hint: Option<NodeId>,
    },
    /// Nothing was written. This replica leads but has not heard from a majority for too long.
    #[error("the leader has no majority")]
    NoQuorum,
    /// Nothing was written. The disk is full, but for what is kept back for healing.
    #[error("the disk is full")]
    StorageFull,
    /// Nothing was written. Too many proposals wait, or the log makes no progress.
    #[error("too many proposals are waiting")]
    Overloaded,
    /// Nothing was written, and nothing will be: the entry is too large.
    #[error("the entry has {bytes} bytes, more than an entry may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nothing was written. The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
    /// It may or may not be written. Retry only with the same idempotency key.
    #[error("the log did not answer before the term or the replica ended")]
    Unknown,
}

/// Why a read has no position to read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another replica leads the shard.
    #[error("this replica does not lead the shard")]
    NotLeader {
        /// Who may lead it, if anybody is known.
        hint: Option<NodeId>,
    },
    /// No majority has confirmed that this replica leads.
    #[error("the leader has no majority")]
    NoQuorum,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why the log of a node, or one of its shards, cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file.
    #[error("log file")]
    File(#[source] LogFileError),
    /// The rows of a shard.
    #[error("rows of shard {shard}")]
    Rows {
        /// The shard.
        shard: ShardId,
        /// What happened to them.
        #[source]
        source: StoreError,
    },
    /// The rows are ahead of the log: the log has lost what was acknowledged.
    #[error(
        "the log of shard {shard} ends at {last:?} but its rows have applied {applied}: acknowledged \
         entries are lost; restore this node with `statehouse cluster restore`"
    )]
    Behind {
        /// The shard.
        shard: ShardId,
        /// Where the log ends.
        last: Option<u64>,
        /// Where the rows stand.
        applied: u64,
    },
    /// The rows and the log disagree about an entry, or entries between them are gone.
    #[error("the log of shard {shard} does not fit its rows: {what}")]
    Disagree {
        /// The shard.
        shard: ShardId,
        /// What does not fit.
        what: String,
    },
    /// A value in the configuration cannot be.
    #[error("the log's configuration: {what}")]
    Config {
        /// What is wrong.
        what: String,
    },
    /// The engine has stopped on a failure of its own.
    #[error("the replica of shard {shard} has stopped: {what}")]
    Engine {
        /// The shard.
        shard: ShardId,
        /// What it said.
        what: String,
    },
    /// A file or thread could not be made.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The log of this node has been stopped.
    #[error("the log of this node has stopped")]
    Stopped,
    /// The writer broke an invariant. Nobody knows what it has written last.
    #[error("the writer of the log has panicked")]
    WriterPanicked,
    /// It failed before, for everybody.
    #[error(transparent)]
    Shared(Arc<LogError>),
}

/// The failure that ends a replica or the node, set once and seen by everybody.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    first: Arc<OnceLock<Arc<LogError>>>,
    seen: Arc<watch::Sender<bool>>,
}

impl Failure {
    pub(crate) fn new() -> Self {
        Self { first: Arc::default(), seen: Arc::new(watch::Sender::new(false)) }
    }

    pub(crate) fn get(&self) -> Option<Arc<LogError>> {
        self.first.get().cloned()
    }

    /// Keeps the first failure and returns it.
    pub(crate) fn set(&self, error: LogError) -> Arc<LogError> {
        self.share(Arc::new(error))
    }

    /// Keeps the first failure, which others may know too, and returns it.
    pub(crate) fn share(&self, error: Arc<LogError>) -> Arc<LogError> {
        let first = Arc::clone(self.first.get_or_init(|| error));
        self.seen.send_replace(true);
        first
    }

    /// Waits for a failure, perhaps for ever.
    pub(crate) async fn wait(&self) -> Arc<LogError> {
        let mut seen = self.seen.subscribe();
        // The sender lives in `self`.
        let _ = seen.wait_for(|seen| *seen).await;
        self.get().expect("set before it was announced")
    }
}
