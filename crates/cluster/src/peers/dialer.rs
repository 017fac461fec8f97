//! Dialing one peer, as long as it is known: whenever there is no link, and never beside one.
//!
//! The node that sorts first dials, the other one waits to be dialled. Between two tries lies a pause that doubles from
//! 50 ms to 2 s, with jitter, so that a cluster that starts together does not knock in step. A link that lived longer than
//! the longest pause was a good one: the next try after it is quick again.
//!
//! Deliberately absent: giving up. Who is removed from the list of known nodes is not dialled any more.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use statehouse_contract::NodeId;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::{
    Shared,
    hello::{self, Hello, HelloError, Verdict},
};
use crate::socket::LinkError;

/// The same trouble is told again after this time.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// Why a dial led to no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Hello(#[from] HelloError),
}

impl DialError {
    // Whether it is the normal course of a cluster that starts or stops.
    fn is_expected(&self) -> bool {
        let expected = [Verdict::Leaving, Verdict::Occupied, Verdict::Unready];
        match self {
            Self::Link(LinkError::Refused { .. }) => true,
            Self::Hello(HelloError::RefusedThere(verdict)) => expected.contains(verdict),
            Self::Link(_) | Self::Hello(_) => false,
        }
    }
}

/// Dials a peer for ever; ended by its task's end.
pub(super) async fn keep(shared: Arc<Shared>, peer: NodeId, address: String) {
    let mut pause = shared.timings.redial_min;
    let mut said: Option<(String, Instant)> = None;
    loop {
        shared.book.gone(peer.number).await;
        let began = Instant::now();
        match dial(&shared, peer, &address).await {
            Ok(()) => {
                shared.book.gone(peer.number).await;
                if began.elapsed() > shared.timings.redial_max {
                    (pause, said) = (shared.timings.redial_min, None);
                }
            }
            Err(error) => {
                let text = error.to_string();
                let is_told = said
                    .as_ref()
                    .is_some_and(|(before, at)| *before == text && at.elapsed() < REPEATED_AFTER);
                if is_told || error.is_expected() {
                    debug!(%peer, address, %error, "no link yet");
                } else {
                    warn!(%peer, address, %error, "no link with a node; it is tried again");
                    said = Some((text, Instant::now()));
                }
            }
        }
        sleep(jitter(pause)).await;
        pause = (pause * 2).min(shared.timings.redial_max);
    }
}

async fn dial(shared: &Arc<Shared>, peer: NodeId, address: &str) -> Result<(), DialError> {
    let mut socket = shared.wire.dial(address, peer.number).await?;
    hello::offer(&mut socket, Hello::new(shared.cluster, shared.own, peer)).await?;
    match shared.hand_over(socket, peer, super::Side::Dialled) {
        true => Ok(()),
        false => Err(HelloError::Refused(Verdict::Occupied).into()),
    }
}

// Between half of it and all of it.
fn jitter(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 1_000;
    pause / 2 + pause.mul_f64(chance as f64 / 2_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_varies_by_half() {
        let pause = Duration::from_millis(100);
        let pauses: Vec<_> = (0..200).map(|_| jitter(pause)).collect();
        assert!(pauses.iter().all(|found| (pause / 2..=pause).contains(found)));
        assert!(pauses.iter().any(|found| *found != pauses[0]));
    }
}
