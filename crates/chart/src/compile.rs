//! From source to chart: names become numbers, expressions become programs.
//!
//! The compiler reports what it cannot resolve and nothing else: a definition that compiles can be stepped, but only one
//! that the validator passed is worth deploying. Conformance cases are compiled without it.
//!
//! All of it runs on a thread with a big stack, because the expression parser recurses.
//!
//! Deliberately absent: reachability, types, advice about style.
//!
//! Invariant: a chart comes out only when there was no finding.

mod action;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use statehouse_contract::{
    id::Digest,
    limits::{
        CONTEXT_BYTES_MAX, MICROSTEPS_MAX, PAYLOAD_BYTES_MAX, POSTPONED_MAX, QUEUE_RUN_MAX,
        RAISED_MAX, STATES_MAX, STEP_CEILING, TASKS_MAX, TIMERS_MAX, TRANSITIONS_MAX,
    },
};

use crate::{
    configuration::{StateIndex, StateSet},
    definition::{
        ActionDef, Chart, CommandDef, DelayDef, InvokeDef, Limits, StateDef, TaskDef, TransitionDef,
    },
    effect::RetryPolicy,
    finding::{Finding, FindingCode, sort},
    guard::{CelTrouble, Names, Program, StateNames, on_big_stack},
    migrate::MigrationDef,
    schema::{Schema, Schemas},
    source::{self, Raw, Source, Spot},
    template::Template,
};

impl Chart {
    /// Compiles a source.
    ///
    /// # Errors
    /// Everything that could not be resolved, sorted by place.
    pub fn compile(source: &Source) -> Result<Self, Vec<Finding>> {
        on_big_stack(|| Compiler::new(source).chart(source))
    }

    /// Compiles a conformance case: every signal is taken, and the step limits are at their ceiling unless set.
    ///
    /// # Errors
    /// As [`Chart::compile`].
    pub(crate) fn compile_case(source: &Source) -> Result<Self, Vec<Finding>> {
        let mut chart = Self::compile(source)?;
        let is_said = |name: &str| source.limits.iter().any(|limit| limit.name.text == name);
        chart.takes_any_signal = true;
        if !is_said("microsteps") {
            chart.limits.microsteps = STEP_CEILING;
        }
        if !is_said("raised") {
            chart.limits.raised = STEP_CEILING;
        }
        Ok(chart)
    }
}

/// A state of the source with its place in the tree.
struct Placed<'s> {
    source: &'s source::State,
    parent: Option<StateIndex>,
    last: StateIndex,
}

struct Compiler<'s> {
    findings: Vec<Finding>,
    placed: Vec<Placed<'s>>,
    names: StateNames,
    schemas: Schemas,
    delays: BTreeMap<&'s str, DelayDef>,
    retries: BTreeMap<&'s str, RetryPolicy>,
    guards: BTreeMap<&'s str, Arc<Program>>,
    actions: BTreeMap<&'s str, Arc<Vec<ActionDef>>>,
    /// Named actions being compiled: one that meets itself would never end.
    doing: BTreeSet<&'s str>,
    source: &'s Source,
    events: BTreeMap<&'s str, Option<Schema>>,
    tasks: BTreeMap<String, TaskDef>,
    transitions: Vec<TransitionDef>,
    invokes: Vec<InvokeDef>,
}

impl<'s> Compiler<'s> {
    fn new(source: &'s Source) -> Self {
        let mut findings = Vec::new();
        let schemas = Schemas::read(&source.document, &mut findings);
        Self {
            findings,
            placed: Vec::new(),
            names: StateNames::default(),
            schemas,
            delays: BTreeMap::new(),
            retries: BTreeMap::new(),
            guards: BTreeMap::new(),
            actions: BTreeMap::new(),
            doing: BTreeSet::new(),
            source,
            events: BTreeMap::new(),
            tasks: BTreeMap::new(),
            transitions: Vec::new(),
            invokes: Vec::new(),
        }
    }

    fn chart(mut self, source: &'s Source) -> Result<Chart, Vec<Finding>> {
        self.place(&source.root, None);
        if self.placed.len() > STATES_MAX {
            let message = format!("{} states are too many", self.placed.len());
            self.report(FindingCode::LimitExceeded, &source.root.spot, message);
            return Err(self.findings);
        }
        self.name_states();
        self.declarations();
        let (commands, signals) = self.calls();
        let states: Vec<StateDef> =
            (0..self.placed.len()).map(|index| self.state(index as StateIndex)).collect();
        if self.transitions.len() > TRANSITIONS_MAX {
            let message = format!("{} transitions are too many", self.transitions.len());
            self.report(FindingCode::LimitExceeded, &source.root.spot, message);
        }
        self.name_errors(&states);
        let names = self.names.clone();
        let initialiser = source
            .context
            .as_ref()
            .and_then(|template| self.template(template, Names { states: &names, item: None }));
        let start_schema = source.start.as_ref().and_then(|start| start.schema.as_ref());
        let input_schema = self.schema(start_schema).or_else(|| self.schemas.get("input").cloned());
        let document = source.document.canonical();
        let set_of = |wanted: &dyn Fn(&StateDef) -> bool| -> StateSet {
            let numbered = states.iter().enumerate().filter(|(_, state)| wanted(state));
            numbered.map(|(index, _)| index as StateIndex).collect()
        };
        let chart = Chart {
            name: source.root.id().to_owned(),
            version: source.version.as_ref().map(|version| version.value),
            digest: Digest::of(document.as_bytes()),
            document,
            eventless: set_of(&|state| !state.always.is_empty()),
            with_idle: set_of(&|state| state.timeouts.iter().any(|timeout| timeout.is_idle)),
            states,
            transitions: self.transitions,
            invokes: self.invokes,
            names: self.names,
            commands,
            signals,
            takes_any_signal: false,
            tasks: self.tasks,
            start_role: source
                .start
                .as_ref()
                .and_then(|start| start.role.as_ref())
                .map(|role| role.text.clone()),
            input_schema,
            context_schema: self.schemas.get("context").cloned(),
            output_schema: self.schemas.get("output").cloned(),
            initialiser,
            limits: limits(source),
            migrations: source.migrations.iter().map(migration).collect(),
        };
        sort(&mut self.findings);
        let is_refused = self.findings.iter().any(Finding::is_error);
        if is_refused { Err(self.findings) } else { Ok(chart) }
    }

    fn report(&mut self, code: FindingCode, spot: &Spot, message: impl Into<String>) {
        self.findings.push(Finding::new(code, spot.pointer.as_str(), spot.place, message, ""));
    }

    fn place(&mut self, state: &'s source::State, parent: Option<StateIndex>) {
        let index = self.placed.len();
        self.placed.push(Placed { source: state, parent, last: 0 });
        // More states than numbers: the caller refuses the definition before any number is used.
        if index <= STATES_MAX {
            for child in &state.states {
                self.place(child, Some(index as StateIndex));
            }
        }
        let last = self.placed.len() - 1;
        self.placed[index].last = last as StateIndex;
    }

    fn name_states(&mut self) {
        let named = self.placed.iter().enumerate();
        let names: Vec<(Arc<str>, StateIndex)> = named
            .map(|(index, placed)| (Arc::from(placed.source.id()), index as StateIndex))
            .collect();
        let mut seen = BTreeSet::new();
        for (id, index) in &names {
            if !seen.insert(Arc::clone(id)) {
                let spot = self.placed[usize::from(*index)].source.spot.clone();
                self.report(
                    FindingCode::DuplicateId,
                    &spot,
                    format!("two states have the id `{id}`"),
                );
            }
        }
        self.names = StateNames::new(names);
    }

    fn declarations(&mut self) {
        let names = self.names.clone();
        let scope = Names { states: &names, item: None };
        for retry in &self.source.retries {
            self.retries.insert(&retry.name.text, policy(&retry.value));
        }
        for delay in &self.source.delays {
            if let Some(length) = self.length(&delay.value, scope) {
                self.delays.insert(&delay.name.text, length);
            }
        }
        for guard in &self.source.guards {
            if let Some(program) = self.program(&guard.value, scope) {
                self.guards.insert(&guard.name.text, program);
            }
        }
        for event in &self.source.events {
            let schema = self.schema(event.value.schema.as_ref());
            self.events.insert(&event.name.text, schema);
        }
        for task in &self.source.tasks {
            let def = TaskDef {
                input: self.schema(task.value.input.as_ref()),
                output: self.schema(task.value.output.as_ref()),
                errors: task.value.errors.iter().map(|code| code.text.clone()).collect(),
                queue: task.value.queue.as_ref().map(|queue| queue.text.clone()),
            };
            self.tasks.insert(task.name.text.clone(), def);
        }
    }

    fn calls(&mut self) -> (BTreeMap<String, CommandDef>, BTreeMap<String, Option<Schema>>) {
        let mut commands = BTreeMap::new();
        for command in &self.source.commands {
            let deadline = command.value.deadline.as_ref();
            let deadline_ms = match deadline.map(|deadline| &deadline.length) {
                Some(source::Length::Fixed(ms)) => Some(*ms),
                Some(source::Length::Ref(_) | source::Length::Expression(_)) => {
                    let spot =
                        deadline.map_or(&command.value.spot, |deadline| &deadline.spot).clone();
                    self.report(
                        FindingCode::BadDuration,
                        &spot,
                        "a command's deadline is a duration",
                    );
                    None
                }
                None => None,
            };
            let def = CommandDef {
                schema: self.schema(command.value.schema.as_ref()),
                reply: self.schema(command.value.reply.as_ref()),
                role: command.value.role.as_ref().map(|role| role.text.clone()),
                deadline_ms,
            };
            commands.insert(command.name.text.clone(), def);
        }
        let mut signals = BTreeMap::new();
        for signal in &self.source.signals {
            let schema = self.schema(signal.value.schema.as_ref());
            signals.insert(signal.name.text.clone(), schema);
        }
        (commands, signals)
    }

    /// An error that nobody names parks its task; so each invoke knows whether its own is named.
    fn name_errors(&mut self, states: &[StateDef]) {
        for invoke in &mut self.invokes {
            let own = std::iter::successors(Some(invoke.state), |state| {
                states[usize::from(*state)].parent
            });
            let mut own = own;
            invoke.error_is_named = own.any(|state| {
                states[usize::from(state)]
                    .candidates
                    .find(&invoke.error_event, true, |_| Some(()))
                    .is_some()
            });
        }
    }

    fn schema(&mut self, raw: Option<&Raw>) -> Option<Schema> {
        let raw = raw?;
        Some(self.schemas.parse(&raw.node, &raw.spot.pointer, &mut self.findings))
    }

    fn cel(&mut self, spot: &Spot, trouble: &CelTrouble) {
        let code = match trouble {
            CelTrouble::Syntax(_) | CelTrouble::Unsupported(_) => FindingCode::CelSyntax,
            CelTrouble::Limit(_) => FindingCode::ExpressionLimit,
            CelTrouble::Nesting(_) => FindingCode::ComprehensionTooDeep,
            CelTrouble::Undefined(_) => FindingCode::UndefinedName,
        };
        self.report(code, spot, trouble.to_string());
    }

    fn program(
        &mut self,
        expression: &source::Expression,
        names: Names<'_>,
    ) -> Option<Arc<Program>> {
        match Program::compile(&expression.text, &expression.spot, names) {
            Ok(program) => Some(Arc::new(program)),
            Err(trouble) => {
                self.cel(&expression.spot, &trouble);
                None
            }
        }
    }

    fn template(&mut self, template: &source::Template, names: Names<'_>) -> Option<Template> {
        match Template::compile(template, names) {
            Ok(template) => Some(template),
            Err(troubles) => {
                for (spot, trouble) in troubles {
                    self.cel(&spot, &trouble);
                }
                None
            }
        }
    }

    fn length(&mut self, delay: &source::Delay, names: Names<'_>) -> Option<DelayDef> {
        match &delay.length {
            source::Length::Fixed(ms) => Some(DelayDef::Fixed(*ms)),
            source::Length::Expression(expression) => {
                self.program(expression, names).map(DelayDef::Expression)
            }
            source::Length::Ref(name) => {
                let found = self.delays.get(name.as_str()).cloned();
                if found.is_none() {
                    self.report(
                        FindingCode::UndefinedDelay,
                        &delay.spot,
                        format!("there is no delay `{name}`"),
                    );
                }
                found
            }
        }
    }

    fn retry(&mut self, retry: Option<&source::RetryUse>) -> RetryPolicy {
        match retry {
            None => RetryPolicy::once(),
            Some(source::RetryUse::Inline(retry)) => policy(retry),
            Some(source::RetryUse::Ref(name)) => match self.retries.get(name.text.as_str()) {
                Some(policy) => policy.clone(),
                None => {
                    let message = format!("there is no retry policy `{}`", name.text);
                    self.report(FindingCode::UndefinedRetry, &name.spot, message);
                    RetryPolicy::once()
                }
            },
        }
    }
}

fn migration(migration: &source::Migration) -> MigrationDef {
    let named = migration.states.iter().map(|one| (one.name.text.clone(), one.value.text.clone()));
    MigrationDef {
        from: migration.from.value,
        states: named.collect(),
        context: migration.context.clone(),
        when: migration.when.clone(),
    }
}

fn policy(retry: &source::Retry) -> RetryPolicy {
    RetryPolicy {
        max_attempts: retry.max_attempts,
        initial_interval_ms: retry.initial_interval_ms,
        backoff: retry.backoff,
        max_interval_ms: retry.max_interval_ms,
        non_retryable: retry.non_retryable.iter().map(|code| code.text.clone()).collect(),
    }
}

fn limits(source: &Source) -> Limits {
    let said = |name: &str, default: u64, ceiling: u64| {
        let limit = source.limits.iter().find(|limit| limit.name.text == name);
        limit.map_or(default, |limit| limit.value.value).min(ceiling)
    };
    let count = |name: &str, default: u32, ceiling: u32| {
        u32::try_from(said(name, u64::from(default), u64::from(ceiling)))
            .expect("bounded by a 32-bit ceiling")
    };
    let bytes = |name: &str, ceiling: usize| said(name, ceiling as u64, ceiling as u64) as usize;
    Limits {
        microsteps: count("microsteps", MICROSTEPS_MAX, STEP_CEILING),
        raised: count("raised", RAISED_MAX, STEP_CEILING),
        postponed: count("postponed", POSTPONED_MAX, POSTPONED_MAX),
        queue: count("queue", QUEUE_RUN_MAX, QUEUE_RUN_MAX),
        timers: count("timers", TIMERS_MAX, TIMERS_MAX),
        tasks: count("tasks", TASKS_MAX, TASKS_MAX),
        context_bytes: bytes("context", CONTEXT_BYTES_MAX),
        event_bytes: bytes("event", PAYLOAD_BYTES_MAX),
    }
}
