//! Data: every expression and template of the definition, each with what is in scope where it stands.
//!
//! Deliberately absent: the types themselves (`types/`), and how one expression is reported (`expressions.rs`).

mod declared;
mod sites;

use std::collections::BTreeSet;

pub(super) use declared::Declared;

use super::{
    Desk,
    bits::Bits,
    events::Events,
    expressions::{Expressions, misfits},
    flow::Flow,
    model::{Cause, Model, Move, StateNumber},
    reach::Reached,
    walk,
};
use crate::{
    finding::{FindingCode, nearest},
    schema::{Kind, Schema},
    source::{
        Act, Compensate, Delay, Expression, Guard, Invoke, Kind as StateKind, Length, Shape, Spot,
        Template,
    },
    types::{Checked, Known, Scope, Type},
};

/// What the walk over all data found out, for the families of checks that come after.
pub(super) struct Facts<'s> {
    pub(super) expressions: Expressions<'s>,
    pub(super) declared: &'s Declared,
    /// Of each move: the truth of its guard, if it is the same whatever the data.
    truths: Vec<Option<bool>>,
    /// Of each move: whether its guard reads the context.
    pub(super) reads_context: Vec<bool>,
    /// Fields of the context that some action assigns or unsets.
    pub(super) assigned: BTreeSet<&'s str>,
    pub(super) ids: BTreeSet<&'s str>,
}

impl Facts<'_> {
    /// Returns the truth of a move's guard, if it is the same whatever the data.
    pub(super) fn truth(&self, index: usize) -> Option<bool> {
        self.truths.get(index).copied().flatten()
    }

    /// Returns whether an instance can rest in a state: a leaf that no eventless transition is sure to leave.
    pub(super) fn can_rest(
        &self,
        model: &Model<'_>,
        reached: &Reached,
        state: StateNumber,
    ) -> bool {
        let is_sure = |index: &usize| {
            model.movement(*index).cause == Cause::Always && self.truth(*index) == Some(true)
        };
        let mut above =
            model.upwards(state).filter_map(|state| model.moves_of.get(state)).flatten();
        reached.can_rest(model, state) && !above.any(is_sure)
    }
}

pub(super) fn check<'s>(
    model: &Model<'s>,
    events: &Events<'s>,
    declared: &'s Declared,
    reached: &Reached,
    desk: &mut Desk,
) -> Facts<'s> {
    let mut expressions = Expressions::default();
    let flow = Flow::new(model, declared.context.as_ref(), &mut expressions);
    let ids: BTreeSet<&str> = model.ids.keys().copied().collect();
    let mut judge = Judge {
        model,
        events,
        declared,
        flow: &flow,
        ids: &ids,
        expressions,
        truths: vec![None; model.moves.len()],
        reads_context: vec![false; model.moves.len()],
        desk,
    };
    judge.context();
    judge.named();
    for state in 0..model.states.len() {
        // Of an unreachable state nothing is known but that.
        if reached.has(state) {
            judge.state(state);
        }
    }
    let Judge { expressions, truths, reads_context, .. } = judge;
    let mut assigned = BTreeSet::new();
    walk::each_of(model, |_, action| match &action.act {
        Act::Assign(fields) => assigned.extend(fields.iter().map(|field| field.name.as_str())),
        Act::Unset(names) => assigned.extend(names.iter().map(|name| name.as_str())),
        _ => {}
    });
    Facts { expressions, truths, reads_context, assigned, ids, declared }
}

struct Judge<'a, 'd, 's> {
    model: &'a Model<'s>,
    events: &'a Events<'s>,
    declared: &'a Declared,
    flow: &'a Flow<'s>,
    ids: &'a BTreeSet<&'s str>,
    expressions: Expressions<'s>,
    truths: Vec<Option<bool>>,
    reads_context: Vec<bool>,
    desk: &'a mut Desk<'d>,
}

impl<'a, 's> Judge<'a, '_, 's> {
    fn scope(&self, events: Option<&Bits>, assigned: BTreeSet<&'s str>) -> Scope<'a> {
        Scope {
            context: Some(self.declared.context_type()),
            input: None,
            event: events.map(|events| self.declared.event_scope(events)),
            item: None,
            states: self.ids,
            assigned,
            known: Known::default(),
        }
    }

    /// The initialiser: `input` and the start event, no context yet.
    fn context(&mut self) {
        let source = self.model.source;
        let wanted = self.declared.context.as_ref();
        match (&source.context, wanted) {
            (None, Some(schema)) => {
                for property in schema.properties().iter().filter(|property| property.required) {
                    let why = format!("nothing makes the required field `{}`", property.name);
                    misfits(&source.root.spot, &why, self.desk);
                }
            }
            (Some(template), None) if !matches!(&template.shape, Shape::Object(fields) if fields.is_empty()) =>
            {
                let message = "the context has no schema, so nothing that reads it is checked";
                self.desk.note(
                    FindingCode::UntypedValue,
                    &template.spot,
                    message,
                    "declare `schemas.context`",
                );
            }
            (_, _) => {}
        }
        let Some(template) = &source.context else { return };
        let mut scope = self.scope(Some(&self.events.start), BTreeSet::new());
        scope.context = None;
        scope.input = Some(self.declared.input.as_ref().map_or(Type::Dyn, Type::of));
        if let (Shape::Object(fields), Some(_)) = (&template.shape, wanted) {
            for field in fields {
                self.check_declared(field.name.as_str(), &field.name.spot);
            }
        }
        let by = "the field of the context";
        self.expressions.check_shown(by, template, wanted, &scope, self.desk);
    }

    /// The context is closed: a field that its schema does not have is a mistake.
    fn check_declared(&mut self, field: &str, spot: &Spot) {
        let Some(schema) = &self.declared.context else { return };
        if schema.field(field).is_some() {
            return;
        }
        let known: Vec<&str> = schema.properties().iter().map(|property| &*property.name).collect();
        let advice = match nearest(field, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "declare it in `schemas.context`".to_owned(),
        };
        self.desk.note(
            FindingCode::UndefinedField,
            spot,
            format!("the context has no field `{field}`"),
            advice,
        );
    }

    /// Guards, actions and delays that have a name: once each, with every event that can lead to a use.
    fn named(&mut self) {
        let source = self.model.source;
        for named in &source.guards {
            let events = self.events.of_guard.get(named.name.as_str()).unwrap_or(&self.events.any);
            let scope = self.scope(Some(events), self.flow.always());
            self.expressions.check_guard(&named.value, &scope, self.desk);
        }
        for named in &source.actions {
            let events = self.events.of_action.get(named.name.as_str()).unwrap_or(&self.events.any);
            let mut scope = self.scope(Some(events), self.flow.always());
            self.actions(&named.value, &mut scope, events);
        }
        for named in &source.delays {
            let scope = self.scope(Some(&self.events.any), self.flow.always());
            self.delay(&named.value, &scope);
        }
    }

    fn state(&mut self, state: StateNumber) {
        let source = self.model.at(state).source;
        let entry = self.events.of_entry.get(state).cloned().unwrap_or_default();
        let mut scope = self.scope(Some(&entry), self.flow.before(state));
        self.actions(&source.entry, &mut scope, &entry);
        let scope = self.scope(Some(&entry), self.flow.inside(state));
        for timeout in source.after.iter().chain(&source.idle) {
            self.delay(&timeout.delay, &scope);
        }
        if let Some(initial) = &source.initial {
            self.actions(&initial.actions, &mut scope.clone(), &entry);
        }
        self.ending(state, &scope);
        let exit = self.events.of_exit.get(state).cloned().unwrap_or_default();
        let mut scope = self.scope(Some(&exit), self.flow.inside(state));
        self.actions(&source.exit, &mut scope, &exit);
        for invoke in &source.invokes {
            self.invoke(state, invoke);
        }
        self.moves(state);
    }

    /// What a final state, or the root, gives to the outside.
    fn ending(&mut self, state: StateNumber, scope: &Scope<'_>) {
        let source = self.model.at(state).source;
        let is_whole = state == 0 || self.model.at(state).parent == Some(0);
        let wanted = self.declared.output.as_ref().filter(|_| is_whole);
        if let Some(template) = &source.output {
            let mut scope = scope.clone();
            if state == 0 {
                scope.event = Some(self.declared.event_scope(&self.events.any));
            }
            self.expressions.check_shown("`output`", template, wanted, &scope, self.desk);
        }
        let is_end = state == 0 && source.kind == StateKind::Parallel
            || source.kind == StateKind::Final
                && is_whole
                && self.model.source.root.output.is_none();
        if is_end && source.output.is_none() && source.error.is_none() {
            self.check_silent(state, wanted);
        }
        if let Some(error) = &source.error {
            let text = Schema::plain(Kind::Text);
            self.expressions.check_shown("`error`", &error.code, Some(&text), scope, self.desk);
            if let Some(message) = &error.message {
                self.expressions.check_shown("`error`", message, Some(&text), scope, self.desk);
            }
        }
    }

    /// An end without output, where the output has required fields.
    fn check_silent(&mut self, state: StateNumber, wanted: Option<&Schema>) {
        let required =
            wanted.into_iter().flat_map(Schema::properties).find(|property| property.required);
        if let Some(property) = required {
            let why = format!("this end has no `output`, and `{}` is required", property.name);
            let place = self.model.source.document.key_place(&self.model.spot(state).pointer);
            misfits(
                &Spot { pointer: self.model.spot(state).pointer.clone(), place },
                &why,
                self.desk,
            );
        }
    }

    /// A delay is a duration, a text that is one, or a timestamp.
    fn delay(&mut self, delay: &'s Delay, scope: &Scope<'_>) {
        let Length::Expression(expression) = &delay.length else { return };
        let Some(checked) = self.expressions.check(expression, scope, self.desk) else { return };
        if !matches!(
            checked.value,
            Type::Span | Type::Moment | Type::Text(_) | Type::Dyn | Type::Never | Type::OneOf(_)
        ) {
            let message = format!("a delay is a duration or a timestamp, found {}", checked.value);
            self.desk.note(
                FindingCode::TypeError,
                &expression.spot,
                message,
                "write `duration('15m')` or `now + …`",
            );
        }
    }

    fn invoke(&mut self, state: StateNumber, invoke: &'s Invoke) {
        let assigned = self.flow.inside(state);
        let mut scope = self.scope(None, assigned.clone());
        for delay in invoke.timeout.iter().chain(&invoke.heartbeat) {
            self.delay(delay, &scope);
        }
        if let Some(each) = &invoke.for_each {
            let list = Schema::plain(Kind::List);
            let items =
                self.expressions.check_template(&each.items, Some(&list), &scope, self.desk);
            let item = match items {
                Type::List(items, _) => (*items).clone(),
                _ => Type::Dyn,
            };
            scope.item = Some((each.name.as_str(), item));
        }
        let wanted = self.declared.task_input(&invoke.src);
        self.input(invoke.input.as_ref(), wanted.as_ref(), &invoke.spot, &scope);
        let Some(Compensate::By(undo)) = &invoke.compensate else { return };
        let done = self.events.number(&format!("done.invoke.{}", invoke.id.text));
        let scope = match done.filter(|_| !undo.from_start) {
            Some(done) => {
                let mut events = Bits::default();
                events.insert(done);
                self.scope(Some(&events), assigned)
            }
            None => scope,
        };
        for delay in undo.timeout.iter().chain(&undo.heartbeat) {
            self.delay(delay, &scope);
        }
        let wanted = self.declared.task_input(&undo.src);
        self.input(undo.input.as_ref(), wanted.as_ref(), &undo.spot, &scope);
    }

    fn input(
        &mut self,
        template: Option<&'s Template>,
        wanted: Option<&Schema>,
        spot: &Spot,
        scope: &Scope<'_>,
    ) {
        match (template, wanted) {
            (Some(template), wanted) => {
                self.expressions.check_template(template, wanted, scope, self.desk);
            }
            (None, Some(schema))
                if schema.properties().iter().any(|property| property.required) =>
            {
                misfits(spot, "the task's input has required fields and none is given", self.desk);
            }
            (None, _) => {}
        }
    }

    /// The moves of a state: each guard with what the guards before it have ruled out.
    fn moves(&mut self, state: StateNumber) {
        let inside = self.flow.inside(state);
        let mut ruled_out = Known::default();
        let mut before: Option<&Cause<'s>> = None;
        for index in self.model.moves_of.get(state).into_iter().flatten().copied() {
            let movement = self.model.movement(index);
            if before != Some(&movement.cause) {
                ruled_out = Known::default();
                before = Some(&movement.cause);
            }
            let events = self.events.of(index);
            let mut scope = self.scope(Some(events), inside.clone());
            scope.known = ruled_out.clone();
            if let Some((if_true, if_false)) = self.move_guard(index, movement, &scope) {
                scope.known = scope.known.and(&if_true);
                ruled_out = ruled_out.and(&if_false);
            }
            self.actions(&movement.of.actions, &mut scope, events);
        }
    }

    fn move_guard(
        &mut self,
        index: usize,
        movement: &Move<'s>,
        scope: &Scope<'_>,
    ) -> Option<(Known, Known)> {
        let expression = match movement.of.guard.as_ref()? {
            Guard::Expression(expression) => {
                let checked = self.expressions.check_guard(expression, scope, self.desk);
                self.note_constant(index, expression, checked.as_ref());
                expression
            }
            Guard::Ref(name) => {
                let named =
                    self.model.source.guards.iter().find(|named| named.name.text == name.text)?;
                let scope = self.scope(None, BTreeSet::new());
                let parsed = self.expressions.parse(&named.value.text).ok()?;
                let checked = crate::types::check(&parsed, &scope);
                self.remember(index, &checked);
                &named.value
            }
        };
        let parsed = self.expressions.parse(&expression.text).ok()?;
        Some((Known::if_true(&parsed), Known::if_false(&parsed)))
    }

    fn remember(&mut self, index: usize, checked: &Checked) {
        if let Some(truth) = self.truths.get_mut(index) {
            *truth = checked.constant;
        }
        if let Some(reads) = self.reads_context.get_mut(index) {
            *reads = !checked.reads.is_empty();
        }
    }

    fn note_constant(&mut self, index: usize, expression: &Expression, checked: Option<&Checked>) {
        let Some(checked) = checked else { return };
        self.remember(index, checked);
        match checked.constant {
            Some(true) => {
                let message = "this guard is always true";
                self.desk.note(
                    FindingCode::GuardAlwaysTrue,
                    &expression.spot,
                    message,
                    "leave it out",
                );
            }
            Some(false) => {
                let message = "this guard is never true, so its transition is never taken";
                self.desk.note(
                    FindingCode::GuardNeverTrue,
                    &expression.spot,
                    message,
                    "remove the transition",
                );
            }
            None => {}
        }
    }
}
