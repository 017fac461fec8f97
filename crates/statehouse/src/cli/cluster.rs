//! `statehouse cluster …`: make a cluster, look at it, read what a shard's log holds, keep a copy of it all.
//!
//! `init` and `restore` are the explicit bootstraps: an empty directory is never taken for a new cluster, because it may
//! be a disk that lost its data. They work on the directory itself and need no server.
//!
//! `join` works on the directory too, and asks a running member for an identity.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use statehouse_contract::Build;
use statehouse_sdk::{Body, Method, Request};

use super::{
    again::Again,
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

/// What to do with a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a new cluster in the empty data directory of a configuration, with a first tenant and an admin key.
    Init(Init),
    /// Make a development authority, certificates for the links between nodes, and a cookie.
    Certs(super::certs::Certs),
    /// Copy every shard of a running cluster into a directory.
    Backup {
        /// The directory: it is made, or is empty.
        dir: PathBuf,
    },
    /// Read a backup from end to end and say whether it is whole; needs no server.
    Verify {
        /// The directory of the backup.
        dir: PathBuf,
    },
    /// Make a new cluster out of a backup, in the empty data directory of a configuration.
    Restore(Restore),
    /// Join the cluster of `cluster.seeds` with the empty data directory of a configuration.
    Join(Join),
    /// Take a node out of the cluster for good.
    Remove {
        /// The node: its id (n2.1) or number (2).
        node: String,
        /// Why, for the audit.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        again: Again,
    },
    /// Let a node lead no shard, before it is stopped for longer.
    Drain {
        /// The node: its id (n2.1) or number (2).
        node: String,
        /// Let it lead again.
        #[arg(long)]
        undo: bool,
        /// Why, for the audit.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        again: Again,
    },
    /// Hand leadership of a shard over.
    Transfer {
        /// The shard's number.
        shard: u32,
        /// To this node, such as n2.1; left out: to the follower that is furthest and has room on its disk.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
    /// Let shards take entries of a newer feature level, once every node knows it. There is no way back.
    Raise(super::raise::Raise),
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

/// `cluster restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The directory of the backup.
    pub(crate) dir: PathBuf,
    /// The configuration of the first node of the new cluster; left out: the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// DATA, instead of that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// `cluster join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Join {
    /// The configuration of the node; left out: the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// DATA, instead of that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Take the place of a member of the same number, whose data is gone for good.
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session, build: Build) -> Result<Exit, Failure> {
    match verb {
        Verb::Init(init) => {
            Box::pin(crate::serve::member::init(&init, session.output, build)).await
        }
        Verb::Certs(certs) => super::certs::run(&certs, session.output),
        Verb::Backup { dir } => Box::pin(super::backup::run(&dir, session)).await,
        Verb::Verify { dir } => super::backup::verify::run(&dir, session.output, build),
        Verb::Restore(restore) => {
            Box::pin(crate::serve::restore::run(&restore, session.output, build)).await
        }
        Verb::Join(join) => {
            Box::pin(crate::serve::member::join(&join, session.output, build)).await
        }
        Verb::Remove { node, reason, again } => {
            let path = format!("/v1/cluster/nodes/{node}");
            let body = Body::Json(json!({"reason": reason}));
            let request = again.on(Request::new(Method::Delete, path, body));
            session
                .show(&request, |_| {
                    format!("{node} leaves the cluster; `statehouse cluster status` shows it")
                })
                .await
        }
        Verb::Drain { node, undo, reason, again } => {
            let body = Body::Json(json!({"reason": reason, "draining": !undo}));
            let request = again.on(Request::post(format!("/v1/cluster/nodes/{node}/drain"), body));
            let what = if undo { "may lead again" } else { "hands its shards over" };
            session
                .show(&request, |_| format!("{node} {what}; `statehouse cluster status` shows it"))
                .await
        }
        Verb::Transfer { shard, to } => {
            let body = to.map_or_else(|| json!({}), |to| json!({"to": to}));
            let path = format!("/v1/cluster/shards/{shard}/transfer");
            let request = Request::post(path, Body::Json(body)).unkeyed();
            session
                .show(&request, |body| format!("shard {shard} was offered to {}", text(body, "to")))
                .await
        }
        Verb::Raise(raise) => super::raise::run(&raise, session).await,
        Verb::Status { instance } => {
            let request = Request::get("/v1/cluster").with("instance", instance);
            session.show(&request, |body| status(session, body)).await
        }
        Verb::Dump { shard, after } => dump(shard, after, session).await,
    }
}

/// What is shown of a shard.
const COLUMNS: [&str; 12] = [
    "shard",
    "level",
    "role",
    "leader",
    "term",
    "committed",
    "applied",
    "lag",
    "age_ms",
    "live",
    "replicas",
    "trouble",
];

/// The replicas of a shard in one cell: how far each is behind, where the leader says so.
fn replicas(shard: &Value) -> String {
    let one = |replica: &Value| {
        let learner = if text(replica, "part") == "learner" { " (learner)" } else { "" };
        let behind = replica.get("behind").and_then(Value::as_u64).filter(|behind| *behind > 0);
        let behind = behind.map(|behind| format!(" -{behind}")).unwrap_or_default();
        format!("{}{behind}{learner}", text(replica, "node"))
    };
    items(shard, "replicas").iter().map(one).collect::<Vec<_>>().join(" ")
}

fn status(session: &Session, body: &Value) -> String {
    let output = session.output;
    let known = ["node", "state", "standing", "build_level", "api"];
    let member = |item: &Value| known.map(|name| text(item, name));
    let members = items(body, "members").iter().map(member).collect();
    let shard = |item: &Value| {
        let mut row = COLUMNS.map(|name| text(item, name));
        if let Some(last) = row.get_mut(COLUMNS.len() - 2) {
            *last = replicas(item);
        }
        row
    };
    let shards = items(body, "shards").iter().map(shard).collect();
    let mut shown = format!(
        "{}\n\n{}",
        output.table(["node", "state", "standing", "build", "api"], members),
        output.table(COLUMNS, shards),
    );
    if let Some(place) = body.get("instance").filter(|place| place.is_object()) {
        shown.push_str(&format!(
            "\n\nthe instance lives in bucket {} of shard {}, which {} leads; {}",
            text(place, "bucket"),
            text(place, "shard"),
            place.get("node").and_then(Value::as_str).unwrap_or("nobody"),
            match place.get("awake").and_then(Value::as_bool) {
                Some(true) => "it is awake there",
                Some(false) => "it sleeps",
                None => "whether it is awake is not known",
            }
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
