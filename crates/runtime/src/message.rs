//! Every mailbox type of this house, on one page.
//!
//! All of them are local: they carry permits and reply ports, which cannot leave the process. What crosses nodes is an
//! envelope, and it enters through the same door as any other.
//!
//! Absent on purpose: behaviour.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use statehouse_contract::{
    Command, CommandEnvelope, InstanceKey, KeyHash, Receipt, Rejection, Target,
};
use statehouse_store::entry::TaskKey;
use statehouse_telemetry::{Leg, Sampling, Span};
use tokio::sync::oneshot;

use crate::admission::{Admitted, Permit};

/// How the work on a delivery ended.
#[derive(Debug)]
pub enum Reply {
    /// A receipt, new or stored; also a stored refusal.
    Receipt(Box<Receipt>),
    /// A no that is not written down.
    Rejected(Box<Rejection>),
    /// What was due is done.
    Fired,
    /// What was due is no longer open, or not due yet; nothing was proposed.
    Stale,
}

/// Opens the span of a decision. What is due begins a trace of its own, if it is drawn.
fn traced(envelope: &CommandEnvelope) -> Span {
    let span = match (&envelope.command, &envelope.target) {
        (Command::Fire { .. }, Target::Instance(key)) => {
            Span::root(Leg::Fire, Sampling::here().draws(Some(&key.tenant), Some(key)))
        }
        _ => Span::open(Leg::Decide, &envelope.trace),
    };
    if span.is_real() {
        if let Some(tenant) = envelope.target.tenant() {
            span.set("statehouse.tenant", tenant.to_string());
        }
        if let Target::Instance(key) = &envelope.target {
            span.set("statehouse.instance", key.instance.to_string());
        }
        if let Some(correlation) = &envelope.correlation {
            span.set("statehouse.correlation", correlation.to_string());
        }
    }
    span
}

/// A command that somebody waits for. Both sides hold it: if the actor ends before it answers, the sender sends it again
/// and knows whether it may have been proposed.
#[derive(Debug)]
pub struct Ask {
    /// The command.
    pub envelope: CommandEnvelope,
    /// The name of its receipt.
    pub hash: KeyHash,
    /// The span of its decision, if its trace is sampled; it ends with the command.
    pub span: Span,
    may_be_proposed: AtomicBool,
    /// Given back with the command, so never while an actor works on it.
    _admitted: Option<Admitted>,
}

impl Ask {
    /// Takes a command.
    #[must_use]
    pub fn new(envelope: CommandEnvelope) -> Self {
        Self::admitted(envelope, None)
    }

    /// Takes a command that was let in with this permit, if with any.
    #[must_use]
    pub fn admitted(mut envelope: CommandEnvelope, admitted: Option<Admitted>) -> Self {
        let hash = envelope.key_hash();
        let span = traced(&envelope);
        // Whatever comes of it hangs below its decision: the entry, its rows, its tasks.
        envelope.trace = span.context().clone();
        Self { envelope, hash, span, may_be_proposed: AtomicBool::new(false), _admitted: admitted }
    }

    /// Says that the log gets to see it now: from here on only the log's answer is certain. Returns what was said before.
    pub fn mark_proposed(&self) -> bool {
        self.may_be_proposed.swap(true, Ordering::AcqRel)
    }

    /// Takes that back after a certain "nothing was written"; `before` is what [`Self::mark_proposed`] returned.
    pub fn not_proposed(&self, before: bool) {
        self.may_be_proposed.store(before, Ordering::Release);
    }

    /// Returns whether an attempt of it may have been proposed without a definite answer.
    #[must_use]
    pub fn may_be_proposed(&self) -> bool {
        self.may_be_proposed.load(Ordering::Acquire)
    }
}

/// A command on its way to an instance, with the right to be there.
#[derive(Debug)]
pub struct Delivery {
    /// The command.
    pub ask: Arc<Ask>,
    /// The right to be in the mailbox.
    pub permit: Permit,
    /// Where the answer goes. The caller may have gone; the log has not.
    pub reply: oneshot::Sender<Reply>,
}

/// What an instance actor hears.
#[derive(Debug)]
pub enum InstanceMessage {
    /// A command, or work that is due.
    Deliver(Box<Delivery>),
}

/// What a shard's gateway hears.
#[derive(Debug)]
pub enum GatewayMessage {
    /// A delivery to an instance that has no live actor here.
    Wake {
        /// The instance.
        key: InstanceKey,
        /// The delivery.
        delivery: Box<Delivery>,
    },
    /// Time to look for instances without work.
    Tidy,
}

/// What the registry of a shard hears.
#[derive(Debug)]
pub enum RegistryMessage {
    /// A command that belongs to no instance.
    Deliver(Box<Delivery>),
}

/// What the desk of a shard hears.
#[derive(Debug)]
pub enum DeskMessage {
    /// A worker wants tasks, or more time for one.
    Deliver(Box<Delivery>),
    /// A proposal has ended: these tasks may be given again.
    Ended {
        /// Births of their instances, and their names there.
        tasks: Vec<(u64, TaskKey)>,
    },
}

/// What the timer actor hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimerMessage {
    /// Something may be due.
    Look,
}

/// What the outbox of a shard hears.
#[derive(Debug)]
pub(crate) enum OutboxMessage {
    /// Something may wait to leave.
    Look,
    /// A delivery has ended.
    Ended {
        /// The birth of its sender.
        born: u64,
        /// Where it went.
        to: Target,
        /// Whether its row is gone.
        is_done: bool,
    },
}

/// What this node's own worker for a shard hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WorkerMessage {
    /// There may be a task.
    Look,
    /// A task has ended: there is room.
    Ended,
}

/// What the actor of the schedules hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScheduleMessage {
    /// Time to look for what is due.
    Look,
    /// Somebody has changed a schedule.
    Changed,
}

/// What the actor of the batches hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BatchMessage {
    /// Time to go on.
    Look,
    /// Somebody has begun, stopped or removed one.
    Changed,
}

/// What the actor that watches queues hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueueWatchMessage {
    /// Time to look.
    Look,
}

/// What the sweep actor hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SweepMessage {
    /// Time to look for rows whose time of keeping is over.
    Look,
}

/// What the actor that follows a shard's leadership hears.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeatMessage {
    /// The log has another belief about who leads.
    LeadershipChanged,
}

/// What a supervisor hears, besides deaths.
#[derive(Debug)]
pub(crate) enum SupervisorMessage {
    /// The pause before a restart is over.
    Resume {
        /// The children to start, in order.
        children: Vec<usize>,
    },
}

impl ractor::Message for InstanceMessage {}
impl ractor::Message for GatewayMessage {}
impl ractor::Message for RegistryMessage {}
impl ractor::Message for DeskMessage {}
impl ractor::Message for OutboxMessage {}
impl ractor::Message for WorkerMessage {}
impl ractor::Message for ScheduleMessage {}
impl ractor::Message for BatchMessage {}
impl ractor::Message for QueueWatchMessage {}
impl ractor::Message for TimerMessage {}
impl ractor::Message for SweepMessage {}
impl ractor::Message for SeatMessage {}
impl ractor::Message for SupervisorMessage {}
