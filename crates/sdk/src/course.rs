//! The way of one call through the servers: where it has been, and where it goes next.
//!
//! A round asks each server at most once. Where no connection could be made nothing was sent, so the next server is
//! asked at once; only when a round is over, or a server answered, is it the backoff's turn to say when.
//!
//! Deliberately absent: waiting and counting, which the call does, and what is known of the servers beyond this call.

use statehouse_contract::Bucket;

use crate::servers::Servers;

/// One call's way.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    bucket: Option<Bucket>,
    /// Servers that failed in this round.
    avoided: Vec<usize>,
    /// Every server that was asked, once, in order.
    tried: Vec<usize>,
}

impl Course {
    /// Begins a call about an instance of this bucket, or about none.
    pub(crate) const fn new(bucket: Option<Bucket>) -> Self {
        Self { bucket, avoided: Vec::new(), tried: Vec::new() }
    }

    /// Returns the server to ask now.
    pub(crate) fn next(&mut self, servers: &Servers) -> usize {
        let server = servers.choose(self.bucket, &self.avoided);
        if !self.tried.contains(&server) {
            self.tried.push(server);
        }
        server
    }

    /// Takes the leader that an answer named.
    pub(crate) fn heed(&self, servers: &Servers, hint: &str) {
        servers.heed(self.bucket, hint);
    }

    /// Passes over a server to which no connection could be made. Returns whether another one is left in this round; if
    /// none is, the next round begins.
    pub(crate) fn passes_over(&mut self, servers: &Servers, server: usize) -> bool {
        servers.rest(server);
        servers.forget(self.bucket, server);
        servers.turn_from(server);
        self.avoided.push(server);
        let has_more = self.avoided.len() < servers.bases().len();
        if !has_more {
            self.avoided.clear();
        }
        has_more
    }

    /// The server was asked and does not lead, or broke, or was silent.
    pub(crate) fn failed(&mut self, servers: &Servers, server: usize) {
        servers.forget(self.bucket, server);
        self.busy(servers, server);
    }

    /// The server was asked and has no room: it may be the right one all the same.
    pub(crate) fn busy(&mut self, servers: &Servers, server: usize) {
        servers.turn_from(server);
        self.avoided.clear();
        self.avoided.push(server);
    }

    /// The server serves: whoever failed before may be asked again.
    pub(crate) fn served(&mut self) {
        self.avoided.clear();
    }

    /// Returns the addresses of all servers that were asked.
    pub(crate) fn tried(&self, servers: &Servers) -> Vec<String> {
        self.tried.iter().map(|server| servers.base(*server).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_asks_each_server_once_and_then_begins_again() {
        let servers = Servers::new([1, 2, 3].map(|port| format!("http://n:{port}")).to_vec());
        let mut course = Course::new(Bucket::new(5));
        course.heed(&servers, "http://n:2");
        let mut asked = Vec::new();
        for is_more_expected in [true, true, false, true] {
            let server = course.next(&servers);
            asked.push(server);
            assert_eq!(course.passes_over(&servers, server), is_more_expected, "{asked:?}");
        }
        let mut round = asked[..3].to_vec();
        round.sort_unstable();
        assert_eq!((asked[0], round.as_slice()), (1, [0, 1, 2].as_slice()));
        assert_eq!(course.tried(&servers).len(), 3);
    }

    #[test]
    fn a_busy_leader_stays_remembered_and_a_silent_one_does_not() {
        let servers = Servers::new([1, 2].map(|port| format!("http://n:{port}")).to_vec());
        let bucket = Bucket::new(5);
        let mut course = Course::new(bucket);
        course.heed(&servers, "http://n:2");
        course.busy(&servers, 1);
        assert_eq!((course.next(&servers), servers.choose(bucket, &[])), (0, 1));
        course.failed(&servers, 1);
        assert_eq!((course.next(&servers), servers.choose(bucket, &[])), (0, 0));
        course.failed(&servers, 0);
        course.served();
        assert_eq!(course.next(&servers), servers.choose(bucket, &[]));
    }
}
