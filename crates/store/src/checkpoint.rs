//! The thread that moves committed pages from the WAL into the file, beside the writer.
//!
//! It has a connection of its own and runs PASSIVE checkpoints only, so it never makes the writer wait. It is asked by the
//! writer when the WAL has grown; asks that come while it works count as one. What it runs into is told at the next batch:
//! a failed sync of a state file ends the process like any other.
//!
//! The thread ends with the store: dropping closes the channel and waits.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use rusqlite::Connection;

use crate::{
    error::StoreError,
    opening::{checkpoint, connect},
    state_file::Shared,
};

/// The handle of the thread.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    asks: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let (asks, asked) = sync_channel(1);
        let theirs = shared.clone();
        let thread = Builder::new()
            .name(format!("checkpoint-{}", shared.shard))
            .spawn(move || run(&theirs, &asked))
            .map_err(|error| StoreError::io("start checkpoints of", &shared.path, error))?;
        Ok(Self { asks: Some(asks), thread: Some(thread) })
    }

    /// Asks for a checkpoint soon. One that is under way or asked for already will do.
    pub(crate) fn ask(&self) {
        let sent = self.asks.as_ref().map(|asks| asks.try_send(()));
        match sent {
            None | Some(Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) => {}
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told through the process's panic hook.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, asked: &Receiver<()>) {
    let mut connection: Option<Connection> = None;
    while asked.recv().is_ok() {
        if let Err(error) = once(shared, &mut connection) {
            *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return;
        }
    }
}

fn once(shared: &Shared, connection: &mut Option<Connection>) -> Result<(), StoreError> {
    let at = |fault: crate::error::Fault| fault.at(&shared.path, "checkpoint");
    let open = match connection {
        Some(open) => open,
        None => connection.insert(connect(&shared.path, true).map_err(at)?),
    };
    let before = shared.applied.load(Ordering::Acquire);
    match checkpoint(open, "PASSIVE").map_err(at) {
        Ok(true) => {
            shared.synced.fetch_max(before, Ordering::AcqRel);
            Ok(())
        }
        Ok(false) => Ok(()),
        // The file cannot grow now. Nothing is lost: the WAL still has the pages, and the writer meets the same disk.
        Err(StoreError::StorageFull { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
