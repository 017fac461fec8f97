//! `statehouse dev`: a node, or a cluster of them, to try things on, from nothing, in one command.
//!
//! It needs no file: it has its own directory, listens on loopback, makes the tenant `default` with one key that
//! may do everything, and loads the sample definition. Everything else is a node like any other: the same log,
//! the same fsyncs, the same answers.
//!
//! Deliberately absent: a memory-only mode. What is tried here must behave as it will later.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;

use statehouse_cluster::Bootstrap;
use statehouse_contract::{Build, limits};

use super::{
    exit::{Exit, Failure},
    output::Output,
    session::{DEV_DATA, DEV_TOKEN_FILE},
    settings,
};
use crate::{
    api,
    config::{self, Sources},
    serve::{SETTINGS_FILE, Started, ending::Ending, seed},
};

mod many;
mod places;
mod running;

/// Where the API of a new DATA listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);

/// Most nodes of a development cluster.
const NODES_MAX: u32 = 9;

/// Name of the file in DATA that holds the number of nodes.
const NODES_FILE: &str = "nodes";

/// `statehouse dev`.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// How many nodes, each a process of its own [default: 1, or as many as DATA was made with].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u32>,
    /// DATA, the directory of everything durable.
    #[arg(long, default_value = DEV_DATA, value_name = "DIR")]
    data: PathBuf,
    /// Where the API listens [default: 127.0.0.1:7400]; port 0 takes any free one. More nodes take the ports after it,
    /// their links those from 100 above, their logs those from 200 above; from then on they keep them.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How many shards a new directory gets [default: 4]; it keeps them.
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// The development token, in place of the one before; left out: that of DATA/dev-token, else a new one.
    #[arg(long, value_parser = seed::token_text)]
    token: Option<String>,
    /// Start a node again when it ends by itself.
    #[arg(long)]
    restart: bool,
    /// Which lines are written to standard error.
    #[arg(long, default_value = "warn,openraft=error", value_name = "FILTER")]
    log: String,
}

impl Dev {
    /// Runs the node until a signal ends it.
    pub(crate) async fn run(self, output: Output, build: Build) -> Result<Exit, Failure> {
        let begin = Instant::now();
        let nodes = check_nodes(self.nodes, &self.data)?;
        let shards = check_shards(self.shards, &self.data)?;
        if nodes > 1 {
            return self.run_many(nodes, shards, output, begin).await;
        }
        let sources = Sources::from_process(None)
            .flag("node.data", "dev", Some(self.data.display()))
            .flag("node.shards", "dev", Some(shards))
            .flag("api.listen", "dev", Some(self.listen()))
            .flag("builtin.http_allow", "dev", Some("127.0.0.0/8,::1/128"))
            .flag("telemetry.level", "dev", Some(&self.log))
            .flag("telemetry.format", "dev", Some("text"));
        let loaded = settings::load(&sources)?;
        let ending = Ending::listen()?;
        let started = Started::start(&loaded, Bootstrap::Found { shards }, build).await?;
        write_nodes(nodes, &self.data)?;
        let (token, is_new) = token(self.token.as_deref(), &self.data)?;
        seed::tenant_with_key(&started.house, &token, "dev").await?;
        // At every start: the one that set the token may have been killed before it came here.
        seed::revoke_others(&started.house, &token, "dev").await?;
        let sample = seed::sample(&started.house).await?;
        let path = self.data.join(DEV_TOKEN_FILE);
        let shown = if is_new {
            format!("{token} (kept in {})", path.display())
        } else {
            format!("in {}", path.display())
        };
        output.line(&output.pairs(&[
            ("API", started.url()),
            ("data", self.data.display().to_string()),
            ("token", shown),
            ("sample", format!("{sample} (statehouse definition show {sample})")),
            ("ready", format!("after {} ms; Ctrl-C stops it", begin.elapsed().as_millis())),
        ]))?;
        started.serve(&loaded.settings, ending).await
    }

    fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or(LISTEN)
    }
}

// A directory made for another number of nodes would lose its majority, or gain one that holds nothing.
fn check_nodes(asked: Option<u32>, data: &Path) -> Result<u32, Failure> {
    let path = data.join(NODES_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(asked.unwrap_or(1)),
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    match (text.trim().parse::<u32>(), asked) {
        (Ok(kept), None) => Ok(kept),
        (Ok(kept), Some(asked)) if kept == asked => Ok(kept),
        (Ok(_) | Err(_), _) => Err(mismatch(
            format!("{} was made with --nodes {}", data.display(), text.trim()),
            format!("give --nodes {}, or choose another --data", text.trim()),
        )),
    }
}

// A flag that differs from what a directory was made with would change nothing there.
fn mismatch(reason: String, next: impl Into<String>) -> Failure {
    Failure::new(Exit::Conflict, "mismatch", reason, next)
}

fn write_nodes(nodes: u32, data: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(data).map_err(|error| Failure::file("make", data, &error))?;
    let path = data.join(NODES_FILE);
    std::fs::write(&path, format!("{nodes}\n"))
        .map_err(|error| Failure::file("write", &path, &error))
}

// A directory keeps its number of shards.
fn check_shards(asked: Option<u32>, data: &Path) -> Result<u32, Failure> {
    match (kept_shards(data), asked) {
        (Some(kept), Some(asked)) if kept != asked => Err(mismatch(
            format!("{} was made with {kept} shards, not with {asked}", data.display()),
            format!("leave --shards out or give --shards {kept}, or choose another --data"),
        )),
        (kept, asked) => Ok(asked.or(kept).unwrap_or(limits::DEV_SHARDS)),
    }
}

fn kept_shards(data: &Path) -> Option<u32> {
    let file = config::node_directory(data, 1).join(SETTINGS_FILE);
    let sources = Sources { file: file.exists().then_some(file), ..Sources::default() };
    sources.file.as_ref()?;
    config::load(&sources).ok().map(|loaded| loaded.settings.node.shards)
}

// What can stand in a header, and no more than the API hashes.

// The file is written before the key is made: a crash in between leaves a token that the next start makes good.
fn token(given: Option<&str>, data: &Path) -> Result<(String, bool), Failure> {
    let path = data.join(DEV_TOKEN_FILE);
    let kept = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
    match (given, kept.filter(|text| !text.is_empty())) {
        (None, Some(kept)) => Ok((kept, false)),
        (Some(given), Some(kept)) if given == kept => Ok((kept, false)),
        (Some(given), _) => seed::write_secret(&path, given).map(|()| (given.to_owned(), true)),
        (None, None) => {
            let token = api::new_token();
            seed::write_secret(&path, &token).map(|()| (token, true))
        }
    }
}
