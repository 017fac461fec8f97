//! S17, as far as the log goes: every change says who made it and when, and an operator says why.
//!
//! The entry is the audit record, so "exactly one" is the rule about versions; here stands what each must carry.
//! Timers, tasks and queues are the platform's own doing and need no actor.

use super::{Proof, Report};
use crate::{
    dump::{Entry, Kind},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for entry in
            instance.lives.values().flat_map(|life| &life.changes).map(|record| record.entry)
        {
            if let Some(missing) = missing(entry) {
                let what = format!("version {} does not say {missing}", entry.place().1);
                report.violate(Rule::Audit, instance.name(), what, Proof::default().and(entry));
            }
        }
    }
}

fn missing(entry: &Entry) -> Option<&'static str> {
    let is_empty = |field: &Option<String>| field.as_ref().is_none_or(String::is_empty);
    let (needs_actor, needs_reason) = match entry.kind {
        Kind::Start | Kind::Cmd | Kind::Signal => (true, false),
        Kind::Operator | Kind::Migrate => (true, true),
        Kind::Timer
        | Kind::Task
        | Kind::Queue
        | Kind::Outbox
        | Kind::Child
        | Kind::Refused
        | Kind::Lease => (false, false),
    };
    if entry.at.is_none() {
        Some("when")
    } else if needs_actor && is_empty(&entry.actor) {
        Some("who")
    } else if needs_reason && is_empty(&entry.reason) {
        Some("why")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_change_without_an_actor_is_found() {
        Script::clean().both("pay", "actor", "null").finds("S17", "version 2 does not say who");
    }

    #[test]
    fn a_change_without_a_time_is_found() {
        Script::clean().both("pay", "at", "null").finds("S17", "version 2 does not say when");
    }

    #[test]
    fn an_operators_verb_without_a_reason_is_found() {
        Script::clean()
            .both("pay", "kind", "\"operator\"")
            .finds("S17", "version 2 does not say why");
    }
}
