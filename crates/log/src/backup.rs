//! A shard's copy on its way out of a cluster, and shards that begin with such copies in another one.
//!
//! On the way out a copy is one file without a name, built beside the writer; nothing about the running shard changes.
//!
//! Planting makes a node's directory as if the node had been the only voter of every shard, had put the copies in place as
//! snapshots and had purged the log below them. The log begins after the copy's position; the term goes on above the
//! copy's, so that whatever the old cluster decided stays below every fence. The members that the copy names are left
//! behind: the mark names the new node alone.
//!
//! Absent on purpose: the rows that say who is a member of the cluster. They are changed by entries, once the shards run.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use statehouse_contract::{Build, Digest, NodeId, ShardId, limits};
use statehouse_store::{
    NodeDir, StoreError, adopt, examine_copy,
    log_file::{LogFile, LogFileOptions, LogOperation, LogPosition, StoredVote},
};

use crate::{
    engine::{AppliedMark, Peer},
    error::LogError,
    handle::ShardLog,
    proposal,
};

/// A copy of a shard that a node gives away.
#[derive(Debug)]
pub struct ShardCopy {
    /// Its bytes, from the beginning. Nobody else has the file.
    pub file: File,
    /// The shard.
    pub shard: ShardId,
    /// The position up to which everything is in it.
    pub position: u64,
    /// The term of that entry.
    pub term: u64,
    /// The feature level of its entries.
    pub level: u16,
    /// Its size.
    pub bytes: u64,
    /// Its fingerprint.
    pub digest: Digest,
}

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The position up to which everything is in it.
    pub position: u64,
    /// The term of that entry.
    pub term: u64,
    /// The feature level of its entries.
    pub level: u16,
    /// How many instances it has, finished ones too.
    pub instances: u64,
    /// How many rows of history it has.
    pub entries: u64,
    /// All members of the cluster that there ever were, as its rows tell; only shard 0 has any.
    pub members: Vec<NodeId>,
    /// The nodes that held the shard, as its log told last.
    pub holders: Vec<NodeId>,
    /// Everything that should not be so, in words.
    pub findings: Vec<String>,
}

impl ShardLog {
    /// Makes a copy of this replica's rows as they are now. Takes long; a node makes one copy or snapshot at a time.
    ///
    /// # Errors
    /// Says why there is none; the shard goes on without.
    pub async fn copy(&self) -> Result<ShardCopy, LogError> {
        let shard = self.shard();
        let failed = |source| LogError::Rows { shard, source };
        if self.is_storage_full() {
            // What is kept back is for healing.
            let path = PathBuf::from(format!("snapshots of shard {shard}"));
            return Err(failed(StoreError::StorageFull { path }));
        }
        let turn = Arc::clone(self.snapshot_turn());
        let turn = turn.acquire_owned().await.map_err(|_| LogError::Stopped)?;
        let view = self.view();
        let built = tokio::task::spawn_blocking(move || {
            // The turn goes along: whoever stops waiting does not stop the work.
            let _turn = turn;
            view.build_copy()
        });
        let copy = built.await.map_err(|_| LogError::Stopped)?.map_err(failed)?;
        let meta = copy.meta;
        let position = meta.applied.ok_or_else(|| empty(shard))?;
        let (term, level) = (meta.term, meta.level);
        let (file, bytes, digest) = (copy.file, copy.bytes, copy.hash);
        Ok(ShardCopy { file, shard, position, term, level, bytes, digest })
    }
}

/// Looks at a copy from end to end. Takes long, blocks, and needs no cluster.
///
/// # Errors
/// Says why the file is not the copy that was announced, or cannot be read by this build.
pub fn examine(
    path: &Path,
    shard: ShardId,
    announced: Digest,
    build: Build,
) -> Result<Examined, LogError> {
    let failed = |source| LogError::Rows { shard, source };
    let found = examine_copy(path, shard, announced, build).map_err(failed)?;
    let at = standing(shard, &found.meta.mark)?;
    let mut findings: Vec<String> = found
        .findings
        .iter()
        .map(|row| format!("{} {}: {}", row.table, row.row, row.what))
        .collect();
    if found.meta.applied != Some(at.index) {
        findings.push(format!(
            "the rows are at {:?}, their mark says {}",
            found.meta.applied, at.index
        ));
    }
    let mut members = Vec::new();
    for name in &found.members {
        match name.parse::<NodeId>() {
            Ok(node) => members.push(node),
            Err(error) => findings.push(format!("member {name}: {error}")),
        }
    }
    let mark = mark(shard, &found.meta.mark)?;
    Ok(Examined {
        position: at.index,
        term: at.term,
        level: found.meta.level,
        instances: found.meta.instances.iter().sum(),
        entries: found.entries,
        members,
        holders: mark.nodes().map(proposal::node).collect(),
        findings,
    })
}

/// Makes a directory that of a node which holds these shards alone, in the order of their numbers. What an earlier
/// planting left there is replaced. Blocks.
///
/// # Errors
/// The directory is in use, or a copy is not what was announced. The directory is no node then: plant again.
pub fn plant(
    data: &Path,
    node: NodeId,
    peer: &Peer,
    copies: &[(PathBuf, Digest)],
    build: Build,
) -> Result<(), LogError> {
    let first = ShardId(0);
    let directory =
        NodeDir::open(data).map_err(|source| LogError::Rows { shard: first, source })?;
    let path = data.join("log.db");
    for suffix in ["", "-wal", "-shm"] {
        remove(&data.join(format!("log.db{suffix}")))?;
    }
    let mut begun = Vec::new();
    for (shard, (copy, digest)) in (0u32..).map(ShardId).zip(copies) {
        for suffix in ["", "-wal", "-shm"] {
            remove(&data.join(format!("state-{shard}.db{suffix}")))?;
        }
        let failed = |source| LogError::Rows { shard, source };
        let at = standing(shard, &examined_mark(copy, shard, *digest)?)?;
        let mark = AppliedMark::alone(at, node.raft(), peer.clone()).encode();
        adopt(&directory, shard, copy, *digest, &mark, build).map_err(failed)?;
        // A vote for itself in the next term, as of a node that went down before it was elected.
        let vote = StoredVote { term: at.term + 1, node: node.raft(), is_granted: false };
        begun.push(LogOperation::Vote { shard, vote });
        begun.push(LogOperation::Purge { shard, upto: at });
    }
    let options =
        LogFileOptions { path, wal_bytes_max: limits::LOG_WAL_BYTES_MAX, pages_max: None };
    let mut file = LogFile::open(&options).map_err(LogError::File)?;
    file.write(&begun).map_err(LogError::File)
}

/// Reads the mark of a copy, whose bytes were announced.
fn examined_mark(copy: &Path, shard: ShardId, digest: Digest) -> Result<Vec<u8>, LogError> {
    let found = statehouse_store::check_snapshot(copy, shard, Some(digest));
    Ok(found.map_err(|source| LogError::Rows { shard, source })?.meta.mark)
}

fn mark(shard: ShardId, bytes: &[u8]) -> Result<AppliedMark, LogError> {
    AppliedMark::decode(bytes)
        .map_err(|why| LogError::Disagree { shard, what: format!("the mark of a copy: {why}") })
}

fn standing(shard: ShardId, bytes: &[u8]) -> Result<LogPosition, LogError> {
    mark(shard, bytes)?.position.ok_or_else(|| empty(shard))
}

fn empty(shard: ShardId) -> LogError {
    LogError::Disagree { shard, what: "nothing was ever applied here".to_owned() }
}

fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(LogError::Io { doing: "removing", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
