//! S8: replicas at one position are equal.
//!
//! Every node that holds a position holds the same entry with the same running hash; a copy that reaches past a
//! position and has not purged it holds what the others hold there; copies that end at one position end at one hash.
//!
//! `leader` and `level` are what a node says about a time, not what the log says: they are left to other rules.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{
    dump::Entry,
    index::{Instance, Record},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for record in instance.lives.values().flat_map(|life| &life.records) {
            equal(report, instance, *record);
            present(report, instance, *record);
        }
    }
    chains(report);
}

fn equal(report: &mut Report<'_, '_>, instance: &Instance<'_>, record: Record<'_>) {
    let index = report.index;
    for other in index.lines_of(record).iter().skip(1) {
        let first = record.entry;
        let is_same_copy = (&first.node, first.n) == (&other.node, other.n);
        let what = match difference(first, other) {
            Some(field) => format!(
                "position {}: nodes {} and {} differ in {field}",
                first.pos, first.node, other.node
            ),
            None if is_same_copy => {
                format!("position {}: node {} tells it twice", first.pos, first.node)
            }
            None => continue,
        };
        report.violate(
            Rule::Replica,
            instance.name(),
            what,
            Proof::default().and(first).and(other),
        );
    }
}

fn difference(a: &Entry, b: &Entry) -> Option<&'static str> {
    let fields = [
        ("kind", a.kind != b.kind),
        ("version", a.ver != b.ver),
        ("key", a.key != b.key),
        ("command", a.cmd != b.cmd),
        ("expected version", a.exp != b.exp),
        ("state", a.state != b.state),
        ("reply", a.reply != b.reply),
        ("actor", a.actor != b.actor),
        ("reason", a.reason != b.reason),
        ("definition", a.def != b.def),
        ("term", a.term != b.term),
        ("bucket epoch", a.bepoch != b.bepoch),
        ("time", a.at != b.at),
        ("timers", a.arm != b.arm || a.cancel != b.cancel || a.fire != b.fire),
        ("tasks", a.tasks != b.tasks),
        ("running hash", a.chain != b.chain && a.chain.is_some() && b.chain.is_some()),
    ];
    fields.into_iter().find_map(|(name, differs)| differs.then_some(name))
}

fn present(report: &mut Report<'_, '_>, instance: &Instance<'_>, record: Record<'_>) {
    let index = report.index;
    let entry = record.entry;
    for copy in index.copies.get(entry.shard.as_str()).into_iter().flatten() {
        let is_purged = copy.purged.iter().any(|(from, upto)| (*from..=*upto).contains(&entry.pos));
        let is_held =
            index.lines_of(record).iter().any(|line| (&line.node, line.n) == (&copy.node, copy.n));
        if copy.pos >= entry.pos && !is_purged && !is_held {
            let what = format!(
                "node {} reaches position {} and lacks the entry at {}",
                copy.node, copy.pos, entry.pos
            );
            report.violate(
                Rule::Replica,
                instance.name(),
                what,
                Proof::lines([copy.line]).and(entry),
            );
        }
    }
}

/// Holds running hashes against each other: of any two nodes at one position, and of one node's entry and end.
fn chains(report: &mut Report<'_, '_>) {
    let history = report.index.history;
    let mut known: BTreeMap<(&str, u64), (&str, usize)> = BTreeMap::new();
    let entries = history
        .entries
        .iter()
        .map(|entry| (entry.shard.as_str(), entry.pos, &entry.chain, entry.line));
    let ends = history.shards.iter().map(|end| (end.shard.as_str(), end.pos, &end.chain, end.line));
    for (shard, pos, chain, line) in entries.chain(ends) {
        let Some(chain) = chain.as_deref() else { continue };
        let (first, first_line) = *known.entry((shard, pos)).or_insert((chain, line));
        if first != chain {
            let what = format!("two running hashes at position {pos}");
            report.violate(
                Rule::Replica,
                format!("shard {shard}"),
                what,
                Proof::lines([first_line, line]),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn two_states_at_one_position_are_found() {
        Script::clean()
            .with("ship.b", "state", "\"s9\"")
            .finds("S8", "position 14: nodes a and b differ in state");
    }

    #[test]
    fn two_timer_sets_at_one_position_are_found() {
        Script::clean().with("start.b", "arm", "[]").finds("S8", "nodes a and b differ in timers");
    }

    #[test]
    fn an_entry_that_one_copy_lacks_is_found() {
        Script::clean()
            .without("fire.b")
            .finds("S8", "node b reaches position 18 and lacks the entry at 15");
    }

    #[test]
    fn copies_that_end_at_one_position_with_two_hashes_are_found() {
        Script::clean()
            .with("shard.b", "chain", "\"h0\"")
            .finds("S8", "two running hashes at position 18");
    }

    #[test]
    fn an_entry_told_twice_by_one_node_is_found() {
        Script::clean().twice("pay.a").finds("S8", "position 13: node a tells it twice");
    }
}
