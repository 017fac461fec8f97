//! `statehouse cluster …`: make a cluster, look at it, read what a shard's log holds.
//!
//! `init` is the one explicit bootstrap: an empty directory is never taken for a new cluster, because it may be
//! a disk that lost its data. It works on the directory itself and needs no server.
//!
//! Deliberately absent: adding, removing and draining nodes, backup and restore. They come with more nodes.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use statehouse_sdk::Request;

use super::{
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

/// What to do with a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a new cluster in the empty data directory of a configuration, with a first tenant and an admin key.
    Init(Init),
    /// Show members, shards, leaders and positions.
    Status {
        /// Also say where this instance lives.
        #[arg(long, value_parser = super::instance_id)]
        instance: Option<String>,
    },
    /// Print every entry of a shard, as the answering node holds it, as lines of the history format.
    Dump {
        /// The shard's number.
        shard: u32,
        /// Only positions above this one.
        #[arg(long, default_value_t = 0, value_name = "N")]
        after: u64,
    },
}

/// `cluster init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The configuration of the node; left out: the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// DATA, instead of that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// How many shards, instead of the number in the configuration.
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// Where the first admin token is written (mode 0600) [default: DATA/admin-token].
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
}

/// Runs a verb that talks to a server.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        Verb::Init(init) => crate::serve::init(&init, session.output).await,
        Verb::Status { instance } => {
            let request = Request::get("/v1/cluster").with("instance", instance);
            session.show(&request, |body| status(session, body)).await
        }
        Verb::Dump { shard, after } => dump(shard, after, session).await,
    }
}

fn status(session: &Session, body: &Value) -> String {
    let output = session.output;
    let member = |item: &Value| [text(item, "node"), text(item, "state"), text(item, "api")];
    let members = items(body, "members").iter().map(member).collect();
    let shard = |item: &Value| {
        ["shard", "role", "leader", "term", "committed", "applied", "snapshot", "live", "trouble"]
            .map(|name| text(item, name))
    };
    let shards = items(body, "shards").iter().map(shard).collect();
    let mut shown = format!(
        "{}\n\n{}",
        output.table(["node", "state", "api"], members),
        output.table(
            [
                "shard",
                "role",
                "leader",
                "term",
                "committed",
                "applied",
                "snapshot",
                "live",
                "trouble"
            ],
            shards
        ),
    );
    if let Some(place) = body.get("instance").filter(|place| place.is_object()) {
        shown.push_str(&format!(
            "\n\nthe instance lives in bucket {} of shard {}",
            text(place, "bucket"),
            text(place, "shard")
        ));
    }
    shown
}

// Line by line: a shard's log may be larger than memory.
async fn dump(shard: u32, after: u64, session: &Session) -> Result<Exit, Failure> {
    let request =
        Request::get(format!("/v1/cluster/shards/{shard}/dump")).with("after", Some(after));
    if session.is_curl() {
        session.run(&request).await?;
        return Ok(Exit::Ok);
    }
    let mut lines =
        session.client()?.lines(request).await.map_err(|error| session.failure(error))?;
    loop {
        match lines.next().await {
            Ok(Some(line)) => session.output.line(&String::from_utf8_lossy(&line))?,
            Ok(None) => return Ok(Exit::Ok),
            Err(error) => {
                let next = "repeat it; --after goes on after the last position that was printed";
                return Err(Failure::new(Exit::Unavailable, "broken_off", error.to_string(), next));
            }
        }
    }
}
