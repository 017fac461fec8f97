//! The one thread that touches the log file.
//!
//! It takes the first order, drains all that have queued meanwhile, of all shards, writes them as one
//! transaction with one sync, and then tells everybody. The sync under way is the batching window; there
//! is no timer. Votes and entries keep the order in which they were given.
//!
//! The queue is as long as two batches. What stands in it was admitted before, by the permits of proposals
//! and by the engine, so it is full only when the disk cannot keep up at all; then whoever sends waits.
//!
//! When the disk is full the batch is kept and tried again until there is room: the engine has given
//! these entries their places already and could only die of an error. Any other failure is final: after
//! a failed sync nobody knows what the disk holds, so everything fails from then on and the process ends.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use statehouse_contract::{ShardId, limits};
use statehouse_store::log_file::{
    LogFile, LogFileError, LogOperation, LogPosition, LogRecord, LogState,
};

use crate::{
    engine::Engine,
    error::{Failure, LogError},
    measures::Measures,
    room::Room,
    tail::Tail,
};

/// How long a full disk is left alone before the next attempt.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// Orders that may wait for the writer.
const ORDERS_MAX: usize = 2 * limits::LOG_BATCH_OPERATIONS_MAX;

/// Something for the writer to do.
enum Order {
    Write { shard: ShardId, operation: LogOperation, done: Done },
    Committed { shard: ShardId, committed: Option<LogPosition> },
    State { shard: ShardId, reply: Reply<LogState> },
    Read { shard: ShardId, range: Range<u64>, bytes_max: usize, reply: Reply<Vec<LogRecord>> },
    Stop,
}

type Reply<T> = oneshot::Sender<Result<T, Arc<LogError>>>;

/// Who wants to know that a write is on the disk.
pub(crate) enum Done {
    /// The engine, for an append.
    Engine { callback: IOFlushed<Engine>, last: u64 },
    /// Whoever awaits it.
    Caller(oneshot::Sender<io::Result<()>>),
}

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    orders: SyncSender<Order>,
}

impl WriterHandle {
    /// Writes and tells when it is on the disk.
    pub(crate) fn write(&self, shard: ShardId, operation: LogOperation, done: Done) {
        if let Err(refused) = self.orders.send(Order::Write { shard, operation, done })
            && let Order::Write { done, .. } = refused.0
        {
            done.tell(Err(stopped()));
        }
    }

    /// Writes and waits until it is on the disk.
    pub(crate) async fn write_through(
        &self,
        shard: ShardId,
        operation: LogOperation,
    ) -> io::Result<()> {
        let (done, is_done) = oneshot::channel();
        self.write(shard, operation, Done::Caller(done));
        is_done.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Remembers a committed position until the next write.
    pub(crate) fn note_committed(&self, shard: ShardId, committed: Option<LogPosition>) {
        // A writer that has stopped needs no hint any more.
        let _ = self.orders.send(Order::Committed { shard, committed });
    }

    /// Returns what the file knows of a shard, after everything that was queued before.
    pub(crate) async fn state(&self, shard: ShardId) -> Result<LogState, Arc<LogError>> {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::State { shard, reply }).is_err() {
            return Err(Arc::new(LogError::Stopped));
        }
        answer.await.unwrap_or_else(|_| Err(Arc::new(LogError::Stopped)))
    }

    /// Reads records from the file.
    pub(crate) async fn read(
        &self,
        shard: ShardId,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, Arc<LogError>> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Read { shard, range, bytes_max, reply };
        if self.orders.send(order).is_err() {
            return Err(Arc::new(LogError::Stopped));
        }
        answer.await.unwrap_or_else(|_| Err(Arc::new(LogError::Stopped)))
    }

    /// Asks the writer to end after what is queued.
    pub(crate) fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log of this node has stopped")
}

impl Done {
    fn tell(self, outcome: io::Result<()>) {
        match self {
            Self::Engine { callback, .. } => callback.io_completed(outcome),
            Self::Caller(caller) => {
                // Whoever asked may have gone; the write has not.
                let _ = caller.send(outcome);
            }
        }
    }
}

struct Writer {
    file: LogFile,
    orders: Receiver<Order>,
    tails: Tails,
    room: Arc<Room>,
    measures: Arc<Measures>,
    failure: Failure,
    held: VecDeque<Order>,
    is_stopping: bool,
}

/// The tails by shard, shared with their shards.
pub(crate) type Tails = Arc<std::sync::Mutex<BTreeMap<ShardId, Arc<Tail>>>>;

/// Starts the thread that owns `file`.
pub(crate) fn start(
    file: LogFile,
    tails: Tails,
    (room, measures): (Arc<Room>, Arc<Measures>),
    failure: Failure,
) -> io::Result<(WriterHandle, JoinHandle<()>)> {
    let (sender, orders) = sync_channel(ORDERS_MAX);
    let held = VecDeque::new();
    let writer = Writer { file, orders, tails, room, measures, failure, held, is_stopping: false };
    let thread =
        std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run())?;
    Ok((WriterHandle { orders: sender }, thread))
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.set(LogError::WriterPanicked);
        }
    }
}

/// Writes that go to the disk together.
#[derive(Default)]
struct Batch {
    operations: Vec<LogOperation>,
    waiting: Vec<(ShardId, Done)>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.operations.len() >= limits::LOG_BATCH_OPERATIONS_MAX
            || self.bytes >= limits::LOG_BATCH_BYTES_MAX
    }
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.next() {
            let mut batch = Batch::default();
            self.take(first, &mut batch);
            while !batch.is_full() {
                let Some(order) =
                    self.held.pop_front().map_or_else(|| self.orders.try_recv(), Ok).ok()
                else {
                    break;
                };
                self.take(order, &mut batch);
            }
            self.write(batch);
        }
        info!("the log writer has stopped");
    }

    /// Waits for an order; takes out purged rows while there is nothing else to do.
    fn next(&mut self) -> Option<Order> {
        if let Some(order) = self.held.pop_front() {
            return Some(order);
        }
        loop {
            if self.is_stopping {
                return None;
            }
            match self.orders.try_recv() {
                Ok(order) => return Some(order),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            match self.sweep() {
                true => {}
                false => return self.orders.recv().ok(),
            }
        }
    }

    fn sweep(&mut self) -> bool {
        if self.failure.get().is_some() {
            return false;
        }
        match self.file.sweep() {
            Ok(is_more) => is_more,
            Err(LogFileError::Full { .. }) => false,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn take(&mut self, order: Order, batch: &mut Batch) {
        match order {
            Order::Write { shard, operation, done } => {
                batch.bytes += operation.bytes();
                batch.operations.push(operation);
                batch.waiting.push((shard, done));
            }
            Order::Committed { shard, committed } => self.file.note_committed(shard, committed),
            // What was queued before a question is seen by it.
            Order::Read { shard, range, bytes_max, reply } => {
                self.write(std::mem::take(batch));
                self.read(shard, range, bytes_max, reply);
            }
            Order::State { shard, reply } => {
                self.write(std::mem::take(batch));
                let _ = reply.send(self.failure.get().map_or(Ok(self.file.state(shard)), Err));
            }
            Order::Stop => self.is_stopping = true,
        }
    }

    fn read(
        &self,
        shard: ShardId,
        range: Range<u64>,
        bytes_max: usize,
        reply: Reply<Vec<LogRecord>>,
    ) {
        let found = self.file.read(shard, range, bytes_max).map_err(|error| {
            error!(%shard, %error, "an entry of the log cannot be read");
            Arc::new(LogError::File(error))
        });
        let _ = reply.send(found);
    }

    fn write(&mut self, batch: Batch) {
        if batch.operations.is_empty() {
            return;
        }
        if let Some(failure) = self.failure.get() {
            return tell_all(batch.waiting, &failure);
        }
        loop {
            let began = Instant::now();
            match self.file.write(&batch.operations) {
                Ok(()) => {
                    self.measures.wrote(began.elapsed().as_secs_f64(), batch.operations.len());
                    self.room.write_succeeded();
                    return self.flushed(batch.waiting);
                }
                Err(error @ LogFileError::Full { .. }) => {
                    if self.room.write_was_refused() {
                        warn!(%error, "the disk is full: the log waits for room");
                    }
                    if !self.wait_for_room() {
                        return tell_all(batch.waiting, &LogError::File(error));
                    }
                }
                Err(error) => {
                    let failure = self.fail(error);
                    return tell_all(batch.waiting, &failure);
                }
            }
        }
    }

    /// Waits a little for room, serving reads; returns whether another attempt makes sense.
    fn wait_for_room(&mut self) -> bool {
        let until = Instant::now() + FULL_RETRY;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.held.len() >= ORDERS_MAX {
                // Whoever sends more waits, as always when the disk cannot keep up.
                std::thread::sleep(left);
                return !self.is_stopping;
            }
            match self.orders.recv_timeout(left) {
                Ok(Order::Read { shard, range, bytes_max, reply }) => {
                    self.read(shard, range, bytes_max, reply);
                }
                Ok(Order::Stop) => {
                    self.is_stopping = true;
                    return false;
                }
                Ok(order) => self.held.push_back(order),
                Err(RecvTimeoutError::Timeout) => return !self.is_stopping,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn flushed(&self, waiting: Vec<(ShardId, Done)>) {
        let tails = self.tails.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (shard, done) in &waiting {
            if let (Done::Engine { last, .. }, Some(tail)) = (done, tails.get(shard)) {
                tail.flushed(*last);
            }
        }
        drop(tails);
        for (_, done) in waiting {
            done.tell(Ok(()));
        }
    }

    fn fail(&self, error: LogFileError) -> Arc<LogError> {
        error!(
            error = &error as &dyn std::error::Error,
            "the log file failed; this node must stop"
        );
        for tail in self.tails.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values() {
            tail.drop_all();
        }
        self.failure.set(LogError::File(error))
    }
}

fn tell_all(waiting: Vec<(ShardId, Done)>, failure: &LogError) {
    for (_, done) in waiting {
        done.tell(Err(io::Error::other(failure.to_string())));
    }
}
