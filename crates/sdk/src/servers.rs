//! Which server is asked: the one that leads the instance if that is known, else the one that answered last.
//!
//! A node that forwards a request says who leads, in `X-Statehouse-Leader`. That saves a hop and is worth no more than
//! that: every node takes every request, so a memory that is wrong or missing costs a hop and never an answer. What is
//! remembered is one small number for each of the 4,096 buckets, whichever shard they belong to.
//!
//! Deliberately absent: addresses that nobody gave. A hint chooses among the servers of the options and adds none: a
//! token goes where its owner sent it.
//!
//! Invariant: every index in the tables is below the number of servers.

use std::{
    sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use statehouse_contract::{Bucket, limits::BUCKETS};

/// How long a server that could not be reached is passed over while another can be asked.
const REST: Duration = Duration::from_secs(1);
/// Most servers of a client: more are a mistake, or a load balancer's work.
pub(crate) const SERVERS_MAX: usize = 64;
/// The entry of a bucket whose leader is not known.
const UNKNOWN: u16 = u16::MAX;

const _: () = assert!(SERVERS_MAX < UNKNOWN as usize);

/// Scheme, host and port of an address: what makes two addresses one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    is_secure: bool,
    host: Box<str>,
    port: u16,
}

impl Origin {
    /// Reads an address that begins with `http://` or `https://`; whatever follows the port does not count.
    pub fn parse(address: &str) -> Option<Self> {
        let (scheme, rest) = address.trim().split_once("://")?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A name and a password before the host are no part of a server, and we send none.
        if authority.contains('@') {
            return None;
        }
        let usual = if is_secure { 443 } else { 80 };
        // The colons of an IPv6 address stand within brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            Some(_) | None => (authority, usual),
        };
        if host.is_empty() {
            return None;
        }
        Some(Self { is_secure, host: host.to_ascii_lowercase().into(), port })
    }
}

/// The servers of a client and what is known of them. All of it is preference: any order of writes will do (Relaxed).
#[derive(Debug)]
pub(crate) struct Servers {
    bases: Vec<String>,
    origins: Vec<Option<Origin>>,
    current: AtomicUsize,
    /// Until when each is passed over, in milliseconds since `begun`.
    rests: Vec<AtomicU64>,
    /// For each bucket the server that leads it; empty with one server, where there is nothing to choose.
    leaders: Vec<AtomicU16>,
    begun: Instant,
}

impl Servers {
    /// Begins with nothing known. `bases` are base addresses without a slash at the end, at least one.
    pub(crate) fn new(bases: Vec<String>) -> Self {
        let buckets = if bases.len() > 1 { usize::from(BUCKETS) } else { 0 };
        Self {
            origins: bases.iter().map(|base| Origin::parse(base)).collect(),
            current: AtomicUsize::new(0),
            rests: bases.iter().map(|_| AtomicU64::new(0)).collect(),
            leaders: (0..buckets).map(|_| AtomicU16::new(UNKNOWN)).collect(),
            begun: Instant::now(),
            bases,
        }
    }

    /// Returns the base addresses, in the order given.
    pub(crate) fn bases(&self) -> &[String] {
        &self.bases
    }

    /// Returns a server's base address.
    pub(crate) fn base(&self, server: usize) -> &str {
        self.bases.get(server).map_or("", String::as_str)
    }

    /// Chooses the server for a request: the remembered one, else the current one and those after it.
    ///
    /// Those of `avoided` come only when there is no other, and so do those that rest.
    pub(crate) fn choose(&self, bucket: Option<Bucket>, avoided: &[usize]) -> usize {
        let now = self.now();
        let is_free = |server: &usize| {
            self.rests.get(*server).is_some_and(|until| until.load(Ordering::Relaxed) <= now)
        };
        let is_new = |server: &usize| !avoided.contains(server);
        let led = bucket.and_then(|bucket| self.leader(bucket));
        if let Some(server) = led.filter(|server| is_new(server) && is_free(server)) {
            return server;
        }
        let count = self.bases.len().max(1);
        let current = self.current.load(Ordering::Relaxed) % count;
        let round = || (0..count).map(|step| (current + step) % count);
        round()
            .find(|server| is_new(server) && is_free(server))
            .or_else(|| round().find(is_new))
            .unwrap_or(current)
    }

    /// Remembers the leader that an answer named, if it is one of ours.
    pub(crate) fn heed(&self, bucket: Option<Bucket>, hint: &str) {
        let Some(entry) = bucket.and_then(|bucket| self.entry(bucket)) else { return };
        let Some(named) = Origin::parse(hint) else { return };
        let known = self.origins.iter().position(|origin| origin.as_ref() == Some(&named));
        if let Some(server) = known.and_then(|server| u16::try_from(server).ok()) {
            entry.store(server, Ordering::Relaxed);
        }
    }

    /// Forgets that a server leads a bucket.
    pub(crate) fn forget(&self, bucket: Option<Bucket>, server: usize) {
        let Some(entry) = bucket.and_then(|bucket| self.entry(bucket)) else { return };
        let Ok(server) = u16::try_from(server) else { return };
        // Another call may have learned better in the meantime: then there is nothing to forget.
        let _ = entry.compare_exchange(server, UNKNOWN, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Passes a server over for a short time: no connection to it could be made, or it was silent.
    pub(crate) fn rest(&self, server: usize) {
        if let Some(until) = self.rests.get(server) {
            until.store(self.now().saturating_add(millis(REST)), Ordering::Relaxed);
        }
    }

    /// Turns away from a server, if it is the current one.
    pub(crate) fn turn_from(&self, server: usize) {
        let next = (server + 1) % self.bases.len().max(1);
        // Of many calls that failed at one server, the first one turns.
        let _ = self.current.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn leader(&self, bucket: Bucket) -> Option<usize> {
        let server = self.entry(bucket)?.load(Ordering::Relaxed);
        (server != UNKNOWN).then_some(usize::from(server))
    }

    fn entry(&self, bucket: Bucket) -> Option<&AtomicU16> {
        self.leaders.get(usize::from(bucket.number()))
    }

    fn now(&self) -> u64 {
        // From one: a server that never rested rests until nought.
        millis(self.begun.elapsed()).saturating_add(1)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Servers {
        let bases = [1, 2, 3].map(|port| format!("http://node:{port}"));
        Servers::new(bases.to_vec())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |one: &str, other: &str| Origin::parse(one) == Origin::parse(other);
        assert!(same("http://Node:80/", "HTTP://node"));
        assert!(same("https://node/v1?x=1", "https://node:443"));
        assert!(same("http://[::1]:7400", "http://[::1]:7400/"));
        assert!(same("http://[::1]", "http://[::1]:80"));
        assert!(!same("http://node:443", "https://node:443"));
        assert!(!same("http://node:7400", "http://node:7401"));
        assert!(!same("http://node:7400", "http://node.evil:7400"));
        for wrong in ["node:7400", "ftp://node", "http://", "http://a@node", "http://node:x"] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_remembered_server_comes_first_and_a_foreign_one_is_not_remembered() {
        let servers = three();
        let (here, there) = (Bucket::new(7), Bucket::new(8));
        assert_eq!(servers.choose(here, &[]), 0);
        servers.heed(here, "http://NODE:3/");
        assert_eq!((servers.choose(here, &[]), servers.choose(there, &[])), (2, 0));
        servers.heed(here, "http://node:4");
        servers.heed(here, "https://node:1");
        servers.heed(here, "nonsense");
        assert_eq!(servers.choose(here, &[]), 2);
        assert_eq!(servers.choose(here, &[2]), 0, "the one that failed is not asked again at once");
        servers.forget(here, 1);
        assert_eq!(servers.choose(here, &[]), 2, "another one was forgotten");
        servers.forget(here, 2);
        assert_eq!(servers.choose(here, &[]), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_rests_is_asked_when_there_is_no_other_or_its_rest_is_over() {
        let servers = three();
        servers.rest(0);
        assert_eq!(servers.choose(None, &[]), 1);
        assert_eq!(servers.choose(None, &[1, 2]), 0);
        servers.rest(1);
        servers.rest(2);
        assert_eq!(servers.choose(None, &[]), 0);
        assert_eq!(servers.choose(None, &[0, 1, 2]), 0);
        tokio::time::advance(REST).await;
        servers.rest(0);
        assert_eq!(servers.choose(None, &[]), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_at_one_server_turn_once() {
        let servers = three();
        servers.turn_from(0);
        servers.turn_from(0);
        assert_eq!(servers.choose(None, &[]), 1);
        servers.turn_from(1);
        servers.turn_from(2);
        assert_eq!(servers.choose(None, &[]), 0);
    }
}
