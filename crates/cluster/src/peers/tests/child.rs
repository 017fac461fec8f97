//! A node in a process of its own: how a test starts it and talks with it, and what runs inside.

use std::{
    collections::BTreeSet,
    fmt,
    io::{BufRead as _, BufReader, Write as _, stdin, stdout},
    net::SocketAddr,
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, pg};
use ractor_cluster::RactorClusterMessage;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use statehouse_contract::NodeId;
use tokio::{net::TcpListener, sync::watch};
use tracing::{Event, Metadata, Subscriber, field, span};

use crate::{
    LinkSecurity, MutualTls,
    cookie::Cookie,
    faults::Faults,
    peers::{PeerAddress, Peers, PeersConfig, Timings},
    socket::Wire,
    testing::Files,
};

/// The variable that tells the test binary to be a node.
const SPEC: &str = "STATEHOUSE_TEST_NODE";
const GROUP: &str = "echo";
const SOON: Duration = Duration::from_secs(60);

/// What a node is told at its start.
#[derive(Serialize, Deserialize)]
pub(super) struct Spec {
    pub own: (u32, u32),
    pub cluster: u8,
    pub cookie: String,
    pub files: Option<FileNames>,
    pub faults: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct FileNames(std::path::PathBuf, std::path::PathBuf, std::path::PathBuf);

impl From<Files> for FileNames {
    fn from(files: Files) -> Self {
        Self(files.authority, files.certificate, files.key)
    }
}

impl Spec {
    pub(super) fn plain(number: u32) -> Self {
        let cookie = "the-right-cookie-of-16".to_owned();
        Self { own: (number, 1), cluster: 1, cookie, files: None, faults: None }
    }
}

/// A node that was started.
pub(super) struct Child {
    process: std::process::Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    pub own: (u32, u32),
    pub address: SocketAddr,
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that tells a node which nodes there are.
pub(super) fn known(nodes: &[Child]) -> String {
    nodes.iter().fold("known".to_owned(), |line, node| {
        format!("{line} {}.{}={}", node.own.0, node.own.1, node.address)
    })
}

impl Child {
    pub(super) fn start(spec: &Spec) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peers::tests::child::child_node", "--nocapture", "--test-threads=1"])
            .env(SPEC, serde_json::to_string(spec).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (send, lines) = mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| send.send(line).unwrap_or(()));
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let own = spec.own;
        let mut child = Self { process, input, lines, seen: Vec::new(), own, address };
        let port = child.until_part("listening ");
        child.address = port.rsplit_once(' ').unwrap().1.parse().unwrap();
        child
    }

    pub(super) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
        self.input.flush().unwrap();
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for a line, and forgets none that came before it.
    pub(super) fn until(&mut self, wanted: &str) {
        self.wait(wanted, |line| line == wanted);
    }

    /// Waits for lines that come in any order.
    pub(super) fn until_all(&mut self, mut wanted: Vec<String>) {
        while !wanted.is_empty() {
            let found = self.wait(&wanted.join(" and "), |line| wanted.iter().any(|w| w == line));
            wanted.retain(|line| *line != found);
        }
    }

    /// Waits for a line with this part, and returns it.
    pub(super) fn until_part(&mut self, wanted: &str) -> String {
        self.wait(wanted, |line| line.contains(wanted))
    }

    fn wait(&mut self, wanted: &str, matches: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let left = SOON.saturating_sub(began.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let own = self.own.0;
                panic!("node {own} never said {wanted:?}; it said {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if matches(&line) {
                return line;
            }
        }
    }

    pub(super) fn seen(&self) -> &[String] {
        &self.seen
    }
}

fn say(line: impl fmt::Display) {
    let mut output = stdout().lock();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}

/// Prints warnings, so that a test can read what an operator would.
struct Lines;

struct Line(String);

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("log {}", event.metadata().target()));
        event.record(&mut line);
        say(line.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

struct Echo;

#[derive(RactorClusterMessage)]
enum EchoMessage {
    #[rpc]
    Rpc(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

impl Actor for Echo {
    type Msg = EchoMessage;
    type State = String;
    type Arguments = String;

    async fn pre_start(
        &self,
        myself: ActorRef<EchoMessage>,
        own: String,
    ) -> Result<String, ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(own)
    }

    async fn handle(
        &self,
        _myself: ActorRef<EchoMessage>,
        EchoMessage::Rpc(word, reply): EchoMessage,
        own: &mut String,
    ) -> Result<(), ActorProcessingErr> {
        let word = String::from_utf8(word)?;
        reply.send(format!("{own}:{word}").into_bytes())?;
        Ok(())
    }
}

async fn call(word: &str) -> BTreeSet<String> {
    let mut answers = BTreeSet::new();
    for cell in pg::get_members(&GROUP.to_owned()) {
        if cell.get_id().is_local() {
            continue;
        }
        let actor: ActorRef<EchoMessage> = cell.into();
        let answer = actor.call(
            |reply| EchoMessage::Rpc(word.as_bytes().to_vec(), reply),
            Some(Duration::from_secs(20)),
        );
        let answer = answer.await.unwrap().unwrap();
        answers.insert(String::from_utf8(answer).unwrap());
    }
    answers
}

fn parse_known(words: std::str::SplitWhitespace<'_>) -> Vec<PeerAddress> {
    let parse = |word: &str| {
        let (node, address) = word.split_once('=').unwrap();
        let (number, incarnation) = node.split_once('.').unwrap();
        let (number, incarnation) = (number.parse().unwrap(), incarnation.parse().unwrap());
        PeerAddress { node: NodeId { number, incarnation }, address: address.to_owned() }
    };
    words.map(parse).collect()
}

async fn run(spec: Spec) {
    let own = NodeId { number: spec.own.0, incarnation: spec.own.1 };
    let security = match &spec.files {
        None => LinkSecurity::Plain,
        Some(FileNames(authority, certificate, key)) => {
            LinkSecurity::Mutual(MutualTls::load(authority, certificate, key).unwrap())
        }
    };
    let faults = Arc::new(Faults::default());
    let _followed = spec.faults.map(|path| Arc::clone(&faults).follow(path.into()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (feed, known) = watch::channel(Some(Vec::new()));
    let config = PeersConfig {
        own,
        cluster: [spec.cluster; 16],
        listener,
        cookie: Cookie::from_text(&spec.cookie),
        wire: Arc::new(Wire::new(security, faults, Arc::default())),
        timings: Timings::STANDARD,
    };
    Echo::spawn(None, Echo, own.to_string()).await.unwrap();
    let peers = Peers::start(config, known).await.unwrap();
    let mut states = peers.states();
    tokio::spawn(async move {
        let mut before = states.borrow_and_update().clone();
        while states.changed().await.is_ok() {
            let now = states.borrow_and_update().clone();
            for (node, state) in &now {
                if before.get(node) != Some(state) {
                    say(format!("state {node} {state:?}"));
                }
            }
            before = now;
        }
    });
    say(format!("listening {address}"));
    let (send, mut commands) = tokio::sync::mpsc::channel(100);
    std::thread::spawn(move || {
        let lines = stdin().lock().lines().map_while(Result::ok);
        lines.for_each(|line| send.blocking_send(line).unwrap_or(()));
    });
    while let Some(line) = commands.recv().await {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("known") => {
                feed.send_replace(Some(parse_known(words)));
                say("known");
            }
            Some("call") => {
                let answers = call(words.next().unwrap()).await;
                say(answers.iter().fold("answers".to_owned(), |line, a| format!("{line} {a}")));
            }
            Some("break") => peers.shared.server().kill(),
            _ => break,
        }
    }
    peers.stop().await;
}

/// Not a test by itself: a node, when the environment says so.
#[test]
fn child_node() {
    let Ok(spec) = std::env::var(SPEC) else { return };
    tracing::subscriber::set_global_default(Lines).unwrap();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(serde_json::from_str(&spec).unwrap()));
    std::process::exit(0);
}
