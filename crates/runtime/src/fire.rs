//! Envelopes of what is due: the inner commands that the timer actor and the instances' own queues make.
//!
//! They enter through the same door as a client's, under keys that no client can forge. They have no receipt; their fence
//! is the row of the due table.

use statehouse_contract::{
    Actor, Command, CommandEnvelope, Digest, Due, InstanceKey, Key, Target, Timestamp,
    TraceContext, limits::DEADLINE_MS_DEFAULT,
};

/// Returns the envelope that fires what is due at an instance.
#[must_use]
pub(crate) fn envelope(key: &InstanceKey, what: Due, due: Timestamp) -> CommandEnvelope {
    let name = match &what {
        Due::Timer { id, generation } => Key::Timer { id: id.clone(), generation: *generation },
        Due::PostponeDeadline { ticket } => Key::Queue { ticket: ticket.clone() },
        Due::Queue
        | Due::Lease { .. }
        | Due::Attempt { .. }
        | Due::Retry { .. }
        | Due::Schedule { .. } => Key::Queue { ticket: "".into() },
    };
    CommandEnvelope {
        target: Target::Instance(key.clone()),
        command: Command::Fire { what, due },
        key: name,
        fingerprint: Digest([0; 32]),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: DEADLINE_MS_DEFAULT,
        expected: None,
        actor: Actor::system(),
        reason: None,
        attempt: 1,
    }
}
