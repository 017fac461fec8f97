//! The compiled chart: a definition as arrays of states, transitions and invokes that name each other by number.
//!
//! Everything that can be known before the first event is known here: expressions are programs, templates have their
//! constant parts made, each state has its candidates sorted by descriptor. A chart never changes; users share it in an
//! `Arc` and cache it by the digest of its document.
//!
//! Deliberately absent: anything of an instance.
//!
//! Invariants: state numbers are document order, so the states below one are the numbers up to its `last`; all numbers in
//! it are in range, because `compile.rs` made them.

use std::{collections::BTreeMap, sync::Arc};

use statehouse_contract::id::Digest;

use crate::{
    configuration::{StateIndex, StateSet},
    effect::RetryPolicy,
    guard::{Program, StateNames},
    migrate::MigrationDef,
    schema::Schema,
    source::{Depth, Kind},
    template::Template,
};

/// The number of a transition in its chart.
pub type TransitionIndex = u16;

/// A definition, compiled.
#[derive(Debug)]
pub struct Chart {
    pub(crate) name: String,
    pub(crate) version: Option<u64>,
    pub(crate) digest: Digest,
    pub(crate) document: String,
    pub(crate) states: Vec<StateDef>,
    pub(crate) transitions: Vec<TransitionDef>,
    pub(crate) invokes: Vec<InvokeDef>,
    pub(crate) names: StateNames,
    pub(crate) commands: BTreeMap<String, CommandDef>,
    pub(crate) signals: BTreeMap<String, Option<Schema>>,
    /// Every signal is taken, declared or not: conformance cases declare none.
    pub(crate) takes_any_signal: bool,
    pub(crate) tasks: BTreeMap<String, TaskDef>,
    pub(crate) start_role: Option<String>,
    pub(crate) input_schema: Option<Schema>,
    pub(crate) context_schema: Option<Schema>,
    pub(crate) output_schema: Option<Schema>,
    pub(crate) initialiser: Option<Template>,
    pub(crate) limits: Limits,
    /// States with eventless transitions: where none is active, none need be looked for.
    pub(crate) eventless: StateSet,
    /// States with `idle`.
    pub(crate) with_idle: StateSet,
    pub(crate) migrations: Vec<MigrationDef>,
}

/// The limits of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Microsteps of one macrostep.
    pub microsteps: u32,
    /// Raised events of one macrostep.
    pub raised: u32,
    /// Postponed events.
    pub postponed: u32,
    /// Macrosteps in a row from the queue.
    pub queue: u32,
    /// Running timers.
    pub timers: u32,
    /// Open tasks and children.
    pub tasks: u32,
    /// Bytes of the context.
    pub context_bytes: usize,
    /// Bytes of a payload.
    pub event_bytes: usize,
}

/// A declared command.
#[derive(Clone, Debug)]
pub struct CommandDef {
    /// What its payload looks like.
    pub schema: Option<Schema>,
    /// What its reply looks like.
    pub reply: Option<Schema>,
    /// The role that a sender needs.
    pub role: Option<String>,
    /// How long it may stay postponed.
    pub deadline_ms: Option<u64>,
}

/// A declared task type.
#[derive(Clone, Debug)]
pub struct TaskDef {
    /// What its input looks like.
    pub input: Option<Schema>,
    /// What its output looks like.
    pub output: Option<Schema>,
    /// The codes that it may fail with.
    pub errors: Vec<String>,
    /// The queue that workers poll.
    pub queue: Option<String>,
}

/// A state.
#[derive(Debug)]
pub(crate) struct StateDef {
    pub(crate) id: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<StateIndex>,
    /// Children that can be active, in document order.
    pub(crate) children: Vec<StateIndex>,
    /// History children.
    pub(crate) histories: Vec<StateIndex>,
    /// The last state below it; itself where there is none.
    pub(crate) last: StateIndex,
    /// Targets of `initial`, or of a history state's default.
    pub(crate) initial: Vec<StateIndex>,
    pub(crate) initial_actions: Vec<ActionDef>,
    pub(crate) depth: Option<Depth>,
    pub(crate) entry: Vec<ActionDef>,
    pub(crate) exit: Vec<ActionDef>,
    pub(crate) candidates: Candidates,
    pub(crate) always: Vec<TransitionIndex>,
    pub(crate) timeouts: Vec<TimeoutDef>,
    pub(crate) invokes: Vec<u16>,
    pub(crate) tags: Vec<String>,
    pub(crate) output: Option<Template>,
    pub(crate) failure: Option<FailureDef>,
    /// `done.state.<id>`.
    pub(crate) done_event: Arc<str>,
}

/// The transitions of a state, by descriptor.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// By exact name, sorted.
    pub(crate) exact: Vec<(Box<str>, Vec<TransitionIndex>)>,
    /// By prefix (without `.*`), the longest first.
    pub(crate) prefixes: Vec<(Box<str>, Vec<TransitionIndex>)>,
    /// `*`.
    pub(crate) any: Vec<TransitionIndex>,
}

impl Candidates {
    /// Calls `visit` with the candidates for an event in the order in which they are tried, until it says something.
    pub(crate) fn find<T>(
        &self,
        event: &str,
        is_platform: bool,
        mut visit: impl FnMut(TransitionIndex) -> Option<T>,
    ) -> Option<T> {
        let exact = self.exact.binary_search_by(|(name, _)| name.as_ref().cmp(event)).ok();
        let exact = exact.map_or(&[][..], |place| &self.exact[place].1);
        if let Some(found) = exact.iter().find_map(|index| visit(*index)) {
            return Some(found);
        }
        // Wildcards never match what the platform says.
        if is_platform {
            return None;
        }
        let is_below = |prefix: &str| match event.strip_prefix(prefix) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        let prefixed = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| is_below(prefix))
            .flat_map(|(_, found)| found);
        prefixed.chain(&self.any).find_map(|index| visit(*index))
    }
}

/// What a transition does when it is picked.
#[derive(Debug)]
pub(crate) enum TransitionKind {
    /// It is taken.
    Move,
    /// It refuses the command.
    Reject { code: String, message: Option<String> },
    /// It keeps the event for later.
    Postpone,
}

/// A transition.
#[derive(Debug)]
pub(crate) struct TransitionDef {
    pub(crate) source: StateIndex,
    pub(crate) descriptor: Arc<str>,
    pub(crate) place: Arc<str>,
    pub(crate) targets: Vec<StateIndex>,
    pub(crate) guard: Option<Arc<Program>>,
    pub(crate) actions: Vec<ActionDef>,
    pub(crate) reenter: bool,
    pub(crate) kind: TransitionKind,
}

/// `after` or `idle`.
#[derive(Debug)]
pub(crate) struct TimeoutDef {
    /// The event and the timer's id.
    pub(crate) event: String,
    pub(crate) delay: DelayDef,
    pub(crate) is_idle: bool,
}

/// How long.
#[derive(Clone, Debug)]
pub(crate) enum DelayDef {
    Fixed(u64),
    Expression(Arc<Program>),
}

/// `error` of a final state.
#[derive(Debug)]
pub(crate) struct FailureDef {
    pub(crate) code: Template,
    pub(crate) message: Option<Template>,
}

/// One field of an `assign`.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) field: Arc<str>,
    pub(crate) template: Template,
}

/// An action.
#[derive(Debug)]
pub(crate) enum ActionDef {
    Assign(Vec<Assignment>),
    Unset {
        fields: Vec<Arc<str>>,
        place: Arc<str>,
    },
    Raise(RaiseDef),
    Cancel {
        timer: String,
    },
    SendTo {
        instance: Template,
        event: Arc<str>,
        data: Option<Template>,
    },
    SendParent {
        event: Arc<str>,
        data: Option<Template>,
    },
    Emit {
        event: Arc<str>,
        data: Option<Template>,
    },
    Log(Template),
    Reply(Template),
    Choose(Vec<BranchDef>),
    /// One of the named lists; shared by all who do it.
    Do(Arc<Vec<ActionDef>>),
}

/// `raise`.
#[derive(Debug)]
pub(crate) struct RaiseDef {
    pub(crate) event: Arc<str>,
    pub(crate) data: Option<Template>,
    pub(crate) schema: Option<Schema>,
    pub(crate) delay: Option<DelayDef>,
    /// The timer's id, if it has a name.
    pub(crate) timer: Option<String>,
    pub(crate) place: Arc<str>,
}

/// One branch of `choose`.
#[derive(Debug)]
pub(crate) struct BranchDef {
    pub(crate) guard: Option<Arc<Program>>,
    pub(crate) actions: Vec<ActionDef>,
}

/// What an invoke starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SrcDef {
    Task,
    Workflow { definition: String, version: Option<u64> },
    Saga,
}

/// An invoke.
#[derive(Debug)]
pub(crate) struct InvokeDef {
    pub(crate) id: String,
    pub(crate) state: StateIndex,
    pub(crate) src: SrcDef,
    pub(crate) src_text: String,
    pub(crate) queue: String,
    pub(crate) input: Option<Template>,
    pub(crate) input_schema: Option<Schema>,
    pub(crate) output_schema: Option<Schema>,
    pub(crate) timeout: Option<DelayDef>,
    pub(crate) heartbeat: Option<DelayDef>,
    pub(crate) retry: RetryPolicy,
    pub(crate) undo: Option<UndoDef>,
    pub(crate) for_each: Option<ForEachDef>,
    pub(crate) detached: bool,
    pub(crate) done_event: String,
    pub(crate) error_event: String,
    /// Whether the state or one above it has a candidate for the error.
    pub(crate) error_is_named: bool,
}

/// `forEach`.
#[derive(Debug)]
pub(crate) struct ForEachDef {
    pub(crate) items: Template,
    pub(crate) limit: Option<u32>,
}

/// `compensate`.
#[derive(Debug)]
pub(crate) struct UndoDef {
    pub(crate) src_text: String,
    pub(crate) queue: String,
    pub(crate) input: Option<Template>,
    pub(crate) input_schema: Option<Schema>,
    pub(crate) from_start: bool,
    pub(crate) once: bool,
    pub(crate) timeout: Option<DelayDef>,
    pub(crate) heartbeat: Option<DelayDef>,
    pub(crate) retry: RetryPolicy,
}

impl Chart {
    /// Returns the definition's id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the definition's version, if the document has one.
    #[must_use]
    pub const fn version(&self) -> Option<u64> {
        self.version
    }

    /// Returns the digest of the canonical document.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the canonical document: compact JSON, keys in authored order.
    #[must_use]
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Returns the declared commands, sorted by name.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &CommandDef)> {
        self.commands.iter().map(|(name, command)| (name.as_str(), command))
    }

    /// Returns a declared command.
    #[must_use]
    pub fn command(&self, name: &str) -> Option<&CommandDef> {
        self.commands.get(name)
    }

    /// Returns the declared signals with their schemas, sorted by name.
    pub fn signals(&self) -> impl Iterator<Item = (&str, Option<&Schema>)> {
        self.signals.iter().map(|(name, schema)| (name.as_str(), schema.as_ref()))
    }

    /// Returns the declared task types, sorted by kind.
    pub fn task_types(&self) -> impl Iterator<Item = (&str, &TaskDef)> {
        self.tasks.iter().map(|(kind, task)| (kind.as_str(), task))
    }

    /// Returns the role that a starter needs.
    #[must_use]
    pub fn start_role(&self) -> Option<&str> {
        self.start_role.as_deref()
    }

    /// Returns the schema of the start input.
    #[must_use]
    pub const fn input_schema(&self) -> Option<&Schema> {
        self.input_schema.as_ref()
    }

    /// Returns the schema of the context.
    #[must_use]
    pub const fn context_schema(&self) -> Option<&Schema> {
        self.context_schema.as_ref()
    }

    /// Returns the schema of the final output.
    #[must_use]
    pub const fn output_schema(&self) -> Option<&Schema> {
        self.output_schema.as_ref()
    }

    /// Returns the limits.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the id of a state; of a number out of range: nothing.
    #[must_use]
    pub fn state_id(&self, state: StateIndex) -> Option<&str> {
        self.states.get(usize::from(state)).map(|state| state.id.as_ref())
    }

    /// Returns the number of a state.
    #[must_use]
    pub fn state(&self, id: &str) -> Option<StateIndex> {
        self.names.get(id)
    }

    /// Returns the id of an invoke; of a number out of range: an empty text.
    #[must_use]
    pub fn invoke_id(&self, invoke: u16) -> &str {
        self.invokes.get(usize::from(invoke)).map_or("", |invoke| &invoke.id)
    }

    /// Returns the ids of the active states without active children, in document order.
    #[must_use]
    pub fn leaves(&self, configuration: &StateSet) -> Vec<&str> {
        let leaf = |state: &StateIndex| self.def(*state).children.is_empty();
        configuration.iter().filter(leaf).map(|state| self.def(state).id.as_ref()).collect()
    }

    /// Returns the tags of the active states, sorted, each once.
    #[must_use]
    pub fn tags(&self, configuration: &StateSet) -> Vec<&str> {
        let tags = configuration.iter().flat_map(|state| &self.def(state).tags).map(String::as_str);
        let mut tags: Vec<&str> = tags.collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// Returns the commands and signals that something active has a candidate for, sorted.
    #[must_use]
    pub fn accepts(&self, configuration: &StateSet) -> Vec<String> {
        let declared = self.commands.keys().chain(self.signals.keys());
        let handles = |name: &&String| {
            configuration.iter().any(|state| {
                self.def(state)
                    .candidates
                    .find(name, false, |index| self.is_taken(index).then_some(()))
                    .is_some()
            })
        };
        let mut names: Vec<String> = declared.filter(handles).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn is_taken(&self, index: TransitionIndex) -> bool {
        match self.transition(index).kind {
            TransitionKind::Move | TransitionKind::Postpone => true,
            TransitionKind::Reject { .. } => false,
        }
    }

    pub(crate) fn def(&self, state: StateIndex) -> &StateDef {
        &self.states[usize::from(state)]
    }

    pub(crate) fn transition(&self, index: TransitionIndex) -> &TransitionDef {
        &self.transitions[usize::from(index)]
    }

    pub(crate) fn invoke(&self, index: u16) -> &InvokeDef {
        &self.invokes[usize::from(index)]
    }

    /// Returns whether a state is another one or below it.
    pub(crate) fn is_within(&self, state: StateIndex, top: StateIndex) -> bool {
        (top..=self.def(top).last).contains(&state)
    }

    /// Returns the states above one, the nearest first.
    pub(crate) fn ancestors(&self, state: StateIndex) -> impl Iterator<Item = StateIndex> + '_ {
        std::iter::successors(self.def(state).parent, |above| self.def(*above).parent)
    }
}
