//! `statehouse dev --nodes N`: a cluster on this machine, one process a node, one terminal.
//!
//! Each node is an ordinary `statehouse serve` with a configuration of its own in DATA/node-K/node.toml, so what is tried
//! here is what runs elsewhere; the only liberties are plain text over loopback and a token that is lying about. The
//! first node makes the cluster, the others join it. A node that ends is not started again behind anybody's back: its
//! `serve` command line is printed, or `--restart` was given.
//!
//! Deliberately absent: balancing of any kind, and logs on disk: everything goes to this terminal, with the node's name.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::IsTerminal as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use statehouse_sdk::{Budget, Client, Options, Request};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::sleep,
};

use super::{DEV_TOKEN_FILE, Dev, token, write_nodes};
use crate::{
    cli::{
        exit::{Exit, Failure},
        output::Output,
    },
    config,
    serve::{SETTINGS_FILE, seed},
};

/// Name of the file in DATA with the cookie that all its nodes share.
const COOKIE_FILE: &str = "cookie";
/// How far above the API's ports those of the links and the logs are.
const LINKS_ABOVE: u16 = 100;
const LOG_ABOVE: u16 = 200;
/// How long a whole cluster may take to be there.
const READY_MAX: Duration = Duration::from_secs(60);
const READY_PAUSE: Duration = Duration::from_millis(20);
/// How long the nodes may take to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Pause before a node that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// One node of the cluster.
struct Member {
    number: u32,
    settings: PathBuf,
    api: SocketAddr,
}

/// Where a node listens.
#[derive(Clone, Copy)]
struct Places {
    api: SocketAddr,
    links: SocketAddr,
    log: SocketAddr,
}

impl Dev {
    pub(super) async fn run_many(
        self,
        nodes: u32,
        shards: u32,
        output: Output,
        begin: Instant,
    ) -> Result<Exit, Failure> {
        write_nodes(nodes, &self.data)?;
        let (_, is_new) = token(self.token.as_deref(), &self.data)?;
        let cookie = self.data.join(COOKIE_FILE);
        if !cookie.exists() {
            seed::write_secret(&cookie, &crate::api::new_token())?;
        }
        let members = self.members(nodes, shards)?;
        let mut cluster = Cluster {
            dev: &self,
            running: Vec::new(),
            lines: JoinSet::new(),
            ended: JoinSet::new(),
        };
        let binary = std::env::current_exe();
        let binary = binary
            .map_err(|error| Failure::broken(format!("cannot find this program: {error}")))?;
        for member in &members {
            cluster.start(&binary, member)?;
        }
        let outcome = tokio::select! {
            ready = cluster.ready(&members) => ready,
            () = signal() => Ok(()),
        };
        if let Err(failure) = outcome {
            cluster.stop().await;
            return Err(failure);
        }
        let mut rows: Vec<(&str, String)> = Vec::new();
        let apis: Vec<String> =
            members.iter().map(|member| format!("http://{}", member.api)).collect();
        rows.push(("APIs", apis.join(" ")));
        rows.push(("data", self.data.display().to_string()));
        let path = self.data.join(DEV_TOKEN_FILE);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let shown = if is_new {
            format!("{} (kept in {})", kept.trim(), path.display())
        } else {
            format!("in {}", path.display())
        };
        rows.push(("token", shown));
        rows.push((
            "start again",
            format!("{} (node-1; the others alike)", serve_line(&binary, &members[0])),
        ));
        rows.push((
            "ready",
            format!("after {} ms; Ctrl-C stops all {nodes}", begin.elapsed().as_millis()),
        ));
        output.line(&output.pairs(&rows))?;
        cluster.watch(&binary, &members, output).await
    }

    fn members(&self, nodes: u32, shards: u32) -> Result<Vec<Member>, Failure> {
        let mut seeds: Vec<(u32, SocketAddr)> = Vec::new();
        let mut members = Vec::new();
        let mut taken = BTreeSet::new();
        for number in 1..=nodes {
            let directory = config::node_directory(&self.data, number);
            let settings = directory.join(SETTINGS_FILE);
            let places = match kept(&settings) {
                Some(places) => places,
                None => self.places(number, &mut taken)?,
            };
            seeds.push((number, places.log));
            let make = || {
                std::fs::create_dir_all(&directory)?;
                std::fs::set_permissions(
                    &directory,
                    std::os::unix::fs::PermissionsExt::from_mode(0o700),
                )?;
                std::fs::write(&settings, self.settings(number, shards, places, &seeds))
            };
            make().map_err(|error| Failure::file("write", &settings, &error))?;
            members.push(Member { number, settings, api: places.api });
        }
        let first = config::node_directory(&self.data, 1);
        let made = statehouse_cluster::found_unless_there(&first, 1, shards);
        made.map_err(|error| Failure::broken(crate::serve::chain(&error)))?;
        Ok(members)
    }

    fn places(&self, number: u32, taken: &mut BTreeSet<u16>) -> Result<Places, Failure> {
        let ip = self.listen.ip();
        let offset = u16::try_from(number - 1).unwrap_or(u16::MAX);
        let above = |more: u16| {
            let port =
                self.listen.port().checked_add(offset).and_then(|port| port.checked_add(more));
            let too_high = || {
                Failure::usage(
                    format!("{} leaves no room for {number} nodes", self.listen),
                    "choose a lower port",
                )
            };
            port.map(|port| SocketAddr::new(ip, port)).ok_or_else(too_high)
        };
        if self.listen.port() > 0 {
            return Ok(Places {
                api: above(0)?,
                links: above(LINKS_ABOVE)?,
                log: above(LOG_ABOVE)?,
            });
        }
        // Any free ports, kept in the node's settings from then on.
        let mut free = || loop {
            let bound = TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr());
            match bound {
                Ok(address) if taken.insert(address.port()) => return Ok(address),
                Ok(_) => {}
                Err(error) => {
                    return Err(Failure::broken(format!("no free port on {ip}: {error}")));
                }
            }
        };
        Ok(Places { api: free()?, links: free()?, log: free()? })
    }

    fn settings(
        &self,
        number: u32,
        shards: u32,
        places: Places,
        seeds: &[(u32, SocketAddr)],
    ) -> String {
        let text = |value: &str| toml::Value::from(value).to_string();
        let path = |path: &Path| text(&path.display().to_string());
        let data = std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone());
        let seeds: Vec<String> =
            seeds.iter().map(|(number, log)| format!("{number}={log}")).collect();
        let mut lines = format!(
            "node.number = {number}\nnode.data = {}\nnode.shards = {shards}\napi.listen = {}\n",
            path(&data),
            text(&places.api.to_string()),
        );
        let _ = write!(
            lines,
            "cluster.links = {}\ncluster.log = {}\ncluster.seeds = {}\ncluster.cookie_file = {}\n\
             cluster.insecure_loopback = true\ncluster.faults_file = {}\n\
             telemetry.level = {}\ntelemetry.format = \"text\"\n",
            text(&places.links.to_string()),
            text(&places.log.to_string()),
            text(&seeds.join(",")),
            path(&data.join(COOKIE_FILE)),
            path(&config::node_directory(&data, number).join("faults.json")),
            text(&self.log),
        );
        lines
    }
}

/// Reads where a node listened before: its peers know it there.
fn kept(settings: &Path) -> Option<Places> {
    if !settings.exists() {
        return None;
    }
    let sources = config::Sources { file: Some(settings.to_owned()), ..config::Sources::default() };
    let loaded = config::load(&sources).ok()?;
    let (links, log) = loaded.settings.cluster.addresses()?;
    Some(Places { api: loaded.settings.api.listen, links, log })
}

fn serve_line(binary: &Path, member: &Member) -> String {
    format!("{} serve --config {}", binary.display(), member.settings.display())
}

/// The running processes.
struct Cluster<'a> {
    dev: &'a Dev,
    running: Vec<(u32, u32)>,
    lines: JoinSet<()>,
    ended: JoinSet<(u32, String)>,
}

impl Cluster<'_> {
    fn start(&mut self, binary: &Path, member: &Member) -> Result<(), Failure> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&member.settings).arg("--until-stdin-ends");
        if member.number == 1 {
            command.arg("--dev-token-file").arg(self.dev.data.join(DEV_TOKEN_FILE));
        } else {
            command.arg("--join");
        }
        // A group of its own: Ctrl-C comes to this process, which stops them in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| Failure::file("start", binary, &error))?;
        if let Some(stderr) = child.stderr.take() {
            let prefix = prefix(member.number);
            self.lines.spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tell(&format!("{prefix}{line}"));
                }
            });
        }
        self.running.push((member.number, child.id().unwrap_or_default()));
        let number = member.number;
        self.ended.spawn(async move { (number, wait(child).await) });
        Ok(())
    }

    /// Waits until every node is ready and votes.
    async fn ready(&mut self, members: &[Member]) -> Result<(), Failure> {
        let begin = Instant::now();
        let token = std::fs::read_to_string(self.dev.data.join(DEV_TOKEN_FILE)).unwrap_or_default();
        let clients: Vec<Client> =
            members.iter().filter_map(|member| client(member.api, token.trim())).collect();
        loop {
            let mut whole = 0;
            for client in &clients {
                whole += usize::from(is_whole(client, members.len()).await);
            }
            if whole == members.len() {
                return Ok(());
            }
            if let Some(Ok((number, how))) = self.ended.try_join_next() {
                return Err(Failure::broken(format!(
                    "node-{number} {how} before the cluster was there"
                )));
            }
            if begin.elapsed() > READY_MAX {
                return Err(Failure::broken(format!(
                    "the cluster was not there within {READY_MAX:?}"
                )));
            }
            sleep(READY_PAUSE).await;
        }
    }

    /// Runs until a signal, or until nothing runs any more.
    async fn watch(
        &mut self,
        binary: &Path,
        members: &[Member],
        output: Output,
    ) -> Result<Exit, Failure> {
        loop {
            let (number, how) = tokio::select! {
                ended = self.ended.join_next() => match ended {
                    Some(Ok(ended)) => ended,
                    Some(Err(_)) => continue,
                    None => return Ok(Exit::Ok),
                },
                () = signal() => {
                    self.stop().await;
                    return Ok(Exit::Ok);
                }
            };
            self.running.retain(|(running, _)| *running != number);
            let Some(member) = members.iter().find(|member| member.number == number) else {
                continue;
            };
            if self.dev.restart {
                output.line(&format!("node-{number} {how}; starting it again"))?;
                sleep(RESTART_PAUSE).await;
                self.start(binary, member)?;
            } else {
                output.line(&format!(
                    "node-{number} {how}; start it again with: {}",
                    serve_line(binary, member)
                ))?;
            }
        }
    }

    /// Stops all that still run and waits for them.
    async fn stop(&mut self) {
        for (_, pid) in &self.running {
            let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                // One that is gone already is as good.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let all = async { while self.ended.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, all).await.is_err() {
            tell("some nodes did not stop in time; they end with this process");
        }
    }
}

async fn wait(mut child: Child) -> String {
    let stdin = child.stdin.take();
    let ended = child.wait().await;
    // Its end tells the node that nobody holds it any more; so it is held until the node has ended.
    drop(stdin);
    match ended {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("cannot be watched: {error}"),
    }
}

fn client(api: SocketAddr, token: &str) -> Option<Client> {
    let mut options = Options::new([format!("http://{api}")]);
    options.token = Some(token.to_owned());
    let second = Duration::from_secs(1);
    options.budget = Budget { total: second, attempt: second, attempts_max: 1, unreached_max: 1 };
    Client::new(options).ok()
}

/// Asks a node whether it sees every shard with a leader and all its voters, and takes the token.
async fn is_whole(client: &Client, nodes: usize) -> bool {
    let Ok(answer) = client.send(Request::get("/v1/cluster")).await.done() else { return false };
    let body = answer.json();
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let shards = list(&body, "shards");
    let is_led = |shard: &Value| {
        let voters =
            list(shard, "replicas").iter().filter(|replica| replica["part"] == "voter").count();
        let is_open = shard["role"] == "leader" || shard["role"] == "follower";
        is_open && !shard["leader"].is_null() && shard.get("trouble").is_none() && voters == nodes
    };
    !shards.is_empty() && shards.iter().all(is_led)
}

fn prefix(number: u32) -> String {
    // Six colours that are read on dark and light ground alike.
    const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];
    let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if !is_coloured {
        return format!("node-{number} | ");
    }
    let colour = COLOURS[(number as usize - 1) % COLOURS.len()];
    format!("\u{1b}[{colour}mnode-{number} |\u{1b}[0m ")
}

fn tell(line: &str) {
    use std::io::Write as _;
    // A terminal that is gone is no reason to end the cluster.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending::<()>().await,
    }
}
