//! Migration: an instance of an earlier version finds its place in this one.
//!
//! Every active state is carried to the state that `states` names, or to the one of the same id. What is carried was entered
//! long ago: it runs no entry actions, its timers keep their due times, its work goes on where invoke and `src` are the
//! same. What is new around it (a region, the default child of a compound state) is entered as ever, with actions, timers
//! and work. A timeout or an invoke that only the new version has begins now; one that the old version had, too, and that is
//! over, does not begin again.
//!
//! Deliberately absent: which instances, and when; what a deployed version may say (`validate/migrations.rs`).
//!
//! Invariants: the new configuration is legal, or nothing has happened; nothing of a saga is lost.

use std::collections::BTreeMap;

use statehouse_contract::time::Timestamp;

use crate::{
    changes,
    configuration::{StateIndex, StateSet},
    definition::{Chart, SrcDef},
    draft::{Draft, Stop},
    guard::{Evaluate, Names, Program, Scope, on_big_stack},
    macrostep, microstep,
    refusal::{Refusal, RefusalKind},
    snapshot::{Memory, Origin, Queued, Snapshot, Timer, TimerKind, Work, WorkKind},
    source::{self, Kind},
    step::{Outcome, Step},
    template::Template,
    trigger::Trigger,
    value::Value,
};

/// The event that history shows.
const MIGRATE: &str = "instance.migrate";

/// One of a definition's `migrations`, as authored: its expressions ask for states of a version that the chart at hand does
/// not know.
#[derive(Clone, Debug)]
pub(crate) struct MigrationDef {
    pub(crate) from: u64,
    pub(crate) states: BTreeMap<String, String>,
    pub(crate) context: Option<source::Template>,
    pub(crate) when: Option<source::Expression>,
}

/// Moves an instance from one version of its definition to another.
///
/// # Errors
/// Why this instance has no place there; nothing moved.
pub fn migrate(old: &Chart, new: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, Refusal> {
    // Durable time never runs backwards for one instance.
    let at = at.max(now.updated_at);
    let moved = || {
        if now.status.is_finished() || now.version == 0 {
            return Err(RefusalKind::InstanceFinished);
        }
        let way = Way::find(old, new)?;
        let mut step = way.go(now, at)?;
        let (mut effects, last) = changes::between(old, now, &step.next, &Trigger::Pause);
        effects.append(&mut step.effects);
        effects.extend(last);
        step.effects = effects;
        Ok(step)
    };
    moved().map_err(|kind| Refusal { kind, accepts: old.accepts(&now.configuration) })
}

fn no_place(why: impl Into<String>) -> RefusalKind {
    RefusalKind::CannotMove { why: why.into() }
}

/// The way from one version to another.
struct Way<'a> {
    old: &'a Chart,
    new: &'a Chart,
    states: &'a BTreeMap<String, String>,
    when: Option<Program>,
    context: Option<Template>,
}

impl<'a> Way<'a> {
    fn find(old: &'a Chart, new: &'a Chart) -> Result<Self, RefusalKind> {
        let (from, to) = (old.version.unwrap_or(0), new.version.unwrap_or(0));
        if old.digest == new.digest {
            return Err(no_place(format!("the instance is on version {to} already")));
        }
        let Some(def) = new.migrations.iter().find(|migration| migration.from == from) else {
            let detail = format!(
                "version {to} says in `migrations` nothing about version {from}; go through a version that does"
            );
            return Err(no_place(detail));
        };
        let names = Names { states: &old.names, item: None };
        let unfit = |why: String| no_place(format!("its migration does not compile: {why}"));
        let (when, context) = on_big_stack(|| {
            let when =
                def.when.as_ref().map(|when| Program::compile(&when.text, &when.spot, names));
            let context = def.context.as_ref().map(|context| Template::compile(context, names));
            (when.transpose(), context.transpose())
        });
        let when = when.map_err(|trouble| unfit(trouble.to_string()))?;
        let context = context.map_err(|troubles| {
            unfit(troubles.first().map(|(_, trouble)| trouble.to_string()).unwrap_or_default())
        })?;
        Ok(Self { old, new, states: &def.states, when, context })
    }

    fn go(&self, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
        let scope = Scope {
            context: &now.context,
            event: None,
            input: None,
            item: None,
            now: at,
            active: &now.configuration,
            states: &self.old.names,
        };
        if let Some(when) = &self.when
            && when.evaluate(&scope).map_err(RefusalKind::EvaluationError)? != Value::Bool(true)
        {
            return Err(RefusalKind::GuardRefused);
        }
        let context = self.context_of(now, &scope)?;
        let entering = self.place(now)?;
        let carried = self.carried(now, &entering.states);

        let mut draft = Draft::new(self.new, now, at);
        draft.next.context = context;
        draft.next.configuration = carried;
        draft.next.history = self.memories(now);
        draft.event = Some(draft.platform_event(MIGRATE, None).value);
        self.carry_saga(now, &mut draft)?;
        self.carry_works(now, &carried, &mut draft)?;
        self.carry_timers(now, &carried, &mut draft);
        self.carry_queue(now, &carried, &mut draft);
        self.begin_new(now, &carried, &mut draft)?;
        let is_same =
            self.ids(self.old, &now.configuration) == self.ids(self.new, &entering.states);
        macrostep::run_migrated(&mut draft, &entering, is_same)?;
        Ok(Step::of(draft, Outcome::Accepted, MIGRATE))
    }

    /// Returns the state of the new version that an old one becomes.
    fn new_of(&self, state: StateIndex) -> Option<StateIndex> {
        if state == 0 {
            return Some(0);
        }
        let id = self.old.state_id(state)?;
        let named = self.states.get(id).map_or(id, String::as_str);
        self.new.names.get(named)
    }

    /// Returns the context of the new version, which fits its schema.
    fn context_of(&self, now: &Snapshot, scope: &Scope<'_>) -> Result<Value, RefusalKind> {
        let schema = self.new.context_schema.as_ref();
        if let Some(template) = &self.context {
            return template.render_as(schema, scope).map_err(RefusalKind::EvaluationError);
        }
        let Some(schema) = schema else { return Ok(now.context.clone()) };
        let context = crate::template::shaped(schema, now.context.clone());
        match schema.check(&context).first() {
            None => Ok(context),
            Some(found) => Err(no_place(format!(
                "its context does not fit the new schema at `{}`: {}; say the new context in `migrations`",
                found.pointer, found.message
            ))),
        }
    }

    /// Returns the configuration of the new version.
    fn place(&self, now: &Snapshot) -> Result<microstep::Entering, RefusalKind> {
        let version = self.new.version.unwrap_or(0);
        let leaves = now.configuration.iter().filter(|state| {
            let def = self.old.def(*state);
            !def.children.iter().any(|child| now.configuration.contains(*child))
        });
        let mut wanted = Vec::new();
        for leaf in leaves {
            let new = self.new_of(leaf).filter(|new| self.new.def(*new).kind != Kind::History);
            match new {
                Some(new) => wanted.push(new),
                None => {
                    let id = self.old.state_id(leaf).unwrap_or_default();
                    return Err(no_place(format!(
                        "`{id}` has no place in version {version}: its migration names none"
                    )));
                }
            }
        }
        let entering = microstep::placed(self.new, &wanted);
        match microstep::unlawful(self.new, &entering.states) {
            None => Ok(entering),
            Some(state) => Err(no_place(format!(
                "its active states cannot be active together in version {version}: `{}` would have two active children",
                self.new.state_id(state).unwrap_or_default()
            ))),
        }
    }

    /// Returns the states that were active before under another number, or name. A state that has become final is entered:
    /// something follows from that.
    fn carried(&self, now: &Snapshot, placed: &StateSet) -> StateSet {
        let goes_on = |state: StateIndex| {
            let new = self.new_of(state)?;
            let becomes_final =
                self.new.def(new).kind == Kind::Final && self.old.def(state).kind != Kind::Final;
            (placed.contains(new) && !becomes_final).then_some(new)
        };
        now.configuration.iter().filter_map(goes_on).collect()
    }

    fn ids(&self, chart: &'a Chart, states: &StateSet) -> Vec<&'a str> {
        let mut ids: Vec<&str> =
            states.iter().skip(1).filter_map(|state| chart.state_id(state)).collect();
        ids.sort_unstable();
        ids
    }

    fn memories(&self, now: &Snapshot) -> Vec<Memory> {
        let carried = now.history.iter().filter_map(|memory| {
            let state = self.new_of(memory.state)?;
            let def = self.new.def(state);
            let parent = def.parent.filter(|_| def.kind == Kind::History)?;
            let remembered = memory.remembered.iter().map(|own| self.new_of(*own));
            let remembered = remembered.collect::<Option<Vec<StateIndex>>>()?;
            let fits = |own: &StateIndex| match def.depth {
                Some(source::Depth::Deep) => *own != parent && self.new.is_within(*own, parent),
                Some(source::Depth::Shallow) | None => self.new.def(*own).parent == Some(parent),
            };
            remembered.iter().all(fits).then_some(Memory { state, remembered })
        });
        let mut memories: Vec<Memory> = carried.collect();
        memories.sort_unstable_by_key(|memory| memory.state);
        memories.dedup_by_key(|memory| memory.state);
        memories
    }

    /// Returns the timeout that one of a carried state is called by in the new version; nothing if that has none.
    fn timeout_of(
        &self,
        event: &str,
        state: StateIndex,
        carried: &StateSet,
    ) -> Option<(String, StateIndex)> {
        let new = self.new_of(state).filter(|new| carried.contains(*new))?;
        let stem = event.strip_suffix(self.old.state_id(state)?)?;
        let name = format!("{stem}{}", self.new.state_id(new)?);
        let is_there = self.new.def(new).timeouts.iter().any(|timeout| timeout.event == name);
        is_there.then_some((name, new))
    }

    fn carry_timers(&self, now: &Snapshot, carried: &StateSet, draft: &mut Draft<'_>) {
        let mut renamed: Vec<(&str, u64, String)> = Vec::new();
        let mut timers = Vec::new();
        for timer in &now.timers {
            let (TimerKind::After { state } | TimerKind::Idle { state }) = timer.kind else {
                timers.push(timer.clone());
                continue;
            };
            let Some((name, new)) = self.timeout_of(&timer.id, state, carried) else { continue };
            let kind = match timer.kind {
                TimerKind::Idle { .. } => TimerKind::Idle { state: new },
                TimerKind::After { .. } | TimerKind::Raise => TimerKind::After { state: new },
            };
            let event = draft.platform_event(&name, None);
            renamed.push((&timer.id, timer.generation, name.clone()));
            timers.push(Timer { id: name, kind, event, ..timer.clone() });
        }
        draft.next.timers = timers;
        let rename = |trigger: &mut Trigger| {
            let Trigger::Timer { id, generation } = trigger else { return };
            let own = renamed.iter().find(|(old, born, _)| old == id && born == generation);
            if let Some((_, _, name)) = own {
                id.clone_from(name);
            }
        };
        draft.next.inbox.iter_mut().for_each(rename);
        if let Some(fault) = &mut draft.next.fault {
            rename(&mut fault.trigger);
        }
    }

    fn carry_queue(&self, now: &Snapshot, carried: &StateSet, draft: &mut Draft<'_>) {
        let mut queue = Vec::new();
        for queued in &now.queue {
            let Origin::State(state) = queued.origin else {
                queue.push(queued.clone());
                continue;
            };
            let is_timeout = |name: &str| name.starts_with("after.") || name.starts_with("idle.");
            if is_timeout(&queued.event.name) {
                if let Some((name, new)) = self.timeout_of(&queued.event.name, state, carried) {
                    let event = draft.platform_event(&name, None);
                    queue.push(Queued { event, origin: Origin::State(new) });
                }
            } else if let Some(new) = self.new_of(state).filter(|new| carried.contains(*new)) {
                queue.push(Queued { event: queued.event.clone(), origin: Origin::State(new) });
            }
        }
        draft.next.queue = queue;
    }

    /// Returns the invoke of the new version that goes on with the work of an old one.
    fn invoke_of(&self, old: u16, carried: &StateSet) -> Option<u16> {
        let own = self.old.invoke(old);
        let state = self.new_of(own.state).filter(|new| carried.contains(*new))?;
        let is_it = |index: &&u16| {
            let new = self.new.invoke(**index);
            new.id == own.id
                && new.src_text == own.src_text
                && new.for_each.is_some() == own.for_each.is_some()
        };
        self.new.def(state).invokes.iter().find(is_it).copied()
    }

    fn carry_works(
        &self,
        now: &Snapshot,
        carried: &StateSet,
        draft: &mut Draft<'_>,
    ) -> Result<(), RefusalKind> {
        let mut works = Vec::new();
        for work in &now.works {
            if work.kind == WorkKind::Compensation {
                works.push(self.compensation(now, work, &draft.next)?);
                continue;
            }
            let Some(invoke) = self.invoke_of(work.invoke, carried) else {
                // What was under way and can be undone has to be over before it is.
                let undo = self.old.invoke(work.invoke).undo.as_ref();
                let is_covered = work.kind == WorkKind::Task
                    && undo.is_some_and(|undo| undo.from_start)
                    && work.is_started
                    && !work.is_closed;
                if is_covered {
                    draft.next.releasing.push(work.key);
                }
                continue;
            };
            let def = self.new.invoke(invoke);
            let undo = def.undo.as_ref().filter(|undo| undo.from_start && !work.is_started);
            let undo_input = match (undo, &work.undo_input) {
                (None, _) => None,
                (Some(_), Some(input)) => Some(input.clone()),
                (Some(undo), None) => {
                    let item = work.item.and_then(|item| draft.item(work.invoke, item));
                    let scope = Scope { event: None, item: item.as_ref(), ..draft.scope() };
                    Some(draft.undo_input(undo, &scope)?)
                }
            };
            works.push(Work { invoke, state: Some(def.state), undo_input, ..work.clone() });
        }
        draft.next.works = works;
        let groups = std::mem::take(&mut draft.next.groups).into_iter();
        let carried = groups.filter_map(|mut group| {
            group.invoke = self.invoke_of(group.invoke, carried)?;
            Some(group)
        });
        draft.next.groups = carried.collect();
        Ok(())
    }

    /// Returns the compensation under way as the new version knows it.
    fn compensation(
        &self,
        now: &Snapshot,
        work: &Work,
        next: &Snapshot,
    ) -> Result<Work, RefusalKind> {
        let owner = next.undoing.as_ref().and_then(|undoing| undoing.invoke);
        let step = now.saga.len().checked_sub(1).and_then(|last| next.saga.get(last));
        let Some(invoke) = owner.or_else(|| step.map(|step| step.invoke)) else {
            return Err(no_place("the compensation that is under way belongs to nothing"));
        };
        let state = owner.map(|invoke| self.new.invoke(invoke).state);
        Ok(Work { invoke, state, ..work.clone() })
    }

    /// What was registered to be undone stays as it was registered; only the invoke has to exist, with its compensation.
    fn carry_saga(&self, now: &Snapshot, draft: &mut Draft<'_>) -> Result<(), RefusalKind> {
        let version = self.new.version.unwrap_or(0);
        for step in &mut draft.next.saga {
            let id = self.old.invoke_id(step.invoke);
            let found = self.new.invokes.iter().position(|own| own.id == id && own.undo.is_some());
            let Some(found) = found.and_then(|found| u16::try_from(found).ok()) else {
                return Err(no_place(format!(
                    "`{id}` has done work that version {version} could not undo: it has no such invoke with `compensate`"
                )));
            };
            step.invoke = found;
        }
        let Some(index) = now.undoing.as_ref().and_then(|undoing| undoing.invoke) else {
            return Ok(());
        };
        let own = self.old.invoke(index);
        let is_it = |new: &crate::definition::InvokeDef| {
            new.id == own.id && new.src == SrcDef::Saga && Some(new.state) == self.new_of(own.state)
        };
        let found = self.new.invokes.iter().position(is_it);
        let Some(found) = found.and_then(|found| u16::try_from(found).ok()) else {
            return Err(no_place(format!(
                "it is being undone by `{}`, which version {version} does not have there",
                own.id
            )));
        };
        if let Some(undoing) = &mut draft.next.undoing {
            undoing.invoke = Some(found);
        }
        Ok(())
    }

    /// Begins what only the new version has: timeouts and invokes of states that were active before.
    fn begin_new(
        &self,
        now: &Snapshot,
        carried: &StateSet,
        draft: &mut Draft<'_>,
    ) -> Result<(), Stop> {
        for old in now.configuration.iter() {
            let Some(new) = self.new_of(old).filter(|new| carried.contains(*new)) else { continue };
            let (before, after) = (self.old.def(old), self.new.def(new));
            let (Some(old_id), Some(new_id)) = (self.old.state_id(old), self.new.state_id(new))
            else {
                continue;
            };
            for timeout in &after.timeouts {
                let stem = timeout.event.strip_suffix(new_id).unwrap_or(&timeout.event);
                let was_there = before
                    .timeouts
                    .iter()
                    .any(|own| own.event.strip_suffix(old_id).unwrap_or(&own.event) == stem);
                if !was_there {
                    draft.start_timeout(new, timeout)?;
                }
            }
            for index in &after.invokes {
                let own = self.new.invoke(*index);
                let same_id = before.invokes.iter().find(|old| self.old.invoke(**old).id == own.id);
                let begins = match same_id {
                    None => true,
                    Some(old) => {
                        let is_open = now
                            .works
                            .iter()
                            .any(|work| work.kind != WorkKind::Compensation && work.invoke == *old);
                        is_open && self.invoke_of(*old, carried) != Some(*index)
                    }
                };
                if begins {
                    draft.noted.push(*index);
                }
            }
        }
        Ok(())
    }
}
