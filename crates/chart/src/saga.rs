//! The saga: what would have to be undone, last first.
//!
//! A step registers its compensation when it succeeds, or, with `from: start`, when its first attempt begins. Undoing runs
//! the top of the stack and removes it in the very step that records its success; so a second run goes on where the first
//! one failed, and nothing is undone twice.
//!
//! Deliberately absent: attempts of a compensation; it is a task like any other.
//!
//! Invariants: at most one compensation is open; while one is, it belongs to the top of the stack.

use crate::{
    definition::UndoDef,
    draft::{Draft, Stop},
    effect::{Effect, TaskOrder},
    guard::Scope,
    snapshot::{Origin, Queued, Registered, Undoing, Work, WorkKind},
    trigger::WorkKey,
    value::Value,
};

/// How undoing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// A compensation is open, or something has to end first.
    Waiting,
    /// The stack is empty.
    Empty,
}

impl Draft<'_> {
    /// Returns the input of a compensation.
    pub(crate) fn undo_input(&self, undo: &UndoDef, scope: &Scope<'_>) -> Result<Value, Stop> {
        let Some(template) = &undo.input else { return Ok(Value::empty()) };
        let input = template.render_as(undo.input_schema.as_ref(), scope)?;
        self.judge_payload(&input)?;
        Ok(input)
    }

    /// Registers the compensation of a step that succeeded; `event` is the one that says so.
    pub(crate) fn register_done(&mut self, work: &Work, event: &Value) -> Result<(), Stop> {
        let chart = self.chart;
        let Some(undo) = &chart.invoke(work.invoke).undo else { return Ok(()) };
        if undo.from_start {
            // An attempt that ended has begun, whether or not anybody said so.
            return self.register_started(work);
        }
        let item = work.item.and_then(|item| self.item(work.invoke, item));
        let scope = Scope { event: Some(event), item: item.as_ref(), ..self.scope() };
        let input = self.undo_input(undo, &scope)?;
        self.register(work, undo, input)
    }

    /// Registers the compensation of a step whose first attempt has begun, once.
    pub(crate) fn register_started(&mut self, work: &Work) -> Result<(), Stop> {
        let chart = self.chart;
        let Some(undo) = chart.invoke(work.invoke).undo.as_ref().filter(|undo| undo.from_start)
        else {
            return Ok(());
        };
        if work.is_started {
            return Ok(());
        }
        let own = self.next.works.iter_mut().find(|other| other.key == work.key);
        let input = own.and_then(|own| {
            own.is_started = true;
            own.undo_input.take()
        });
        let input = input.or_else(|| work.undo_input.clone()).unwrap_or_default();
        self.register(work, undo, input)
    }

    fn register(&mut self, work: &Work, undo: &UndoDef, input: Value) -> Result<(), Stop> {
        if undo.once && self.next.saga.iter().any(|step| step.invoke == work.invoke) {
            return Ok(());
        }
        let step = Registered {
            invoke: work.invoke,
            work: work.key,
            src: undo.src_text.clone(),
            input,
            timeout_ms: self.work_delay(undo.timeout.as_ref())?,
            heartbeat_ms: self.work_delay(undo.heartbeat.as_ref())?,
            retry: undo.retry.clone(),
        };
        self.next.saga.push(step);
        Ok(())
    }

    /// Begins to undo, for an invoke of `saga:compensate` or for a cancelled instance.
    pub(crate) fn start_undoing(&mut self, invoke: Option<u16>) -> Result<(), Stop> {
        self.next.undoing = Some(Undoing { invoke, open: None });
        let (Undone::Empty, Some(index)) = (self.undo_next()?, invoke) else { return Ok(()) };
        // Nothing to undo: done at once, but in a macrostep of its own.
        self.next.undoing = None;
        let invoke = self.chart.invoke(index);
        let event = self.platform_event(&invoke.done_event, Some(("output", Value::Null)));
        self.next.queue.push(Queued { event, origin: Origin::State(invoke.state) });
        Ok(())
    }

    /// Starts the next compensation unless something has to end first.
    pub(crate) fn undo_next(&mut self) -> Result<Undone, Stop> {
        let Some(undoing) = &self.next.undoing else { return Ok(Undone::Waiting) };
        if undoing.open.is_some() || !self.next.releasing.is_empty() {
            return Ok(Undone::Waiting);
        }
        let owner = undoing.invoke;
        let Some(step) = self.next.saga.last().cloned() else { return Ok(Undone::Empty) };
        let key = self.next_key();
        self.order_compensation(key);
        if let Some(undoing) = &mut self.next.undoing {
            undoing.open = Some(key);
        }
        self.push_work(Work {
            key,
            kind: WorkKind::Compensation,
            invoke: owner.unwrap_or(step.invoke),
            state: owner.map(|invoke| self.chart.invoke(invoke).state),
            src: step.src,
            input: step.input,
            item: None,
            is_started: false,
            is_closed: false,
            undo_input: None,
        })?;
        Ok(Undone::Waiting)
    }

    /// Orders what undoes the top of the stack.
    pub(crate) fn order_compensation(&mut self, key: WorkKey) {
        let Some(step) = self.next.saga.last() else { return };
        let invoke = self.chart.invoke(step.invoke);
        self.effects.push(Effect::ScheduleTask(TaskOrder {
            work: key,
            invoke: invoke.id.clone(),
            src: step.src.clone(),
            queue: invoke.undo.as_ref().map(|undo| undo.queue.clone()).unwrap_or_default(),
            input: step.input.clone(),
            item: None,
            timeout_ms: step.timeout_ms,
            heartbeat_ms: step.heartbeat_ms,
            retry: step.retry.clone(),
            report_start: false,
            compensation: true,
        }));
    }

    /// Records that the open compensation succeeded, and goes on.
    pub(crate) fn undone(&mut self, key: WorkKey) -> Result<Undone, Stop> {
        self.next.works.retain(|work| work.key != key);
        self.next.saga.pop();
        if let Some(undoing) = &mut self.next.undoing {
            undoing.open = None;
        }
        self.undo_next()
    }
}
