//! What a run consisted of: the figures beside the verdict, and the basis for calling a run vacuous.
//!
//! Counting reads the same sorted history as the rules and decides nothing. Where a server does not say that it
//! answered from a stored receipt, every answer to a key after its first counts as such.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dump::{Kind, TaskAct},
    event::{Op, Out, Phase},
    index::{Index, Instance, is_judged},
    verdict::Counts,
};

pub(super) fn count(index: &Index<'_>) -> Counts {
    let history = index.history;
    let mut counts = Counts {
        lines: history.lines() as u64,
        attempts: history.attempts.len() as u64,
        instances: index.instances.len() as u64,
        entries: history.entries.len() as u64,
        faults: history.faults.iter().filter(|fault| fault.ph == Phase::Begin).count() as u64,
        ..Counts::default()
    };
    for attempt in &history.attempts {
        counts.reads += u64::from(attempt.inv.op == Op::Read);
        *match attempt.out() {
            Out::Ok => &mut counts.ok,
            Out::Rejected => &mut counts.rejected,
            Out::Fail => &mut counts.failed,
            Out::Unknown => &mut counts.unknown,
            Out::Postponed => &mut counts.postponed,
        } += 1;
    }
    index.instances.iter().for_each(|instance| of_instance(&mut counts, instance));
    let nodes: BTreeSet<&str> = history.shards.iter().map(|copy| copy.node.as_str()).collect();
    counts.nodes = nodes.len() as u64;
    let marks = index.tasks.values();
    counts.tasks =
        marks.filter(|marks| marks.iter().any(|(_, mark)| mark.a == TaskAct::Sched)).count() as u64;
    counts.leader_changes = leader_changes(index);
    counts
}

fn of_instance(counts: &mut Counts, instance: &Instance<'_>) {
    for attempts in instance.keys.values() {
        counts.retries += attempts.len() as u64 - 1;
        let judged = attempts.iter().filter_map(|attempt| attempt.ret.as_ref());
        let (mut answers, mut replays) = (0_u64, 0_u64);
        for ret in judged.filter(|ret| ret.out == Out::Ok || is_judged(ret)) {
            answers += 1;
            replays += u64::from(ret.replayed);
        }
        // Where the server does not say that it replayed, every answer after the first is one.
        counts.dedupe_hits += replays.max(answers.saturating_sub(1));
    }
    for record in instance.lives.values().flat_map(|life| &life.records) {
        counts.timers_armed += record.entry.arm.len() as u64;
        counts.timers_fired += u64::from(record.entry.fire.is_some());
        let is_clients = matches!(record.entry.kind, Kind::Start | Kind::Cmd | Kind::Signal);
        let is_known =
            record.entry.key.as_deref().is_some_and(|key| instance.keys.contains_key(key));
        counts.unclaimed += u64::from(is_clients && !is_known);
    }
}

fn leader_changes(index: &Index<'_>) -> u64 {
    let mut terms: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for entry in &index.history.entries {
        if let Some(term) = entry.term {
            terms.entry(&entry.shard).or_default().insert(term);
        }
    }
    terms.values().map(|terms| terms.len() as u64 - 1).sum()
}
