//! One instance, one proposal in flight.
//!
//! The actor takes one delivery after another. For each it looks the key up, decides, proposes, and waits until the log has
//! answered; only then does it believe anything. Its state is what apply returned, or what it read from applied rows.
//!
//! A fenced proposal changed nothing: the actor reads its rows again, looks the key up again, decides again. An unknown
//! outcome ends the actor normally: the next one starts from the rows. Only panics and broken invariants are failures.
//!
//! Absent on purpose: deadlines. A caller's deadline ends the caller's wait; the proposal goes on.
//!
//! Invariants: `ONCE`: a known key is answered from its row and decides nothing; the version rises by one with each entry
//! that was applied.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_chart::Chart;
use statehouse_contract::{
    Command, CommandEnvelope, Due, InstanceKey, Key, Receipt, Rejection, RejectionCode, Timestamp,
    TraceContext, Verb, invariant,
    invariant::InvariantId,
    mutant::{self, Mutant},
};
use statehouse_store::{Body, Entry, entry::Pin};
use statehouse_telemetry::{Span, carry_all};
use tracing::{debug, error};

use crate::{
    decide::{Case, Decision, Draft, Other, Standing, decide, releasable},
    fire,
    known_keys::KnownKeys,
    message::{Ask, Delivery, InstanceMessage, Reply},
    metrics::one,
    misbehave,
    quota::Counted,
    reading::RowsError,
    reign::{Proposed, Reign},
    reject,
};

/// How often a decision is taken again because the rows had moved on.
const FENCED_MAX: u32 = 16;
/// Of so many versions one is missed, under the mutant that misses some.
const MISSED_EVERY: u64 = 3;

/// What an instance actor is started with.
#[derive(Debug)]
pub(crate) struct InstanceArguments {
    /// The instance.
    pub key: InstanceKey,
    /// The reign under which it lives.
    pub reign: Arc<Reign>,
    /// When it last worked, for the gateway's tidying.
    pub used_ms: Arc<AtomicU64>,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct InstanceActor;

/// What an instance actor knows.
#[derive(Debug)]
pub(crate) struct InstanceState {
    key: InstanceKey,
    reign: Arc<Reign>,
    used_ms: Arc<AtomicU64>,
    awake: Option<Awake>,
    keys: KnownKeys,
}

/// The instance as it was last applied, with its chart.
#[derive(Debug)]
struct Awake {
    standing: Option<Standing>,
    chart: Option<Arc<Chart>>,
    bucket_epoch: u32,
    /// The trace of its last move, if this actor has seen it.
    trace: Option<TraceContext>,
}

/// The chart by which a command is judged, and the version to which a migration goes.
type Charts = (Option<Arc<Chart>>, Option<(Pin, Arc<Chart>)>);

/// Whether the actor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// The outcome of a proposal is unknown, or the reign is over.
    End,
}

impl Actor for InstanceActor {
    type Msg = InstanceMessage;
    type State = InstanceState;
    type Arguments = InstanceArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: InstanceArguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let InstanceArguments { key, reign, used_ms } = arguments;
        Ok(InstanceState { key, reign, used_ms, awake: None, keys: KnownKeys::nothing_read() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let InstanceMessage::Deliver(delivery) = message;
        let Delivery { ask, permit, reply } = *delivery;
        let (answer, mut next) = state.work_in_sight(&ask).await;
        // The caller may have gone; the log has not.
        let _ = reply.send(answer);
        if next == Next::GoOn {
            next = state.drain_queue().await;
        }
        drop(permit);
        state.used_ms.store(state.reign.uptime_ms(), Ordering::Relaxed);
        if next == Next::End {
            myself.stop(None);
        }
        Ok(())
    }
}

impl InstanceState {
    /// Takes one delivery to its end; lines that are written meanwhile tell its trace and conversation.
    async fn work_in_sight(&mut self, ask: &Ask) -> (Reply, Next) {
        let CommandEnvelope { trace, correlation, .. } = &ask.envelope;
        if !trace.is_some() && correlation.is_none() {
            return self.work(ask).await;
        }
        carry_all(trace, correlation.as_ref(), self.work(ask)).await
    }

    /// Says in the span of a move what it was, and which moves it follows: the one before, and the one that set a timer.
    fn tell_move(&mut self, span: &Span, moved: Option<Moved>) {
        let Some(moved) = moved else { return };
        let Some(awake) = self.awake.as_ref() else { return };
        let last = awake.standing.as_ref().map_or(0, |standing| standing.version.version);
        if span.is_real() {
            span.set("statehouse.version", i64::try_from(moved.version).unwrap_or(i64::MAX));
            span.set("statehouse.event", moved.event);
            span.set("statehouse.states", moved.states);
            let before = match &awake.trace {
                Some(trace) => Some(trace.clone()),
                None if last > 0 => self.reign.trace_at(&self.key, last),
                None => None,
            };
            if let Some(before) = before {
                span.link(&before);
            }
            if let Some(set_at) = moved.set_at.filter(|set_at| *set_at != last)
                && let Some(set) = self.reign.trace_at(&self.key, set_at)
            {
                span.link(&set);
            }
        }
        if let Some(awake) = self.awake.as_mut() {
            awake.trace = Some(moved.trace);
        }
    }

    /// Takes one delivery to its end.
    async fn work(&mut self, ask: &Ask) -> (Reply, Next) {
        let is_fire = matches!(ask.envelope.command, Command::Fire { .. });
        for _ in 0..FENCED_MAX {
            // A deliberate bug: the version is looked at before the key.
            if mutant::is(Mutant::FenceBeforeOnce) && self.wake().is_ok() {
                let found = self.standing().map(|standing| standing.version);
                if let Some(no) = misbehave::conflict(ask.envelope.expected, found) {
                    return (rejected(no), Next::GoOn);
                }
            }
            let known = self.wake().and_then(|()| self.known(ask, is_fire));
            match known {
                Ok(None) => {}
                Ok(Some(reply)) => return (reply, Next::GoOn),
                Err(why) => return self.unreadable(&why),
            }
            // What the instance owes itself comes before anything new from outside.
            if !is_fire && self.drain_queue().await == Next::End {
                return (rejected(reject::not_proposed_here()), Next::End);
            }
            if let Err(why) = self.wake().and_then(|()| self.refresh()) {
                return self.unreadable(&why);
            }
            let (chart, other) = match self.charts_for(ask).await {
                Ok(charts) => charts,
                Err(no) => return (rejected(no), Next::GoOn),
            };
            let at = self.at();
            let to = other.as_ref().map(|(pin, chart)| Other { pin, chart });
            let case = Case { other: to, ..self.case(chart.as_deref(), at) };
            let decision = decide(case, &ask.envelope);
            let draft = match decision {
                Decision::Reject(no) => return (Reply::Rejected(no), Next::GoOn),
                Decision::Nothing => return (Reply::Stale, Next::GoOn),
                Decision::Propose(draft) => draft,
            };
            // A deliberate bug: what was refused is answered and not written down.
            if mutant::is(Mutant::RefusalWithoutLog)
                && let Body::Refused(refused) = &draft.entry.body
            {
                let receipt = refused.receipt.at(0);
                return (Reply::Receipt(Box::new(receipt)), Next::GoOn);
            }
            if matches!(draft.entry.body, Body::Refused(_))
                && let Err(no) = self.reign.quotas().take(&self.key.tenant, Counted::Refusal)
            {
                return (rejected(no), Next::GoOn);
            }
            let chart = other.map(|(_, chart)| chart).or(chart);
            match self.propose(ask, *draft, chart).await {
                Outcome::Reply(reply) => return (reply, Next::GoOn),
                Outcome::Again => {}
                Outcome::End(reply) => return (reply, Next::End),
            }
        }
        // Fenced entries changed nothing, so this is certain.
        debug!(instance = %self.key, "fenced too often");
        (rejected(reject::not_proposed_here()), Next::End)
    }

    /// Answers a key that is known already, from applied rows and before anything else is judged.
    fn known(&mut self, ask: &Ask, is_fire: bool) -> Result<Option<Reply>, RowsError> {
        if is_fire || !self.keys.may_know(ask.hash) {
            return Ok(None);
        }
        if mutant::is(Mutant::ReceiptsInCacheOnly)
            && let Some(receipt) = misbehave::recall(self.reign.shard(), ask.hash)
        {
            return Ok(Some(replayed(ask, receipt)));
        }
        let Some(receipt) = self.reign.receipt(&self.key, ask.hash)? else { return Ok(None) };
        one(&self.reign.metrics().replayed);
        Ok(Some(replayed(ask, receipt)))
    }

    /// Reads the rows, unless the actor knows them already.
    fn wake(&mut self) -> Result<(), RowsError> {
        if self.awake.is_some() {
            return Ok(());
        }
        let found = self.reign.load(&self.key)?;
        let chart = match &found.standing {
            Some(standing) => Some(self.reign.chart_of(&self.key.tenant, &standing.pin)?),
            None => None,
        };
        let (standing, bucket_epoch) = (found.standing, found.bucket_epoch);
        self.keys = found.keys;
        self.awake = Some(Awake { standing, chart, bucket_epoch, trace: None });
        Ok(())
    }

    /// Reads the rows of the instance's tasks anew: the desk moves them without this actor.
    fn refresh(&mut self) -> Result<(), RowsError> {
        match self.awake.as_mut().and_then(|awake| awake.standing.as_mut()) {
            Some(standing) => self.reign.refresh_tasks(standing),
            None => Ok(()),
        }
    }

    /// Returns the chart by which a command is judged: the instance's own, or the one that a start names; and the version
    /// to which a migration goes.
    async fn charts_for(&self, ask: &Ask) -> Result<Charts, Rejection> {
        let awake = self.awake.as_ref().expect("woken before");
        match (&ask.envelope.command, &awake.standing) {
            (
                Command::Start { definition, .. }
                | Command::StartChild { definition, .. }
                | Command::Adopt { definition, .. },
                None,
            ) => Ok((self.reign.chart_to_start(&self.key.tenant, definition).await?, None)),
            (Command::Operate(Verb::Migrate { to }), Some(standing)) => {
                let other = self.reign.other_version(&self.key.tenant, &standing.pin, *to).await?;
                Ok((awake.chart.clone(), other))
            }
            _ => Ok((awake.chart.clone(), None)),
        }
    }

    fn case<'a>(&'a self, chart: Option<&'a Chart>, at: Timestamp) -> Case<'a> {
        let awake = self.awake.as_ref().expect("woken before");
        Case {
            key: &self.key,
            standing: awake.standing.as_ref(),
            chart,
            other: None,
            bucket_epoch: awake.bucket_epoch,
            at,
            term: self.decided_term(),
            node: self.reign.node(),
        }
    }

    fn decided_term(&self) -> u64 {
        let term = self.reign.term;
        // A deliberate bug: this actor has not noticed that its reign was over for a while.
        if mutant::is(Mutant::NoTermFence) {
            return misbehave::first_term(self.reign.shard(), term);
        }
        term
    }

    fn at(&self) -> Timestamp {
        let last = self.standing().map_or(Timestamp(0), |standing| standing.snapshot.updated_at);
        self.reign.decide_at(last)
    }

    fn standing(&self) -> Option<&Standing> {
        self.awake.as_ref().and_then(|awake| awake.standing.as_ref())
    }

    /// Proposes a draft and takes over what apply says.
    async fn propose(&mut self, ask: &Ask, draft: Draft, chart: Option<Arc<Chart>>) -> Outcome {
        let is_fire = matches!(ask.envelope.command, Command::Fire { .. });
        let Draft { entry, next } = draft;
        let moved = Moved::of(&entry);
        let decided_at = entry.header.decided_at;
        let before = ask.mark_proposed();
        match self.reign.propose(entry).await {
            Proposed::Applied(applied) => {
                self.tell_move(&ask.span, moved);
                if let Some(next) = next {
                    self.adopt(next, &applied, chart);
                }
                if is_fire {
                    if let Command::Fire { what: Due::Timer { .. }, due } = &ask.envelope.command {
                        self.reign.metrics().fired_late(*due, decided_at);
                    }
                    return Outcome::Reply(Reply::Fired);
                }
                self.keys.learn(ask.hash);
                if mutant::is(Mutant::ReceiptsInCacheOnly)
                    && let Some(receipt) = &applied.receipt
                {
                    misbehave::remember(self.reign.shard(), ask.hash, receipt);
                }
                let receipt = applied.receipt.map(Box::new);
                invariant!(
                    InvariantId::Answer,
                    receipt.is_some(),
                    "an applied command of {} has no receipt",
                    self.key
                );
                Outcome::Reply(receipt.map_or(Reply::Fired, Reply::Receipt))
            }
            Proposed::Known(receipt) => {
                self.keys.learn(ask.hash);
                self.sleep();
                Outcome::Reply(replayed(ask, *receipt))
            }
            Proposed::KeyReused => Outcome::Reply(rejected(reject::key_reused(None))),
            Proposed::Fenced => {
                ask.not_proposed(before);
                self.sleep();
                Outcome::Again
            }
            Proposed::Refused(no) => {
                ask.not_proposed(before);
                Outcome::Reply(Reply::Rejected(no))
            }
            Proposed::Unknown => Outcome::End(rejected(reject::unknown())),
        }
    }

    fn adopt(
        &mut self,
        next: statehouse_chart::Snapshot,
        applied: &crate::reign::AppliedHere,
        chart: Option<Arc<Chart>>,
    ) {
        let Some(awake) = self.awake.as_mut() else { return };
        let (Some(version), Some(digest)) = (applied.version, applied.digest) else {
            self.awake = None;
            return;
        };
        invariant!(
            InvariantId::Replay,
            version.version == next.version,
            "{}: applied version {}, expected {}",
            self.key,
            version.version,
            next.version
        );
        // A deliberate bug: this actor misses some moves, as a second one of the same instance would.
        if mutant::is(Mutant::NoVersionFence) && version.version.is_multiple_of(MISSED_EVERY) {
            return;
        }
        match &mut awake.standing {
            Some(standing) => {
                standing.version = version;
                standing.digest = digest;
                standing.snapshot = next;
                if let Some(pin) = applied.pin.clone().filter(|pin| *pin != standing.pin) {
                    standing.pin = pin;
                    awake.chart = chart;
                }
            }
            None => {
                // Everything that was ever asked under this birth comes through this actor.
                self.keys = KnownKeys::all_read();
                let Some(pin) = applied.pin.clone() else {
                    self.awake = None;
                    return;
                };
                let (snapshot, parent, tasks) = (next, applied.parent.clone(), Vec::new());
                awake.standing = Some(Standing { version, digest, pin, snapshot, parent, tasks });
                awake.chart = chart;
            }
        }
    }

    /// Forgets what it believes; the next delivery reads the rows.
    fn sleep(&mut self) {
        self.awake = None;
        self.keys = KnownKeys::nothing_read();
    }

    /// Returns whether the instance has something to do for itself: its queue, or a release that no worker holds up.
    fn owes_itself(&self) -> bool {
        self.standing().is_some_and(|standing| {
            standing.snapshot.has_queued() || releasable(standing).is_some()
        })
    }

    /// Runs what the instance owes itself until nothing is left: each step is an entry of its own.
    async fn drain_queue(&mut self) -> Next {
        let mut fenced = 0;
        loop {
            if self.wake().and_then(|()| self.refresh()).is_err() || !self.owes_itself() {
                return Next::GoOn;
            }
            let ask = Ask::new(fire::envelope(&self.key, Due::Queue, self.at()));
            let chart = self.awake.as_ref().and_then(|awake| awake.chart.clone());
            let decision = decide(self.case(chart.as_deref(), self.at()), &ask.envelope);
            let Decision::Propose(draft) = decision else { return Next::GoOn };
            match self.propose(&ask, *draft, chart).await {
                Outcome::Reply(Reply::Fired) => fenced = 0,
                // No room now: the row of the queue is due, so the timer actor comes back to it.
                Outcome::Reply(_) => return Next::GoOn,
                Outcome::Again if fenced < FENCED_MAX => fenced += 1,
                Outcome::Again | Outcome::End(_) => return Next::End,
            }
        }
    }

    fn unreadable(&mut self, why: &RowsError) -> (Reply, Next) {
        self.sleep();
        match why {
            RowsError::Replaced => (rejected(reject::not_proposed_here()), Next::End),
            RowsError::Unreadable(what) => {
                error!(instance = %self.key, %what, "the instance's rows cannot be read");
                let detail = "the instance's rows cannot be read on this node";
                (rejected(Rejection::gateway(RejectionCode::Internal, detail)), Next::GoOn)
            }
        }
    }
}

/// What a span says of a move.
struct Moved {
    version: u64,
    event: String,
    states: String,
    trace: TraceContext,
    /// The version that set the timer which fired.
    set_at: Option<u64>,
}

impl Moved {
    fn of(entry: &Entry) -> Option<Self> {
        let Body::Transitioned(moved) = &entry.body else { return None };
        let trace = entry.header.trace.clone();
        if !trace.is_sampled() {
            // Nobody reads the words; the next move may want to know that there is nothing to follow.
            let (event, states) = (String::new(), String::new());
            return Some(Self { version: moved.version, event, states, trace, set_at: None });
        }
        let set_at = match &moved.key {
            Some(Key::Timer { generation, .. }) => Some(*generation),
            _ => None,
        };
        Some(Self {
            version: moved.version,
            event: moved.cause.event.to_string(),
            states: moved.to.join(" "),
            trace,
            set_at,
        })
    }
}

/// What became of a proposal.
enum Outcome {
    Reply(Reply),
    Again,
    End(Reply),
}

fn rejected(no: Rejection) -> Reply {
    Reply::Rejected(Box::new(no))
}

/// Answers a repeat with the stored receipt, or says that the key belongs to another request.
pub(crate) fn replayed(ask: &Ask, mut receipt: Receipt) -> Reply {
    if receipt.fingerprint != ask.envelope.fingerprint {
        return rejected(reject::key_reused(receipt.version));
    }
    receipt.replayed = true;
    Reply::Receipt(Box::new(receipt))
}
