//! A cluster of three real processes on this machine, to be killed, stopped, cut off and started again.
//!
//! `statehouse dev --nodes 3` starts it, exactly as a reader would; a node that was ended is started again with the
//! `serve` line that `dev` prints. Whatever runs ends with the handle, also when a test panics, and then the panic is
//! followed by what each node said last. One cluster runs at a time: more of them on a small machine would time out
//! for reasons of their own.
//!
//! Deliberately absent: load and verdicts (`trial.rs`), other faults (`cuts.rs`), and any wait that is not for
//! something.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use statehouse_lab::{Launch, Server};

use crate::{
    binary::binary,
    member::{self, Leads, Member},
    node::{Answer, Question, ask},
    patience::{LOOK, PATIENCE, found},
    stage::START_WITHIN,
};

/// How many nodes there are.
pub const NODES: u32 = 3;

const VIEW_WITHIN: Duration = Duration::from_secs(2);
const TOKEN: &str = "a-token-for-tests";
const LOG_TAIL: usize = 6_000;
/// What the nodes write: trouble, and what the harness or the reader of a failed test has to know.
const LINES: &str = "warn,openraft=error,statehouse_log=info,statehouse_cluster::faults=info";

static TURN: Mutex<()> = Mutex::new(());

/// Returns the numbers of all nodes but one.
#[must_use]
pub fn others(node: u32) -> Vec<u32> {
    (1..=NODES).filter(|number| *number != node).collect()
}

/// Three nodes.
#[derive(Debug)]
pub struct Cluster {
    nodes: BTreeMap<u32, Member>,
    // It ends before the folder's owner removes the folder, and after the nodes were killed.
    dev: Server,
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts a cluster in an empty folder and waits until each node leads its share of the shards.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        Self::open_with(folder, &[], &[])
    }

    /// Starts a cluster with more arguments of `dev`, and more settings in the environment of all its nodes.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn open_with(folder: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let data = folder.join("data").display().to_string();
        let line = ["dev", "--nodes", "3", "--data", &data, "--listen", "127.0.0.1:0"];
        let line = line.into_iter().chain(["--token", TOKEN, "--log", LINES]);
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let launch = Launch {
            binary: binary().to_owned(),
            arguments: line.chain(more.iter().copied()).map(str::to_owned).collect(),
            environment: environment.iter().map(pair).collect(),
            logs: folder.join("logs"),
            address: None,
        };
        let dev = Server::start(launch, START_WITHIN)
            .unwrap_or_else(|error| panic!("the cluster does not start: {error}"));
        let mut nodes = BTreeMap::new();
        for number in 1..=NODES {
            let directory = folder.join(format!("data/node-{number}"));
            let read = |name: &str| {
                let path = directory.join(name);
                let text = fs::read_to_string(&path);
                let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                text.trim().to_owned()
            };
            let api = read("api-address").trim_start_matches("http://").to_owned();
            let pid = read("statehouse.pid").parse().expect("a process has a number");
            nodes.insert(number, Member::of_dev(api, pid));
        }
        let cluster = Self { nodes, dev, folder: folder.to_owned(), _turn: turn };
        cluster.balanced();
        cluster
    }

    /// Returns the token that may do everything.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Returns `host:port` of a node's API.
    #[must_use]
    pub fn api(&self, node: u32) -> &str {
        self.nodes[&node].api()
    }

    /// Returns the base address of a node.
    #[must_use]
    pub fn url(&self, node: u32) -> String {
        format!("http://{}", self.api(node))
    }

    /// Returns the base addresses of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.keys().map(|node| self.url(*node)).collect()
    }

    /// Returns the folder of everything that the cluster writes.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a node's own directory.
    #[must_use]
    pub fn directory(&self, node: u32) -> PathBuf {
        self.folder.join(format!("data/node-{node}"))
    }

    /// Returns everything that a node wrote to its error output.
    #[must_use]
    pub fn lines(&self, node: u32) -> Vec<String> {
        let read = |name: &str| fs::read_to_string(self.folder.join("logs").join(name));
        let (all, prefix) = (read("stderr.log").unwrap_or_default(), format!("node-{node} | "));
        let by_dev = all.lines().filter_map(|line| line.strip_prefix(&prefix));
        let own = read(&format!("node-{node}.log")).unwrap_or_default();
        by_dev.chain(own.lines()).map(str::to_owned).collect()
    }

    /// Kills a node at once (SIGKILL) and waits for its end.
    pub fn kill(&mut self, node: u32) {
        self.member(node).end("KILL");
    }

    /// Asks a node to end (SIGTERM) and waits for its end.
    pub fn end(&mut self, node: u32) {
        self.member(node).end("TERM");
    }

    /// Asks a node to end (SIGTERM) and does not wait for that; [`Cluster::end`] does.
    pub fn part(&mut self, node: u32) {
        self.member(node).part();
    }

    /// Stops a node without ending it (SIGSTOP): it keeps its sockets and answers nothing.
    pub fn stop(&mut self, node: u32) {
        self.member(node).stop();
    }

    /// Lets a stopped node go on (SIGCONT).
    pub fn go_on(&mut self, node: u32) {
        self.member(node).go_on();
    }

    /// Starts a node that has ended with its `serve` line; does not wait for it.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn start(&mut self, node: u32) {
        self.start_with(node, &[]);
    }

    /// Starts a node like [`Cluster::start`], with more variables in its environment.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn start_with(&mut self, node: u32, environment: &[(&str, &str)]) {
        let log = self.folder.join(format!("logs/node-{node}.log"));
        let log = OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("the folder takes files");
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(self.directory(node).join("node.toml"));
        command.envs(environment.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.member(node).is(child.expect("the binary was built"));
    }

    /// Runs the binary to its end; returns its exit code and what it wrote to both outputs.
    ///
    /// # Panics
    /// If it cannot be run or does not end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let path = self.folder.join("logs/run.log");
        let log = fs::File::create(&path).expect("the folder takes files");
        let second = log.try_clone().expect("a file can be opened twice");
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(second);
        let mut child = command.spawn().expect("the binary was built");
        let begun = Instant::now();
        loop {
            let told = || fs::read_to_string(&path).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return (status.code().unwrap_or(-1), told());
            }
            if begun.elapsed() > PATIENCE {
                // Killed first, so that nothing is left behind.
                let _ = child.kill().and_then(|()| child.wait());
                panic!("{arguments:?} does not end: {}", told());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Sends a request to a node with the token, and with more headers, over a connection of its own.
    ///
    /// # Errors
    /// No answer.
    pub fn ask(
        &self,
        node: u32,
        request: &str,
        more: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Answer> {
        let bearer = format!("Bearer {TOKEN}");
        let headers: Vec<_> =
            [("authorization", bearer.as_str())].into_iter().chain(more.iter().copied()).collect();
        ask(self.api(node), request, &headers, body)
    }

    /// Sends a request to a node like [`Cluster::ask`] and leaves the answer to be read later.
    ///
    /// # Errors
    /// No connection.
    pub fn send(
        &self,
        node: u32,
        request: &str,
        more: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Question> {
        let bearer = format!("Bearer {TOKEN}");
        let headers: Vec<_> =
            [("authorization", bearer.as_str())].into_iter().chain(more.iter().copied()).collect();
        Question::send(self.api(node), request, &headers, body)
    }

    /// Returns the cluster as a node sees it; nothing if it does not say.
    #[must_use]
    pub fn view(&self, node: u32) -> Option<Value> {
        self.nodes.get(&node).filter(|node| node.answers())?;
        let answer = self.send(node, "GET /v1/cluster", &[], "").ok()?.answer(VIEW_WITHIN).ok()?;
        serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)
    }

    /// Returns the shard of an instance of the first tenant, as a node says.
    ///
    /// # Panics
    /// If it does not say.
    #[must_use]
    pub fn shard_of(&self, node: u32, instance: &str) -> u32 {
        let told = self.ask(node, &format!("GET /v1/cluster?instance={instance}"), &[], "");
        let shard =
            told.as_ref().ok().and_then(|answer| answer.field("instance")["shard"].as_u64());
        let shard = shard.and_then(|shard| u32::try_from(shard).ok());
        shard.unwrap_or_else(|| {
            panic!("node {node} does not tell the place of {instance}: {told:?}")
        })
    }

    /// Waits until something is found; fails with what is missing and the state of the cluster.
    ///
    /// # Panics
    /// If it is not found in time.
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        found(look).unwrap_or_else(|last| panic!("{what}: {last}\n{}", self.describe()))
    }

    /// Waits until these nodes see every shard served by the same leader among them; returns who leads.
    #[must_use]
    pub fn agreed(&self, nodes: &[u32]) -> Leads {
        self.until(&format!("nodes {nodes:?} agree on leaders"), || {
            let mut leads: Option<Leads> = None;
            for node in nodes {
                let view = self.view(*node).ok_or_else(|| format!("node {node} says nothing"))?;
                let seen = member::leads(&view)?;
                let is_same = leads.as_ref().is_none_or(|leads| *leads == seen);
                let is_inside = seen.values().all(|lead| nodes.contains(&lead.node));
                if !is_same || !is_inside {
                    return Err(format!("node {node} sees {seen:?}, before it {leads:?}"));
                }
                leads = Some(seen);
            }
            leads.ok_or_else(|| "nobody was asked".to_owned())
        })
    }

    /// Waits until every node is ready, agrees on the leaders and has applied all that is committed.
    #[must_use]
    pub fn whole(&self) -> Leads {
        let all: Vec<u32> = (1..=NODES).collect();
        self.until("every node is ready", || {
            all.iter().try_for_each(|node| match self.ask(*node, "GET /readyz", &[], "") {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("node {node}: {other:?}")),
            })
        });
        self.until("every node has every entry", || {
            let applied = |node: &u32| -> Result<Vec<u64>, String> {
                let view = self.view(*node).ok_or_else(|| format!("node {node} says nothing"))?;
                let shards = view["shards"].as_array().cloned().unwrap_or_default();
                Ok(shards.iter().filter_map(|shard| shard["lag"].as_u64()).collect())
            };
            for node in &all {
                let lags = applied(node)?;
                if lags.is_empty() || lags.iter().any(|lag| *lag > 64) {
                    return Err(format!("node {node} lags {lags:?}"));
                }
            }
            Ok(())
        });
        self.agreed(&all)
    }

    /// Waits until the cluster is whole and each node leads its share: shard 0 the first, shard 1 the second, and so on.
    pub fn balanced(&self) -> Leads {
        self.until("leaders are spread", || {
            let leads = self.whole();
            let is_spread = leads.iter().all(|(shard, lead)| lead.node == shard % NODES + 1);
            if is_spread { Ok(leads) } else { Err(format!("{leads:?}")) }
        })
    }

    /// Returns what there is to know about the cluster when something went wrong.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (number, node) in &self.nodes {
            let _ = writeln!(text, "node {number}: {node:?}");
            let view = self.view(*number).unwrap_or_default();
            for shard in view["shards"].as_array().into_iter().flatten() {
                let _ = writeln!(text, "  {shard}");
            }
            let lines = self.lines(*number).join("\n");
            let from = lines.len().saturating_sub(LOG_TAIL);
            let from = (from..=lines.len()).find(|at| lines.is_char_boundary(*at)).unwrap_or(0);
            let _ = writeln!(text, "{}", &lines[from..]);
        }
        text
    }

    fn member(&mut self, node: u32) -> &mut Member {
        self.nodes.get_mut(&node).expect("nodes are numbered from 1 to 3")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint_all(&self.describe());
        }
        self.nodes.values_mut().for_each(Member::clear);
        // `dev` ends with its handle.
        let _ = self.dev.kill();
    }
}

#[expect(clippy::print_stderr, reason = "a failed test says what its processes said")]
fn eprint_all(text: &str) {
    eprintln!("{text}");
}
