//! The log of a node: one file, one writer, and a replica for each shard that the node holds.
//!
//! Absent on purpose: which shards those are. Whoever places them says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Semaphore, task::JoinHandle};

use statehouse_contract::{ShardId, limits};
use statehouse_store::log_file::{LogFile, LogFileOptions};

use statehouse_telemetry::Meters;

use crate::{
    error::{Failure, LogError},
    handle::ShardLog,
    measures::{self, Measures},
    options::LogOptions,
    replica::{Ground, Origin},
    room::{self, Room},
    transport::Transport,
    writer,
};

/// The open log of a node.
pub struct NodeLog {
    pub(crate) ground: Arc<Ground>,
    known: Vec<ShardId>,
    shards: Mutex<BTreeMap<ShardId, ShardLog>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    room: JoinHandle<()>,
}

impl NodeLog {
    /// Opens the log file and starts its writer.
    ///
    /// # Errors
    /// A log file that cannot be trusted is not opened: see [`LogError`].
    pub async fn open(
        options: LogOptions,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, LogError> {
        let path = options.data.path().join("log.db");
        let file_options = LogFileOptions {
            path: path.clone(),
            wal_bytes_max: limits::LOG_WAL_BYTES_MAX,
            pages_max: options.log_pages_max,
        };
        let opened = tokio::task::spawn_blocking(move || LogFile::open(&file_options)).await;
        let file = opened.map_err(|_| LogError::Stopped)?.map_err(LogError::File)?;
        let known = file.shards().collect();
        let room = Arc::new(Room::default());
        let watch = room::watch(Arc::clone(&room), options.data.clone(), options.reserve_bytes);
        let watch = watch.await;
        let measures = Arc::new(Measures::default());
        let (tails, failure) = (writer::Tails::default(), Failure::new());
        let started = writer::start(
            file,
            Arc::clone(&tails),
            (Arc::clone(&room), Arc::clone(&measures)),
            failure.clone(),
        );
        let (handle, thread) = started.map_err(|source| LogError::Io {
            doing: "starting the writer of",
            path,
            source,
        })?;
        let ground = Ground {
            options,
            transport,
            writer: handle,
            tails,
            room,
            measures,
            failure,
            snapshot_turn: Arc::new(Semaphore::new(1)),
        };
        Ok(Self {
            ground: Arc::new(ground),
            known,
            shards: Mutex::default(),
            writer: Mutex::new(Some(thread)),
            room: watch,
        })
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<ShardId, ShardLog>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the numbers of the log as instruments; of its shards, those that are open now.
    pub fn register(&self, meters: &Meters) {
        self.ground.measures.register(meters, &self.ground.room);
        measures::register_shards(meters, &self.shards().values().cloned().collect::<Vec<_>>());
    }

    /// Opens a shard: its rows, its engine. For a single voter it leads a few milliseconds later.
    ///
    /// # Errors
    /// Rows or a log that cannot be trusted are not opened: see [`LogError`].
    pub async fn open_shard(&self, shard: ShardId, origin: Origin) -> Result<ShardLog, LogError> {
        let opened = ShardLog::open(&self.ground, shard, origin).await?;
        self.shards().insert(shard, opened.clone());
        Ok(opened)
    }

    /// Returns an open shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<ShardLog> {
        self.shards().get(&shard).cloned()
    }

    /// Returns the shards of which the log file knew when it was opened.
    #[must_use]
    pub fn known_shards(&self) -> &[ShardId] {
        &self.known
    }

    /// Waits for the failure after which this process must end; perhaps for ever.
    pub async fn failed(&self) -> Arc<LogError> {
        self.ground.failure.wait().await
    }

    /// Returns whether client commands are refused for lack of room on the disk.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        self.ground.room.is_full()
    }

    /// Ends every shard, then the writer, and closes the file.
    pub async fn stop(&self) {
        let shards = std::mem::take(&mut *self.shards());
        for shard in shards.into_values() {
            shard.stop().await;
        }
        self.ground.writer.stop();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked has failed every write already.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.room.abort();
    }
}
