//! What a leader does for clients: look the key up, decide, propose, believe what apply says; claims, reads, due work.
//!
//! The order is that of the runtime's instance actor, written once more without actors: a known key is answered from its
//! row, then the rows are judged by `runtime::decide`, then the entry is put into the log, and a fenced one begins anew. An
//! actor is a cached row with one proposal under way. By the weather there are two for each instance, or decisions wait
//! before they are proposed: then the fences of the rows are all that stands between a stale belief and the rows.
//!
//! Two deliberate bugs of the instance actor have their sites here too, because the order in which they are wrong is here.
//!
//! Deliberately absent: admission, quotas, deadlines, quarantine.

mod counter;
mod settle;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use statehouse_chart::Snapshot;
use statehouse_contract::{
    Actor, CommandEnvelope, Due, InstanceKey, Receipt, Target, Timestamp, TraceContext, codec,
    mutant::{self, Mutant},
};
use statehouse_runtime::decide::{Case, Decision, Draft, Standing, decide};
use statehouse_store::{
    Body, Entry,
    entry::{Header, TaskKey},
    log_file::RecordKind,
};

use super::{
    replica::{Effect, Replica},
    subject::{Answer, Out, chart},
    wire::{Asked, Failure, Request},
};

/// How often a fenced decision is taken again.
const FENCED_MAX: u32 = 16;
/// How long leases live on at least after a change of leader, in milliseconds.
const LEASE_FLOOR_MS: u64 = 300;
/// Due rows that are looked at together.
const DUE_MAX: usize = 64;

/// Who waits for what becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    Client {
        client: u32,
        attempt: u64,
    },
    /// The row of the due table that is fired.
    Due(Due),
}

/// A command on its way through an actor.
#[derive(Clone, Debug)]
struct Delivery {
    caller: Caller,
    key: InstanceKey,
    envelope: CommandEnvelope,
    fenced: u32,
}

/// A decision that waits to be proposed.
pub struct Pending {
    actor: u32,
    delivery: Delivery,
    draft: Draft,
}

enum Waiting {
    Opening,
    Moved { actor: u32, delivery: Box<Delivery>, next: Option<Box<Snapshot>>, entry: Box<Entry> },
    Claim { client: u32, attempt: u64, task: (u64, TaskKey) },
}

struct WaitingRead {
    client: u32,
    attempt: u64,
    key: InstanceKey,
    round: u64,
    index: u64,
}

/// What a leader knows of those who wait.
#[derive(Default)]
pub struct Desk {
    awake: BTreeMap<(u32, InstanceKey), Standing>,
    busy: BTreeMap<(u32, InstanceKey), VecDeque<Delivery>>,
    waiting: BTreeMap<u64, (u64, Waiting)>,
    firing: BTreeSet<(InstanceKey, Due)>,
    claiming: BTreeSet<(u64, TaskKey)>,
    reads: Vec<WaitingRead>,
}

impl Replica {
    /// Takes a client's request.
    ///
    /// # Errors
    /// Log or rows have failed.
    pub fn asked(&mut self, request: Request) -> Result<(), Failure> {
        let Request { client, attempt, asked } = request;
        if let Asked::ReadHere(key) = &asked {
            let answer = self.row_of(key)?;
            self.tell(client, attempt, answer);
            return Ok(());
        }
        if !self.is_open() {
            let hint = self.leader.filter(|leader| *leader != self.number);
            self.tell(client, attempt, Answer::elsewhere(hint));
            return Ok(());
        }
        match asked {
            Asked::ReadHere(_) => Ok(()),
            Asked::Read(key) => {
                // A round that begins now tells whether somebody else leads by now.
                self.beat()?;
                let round = self.leading().map_or(0, |leading| leading.round);
                let index = self.commit;
                self.desk.reads.push(WaitingRead { client, attempt, key, round, index });
                Ok(())
            }
            Asked::Claim(envelope) => self.claim((client, attempt), *envelope),
            Asked::Command(envelope) => {
                let Target::Instance(key) = envelope.target.clone() else { return Ok(()) };
                let caller = Caller::Client { client, attempt };
                self.deliver(Delivery { caller, key, envelope: *envelope, fenced: 0 })
            }
        }
    }

    fn tell(&mut self, client: u32, attempt: u64, answer: Answer) {
        self.out.push(Effect::Tell { client, attempt, answer: Box::new(answer) });
    }

    fn answer(&mut self, delivery: &Delivery, answer: Answer) {
        match &delivery.caller {
            Caller::Client { client, attempt } => self.tell(*client, *attempt, answer),
            Caller::Due(what) => {
                self.desk.firing.remove(&(delivery.key.clone(), what.clone()));
            }
        }
    }

    fn actor_of(&self, caller: &Caller) -> u32 {
        match caller {
            Caller::Client { client, .. } if self.manners.has_two_actors => (client / 2) % 2,
            Caller::Client { .. } | Caller::Due(_) => 0,
        }
    }

    fn deliver(&mut self, delivery: Delivery) -> Result<(), Failure> {
        let actor = self.actor_of(&delivery.caller);
        let name = (actor, delivery.key.clone());
        if let Some(queue) = self.desk.busy.get_mut(&name) {
            queue.push_back(delivery);
            return Ok(());
        }
        self.desk.busy.insert(name, VecDeque::new());
        self.work(actor, delivery)
    }

    /// An actor is done with a delivery; it takes the next one.
    fn next(&mut self, actor: u32, key: &InstanceKey) -> Result<(), Failure> {
        let name = (actor, key.clone());
        let Some(queue) = self.desk.busy.get_mut(&name) else { return Ok(()) };
        match queue.pop_front() {
            Some(delivery) => self.work(actor, delivery),
            None => {
                self.desk.busy.remove(&name);
                Ok(())
            }
        }
    }

    fn done(&mut self, actor: u32, delivery: &Delivery, answer: Answer) -> Result<(), Failure> {
        self.answer(delivery, answer);
        self.next(actor, &delivery.key)
    }

    /// Returns the instance as this actor believes it to be, with its tasks as they are.
    fn standing(&mut self, actor: u32, key: &InstanceKey) -> Result<Option<Standing>, Failure> {
        let name = (actor, key.clone());
        let view = self.disk.store.view();
        if !self.desk.awake.contains_key(&name) {
            let Some(row) = view.instance(key)? else { return Ok(None) };
            let snapshot = Snapshot::decode(&row.snapshot)
                .map_err(|error| Failure::of("S14", format!("a snapshot of {key}: {error}")))?;
            let standing = Standing {
                version: row.version,
                digest: row.digest,
                pin: row.definition,
                snapshot,
                parent: row.parent,
                tasks: Vec::new(),
            };
            self.desk.awake.insert(name.clone(), standing);
        }
        let Some(standing) = self.desk.awake.get_mut(&name) else { return Ok(None) };
        standing.tasks = view.tasks_of(standing.version.born)?;
        Ok(Some(standing.clone()))
    }

    /// Returns the time that a decision gets.
    fn decide_at(&self, last: Timestamp) -> Timestamp {
        last.max(self.disk.store.meta().time).max(self.wall)
    }

    fn known(&self, delivery: &Delivery) -> Result<Option<Receipt>, Failure> {
        let target = Target::Instance(delivery.key.clone());
        Ok(self.disk.store.view().receipt(&target, delivery.envelope.key_hash())?)
    }

    /// Takes a delivery as far as its proposal.
    fn work(&mut self, actor: u32, delivery: Delivery) -> Result<(), Failure> {
        let is_fire = matches!(delivery.caller, Caller::Due(_));
        let standing = self.standing(actor, &delivery.key)?;
        // A deliberate bug, as in the instance actor: the version is looked at before the key.
        if mutant::is(Mutant::FenceBeforeOnce)
            && let (Some(expected), Some(standing)) = (delivery.envelope.expected, &standing)
            && expected != standing.version
        {
            let (version, reason) = (Some(standing.version), Some("version_conflict"));
            let no = Answer { out: Out::Rejected, version, reason, ..Answer::default() };
            return self.done(actor, &delivery, no);
        }
        if !is_fire && let Some(receipt) = self.known(&delivery)? {
            self.count("known before");
            let answer = replayed(&delivery, receipt);
            return self.done(actor, &delivery, answer);
        }
        let last = standing.as_ref().map_or(Timestamp(0), |standing| standing.snapshot.updated_at);
        let case = Case {
            key: &delivery.key,
            standing: standing.as_ref(),
            chart: Some(chart()),
            other: None,
            bucket_epoch: self.disk.store.view().bucket(delivery.key.bucket())?.epoch,
            at: self.decide_at(last),
            term: self.term,
            node: self.id(),
        };
        let draft = match decide(case, &delivery.envelope) {
            Decision::Propose(draft) => *draft,
            Decision::Reject(no) => return self.done(actor, &delivery, Answer::no(&no)),
            Decision::Nothing => return self.done(actor, &delivery, Answer::default()),
        };
        // A deliberate bug, as in the instance actor: what was refused is answered and not written down.
        if mutant::is(Mutant::RefusalWithoutLog)
            && let Body::Refused(refused) = &draft.entry.body
        {
            let answer = Answer::of(&refused.receipt.at(0));
            return self.done(actor, &delivery, answer);
        }
        let pending = Pending { actor, delivery, draft };
        if self.chance.percent(self.manners.late_percent) {
            self.out.push(Effect::Later(Box::new(pending)));
            return Ok(());
        }
        self.propose(pending)
    }

    /// Puts a decision into the log, whatever has happened since it was taken.
    ///
    /// # Errors
    /// The log has failed.
    pub fn propose(&mut self, pending: Pending) -> Result<(), Failure> {
        let Pending { actor, delivery, draft } = pending;
        if !self.is_open() {
            // Nothing was written, and whoever decided is gone.
            self.answer(&delivery, Answer::elsewhere(None));
            return Ok(());
        }
        let Draft { entry, next } = draft;
        let frame = frame(&entry)?;
        let index = self.put(RecordKind::Entry, frame)?;
        let (delivery, next, entry) = (Box::new(delivery), next.map(Box::new), Box::new(entry));
        let waiting = Waiting::Moved { actor, delivery, next, entry };
        self.desk.waiting.insert(index, (self.term, waiting));
        Ok(())
    }

    /// Opens the term of a new leader: what it reads afterwards holds everything that was ever answered.
    ///
    /// # Errors
    /// The log has failed.
    pub fn open_term(&mut self) -> Result<(), Failure> {
        let header = self.header(Actor::system());
        let entry = Entry { header, body: Body::TermOpened { lease_floor_ms: LEASE_FLOOR_MS } };
        let index = self.put(RecordKind::Entry, frame(&entry)?)?;
        self.desk.waiting.insert(index, (self.term, Waiting::Opening));
        Ok(())
    }

    fn header(&self, actor: Actor) -> Header {
        Header {
            decided_term: self.term,
            decided_by: self.id(),
            decided_at: self.decide_at(Timestamp(0)),
            actor,
            reason: None,
            trace: TraceContext::default(),
            correlation: None,
        }
    }
}

fn frame(entry: &Entry) -> Result<Arc<[u8]>, Failure> {
    let frame = codec::encode(entry);
    frame.map(Arc::from).map_err(|error| Failure::of("simulation", format!("an entry: {error}")))
}

fn nothing_to_do() -> Answer {
    Answer { out: Out::Ok, ..Answer::default() }
}

fn key_reused() -> Answer {
    Answer { out: Out::Rejected, reason: Some("key_reused"), ..Answer::default() }
}

fn replayed(delivery: &Delivery, mut receipt: Receipt) -> Answer {
    if receipt.fingerprint != delivery.envelope.fingerprint {
        return key_reused();
    }
    receipt.replayed = true;
    Answer::of(&receipt)
}
