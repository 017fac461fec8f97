//! The snapshot: everything that an instance is between two steps.
//!
//! It is one plain value: no handle, no cache that could disagree with it, no state outside it. Its context is kept in the
//! very shape that guards read, so that holding a snapshot in memory is holding the converted context, and cloning one
//! shares the data. On disk the values are canonical JSON text inside bincode, behind a schema number (`upcast.rs`).
//!
//! Deliberately absent: leases, attempts, receipts, addresses, the tenant's and instance's ids as identities (the tenant is
//! here as the text that guards see), and everything that the chart already says.
//!
//! Invariants: timers stand in the order in which they were started; postponed events in the order of their arrival; the
//! configuration is legal (`configuration.rs`) unless the instance was cancelled; states are numbers of the chart with the
//! digest that the instance is pinned to.

use bincode::{Decode, Encode};
use statehouse_contract::{mutant, time::Timestamp};

use crate::{
    configuration::{StateIndex, StateSet},
    effect::RetryPolicy,
    refusal::RefusalKind,
    trigger::{Trigger, WorkKey},
    value::Value,
};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Status {
    /// Takes events.
    Running,
    /// An operator holds it.
    Paused,
    /// An event could not be taken; an operator is needed.
    Faulted,
    /// Undoes its saga.
    Compensating,
    /// Reached a final state.
    Done,
    /// Reached a final state with an error.
    Failed,
    /// Was cancelled.
    Cancelled,
    /// Was terminated.
    Terminated,
}

impl Status {
    /// Returns the name that answers use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Faulted => "faulted",
            Self::Compensating => "compensating",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }

    /// Returns whether nothing will ever happen here again.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Cancelled | Self::Terminated => true,
            Self::Running | Self::Paused | Self::Faulted | Self::Compensating => false,
        }
    }

    /// Returns whether events are taken now.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Running | Self::Compensating => true,
            Self::Paused
            | Self::Faulted
            | Self::Done
            | Self::Failed
            | Self::Cancelled
            | Self::Terminated => false,
        }
    }
}

/// What an event is, for those who ask whether it may be postponed or restarts an idle timer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EventClass {
    /// A command; settled under its ticket once it was postponed.
    Command {
        /// The ticket.
        ticket: String,
        /// Until when it may wait.
        until: Timestamp,
    },
    /// A signal.
    Signal,
    /// A raised event that was delayed.
    Raised,
    /// An event of the platform.
    Platform,
}

/// An event with its payload, as it waits in the queue or among the postponed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// The name.
    pub name: String,
    /// What `event` is in expressions: an object with `type`, `data`, `actor`, `tenant`, and `output` or `error`.
    pub value: Value,
    /// What it is.
    pub class: EventClass,
}

/// Why an event stands in the instance's own queue.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Origin {
    /// A zero delay of `after` or `idle`, or work of a state that was over at once; removed when the state is left.
    State(StateIndex),
    /// A `raise` with a zero delay; removed by `cancel` of its id.
    Raise {
        /// The timer id that it would have had.
        id: String,
    },
    /// It was postponed and is tried again.
    Retried,
}

/// One event of the instance's own queue.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Queued {
    /// The event.
    pub event: Event,
    /// Why it is here.
    pub origin: Origin,
}

/// What a timer does when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TimerKind {
    /// `after` of a state.
    After {
        /// The state.
        state: StateIndex,
    },
    /// `idle` of a state.
    Idle {
        /// The state.
        state: StateIndex,
    },
    /// A delayed `raise`.
    Raise,
}

/// One running timer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Timer {
    /// Its id: `after.<delay>.<state>`, `idle.<delay>.<state>`, or that of the raise.
    pub id: String,
    /// When it is due.
    pub due: Timestamp,
    /// The version that armed it.
    pub generation: u64,
    /// Of timers due at the same time, the lower number fires first.
    pub number: u64,
    /// What it does.
    pub kind: TimerKind,
    /// The event that it makes.
    pub event: Event,
    /// It was due while the instance could not take it; its row is gone and its trigger waits in the inbox.
    pub fired: bool,
}

/// What a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WorkKind {
    /// A task of an invoke.
    Task,
    /// A child instance.
    Child,
    /// The compensation that the saga runs.
    Compensation,
}

/// One open piece of work.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Work {
    /// Its address.
    pub key: WorkKey,
    /// What it is.
    pub kind: WorkKind,
    /// The number of its invoke in the chart; for a compensation that of the `saga:compensate`.
    pub invoke: u16,
    /// The state that it belongs to; nothing for a compensation after the instance was cancelled.
    pub state: Option<StateIndex>,
    /// `src` as written.
    pub src: String,
    /// Its input.
    pub input: Value,
    /// Which item of a `forEach` it is.
    pub item: Option<u32>,
    /// Its first attempt was leased.
    pub is_started: bool,
    /// It ended while the instance could not take it; its row is gone and its trigger waits in the inbox.
    pub is_closed: bool,
    /// The input of its `from: start` compensation, evaluated when it was scheduled.
    pub undo_input: Option<Value>,
}

/// The items of a `forEach` under way.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Group {
    /// The number of its invoke in the chart.
    pub invoke: u16,
    /// The items.
    pub items: Vec<Value>,
    /// The inputs of the items that were not started yet, in item order.
    pub waiting: Vec<Value>,
    /// The outputs so far, one place an item.
    pub outputs: Vec<Option<Value>>,
}

/// A step of the saga that would have to be undone.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Registered {
    /// The number of the invoke that registered it.
    pub invoke: u16,
    /// The work that it undoes.
    pub work: WorkKey,
    /// `src` of the compensation.
    pub src: String,
    /// Its input.
    pub input: Value,
    /// Longest time of one attempt.
    pub timeout_ms: Option<u64>,
    /// Length of a lease.
    pub heartbeat_ms: Option<u64>,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
}

/// A saga that is being undone.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Undoing {
    /// The number of the `saga:compensate` invoke; nothing while the instance is being cancelled.
    pub invoke: Option<u16>,
    /// The compensation under way; nothing while cancelled tasks still hold a lease.
    pub open: Option<WorkKey>,
}

/// What a history state remembers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Memory {
    /// The history state.
    pub state: StateIndex,
    /// The states that were active when its parent was left last.
    pub remembered: Vec<StateIndex>,
}

/// An event that is kept until it can be taken.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Postponed {
    /// The event.
    pub event: Event,
    /// When it came.
    pub arrived: Timestamp,
}

/// Why an instance is faulted.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Fault {
    /// The kept trigger; [`Trigger::Queue`] stands for the front of the queue.
    pub trigger: Trigger,
    /// Why it could not be taken.
    pub cause: RefusalKind,
    /// When.
    pub at: Timestamp,
}

/// How an instance failed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Failure {
    /// The code.
    pub code: String,
    /// What a person reads.
    pub message: String,
}

/// An instance at one version.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Snapshot {
    /// How many transitions it has; 0 before the start.
    pub version: u64,
    /// Where it is in its life.
    pub status: Status,
    /// What it was before it was paused or faulted.
    pub held_status: Status,
    /// The active states.
    pub configuration: StateSet,
    /// The instance's own data: an object.
    pub context: Value,
    /// What history states remember, in document order.
    pub history: Vec<Memory>,
    /// The instance's own queue.
    pub queue: Vec<Queued>,
    /// Postponed events.
    pub postponed: Vec<Postponed>,
    /// Running timers.
    pub timers: Vec<Timer>,
    /// Open work.
    pub works: Vec<Work>,
    /// The `forEach`es under way.
    pub groups: Vec<Group>,
    /// The saga's stack; the last is undone first.
    pub saga: Vec<Registered>,
    /// The saga that is being undone.
    pub undoing: Option<Undoing>,
    /// Cancelled tasks that the saga covers and that may still run.
    pub releasing: Vec<WorkKey>,
    /// Why it is faulted.
    pub fault: Option<Fault>,
    /// Triggers that came while it was paused or faulted.
    pub inbox: Vec<Trigger>,
    /// Macrosteps in a row that came from its own queue.
    pub queue_run: u32,
    /// Timers started so far.
    pub timers_started: u64,
    /// The tenant as expressions see it.
    pub tenant: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The final output.
    pub output: Option<Value>,
    /// How it failed.
    pub error: Option<Failure>,
}

impl Snapshot {
    /// Returns the snapshot of an instance before its start: version 0, nothing active.
    #[must_use]
    pub fn unborn() -> Self {
        Self {
            version: 0,
            status: Status::Running,
            held_status: Status::Running,
            configuration: StateSet::new(),
            context: Value::empty(),
            history: Vec::new(),
            queue: Vec::new(),
            postponed: Vec::new(),
            timers: Vec::new(),
            works: Vec::new(),
            groups: Vec::new(),
            saga: Vec::new(),
            undoing: None,
            releasing: Vec::new(),
            fault: None,
            inbox: Vec::new(),
            queue_run: 0,
            timers_started: 0,
            tenant: String::new(),
            started_at: Timestamp(0),
            updated_at: Timestamp(0),
            output: None,
            error: None,
        }
    }

    /// Returns whether [`Trigger::Queue`] has something to do now.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.status.is_live() && !(self.queue.is_empty() && self.inbox.is_empty())
    }

    /// Returns the timer that is to fire first of those due at the given time.
    #[must_use]
    pub fn first_due(&self, at: Timestamp) -> Option<&Timer> {
        let at = mutant::ripe_at(at);
        let due = self.timers.iter().filter(|timer| !timer.fired && timer.due <= at);
        due.min_by_key(|timer| (timer.due, timer.number))
    }

    /// Returns the open work with this address.
    #[must_use]
    pub fn work(&self, key: WorkKey) -> Option<&Work> {
        self.works.iter().find(|work| work.key == key)
    }
}
