//! Compiling states, their transitions and their work.
//!
//! Deliberately absent: whether targets make sense together; the step computes with whatever is named.

use std::{collections::BTreeMap, sync::Arc};

use super::Compiler;
use crate::{
    configuration::StateIndex,
    definition::{
        Candidates, FailureDef, ForEachDef, InvokeDef, SrcDef, StateDef, TimeoutDef, TransitionDef,
        TransitionIndex, TransitionKind, UndoDef,
    },
    finding::FindingCode,
    guard::Names,
    source::{self, Compensate, Depth, Kind, Src},
};

/// Descriptors with their transitions, in the order in which they are tried within one descriptor.
#[derive(Default)]
struct Table(Vec<(String, TransitionIndex)>);

impl<'s> Compiler<'s> {
    pub(super) fn state(&mut self, index: StateIndex) -> StateDef {
        let placed = &self.placed[usize::from(index)];
        let (source, parent, last) = (placed.source, placed.parent, placed.last);
        let (children, histories) = self.children(index);
        let id: Arc<str> = Arc::from(source.id());
        let names = self.names.clone();
        let scope = Names { states: &names, item: None };
        let mut table = Table::default();
        for on in &source.on {
            self.add(&mut table, index, &on.name.text, &on.value);
        }
        let invokes =
            source.invokes.iter().map(|invoke| self.invoke(&mut table, index, invoke)).collect();
        self.add(&mut table, index, &format!("done.state.{id}"), &source.on_done);
        let after = self.timeouts(&mut table, index, &source.after, "after");
        let idle = self.timeouts(&mut table, index, &source.idle, "idle");
        let timeouts = after.into_iter().chain(idle).collect();
        for descriptor in &source.postpone {
            self.postpone(&mut table, index, descriptor);
        }
        let always =
            source.always.iter().map(|transition| self.transition(index, "", transition)).collect();
        StateDef {
            kind: source.kind,
            parent,
            initial: self.initial(index, &children),
            initial_actions: source
                .initial
                .as_ref()
                .map(|initial| self.actions(&initial.actions))
                .unwrap_or_default(),
            children,
            histories,
            last,
            depth: (source.kind == Kind::History)
                .then(|| source.history.as_ref().map_or(Depth::Shallow, |(depth, _)| *depth)),
            entry: self.actions(&source.entry),
            exit: self.actions(&source.exit),
            candidates: table.candidates(),
            always,
            timeouts,
            invokes,
            tags: source.tags.iter().map(|tag| tag.text.clone()).collect(),
            output: source.output.as_ref().and_then(|output| self.template(output, scope)),
            failure: source.error.as_ref().and_then(|error| {
                Some(FailureDef {
                    code: self.template(&error.code, scope)?,
                    message: error
                        .message
                        .as_ref()
                        .and_then(|message| self.template(message, scope)),
                })
            }),
            done_event: Arc::from(format!("done.state.{id}")),
            id,
        }
    }

    fn children(&self, index: StateIndex) -> (Vec<StateIndex>, Vec<StateIndex>) {
        let own = self.placed.iter().enumerate().filter(|(_, placed)| placed.parent == Some(index));
        own.map(|(child, _)| child as StateIndex)
            .partition(|child| self.placed[usize::from(*child)].source.kind != Kind::History)
    }

    fn initial(&mut self, index: StateIndex, children: &[StateIndex]) -> Vec<StateIndex> {
        let source = self.placed[usize::from(index)].source;
        match source.kind {
            Kind::History => {
                let texts: Vec<&source::Text> = source.default.iter().collect();
                self.targets(index, &texts)
            }
            Kind::Compound => match &source.initial {
                None => children.first().copied().into_iter().collect(),
                Some(initial) => {
                    let targets = initial
                        .targets
                        .iter()
                        .filter_map(|target| self.below(index, target))
                        .collect();
                    let Some(outside) =
                        initial.targets.iter().find(|target| self.below(index, target).is_none())
                    else {
                        return targets;
                    };
                    let message =
                        format!("the initial `{}` is no state below this one", outside.text);
                    self.report(FindingCode::InitialOutside, &outside.spot, message);
                    targets
                }
            },
            Kind::Atomic | Kind::Parallel | Kind::Final => Vec::new(),
        }
    }

    /// Resolves a target of `initial`: a path of keys, or an id below the state.
    fn below(&self, index: StateIndex, target: &source::Text) -> Option<StateIndex> {
        let found = match target.text.strip_prefix('#') {
            Some(id) => self.names.get(id),
            None => self.walk(index, target.text.strip_prefix('.').unwrap_or(&target.text)),
        };
        found.filter(|found| *found > index && *found <= self.placed[usize::from(index)].last)
    }

    fn walk(&self, from: StateIndex, path: &str) -> Option<StateIndex> {
        path.split('.').try_fold(from, |state, key| {
            let child = |placed: &super::Placed<'_>| {
                placed.parent == Some(state) && placed.source.key == key
            };
            self.placed.iter().position(child).map(|found| found as StateIndex)
        })
    }

    fn targets(&mut self, source: StateIndex, targets: &[&source::Text]) -> Vec<StateIndex> {
        let mut found = Vec::with_capacity(targets.len());
        for target in targets {
            let state = if let Some(id) = target.text.strip_prefix('#') {
                self.names.get(id)
            } else if let Some(path) = target.text.strip_prefix('.') {
                self.walk(source, path)
            } else {
                // The root has no siblings: its targets are its children.
                self.walk(self.placed[usize::from(source)].parent.unwrap_or(0), &target.text)
            };
            match state {
                Some(0) => {
                    self.report(FindingCode::UndefinedTarget, &target.spot, "the root is no target")
                }
                Some(state) => found.push(state),
                None => {
                    let message = format!("there is no state `{}` to go to from here", target.text);
                    self.report(FindingCode::UndefinedTarget, &target.spot, message);
                }
            }
        }
        found
    }

    fn add(
        &mut self,
        table: &mut Table,
        state: StateIndex,
        descriptor: &str,
        transitions: &'s [source::Transition],
    ) {
        for transition in transitions {
            let index = self.transition(state, descriptor, transition);
            table.0.push((descriptor.to_owned(), index));
        }
    }

    fn transition(
        &mut self,
        state: StateIndex,
        descriptor: &str,
        transition: &'s source::Transition,
    ) -> TransitionIndex {
        let targets: Vec<&source::Text> = transition.targets.iter().collect();
        let kind = match &transition.reject {
            Some(reject) => TransitionKind::Reject {
                code: reject.code.text.clone(),
                message: reject.message.as_ref().map(|message| message.text.clone()),
            },
            None if transition.postpone => TransitionKind::Postpone,
            None => TransitionKind::Move,
        };
        let def = TransitionDef {
            source: state,
            descriptor: Arc::from(descriptor),
            place: Arc::from(transition.spot.pointer.as_str()),
            targets: self.targets(state, &targets),
            guard: self.guard(transition.guard.as_ref()),
            actions: self.actions(&transition.actions),
            reenter: transition.reenter,
            kind,
        };
        self.push(def)
    }

    // The number would only overflow far beyond the limit, which is judged at the end.
    fn push(&mut self, def: TransitionDef) -> TransitionIndex {
        let index = self.transitions.len().min(usize::from(TransitionIndex::MAX));
        self.transitions.push(def);
        index as TransitionIndex
    }

    fn postpone(&mut self, table: &mut Table, state: StateIndex, descriptor: &source::Text) {
        let index = self.push(TransitionDef {
            source: state,
            descriptor: Arc::from(descriptor.text.as_str()),
            place: Arc::from(descriptor.spot.pointer.as_str()),
            targets: Vec::new(),
            guard: None,
            actions: Vec::new(),
            reenter: false,
            kind: TransitionKind::Postpone,
        });
        table.0.push((descriptor.text.clone(), index));
    }

    fn timeouts(
        &mut self,
        table: &mut Table,
        state: StateIndex,
        timeouts: &'s [source::Timeout],
        word: &str,
    ) -> Vec<TimeoutDef> {
        let names = self.names.clone();
        let mut found = Vec::with_capacity(timeouts.len());
        for timeout in timeouts {
            let id = self.placed[usize::from(state)].source.id();
            let event = format!("{word}.{}.{id}", timeout.key.text);
            self.add(table, state, &event, &timeout.transitions);
            if let Some(delay) = self.length(&timeout.delay, Names { states: &names, item: None }) {
                found.push(TimeoutDef { event, delay, is_idle: word == "idle" });
            }
        }
        found
    }

    fn invoke(&mut self, table: &mut Table, state: StateIndex, invoke: &'s source::Invoke) -> u16 {
        let names = self.names.clone();
        let item = invoke.for_each.as_ref().map(|each| each.name.text.as_str());
        let plain = Names { states: &names, item: None };
        let with_item = Names { states: &names, item };
        let (done_event, error_event) =
            (format!("done.invoke.{}", invoke.id.text), format!("error.invoke.{}", invoke.id.text));
        self.add(table, state, &done_event, &invoke.on_done);
        self.add(table, state, &error_event, invoke.on_error.as_deref().unwrap_or_default());
        let (src, kind, queue) = self.src(&invoke.src, &invoke.src_said);
        let task = self.tasks.get(&kind).cloned();
        let declared_queue = task.as_ref().and_then(|task| task.queue.clone());
        let def = InvokeDef {
            id: invoke.id.text.clone(),
            state,
            src,
            src_text: invoke.src_said.text.clone(),
            queue: invoke
                .queue
                .as_ref()
                .map(|queue| queue.text.clone())
                .or(declared_queue)
                .unwrap_or(queue),
            input: invoke.input.as_ref().and_then(|input| self.template(input, with_item)),
            input_schema: task.as_ref().and_then(|task| task.input.clone()),
            output_schema: task.as_ref().and_then(|task| task.output.clone()),
            timeout: invoke.timeout.as_ref().and_then(|timeout| self.length(timeout, plain)),
            heartbeat: invoke
                .heartbeat
                .as_ref()
                .and_then(|heartbeat| self.length(heartbeat, plain)),
            retry: self.retry(invoke.retry.as_ref()),
            undo: match &invoke.compensate {
                Some(Compensate::By(undo)) => Some(self.undo(undo, with_item)),
                Some(Compensate::None(_)) | None => None,
            },
            for_each: invoke.for_each.as_ref().and_then(|each| {
                let limit =
                    each.limit.as_ref().map(|limit| u32::try_from(limit.value).unwrap_or(u32::MAX));
                Some(ForEachDef { items: self.template(&each.items, plain)?, limit })
            }),
            detached: invoke.detached,
            done_event,
            error_event,
            error_is_named: false,
        };
        if self.invokes.iter().any(|other| other.id == def.id) {
            self.report(
                FindingCode::DuplicateId,
                &invoke.id.spot,
                format!("two invokes have the id `{}`", def.id),
            );
        }
        self.invokes.push(def);
        (self.invokes.len() - 1) as u16
    }

    /// Returns what is started, the task kind, and the queue unless another is named.
    fn src(&mut self, src: &Src, said: &source::Text) -> (SrcDef, String, String) {
        match src {
            Src::Task(kind) => (SrcDef::Task, kind.clone(), kind.clone()),
            Src::BuiltIn { scheme, .. } => {
                (SrcDef::Task, scheme.clone(), format!("{}{scheme}", source::BUILT_IN_QUEUE))
            }
            Src::Saga => (SrcDef::Saga, String::new(), String::new()),
            Src::Workflow { definition, version } => {
                let src = SrcDef::Workflow { definition: definition.clone(), version: *version };
                (src, String::new(), String::new())
            }
            Src::Unknown(_) => {
                self.report(
                    FindingCode::BadSource,
                    &said.spot,
                    format!("`{}` cannot be started", said.text),
                );
                (SrcDef::Task, String::new(), String::new())
            }
        }
    }

    fn undo(&mut self, undo: &source::Undo, names: Names<'_>) -> UndoDef {
        let (_, kind, queue) = self.src(&undo.src, &undo.src_said);
        let task = self.tasks.get(&kind).cloned();
        UndoDef {
            src_text: undo.src_said.text.clone(),
            queue: task.as_ref().and_then(|task| task.queue.clone()).unwrap_or(queue),
            input: undo.input.as_ref().and_then(|input| self.template(input, names)),
            input_schema: task.and_then(|task| task.input),
            from_start: undo.from_start,
            once: undo.once,
            timeout: undo.timeout.as_ref().and_then(|timeout| self.length(timeout, names)),
            heartbeat: undo.heartbeat.as_ref().and_then(|heartbeat| self.length(heartbeat, names)),
            retry: self.retry(undo.retry.as_ref()),
        }
    }
}

impl Table {
    fn candidates(self) -> Candidates {
        let mut exact: BTreeMap<String, Vec<TransitionIndex>> = BTreeMap::new();
        let mut prefixes: BTreeMap<String, Vec<TransitionIndex>> = BTreeMap::new();
        let mut any = Vec::new();
        for (descriptor, index) in self.0 {
            if descriptor == "*" {
                any.push(index);
            } else if let Some(prefix) = descriptor.strip_suffix(".*") {
                prefixes.entry(prefix.to_owned()).or_default().push(index);
            } else {
                exact.entry(descriptor).or_default().push(index);
            }
        }
        let mut prefixes: Vec<_> =
            prefixes.into_iter().map(|(prefix, found)| (prefix.into(), found)).collect();
        prefixes.sort_by_key(|(prefix, _): &(Box<str>, Vec<TransitionIndex>)| {
            std::cmp::Reverse(prefix.len())
        });
        let exact = exact.into_iter().map(|(name, found)| (name.into(), found)).collect();
        Candidates { exact, prefixes, any }
    }
}
