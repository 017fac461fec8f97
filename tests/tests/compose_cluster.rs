//! Three containers under load: the node that leads most is killed, paused, cut off; every history is judged.
//!
//! Everything goes the way that the page on Compose shows: `deploy/up.sh` brings the cluster up, the command line talks to
//! it over HTTPS, `docker` breaks it. Where no engine answers, the test says so and passes.
//!
//! Absent on purpose: any assertion about time, and the faults that need more than an engine (delay, loss, full disks).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops, and says why"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use statehouse_lab::free_address;
use statehouse_tests::{
    binary::{binary, root},
    patience::until,
};
use tempfile::TempDir;

const NODES: usize = 3;
/// Lines of a history after which the load is under way.
const LINES_MIN: usize = 200;
const INSTANCES: usize = 8;

/// Runs a command to its end; the error is what it wrote.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(out) } else { Err(format!("{out}{errors}")) }
}

fn docker(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("docker").args(arguments)).map(|out| out.trim().to_owned())
}

/// Says what is missing for a cluster of containers.
fn missing() -> Option<String> {
    if let Err(why) = docker(&["version", "--format", "{{.Server.Version}}"]) {
        return Some(format!("no Docker engine answers: {}", why.trim()));
    }
    let has_compose = docker(&["compose", "version"]).is_ok()
        || run(Command::new("docker-compose").arg("version")).is_ok();
    (!has_compose).then(|| "there is no Docker Compose, neither V1 nor V2".to_owned())
}

/// A cluster of containers that ends with its test.
struct Containers {
    folder: TempDir,
    project: String,
    ports: [String; NODES],
}

impl Containers {
    /// Brings a cluster up that shares no name and no port with any other.
    fn up() -> Self {
        let port = |_| free_address().unwrap().rsplit(':').next().unwrap().to_owned();
        let containers = Self {
            folder: tempfile::tempdir().unwrap(),
            project: format!("statehouse-test-{}", std::process::id()),
            ports: std::array::from_fn(port),
        };
        // From here on its end takes everything down, however far it came.
        containers.bring_up(binary());
        containers
    }

    /// Runs `up.sh` with a binary; over a cluster that runs, too.
    fn bring_up(&self, binary: &Path) {
        let binary = binary.display().to_string();
        let state = self.state().display().to_string();
        let up = ["--binary", &binary, "--state", &state];
        println!("{}", self.script(&up).unwrap_or_else(|why| panic!("up.sh: {why}")));
    }

    fn script(&self, arguments: &[&str]) -> Result<String, String> {
        let image = format!("{}:latest", self.project);
        let mut command = Command::new(root().join("deploy/up.sh"));
        command.args(arguments).args(["--project", &self.project, "--image", &image]);
        for (number, port) in (1..).zip(&self.ports) {
            command.env(format!("STATEHOUSE_PORT_{number}"), port);
        }
        // What is killed stays down until the test starts it.
        run(command.env("STATEHOUSE_RESTART", "no"))
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn server(&self, node: usize) -> String {
        format!("https://127.0.0.1:{}", self.ports[node - 1])
    }

    fn servers(&self) -> String {
        (1..=NODES).map(|node| self.server(node)).collect::<Vec<_>>().join(",")
    }

    /// The command line, as somebody on this machine would type it.
    fn statehouse(&self, servers: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--servers", servers]).current_dir(root());
        command.arg("--ca-file").arg(self.state().join("certs/ca.pem"));
        command.arg("--token-file").arg(self.state().join("admin-token"));
        command
    }

    /// The cluster as one node sees it.
    fn status(&self, node: usize) -> Result<Value, String> {
        let arguments = ["cluster", "status", "--output", "json", "--timeout", "2s"];
        let text = run(&mut self.statehouse(&self.server(node), &arguments))?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Waits until every node sees every shard led and all nodes up.
    fn settle(&self) {
        for node in 1..=NODES {
            until("the cluster is whole", || {
                let status = self.status(node)?;
                let is_whole = items(&status, "members")
                    .iter()
                    .all(|member| member["state"] == "up")
                    && leaders(&status).len() == items(&status, "shards").len()
                    && items(&status, "shards").iter().all(|shard| shard.get("trouble").is_none());
                is_whole.then_some(()).ok_or_else(|| format!("node {node} sees {status}"))
            });
        }
    }

    /// The node that leads most shards.
    fn first(&self) -> usize {
        let status = self.status(1).unwrap();
        let mut led = BTreeMap::new();
        for leader in leaders(&status) {
            *led.entry(leader).or_insert(0) += 1;
        }
        led.into_iter().max_by_key(|(_, shards)| *shards).unwrap().0
    }

    /// Waits until the others see every shard led by one of them.
    fn taken_over(&self, victim: usize) {
        for node in (1..=NODES).filter(|node| *node != victim) {
            until("others lead", || {
                let status = self.status(node)?;
                let leaders = leaders(&status);
                let is_so =
                    leaders.len() == items(&status, "shards").len() && !leaders.contains(&victim);
                is_so.then_some(()).ok_or_else(|| format!("node {node} sees {status}"))
            });
        }
    }

    /// The container of a node, found by its labels: its name is Compose's business.
    fn container(&self, node: usize) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let node = format!("label=com.docker.compose.service=node-{node}");
        docker(&["ps", "--all", "--quiet", "--filter", &project, "--filter", &node]).unwrap()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 1..=NODES {
                let container = self.container(node);
                let mut logs = Command::new("docker");
                logs.args(["logs", "--tail", "10", &container]);
                let output = logs.output();
                let lines = output.map(|output| output.stderr).unwrap_or_default();
                eprintln!("--- node-{node}\n{}", String::from_utf8_lossy(&lines));
            }
        }
        if let Err(why) = self.script(&["--down", "--volumes"]) {
            eprintln!("the containers of {} are left behind: {why}", self.project);
        }
        if let Err(why) = docker(&["image", "rm", "--force", &format!("{}:latest", self.project)]) {
            eprintln!("an image is left behind: {why}");
        }
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// The numbers of the leaders of all shards that have one.
fn leaders(status: &Value) -> Vec<usize> {
    let number = |shard: &Value| {
        shard["leader"].as_str()?.strip_prefix('n')?.split('.').next()?.parse::<usize>().ok()
    };
    items(status, "shards").iter().filter_map(number).collect()
}

/// A load that ends with its test.
struct Load {
    child: Child,
    history: PathBuf,
}

impl Load {
    fn begin(containers: &Containers, name: &str, time: &str) -> Self {
        let history = containers.folder.path().join(format!("{name}.jsonl"));
        let arguments = ["bench", "--clients", "16", "--rate", "60", "--time", time];
        let mut command = containers.statehouse(&containers.servers(), &arguments);
        command.args(["--warm-up", "0s", "--attempts", "200", "--timeout", "2s", "--history"]);
        let child = command.arg(&history).stdout(Stdio::piped()).spawn().unwrap();
        let load = Self { child, history };
        until("the load is under way", || {
            let lines = std::fs::read_to_string(&load.history).unwrap_or_default().lines().count();
            if lines >= LINES_MIN { Ok(()) } else { Err(format!("{lines} lines")) }
        });
        load
    }

    fn assert_goes_on(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the load was over before the fault was: this proves nothing");
    }

    /// Waits for the end of the load and returns its history.
    fn end(mut self) -> PathBuf {
        let report = self.child.stdout.take();
        let status = self.child.wait().unwrap();
        println!("{}", std::io::read_to_string(report.unwrap()).unwrap());
        assert!(status.success(), "the load: {status}");
        self.history.clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an engine does to a node.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Pause,
    Cut,
}

impl Fault {
    fn begin(self, containers: &Containers, node: usize) {
        let (container, mesh) =
            (containers.container(node), format!("{}_mesh", containers.project));
        // An engine may fail to freeze processes that are busy; it thaws them, and can be asked again.
        until("the engine breaks it", || match self {
            Self::Kill => docker(&["kill", "--signal", "KILL", &container]),
            Self::Pause => docker(&["pause", &container]),
            Self::Cut => docker(&["network", "disconnect", &mesh, &container]),
        });
    }

    fn end(self, containers: &Containers, node: usize) {
        let (container, mesh) =
            (containers.container(node), format!("{}_mesh", containers.project));
        let (service, alias) = (format!("node-{node}"), format!("node-{node}.mesh"));
        until("the engine heals it", || match self {
            Self::Kill => docker(&["start", &container]),
            Self::Pause => docker(&["unpause", &container]),
            Self::Cut => {
                let names = ["--alias", &service, "--alias", &alias];
                docker(&[&["network", "connect"], &names[..], &[&mesh, &container]].concat())
            }
        });
    }
}

/// Breaks the node that leads most while a load runs, heals it, and lets the judge read what happened.
fn suffers(containers: &Containers, fault: Fault) {
    containers.settle();
    let mut load = Load::begin(containers, &format!("{fault:?}"), "20s");
    let victim = containers.first();
    println!("{fault:?} of node-{victim}");
    fault.begin(containers, victim);
    containers.taken_over(victim);
    load.assert_goes_on();
    fault.end(containers, victim);
    containers.settle();
    load.assert_goes_on();
    judge(&load.end());
}

/// Runs `up.sh` with another binary while a load runs: every node gets a new container, one after the other.
fn renewed(containers: &Containers) {
    let other = containers.folder.path().join("statehouse");
    let mut bytes = std::fs::read(binary()).unwrap();
    // Another file of the same program: nothing reads what stands behind its end.
    bytes.push(0);
    std::fs::write(&other, bytes).unwrap();
    let mode = std::fs::metadata(binary()).unwrap().permissions();
    std::fs::set_permissions(&other, mode).unwrap();
    let mut load = Load::begin(containers, "renewed", "90s");
    containers.bring_up(&other);
    load.assert_goes_on();
    containers.settle();
    judge(&load.end());
}

fn judge(history: &Path) {
    let verdict = run(Command::new(binary()).args(["drill", "judge"]).arg(history));
    match verdict {
        // Exit 0 is VALID, and nothing else is.
        Ok(verdict) => println!("{verdict}"),
        Err(verdict) => {
            let kept = std::env::temp_dir().join("statehouse-compose-cluster.jsonl");
            std::fs::copy(history, &kept).unwrap();
            panic!("the history is kept in {}: {verdict}", kept.display());
        }
    }
}

#[test]
fn three_containers_keep_their_promises_through_a_kill_a_pause_and_a_cut() {
    if let Some(why) = missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let containers = Containers::up();
    let before: Vec<String> = (1..=NODES).map(|node| containers.container(node)).collect();
    let everywhere = containers.servers();
    let deploy = ["definition", "deploy", "config/definitions/approval.yaml"];
    run(&mut containers.statehouse(&everywhere, &deploy)).unwrap();
    let ids: Vec<String> = (0..INSTANCES).map(|number| format!("before-{number}")).collect();
    for id in &ids {
        let start = ["instance", "start", "approval", "--id", id, "--input", r#"{"amount": 12}"#];
        run(&mut containers.statehouse(&everywhere, &start)).unwrap();
    }

    // Again, over a cluster that runs: nothing is founded anew, nothing is replaced.
    let all = || (1..=NODES).map(|node| containers.container(node)).collect::<Vec<_>>();
    containers.bring_up(binary());
    assert_eq!(before, all());
    renewed(&containers);
    assert!(before.iter().zip(all()).all(|(before, after)| *before != after));

    for fault in [Fault::Kill, Fault::Pause, Fault::Cut] {
        suffers(&containers, fault);
    }
    for (id, node) in ids.iter().zip((1..=NODES).cycle()) {
        let get = ["instance", "get", id];
        let found = run(&mut containers.statehouse(&containers.server(node), &get)).unwrap();
        assert!(found.contains("waiting"), "{found}");
    }
    // A health check of the container's own, in an image that holds nothing else.
    for node in 1..=NODES {
        let container = containers.container(node);
        let ready = docker(&["exec", &container, "/statehouse", "health", "--ready"]).unwrap();
        assert_eq!(ready, "ready");
    }
}
