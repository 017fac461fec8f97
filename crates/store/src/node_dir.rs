//! The directory of one node's files: who may work in it, what lies where, how much room is left.
//!
//! The lock is the operating system's, on the file `LOCK`: it ends with the process, however that ends, so there is
//! nothing to clean up after `kill -9`.
//!
//! Deliberately absent: what happens when room runs out. The floors above refuse work in the order of `contract.md`,
//! section 13; this file only counts bytes.

use std::{
    convert::Infallible,
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use statehouse_contract::{ShardId, limits};

use crate::error::StoreError;

/// A locked data directory. Clones share the lock; it is given back when the last one is dropped.
#[derive(Clone, Debug)]
pub struct NodeDir(Arc<Locked>);

// The fields are dropped in this order: whoever hears of the end finds the lock given back.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    _lock: File,
    _end: mpsc::SyncSender<Infallible>,
}

/// Tells when a directory that this process had locked is free again.
#[derive(Debug)]
pub struct Release(Mutex<mpsc::Receiver<Infallible>>);

impl Release {
    /// Waits until the last clone of the directory is dropped, at most so long; returns whether it was. Blocks.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(limit), Err(mpsc::RecvTimeoutError::Disconnected))
    }
}

impl NodeDir {
    /// Makes the directory if need be and takes its lock.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process, or another part of this one, has it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::lock(path).map(|(directory, _)| directory)
    }

    /// Does as [`open`](Self::open), and returns how to wait for the end as well.
    ///
    /// # Errors
    /// The same.
    pub fn lock(path: &Path) -> Result<(Self, Release), StoreError> {
        let snapshots = path.join("snapshots");
        // What lies here is everybody's data: whoever else works on the machine has no business in it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&snapshots);
        made.map_err(|error| StoreError::io("create directory", &snapshots, error))?;
        let file = path.join("LOCK");
        let lock = File::options().create(true).truncate(false).write(true).open(&file);
        let lock = lock.map_err(|error| StoreError::io("open lock file", &file, error))?;
        match lock.try_lock() {
            Ok(()) => {
                let (end, ended) = mpsc::sync_channel(0);
                let locked = Locked { path: path.to_owned(), _lock: lock, _end: end };
                Ok((Self(Arc::new(locked)), Release(Mutex::new(ended))))
            }
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => {
                Err(StoreError::io("lock data directory", path, error))
            }
        }
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the state file of a shard.
    #[must_use]
    pub fn state_file(&self, shard: ShardId) -> PathBuf {
        self.path().join(format!("state-{shard}.db"))
    }

    /// Returns the directory of snapshots, finished and under way.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path().join("snapshots")
    }

    /// Returns how many bytes may still be written by an unprivileged process.
    ///
    /// # Errors
    /// Passes on what the operating system says.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let space = rustix::fs::statvfs(self.path())
            .map_err(|error| StoreError::io("ask for free space in", self.path(), error.into()))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Returns the space that client commands may not use up: a fixed part, the write-ahead files at their bounds, and
    /// once more the largest state file, so that purges, sweeps and a snapshot can heal a full disk.
    ///
    /// # Errors
    /// Passes on what the operating system says.
    pub fn reserve_bytes(&self) -> Result<u64, StoreError> {
        let listing = || fs::read_dir(self.path());
        let failed = |error| StoreError::io("list", self.path(), error);
        let mut largest = 0;
        for file in listing().map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name();
            let is_state =
                name.to_str().is_some_and(|n| n.starts_with("state-") && n.ends_with(".db"));
            if is_state {
                largest = largest.max(file.metadata().map_err(failed)?.len());
            }
        }
        Ok(limits::DISK_RESERVE_BYTES
            + limits::LOG_WAL_BYTES_MAX
            + limits::STATE_WAL_BYTES_MAX
            + largest)
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = File::open(path);
    directory
        .and_then(|open| open.sync_all())
        .map_err(|error| StoreError::io("sync directory", path, error))
}
