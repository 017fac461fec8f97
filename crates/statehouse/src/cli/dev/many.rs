//! `statehouse dev --nodes N`: a cluster on this machine, one process a node, one terminal.
//!
//! Each node is an ordinary `statehouse serve` with a configuration of its own in DATA/node-K/node.toml, so what is tried
//! here is what runs elsewhere; the only liberties are plain text over loopback and a token that is lying about. The
//! first node makes the cluster, the others join it. A node that ends is not started again behind anybody's back: its
//! `serve` command line is printed, or `--restart` was given.
//!
//! Deliberately absent: balancing of any kind, and logs on disk: everything goes to this terminal, with the node's name.
//!
//! Invariant: from the first node on, a signal at any time stops all, and nothing is left behind.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use statehouse_sdk::{Budget, Client, Options, Request};
use tokio::{task::JoinSet, time::sleep};

use super::{
    DEV_TOKEN_FILE, Dev,
    places::{COOKIE_FILE, Member},
    running::{Ended, Running},
    token, write_nodes,
};
use crate::{
    cli::{
        exit::{Exit, Failure},
        output::Output,
    },
    serve::{ending::Ending, seed},
};

/// How long a whole cluster may take to be there.
const READY_MAX: Duration = Duration::from_secs(60);
const READY_PAUSE: Duration = Duration::from_millis(20);
/// Pause before a node that ended is started again: it doubles with each end, up to the longest.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A node that ran for so long is well, and its next pause is the shortest again: what cannot run at all ends sooner.
const WELL_AFTER: Duration = Duration::from_secs(3);

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
        let binary = std::env::current_exe();
        let binary = binary
            .map_err(|error| Failure::broken(format!("cannot find this program: {error}")))?;
        let mut cluster = Cluster {
            dev: &self,
            binary,
            members,
            output,
            running: Running::default(),
            pauses: JoinSet::new(),
        };
        let mut ending = Ending::listen()?;
        let end = ending.unless_asked(cluster.live(begin, is_new)).await;
        cluster.running.stop().await;
        end.unwrap_or(Ok(Exit::Ok))
    }
}

/// The nodes, running or about to be started again.
struct Cluster<'a> {
    dev: &'a Dev,
    binary: PathBuf,
    members: Vec<Member>,
    output: Output,
    running: Running,
    // Of nodes that are started again when it is over.
    pauses: JoinSet<u32>,
}

/// What happens to a cluster that is watched.
enum News {
    Ended(Ended),
    Due(u32),
}

impl Cluster<'_> {
    /// Starts all nodes and watches them until none is left.
    async fn live(&mut self, begin: Instant, is_new: bool) -> Result<Exit, Failure> {
        for member in &self.members {
            self.running.start(&self.binary, member, &self.dev.data)?;
        }
        tokio::select! {
            ready = ready(&self.members, &self.dev.data) => ready?,
            // Before they were a cluster, none of them ends without a reason.
            Some(ended) = self.running.next_end() => {
                return Err(ended.failure("before the cluster was there"));
            }
        }
        self.introduce(begin, is_new)?;
        self.watch().await
    }

    /// Tells where everything is.
    fn introduce(&self, begin: Instant, is_new: bool) -> Result<(), Failure> {
        let apis: Vec<String> =
            self.members.iter().map(|member| format!("http://{}", member.api)).collect();
        let path = self.dev.data.join(DEV_TOKEN_FILE);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let shown = if is_new {
            format!("{} (kept in {})", kept.trim(), path.display())
        } else {
            format!("in {}", path.display())
        };
        let first = self.members.first().map(|member| self.serve_line(member)).unwrap_or_default();
        self.output.line(&self.output.pairs(&[
            ("APIs", apis.join(" ")),
            ("data", self.dev.data.display().to_string()),
            ("token", shown),
            ("start again", format!("{first} (node-1; the others alike)")),
            (
                "ready",
                format!(
                    "after {} ms; Ctrl-C stops all {}",
                    begin.elapsed().as_millis(),
                    self.members.len()
                ),
            ),
        ]))
    }

    fn serve_line(&self, member: &Member) -> String {
        format!("{} serve --config {}", self.binary.display(), member.settings.display())
    }

    /// Watches the nodes until none of them runs and none is going to.
    async fn watch(&mut self) -> Result<Exit, Failure> {
        let mut patience = vec![Patience::default(); self.members.len()];
        let mut last = None;
        while !(self.running.is_empty() && self.pauses.is_empty()) {
            let news = tokio::select! {
                Some(ended) = self.running.next_end() => News::Ended(ended),
                Some(Ok(number)) = self.pauses.join_next() => News::Due(number),
            };
            let number = match &news {
                News::Ended(ended) => ended.number,
                News::Due(number) => *number,
            };
            let of_number = self.members.iter().zip(&mut patience);
            let Some((member, patience)) = of_number.into_iter().find(|(m, _)| m.number == number)
            else {
                continue;
            };
            match news {
                News::Due(_) => {
                    patience.since = Instant::now();
                    self.running.start(&self.binary, member, &self.dev.data)?;
                }
                News::Ended(ended) if self.dev.restart => {
                    let pause = patience.next(Instant::now());
                    self.output.line(&format!(
                        "node-{number} {}; starting it again in {pause:?}",
                        ended.how()
                    ))?;
                    self.pauses.spawn(async move {
                        sleep(pause).await;
                        number
                    });
                }
                News::Ended(ended) => {
                    self.output.line(&format!(
                        "node-{number} {}; start it again with: {}",
                        ended.how(),
                        self.serve_line(member)
                    ))?;
                    last = Some(ended);
                }
            }
        }
        // Nobody asked for this: the caller of a script has to see it.
        Err(match last {
            Some(last) => last.failure("as the last one; no node runs any more"),
            None => Failure::broken("no node runs any more"),
        })
    }
}

/// How long a node is waited for before it is started again.
#[derive(Clone, Debug)]
struct Patience {
    pause: Duration,
    since: Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Self { pause: RESTART_PAUSE, since: Instant::now() }
    }
}

impl Patience {
    /// Returns the pause after an end now, and makes the one after it longer.
    fn next(&mut self, now: Instant) -> Duration {
        if now.duration_since(self.since) >= WELL_AFTER {
            self.pause = RESTART_PAUSE;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(RESTART_PAUSE_MAX);
        pause
    }
}

/// Waits until every node is ready and votes.
async fn ready(members: &[Member], data: &Path) -> Result<(), Failure> {
    let token = std::fs::read_to_string(data.join(DEV_TOKEN_FILE)).unwrap_or_default();
    let clients: Vec<Client> =
        members.iter().filter_map(|member| client(member.api, token.trim())).collect();
    let all = async {
        loop {
            let mut whole = 0;
            for client in &clients {
                whole += usize::from(is_whole(client, members.len()).await);
            }
            if whole == members.len() {
                return;
            }
            sleep(READY_PAUSE).await;
        }
    };
    let within = tokio::time::timeout(READY_MAX, all).await;
    within.map_err(|_| Failure::broken(format!("the cluster was not there within {READY_MAX:?}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_a_restart_grows_to_a_bound_and_a_node_that_was_well_begins_anew() {
        let begin = Instant::now();
        let mut patience = Patience { pause: RESTART_PAUSE, since: begin };
        let pauses: Vec<u128> = (0..8).map(|_| patience.next(begin).as_millis()).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(patience.next(begin + WELL_AFTER), RESTART_PAUSE);
    }
}
