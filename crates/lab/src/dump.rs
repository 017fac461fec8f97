//! The end of a history: what every node holds, passed through as the nodes tell it.
//!
//! The lines are not understood here. A server that lies about its own log would lie to a parser too; only the judge,
//! which sees the other nodes and the clients, can tell.
//!
//! Invariant: the `end` line is written only after every dump of every node was read to its end. A history without it
//! is undecided.

use std::{io, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use statehouse_sdk::{CallError, Client, LineError};

use crate::history::Recorder;

/// A node that was killed a moment ago is back within a few of these.
const PAUSE: Duration = Duration::from_millis(500);
const ATTEMPTS_MAX: u32 = 20;

/// Why a dump is not complete.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// A node did not tell its shards.
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

/// Adds to a history every entry that these nodes hold; each client speaks to one node. Returns the number of lines.
///
/// # Errors
/// A node did not tell everything.
pub async fn dump(recorder: &Recorder, nodes: &[Client]) -> Result<u64, DumpError> {
    let mut total = 0;
    for node in nodes {
        let answer = node.cluster().await.done().map_err(DumpError::Cluster)?.json();
        let shards = answer.get("shards").and_then(Value::as_array).ok_or(DumpError::NoShards)?;
        let numbers =
            shards.iter().filter_map(|shard| shard.get("shard").unwrap_or(shard).as_u64());
        let numbers: Vec<u32> = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
        if numbers.is_empty() {
            return Err(DumpError::NoShards);
        }
        for shard in numbers {
            let lines = whole(node, shard).await?;
            lines.iter().for_each(|line| recorder.raw(line));
            total += lines.len() as u64;
        }
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

/// Completes a history: the dumps of all nodes, then the end.
///
/// # Errors
/// A node did not tell everything, or the file could not be written; then no end is written.
pub async fn finish(
    recorder: &Recorder,
    nodes: &[Client],
    grace_ms: u64,
    skew_ms: u64,
) -> Result<u64, DumpError> {
    let total = dump(recorder, nodes).await?;
    recorder.end(grace_ms, skew_ms);
    recorder.flush().map_err(DumpError::Write)?;
    Ok(total)
}
