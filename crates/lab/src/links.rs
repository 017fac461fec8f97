//! The servers of a load run, and one client's connections to them: at most one to each, kept alive.
//!
//! A client begins at a server of its own, so that clients are spread. It goes where an answer says that the instance
//! is led, if that is one of the servers of the run, and leaves a server that takes no connection or breaks one.
//!
//! Deliberately absent: anything for a run with one server. It reads no hints and never moves.

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use statehouse_sdk::Origin;
use tokio::time::timeout;

use crate::{
    http::{Broken, Connection},
    trust::Trust,
};

/// How long a connection may take where another server can be asked instead.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Names the leader of the instance, in an answer of a node that is not it.
const LEADER: &str = "x-statehouse-leader";
/// How the address of a server begins that speaks TLS.
pub(crate) const TLS: &str = "https://";
/// A home that is not known.
const UNKNOWN: u16 = u16::MAX;

/// The servers of a run.
#[derive(Debug)]
pub(crate) struct Places {
    /// `host:port` of each.
    hosts: Vec<String>,
    origins: Vec<Option<Origin>>,
    /// Which of them speak TLS, and whom to trust there.
    is_tls: Vec<bool>,
    trust: Option<Trust>,
}

impl Places {
    /// Reads base addresses, `http://host:port` or `https://host:port`.
    pub(crate) fn new(servers: &[String], trust: Option<Trust>) -> Self {
        let host = |server: &String| {
            let rest = server.split_once("://").map_or(server.as_str(), |(_, rest)| rest);
            rest.trim_end_matches('/').to_owned()
        };
        Self {
            hosts: servers.iter().map(host).collect(),
            origins: servers.iter().map(|server| Origin::parse(server)).collect(),
            is_tls: servers.iter().map(|server| server.starts_with(TLS)).collect(),
            trust,
        }
    }

    /// Connects to a server.
    async fn open(&self, server: usize) -> Result<Connection, Broken> {
        let address = self.host(server);
        let is_tls = self.is_tls.get(server).is_some_and(|is_tls| *is_tls);
        match self.trust.as_ref().filter(|_| is_tls) {
            Some(trust) => Connection::open_tls(address, trust).await,
            None => Connection::open(address).await,
        }
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.hosts.len()
    }

    /// Returns a server's `host:port`.
    pub(crate) fn host(&self, server: usize) -> &str {
        self.hosts.get(server).map_or("", String::as_str)
    }

    /// Returns the server after one.
    pub(crate) fn after(&self, server: usize) -> usize {
        (server + 1) % self.count().max(1)
    }

    fn find(&self, hint: &str) -> Option<usize> {
        let named = Origin::parse(hint)?;
        self.origins.iter().position(|origin| origin.as_ref() == Some(&named))
    }
}

/// Which server leads each of the instances that are read in turn. Preference only: any order of writes will do.
#[derive(Debug, Default)]
pub(crate) struct Homes(Vec<AtomicU16>);

impl Homes {
    /// Begins with nothing known of so many instances.
    pub(crate) fn new(instances: u32) -> Self {
        Self((0..instances).map(|_| AtomicU16::new(UNKNOWN)).collect())
    }

    /// Returns the server of an instance.
    pub(crate) fn get(&self, number: u64) -> Option<usize> {
        let server = self.0.get(usize::try_from(number).ok()?)?.load(Ordering::Relaxed);
        (server != UNKNOWN).then_some(usize::from(server))
    }

    /// Remembers the server of an instance.
    pub(crate) fn set(&self, number: u64, server: Option<usize>) {
        let place = usize::try_from(number).ok().and_then(|number| self.0.get(number));
        if let Some(place) = place {
            let server = server.and_then(|server| u16::try_from(server).ok()).unwrap_or(UNKNOWN);
            place.store(server, Ordering::Relaxed);
        }
    }
}

/// One client's connections.
#[derive(Debug)]
pub(crate) struct Links {
    home: usize,
    open: Vec<Option<Connection>>,
}

impl Links {
    /// Begins without connections, at a server that follows from the client's number.
    pub(crate) fn new(places: &Places, number: u64) -> Self {
        let home = usize::try_from(number).unwrap_or(0) % places.count().max(1);
        Self { home, open: (0..places.count()).map(|_| None).collect() }
    }

    /// Returns the server to ask about an instance of which nothing is known.
    pub(crate) const fn home(&self) -> usize {
        self.home
    }

    /// Moves away from a server, if this is its home.
    pub(crate) fn leave(&mut self, places: &Places, server: usize) {
        if self.home == server {
            self.home = places.after(server);
        }
    }

    /// Returns the connection that holds the last answer of a server.
    pub(crate) fn last(&self, server: usize) -> Option<&Connection> {
        self.open.get(server)?.as_ref()
    }

    /// Returns the leader that the last answer of a server named, if it is one of ours.
    pub(crate) fn hint(&self, places: &Places, server: usize) -> Option<usize> {
        places.find(self.last(server)?.header(LEADER)?)
    }

    /// Sends a request to a server; the answer stays in the connection. No error means that it came too late.
    pub(crate) async fn exchange(
        &mut self,
        places: &Places,
        server: usize,
        request: &[u8],
        limit: Duration,
    ) -> Result<u16, Option<Broken>> {
        let kept = self.open.get_mut(server).and_then(Option::take);
        let mut connection = match kept {
            Some(connection) if !connection.is_last() && connection.is_open() => connection,
            Some(_) | None => {
                let address = places.host(server);
                let limit = if places.count() > 1 { limit.min(CONNECT_MAX) } else { limit };
                let opened = timeout(limit, places.open(server)).await.unwrap_or_else(|_| {
                    let source = std::io::ErrorKind::TimedOut.into();
                    Err(Broken::Connect { address: address.to_owned(), source })
                });
                opened.map_err(Some)?
            }
        };
        let status = timeout(limit, connection.exchange(request)).await.map_err(|_| None)?;
        let status = status.map_err(Some)?;
        if let Some(place) = self.open.get_mut(server) {
            *place = Some(connection);
        }
        Ok(status)
    }
}
