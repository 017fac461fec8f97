//! Whether there is room on the disk for what clients ask.
//!
//! A reserve is kept back so that a full disk can heal: votes, new terms, follower appends, completions,
//! sweeps and purges may use it, client commands may not. The free space is looked at twice a second;
//! a write that was refused for lack of room counts at once, and until one succeeds.
//!
//! Absent on purpose: which entries may use the reserve. Whoever proposes says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tracing::{info, warn};

use statehouse_store::{NodeDir, StoreError};

use crate::options::Reserve;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is known about the room on this node's disk.
#[derive(Debug, Default)]
pub(crate) struct Room {
    is_low: AtomicBool,
    was_refused: AtomicBool,
}

impl Room {
    /// Returns whether client commands must be refused.
    pub(crate) fn is_full(&self) -> bool {
        self.is_low.load(Ordering::Relaxed) || self.was_refused.load(Ordering::Relaxed)
    }

    /// Notes that a write found no room; returns whether that is news.
    pub(crate) fn write_was_refused(&self) -> bool {
        !self.was_refused.swap(true, Ordering::Relaxed)
    }

    /// Notes that a write found room.
    pub(crate) fn write_succeeded(&self) {
        if self.was_refused.load(Ordering::Relaxed) {
            self.was_refused.store(false, Ordering::Relaxed);
        }
    }

    fn look(&self, data: &NodeDir, reserve: Reserve) -> Result<(), StoreError> {
        let reserve = match reserve {
            Reserve::Contract => data.reserve_bytes()?,
            Reserve::Bytes(bytes) => bytes,
        };
        let free = data.free_bytes()?;
        let is_low = free < reserve;
        if self.is_low.swap(is_low, Ordering::Relaxed) != is_low {
            if is_low {
                warn!(free, reserve, "the disk is nearly full: client commands are refused");
            } else {
                info!(free, reserve, "there is room on the disk again");
            }
        }
        Ok(())
    }
}

/// Looks at the free space now and from then on.
pub(crate) async fn watch(room: Arc<Room>, data: NodeDir, reserve: Reserve) -> JoinHandle<()> {
    let look = move |room: Arc<Room>, data: NodeDir| async move {
        let looked = tokio::task::spawn_blocking(move || room.look(&data, reserve)).await;
        if let Ok(Err(error)) = looked {
            warn!(%error, "the free space on the disk is not known");
        }
    };
    look(Arc::clone(&room), data.clone()).await;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            look(Arc::clone(&room), data.clone()).await;
        }
    })
}
