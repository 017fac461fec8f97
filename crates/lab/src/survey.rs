//! What the nodes of a cluster say of themselves: which shards they hold, in which term, how far they have applied.
//!
//! Asked beside the load, before and after it. A node that does not answer counts as away; the others' words are taken
//! as they are, because a figure in a report is no proof.
//!
//! Deliberately absent: who leads. A load run follows what it is told with each answer.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use statehouse_sdk::{Budget, CallError, Client};
use tokio::task::JoinSet;

/// How long a node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long it may take to be there: one that was killed a moment ago may be back within it.
const RETURN_MAX: Duration = Duration::from_secs(3);
const TRIES_MAX: u32 = 30;

/// How often a node that does not answer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Once.
    Once,
    /// Until it had the time to come back.
    UntilBack,
}

/// What one node said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// Its name; empty when it told none.
    pub(crate) node: String,
    /// CPU time of its process since it was started, in microseconds; nothing when it did not say.
    pub(crate) cpu_us: Option<u64>,
    /// Its shards, by number.
    pub(crate) shards: BTreeMap<u32, Standing>,
}

/// Where a shard stands on a node, as far as it said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) term: Option<u64>,
    pub(crate) applied: Option<u64>,
}

impl Sighting {
    fn read(answer: &Value) -> Self {
        let shards = answer.get("shards").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let standing = |shard: &Value| {
            let number = |name: &str| shard.get(name).and_then(Value::as_u64);
            let name = shard.get("shard").unwrap_or(shard).as_u64()?;
            let standing = Standing { term: number("term"), applied: number("applied") };
            Some((u32::try_from(name).ok()?, standing))
        };
        let node = answer.get("node").and_then(Value::as_str).unwrap_or_default().to_owned();
        let cpu_us = answer.get("cpu_us").and_then(Value::as_u64);
        Self { node, cpu_us, shards: shards.iter().filter_map(standing).collect() }
    }
}

/// Asks every node at once; each client speaks to one node. The answers stand in the nodes' order.
pub(crate) async fn survey(
    nodes: &[Client],
    patience: Patience,
) -> Vec<Result<Sighting, CallError>> {
    let (total, attempts_max) = match patience {
        Patience::Once => (ANSWER_MAX, 1),
        Patience::UntilBack => (RETURN_MAX, TRIES_MAX),
    };
    let budget = Budget { total, attempt: ANSWER_MAX, attempts_max, unreached_max: attempts_max };
    let mut asked = JoinSet::new();
    for (place, node) in nodes.iter().enumerate() {
        let node = node.with_budget(budget);
        asked.spawn(async move {
            let answer = node.cluster().await.done();
            (place, answer.map(|answer| Sighting::read(&answer.json())))
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_unstable_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Returns how many shards the cluster has; nothing when no node said.
pub(crate) fn shards(seen: &[Sighting]) -> Option<u32> {
    let most = seen.iter().map(|node| node.shards.len()).max().unwrap_or(0);
    u32::try_from(most).ok().filter(|shards| *shards > 0)
}

/// Returns by how much terms rose between two looks, over all shards; nothing when no node told terms.
///
/// Every new leader begins a new term, so no change is missed; an election without a winner counts as well.
pub(crate) fn changes(before: &[Sighting], after: &[Sighting]) -> Option<u64> {
    let (before, after) = (terms(before), terms(after));
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let rise =
        |(shard, term): (&u32, &u64)| term.saturating_sub(*before.get(shard).unwrap_or(term));
    Some(after.iter().map(rise).sum())
}

/// Returns the CPU time that the nodes took between two looks, in microseconds; nothing when one of them did not say, or
/// was started again in between.
pub(crate) fn cpu_us(before: &[Sighting], after: &[Sighting]) -> Option<u64> {
    let taken = |node: &Sighting| {
        let was = before.iter().find(|earlier| earlier.node == node.node)?;
        node.cpu_us?.checked_sub(was.cpu_us?)
    };
    if after.is_empty() || after.len() != before.len() {
        return None;
    }
    after.iter().map(taken).sum()
}

fn terms(seen: &[Sighting]) -> BTreeMap<u32, u64> {
    let mut newest = BTreeMap::new();
    for (shard, standing) in seen.iter().flat_map(|node| &node.shards) {
        if let Some(term) = standing.term {
            let known = newest.entry(*shard).or_insert(term);
            *known = term.max(*known);
        }
    }
    newest
}

/// Returns the shards that the nodes have not applied equally far.
pub(crate) fn uneven(seen: &[Sighting]) -> Vec<u32> {
    let mut applied: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    let mut uneven = Vec::new();
    for (shard, standing) in seen.iter().flat_map(|node| &node.shards) {
        if standing.applied != *applied.entry(*shard).or_insert(standing.applied) {
            uneven.push(*shard);
        }
    }
    uneven.sort_unstable();
    uneven.dedup();
    uneven
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, shards: &[(u64, u64)]) -> Sighting {
        let shards: Vec<Value> = (0..)
            .zip(shards)
            .map(|(shard, (term, applied))| json!({"shard": shard, "term": term, "applied": applied}))
            .collect();
        Sighting::read(&json!({"node": name, "shards": shards}))
    }

    #[test]
    fn rises_of_terms_are_counted_over_all_nodes_and_shards() {
        let before = [node("a", &[(3, 0), (5, 0)]), node("b", &[(3, 0), (4, 0)])];
        let after = [node("b", &[(4, 0), (7, 0)])];
        assert_eq!(changes(&before, &after), Some(3));
        assert_eq!(changes(&before, &before), Some(0));
        assert_eq!(changes(&[], &after), None);
        assert_eq!(shards(&before), Some(2));
        assert_eq!(shards(&[Sighting::default()]), None);
    }

    #[test]
    fn cpu_time_is_summed_over_nodes_that_ran_all_the_time() {
        let node = |name: &str, cpu: u64| Sighting::read(&json!({"node": name, "cpu_us": cpu}));
        let before = [node("a", 100), node("b", 50)];
        assert_eq!(cpu_us(&before, &[node("b", 80), node("a", 101)]), Some(31));
        assert_eq!(cpu_us(&before, &[node("a", 99), node("b", 80)]), None, "started again");
        assert_eq!(cpu_us(&before, &[node("a", 101)]), None, "one is away");
        assert_eq!(cpu_us(&before, &[node("a", 101), node("c", 80)]), None, "another one");
        assert_eq!(cpu_us(&[], &[]), None);
        let silent = Sighting::read(&json!({"node": "a"}));
        assert_eq!(cpu_us(std::slice::from_ref(&silent), std::slice::from_ref(&silent)), None);
    }

    #[test]
    fn a_shard_is_even_when_every_node_has_applied_as_far() {
        let even = [node("a", &[(1, 7), (1, 9)]), node("b", &[(1, 7), (2, 9)])];
        assert_eq!(uneven(&even), Vec::<u32>::new());
        let behind = node("c", &[(1, 7), (1, 8)]);
        assert_eq!(uneven(&[even[0].clone(), even[1].clone(), behind]), [1]);
        let silent = Sighting::read(&json!({"node": "x", "shards": [0, {"shard": 1}]}));
        assert_eq!(silent.shards.len(), 2);
        assert_eq!(uneven(&[silent.clone(), silent]), Vec::<u32>::new());
    }
}
