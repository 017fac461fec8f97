//! Postponing: events that are kept for a later state.
//!
//! After a macrostep that changed the set of active states everything that was kept goes to the front of the queue, in the
//! order of arrival, and is tried again, each event in a macrostep of its own. What still does not fit is kept again.
//!
//! Deliberately absent: the answers; a settled command is named by its ticket and its answer belongs to `step.rs`.
//!
//! Invariant: at most `limits.postponed` events and `POSTPONED_BYTES_MAX` bytes are kept.

use statehouse_contract::limits::POSTPONED_BYTES_MAX;

use crate::{
    draft::Draft,
    refusal::RefusalKind,
    snapshot::{Event, EventClass, Origin, Postponed, Queued},
    step::Settled,
    value::Value,
};

impl Draft<'_> {
    /// Keeps an event; gives back whether there was room.
    pub(crate) fn postpone(&mut self, event: &Event) -> bool {
        let kept = &self.next.postponed;
        let bytes: usize = kept.iter().map(|kept| payload_bytes(&kept.event)).sum();
        let fits = kept.len() < self.chart.limits.postponed as usize
            && bytes + payload_bytes(event) <= POSTPONED_BYTES_MAX;
        if fits {
            self.next.postponed.push(Postponed { event: event.clone(), arrived: self.at });
        }
        fits
    }

    /// Moves everything that was kept to the front of the queue.
    pub(crate) fn retry_postponed(&mut self) {
        let kept = std::mem::take(&mut self.next.postponed);
        let retried =
            kept.into_iter().map(|kept| Queued { event: kept.event, origin: Origin::Retried });
        self.next.queue.splice(0..0, retried);
    }

    /// Refuses every command that is kept or queued, and drops everything else there: the instance is over.
    pub(crate) fn refuse_waiting(&mut self) {
        let queued = std::mem::take(&mut self.next.queue).into_iter().map(|queued| queued.event);
        let kept = std::mem::take(&mut self.next.postponed).into_iter().map(|kept| kept.event);
        for event in queued.chain(kept) {
            if let EventClass::Command { ticket, .. } = event.class {
                self.settled.push(Settled { ticket, answer: Err(RefusalKind::InstanceFinished) });
            }
        }
    }

    /// Refuses a command whose deadline has come; gives back whether it was still waiting.
    pub(crate) fn expire(&mut self, ticket: &str) -> bool {
        let is_it = |event: &Event| match &event.class {
            EventClass::Command { ticket: own, until } => own == ticket && *until <= self.at,
            EventClass::Signal | EventClass::Raised | EventClass::Platform => false,
        };
        let before = self.next.postponed.len() + self.next.queue.len();
        self.next.postponed.retain(|kept| !is_it(&kept.event));
        self.next.queue.retain(|queued| !is_it(&queued.event));
        let was_waiting = self.next.postponed.len() + self.next.queue.len() < before;
        if was_waiting {
            self.settled.push(Settled {
                ticket: ticket.to_owned(),
                answer: Err(RefusalKind::PostponeExpired),
            });
        }
        was_waiting
    }
}

fn payload_bytes(event: &Event) -> usize {
    event
        .value
        .get("data")
        .map_or(0, |data| if *data == Value::empty() { 2 } else { data.to_text().len() })
}
