//! Actions: what a transition, an entry or an exit does to the draft.
//!
//! One after another, each seeing what the one before left. `assign` is the only way to change the context, field by field;
//! all its right sides see the context as it was before, so the order of its keys cannot matter.
//!
//! Deliberately absent: loops, and anything that happens before the step is committed.

use std::sync::Arc;

use crate::{
    definition::{ActionDef, Assignment, BranchDef, RaiseDef},
    draft::{Draft, Reply, Stop},
    effect::Effect,
    guard::Scope,
    refusal::EvaluationError,
    snapshot::{Event, EventClass},
    template::Template,
    value::Value,
};

impl Draft<'_> {
    /// Runs actions in order.
    pub(crate) fn act(&mut self, actions: &[ActionDef]) -> Result<(), Stop> {
        for action in actions {
            self.one(action)?;
        }
        Ok(())
    }

    fn one(&mut self, action: &ActionDef) -> Result<(), Stop> {
        match action {
            ActionDef::Assign(fields) => self.assign(fields)?,
            ActionDef::Unset { fields, place } => self.unset(fields, place)?,
            ActionDef::Raise(raise) => self.raise(raise)?,
            ActionDef::Cancel { timer } => self.cancel_timer(timer),
            ActionDef::SendTo { instance, event, data } => {
                let Value::Text(target) = instance.render(&self.scope())? else {
                    return Err(instance.error("the workflow's key must be a text").into());
                };
                let data = self.data(data.as_ref())?;
                let effect =
                    Effect::Send { instance: target.to_string(), event: event.to_string(), data };
                self.effects.push(effect);
            }
            ActionDef::SendParent { event, data } => {
                let data = self.data(data.as_ref())?;
                self.effects.push(Effect::SendParent { event: event.to_string(), data });
            }
            ActionDef::Emit { event, data } => {
                let data = self.data(data.as_ref())?;
                self.effects.push(Effect::Emit { event: event.to_string(), data });
            }
            ActionDef::Log(template) => {
                let value = template.render(&self.scope())?;
                self.effects.push(Effect::Log { value });
            }
            ActionDef::Reply(template) => self.reply(template)?,
            ActionDef::Choose(branches) => self.choose(branches)?,
            ActionDef::Do(actions) => self.act(actions)?,
        }
        Ok(())
    }

    fn data(&self, template: Option<&Template>) -> Result<Value, Stop> {
        let data = match template {
            Some(template) => template.render(&self.scope())?,
            None => Value::empty(),
        };
        self.judge_payload(&data)?;
        Ok(data)
    }

    fn assign(&mut self, fields: &[Assignment]) -> Result<(), Stop> {
        let mut values = Vec::with_capacity(fields.len());
        for assignment in fields {
            let schema = self.chart.context_schema.as_ref();
            let field = schema.and_then(|schema| schema.property(&assignment.field));
            if schema.is_some() && field.is_none() {
                let why = format!("the context has no field `{}`", assignment.field);
                return Err(assignment.template.error(why).into());
            }
            values.push(
                assignment.template.render_as(field.map(|field| &field.schema), &self.scope())?,
            );
        }
        let Value::Map(context) = &mut self.next.context else { return Ok(()) };
        let context = Arc::make_mut(context);
        for (assignment, value) in fields.iter().zip(values) {
            context.insert(Arc::clone(&assignment.field), value);
        }
        Ok(())
    }

    fn unset(&mut self, fields: &[Arc<str>], place: &str) -> Result<(), Stop> {
        let schema = self.chart.context_schema.as_ref();
        let is_required = |field: &&Arc<str>| {
            schema
                .and_then(|schema| schema.property(field))
                .is_some_and(|property| property.required)
        };
        if let Some(field) = fields.iter().find(is_required) {
            let why = format!("the field `{field}` is required and stays");
            let error = EvaluationError { expression: String::new(), place: place.to_owned(), why };
            return Err(error.into());
        }
        let Value::Map(context) = &mut self.next.context else { return Ok(()) };
        let context = Arc::make_mut(context);
        for field in fields {
            context.remove(field);
        }
        Ok(())
    }

    fn raise(&mut self, raise: &RaiseDef) -> Result<(), Stop> {
        let data = match &raise.data {
            Some(template) => template.render_as(raise.schema.as_ref(), &self.scope())?,
            None => Value::empty(),
        };
        self.judge_payload(&data)?;
        if let (None, Some(schema)) = (&raise.data, &raise.schema)
            && let Some(violation) = schema.check(&data).first()
        {
            let why = format!("the event needs data: {}", violation.message);
            let error =
                EvaluationError { expression: String::new(), place: raise.place.to_string(), why };
            return Err(error.into());
        }
        let value = Value::object([
            ("type", Value::text(&raise.event)),
            ("data", data),
            ("actor", self.actor()),
            ("tenant", Value::text(&self.next.tenant)),
        ]);
        let event = Event { name: raise.event.to_string(), value, class: EventClass::Raised };
        match &raise.delay {
            Some(delay) => {
                let ms = self.delay_ms(delay)?;
                self.raise_later(raise.timer.as_deref(), ms, event)
            }
            None => {
                self.raised_count += 1;
                if self.raised_count > self.chart.limits.raised {
                    return Err(Stop::Limit("raised"));
                }
                self.raised.push_back(event);
                Ok(())
            }
        }
    }

    fn reply(&mut self, template: &Template) -> Result<(), Stop> {
        let schema = match &self.reply {
            Reply::Void => return Ok(()),
            Reply::Given(_) => return Err(template.error("a command is answered once").into()),
            Reply::Open(schema) => schema.clone(),
        };
        let value = template.render_as(schema.as_ref(), &self.scope())?;
        self.judge_payload(&value)?;
        self.reply = Reply::Given(value);
        Ok(())
    }

    fn choose(&mut self, branches: &[BranchDef]) -> Result<(), Stop> {
        for branch in branches {
            let is_chosen = match &branch.guard {
                Some(guard) => guard.truth(&self.scope())?,
                None => true,
            };
            if is_chosen {
                return self.act(&branch.actions);
            }
        }
        Ok(())
    }

    /// Makes the first context out of the input.
    pub(crate) fn initialise(&mut self, input: &Value) -> Result<(), Stop> {
        let Some(initialiser) = &self.chart.initialiser else {
            return self.judge_first_context();
        };
        let scope = Scope { input: Some(input), ..self.scope() };
        let context = initialiser.render_as(self.chart.context_schema.as_ref(), &scope)?;
        let Some(fields) = context.as_map() else {
            return Err(initialiser.error("the context must be an object").into());
        };
        let schema = self.chart.context_schema.as_ref();
        let is_undeclared =
            |name: &&Arc<str>| schema.is_some_and(|schema| schema.property(name).is_none());
        if let Some(name) = fields.iter().map(|(name, _)| name).find(is_undeclared) {
            return Err(initialiser.error(format!("the context has no field `{name}`")).into());
        }
        self.next.context = context;
        Ok(())
    }

    // Without an initialiser the context is empty; a schema may want more.
    fn judge_first_context(&self) -> Result<(), Stop> {
        let Some(schema) = &self.chart.context_schema else { return Ok(()) };
        match schema.check(&self.next.context).first() {
            None => Ok(()),
            Some(violation) => {
                let why = violation.message.clone();
                Err(EvaluationError {
                    expression: String::new(),
                    place: "/context".to_owned(),
                    why,
                }
                .into())
            }
        }
    }
}
