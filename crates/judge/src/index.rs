//! The history, sorted the way the rules read it: by instance, by life, by position.
//!
//! Entries of different nodes at one position become one [`Record`]; its first line speaks for all, and the rule
//! about replicas holds the others against it. Everything is sorted, so that two runs over one file give one text.
//!
//! Deliberately absent: any decision about what is allowed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    dump::{Entry, Kind, ShardEnd, TaskMark},
    event::{Op, Out, Ret},
    history::{Attempt, History},
};

/// A place in an instance's order: (born, version).
pub(crate) type Place = (u64, u64);

/// The sorted history.
pub(crate) struct Index<'h> {
    pub(crate) history: &'h History,
    pub(crate) instances: Vec<Instance<'h>>,
    /// Copies by shard.
    pub(crate) copies: BTreeMap<&'h str, Vec<&'h ShardEnd>>,
    /// Acts upon tasks, by (tenant, task), in the order of the log.
    pub(crate) tasks: BTreeMap<(&'h str, &'h str), Vec<(&'h Entry, &'h TaskMark)>>,
    /// Harness clock to wall clock, when there are anchors: the median of the nodes' first offsets.
    pub(crate) wall_offset: Option<i64>,
    sorted: Vec<&'h Entry>,
}

/// One instance id of one tenant.
pub(crate) struct Instance<'h> {
    pub(crate) tenant: &'h str,
    pub(crate) wf: &'h str,
    /// Every attempt that names it, by begin.
    pub(crate) attempts: Vec<&'h Attempt>,
    /// Its commands by idempotency key, by begin.
    pub(crate) keys: BTreeMap<&'h str, Vec<&'h Attempt>>,
    /// Its entries by life. Life 0 holds refusals of an instance that does not exist.
    pub(crate) lives: BTreeMap<u64, Life<'h>>,
    /// Its entries by key.
    pub(crate) by_key: BTreeMap<&'h str, Vec<Record<'h>>>,
    answers_name_lives: bool,
}

/// One life of an instance: from a start to a sweep.
#[derive(Default)]
pub(crate) struct Life<'h> {
    /// All entries by position.
    pub(crate) records: Vec<Record<'h>>,
    /// Those that made a version, by version.
    pub(crate) changes: Vec<Record<'h>>,
}

/// One entry, as all nodes that hold it tell it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'h> {
    pub(crate) entry: &'h Entry,
    from: usize,
    upto: usize,
}

impl Life<'_> {
    /// Returns the last version.
    pub(crate) fn last(&self) -> u64 {
        self.changes.last().map_or(0, |record| record.entry.place().1)
    }
}

impl<'h> Life<'h> {
    /// Returns the entry that made a version.
    pub(crate) fn at(&self, version: u64) -> Option<Record<'h>> {
        let index = self.changes.partition_point(|record| record.entry.place().1 < version);
        self.changes.get(index).copied().filter(|record| record.entry.place().1 == version)
    }
}

impl<'h> Instance<'h> {
    /// Returns the place an answer speaks of, as far as it can be known.
    pub(crate) fn place(&self, ret: &Ret) -> Option<Place> {
        let ver = ret.ver?;
        if let Some(born) = ret.born {
            return Some((born, ver));
        }
        let mut lives = self.lives.keys().filter(|born| **born != 0);
        match (lives.next(), lives.next()) {
            (Some(born), None) => Some((*born, ver)),
            (None, _) if !self.answers_name_lives => Some((0, ver)),
            _ => None,
        }
    }

    /// Returns the entry that an answer's version names.
    pub(crate) fn record_of(&self, ret: &Ret) -> Option<Record<'h>> {
        let (born, ver) = self.place(ret)?;
        self.lives.get(&born)?.at(ver)
    }

    /// Returns the shard, when any node told an entry.
    pub(crate) fn shard(&self) -> Option<&'h str> {
        let record = self.lives.values().find_map(|life| life.records.first())?;
        Some(record.entry.shard.as_str())
    }

    /// Returns its name for people.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.tenant, self.wf)
    }
}

impl<'h> Index<'h> {
    /// Sorts a history.
    pub(crate) fn new(history: &'h History) -> Self {
        let mut index = Self {
            history,
            instances: Vec::new(),
            copies: BTreeMap::new(),
            tasks: BTreeMap::new(),
            wall_offset: wall_offset(history),
            sorted: Vec::new(),
        };
        for copy in &history.shards {
            index.copies.entry(copy.shard.as_str()).or_default().push(copy);
        }
        index.sorted = history.entries.iter().collect();
        index.sorted.sort_by(|a, b| {
            let order = |entry: &'h Entry| {
                (
                    &entry.tenant,
                    &entry.wf,
                    entry.born.unwrap_or(0),
                    &entry.shard,
                    entry.pos,
                    &entry.node,
                    entry.n,
                )
            };
            order(a).cmp(&order(b))
        });
        index.gather();
        index
    }

    /// Returns every line that tells a record.
    pub(crate) fn lines_of(&self, record: Record<'h>) -> &[&'h Entry] {
        self.sorted.get(record.from..record.upto).unwrap_or(&[])
    }

    /// Tells whether every node's dump is in the file.
    pub(crate) fn is_dumped(&self) -> bool {
        self.history.end.is_some() && !self.history.shards.is_empty()
    }

    /// Tells whether some copy that may have held an entry of this instance has lost rows to purging.
    pub(crate) fn is_purged(&self, shard: Option<&str>) -> bool {
        let has_gap = |copies: &Vec<&ShardEnd>| copies.iter().any(|copy| !copy.purged.is_empty());
        match shard {
            Some(shard) => self.copies.get(shard).is_some_and(has_gap),
            None => self.copies.values().any(has_gap),
        }
    }

    /// Returns the wall clock at the end: by the anchors, else the latest shard time that any entry shows.
    pub(crate) fn wall_end(&self) -> Option<i64> {
        let end = self.history.end.as_ref()?;
        match self.wall_offset {
            Some(offset) => end.t.checked_add(offset),
            None => self.history.entries.iter().filter_map(|entry| entry.at).max(),
        }
    }

    fn gather(&mut self) {
        let mut numbers: HashMap<(&'h str, &'h str), usize> = HashMap::new();
        let mut instances: Vec<Instance<'h>> = Vec::new();
        let mut number = |tenant: &'h str, wf: &'h str, instances: &mut Vec<Instance<'h>>| {
            *numbers.entry((tenant, wf)).or_insert_with(|| {
                instances.push(Instance {
                    tenant,
                    wf,
                    attempts: Vec::new(),
                    keys: BTreeMap::new(),
                    lives: BTreeMap::new(),
                    by_key: BTreeMap::new(),
                    answers_name_lives: false,
                });
                instances.len() - 1
            })
        };
        for attempt in &self.history.attempts {
            let Some(wf) = attempt.inv.wf.as_deref() else { continue };
            let at = number(&attempt.inv.tenant, wf, &mut instances);
            instances[at].attempts.push(attempt);
        }
        let mut from = 0;
        while let Some(entry) = self.sorted.get(from).copied() {
            let same = |other: &&'h Entry| {
                (other.pos, &other.shard, &other.wf, &other.tenant, other.born)
                    == (entry.pos, &entry.shard, &entry.wf, &entry.tenant, entry.born)
            };
            let upto = from + self.sorted[from..].iter().take_while(|other| same(other)).count();
            let at = number(&entry.tenant, &entry.wf, &mut instances);
            let record = Record { entry, from, upto };
            let life = instances[at].lives.entry(entry.place().0).or_default();
            life.records.push(record);
            if entry.is_change() {
                life.changes.push(record);
            }
            if let Some(key) = entry.key.as_deref() {
                instances[at].by_key.entry(key).or_default().push(record);
            }
            for mark in &entry.tasks {
                self.tasks.entry((&entry.tenant, &mark.id)).or_default().push((entry, mark));
            }
            from = upto;
        }
        instances.iter_mut().for_each(finish);
        instances.sort_by(|a, b| (a.tenant, a.wf).cmp(&(b.tenant, b.wf)));
        self.instances = instances;
    }
}

fn finish(instance: &mut Instance<'_>) {
    instance.attempts.sort_by_key(|attempt| (attempt.inv.t, attempt.inv_line));
    for attempt in &instance.attempts {
        instance.answers_name_lives |= attempt.ret.as_ref().is_some_and(|ret| ret.born.is_some());
        if let (Op::Cmd, Some(key)) = (attempt.inv.op, attempt.inv.key.as_deref()) {
            instance.keys.entry(key).or_default().push(attempt);
        }
    }
    for life in instance.lives.values_mut() {
        life.changes.sort_by_key(|record| (record.entry.place().1, record.entry.pos));
    }
}

/// Rejections that depend on the request alone: nothing was judged against state, nothing is stored under the key.
const UNJUDGED: [&str; 14] = [
    "invalid_request",
    "payload_too_large",
    "unauthenticated",
    "forbidden",
    "unknown_tenant",
    "key_reused",
    "key_expired",
    "compacted",
    "quota_exceeded",
    "overloaded",
    "no_leader",
    "no_quorum",
    "storage_full",
    "draining",
];

/// Tells whether an answer is a judgement on the instance's state, so that it is stored under its key.
pub(crate) fn is_judged(ret: &Ret) -> bool {
    ret.out == Out::Rejected
        && !ret.reason.as_deref().is_some_and(|reason| UNJUDGED.contains(&reason))
}

/// Tells whether two kinds take their keys from the same origin.
pub(crate) fn origin(kind: Kind) -> Kind {
    match kind {
        Kind::Start | Kind::Cmd | Kind::Signal => Kind::Cmd,
        Kind::Operator | Kind::Migrate => Kind::Operator,
        Kind::Timer
        | Kind::Task
        | Kind::Queue
        | Kind::Outbox
        | Kind::Child
        | Kind::Refused
        | Kind::Lease => kind,
    }
}

fn wall_offset(history: &History) -> Option<i64> {
    let mut seen = BTreeSet::new();
    let mut anchors: Vec<_> = history.anchors.iter().collect();
    anchors.sort_by_key(|anchor| anchor.t);
    let mut offsets: Vec<i64> = anchors
        .into_iter()
        .filter(|anchor| seen.insert(anchor.node.as_str()))
        .filter_map(|anchor| anchor.wall.checked_sub(anchor.t))
        .collect();
    offsets.sort_unstable();
    offsets.get(offsets.len() / 2).copied()
}
