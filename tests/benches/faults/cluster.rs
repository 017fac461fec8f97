//! The cluster under the faults: three processes that `dev` starts again when they die.
//!
//! Absent on purpose: reading the nodes' data. It is asked as any client asks, with the command line.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The shards that `dev` makes.
pub(crate) const SHARDS: u64 = 4;
/// The key to the API.
pub(crate) const TOKEN: &str = "faults";
/// Patience for a cluster to be there.
const PATIENCE: Duration = Duration::from_secs(60);
/// The leaders are spread a few seconds after the last node came in.
const SPREAD: Duration = Duration::from_secs(6);

/// The cluster; it ends with this value.
pub(crate) struct Cluster {
    dev: Child,
    data: PathBuf,
    pub(crate) binary: PathBuf,
    pub(crate) servers: Vec<String>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.dev.id().to_string()]).status();
        let _ = self.dev.wait();
    }
}

impl Cluster {
    pub(crate) fn start(binary: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let data = folder.join("data");
        let dev = Command::new(binary)
            .args(["dev", "--nodes", "3", "--restart", "--token", TOKEN])
            .args(["--log", "info,openraft=error,ractor_cluster=error"])
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stdout(File::create(folder.join("dev.log")).unwrap())
            .stderr(File::create(folder.join("dev.err")).unwrap())
            .spawn()
            .unwrap();
        let mut cluster = Self { dev, data, binary: binary.to_owned(), servers: Vec::new() };
        let begin = Instant::now();
        while cluster.servers.len() < 3 {
            assert!(begin.elapsed() < PATIENCE, "the cluster did not start");
            sleep(Duration::from_millis(50));
            let address =
                |n| fs::read_to_string(cluster.data.join(format!("node-{n}/api-address")));
            let found: Vec<String> = (1..=3).filter_map(|n| address(n).ok()).collect();
            cluster.servers = found.iter().map(|text| text.trim().to_owned()).collect();
        }
        sleep(SPREAD);
        cluster
    }

    /// Finds the node that leads most shards, and those shards.
    pub(crate) fn busiest(&self) -> (u32, Vec<u64>) {
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < PATIENCE, "nobody leads");
            let asked = self.ask(&["cluster", "status", "-o", "json"]);
            let body: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
            let mut led: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
            for shard in body["shards"].as_array().into_iter().flatten() {
                let leader = shard["leader"].as_str().unwrap_or_default();
                led.entry(leader).or_default().push(shard["shard"].as_u64().unwrap_or_default());
            }
            let most = led.iter().max_by_key(|(_, shards)| shards.len());
            let number =
                most.and_then(|(node, _)| node.strip_prefix('n')?.split('.').next()?.parse().ok());
            if let (Some(number), Some((_, shards))) = (number, most) {
                return (number, shards.clone());
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal to a node's process.
    pub(crate) fn signal(&self, node: u32, signal: &str) {
        let pid = fs::read_to_string(self.data.join(format!("node-{node}/statehouse.pid")));
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.unwrap().trim()]).status();
        assert!(sent.unwrap().success(), "no {signal} for node {node}");
    }

    /// Asks a shard's leader to hand over to whoever has most of the log.
    pub(crate) fn transfer(&self, shard: u64) {
        let asked = self.ask(&["cluster", "transfer", &shard.to_string()]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    }

    fn ask(&self, words: &[&str]) -> Output {
        Command::new(&self.binary)
            .args(words)
            .args(["--servers", &self.servers.join(",")])
            .env("STATEHOUSE_TOKEN", TOKEN)
            .output()
            .unwrap()
    }
}
