//! L1: after a fault began, its shards answer again within the fault's budget.
//!
//! Measured is the longest time between two judged answers to commands (`ok`, `rejected`, `postponed`), from the
//! fault's begin to a budget's length past its end, while somebody asked: silence without a question is no outage.
//! The figure is reported for every fault, also where no budget was set.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{
    event::{Fault, Op, Out, Phase},
    index::is_judged,
    verdict::{FaultGap, Rule},
};

pub(crate) fn check(report: &mut Report<'_, '_>) -> Vec<FaultGap> {
    let history = report.index.history;
    if history.faults.is_empty() {
        return Vec::new();
    }
    let traffic = Traffic::new(report);
    let mut gaps = Vec::new();
    for (number, begin) in
        history.faults.iter().enumerate().filter(|(_, fault)| fault.ph == Phase::Begin)
    {
        let mut later =
            history.faults.iter().skip(number + 1).filter(|fault| fault.fault == begin.fault);
        let end = later.find(|fault| fault.ph == Phase::End);
        let budget_ms = begin.budget_ms.or_else(|| end.and_then(|end| end.budget_ms));
        let (from, upto) = traffic.longest_gap(begin, end, budget_ms);
        let gap_ms = (upto - from) / 1_000_000;
        if let Some(budget) = budget_ms
            && upto - from > budget.saturating_mul(1_000_000)
        {
            let what = format!("no answer for {gap_ms} ms, {budget} ms allowed");
            let proof =
                Proof::lines([Some(begin), end].into_iter().flatten().map(|fault| fault.line));
            report.violate(Rule::Budget, format!("fault {}", begin.fault), what, proof);
        }
        gaps.push(FaultGap { fault: begin.fault.clone(), begin_ns: begin.t, gap_ms, budget_ms });
    }
    gaps
}

/// Questions and answers by time, with the shard where it is known.
struct Traffic<'h> {
    asked: Vec<(i64, Option<&'h str>)>,
    answered: Vec<(i64, Option<&'h str>)>,
    upto: i64,
}

impl<'h> Traffic<'h> {
    fn new(report: &Report<'_, 'h>) -> Self {
        let index = report.index;
        let shards: BTreeMap<(&str, &str), &'h str> = index
            .instances
            .iter()
            .filter_map(|instance| Some(((instance.tenant, instance.wf), instance.shard()?)))
            .collect();
        let mut traffic = Self { asked: Vec::new(), answered: Vec::new(), upto: 0 };
        for attempt in index.history.attempts.iter().filter(|attempt| attempt.inv.op == Op::Cmd) {
            let wf = attempt.inv.wf.as_deref().unwrap_or_default();
            let shard = shards.get(&(attempt.inv.tenant.as_str(), wf)).copied();
            traffic.asked.push((attempt.inv.t, shard));
            traffic.upto = traffic.upto.max(attempt.inv.t);
            if let Some(ret) = &attempt.ret {
                traffic.upto = traffic.upto.max(ret.t);
                if matches!(ret.out, Out::Ok | Out::Postponed) || is_judged(ret) {
                    traffic.answered.push((ret.t, shard));
                }
            }
        }
        traffic.asked.sort_unstable();
        traffic.answered.sort_unstable();
        traffic
    }

    /// Returns the longest stretch without an answer while somebody asked.
    fn longest_gap(
        &self,
        begin: &Fault,
        end: Option<&Fault>,
        budget_ms: Option<i64>,
    ) -> (i64, i64) {
        let budget = budget_ms.unwrap_or(0).saturating_mul(1_000_000);
        let upto =
            end.map_or(self.upto, |end| end.t.saturating_add(budget).min(self.upto)).max(begin.t);
        let concerns = |shard: Option<&str>| {
            begin.shards.is_empty()
                || shard.is_some_and(|shard| begin.shards.iter().any(|named| named == shard))
        };
        let within = |times: &[(i64, Option<&str>)]| -> Vec<i64> {
            let low = times.partition_point(|(t, _)| *t < begin.t);
            let inside = times[low..].iter().take_while(|(t, _)| *t <= upto);
            inside.filter(|(_, shard)| concerns(*shard)).map(|(t, _)| *t).collect()
        };
        let asked = within(&self.asked);
        let mut marks = vec![begin.t];
        marks.extend(within(&self.answered));
        marks.push(upto);
        let mut longest = (begin.t, begin.t);
        for pair in marks.windows(2) {
            // Silence counts from the first question in it.
            let first = asked.partition_point(|t| *t < pair[0]);
            let Some(from) = asked.get(first).copied().filter(|t| *t < pair[1]) else { continue };
            if pair[1] - from > longest.1 - longest.0 {
                longest = (from, pair[1]);
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn an_outage_longer_than_its_budget_is_found() {
        let script =
            Script::clean().with("kill.begin", "budget_ms", "1").with("late.ret", "t", "4900000");
        script.finds("L1", "no answer for 1 ms, 1 ms allowed");
    }

    #[test]
    fn silence_without_a_question_is_no_outage() {
        Script::clean()
            .with("kill.begin", "budget_ms", "0")
            .with("kill.begin", "t", "4000000")
            .is_valid();
    }

    #[test]
    fn a_fault_of_another_shard_is_not_held_against_this_one() {
        let script = Script::clean().with("kill.begin", "budget_ms", "0").with(
            "kill.begin",
            "shards",
            "[3]",
        );
        script.is_valid();
    }
}
