//! What is due: timers, the instance's own queue, the deadlines of what was postponed.
//!
//! A row says that something may be due. Whether it still is, the instance says: what is no longer open, or not due yet by
//! the time of this decision, is nothing to do and no refusal, and the row goes with whatever has closed it.
//!
//! Absent on purpose: finding the rows; the timer actor does that.

use statehouse_chart::Trigger;
use statehouse_contract::{Due, Timestamp, mutant};
use statehouse_store::entry::CauseKind;

use super::{Answering, Decision, Judge, cause, rows};

impl Judge<'_> {
    /// Fires what is due. Of several timers that are due the one that comes first goes first; the others come again by
    /// their own rows.
    pub(super) fn fire(self, what: &Due, due: Timestamp) -> Decision {
        let (Some(standing), Some(chart)) = (self.case.standing, self.case.chart) else {
            return Decision::Nothing;
        };
        if due > mutant::ripe_at(self.case.at) {
            return Decision::Nothing;
        }
        let mut event = String::new();
        let (trigger, kind) = match what {
            Due::Timer { id, generation } => {
                let is_open = |timer: &statehouse_chart::snapshot::Timer| {
                    timer.id == **id && timer.generation == *generation && !timer.fired
                };
                if !standing.snapshot.timers.iter().any(is_open) {
                    return Decision::Nothing;
                }
                let Some(first) = standing.snapshot.first_due(self.case.at) else {
                    return Decision::Nothing;
                };
                let (id, generation) = (first.id.clone(), first.generation);
                event.clone_from(&id);
                (Trigger::Timer { id, generation }, CauseKind::Timer)
            }
            Due::Queue if standing.snapshot.has_queued() => (Trigger::Queue, CauseKind::Queue),
            Due::Queue => return self.release_next(standing, chart),
            Due::PostponeDeadline { ticket } => {
                event = rows::postponed_event(&standing.snapshot, ticket).to_owned();
                (Trigger::PostponeExpired { ticket: ticket.to_string() }, CauseKind::Queue)
            }
            Due::Lease { .. } | Due::Attempt { .. } => return self.run_out(what, due),
            // A task that may be tried again is found by those who look for work; a schedule is no instance's.
            Due::Retry { .. } | Due::Schedule { .. } => return Decision::Nothing,
        };
        self.take(standing, chart, &trigger, cause(kind, &event, None), Answering::Nobody)
    }
}
