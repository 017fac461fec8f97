//! The rules, one promise a file, and the sweep that runs them all.
//!
//! A rule is a function from the sorted history to a report; rules know nothing of each other, so that one that is
//! wrong cannot hide another. Two rules may name one entry: a lost entry is lost, and its replicas differ.
//!
//! Deliberately absent: stopping at the first violation. A person who reads a verdict wants to see the pattern.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dump::Entry,
    history::{Attempt, History},
    index::Index,
    verdict::{Demands, Evidence, Finding, LISTED_MAX, NOT_JUDGED, Rule, Verdict, Violation},
};

mod answer;
mod audit;
mod budget;
mod count;
mod definite;
mod definition;
mod leader;
mod lease;
mod lost;
mod once;
mod pending;
mod prefix;
mod real_time;
mod replica;
mod tenant;
mod timer;
mod version;

/// Judges a history: holds every rule against it.
///
/// Same history and demands, same verdict. A violation makes it invalid, whatever else is in doubt; without one,
/// malformed lines, an incomplete or purged dump and unmet demands make it undecided.
pub fn judge(history: &History, demands: &Demands) -> Verdict {
    let index = Index::new(history);
    let mut report = Report { index: &index, broken: BTreeMap::new(), doubts: BTreeSet::new() };
    for malformed in &history.malformed {
        report.doubt(format!("line {} is malformed: {}", malformed.line, malformed.why));
    }
    match (&history.end, history.shards.is_empty()) {
        (None, _) => report.doubt("no `end` line says that the dump is complete"),
        (Some(_), true) => report.doubt("no `shard` line says what any node holds"),
        (Some(_), false) => (),
    }
    let rules: [fn(&mut Report<'_, '_>); 15] = [
        lost::check,
        once::check,
        answer::check,
        version::check,
        leader::check,
        real_time::check,
        prefix::check,
        replica::check,
        definite::check,
        timer::check,
        lease::check,
        pending::check,
        tenant::check,
        definition::check,
        audit::check,
    ];
    rules.iter().for_each(|rule| rule(&mut report));
    let faults = budget::check(&mut report);
    let counts = count::count(&index);
    demands.missing(&counts).into_iter().for_each(|missing| report.doubt(missing));
    Verdict {
        finding: report.finding(),
        counts,
        faults,
        not_judged: NOT_JUDGED.iter().map(|promise| (*promise).to_owned()).collect(),
    }
}

/// What the rules found so far.
pub(crate) struct Report<'i, 'h> {
    pub(crate) index: &'i Index<'h>,
    broken: BTreeMap<Rule, (usize, Vec<Violation>)>,
    doubts: BTreeSet<String>,
}

impl Report<'_, '_> {
    /// Writes a violation down, with the lines that prove it.
    pub(crate) fn violate(
        &mut self,
        rule: Rule,
        subject: impl Into<String>,
        what: impl Into<String>,
        proof: Proof,
    ) {
        let (total, listed) = self.broken.entry(rule).or_default();
        *total += 1;
        if listed.len() < LISTED_MAX {
            let mut lines = proof.0;
            let mut seen = BTreeSet::new();
            lines.retain(|line| *line != 0 && seen.insert(*line));
            let history = self.index.history;
            let evidence = lines
                .into_iter()
                .map(|line| Evidence { line, text: history.line(line).to_owned() })
                .collect();
            listed.push(Violation { rule, subject: subject.into(), what: what.into(), evidence });
        }
    }

    /// Writes down why something cannot be decided.
    pub(crate) fn doubt(&mut self, why: impl Into<String>) {
        self.doubts.insert(why.into());
    }

    fn finding(self) -> Finding {
        let total = self.broken.values().map(|(total, _)| total).sum();
        let doubts = limited(self.doubts);
        if total > 0 {
            let violations = self.broken.into_values().flat_map(|(_, listed)| listed).collect();
            Finding::Invalid { total, violations, doubts }
        } else if doubts.is_empty() {
            Finding::Valid
        } else {
            Finding::Undecided { why: doubts }
        }
    }
}

fn limited(doubts: BTreeSet<String>) -> Vec<String> {
    let total = doubts.len();
    let mut listed: Vec<String> = doubts.into_iter().take(LISTED_MAX).collect();
    if total > listed.len() {
        listed.push(format!("{} more reasons", total - listed.len()));
    }
    listed
}

/// The lines that prove a violation.
#[derive(Default)]
pub(crate) struct Proof(Vec<usize>);

impl Proof {
    /// Begins with an attempt and its answer.
    pub(crate) fn attempt(attempt: &Attempt) -> Self {
        Self(attempt.lines())
    }

    /// Begins with lines by number.
    pub(crate) fn lines(lines: impl IntoIterator<Item = usize>) -> Self {
        Self(lines.into_iter().collect())
    }

    /// Adds an attempt and its answer.
    pub(crate) fn and_attempt(mut self, attempt: &Attempt) -> Self {
        self.0.extend(attempt.lines());
        self
    }

    /// Adds an entry.
    pub(crate) fn and(mut self, entry: &Entry) -> Self {
        self.0.push(entry.line);
        self
    }
}
