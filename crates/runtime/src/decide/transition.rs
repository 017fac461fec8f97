//! A step that was taken, as the entry that makes it true.
//!
//! Everything of the transition goes into the one entry: the instance afterwards, the rows that others read, the answer,
//! and the final answers of postponed commands that it settled.
//!
//! Absent on purpose: judging. Whoever comes here has a step that changed something.

use statehouse_chart::{
    Outcome, Settled, Snapshot, Value,
    snapshot::{EventClass, Origin},
};
use statehouse_contract::{
    Command, Json, Key, KeyHash, ReceiptKind, Rejection, RejectionCode, StoredReceipt, Version,
    limits::ENTRY_BYTES_MAX,
    mutant::{self, Mutant},
};
use statehouse_store::entry::{Body, Cause, CauseKind, Entry, Parent, Pin, TaskKey, Transitioned};

use super::{
    Answering, Decision, Draft, Judge, Moving, Standing, Told, body, expect, outbox, rows,
};
use crate::{
    reject,
    ticket::{Ticket, shown},
};

/// Room that an entry keeps for everything but the snapshot and the payload.
const ENTRY_OVERHEAD_BYTES: usize = 128 * 1024;

impl Judge<'_> {
    pub(super) fn transition(self, moving: Moving<'_>) -> Decision {
        let Moving { standing, pin, chart, was, mut taken, mut caused, answering, mut tasks } =
            moving;
        let was = was.unwrap_or(chart);
        let unborn = Snapshot::unborn();
        let before = standing.map_or(&unborn, |standing| &standing.snapshot);
        // A deliberate bug: every other firing leaves its timer armed and the instance where it was, so it comes again.
        if mutant::is(Mutant::TimerTwice)
            && caused.kind == CauseKind::Timer
            && before.version.is_multiple_of(2)
        {
            taken.next = Snapshot { version: before.version + 1, ..before.clone() };
            taken.effects.clear();
            taken.settled.clear();
        }
        let mut next = taken.next;
        // The row of a non-empty queue is named by the time of the entry that left it so.
        next.updated_at = self.case.at;
        let version =
            Version { born: standing.map_or(0, |s| s.version.born), version: next.version };
        if caused.event.is_empty() {
            caused.event = taken.event.as_str().into();
        }
        let snapshot = next.encode();
        if snapshot.len() + ENTRY_OVERHEAD_BYTES > ENTRY_BYTES_MAX {
            return self.too_large(standing, caused, &answering);
        }
        let moved = body::Moved {
            key: self.case.key,
            version: version.version,
            from: rows::states(was, before),
            to: rows::states(chart, &next),
            status: next.status.name(),
            tasks: rows::scheduled(self.case.key, &taken.effects),
            timers: rows::armed(before, &next),
        };
        let receipt =
            self.receipt(&taken.outcome, taken.reply.as_ref(), &moved, version, pin, &answering);
        let settled =
            taken.settled.iter().filter_map(|s| self.settle(s, &moved, version)).collect();
        let due = rows::due_changes(before, &next, self.case.at);
        let ordering = rows::Ordering {
            standing,
            pin,
            trace: &self.envelope.trace,
            correlation: self.envelope.correlation.as_ref(),
            at: self.case.at,
        };
        tasks.extend(rows::task_changes(ordering, before, &next, &taken.effects));
        let parent = self.parent();
        let sender = outbox::Sender {
            key: self.case.key,
            chart: was,
            before,
            after: &next,
            parent: parent.as_ref().or_else(|| standing.and_then(|s| s.parent.as_ref())),
        };
        let (outbox, emitted) = outbox::changes(sender, &taken.effects);
        let body = Transitioned {
            instance: self.case.key.clone(),
            bucket_epoch: self.case.bucket_epoch,
            definition: pin.clone(),
            expect: expect(standing),
            version: version.version,
            key: self.key_of(before, &caused),
            expected: self.envelope.expected,
            cause: caused,
            status: rows::status(next.status),
            tags: rows::tags(chart, &next),
            snapshot: snapshot.into(),
            parent,
            due,
            tasks,
            outbox,
            emitted,
            receipt,
            settled,
            receipt_keep_ms: None,
            from: moved.from,
            to: moved.to,
        };
        let entry = Entry { header: self.header(), body: Body::Transitioned(Box::new(body)) };
        Decision::Propose(Box::new(Draft { entry, next: Some(next) }))
    }

    /// The parent of an instance that is being started.
    fn parent(self) -> Option<Parent> {
        let Command::StartChild { parent, .. } = &self.envelope.command else { return None };
        Some(Parent {
            instance: parent.instance.clone(),
            born: parent.born,
            work: TaskKey { version: parent.version, n: parent.n },
            depth: parent.depth,
        })
    }

    fn too_large(
        self,
        standing: Option<&Standing>,
        caused: Cause,
        answering: &Answering,
    ) -> Decision {
        match answering {
            Answering::Nobody => Decision::Nothing,
            Answering::Receipt(_) | Answering::Signal | Answering::Told(_) => {
                let detail = "the instance would become larger than an entry of the log may be";
                let no = reject::by_instance(RejectionCode::LimitExceeded, detail);
                self.refuse(standing, no, caused)
            }
        }
    }

    fn receipt(
        self,
        outcome: &Outcome,
        reply: Option<&Value>,
        moved: &body::Moved<'_>,
        version: Version,
        pin: &Pin,
        answering: &Answering,
    ) -> Option<StoredReceipt> {
        let (kind, body) = match answering {
            Answering::Nobody => return None,
            Answering::Signal => (ReceiptKind::Accepted, body::signal(*outcome, version.version)),
            Answering::Told(Told::Ended { task, outcome }) => {
                (ReceiptKind::Accepted, body::ended(task, outcome, version.version))
            }
            Answering::Told(Told::No(no)) => {
                let no = Rejection { version: Some(version), ..(**no).clone() };
                (ReceiptKind::Refused(no.code), self.render(&no))
            }
            Answering::Receipt(_) if *outcome == Outcome::Postponed => {
                let ticket = Ticket::of(self.envelope).text();
                (ReceiptKind::Postponed, body::postponed(shown(&ticket), version.version))
            }
            Answering::Receipt(ReceiptKind::Created) => {
                (ReceiptKind::Created, moved.start_body(pin, reply))
            }
            Answering::Receipt(kind) => (*kind, moved.body(reply)),
        };
        let fingerprint = self.envelope.fingerprint;
        Some(StoredReceipt { kind, fingerprint, version: Some(version), body })
    }

    /// The final answer of a command that was postponed before.
    fn settle(
        self,
        settled: &Settled,
        moved: &body::Moved<'_>,
        version: Version,
    ) -> Option<(KeyHash, StoredReceipt)> {
        let ticket = Ticket::parse(&settled.ticket)?;
        let (kind, body) = match &settled.answer {
            Ok(reply) => (ReceiptKind::Accepted, moved.body(reply.as_ref())),
            Err(why) => {
                let mut no = reject::from_kind(why);
                no.version = Some(version);
                no.configuration = Some(moved.to.clone());
                (ReceiptKind::Refused(no.code), self.render(&no))
            }
        };
        let receipt =
            StoredReceipt { kind, fingerprint: ticket.fingerprint, version: Some(version), body };
        Some((ticket.key, receipt))
    }

    /// The key that stands in the entry: a client's as it came; a timer's by what has really fired.
    fn key_of(self, before: &Snapshot, caused: &Cause) -> Option<Key> {
        match caused.kind {
            CauseKind::Timer => {
                let fired = before.first_due(self.case.at)?;
                Some(Key::Timer { id: fired.id.as_str().into(), generation: fired.generation })
            }
            CauseKind::Queue => match &self.envelope.key {
                key @ Key::Queue { ticket } if !ticket.is_empty() => Some(key.clone()),
                _ => retried(before).map(|ticket| Key::Queue { ticket: shown(ticket).into() }),
            },
            // What ran out is fenced by its row; nobody repeats it.
            CauseKind::Task if matches!(self.envelope.command, Command::Fire { .. }) => None,
            CauseKind::Start
            | CauseKind::Cmd
            | CauseKind::Signal
            | CauseKind::Task
            | CauseKind::Outbox
            | CauseKind::Child
            | CauseKind::Operator
            | CauseKind::Migrate => Some(self.envelope.key.clone()),
        }
    }
}

/// Returns the ticket of the command at the front of the queue, if a postponed one stands there.
fn retried(before: &Snapshot) -> Option<&str> {
    let front = before.queue.first()?;
    match (&front.origin, &front.event.class) {
        (Origin::Retried, EventClass::Command { ticket, .. }) => Some(ticket),
        _ => None,
    }
}

/// Returns a value as it stands in entries and answers.
pub(super) fn json(value: &Value) -> Json {
    Json::from_trusted(value.to_text())
}
