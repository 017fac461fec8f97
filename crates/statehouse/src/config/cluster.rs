//! How a node is part of a cluster: its two addresses for other nodes, whom it asks first, how they prove who they are.
//!
//! Deliberately absent: the list of members. The cluster keeps it; these settings are only the way to it.
//!
//! Invariant: settings that passed `check` have both addresses or neither, and off loopback they have certificates.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use statehouse_contract::limits;

use super::{ConfigError, Settings};

/// How the node is part of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterSettings {
    /// Where its node links listen; `None` = a node alone.
    pub(crate) links: Option<SocketAddr>,
    /// Where its log listens.
    pub(crate) log: Option<SocketAddr>,
    /// The address of the links that others see; `None` = where they listen.
    pub(crate) advertise_links: Option<String>,
    /// The address of the log that others see; `None` = where it listens.
    pub(crate) advertise_log: Option<String>,
    /// Members that are asked when the node joins: `number=host:port` of their logs, separated by commas.
    pub(crate) seeds: Option<String>,
    /// The file with the cluster's cookie.
    pub(crate) cookie_file: Option<PathBuf>,
    /// The file with the certificate of the authority that all nodes trust.
    pub(crate) tls_authority: Option<PathBuf>,
    /// The file with the node's certificate.
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The file with the certificate's private key.
    pub(crate) tls_private_key: Option<PathBuf>,
    /// Whether nodes on one machine may talk in plain text over loopback.
    pub(crate) insecure_loopback: bool,
    /// How far apart the nodes are.
    pub(crate) profile: Distance,
    /// Entries of a shard after which a snapshot is made.
    pub(crate) snapshot_every: u64,
    /// A file with faults to inject into the connections, for tests.
    pub(crate) faults_file: Option<PathBuf>,
}

/// How far apart the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distance {
    /// In one place.
    Local,
    /// In several regions.
    Regions,
}

/// Keys that have no default.
pub(super) const OPTIONAL: [&str; 10] = [
    "cluster.links",
    "cluster.log",
    "cluster.advertise_links",
    "cluster.advertise_log",
    "cluster.seeds",
    "cluster.cookie_file",
    "cluster.tls_authority",
    "cluster.tls_certificate",
    "cluster.tls_private_key",
    "cluster.faults_file",
];

/// Checks one rule: whether it holds, the key, and what is wrong if not.
type Rule<'a> = &'a dyn Fn(bool, &'static str, String) -> Result<(), ConfigError>;

/// Returns whether a text is `host:port`.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

impl ClusterSettings {
    /// Returns the addresses; nothing for a node alone.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.links.zip(self.log)
    }

    /// Reads the seeds.
    pub(crate) fn seeds(&self) -> Result<Vec<(u32, String)>, String> {
        let Some(text) = &self.seeds else { return Ok(Vec::new()) };
        let one = |part: &str| {
            let read = || {
                let (number, address) = part.trim().split_once('=')?;
                let (_, port) = address.rsplit_once(':')?;
                port.parse::<u16>().ok()?;
                Some((number.trim().parse().ok()?, address.trim().to_owned()))
            };
            read().ok_or_else(|| format!("{part:?} is no number=host:port, such as 1=node-1:7600"))
        };
        text.split(',').map(one).collect()
    }

    pub(super) fn check(&self, settings: &Settings, rule: Rule<'_>) -> Result<(), ConfigError> {
        let both = "the node links and the log each need an address: set both, or neither for a node alone";
        rule(self.links.is_some() || self.log.is_none(), "cluster.links", both.to_owned())?;
        rule(self.log.is_some() || self.links.is_none(), "cluster.log", both.to_owned())?;
        let seeds = self.seeds();
        rule(seeds.is_ok(), "cluster.seeds", seeds.err().unwrap_or_default())?;
        let bounds = limits::SNAPSHOT_EVERY_ENTRIES_MIN..=limits::SNAPSHOT_EVERY_ENTRIES_MAX;
        rule(
            bounds.contains(&self.snapshot_every),
            "cluster.snapshot_every",
            format!("{} is not within {} to {}", self.snapshot_every, bounds.start(), bounds.end()),
        )?;
        let Some((links, log)) = self.addresses() else {
            return rule(
                settings.node.number == 1,
                "node.number",
                format!(
                    "{} is not 1, and a node alone is node 1: set `cluster.links` and `cluster.log`",
                    settings.node.number
                ),
            );
        };
        for (key, listen, advertised) in [
            ("cluster.links", links, &self.advertise_links),
            ("cluster.log", log, &self.advertise_log),
        ] {
            let what = advertised.as_deref().unwrap_or_default();
            rule(
                advertised.is_some() || !listen.ip().is_unspecified(),
                key,
                format!(
                    "{listen} is every address of this machine, and others must be told one: set `cluster.advertise_{}`",
                    key.trim_start_matches("cluster.")
                ),
            )?;
            rule(
                advertised.is_none() || is_host_and_port(what),
                key,
                format!("{what:?} is advertised and is not host:port, such as node-1.example:7500"),
            )?;
        }
        rule(
            self.cookie_file.is_some(),
            "cluster.cookie_file",
            "every node of a cluster has the same cookie: `statehouse cluster certs` makes one"
                .to_owned(),
        )?;
        let files = [&self.tls_authority, &self.tls_certificate, &self.tls_private_key];
        let given = files.iter().filter(|file| file.is_some()).count();
        let three = "`cluster.tls_authority`, `cluster.tls_certificate` and `cluster.tls_private_key` belong together: \
                     set all three (`statehouse cluster certs` makes them), or none of them with `cluster.insecure_loopback`";
        rule(given == 0 || given == 3, "cluster.tls_certificate", three.to_owned())?;
        if given == 3 {
            return rule(
                !self.insecure_loopback,
                "cluster.insecure_loopback",
                "there are certificates: plain text is not needed".to_owned(),
            );
        }
        rule(
            self.insecure_loopback,
            "cluster.tls_certificate",
            "nodes prove who they are by certificates: `statehouse cluster certs` makes them; on one machine alone, \
             --insecure-loopback does without"
                .to_owned(),
        )?;
        for (key, address) in [("cluster.links", links), ("cluster.log", log)] {
            rule(
                address.ip().is_loopback(),
                key,
                format!(
                    "{address} is not loopback, and plain text between nodes stays on one machine"
                ),
            )?;
        }
        Ok(())
    }
}
