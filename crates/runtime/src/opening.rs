//! What a new leader does before it speaks.
//!
//! It proposes `TermOpened`. When that is applied, everything before it is applied too, so the rows that this leader reads
//! from then on hold every receipt that was ever given. Only then do its gateway and organs start.
//!
//! Absent on purpose: reading the rows into memory. Instances wake when they are asked for or due.

use std::{sync::Arc, time::Duration};

use statehouse_contract::limits::LEASE_FLOOR_MS;
use statehouse_store::{Body, Entry};
use tracing::warn;

use crate::reign::{Proposed, Reign};

/// Pause before the opening is proposed again.
const AGAIN: Duration = Duration::from_millis(20);

/// How the opening ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The reign has begun.
    Yes,
    /// The reign is over before it began.
    Over,
}

/// Begins a reign.
pub(crate) async fn open(reign: &Arc<Reign>) -> Opened {
    let mut is_told = false;
    loop {
        // A majority has elected this leader, so a majority is there to be asked for the time.
        if !reign.seat().ground().clock.is_set() {
            if !reign.is_leading() {
                return Opened::Over;
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        // Shard time never goes back, also when this node's clock stands behind its predecessor's.
        if let Err(why) = reign.read_time() {
            if !reign.is_leading() {
                return Opened::Over;
            }
            // A shard that is led and not open helps nobody. Damaged rows end the reign by themselves; what else keeps them
            // from being read may pass.
            if !std::mem::replace(&mut is_told, true) {
                warn!(shard = %reign.shard(), %why, "the rows cannot be read yet");
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        // Live leases live on for a while, because heartbeats may have been lost with the leader.
        let body = Body::TermOpened { lease_floor_ms: LEASE_FLOOR_MS };
        let entry = Entry { header: reign.system_header(), body };
        match reign.propose_healing(entry).await {
            Proposed::Applied(_) => return Opened::Yes,
            // Opening twice is harmless; what counts is that one opening of this term is applied.
            Proposed::Unknown | Proposed::Refused(_) if reign.is_leading() => {
                tokio::time::sleep(AGAIN).await;
            }
            Proposed::Unknown
            | Proposed::Refused(_)
            | Proposed::Fenced
            | Proposed::KeyReused
            | Proposed::Known(_) => return Opened::Over,
        }
    }
}
