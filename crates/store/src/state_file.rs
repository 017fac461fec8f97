//! One shard's state file: opened, applied to, checkpointed.
//!
//! WAL with `synchronous = NORMAL`: the file may step back after a power cut and walks forward again from the log, so a
//! commit here needs no sync. Checkpoints are never SQLite's own: a thread with a connection of its own runs PASSIVE ones,
//! and past 64 MiB of WAL the writer runs a RESTART between two batches, because a saturated writer keeps a passive one
//! from ever resetting the file.
//!
//! Opening rewrites the WAL (TRUNCATE), compares the schema, and compares every small set of rows with its sum; big sets
//! prove themselves when they are read (`proof.rs`, row digests). A file below a few MiB is also checked page by page.
//!
//! Deliberately absent: a clock and any decision about when to make a snapshot.
//!
//! Invariant: position, chain, sums and rows change in one transaction, or not at all.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use rusqlite::{Connection, TransactionBehavior};

use statehouse_contract::{Build, ShardId, limits};

use crate::{
    apply::{Applied, Batch, Committed, Stop},
    buckets::Buckets,
    checkpoint::Checkpointer,
    error::{Corruption, Fault, StoreError},
    meta::Meta,
    node_dir::NodeDir,
    opening::{Verify, checkpoint, connect, inspect, ready},
    proof::Proofs,
    view::View,
};

/// WAL growth after which the background checkpoint is asked for.
const CHECKPOINT_EVERY_BYTES: u64 = 4 * 1024 * 1024;
const PAGE_BYTES: u64 = 4_096;

/// What the store and its views share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: NodeDir,
    pub(crate) path: PathBuf,
    pub(crate) shard: ShardId,
    /// What the process knows: a file above its level is not touched.
    pub(crate) build: Build,
    /// Rises when the file is exchanged. A view of another generation answers nothing.
    pub(crate) generation: AtomicU64,
    pub(crate) readers: Vec<Mutex<Option<Connection>>>,
    /// One above the last applied and committed position; 0 before the first.
    pub(crate) applied: AtomicU64,
    /// One above the position that a power cut cannot take back; 0 if there is none.
    pub(crate) synced: AtomicU64,
    /// Whether an install is under way or has failed half way.
    pub(crate) is_closed: AtomicBool,
    /// What the background checkpoint ran into.
    pub(crate) trouble: Mutex<Option<StoreError>>,
    /// The first row that a reader found damaged in this generation.
    pub(crate) damage: Mutex<Option<Corruption>>,
}

/// One shard's rows, with the right to change them. There is one for each file.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    pub(crate) meta: Meta,
    proofs: Arc<Proofs>,
    pub(crate) open: Option<Open>,
}

/// What exists while the file is open.
#[derive(Debug)]
pub(crate) struct Open {
    connection: Connection,
    buckets: Buckets,
    wal_pages: Arc<AtomicU32>,
    asked_pages: u32,
    tried_pages: u32,
    checkpointer: Checkpointer,
}

impl Store {
    /// Opens a shard's state file, or makes an empty one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] and its like when the file is not to be believed, [`StoreError::Level`] when its level is
    /// above what the build knows.
    pub fn open(
        dir: &NodeDir,
        shard: ShardId,
        readers: usize,
        verify: Verify,
        build: Build,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            path: dir.state_file(shard),
            shard,
            build,
            generation: AtomicU64::new(1),
            readers: (0..readers.max(1)).map(|_| Mutex::new(None)).collect(),
            applied: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            trouble: Mutex::new(None),
            damage: Mutex::new(None),
        });
        let (open, meta) = Open::new(&shared, verify)?;
        Ok(Self { shared, meta, proofs: Arc::new(Proofs::none()), open: Some(open) })
    }

    /// Applies a batch: every place once, all in one transaction. `mark` is kept with the position, for the log.
    ///
    /// # Errors
    /// Nothing of the batch was written. [`StoreError::StorageFull`] heals; after any other the replica is set aside,
    /// and after [`StoreError::Fatal`] the process ends.
    pub fn apply(
        &mut self,
        batch: &[Committed<'_>],
        mark: Option<&[u8]>,
    ) -> Result<Vec<Applied>, StoreError> {
        if let Some(trouble) = self.shared.take_trouble() {
            return Err(trouble);
        }
        let path = &self.shared.path;
        let open = self.open.as_mut().ok_or_else(|| StoreError::Closed { path: path.clone() })?;
        let applied = match open.run(&self.meta, &self.proofs, self.shared.build, batch, mark) {
            Ok((applied, meta)) => {
                open.buckets.keep();
                self.meta = meta;
                applied
            }
            Err(stop) => {
                open.buckets.undo();
                return Err(explain(stop, &self.shared, self.meta.applied));
            }
        };
        let next = self.meta.applied.map_or(0, |position| position + 1);
        self.shared.applied.store(next, Ordering::Release);
        open.tend_wal(&self.shared, next)?;
        Ok(applied)
    }

    /// Returns where the rows stand.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Returns the shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shared.shard
    }

    /// Returns the right to read. It ends when the file is exchanged.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(&self.shared, &self.proofs)
    }

    /// Returns the position that a power cut cannot take back: the log may be purged up to it, if a snapshot is there too.
    #[must_use]
    pub fn synced_position(&self) -> Option<u64> {
        self.shared.synced.load(Ordering::Acquire).checked_sub(1)
    }

    /// Moves everything from the WAL into the file and syncs both. For a quiet moment: a drain, an operator, a test.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        let path = &self.shared.path;
        let open = self.open.as_ref().ok_or_else(|| StoreError::Closed { path: path.clone() })?;
        let next = self.meta.applied.map_or(0, |position| position + 1);
        let done = checkpoint(&open.connection, "TRUNCATE")
            .map_err(|fault| fault.at(path, "checkpoint"))?;
        if done {
            self.shared.synced.store(next, Ordering::Release);
        }
        Ok(())
    }

    /// Lets the file grow by so many pages only, or without a bound again. A rehearsal of a full disk, for tests.
    ///
    /// # Errors
    /// As [`Store::apply`].
    #[doc(hidden)]
    pub fn limit_pages(&mut self, more: Option<u32>) -> Result<(), StoreError> {
        let path = &self.shared.path;
        let open = self.open.as_ref().ok_or_else(|| StoreError::Closed { path: path.clone() })?;
        let at = |error: rusqlite::Error| Fault::from(error).at(path, "limit");
        let now: u32 =
            open.connection.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(at)?;
        let most = more.map_or(u32::MAX - 1, |more| now + more);
        open.connection
            .pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))
            .map_err(at)
    }

    /// Goes on with a file that was exchanged.
    pub(crate) fn reopen(&mut self, (open, meta): (Open, Meta)) {
        (self.open, self.meta) = (Some(open), meta);
        self.proofs = Arc::new(Proofs::none());
        // The damaged file has gone.
        *self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.is_closed.store(false, Ordering::Release);
    }
}

fn explain(stop: Stop, shared: &Shared, applied: Option<u64>) -> StoreError {
    let path = &shared.path;
    match stop {
        Stop::Fault(fault) => fault.at(path, "apply"),
        Stop::Hole { found } => StoreError::Hole { path: path.to_owned(), applied, found },
        Stop::Level { found } => {
            StoreError::Level { path: path.to_owned(), expected: shared.build.level, found }
        }
    }
}

impl Shared {
    fn take_trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Open {
    pub(crate) fn new(shared: &Arc<Shared>, verify: Verify) -> Result<(Self, Meta), StoreError> {
        let path = &shared.path;
        let mut connection = connect(path, true).map_err(|fault| fault.at(path, "open"))?;
        let meta = ready(&mut connection, path, shared.shard, shared.build)?;
        let buckets =
            inspect(&connection, &meta, verify, path).map_err(|fault| fault.at(path, "open"))?;
        let wal_pages = Arc::new(AtomicU32::new(0));
        let pages = wal_pages.clone();
        let hook = move |_: &mut rusqlite::hooks::Wal, now: i32| {
            pages.store(now.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(|error| Fault::from(error).at(path, "open"))?;
        let next = meta.applied.map_or(0, |position| position + 1);
        shared.applied.store(next, Ordering::Release);
        let done = checkpoint(&connection, "TRUNCATE").map_err(|f| f.at(path, "open"))?;
        shared.synced.store(if done { next } else { 0 }, Ordering::Release);
        let checkpointer = Checkpointer::start(shared)?;
        let open =
            Self { connection, buckets, wal_pages, asked_pages: 0, tried_pages: 0, checkpointer };
        Ok((open, meta))
    }

    fn run(
        &mut self,
        meta: &Meta,
        proofs: &Proofs,
        build: Build,
        places: &[Committed<'_>],
        mark: Option<&[u8]>,
    ) -> Result<(Vec<Applied>, Meta), Stop> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Fault::from)?;
        let mut batch = Batch {
            connection: &transaction,
            meta: meta.clone(),
            buckets: &mut self.buckets,
            proofs,
            build,
        };
        let applied =
            places.iter().map(|place| batch.one(*place)).collect::<Result<Vec<_>, _>>()?;
        let mut meta = batch.meta;
        if let Some(mark) = mark {
            meta.mark = mark.to_vec();
        }
        meta.save(&transaction)?;
        transaction.commit().map_err(Fault::from)?;
        Ok((applied, meta))
    }

    /// Asks for a background checkpoint when the WAL has grown, and restarts it past its bound.
    fn tend_wal(&mut self, shared: &Shared, next: u64) -> Result<(), StoreError> {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        let grown = |since: u32| u64::from(pages.saturating_sub(since)) * PAGE_BYTES;
        if pages < self.asked_pages {
            (self.asked_pages, self.tried_pages) = (0, 0);
        }
        if grown(self.asked_pages) >= CHECKPOINT_EVERY_BYTES {
            self.asked_pages = pages;
            self.checkpointer.ask();
        }
        let is_past_bound = grown(0) >= limits::STATE_WAL_BYTES_MAX;
        if is_past_bound && grown(self.tried_pages) >= CHECKPOINT_EVERY_BYTES {
            self.tried_pages = pages;
            let done = checkpoint(&self.connection, "RESTART")
                .map_err(|fault| fault.at(&shared.path, "checkpoint"))?;
            if done {
                shared.synced.store(next, Ordering::Release);
                (self.asked_pages, self.tried_pages) = (0, 0);
                self.wal_pages.store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
