//! One node of a cluster as a process that takes signals, and who leads what in its eyes.
//!
//! A node that `dev` started is a child of `dev`; one that was started again is ours. Signals are sent with the system's
//! own `kill`, always by process id.
//!
//! Deliberately absent: starting it. The cluster knows the line.

use std::{
    collections::BTreeMap,
    process::{Child, Command},
};

use serde_json::Value;

use crate::patience::until;

/// Who leads a shard, since which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The term.
    pub term: u64,
    /// The number of the node.
    pub node: u32,
}

/// Who leads each shard.
pub type Leads = BTreeMap<u32, Lead>;

/// A process of a node.
#[derive(Debug)]
pub(crate) struct Member {
    /// `host:port` of its API; it keeps it.
    api: String,
    pid: u32,
    /// Where it was started here and not by `dev`.
    own: Option<Child>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    /// Asked to end; it may be gone already.
    Parting,
    Dead,
}

impl Member {
    /// Takes a running child of `dev`.
    pub(crate) fn of_dev(api: String, pid: u32) -> Self {
        Self { api, pid, own: None, state: State::Running }
    }

    /// Takes the process that the node is from now on.
    pub(crate) fn is(&mut self, child: Child) {
        (self.pid, self.own, self.state) = (child.id(), Some(child), State::Running);
    }

    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    /// Tells whether it can answer, as far as we have let it.
    pub(crate) fn answers(&self) -> bool {
        self.state == State::Running
    }

    pub(crate) fn stop(&mut self) {
        self.signal("STOP");
        self.state = State::Stopped;
    }

    pub(crate) fn go_on(&mut self) {
        self.signal("CONT");
        self.state = State::Running;
    }

    /// Ends it by a signal and waits until it is gone.
    pub(crate) fn end(&mut self, signal: &str) {
        if self.state != State::Parting {
            self.signal(signal);
        }
        until(&format!("it ends by SIG{signal}"), || {
            if self.is_gone() { Ok(()) } else { Err(format!("{self:?} goes on")) }
        });
        (self.own, self.state) = (None, State::Dead);
    }

    /// Asks it to end, and does not wait for that.
    pub(crate) fn part(&mut self) {
        self.signal("TERM");
        self.state = State::Parting;
    }

    /// Leaves nothing behind, whatever state it is in.
    pub(crate) fn clear(&mut self) {
        if self.state != State::Dead {
            // Also a stopped process ends by this.
            send(self.pid, "KILL");
        }
        if let Some(child) = &mut self.own {
            let _ = child.wait();
        }
    }

    fn is_gone(&mut self) -> bool {
        match &mut self.own {
            Some(child) => child.try_wait().expect("a child can be waited for").is_some(),
            None => !send(self.pid, "0"),
        }
    }

    fn signal(&self, name: &str) {
        assert!(send(self.pid, name), "{self:?} takes no SIG{name}");
    }
}

/// Sends a signal by process id; returns whether there was such a process.
fn send(pid: u32, name: &str) -> bool {
    let line = format!("kill -s {name} {pid} 2>/dev/null");
    Command::new("sh").arg("-c").arg(line).status().is_ok_and(|status| status.success())
}

/// Returns who leads each shard in one node's view; fails with the first shard that is not served.
pub(crate) fn leads(view: &Value) -> Result<Leads, String> {
    let shards = view["shards"].as_array().ok_or("there are no shards")?;
    let lead = |shard: &Value| {
        let number = u32::try_from(shard["shard"].as_u64()?).ok()?;
        let node = shard["leader"].as_str()?.strip_prefix('n')?.split('.').next()?.parse().ok()?;
        let is_open = matches!(shard["role"].as_str(), Some("leader" | "follower" | "learner"));
        let term = shard["term"].as_u64()?;
        (is_open && shard.get("trouble").is_none()).then_some((number, Lead { term, node }))
    };
    shards.iter().map(|shard| lead(shard).ok_or_else(|| shard.to_string())).collect()
}
