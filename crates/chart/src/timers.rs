//! Timers: state timeouts, event timeouts and named timeouts.
//!
//! A timer is an entry in the snapshot; its row in the table of due work is an effect that follows from comparing two
//! snapshots (`changes.rs`). What has no delay goes to the instance's own queue instead, and leaves it under the same rules.
//!
//! Deliberately absent: the clock. Due times count from the time of the step.
//!
//! Invariants: at most one timer has an id; a timer of a state exists only while the state is active; timers stand in the
//! order in which they were started.

use crate::{
    configuration::StateIndex,
    definition::TimeoutDef,
    draft::{Draft, Stop},
    snapshot::{Event, Origin, Queued, Timer, TimerKind},
};

impl Draft<'_> {
    /// Starts the timeouts of a state that was just entered.
    pub(crate) fn start_timeouts(&mut self, state: StateIndex) -> Result<(), Stop> {
        let chart = self.chart;
        for timeout in &chart.def(state).timeouts {
            self.start_timeout(state, timeout)?;
        }
        Ok(())
    }

    /// Restarts the idle timeouts of every active state, in document order.
    pub(crate) fn restart_idle(&mut self) -> Result<(), Stop> {
        let chart = self.chart;
        if !self.next.configuration.meets(&chart.with_idle) {
            return Ok(());
        }
        let active: Vec<StateIndex> = self.next.configuration.iter().collect();
        for state in active.into_iter().filter(|state| chart.with_idle.contains(*state)) {
            for timeout in chart.def(state).timeouts.iter().filter(|timeout| timeout.is_idle) {
                self.next.timers.retain(|timer| timer.id != timeout.event);
                self.next.queue.retain(|queued| queued.event.name != timeout.event);
                self.start_timeout(state, timeout)?;
            }
        }
        Ok(())
    }

    pub(crate) fn start_timeout(
        &mut self,
        state: StateIndex,
        timeout: &TimeoutDef,
    ) -> Result<(), Stop> {
        let ms = self.delay_ms(&timeout.delay)?;
        let event = self.platform_event(&timeout.event, None);
        if ms == 0 {
            self.next.queue.push(Queued { event, origin: Origin::State(state) });
            return Ok(());
        }
        let kind =
            if timeout.is_idle { TimerKind::Idle { state } } else { TimerKind::After { state } };
        self.start_timer(timeout.event.clone(), ms, kind, event)
    }

    /// Drops the timeouts of a state that is being left, also those that wait in the queue.
    pub(crate) fn drop_timeouts(&mut self, state: StateIndex) {
        self.next.timers.retain(|timer| match timer.kind {
            TimerKind::After { state: own } | TimerKind::Idle { state: own } => own != state,
            TimerKind::Raise => true,
        });
        self.next.queue.retain(|queued| queued.origin != Origin::State(state));
    }

    /// Raises an event later; the same id restarts its timer.
    pub(crate) fn raise_later(
        &mut self,
        id: Option<&str>,
        ms: u64,
        event: Event,
    ) -> Result<(), Stop> {
        let id = match id {
            Some(id) => {
                self.cancel_timer(id);
                id.to_owned()
            }
            // A tilde is in no author's name.
            None => format!("raise.~{}", self.next.timers_started),
        };
        if ms == 0 {
            self.next.timers_started += 1;
            self.next.queue.push(Queued { event, origin: Origin::Raise { id } });
            return self.judge_queue();
        }
        self.start_timer(id, ms, TimerKind::Raise, event)
    }

    /// Drops a named timer, also where it waits in the queue.
    pub(crate) fn cancel_timer(&mut self, id: &str) {
        self.next.timers.retain(|timer| timer.id != id);
        self.next.queue.retain(|queued| match &queued.origin {
            Origin::Raise { id: own } => own != id,
            Origin::State(_) | Origin::Retried => true,
        });
    }

    fn start_timer(
        &mut self,
        id: String,
        ms: u64,
        kind: TimerKind,
        event: Event,
    ) -> Result<(), Stop> {
        let number = self.next.timers_started;
        self.next.timers_started += 1;
        let due = self.at.after_ms(i64::try_from(ms).unwrap_or(i64::MAX));
        let generation = self.next.version;
        self.next.timers.push(Timer { id, due, generation, number, kind, event, fired: false });
        if self.next.timers.len() > self.chart.limits.timers as usize {
            Err(Stop::Limit("timers"))
        } else {
            Ok(())
        }
    }

    fn judge_queue(&self) -> Result<(), Stop> {
        if self.next.queue.len() > self.chart.limits.queue as usize {
            Err(Stop::Limit("queue"))
        } else {
            Ok(())
        }
    }
}
