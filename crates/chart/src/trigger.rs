//! Triggers: whatever may move an instance, as plain values.
//!
//! A trigger names what happened; it never says what follows. It carries no time (that is an argument of `step`), no lease
//! and no key. A faulted or paused instance keeps triggers in its snapshot, so they can be encoded.
//!
//! Deliberately absent: the answer's address, deadlines of the caller, credentials beyond the actor's name.

use std::fmt;

use bincode::{Decode, Encode};
use statehouse_contract::time::Timestamp;

use crate::value::Value;

/// The address of one piece of work within its instance: the version that started it and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct WorkKey {
    /// The instance version whose step started the work.
    pub version: u64,
    /// Its number within that version, from 0.
    pub number: u32,
}

impl fmt::Display for WorkKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.version, self.number)
    }
}

/// A command or signal from outside.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Call {
    /// The event's name.
    pub name: String,
    /// The payload; an empty object if none was given.
    pub data: Value,
    /// Who sends it, from the credential.
    pub actor: String,
}

/// Why a piece of work ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WorkError {
    /// A stable code such as `card_declined`.
    pub code: String,
    /// What a person reads.
    pub message: String,
    /// How many attempts were made.
    pub attempts: u32,
}

/// What may move an instance.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Trigger {
    /// The first macrostep of an instance; its snapshot is [`Snapshot::unborn`](crate::Snapshot::unborn).
    Start {
        /// The input, judged against the start schema.
        input: Value,
        /// Who starts it.
        actor: String,
        /// The tenant, as guards see it in `event.tenant`.
        tenant: String,
    },
    /// A command.
    Command {
        /// What is sent.
        call: Call,
        /// The name under which a postponed command is settled later; opaque here.
        ticket: String,
        /// Until when it may stay postponed; `None` = as the definition says.
        postpone_until: Option<Timestamp>,
    },
    /// A signal.
    Signal(Call),
    /// A timer that is due.
    Timer {
        /// The timer's id.
        id: String,
        /// The version that armed it.
        generation: u64,
    },
    /// The front of the instance's own queue.
    Queue,
    /// A postponed command has waited too long.
    PostponeExpired {
        /// Its ticket.
        ticket: String,
    },
    /// The first attempt of a task was leased.
    WorkStarted {
        /// The task.
        work: WorkKey,
    },
    /// A task, child or compensation ended well.
    WorkDone {
        /// The work.
        work: WorkKey,
        /// What it returned.
        output: Value,
    },
    /// The last attempt of a task or compensation failed, or a child did.
    WorkFailed {
        /// The work.
        work: WorkKey,
        /// Why.
        error: WorkError,
    },
    /// A cancelled task that had been leased has ended or lost its lease.
    WorkReleased {
        /// The task.
        work: WorkKey,
    },
    /// The platform event `instance.cancel`: of an operator, or because the parent left.
    Cancel {
        /// Who cancels.
        actor: String,
    },
    /// Ends the instance now: no actions, no compensation.
    Terminate {
        /// Who terminates.
        actor: String,
    },
    /// Holds timers and refuses commands until [`Trigger::Resume`].
    Pause,
    /// Goes on after [`Trigger::Pause`].
    Resume,
    /// Runs the kept event of a faulted instance again.
    Retry,
    /// Drops the kept event of a faulted instance.
    Skip,
}
