//! Faults of a cluster: what a node sends or hears is cut, in one direction or both, its clock is wrong, and both are healed.
//!
//! A node reads its faults from a file and says so when it has taken them over; whoever cuts waits for that.
//!
//! Deliberately absent: which cut makes which story. The tests tell them.

use std::fs;

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A node says so when it has taken over its faults.
const FAULTS_SET: &str = "faults of the links were set";

impl Cluster {
    /// Cuts what a node sends to others and what it hears of others, each in one direction; returns when they are cut.
    pub fn cut(&self, node: u32, to: &[u32], from: &[u32]) {
        let side = |peers: &[u32]| -> Value {
            peers
                .iter()
                .map(|peer| (peer.to_string(), json!("cut")))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        self.faults(node, &json!({ "to": side(to), "from": side(from) }));
    }

    /// Puts a node's own clock so many milliseconds ahead; returns when it is.
    pub fn turn_clock(&self, node: u32, ahead_ms: i64) {
        self.faults(node, &json!({ "clock_ms": ahead_ms }));
    }

    /// Ends all faults of a node.
    pub fn heal(&self, node: u32) {
        self.faults(node, &json!({}));
    }

    fn faults(&self, node: u32, plan: &Value) {
        let path = self.directory(node).join("faults.json");
        let (part, text) = (path.with_extension("part"), plan.to_string());
        if fs::read_to_string(&path).is_ok_and(|before| before == text) {
            return;
        }
        let count = || self.lines(node).iter().filter(|line| line.contains(FAULTS_SET)).count();
        let before = count();
        // Renamed, so that half a plan is never read.
        let put = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
        put.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.until("the faults of the links are set", || match count() {
            now if now > before => Ok(()),
            now => Err(format!("node {node} has said so {now} times")),
        });
    }
}
