//! What is said about strangers at the door: one line a minute for each address and kind of trouble.
//!
//! Whoever reaches the port can make a handshake fail as often as they like. The log must not become the outage, so
//! a repeat within a minute is only counted, and the count is told with the next line.
//!
//! Deliberately absent: blocking an address. A node behind the same address as a stranger must still get in.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

/// How long a repeat is only counted.
const QUIET: Duration = Duration::from_secs(60);
/// How many pairs of address and kind are remembered; beyond them all share one line.
const REMEMBERED_MAX: usize = 1_024;

/// A kind of trouble, for the log.
pub(crate) type Kind = &'static str;

struct Said {
    at: Instant,
    since: u64,
}

/// Remembers what was said about whom.
#[derive(Default)]
pub(crate) struct Refusals {
    said: Mutex<HashMap<(Option<IpAddr>, Kind), Said>>,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").finish_non_exhaustive()
    }
}

impl Refusals {
    /// Logs a refused connection, unless the same was said within a minute.
    pub(crate) fn log(&self, remote: IpAddr, kind: Kind, reason: &dyn fmt::Display) {
        if let Some(unsaid) = self.turn(remote, kind, Instant::now()) {
            warn!(%remote, kind, %reason, unsaid, "a connection of a node was refused");
        }
    }

    // Returns how many were not told, if this one is to be told.
    fn turn(&self, remote: IpAddr, kind: Kind, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (Some(remote), kind);
        if said.len() >= REMEMBERED_MAX && !said.contains_key(&key) {
            said.retain(|_, said| now.duration_since(said.at) < QUIET);
            if said.len() >= REMEMBERED_MAX {
                key.0 = None;
            }
        }
        match said.get_mut(&key) {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.since += 1;
                None
            }
            Some(said) => {
                let unsaid = std::mem::take(&mut said.since);
                said.at = now;
                Some(unsaid)
            }
            None => {
                said.insert(key, Said { at: now, since: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn a_repeat_within_a_minute_is_counted_and_told_later() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.turn(ONE, "tls", now), Some(0));
        assert_eq!(refusals.turn(ONE, "tls", now), None);
        assert_eq!(refusals.turn(ONE, "tls", now + QUIET / 2), None);
        assert_eq!(refusals.turn(ONE, "hello", now), Some(0));
        assert_eq!(refusals.turn(ONE, "tls", now + QUIET), Some(2));
    }

    #[test]
    fn a_flood_of_addresses_is_not_remembered_one_by_one() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let told = (0..10_000_u32)
            .filter(|address| {
                refusals.turn(IpAddr::from(address.to_be_bytes()), "tls", now).is_some()
            })
            .count();
        assert_eq!(told, REMEMBERED_MAX + 1);
        assert!(refusals.said.lock().unwrap().len() <= REMEMBERED_MAX + 1);
        // A minute later the room is free again.
        assert_eq!(refusals.turn(ONE, "tls", now + QUIET), Some(0));
        assert_eq!(refusals.said.lock().unwrap().len(), 1);
    }
}
