//! Who leads what, and whether the cluster is whole: the drill's reading of what nodes say of themselves.
//!
//! Faults are aimed by this and healing is awaited by it; the verdict never rests on it. Pure: an answer in, a view out.
//!
//! Deliberately absent: any wait. Whoever wants the cluster to be somewhere looks again.

use std::collections::BTreeMap;

use serde_json::Value;

/// Entries that a copy may lag and still count as caught up: the load goes on while we look.
const LAG_MAX: u64 = 64;

/// Who leads a shard, since which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    /// The term.
    pub term: u64,
    /// The number of the node.
    pub node: u32,
}

/// Who leads each shard.
pub(crate) type Leads = BTreeMap<u32, Lead>;

/// Returns who leads each shard in one node's eyes.
///
/// # Errors
/// The first shard that is not served there, as the node tells it.
pub(crate) fn leads(view: &Value) -> Result<Leads, String> {
    shards(view)?
        .iter()
        .map(|shard| {
            let lead = || {
                let number = u32::try_from(shard["shard"].as_u64()?).ok()?;
                let lead = Lead { term: shard["term"].as_u64()?, node: leader(shard)? };
                let role = shard["role"].as_str();
                let is_open = matches!(role, Some("leader" | "follower" | "learner"));
                (is_open && shard.get("trouble").is_none()).then_some((number, lead))
            };
            lead().ok_or_else(|| shard.to_string())
        })
        .collect()
}

/// Tells whether a node's copies have applied what is committed.
///
/// # Errors
/// Which shard lags, and by how much.
pub(crate) fn caught_up(view: &Value) -> Result<(), String> {
    for shard in shards(view)? {
        let lag = shard["lag"].as_u64().ok_or_else(|| shard.to_string())?;
        if lag > LAG_MAX {
            return Err(format!("shard {} lags by {lag}", shard["shard"]));
        }
    }
    Ok(())
}

/// Returns the shards that a node leads.
pub(crate) fn led_by(leads: &Leads, node: u32) -> Vec<u32> {
    leads.iter().filter(|(_, lead)| lead.node == node).map(|(shard, _)| *shard).collect()
}

fn shards(view: &Value) -> Result<&Vec<Value>, String> {
    let shards = view["shards"].as_array().filter(|shards| !shards.is_empty());
    shards.ok_or_else(|| format!("it names no shards: {view}"))
}

/// A leader is named `n2.7`: node 2 in its incarnation 7.
fn leader(shard: &Value) -> Option<u32> {
    shard["leader"].as_str()?.strip_prefix('n')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view() -> Value {
        json!({"shards": [
            {"shard": 0, "term": 3, "leader": "n1.1", "role": "leader", "lag": 0},
            {"shard": 1, "term": 4, "leader": "n2.7", "role": "follower", "lag": 3},
            {"shard": 2, "term": 4, "leader": "n2.7", "role": "learner", "lag": 65},
        ]})
    }

    #[test]
    fn leaders_are_read_and_what_each_leads() {
        let leads = leads(&view()).unwrap();
        assert_eq!(leads[&1], Lead { term: 4, node: 2 });
        assert_eq!((led_by(&leads, 1), led_by(&leads, 2)), (vec![0], vec![1, 2]));
    }

    #[test]
    fn a_shard_without_leader_or_in_trouble_is_no_view_and_a_lag_is_named() {
        let mut broken = view();
        broken["shards"][1]["leader"] = Value::Null;
        assert!(leads(&broken).unwrap_err().contains("\"shard\":1"));
        broken = view();
        broken["shards"][0]["trouble"] = json!("no_quorum");
        assert!(leads(&broken).is_err());
        assert!(leads(&json!({})).is_err());
        assert_eq!(caught_up(&view()), Err("shard 2 lags by 65".to_owned()));
    }
}
