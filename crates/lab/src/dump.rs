//! The end of a history: what every living node holds, passed through as the nodes tell it.
//!
//! The lines are not understood here. A server that lies about its own log would lie to a parser too; only the judge,
//! which sees the other nodes and the clients, can tell. Before anything is read, the nodes get a while to apply what
//! they have committed, so that their copies can be compared at one position.
//!
//! A node that does not answer is named and left out: a drill whose rules want every node looks at the names.
//!
//! Invariant: the `end` line is written only after every dump of every living node was read to its end. A history
//! without it is undecided.

use std::{collections::BTreeSet, io, time::Duration};

use bytes::Bytes;
use statehouse_sdk::{CallError, Client, LineError};
use tokio::time::Instant;

use crate::{
    history::Recorder,
    survey::{Patience, Sighting, survey, uneven},
};

/// A node that was killed a moment ago is back within a few of these.
const PAUSE: Duration = Duration::from_millis(500);
const ATTEMPTS_MAX: u32 = 20;
/// How long the living nodes may take until they have applied equally far.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// Time between two looks at how far they are.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// Why a dump is not complete.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// No node told its shards, or one refused to.
    #[error("ask a node for its shards")]
    Cluster(#[source] CallError),
    /// A node's answer names no shards.
    #[error("a node named no shards")]
    NoShards,
    /// A node refused a dump.
    #[error("ask for the dump of shard {shard}")]
    Refused {
        /// The shard.
        shard: u32,
        /// What was answered.
        #[source]
        source: CallError,
    },
    /// A dump broke off.
    #[error("read the dump of shard {shard}")]
    Broken {
        /// The shard.
        shard: u32,
        /// What happened.
        #[source]
        source: LineError,
    },
    /// The history could not be written.
    #[error("write the history")]
    Write(#[source] io::Error),
}

/// What the nodes told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Lines that were added to the history.
    pub lines: u64,
    /// The addresses of nodes that did not answer; what only they hold is not in the history.
    pub absent: Vec<String>,
    /// Shards whose copies still stood at different positions when the time to settle was over.
    pub uneven: Vec<u32>,
}

/// Adds to a history every entry that the living nodes hold; each client speaks to one node.
///
/// # Errors
/// A node refused to tell, or none answered.
pub async fn dump(recorder: &Recorder, nodes: &[Client]) -> Result<Dumped, DumpError> {
    let mut dumped = Dumped::default();
    let (mut living, mut seen) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    let mut last = None;
    for (node, answer) in nodes.iter().zip(survey(nodes, Patience::UntilBack).await) {
        match answer {
            // Two addresses of one node are one node.
            Ok(sighting) if !sighting.node.is_empty() && !names.insert(sighting.node.clone()) => (),
            Ok(sighting) => {
                living.push(node.clone());
                seen.push(sighting);
            }
            Err(refused @ CallError::Rejected(_)) => return Err(DumpError::Cluster(refused)),
            Err(error) => {
                dumped.absent.extend(node.servers().iter().cloned());
                last = Some(DumpError::Cluster(error));
            }
        }
    }
    settle(&living, &mut seen).await;
    dumped.uneven = uneven(&seen);
    let mut told = 0;
    for (node, seen) in living.iter().zip(seen) {
        if seen.shards.is_empty() {
            return Err(DumpError::NoShards);
        }
        match all(recorder, node, &seen).await {
            Ok(lines) => {
                dumped.lines += lines;
                told += 1;
            }
            Err(refused @ DumpError::Refused { source: CallError::Rejected(_), .. }) => {
                return Err(refused);
            }
            Err(error) => {
                dumped.absent.extend(node.servers().iter().cloned());
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if told == 0 => Err(error),
        Some(_) | None => Ok(dumped),
    }
}

/// Waits until the nodes have applied equally far, or the time for it is over; `seen` is the last look.
async fn settle(nodes: &[Client], seen: &mut [Sighting]) {
    let begun = Instant::now();
    while !uneven(seen).is_empty() && begun.elapsed() < SETTLE_MAX {
        tokio::time::sleep(SETTLE_PAUSE).await;
        for (seen, answer) in seen.iter_mut().zip(survey(nodes, Patience::Once).await) {
            // A node that falls silent now keeps its last word; its dump will show whether it lives.
            if let Ok(answer) = answer {
                *seen = answer;
            }
        }
    }
}

/// Adds every shard of one node.
async fn all(recorder: &Recorder, node: &Client, seen: &Sighting) -> Result<u64, DumpError> {
    let mut total = 0;
    for shard in seen.shards.keys() {
        let lines = whole(node, *shard).await?;
        lines.iter().for_each(|line| recorder.raw(line));
        total += lines.len() as u64;
    }
    Ok(total)
}

/// Reads a shard's dump to its end before any of it counts; one that breaks off is asked for again.
async fn whole(node: &Client, shard: u32) -> Result<Vec<Bytes>, DumpError> {
    let mut attempt = 1;
    loop {
        match once(node, shard).await {
            Ok(lines) => return Ok(lines),
            Err(DumpError::Refused { shard, source: source @ CallError::Rejected(_) }) => {
                return Err(DumpError::Refused { shard, source });
            }
            Err(error) if attempt >= ATTEMPTS_MAX => return Err(error),
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                attempt += 1;
            }
        }
    }
}

async fn once(node: &Client, shard: u32) -> Result<Vec<Bytes>, DumpError> {
    let refused = |source| DumpError::Refused { shard, source };
    let broken = |source| DumpError::Broken { shard, source };
    let mut from = node.dump(shard).await.map_err(refused)?;
    let mut lines = Vec::new();
    while let Some(line) = from.next().await.map_err(broken)? {
        if !line.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Completes a history: the dumps of all living nodes, then the end.
///
/// # Errors
/// A node refused to tell, none answered, or the file could not be written; then no end is written.
pub async fn finish(
    recorder: &Recorder,
    nodes: &[Client],
    grace_ms: u64,
    skew_ms: u64,
) -> Result<Dumped, DumpError> {
    let dumped = dump(recorder, nodes).await?;
    recorder.end(grace_ms, skew_ms);
    recorder.flush().map_err(DumpError::Write)?;
    Ok(dumped)
}
