//! What a client needs to know, and why none could be made of it.
//!
//! Deliberately absent: defaults that name a server. Whoever makes a client says where its requests, and with them its
//! token, may go.

use std::time::Duration;

use crate::{retry::Budget, servers::SERVERS_MAX};

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base addresses, such as `http://127.0.0.1:7400`; at least one. Nothing is sent anywhere else.
    pub servers: Vec<String>,
    /// The bearer token, if one is needed.
    pub token: Option<String>,
    /// The tenant whose things the calls speak of.
    pub tenant: String,
    /// How long calls may take.
    pub budget: Budget,
    /// Certificates (PEM) of the only authority to trust; none trusts the platform's.
    pub authority_pem: Option<Vec<u8>>,
}

impl Options {
    /// Returns options for these servers, the tenant `default`, and a budget that gets a definite answer through a
    /// change of leader: 30 s in all, 10 s each.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            token: None,
            tenant: "default".to_owned(),
            budget: Budget {
                total: Duration::from_secs(30),
                attempt: Duration::from_secs(10),
                attempts_max: 64,
                unreached_max: 64,
            },
            authority_pem: None,
        }
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No server was given.
    #[error("no server was given")]
    NoServer,
    /// More servers were given than a client takes.
    #[error("{0} servers were given; a client takes at most {SERVERS_MAX}")]
    TooMany(usize),
    /// A server's address is not one.
    #[error("server address {0:?} does not begin with http:// or https://")]
    Address(String),
    /// The token cannot stand in a header.
    #[error("the token contains characters that a header cannot carry")]
    Token,
    /// The authority's certificates cannot be read.
    #[error("read the authority's certificates")]
    Authority(#[source] reqwest::Error),
    /// The HTTP client did not come up.
    #[error("build the HTTP client")]
    Http(#[source] reqwest::Error),
}
