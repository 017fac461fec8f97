//! S4: versions run 1, 2, 3 without a gap, and an entry applies only at its expected version.
//!
//! Judged per life of an instance. A life begins with a `start` at version 1; where rows before a purge are gone, the
//! run may begin higher, and that is undecided.

use super::{Proof, Report};
use crate::{
    dump::Kind,
    index::{Instance, Life},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for life in instance.lives.values() {
            begins(report, instance, life);
            runs(report, instance, life);
        }
    }
}

fn begins(report: &mut Report<'_, '_>, instance: &Instance<'_>, life: &Life<'_>) {
    let Some(first) = life.changes.first().map(|record| record.entry) else { return };
    let (born, ver) = first.place();
    if ver == 1 && first.kind == Kind::Start && born == first.pos {
        return;
    }
    if ver != 1 && report.index.is_purged(Some(&first.shard)) {
        report.doubt(format!("{}: versions before {ver} were purged", instance.name()));
        return;
    }
    let what = if ver != 1 {
        format!("the first version is {ver}, not 1")
    } else if first.kind == Kind::Start {
        format!("it starts at position {} and says that it was born at {born}", first.pos)
    } else {
        "version 1 was not made by a start".to_owned()
    };
    report.violate(Rule::Version, instance.name(), what, Proof::default().and(first));
}

fn runs(report: &mut Report<'_, '_>, instance: &Instance<'_>, life: &Life<'_>) {
    for pair in life.changes.windows(2) {
        let (before, after) = (pair[0].entry, pair[1].entry);
        let (old, new) = (before.place().1, after.place().1);
        let proof = || Proof::default().and(before).and(after);
        if new == old {
            let what = format!(
                "version {new} was made twice, at positions {} and {}",
                before.pos, after.pos
            );
            report.violate(Rule::Version, instance.name(), what, proof());
        } else if new != old + 1 {
            if report.index.is_purged(Some(&after.shard)) {
                report.doubt(format!(
                    "{}: versions between {old} and {new} were purged",
                    instance.name()
                ));
            } else {
                report.violate(
                    Rule::Version,
                    instance.name(),
                    format!("version {old} is followed by {new}"),
                    proof(),
                );
            }
        } else if after.pos <= before.pos {
            let what =
                format!("version {new} stands at position {}, before version {old}", after.pos);
            report.violate(Rule::Version, instance.name(), what, proof());
        }
        if after.kind == Kind::Start {
            report.violate(
                Rule::Version,
                instance.name(),
                format!("version {new} is a second start"),
                proof(),
            );
        }
    }
    for entry in life.changes.iter().map(|record| record.entry) {
        let (_, ver) = entry.place();
        if let Some(exp) = entry.exp
            && exp + 1 != ver
        {
            let what = format!("an entry decided at version {exp} made version {ver}");
            report.violate(Rule::Version, instance.name(), what, Proof::default().and(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_gap_in_the_versions_is_found() {
        let script = Script::clean().both("ship", "ver", "4").both("ship", "exp", "3");
        script.finds("S4", "version 2 is followed by 4");
    }

    #[test]
    fn a_version_made_twice_is_found() {
        Script::clean()
            .both("ship", "ver", "2")
            .both("ship", "exp", "1")
            .finds("S4", "version 2 was made twice");
    }

    #[test]
    fn an_entry_that_applied_at_another_version_than_expected_is_found() {
        Script::clean().both("ship", "exp", "1").finds("S4", "decided at version 1 made version 3");
    }

    #[test]
    fn a_life_that_does_not_begin_with_a_start_is_found() {
        Script::clean()
            .both("start", "kind", "\"cmd\"")
            .finds("S4", "version 1 was not made by a start");
    }

    #[test]
    fn a_life_that_begins_past_version_1_is_found() {
        Script::clean()
            .without("start.a")
            .without("start.b")
            .finds("S4", "the first version is 2, not 1");
    }

    #[test]
    fn purged_first_versions_are_undecided() {
        let script = Script::clean().without("start.a").without("start.b");
        let script =
            script.with("shard.a", "purged", "[[1,12]]").with("shard.b", "purged", "[[1,12]]");
        script.is_undecided("versions before 2 were purged");
    }

    #[test]
    fn versions_that_stand_in_the_log_in_another_order_are_found() {
        Script::clean()
            .both("ship", "pos", "9")
            .finds("S4", "version 3 stands at position 9, before version 2");
    }
}
