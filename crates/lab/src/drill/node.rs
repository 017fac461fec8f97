//! One node of a drill's own cluster: a child process that takes signals, starts again, and is asked how it is.
//!
//! A node keeps its directory and its address over all its lives. Its output goes to a file, because a pipe that nobody
//! reads stops a process as surely as a fault does.
//!
//! Deliberately absent: which fault it gets. Invariant: when this value ends, so does the process.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{DrillError, ask::ask, until};

/// A node says so when it has taken over the faults of its links.
const FAULTS_SET: &str = "faults of the links were set";
/// How long a node may take to end after a signal.
const END_WITHIN: Duration = Duration::from_secs(40);
const VIEW_WITHIN: Duration = Duration::from_secs(2);

/// What a node does, as far as the drill has made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    Down,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    number: u32,
    directory: PathBuf,
    api: String,
    token: String,
    log: PathBuf,
    child: Option<Child>,
    state: State,
}

impl Node {
    /// Takes a node that `dev` runs and is about to end; it keeps its address.
    pub(crate) fn found(
        number: u32,
        data: &Path,
        logs: &Path,
        token: &str,
    ) -> Result<Self, DrillError> {
        let path = data.join(format!("node-{number}/api-address"));
        let api = fs::read_to_string(&path).map_err(|source| DrillError::file(&path, source))?;
        let api = api.trim().trim_start_matches("http://");
        Ok(Self::at(number, api, data, logs, token))
    }

    /// Makes a node that does not run, with the address of its API.
    pub(crate) fn at(number: u32, api: &str, data: &Path, logs: &Path, token: &str) -> Self {
        Self {
            number,
            directory: data.join(format!("node-{number}")),
            api: api.to_owned(),
            token: token.to_owned(),
            log: logs.join(format!("node-{number}.log")),
            child: None,
            state: State::Down,
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the base address of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Returns its own directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts it with more variables in its environment; does not wait for it.
    pub(crate) fn start(
        &mut self,
        binary: &Path,
        environment: &[(String, String)],
    ) -> Result<(), DrillError> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|source| DrillError::file(&self.log, source))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(self.directory.join("node.toml"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.map_err(|source| DrillError::file(binary, source))?);
        self.state = State::Running;
        Ok(())
    }

    /// Ends it with a signal and waits until it is gone.
    pub(crate) fn end(&mut self, signal: &str) -> Result<(), DrillError> {
        self.signal(signal)?;
        self.gone()
    }

    /// Waits until it has ended, by itself or by a signal that was sent.
    pub(crate) fn gone(&mut self) -> Result<(), DrillError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let number = self.number;
        until(&format!("node {number} ends"), END_WITHIN, || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it goes on".to_owned()),
            Err(error) => Err(error.to_string()),
        })?;
        (self.child, self.state) = (None, State::Down);
        Ok(())
    }

    /// Tells whether the process has ended although nobody sent it a signal.
    pub(crate) fn has_died(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        self.state == State::Running && ended
    }

    /// Tells whether it could answer, as far as the drill has let it.
    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    pub(crate) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Stops it without ending it (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn hold(&mut self, is_held: bool) -> Result<(), DrillError> {
        let (signal, state) =
            if is_held { ("STOP", State::Stopped) } else { ("CONT", State::Running) };
        self.signal(signal)?;
        self.state = state;
        Ok(())
    }

    /// Sends a signal by process id.
    pub(crate) fn signal(&self, name: &str) -> Result<(), DrillError> {
        let number = self.number;
        let Some(child) = &self.child else {
            return Err(DrillError::Node(format!("node {number} does not run: no SIG{name}")));
        };
        let line = format!("kill -s {name} {}", child.id());
        match Command::new("sh").arg("-c").arg(line).status() {
            Ok(status) if status.success() => Ok(()),
            told => Err(DrillError::Node(format!("node {number} takes no SIG{name}: {told:?}"))),
        }
    }

    /// Asks it a question with the drill's token.
    pub(crate) fn ask(&self, request: &str, body: &str) -> Result<(u16, Value), String> {
        if !self.is_running() {
            return Err(format!("node {} does not run", self.number));
        }
        ask(&self.api, &self.token, request, body, VIEW_WITHIN)
            .map_err(|error| format!("node {}: {error}", self.number))
    }

    /// Returns the cluster as it sees it.
    pub(crate) fn view(&self) -> Result<Value, String> {
        match self.ask("GET /v1/cluster", "")? {
            (200, view) => Ok(view),
            (status, body) => Err(format!("node {} answers {status}: {body}", self.number)),
        }
    }

    /// Replaces all faults of its links and waits until it has taken them over.
    pub(crate) fn faults(&self, plan: &Value) -> Result<(), DrillError> {
        let path = self.directory.join("faults.json");
        let (part, text) = (path.with_extension("part"), plan.to_string());
        let before = fs::read_to_string(&path).unwrap_or_default();
        if before == text || (before.is_empty() && *plan == json!({})) {
            return Ok(());
        }
        let count = || self.lines().matches(FAULTS_SET).count();
        let told = count();
        // Renamed, so that half a plan is never read.
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|source| DrillError::file(&path, source))?;
        if !self.is_running() {
            return Ok(());
        }
        until(&format!("node {} takes its faults over", self.number), END_WITHIN, || {
            let now = count();
            if now > told { Ok(()) } else { Err(format!("it has said so {now} times")) }
        })
    }

    /// Returns everything that it wrote.
    pub(crate) fn lines(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it is ready to serve; returns how long that took.
    pub(crate) fn ready(&self, within: Duration) -> Result<Duration, DrillError> {
        let begun = Instant::now();
        until(&format!("node {} is ready", self.number), within, || {
            match self.ask("GET /readyz", "")? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("it answers {status}: {body}")),
            }
        })?;
        Ok(begun.elapsed())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Also a stopped process ends by this; it fails only where it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
