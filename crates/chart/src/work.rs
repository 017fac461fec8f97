//! Work: what invokes start, and what its end means to the instance.
//!
//! Work starts at the end of the macrostep, for states that are still active then, with the context as it is then; so a
//! state that was only passed through starts nothing. An instance hears of the end only: attempts belong to others.
//!
//! Deliberately absent: leases and attempts; the saga's stack (`saga.rs`).
//!
//! Invariants: work belongs to an active state, or to a saga; a `forEach` has at most its limit of items open.

use crate::{
    configuration::StateIndex,
    definition::{DelayDef, InvokeDef, SrcDef},
    draft::{Draft, Stop},
    effect::{ChildOrder, Effect, TaskOrder},
    guard::Scope,
    snapshot::{Group, Origin, Queued, Work, WorkKind},
    trigger::WorkKey,
    value::Value,
};

impl Draft<'_> {
    /// Starts the noted work of states that are still active.
    pub(crate) fn start_noted(&mut self) -> Result<(), Stop> {
        // Started in document order, whatever the order of entering was.
        let mut noted = std::mem::take(&mut self.noted);
        noted.sort_unstable();
        noted.dedup();
        for index in noted {
            let chart = self.chart;
            let invoke = chart.invoke(index);
            match (&invoke.src, &invoke.for_each) {
                (SrcDef::Saga, _) => self.start_undoing(Some(index))?,
                (SrcDef::Task | SrcDef::Workflow { .. }, None) => {
                    let input = self.work_input(invoke, None)?;
                    self.start_work(index, input, None)?;
                }
                (SrcDef::Task | SrcDef::Workflow { .. }, Some(each)) => {
                    let scope = Scope { event: None, ..self.scope() };
                    let Value::List(items) = each.items.render(&scope)? else {
                        return Err(each.items.error("`items` must be a list").into());
                    };
                    let inputs = items.iter().map(|item| self.work_input(invoke, Some(item)));
                    let waiting = inputs.collect::<Result<Vec<_>, _>>()?;
                    let outputs = vec![None; items.len()];
                    self.next.groups.push(Group {
                        invoke: index,
                        items: items.to_vec(),
                        waiting,
                        outputs,
                    });
                    self.start_items(index)?;
                }
            }
        }
        Ok(())
    }

    fn work_input(&self, invoke: &InvokeDef, item: Option<&Value>) -> Result<Value, Stop> {
        let Some(template) = &invoke.input else { return Ok(Value::empty()) };
        let scope = Scope { event: None, item, ..self.scope() };
        let input = template.render_as(invoke.input_schema.as_ref(), &scope)?;
        self.judge_payload(&input)?;
        Ok(input)
    }

    /// Starts as many items of a `forEach` as its limit allows; an empty one is done in a macrostep of its own.
    fn start_items(&mut self, index: u16) -> Result<(), Stop> {
        let chart = self.chart;
        let invoke = chart.invoke(index);
        let limit = invoke.for_each.as_ref().and_then(|each| each.limit).unwrap_or(u32::MAX);
        let Some(place) = self.next.groups.iter().position(|group| group.invoke == index) else {
            return Ok(());
        };
        let group = &self.next.groups[place];
        let items = group.items.len();
        if items == 0 {
            self.next.groups.remove(place);
            let event =
                self.platform_event(&invoke.done_event, Some(("output", Value::list(Vec::new()))));
            self.next.queue.push(Queued { event, origin: Origin::State(invoke.state) });
            return Ok(());
        }
        let open = self.next.works.iter().filter(|work| work.invoke == index).count();
        let room = (limit as usize).saturating_sub(open).min(group.waiting.len());
        let first = items - group.waiting.len();
        let inputs: Vec<Value> = self.next.groups[place].waiting.drain(..room).collect();
        for (offset, input) in inputs.into_iter().enumerate() {
            let item = u32::try_from(first + offset).unwrap_or(u32::MAX);
            self.start_work(index, input, Some(item))?;
        }
        Ok(())
    }

    fn start_work(&mut self, index: u16, input: Value, item: Option<u32>) -> Result<(), Stop> {
        let chart = self.chart;
        let invoke = chart.invoke(index);
        let undo_input = match &invoke.undo {
            Some(undo) if undo.from_start => {
                let item = item.and_then(|item| self.item(index, item));
                let scope = Scope { event: None, item: item.as_ref(), ..self.scope() };
                Some(self.undo_input(undo, &scope)?)
            }
            Some(_) | None => None,
        };
        let kind = match &invoke.src {
            SrcDef::Workflow { .. } => WorkKind::Child,
            SrcDef::Task | SrcDef::Saga => WorkKind::Task,
        };
        let work = Work {
            key: self.next_key(),
            kind,
            invoke: index,
            state: Some(invoke.state),
            src: invoke.src_text.clone(),
            input,
            item,
            is_started: false,
            is_closed: false,
            undo_input,
        };
        self.order(&work)?;
        self.push_work(work)
    }

    /// Orders a task or a child from whoever does it.
    pub(crate) fn order(&mut self, work: &Work) -> Result<(), Stop> {
        let chart = self.chart;
        let invoke = chart.invoke(work.invoke);
        let effect = match &invoke.src {
            SrcDef::Workflow { definition, version } => Effect::StartChild(ChildOrder {
                work: work.key,
                invoke: invoke.id.clone(),
                definition: definition.clone(),
                definition_version: *version,
                input: work.input.clone(),
                item: work.item,
                detached: invoke.detached,
            }),
            SrcDef::Task | SrcDef::Saga => Effect::ScheduleTask(TaskOrder {
                work: work.key,
                invoke: invoke.id.clone(),
                src: invoke.src_text.clone(),
                queue: invoke.queue.clone(),
                input: work.input.clone(),
                item: work.item,
                timeout_ms: self.work_delay(invoke.timeout.as_ref())?,
                heartbeat_ms: self.work_delay(invoke.heartbeat.as_ref())?,
                retry: invoke.retry.clone(),
                report_start: work.undo_input.is_some(),
                compensation: false,
            }),
        };
        self.effects.push(effect);
        Ok(())
    }

    pub(crate) fn next_key(&mut self) -> WorkKey {
        let key = WorkKey { version: self.next.version, number: self.works_started };
        self.works_started += 1;
        key
    }

    pub(crate) fn push_work(&mut self, work: Work) -> Result<(), Stop> {
        self.next.works.push(work);
        if self.next.works.len() > self.chart.limits.tasks as usize {
            Err(Stop::Limit("tasks"))
        } else {
            Ok(())
        }
    }

    /// Returns the length of a timeout or a lease; `event` is not in scope.
    pub(crate) fn work_delay(&mut self, delay: Option<&DelayDef>) -> Result<Option<u64>, Stop> {
        let event = self.event.take();
        let ms = delay.map(|delay| self.delay_ms(delay)).transpose();
        self.event = event;
        ms
    }

    /// Returns an item of a `forEach` under way.
    pub(crate) fn item(&self, index: u16, item: u32) -> Option<Value> {
        let group = self.next.groups.iter().find(|group| group.invoke == index)?;
        group.items.get(item as usize).cloned()
    }

    /// Drops the work of a state that is being left.
    pub(crate) fn drop_works(&mut self, state: StateIndex) {
        let chart = self.chart;
        self.drop_works_where(|work| work.state == Some(state));
        self.next.groups.retain(|group| chart.invoke(group.invoke).state != state);
        let is_own = |invoke: u16| chart.invoke(invoke).state == state;
        if self.next.undoing.as_ref().and_then(|undoing| undoing.invoke).is_some_and(is_own) {
            self.next.undoing = None;
        }
    }

    fn drop_works_where(&mut self, is_dropped: impl Fn(&Work) -> bool) {
        let (dropped, kept) =
            std::mem::take(&mut self.next.works).into_iter().partition(&is_dropped);
        self.next.works = kept;
        let dropped: Vec<Work> = dropped;
        // What was under way and can be undone has to be over before it is.
        let covered = dropped.into_iter().filter(|work| self.is_covered(work)).map(|work| work.key);
        let covered: Vec<WorkKey> = covered.collect();
        self.next.releasing.extend(covered);
    }

    fn is_covered(&self, work: &Work) -> bool {
        let undo = self.chart.invoke(work.invoke).undo.as_ref();
        let from_start = undo.is_some_and(|undo| undo.from_start);
        work.kind == WorkKind::Task && from_start && work.is_started && !work.is_closed
    }

    /// Takes a piece of work that ended out of the snapshot, and notes its output.
    ///
    /// Gives back what `done.invoke` carries; nothing while other items of a `forEach` are still open.
    pub(crate) fn close_done(&mut self, work: &Work, output: Value) -> Result<Option<Value>, Stop> {
        self.next.works.retain(|other| other.key != work.key);
        let (Some(item), Some(place)) =
            (work.item, self.next.groups.iter().position(|group| group.invoke == work.invoke))
        else {
            return Ok(Some(output));
        };
        let group = &mut self.next.groups[place];
        if let Some(slot) = group.outputs.get_mut(item as usize) {
            *slot = Some(output);
        }
        if group.outputs.iter().all(Option::is_some) {
            let group = self.next.groups.remove(place);
            return Ok(Some(Value::list(group.outputs.into_iter().flatten().collect())));
        }
        self.start_items(work.invoke)?;
        Ok(None)
    }

    /// Takes a piece of work that failed out of the snapshot, with the other items of its `forEach`.
    pub(crate) fn close_failed(&mut self, work: &Work) {
        self.next.works.retain(|other| other.key != work.key);
        if work.item.is_some() {
            self.next.groups.retain(|group| group.invoke != work.invoke);
            self.drop_works_where(|other| other.invoke == work.invoke && other.item.is_some());
        }
    }
}
