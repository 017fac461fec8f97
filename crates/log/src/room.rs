//! Whether there is room on the disk for what clients ask.
//!
//! A disk fills in stages: first no snapshots are made, then no instances are started, then clients' commands are refused.
//! The reserve below that is kept back so that a full disk can heal: votes, new terms, follower appends, completions,
//! sweeps and purges may use it. The free space is looked at twice a second; a write that was refused for lack of room
//! counts at once as the last stage, and until one succeeds.
//!
//! Absent on purpose: what an entry is. Whoever proposes says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tracing::{info, warn};

use statehouse_contract::limits::DISK_STAGE_BYTES;
use statehouse_store::{NodeDir, StoreError};

use crate::{options::Reserve, proposal::Urgency};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// From this stage on no snapshot is made of its own accord.
const NO_SNAPSHOTS: u8 = 1;
/// From this stage on no instance is started.
const NO_STARTS: u8 = 2;
/// From this stage on clients' commands are refused.
const NO_COMMANDS: u8 = 3;

/// Returns the stage that so much free space is.
fn stage(free: u64, reserve: u64) -> u8 {
    let above = free.checked_sub(reserve).map(|above| above / DISK_STAGE_BYTES);
    match above {
        None => NO_COMMANDS,
        Some(0) => NO_STARTS,
        Some(1) => NO_SNAPSHOTS,
        Some(_) => 0,
    }
}

/// What is known about the room on this node's disk.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// How many stages have been reached.
    stage: AtomicU8,
    was_refused: AtomicBool,
    /// Free bytes above the reserve, when they were last looked at.
    above: AtomicU64,
}

impl Room {
    /// Returns whether client commands must be refused.
    pub(crate) fn is_full(&self) -> bool {
        !self.takes(Urgency::Client)
    }

    /// Returns the free bytes above the reserve, as they were looked at last.
    pub(crate) fn free_above(&self) -> u64 {
        self.above.load(Ordering::Relaxed)
    }

    /// Returns how many stages have been reached.
    pub(crate) fn stage_now(&self) -> u8 {
        self.stage()
    }

    /// Returns whether an entry may use what is left.
    pub(crate) fn takes(&self, urgency: Urgency) -> bool {
        match urgency {
            Urgency::Start => self.stage() < NO_STARTS,
            Urgency::Client => self.stage() < NO_COMMANDS,
            Urgency::Healing => true,
        }
    }

    /// Returns whether a snapshot may use what is left, if it is not asked for.
    pub(crate) fn takes_snapshots(&self) -> bool {
        self.stage() < NO_SNAPSHOTS
    }

    /// Returns whether a copy of a shard may come in: while it is put in place there are two of it.
    pub(crate) fn takes_copy(&self, bytes: u64) -> bool {
        self.above.load(Ordering::Relaxed) >= bytes.saturating_mul(2)
    }

    fn stage(&self) -> u8 {
        match self.was_refused.load(Ordering::Relaxed) {
            true => NO_COMMANDS,
            false => self.stage.load(Ordering::Relaxed),
        }
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
        self.note(data.free_bytes()?, reserve);
        Ok(())
    }

    pub(crate) fn note(&self, free: u64, reserve: u64) {
        self.above.store(free.saturating_sub(reserve), Ordering::Relaxed);
        let stage = stage(free, reserve);
        let before = self.stage.swap(stage, Ordering::Relaxed);
        if stage == before {
            return;
        }
        match stage {
            NO_COMMANDS => warn!(free, reserve, "the disk is nearly full: commands are refused"),
            NO_STARTS => warn!(free, reserve, "the disk is filling up: no instance is started"),
            NO_SNAPSHOTS => warn!(free, reserve, "the disk is filling up: no snapshot is made"),
            _ => info!(free, reserve, "there is room on the disk again"),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_stops_snapshots_then_starts_then_commands_and_never_what_heals() {
        const STEP: u64 = DISK_STAGE_BYTES;
        let room = Room::default();
        let taken = || {
            let kinds = [Urgency::Start, Urgency::Client, Urgency::Healing];
            (room.takes_snapshots(), kinds.map(|kind| room.takes(kind)))
        };
        let reserve = 7 * STEP;
        for (free, expected) in [
            (reserve + 2 * STEP, (true, [true, true, true])),
            (reserve + 2 * STEP - 1, (false, [true, true, true])),
            (reserve + STEP, (false, [true, true, true])),
            (reserve + STEP - 1, (false, [false, true, true])),
            (reserve, (false, [false, true, true])),
            (reserve - 1, (false, [false, false, true])),
            (0, (false, [false, false, true])),
            (u64::MAX, (true, [true, true, true])),
        ] {
            room.note(free, reserve);
            assert_eq!(taken(), expected, "{free} bytes are free");
        }
        assert!(room.write_was_refused());
        assert_eq!(
            taken(),
            (false, [false, false, true]),
            "what was met counts, not what was seen"
        );
        room.write_succeeded();
        assert_eq!(taken(), (true, [true, true, true]));
    }
}
