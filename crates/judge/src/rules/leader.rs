//! S5: at most one leader per shard and term, and terms never fall along the log.
//!
//! Entries tell the term they were decided under and the node that decided. Deliberately absent: what a node believed
//! without deciding anything; a leader that wrote nothing harmed nobody.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{dump::Entry, verdict::Rule};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    let mut leaders: BTreeMap<(&str, u64), &Entry> = BTreeMap::new();
    let mut by_shard: BTreeMap<&str, Vec<(u64, u64, &Entry)>> = BTreeMap::new();
    for entry in &index.history.entries {
        let Some(term) = entry.term else { continue };
        by_shard.entry(&entry.shard).or_default().push((entry.pos, term, entry));
        if entry.leader.is_none() {
            continue;
        }
        let first = *leaders.entry((&entry.shard, term)).or_insert(entry);
        if first.leader != entry.leader {
            let name = |entry: &Entry| entry.leader.clone().unwrap_or_default();
            let what = format!("term {term} had two leaders, {} and {}", name(first), name(entry));
            report.violate(
                Rule::Leader,
                format!("shard {}", entry.shard),
                what,
                Proof::default().and(first).and(entry),
            );
        }
    }
    for (shard, mut entries) in by_shard {
        entries.sort_by_key(|(pos, term, entry)| (*pos, *term, entry.line));
        for pair in entries.windows(2) {
            let ((_, old, before), (pos, new, after)) = (pair[0], pair[1]);
            if new < old {
                let what = format!("term {new} at position {pos} follows term {old}");
                report.violate(
                    Rule::Leader,
                    format!("shard {shard}"),
                    what,
                    Proof::default().and(before).and(after),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn two_leaders_in_one_term_are_found() {
        Script::clean()
            .both("ship", "leader", "\"b\"")
            .finds("S5", "term 1 had two leaders, a and b");
    }

    #[test]
    fn a_term_that_falls_along_the_log_is_found() {
        Script::clean()
            .both("pay", "term", "3")
            .finds("S5", "term 1 at position 14 follows term 3");
    }
}
