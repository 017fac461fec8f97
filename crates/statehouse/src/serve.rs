//! From a configuration to a running node, and from a signal to its end.
//!
//! `statehouse serve`, `statehouse dev` and `statehouse cluster init` all start a node here. The order is: take the
//! address, open the directory (which takes its lock), write down who runs here, serve. The end is the same
//! backwards: refuse new requests, answer those that were let in, stop the node, close the files.
//!
//! Deliberately absent: daemonising, log files, reloading: whoever runs the process does that.
//!
//! Invariants: an empty directory becomes a cluster only through `dev` or `cluster init`; from the first signal to
//! the end of the process pass at most `limits::DRAIN_MS_MAX`.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use statehouse_cluster::{Bootstrap, JoinError, NodeError};
use statehouse_contract::{Build, Clock, NodeId, limits};
pub(crate) use statehouse_sdk::chain;
use statehouse_telemetry::{LogFormat, LogSettings, Pipeline};

use crate::{
    api::{self, ApiState},
    cli::{
        exit::{Exit, Failure},
        output::Output,
        session::API_ADDRESS_FILE,
        settings,
    },
    clock::SystemClock,
    config::{ApiSettings, LineFormat, Loaded, Settings, Sources},
};
use ending::Ending;
use house::House;
use upkeep::WallClock;

pub(crate) mod ending;
mod house;
pub(crate) mod member;
pub(crate) mod restore;
pub(crate) mod seed;
pub(crate) mod upkeep;

/// Name of the file in DATA/node-K that holds the number of the running process.
const PID_FILE: &str = "statehouse.pid";

/// Name of the file in DATA/node-K that holds the settings of the last start.
pub(crate) const SETTINGS_FILE: &str = "node.toml";

/// Connections to the API that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// How long the end waits for a collector to take what is left.
const TELL_MAX: Duration = Duration::from_secs(1);
/// What the end of a node may take after its API has stopped.
const CLOSE_MAX: Duration = Duration::from_millis(limits::DRAIN_MS_MAX / 8);

/// `statehouse serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration; left out: the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// DATA, instead of that of the configuration.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where the API listens, instead of the address in the configuration.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// A proxy in front terminates TLS, and nobody else can reach the port.
    #[arg(long)]
    behind_proxy: bool,
    /// Nodes on this machine talk in plain text over loopback.
    #[arg(long)]
    insecure_loopback: bool,
    /// If the directory is empty: join the cluster of the seeds as a new member. Never makes a cluster.
    #[arg(long)]
    join: bool,
    /// Make the development tenant, its key and the sample definition: `dev` starts its nodes so.
    #[arg(long, hide = true, value_name = "FILE")]
    dev_token_file: Option<PathBuf>,
    /// Stop when standard input ends, so that no node outlives the `dev` that started it.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Serve {
    /// Runs the node until a signal ends it.
    pub(crate) async fn run(self, output: Output, build: Build) -> Result<Exit, Failure> {
        let sources = Sources::from_process(self.config)
            .flag("node.data", "--data", self.data)
            .flag("api.listen", "--listen", self.listen)
            .flag("api.behind_proxy", "--behind-proxy", self.behind_proxy.then_some(true))
            .flag(
                "cluster.insecure_loopback",
                "--insecure-loopback",
                self.insecure_loopback.then_some(true),
            );
        let loaded = settings::load(&sources)?;
        // Before anything that waits for other nodes: whoever started this process may be gone before they are there.
        let listening = Ending::listen()?;
        let mut ending = if self.until_stdin_ends { listening.or_stdin_ends() } else { listening };
        if self.join {
            let joined = member::join_unless_there(&loaded.settings, build);
            match ending.unless_asked(joined).await {
                Some(joined) => joined?,
                None => return Ok(Exit::Ok),
            }
        }
        let started = Started::start(&loaded, Bootstrap::Never, build).await?;
        if let Some(file) = &self.dev_token_file {
            let seeded = ending.unless_asked(seed::development(&started.house, file)).await;
            match seeded {
                Some(Ok(())) => {}
                Some(Err(failure)) => {
                    started.close().await;
                    return Err(failure);
                }
                None => {
                    started.close().await;
                    return Ok(Exit::Ok);
                }
            }
        }
        output.line(&format!(
            "serving {} from {}",
            started.url(),
            loaded.settings.directory().display()
        ))?;
        started.serve(&loaded.settings, ending).await
    }
}

/// A node that runs but does not serve yet.
pub(crate) struct Started {
    /// The node, and the way to it.
    pub(crate) house: House,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
    pipeline: Pipeline,
    clock: SystemClock,
    /// The cluster's, or the node's own where it is alone.
    deciding: Arc<dyn Clock>,
    node: NodeId,
    directory: PathBuf,
}

impl Started {
    /// Takes the address and opens the directory, as a build that knows this.
    pub(crate) async fn start(
        loaded: &Loaded,
        bootstrap: Bootstrap,
        build: Build,
    ) -> Result<Self, Failure> {
        let settings = &loaded.settings;
        let pipeline = telemetry(settings)?;
        crate::mutant::announce();
        let tls = tls(&settings.api)?;
        let directory = settings.directory();
        // The address first, because the node tells it to others; but a directory in use is the better reason. Nobody is
        // let in before the node is up: who is refused asks another node at once, who were let in would wait.
        let bound = reserve(settings.api.listen);
        let address = bound.as_ref().ok().and_then(|socket| socket.local_addr().ok());
        let clock = SystemClock::start();
        let api = settings.api.seen_by_others(address.unwrap_or(settings.api.listen));
        let opened = member::open(settings, &api, (bootstrap, build), &clock).await?;
        let node_started = opened.map_err(|error| refused(&error, &directory))?;
        node_started.register(pipeline.meters());
        upkeep::register_certificates(pipeline.meters(), settings.certificates());
        node_started.offer(settings.builtin.kinds());
        let (node, deciding) = (node_started.id(), node_started.clock());
        let house = House::new(node_started);
        let listener = match bound.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => listener,
            Err(error) => {
                house.close(CLOSE_MAX).await;
                return Err(address_taken(settings.api.listen, &error));
            }
        };
        let address = address.unwrap_or(settings.api.listen);
        let started =
            Self { house, listener, tls, address, pipeline, clock, deciding, node, directory };
        started.write_down(loaded)?;
        Ok(started)
    }

    /// Returns the address of the API as a client writes it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    // Who runs here, for people and for `second process` messages.
    fn write_down(&self, loaded: &Loaded) -> Result<(), Failure> {
        let failed = |path: &Path, error: std::io::Error| Failure::file("write", path, &error);
        let put = |name: &str, text: String| {
            let path = self.directory.join(name);
            std::fs::write(&path, text).map_err(|error| failed(&path, error))
        };
        put(PID_FILE, format!("{}\n", std::process::id()))?;
        // The nodes of `dev` start from this file: a power cut must leave the old one or the new one, whole.
        let path = self.directory.join(SETTINGS_FILE);
        whole(&path, &format!("{}\n", settings::to_toml(loaded, false)))
            .map_err(|error| failed(&path, error))?;
        put(API_ADDRESS_FILE, format!("{}\n", self.url()))
    }

    /// Stops a node that does not serve yet, or not at all.
    pub(crate) async fn close(self) {
        self.house.close(CLOSE_MAX).await;
        forget(&self.directory);
    }

    /// Serves until it is asked to end, then drains and stops everything.
    pub(crate) async fn serve(
        self,
        settings: &Settings,
        mut ending: Ending,
    ) -> Result<Exit, Failure> {
        let Self { house, listener, tls, pipeline, clock, deciding, node, directory, .. } = self;
        let state = ApiState::new(
            Arc::new(house.clone()),
            deciding,
            &node.to_string(),
            seed::tenant(),
            pipeline.meters(),
            settings.slo.objectives(),
        );
        let wall = Arc::new(WallClock::default());
        wall.register(pipeline.meters());
        let ticking = tokio::spawn(tick(state.clone(), house.clone(), (wall, clock)));
        let signalled = Arc::new(tokio::sync::Notify::new());
        let parting = {
            let (signalled, house) = (Arc::clone(&signalled), house.clone());
            async move {
                signalled.notify_one();
                // While others take over, this node answers and forwards as before.
                house.hand_all_over().await;
                tracing::info!("draining");
            }
        };
        let drain = Duration::from_millis(settings.api.drain_ms)
            .min(Duration::from_millis(limits::DRAIN_MS_MAX) - 2 * CLOSE_MAX);
        let begin = Instant::now();
        let asked = async {
            ending.asked().await;
            tracing::info!(after_s = begin.elapsed().as_secs(), "asked to end");
        };
        let serving = api::serve(listener, tls, state, asked, parting);
        let overdue = async {
            signalled.notified().await;
            tokio::time::sleep(drain).await;
        };
        let end = tokio::select! {
            end = serving => end.map_err(|error| Failure::broken(format!("the API stopped: {error}"))),
            () = overdue => {
                tracing::warn!("some requests were not answered before the end of the drain");
                Ok(())
            }
            why = house.failed() => Err(failed(&why)),
        };
        ticking.abort();
        house.close(CLOSE_MAX).await;
        // Off the runtime: it blocks until the collector has what waits, or for so long.
        let _ = tokio::task::spawn_blocking(move || pipeline.close(TELL_MAX)).await;
        forget(&directory);
        end?;
        tracing::info!("stopped");
        Ok(Exit::Ok)
    }
}

/// Takes samples of what was promised, and looks at the wall clock.
async fn tick(state: ApiState, house: House, (wall, clock): (Arc<WallClock>, SystemClock)) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(crate::slo::TICK_S));
    loop {
        ticks.tick().await;
        state.slo().tick(began.elapsed().as_secs(), house.timers());
        wall.look(&clock);
    }
}

/// Runs work on as many threads as the machine has.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::broken(format!("cannot start the runtime: {error}")))?;
    let end = runtime.block_on(work);
    // What is still running has had its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    end
}

fn telemetry(settings: &Settings) -> Result<Pipeline, Failure> {
    let format = match settings.telemetry.format {
        LineFormat::Auto => LogFormat::for_stderr(),
        LineFormat::Text => LogFormat::Text,
        LineFormat::Json => LogFormat::Json,
    };
    let lines = LogSettings { format, filter: settings.telemetry.level.clone() };
    let outlet = settings.telemetry.outlet(&settings.node);
    if outlet.is_some() {
        let _ = settings.telemetry.sampling().install();
    }
    Pipeline::start(&lines, outlet).map_err(|error| {
        Failure::usage(
            chain(&error),
            "`telemetry.level` takes error, warn, info, debug, trace, or a filter",
        )
    })
}

// What `write_down` said of the process; the settings stay for the next one.
/// Writes a small file so that it is the old one or the new one after a power cut, and not at all where it says so already.
fn whole(path: &Path, text: &str) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|before| before == text.as_bytes()) {
        return Ok(());
    }
    let draft = path.with_extension("new");
    let mut file = std::fs::File::create(&draft)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
}

fn forget(directory: &Path) {
    for name in [PID_FILE, API_ADDRESS_FILE] {
        // A file that is gone already is as good.
        let _ = std::fs::remove_file(directory.join(name));
    }
}

// A node that cannot go on ends, so that whoever watches the process starts it again.
fn failed(why: &str) -> Failure {
    tracing::error!(why, "the node cannot go on");
    Failure::new(
        Exit::Broken,
        "node_failed",
        format!("the node cannot go on: {why}"),
        "start it again; if it fails again, look at the disk and at the lines before this one",
    )
}

// The settings were checked: there are both files or neither.
fn tls(settings: &ApiSettings) -> Result<Option<TlsAcceptor>, Failure> {
    let (Some(certificate), Some(key)) = (&settings.tls_certificate, &settings.tls_private_key)
    else {
        return Ok(None);
    };
    let acceptor = api::acceptor(certificate, key).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "look at `api.tls_certificate` and `api.tls_private_key`: two files in PEM form, the chain and its own key",
        )
    })?;
    Ok(Some(acceptor))
}

/// Takes an address without letting anybody in yet.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that is started again must not wait for the connections of its former life.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn address_taken(address: SocketAddr, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::AddrInUse => Exit::Conflict,
        _ => Exit::Usage,
    };
    Failure::new(
        exit,
        "address",
        format!("cannot listen on {address}: {error}"),
        "stop what listens there, or choose another --listen",
    )
}

fn refused(error: &NodeError, directory: &Path) -> Failure {
    let (exit, code, next) = match error {
        NodeError::Locked { .. } => (Exit::Conflict, "locked", "stop the other process, or choose another --data".to_owned()),
        NodeError::NotInitialised { .. } => (
            Exit::Rejected,
            "not_initialised",
            "a new cluster: `statehouse cluster init`, once; a new node of one: `statehouse cluster join`; \
             neither: look for the disk that is missing".to_owned(),
        ),
        NodeError::Mismatch { .. } => (Exit::Conflict, "mismatch", "start it with the settings it was made with, or choose another --data".to_owned()),
        NodeError::LogLost { .. } => (
            Exit::Conflict,
            "log_lost",
            "look for the file first; if it is gone for good: `statehouse cluster join --replace` with an empty directory".to_owned(),
        ),
        NodeError::NoCluster { .. } => (Exit::Conflict, "mismatch", "leave the settings of [cluster] out, or restore a backup into a new cluster".to_owned()),
        NodeError::Join(JoinError::Refused(_)) => (
            Exit::Rejected,
            "not_joined",
            "do what the cluster says, then join again".to_owned(),
        ),
        NodeError::Join(JoinError::NobodyThere { .. }) => (
            Exit::Rejected,
            "not_joined",
            "is a member running at one of `cluster.seeds`, with the same cookie and authority?".to_owned(),
        ),
        NodeError::Level { found, .. } => (
            Exit::Conflict,
            "level",
            format!("start it with a build that knows level {found}, as the other nodes run; nothing was changed"),
        ),
        NodeError::Disk { .. } => (Exit::Broken, "disk", "look at the disk and its permissions".to_owned()),
        NodeError::Part { .. } => (
            Exit::Broken,
            "node",
            "runbooks/operate/ has a page for what can go wrong with a directory".to_owned(),
        ),
    };
    let mut failure = Failure::new(exit, code, chain(error), next);
    if let NodeError::Locked { .. } = error
        && let Ok(pid) = std::fs::read_to_string(directory.join(PID_FILE))
    {
        failure.notes.push(format!("process {} runs on it", pid.trim()));
    }
    failure
}
