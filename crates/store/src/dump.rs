//! The dump: what this replica's history says, line by line, in the format that the judge reads (format 1).
//!
//! One `entry` line for every move, refusal and lease of an instance; on the last page the `open` lines (what still waits)
//! and the `shard` line (where this copy stands). Digests and chains are hexadecimal; `reply` is the BLAKE3 of the exact
//! stored body; times are nanoseconds.
//!
//! Deliberately absent: payloads. A dump can be handed to somebody who may not read the data.

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use statehouse_contract::{
    Digest, Due, InstanceKey, Json, Key, NodeId, Target, TaskId, Timestamp, view::DumpPage,
};

use crate::{
    due,
    entry::{
        Body, DueChange, Expect, Header, LeaseGiven, Refused, TaskChange, TaskKey, TaskLeased,
        TaskRef, Transitioned,
    },
    error::{Fault, StoreError},
    history::{self, Placed},
    instances,
    meta::Meta,
    outbox, tasks,
    view::View,
};

type Line = Map<String, Value>;

impl View {
    /// Returns entries above a position as lines of the history format; the last page also says what still waits.
    ///
    /// # Errors
    /// As every question.
    pub fn dump(
        &self,
        node: NodeId,
        after: Option<u64>,
        limit: u64,
    ) -> Result<DumpPage, StoreError> {
        self.ask("dump", |connection| {
            let meta = Meta::read(connection)?;
            let teller = Teller { node, meta: &meta };
            let rows = history::read_after(connection, after, limit)?;
            let mut lines: Vec<Line> = rows.iter().flat_map(|row| teller.entry(row)).collect();
            let next = rows.last().filter(|_| rows.len() as u64 == limit);
            let next = next.map(|row| row.record.position);
            if next.is_none() {
                lines.extend(teller.open(connection)?);
                lines.push(teller.shard());
            }
            let lines = lines.into_iter().map(|line| Json::from_value(&Value::Object(line)));
            Ok(DumpPage { lines: lines.collect(), next })
        })
    }
}

struct Teller<'a> {
    node: NodeId,
    meta: &'a Meta,
}

const fn nanoseconds(at: Timestamp) -> i64 {
    at.0.saturating_mul(1_000_000)
}

/// Sets a member if there is something to say.
fn set(line: &mut Line, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        line.insert(name.to_owned(), value.into());
    }
}

impl Teller<'_> {
    fn line(&self, event: &str) -> Line {
        let mut line = Line::new();
        set(&mut line, "e", Some(event));
        set(&mut line, "node", Some(self.node.number.to_string()));
        set(&mut line, "n", Some(self.node.incarnation));
        set(&mut line, "shard", Some(self.meta.shard.0));
        line
    }

    fn shard(&self) -> Line {
        let mut line = self.line("shard");
        set(&mut line, "pos", Some(self.meta.applied.unwrap_or(0)));
        set(&mut line, "chain", Some(self.meta.chain.to_string()));
        let purged = (self.meta.purged > 0).then(|| json!([[1, self.meta.purged]]));
        set(&mut line, "purged", purged);
        set(&mut line, "level", Some(self.meta.level));
        line
    }

    fn entry(&self, placed: &Placed) -> Vec<Line> {
        match &placed.record.entry.body {
            Body::Transitioned(t) => vec![self.transition(placed, t)],
            Body::Refused(refused) => self.refusal(placed, refused).into_iter().collect(),
            Body::TaskLeased(leased) => self.leases(placed, leased),
            Body::LeaseExtended(extended) => vec![self.lease(placed, &extended.task, None)],
            Body::AttemptEnded(ended) => vec![self.lease(placed, &ended.task, None)],
            Body::TermOpened { .. }
            | Body::OutboxDone(_)
            | Body::DefinitionAdded(_)
            | Body::CurrentSet { .. }
            | Body::TenantSet { .. }
            | Body::KeySet { .. }
            | Body::QuotaSet { .. }
            | Body::ScheduleSet { .. }
            | Body::ScheduleFired { .. }
            | Body::BatchSet { .. }
            | Body::MemberSet { .. }
            | Body::BucketFrozen { .. }
            | Body::BucketMoved { .. }
            | Body::FeatureRaised { .. }
            | Body::DigestAt
            | Body::Swept(_) => Vec::new(),
        }
    }

    fn about(&self, placed: &Placed, instance: &InstanceKey, kind: &str, epoch: u32) -> Line {
        let record = &placed.record;
        let Header { decided_term, decided_by, decided_at, actor, reason, .. } =
            &record.entry.header;
        let mut line = self.line("entry");
        set(&mut line, "tenant", Some(instance.tenant.as_str()));
        set(&mut line, "wf", Some(instance.instance.as_str()));
        set(&mut line, "pos", Some(record.position));
        set(&mut line, "bepoch", Some(epoch));
        set(&mut line, "kind", Some(kind));
        set(&mut line, "born", record.version.map(|version| version.born));
        set(&mut line, "ver", record.version.map(|version| version.version));
        set(&mut line, "state", record.digest.map(|digest| digest.to_string()));
        let reply = record.receipt().map(|(_, stored)| stored.at(record.position).body);
        set(&mut line, "reply", reply.map(|body| Digest::of(body.as_str().as_bytes()).to_string()));
        set(&mut line, "actor", Some(&*actor.name));
        set(&mut line, "reason", reason.as_deref());
        set(&mut line, "term", Some(*decided_term));
        set(&mut line, "leader", Some(decided_by.number.to_string()));
        set(&mut line, "at", Some(nanoseconds(*decided_at)));
        set(&mut line, "chain", Some(placed.chain.to_string()));
        set(&mut line, "level", Some(self.meta.level));
        line
    }

    fn transition(&self, placed: &Placed, t: &Transitioned) -> Line {
        let mut line = self.about(placed, &t.instance, t.cause.kind.name(), t.bucket_epoch);
        set(&mut line, "key", t.key.as_ref().and_then(key_text));
        set(&mut line, "cmd", Some(&*t.cause.event));
        set(&mut line, "def", Some(t.definition.digest.to_string()));
        set(&mut line, "exp", Some(version_of(t.expect)));
        let fired = match &t.key {
            Some(Key::Timer { id, generation }) => Some((&**id, *generation)),
            _ => None,
        };
        set(&mut line, "fire", fired.map(|(id, generation)| json!({"id": id, "gen": generation})));
        let (mut armed, mut cancelled) = (Vec::new(), Vec::new());
        for change in &t.due {
            match change {
                DueChange::Arm { at, what: Due::Timer { id, generation } } => {
                    armed.push(json!({"id": id, "gen": generation, "due": nanoseconds(*at)}));
                }
                DueChange::Disarm { what: Due::Timer { id, generation }, .. }
                    if fired != Some((&**id, *generation)) =>
                {
                    cancelled.push(json!({"id": id, "gen": generation}));
                }
                DueChange::Arm { .. }
                | DueChange::Disarm { .. }
                | DueChange::Hold { .. }
                | DueChange::Release { .. } => {}
            }
        }
        set(&mut line, "arm", some(armed));
        set(&mut line, "cancel", some(cancelled));
        set(&mut line, "tasks", some(t.tasks.iter().filter_map(|c| task_mark(t, c)).collect()));
        line
    }

    fn refusal(&self, placed: &Placed, refused: &Refused) -> Option<Line> {
        let instance = match &refused.target {
            Target::Instance(instance) => instance,
            Target::Tenant(_) | Target::Shard(_) | Target::Cluster => return None,
        };
        let mut line = self.about(placed, instance, "refused", refused.bucket_epoch);
        set(&mut line, "key", key_text(&refused.key));
        set(&mut line, "cmd", Some(&*refused.cause.event));
        set(&mut line, "def", refused.definition.as_ref().map(|pin| pin.digest.to_string()));
        let code = match refused.receipt.kind {
            statehouse_contract::ReceiptKind::Refused(code) => Some(code.code()),
            _ => None,
        };
        set(&mut line, "reason", code);
        Some(line)
    }

    /// One line for each instance whose tasks were leased.
    fn leases(&self, placed: &Placed, leased: &TaskLeased) -> Vec<Line> {
        let mut lines: Vec<(u64, Line, Vec<Value>)> = Vec::new();
        let term = placed.record.entry.header.decided_term;
        for given in &leased.leases {
            let mark = lease_mark(given, &leased.worker, term);
            match lines.iter_mut().find(|(born, ..)| *born == given.task.born) {
                Some((_, _, marks)) => marks.push(mark),
                None => {
                    let line = self.lease(placed, &given.task, None);
                    lines.push((given.task.born, line, vec![mark]));
                }
            }
        }
        let done = lines.into_iter().map(|(_, mut line, marks)| {
            set(&mut line, "tasks", Some(marks));
            line
        });
        done.collect()
    }

    fn lease(&self, placed: &Placed, task: &TaskRef, marks: Option<Vec<Value>>) -> Line {
        let mut line = self.about(placed, &task.instance, "lease", task.bucket_epoch);
        set(&mut line, "born", Some(task.born));
        set(&mut line, "tasks", marks);
        line
    }

    fn open(&self, connection: &Connection) -> Result<Vec<Line>, Fault> {
        let mut lines = Vec::new();
        for row in due::read_all(connection)?.0 {
            let owner = instances::read(connection, row.slot.born)?.map(|found| found.key);
            let instance = || owner.as_ref().map_or("", |key| key.instance.as_str()).to_owned();
            let (what, id, generation) = match &row.what.due {
                Due::Timer { id, generation } => ("timer", id.to_string(), Some(*generation)),
                Due::Queue => ("queue", instance(), None),
                Due::PostponeDeadline { ticket } => ("queue", ticket.to_string(), None),
                Due::Lease { .. }
                | Due::Attempt { .. }
                | Due::Retry { .. }
                | Due::Schedule { .. } => {
                    continue;
                }
            };
            let mut line = self.waiting(what, id, owner.as_ref());
            set(&mut line, "gen", generation);
            set(&mut line, "due", Some(nanoseconds(row.slot.at)));
            set(&mut line, "held", row.held.then_some(true));
            lines.push(line);
        }
        for task in tasks::read_all(connection)? {
            let id = task_id(&task.instance, task.task);
            lines.push(self.waiting("task", id, Some(&task.instance)));
        }
        for row in outbox::read_after(connection, (0, 0, 0), u64::from(u32::MAX))? {
            let id = format!("{}-{}", row.version, row.n);
            lines.push(self.waiting("outbox", id, Some(&row.sender)));
        }
        Ok(lines)
    }

    fn waiting(&self, what: &str, id: String, owner: Option<&InstanceKey>) -> Line {
        let mut line = self.line("open");
        set(&mut line, "what", Some(what));
        set(&mut line, "id", Some(id));
        set(&mut line, "tenant", owner.map(|key| key.tenant.as_str()));
        set(&mut line, "wf", owner.map(|key| key.instance.as_str()));
        line
    }
}

fn some(list: Vec<Value>) -> Option<Vec<Value>> {
    (!list.is_empty()).then_some(list)
}

const fn version_of(expect: Expect) -> u64 {
    match expect {
        Expect::Absent => 0,
        Expect::At { version, .. } => version.version,
    }
}

fn task_id(instance: &InstanceKey, task: TaskKey) -> String {
    let (bucket, instance) = (instance.bucket(), instance.instance.clone());
    TaskId { bucket, instance, version: task.version, n: task.n }.to_string()
}

fn task_mark(t: &Transitioned, change: &TaskChange) -> Option<Value> {
    let id = |task: &TaskKey| task_id(&t.instance, *task);
    match change {
        TaskChange::Schedule { task, .. } => Some(json!({"a": "sched", "id": id(task)})),
        TaskChange::Close { task, token } => {
            Some(json!({"a": "done", "id": id(task), "tok": token}))
        }
        TaskChange::Cancel { task, token } => {
            Some(json!({"a": "cancel", "id": id(task), "tok": token}))
        }
        TaskChange::Unpark { .. } => None,
    }
}

fn lease_mark(given: &LeaseGiven, worker: &str, term: u64) -> Value {
    let id = task_id(&given.task.instance, given.task.task);
    json!({"a": "lease", "id": id, "tok": tasks::next_token(given.task.token, term), "who": worker})
}

/// A client's name for a command. What the system does by itself has no name that anybody could repeat.
fn key_text(key: &Key) -> Option<&str> {
    match key {
        Key::Client(text) | Key::Operator(text) => Some(text.as_str()),
        Key::Timer { .. }
        | Key::Task { .. }
        | Key::Outbox { .. }
        | Key::Schedule { .. }
        | Key::Queue { .. } => None,
    }
}
