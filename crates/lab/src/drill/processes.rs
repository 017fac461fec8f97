//! A cluster of a drill's own: three real processes on loopback, made from nothing and gone at the end.
//!
//! `statehouse dev --nodes 3` makes the cluster exactly as a reader of the README would. Then `dev` is ended, and every
//! node is started with its own `serve` line as a child of the drill, so that each can be killed, stopped, starved and
//! started again with another environment, alone.
//!
//! Deliberately absent: load and verdicts. Invariant: what runs ends with this value.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    DrillError,
    node::Node,
    until,
    view::{self, Leads},
};
use crate::server::{Launch, Server, free_address};

/// How many nodes a drill has.
pub(crate) const NODES: u32 = 3;
/// How long a node or the cluster may take to be there on a busy machine; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(90);
const TOKEN: &str = "the-token-of-a-drill";
/// What the nodes write: trouble, and what the drill has to know.
const LINES: &str = "warn,openraft=error,statehouse_log=info,statehouse_cluster::faults=info";
const LOG_TAIL: usize = 4_000;

/// Returns the numbers of all nodes but one.
pub(crate) fn others(node: u32) -> Vec<u32> {
    (1..=NODES).filter(|number| *number != node).collect()
}

/// Three nodes.
#[derive(Debug)]
pub(crate) struct Processes {
    binary: PathBuf,
    folder: PathBuf,
    nodes: BTreeMap<u32, Node>,
    environment: BTreeMap<u32, Vec<(String, String)>>,
}

impl Processes {
    /// Makes a cluster in an empty folder; its nodes run, each with its variables, and every one leads its share.
    pub(crate) fn open(
        binary: &Path,
        folder: &Path,
        arguments: &[&str],
        variables: &[(String, String)],
        mut environment: impl FnMut(u32, &Path) -> Result<Vec<(String, String)>, DrillError>,
    ) -> Result<Self, DrillError> {
        let (data, logs) = (folder.join("data"), folder.join("logs"));
        fs::create_dir_all(folder).map_err(|source| DrillError::file(folder, source))?;
        let path = data.display().to_string();
        let line = ["dev", "--nodes", "3", "--data", &path, "--listen", "127.0.0.1:0"];
        let line = line.into_iter().chain(["--token", TOKEN, "--log", LINES]);
        let launch = Launch {
            binary: binary.to_owned(),
            arguments: line.chain(arguments.iter().copied()).map(str::to_owned).collect(),
            environment: variables.to_vec(),
            logs: logs.clone(),
            address: None,
        };
        let mut dev = Server::start(launch, PATIENCE).map_err(DrillError::Start)?;
        let mut cluster = Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            nodes: BTreeMap::new(),
            environment: BTreeMap::new(),
        };
        for number in 1..=NODES {
            let node = Node::found(number, &data, &logs, TOKEN)?;
            let own = environment(number, node.directory())?;
            let own = variables.iter().cloned().chain(own).collect();
            cluster.environment.insert(number, own);
            cluster.nodes.insert(number, node);
        }
        dev.stop(PATIENCE).map_err(DrillError::Start)?;
        (1..=NODES).try_for_each(|number| cluster.start(number))?;
        cluster.balanced()?;
        Ok(cluster)
    }

    /// Returns the token that may do everything.
    pub(crate) fn token(&self) -> &'static str {
        TOKEN
    }

    /// Returns the base addresses of all nodes.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.values().map(Node::url).collect()
    }

    /// Returns a node.
    pub(crate) fn node(&mut self, number: u32) -> Result<&mut Node, DrillError> {
        let missing = || DrillError::Node(format!("there is no node {number}"));
        self.nodes.get_mut(&number).ok_or_else(missing)
    }

    /// Returns the folder of everything that is written.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a variable with which a node is started from now on.
    pub(crate) fn set_variable(&mut self, number: u32, name: &str, value: &str) {
        let variables = self.environment.entry(number).or_default();
        variables.push((name.to_owned(), value.to_owned()));
    }

    /// Sets the program with which nodes are started from now on.
    pub(crate) fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// Returns the program with which nodes are started.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns the file with the token that may do everything.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.join("data/dev-token")
    }

    /// Returns the numbers of all nodes.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.nodes.keys().copied().collect()
    }

    /// Runs the program to its end; returns its exit code and what it wrote to both outputs.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(i32, String), DrillError> {
        let mut command = Command::new(&self.binary);
        let output = command.args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|source| DrillError::file(&self.binary, source))?;
        let both = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&both).trim().to_owned();
        Ok((output.status.code().unwrap_or(-1), told))
    }

    /// Writes the settings of one more node, beside those of the third, and returns their file.
    pub(crate) fn prepare(&self, number: u32) -> Result<PathBuf, DrillError> {
        let model = self.folder.join("data/node-3/node.toml");
        let text = fs::read_to_string(&model).map_err(|source| DrillError::file(&model, source))?;
        let own = |line: &str| match line.split('=').next().unwrap_or_default().trim() {
            "node.number" => Ok(format!("node.number = {number}")),
            key @ ("api.listen" | "cluster.links" | "cluster.log") => {
                Ok(format!("{key} = \"{}\"", free_address()?))
            }
            "cluster.faults_file" => Ok(String::new()),
            _ => Ok(line.to_owned()),
        };
        let lines: io::Result<Vec<String>> = text.lines().map(own).collect();
        let path = self.folder.join(format!("node-{number}.toml"));
        lines
            .and_then(|lines| fs::write(&path, lines.join("\n")))
            .map_err(|source| DrillError::file(&path, source))?;
        Ok(path)
    }

    /// Returns where the logs of the other nodes are, as a setting.
    pub(crate) fn seeds(&self, but: u32) -> Result<String, DrillError> {
        let mut seeds = Vec::new();
        for (number, node) in self.nodes.iter().filter(|(number, _)| **number != but) {
            let log = setting(&node.directory().join("node.toml"), "cluster.log")?;
            seeds.extend(log.map(|log| format!("{number}={log}")));
        }
        Ok(seeds.join(","))
    }

    /// Starts a node that has joined, and waits until it is one of the cluster.
    pub(crate) fn adopt(&mut self, number: u32) -> Result<(), DrillError> {
        let (data, logs) = (self.folder.join("data"), self.folder.join("logs"));
        let (from, to) = (
            self.folder.join(format!("node-{number}.toml")),
            data.join(format!("node-{number}/node.toml")),
        );
        fs::copy(&from, &to).map_err(|source| DrillError::file(&to, source))?;
        let text = fs::read_to_string(&to).map_err(|source| DrillError::file(&to, source))?;
        let api =
            text.lines().find_map(|line| line.strip_prefix("api.listen = \"")?.strip_suffix('"'));
        let api = api.ok_or_else(|| DrillError::Node(format!("node {number} has no address")))?;
        self.nodes.insert(number, Node::at(number, api, &data, &logs, TOKEN));
        self.start(number)?;
        self.balanced().map(drop)
    }

    /// Ends a node that is none of the cluster any more, and forgets it.
    pub(crate) fn dismiss(&mut self, number: u32) -> Result<(), DrillError> {
        self.node(number)?.end("TERM")?;
        self.nodes.remove(&number);
        Ok(())
    }

    /// Starts a node that does not run; does not wait for it.
    pub(crate) fn start(&mut self, number: u32) -> Result<(), DrillError> {
        let (binary, environment) = (self.binary.clone(), self.environment.get(&number).cloned());
        self.node(number)?.start(&binary, &environment.unwrap_or_default())
    }

    /// Kills a node (SIGKILL) and waits for its end.
    pub(crate) fn kill(&mut self, number: u32) -> Result<(), DrillError> {
        self.node(number)?.end("KILL")
    }

    /// Kills several nodes as nearly at once as signals can be sent.
    pub(crate) fn kill_all(&mut self, numbers: &[u32]) -> Result<(), DrillError> {
        for number in numbers {
            self.node(*number)?.signal("KILL")?;
        }
        numbers.iter().try_for_each(|number| self.node(*number)?.gone())
    }

    /// Cuts what a node sends to others and what it hears of others.
    pub(crate) fn cut(&mut self, node: u32, to: &[u32], from: &[u32]) -> Result<(), DrillError> {
        let side = |peers: &[u32]| -> Value {
            let cuts = peers.iter().map(|peer| (peer.to_string(), json!("cut")));
            cuts.collect::<serde_json::Map<_, _>>().into()
        };
        self.node(node)?.faults(&json!({ "to": side(to), "from": side(from) }))
    }

    /// Ends all faults of a node's links.
    pub(crate) fn heal(&mut self, node: u32) -> Result<(), DrillError> {
        self.node(node)?.faults(&json!({}))
    }

    /// Ends every fault that the drill itself made: links are healed, what stands still goes on, what is down is started.
    pub(crate) fn revive(&mut self) -> Result<(), DrillError> {
        for number in self.numbers() {
            let node = self.node(number)?;
            node.faults(&json!({}))?;
            if node.is_stopped() {
                node.hold(false)?;
            }
            if node.has_died() || node.is_down() {
                node.gone()?;
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// Waits until these nodes see every shard served by the same leader among them; returns who leads.
    pub(crate) fn agreed(&self, numbers: &[u32]) -> Result<Leads, DrillError> {
        self.until(&format!("nodes {numbers:?} agree on leaders"), || {
            let mut leads: Option<Leads> = None;
            for number in numbers {
                let node = self.nodes.get(number).ok_or("there is no such node")?;
                let seen = view::leads(&node.view()?)?;
                let is_same = leads.as_ref().is_none_or(|leads| *leads == seen);
                if !is_same || !seen.values().all(|lead| numbers.contains(&lead.node)) {
                    return Err(format!("node {number} sees {seen:?}, before it {leads:?}"));
                }
                leads = Some(seen);
            }
            leads.ok_or_else(|| "nobody was asked".to_owned())
        })
    }

    /// Waits until every node is ready, agrees on the leaders and has applied what is committed.
    pub(crate) fn whole(&self) -> Result<Leads, DrillError> {
        for node in self.nodes.values() {
            node.ready(PATIENCE)?;
        }
        self.until("every node has every entry", || {
            self.nodes.values().try_for_each(|node| view::caught_up(&node.view()?))
        })?;
        self.agreed(&self.numbers())
    }

    /// Waits until the cluster is whole and each node leads its share.
    pub(crate) fn balanced(&self) -> Result<Leads, DrillError> {
        self.until("leaders are spread", || {
            let leads = self.whole().map_err(|error| error.to_string())?;
            let led = |node: &u32| view::led_by(&leads, *node).len();
            let counts: Vec<usize> = self.nodes.keys().map(led).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            let is_spread = least.zip(most).is_some_and(|(least, most)| most - least <= 1);
            if is_spread { Ok(leads) } else { Err(format!("{leads:?}")) }
        })
    }

    /// Returns the nodes that ended although the drill did nothing to them.
    pub(crate) fn died(&mut self) -> Vec<u32> {
        let dead =
            self.nodes.values_mut().filter_map(|node| node.has_died().then(|| node.number()));
        dead.collect()
    }

    fn until<T>(
        &self,
        what: &str,
        look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, DrillError> {
        until(what, PATIENCE, look).map_err(|error| error.with(&self.describe()))
    }

    /// Returns what there is to know when something went wrong.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (number, node) in &self.nodes {
            let lines = node.lines();
            let from = lines.len().saturating_sub(LOG_TAIL);
            let from = (from..=lines.len()).find(|at| lines.is_char_boundary(*at)).unwrap_or(0);
            let tail = lines.get(from..).unwrap_or_default();
            let view = node.view().map_or_else(|error| error, |view| view["shards"].to_string());
            text.push_str(&format!("node {number}: {view}\n{tail}\n"));
        }
        text
    }
}

/// Reads a text of a node's settings, one a line as `dev` and the nodes write them.
fn setting(path: &Path, key: &str) -> Result<Option<String>, DrillError> {
    let text = fs::read_to_string(path).map_err(|source| DrillError::file(path, source))?;
    let value = |line: &str| {
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim();
        Some(value.trim_matches('"').to_owned())
    };
    Ok(text.lines().find_map(value))
}
