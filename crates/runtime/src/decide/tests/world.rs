//! A world of one instance: it drafts with `decide` and applies by the rules that matter to decisions.

use std::{collections::BTreeMap, fmt::Write as _};

use expect_test::Expect;
use statehouse_chart::{Chart, Source, load};
use statehouse_contract::{
    Actor, Command, CommandEnvelope, DefinitionName, DefinitionRef, Digest, Due, InstanceId,
    InstanceKey, Json, Key, KeyText, NodeId, RoleName, Target, TenantId, Timestamp, TraceContext,
    Verb, Version,
};
use statehouse_store::entry::{Body, DueChange, Expect as Expected, RowDigest, Transitioned};

use super::super::{Case, Decision, Standing, decide, rows};

/// Runs a script and compares its transcript.
pub(super) fn check(definition: &str, script: &str, expected: &Expect) {
    let mut world = World::new(definition);
    let mut transcript = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let said = world.run(line);
        writeln!(transcript, "> {line}\n{said}").unwrap();
    }
    expected.assert_eq(&transcript);
}

/// Whether a row fires.
type Rows = BTreeMap<(Timestamp, Due), bool>;

pub(super) struct World {
    chart: Chart,
    key: InstanceKey,
    standing: Option<Standing>,
    rows: Rows,
    now: Timestamp,
    position: u64,
    keys: u32,
    decided: Vec<Timestamp>,
}

impl World {
    pub(super) fn new(definition: &str) -> Self {
        let document = load::load(definition).unwrap();
        let (source, findings) = Source::parse(&document);
        assert!(findings.is_empty(), "{findings:?}");
        Self {
            chart: Chart::compile(&source.unwrap()).unwrap(),
            key: InstanceKey {
                tenant: TenantId::parse("t").unwrap(),
                instance: InstanceId::parse("i").unwrap(),
            },
            standing: None,
            rows: Rows::new(),
            now: Timestamp(0),
            position: 0,
            keys: 0,
            decided: Vec::new(),
        }
    }

    /// Runs one line and returns what came of it.
    pub(super) fn run(&mut self, line: &str) -> String {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "advance" => {
                self.now = self.now.after_ms(duration(rest));
                format!("  at {}", self.now.to_rfc3339())
            }
            "fire" => self.fire_all(),
            "queue" => {
                let envelope = crate::fire::envelope(&self.key, Due::Queue, self.now);
                self.decide(&envelope)
            }
            _ => {
                let envelope = self.envelope(word, rest);
                self.decide(&envelope)
            }
        }
    }

    fn fire_all(&mut self) -> String {
        let due: Vec<_> =
            self.rows.iter().filter(|(_, held)| !**held).map(|(row, _)| row.clone()).collect();
        let due: Vec<_> = due.into_iter().filter(|(at, _)| *at <= self.now).collect();
        if due.is_empty() {
            return "  nothing is due".to_owned();
        }
        due.iter().map(|row| self.fire_row(row)).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn fire_row(&mut self, (at, what): &(Timestamp, Due)) -> String {
        let envelope = crate::fire::envelope(&self.key, what.clone(), *at);
        self.decide(&envelope)
    }

    pub(super) fn due_rows(&self) -> Vec<(Timestamp, Due)> {
        self.rows.keys().cloned().collect()
    }

    /// The rows that the snapshot needs, computed from nothing but itself.
    pub(super) fn rows_needed(&self) -> Vec<(Timestamp, Due)> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let unborn = statehouse_chart::Snapshot::unborn();
        let changes = rows::due_changes(&unborn, &standing.snapshot, standing.snapshot.updated_at);
        let armed = changes.into_iter().filter_map(|change| match change {
            DueChange::Arm { at, what } => Some((at, what)),
            _ => None,
        });
        armed.collect()
    }

    pub(super) fn decided(&self) -> &[Timestamp] {
        &self.decided
    }

    /// Reads `event {json} key=… if=… role=… within=…`.
    fn envelope(&mut self, word: &str, rest: &str) -> CommandEnvelope {
        self.keys += 1;
        let mut envelope = CommandEnvelope {
            target: Target::Instance(self.key.clone()),
            command: Command::Operate(Verb::Skip),
            key: Key::Client(KeyText::parse(&format!("k{}", self.keys)).unwrap()),
            fingerprint: Digest::of(rest.as_bytes()),
            correlation: None,
            trace: TraceContext::default(),
            remaining_ms: 1_000,
            expected: None,
            actor: Actor { name: "ann".into(), roles: Vec::new() },
            reason: None,
            attempt: 1,
        };
        let mut words = Vec::new();
        let mut postpone_ms = None;
        for part in rest.split(' ') {
            match part.split_once('=') {
                Some(("key", key)) => envelope.key = Key::Client(KeyText::parse(key).unwrap()),
                Some(("if", version)) => envelope.expected = Some(Version::parse(version).unwrap()),
                Some(("role", role)) => envelope.actor.roles.push(RoleName::parse(role).unwrap()),
                Some(("within", time)) => postpone_ms = u64::try_from(duration(time)).ok(),
                _ => words.push(part),
            }
        }
        let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
        let first = words.first().copied().unwrap_or_default();
        let data = words.get(1).map(|text| json(text));
        envelope.command = match word {
            "start" => Command::Start { definition: self.reference(), input: json(first) },
            "send" => Command::Send { event: first.into(), data: data.unwrap(), postpone_ms },
            "signal" => Command::Signal { event: first.into(), data: data.unwrap() },
            "operate" => Command::Operate(verb(first)),
            "lease" => {
                Command::LeaseTasks { queues: Vec::new(), max: 1, lease_ms: 1, worker: "w".into() }
            }
            other => panic!("no such word: {other}"),
        };
        envelope
    }

    fn reference(&self) -> DefinitionRef {
        DefinitionRef {
            name: DefinitionName::parse(self.chart.name()).unwrap(),
            version: Some(1),
            digest: Some(self.chart.digest()),
        }
    }

    fn decide(&mut self, envelope: &CommandEnvelope) -> String {
        let last = self.standing.as_ref().map_or(Timestamp(0), |s| s.snapshot.updated_at);
        let case = Case {
            key: &self.key,
            standing: self.standing.as_ref(),
            chart: Some(&self.chart),
            other: None,
            bucket_epoch: 0,
            at: last.max(self.now),
            term: 3,
            node: NodeId { number: 1, incarnation: 1 },
        };
        match decide(case, envelope) {
            Decision::Nothing => "nothing".to_owned(),
            Decision::Reject(no) => format!("  not written: {no}"),
            Decision::Propose(draft) => {
                self.decided.push(draft.entry.header.decided_at);
                let said = match &draft.entry.body {
                    Body::Transitioned(moved) => self.apply(moved),
                    Body::Refused(refused) => {
                        assert_eq!(refused.expect, Some(self.expected()));
                        format!(
                            "  refused {:?}\n  {}",
                            refused.receipt.kind,
                            refused.receipt.body.as_str()
                        )
                    }
                    other => panic!("not an instance's entry: {other:?}"),
                };
                if let (Some(next), Some(standing)) = (draft.next, &mut self.standing) {
                    standing.snapshot = next;
                }
                said
            }
        }
    }

    fn expected(&self) -> Expected {
        self.standing.as_ref().map_or(Expected::Absent, |standing| Expected::At {
            version: standing.version,
            digest: standing.digest,
        })
    }

    /// Applies a transition; every broken rule is a panic.
    fn apply(&mut self, moved: &Transitioned) -> String {
        self.position += 1;
        assert_eq!(moved.expect, self.expected());
        let before = self.standing.as_ref().map_or(0, |standing| standing.version.version);
        assert_eq!(moved.version, before + 1);
        let born = self.standing.as_ref().map_or(self.position, |standing| standing.version.born);
        let mut said = String::new();
        let key = moved.key.as_ref().map(|key| match key {
            Key::Client(text) => format!(" key {text}"),
            Key::Timer { id, generation } => format!(" timer {id} of {generation}"),
            Key::Queue { .. } => " retried".to_owned(),
            other => format!(" {other:?}"),
        });
        let names = |list: &[Box<str>]| list.join(",");
        writeln!(
            said,
            "  {}.{} {} {:?}: {} -> {} {}{}",
            born,
            moved.version,
            moved.cause.kind.name(),
            moved.cause.event,
            names(&moved.from),
            names(&moved.to),
            moved.status.name(),
            key.unwrap_or_default(),
        )
        .unwrap();
        for change in &moved.due {
            writeln!(said, "  due: {}", self.change(change)).unwrap();
        }
        for event in &moved.emitted {
            writeln!(said, "  emits {}", event.as_str()).unwrap();
        }
        if let Some(receipt) = &moved.receipt {
            writeln!(said, "  {:?} {}", receipt.kind, receipt.body.as_str()).unwrap();
        }
        for (_, receipt) in &moved.settled {
            writeln!(said, "  settles {:?} {}", receipt.kind, receipt.body.as_str()).unwrap();
        }
        let version = Version { born, version: moved.version };
        let mut digest = RowDigest([0; 16]);
        digest.0[..8].copy_from_slice(&moved.version.to_le_bytes());
        let snapshot = statehouse_chart::Snapshot::decode(&moved.snapshot).unwrap();
        self.standing = Some(Standing {
            version,
            digest,
            pin: moved.definition.clone(),
            snapshot,
            parent: None,
            tasks: Vec::new(),
        });
        said.truncate(said.trim_end().len());
        said
    }

    fn change(&mut self, change: &DueChange) -> String {
        let name = |at: &Timestamp, what: &Due| {
            let what = match what {
                Due::Timer { id, .. } => id.to_string(),
                Due::Queue => "queue".to_owned(),
                Due::PostponeDeadline { .. } => "postponed".to_owned(),
                other => format!("{other:?}"),
            };
            format!("{what} at {}s", at.0 / 1_000)
        };
        match change {
            DueChange::Arm { at, what } => {
                assert!(self.rows.insert((*at, what.clone()), false).is_none(), "armed twice");
                format!("arm {}", name(at, what))
            }
            DueChange::Disarm { at, what } => {
                assert!(
                    self.rows.remove(&(*at, what.clone())).is_some(),
                    "was not armed: {what:?}"
                );
                format!("disarm {}", name(at, what))
            }
            DueChange::Hold { at, what } => {
                assert_eq!(self.rows.insert((*at, what.clone()), true), Some(false));
                format!("hold {}", name(at, what))
            }
            DueChange::Release { at, what } => {
                assert_eq!(self.rows.insert((*at, what.clone()), false), Some(true));
                format!("release {}", name(at, what))
            }
        }
    }
}

fn verb(word: &str) -> Verb {
    match word {
        "cancel" => Verb::Cancel,
        "terminate" => Verb::Terminate,
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "retry" => Verb::Retry { task: None },
        "skip" => Verb::Skip,
        "migrate" => Verb::Migrate { to: 2 },
        other => panic!("no such verb: {other}"),
    }
}

fn duration(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: i64 = number.parse().unwrap();
    match unit {
        "s" => number * 1_000,
        "m" => number * 60_000,
        "h" => number * 3_600_000,
        other => panic!("no such unit: {other}"),
    }
}
