//! S16: an instance stays on its definition until an explicit migration.
//!
//! Every entry names the digest of the definition that decided it; within a life it changes only at an entry of kind
//! `migrate`. Deliberately absent: whether a stored version ever changes, which only comparing documents can show.

use super::{Proof, Report};
use crate::{
    dump::{Entry, Kind},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for (born, life) in instance.lives.iter().filter(|(born, _)| **born != 0) {
            let mut current: Option<&Entry> = None;
            for entry in
                life.records.iter().map(|record| record.entry).filter(|entry| entry.def.is_some())
            {
                if let Some(before) = current
                    && before.def != entry.def
                    && entry.kind != Kind::Migrate
                {
                    let what = format!(
                        "life {born} changed its definition at position {} without a migration",
                        entry.pos
                    );
                    report.violate(
                        Rule::Definition,
                        instance.name(),
                        what,
                        Proof::default().and(before).and(entry),
                    );
                }
                current = Some(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_definition_that_changes_under_an_instance_is_found() {
        Script::clean()
            .both("ship", "def", "\"d2\"")
            .finds("S16", "changed its definition at position 14");
    }

    #[test]
    fn a_migration_may_change_it() {
        let mut script = Script::clean().both("pay", "kind", "\"migrate\"").both(
            "pay",
            "reason",
            "\"new rules\"",
        );
        for name in ["pay", "ship", "late", "fire", "lease", "done"] {
            script = script.both(name, "def", "\"d2\"");
        }
        script.is_valid();
    }
}
