//! S2: one key changes state at most once.
//!
//! Keys are typed by their origin, so an operator's key and a client's key of the same text are two keys. A key that
//! was swept with its instance and came back is not excused: a drill does not sweep.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{dump::Kind, index::origin, verdict::Rule};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for (key, records) in &instance.by_key {
            let mut by_origin: BTreeMap<Kind, Vec<_>> = BTreeMap::new();
            for record in records.iter().filter(|record| record.entry.is_change()) {
                by_origin.entry(origin(record.entry.kind)).or_default().push(record.entry);
            }
            for entries in by_origin.into_values().filter(|entries| entries.len() > 1) {
                let what = format!("key {key} changed state {} times", entries.len());
                let proof = Proof::lines(entries.iter().map(|entry| entry.line));
                report.violate(Rule::Once, instance.name(), what, proof);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_key_that_was_applied_twice_is_found() {
        let script =
            Script::clean().with("ship.a", "key", "\"k-pay\"").with("ship.b", "key", "\"k-pay\"");
        script.finds("S2", "key k-pay changed state 2 times");
    }

    #[test]
    fn an_operator_may_use_the_text_of_a_clients_key() {
        let script =
            Script::clean().with("fire.a", "key", "\"k-pay\"").with("fire.b", "key", "\"k-pay\"");
        script.is_valid();
    }
}
