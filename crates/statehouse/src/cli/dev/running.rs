//! The running processes of `statehouse dev --nodes N`: started, read, waited for, and ended one way or another.
//!
//! Each node is a child in a process group of its own, so that Ctrl-C reaches this process alone, which stops them in
//! order. A node that does not end in time is killed: what it holds (ports, the lock of its directory) must not outlive
//! this process. If this process is killed itself, the end of their standard input tells the nodes.
//!
//! Deliberately absent: whether a node that ended is started again.

use std::{
    io::{self, Write as _},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{DEV_TOKEN_FILE, places::Member};
use crate::cli::{
    exit::{Exit, Failure},
    output::wants_colour,
};

/// How long the nodes may take to end when they are asked to.
const STOP_MAX: Duration = Duration::from_secs(15);

/// A node that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its number.
    pub(super) number: u32,
    status: io::Result<ExitStatus>,
}

impl Ended {
    /// Says how, in words that follow its name.
    pub(super) fn how(&self) -> String {
        match &self.status {
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("cannot be watched: {error}"),
        }
    }

    /// Makes the failure of a node that this end leaves nothing to do for; its own exit code says most.
    pub(super) fn failure(&self, what: &str) -> Failure {
        let code = self.status.as_ref().ok().and_then(ExitStatus::code);
        let exit = code.and_then(Exit::of_failed_process).unwrap_or(Exit::Broken);
        let reason = format!("node-{} {} {what}", self.number, self.how());
        Failure::new(exit, "node_ended", reason, "its last lines stand above; do what they say")
    }
}

/// The running processes.
#[derive(Debug, Default)]
pub(super) struct Running {
    nodes: Vec<(u32, Pid)>,
    lines: JoinSet<()>,
    ended: JoinSet<Ended>,
}

impl Running {
    /// Starts a node.
    pub(super) fn start(
        &mut self,
        binary: &Path,
        member: &Member,
        data: &Path,
    ) -> Result<(), Failure> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&member.settings).arg("--until-stdin-ends");
        if member.number == 1 {
            command.arg("--dev-token-file").arg(data.join(DEV_TOKEN_FILE));
        } else {
            command.arg("--join");
        }
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
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        self.nodes.extend(pid.map(|pid| (member.number, pid)));
        self.ended.spawn(wait(member.number, child));
        Ok(())
    }

    /// Returns whether no node runs.
    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Waits for the next end of a node; nothing when none runs.
    pub(super) async fn next_end(&mut self) -> Option<Ended> {
        // The tasks wait and do nothing else: none of them panics.
        let ended = self.ended.join_next().await?.ok()?;
        self.nodes.retain(|(number, _)| *number != ended.number);
        Some(ended)
    }

    /// Ends all that still run and waits for them, and for their last lines.
    pub(super) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let all = async { while self.next_end().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, all).await.is_err() {
            for (number, _) in &self.nodes {
                tell(&format!("node-{number} did not end within {STOP_MAX:?} and is killed"));
            }
            self.signal(Signal::KILL);
            while self.next_end().await.is_some() {}
        }
        while self.lines.join_next().await.is_some() {}
    }

    fn signal(&self, signal: Signal) {
        for (_, pid) in &self.nodes {
            // One that is gone already is as good.
            let _ = kill_process(*pid, signal);
        }
    }
}

async fn wait(number: u32, mut child: Child) -> Ended {
    let stdin = child.stdin.take();
    let status = child.wait().await;
    // Its end tells the node that nobody holds it any more; so it is held until the node has ended.
    drop(stdin);
    Ended { number, status }
}

fn prefix(number: u32) -> String {
    // Six colours that are read on dark and light ground alike.
    const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];
    if !wants_colour(&io::stderr()) {
        return format!("node-{number} | ");
    }
    let colour = COLOURS[(number as usize - 1) % COLOURS.len()];
    format!("\u{1b}[{colour}mnode-{number} |\u{1b}[0m ")
}

fn tell(line: &str) {
    // A terminal that is gone is no reason to end the cluster.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
