//! Compiling actions and guards.
//!
//! Deliberately absent: what an action does (`assign.rs`).

use std::sync::Arc;

use super::Compiler;
use crate::{
    definition::{ActionDef, Assignment, BranchDef, RaiseDef},
    finding::FindingCode,
    guard::{Names, Program},
    source::{self, Act},
    template::Template,
};

impl<'s> Compiler<'s> {
    pub(super) fn actions(&mut self, actions: &'s [source::Action]) -> Vec<ActionDef> {
        actions.iter().filter_map(|action| self.action(action)).collect()
    }

    fn action(&mut self, action: &'s source::Action) -> Option<ActionDef> {
        Some(match &action.act {
            Act::Assign(fields) => {
                let mut assignments = Vec::with_capacity(fields.len());
                for field in fields {
                    let template = self.data(Some(&field.value))?;
                    assignments
                        .push(Assignment { field: Arc::from(field.name.text.as_str()), template });
                }
                ActionDef::Assign(assignments)
            }
            Act::Unset(fields) => ActionDef::Unset {
                fields: fields.iter().map(|field| Arc::from(field.text.as_str())).collect(),
                place: Arc::from(action.spot.pointer.as_str()),
            },
            Act::Raise(raise) => ActionDef::Raise(self.raise(raise, action)?),
            Act::Cancel(timer) => ActionDef::Cancel { timer: timer_id(&timer.text) },
            Act::SendTo { workflow, event, data } => ActionDef::SendTo {
                instance: self.data(Some(workflow))?,
                event: Arc::from(event.text.as_str()),
                data: self.data(data.as_ref()),
            },
            Act::SendParent(message) => ActionDef::SendParent {
                event: Arc::from(message.event.text.as_str()),
                data: self.data(message.data.as_ref()),
            },
            Act::Emit(message) => ActionDef::Emit {
                event: Arc::from(message.event.text.as_str()),
                data: self.data(message.data.as_ref()),
            },
            Act::Log(template) => ActionDef::Log(self.data(Some(template))?),
            Act::Reply(template) => ActionDef::Reply(self.data(Some(template))?),
            Act::Choose(branches) => {
                let compiled = branches.iter().map(|branch| BranchDef {
                    guard: self.guard(branch.guard.as_ref()),
                    actions: self.actions(&branch.actions),
                });
                ActionDef::Choose(compiled.collect())
            }
            Act::Do(name) => ActionDef::Do(self.named_actions(name)?),
        })
    }

    fn data(&mut self, template: Option<&source::Template>) -> Option<Template> {
        let names = self.names.clone();
        self.template(template?, Names { states: &names, item: None })
    }

    fn raise(&mut self, raise: &'s source::Raise, action: &source::Action) -> Option<RaiseDef> {
        let names = self.names.clone();
        let scope = Names { states: &names, item: None };
        let delay = match &raise.delay {
            Some(delay) => Some(self.length(delay, scope)?),
            None => None,
        };
        Some(RaiseDef {
            event: Arc::from(raise.event.text.as_str()),
            data: self.data(raise.data.as_ref()),
            schema: self.events.get(raise.event.text.as_str()).cloned().flatten(),
            delay,
            timer: raise.id.as_ref().map(|id| timer_id(&id.text)),
            place: Arc::from(action.spot.pointer.as_str()),
        })
    }

    fn named_actions(&mut self, name: &'s source::Text) -> Option<Arc<Vec<ActionDef>>> {
        if let Some(known) = self.actions.get(name.text.as_str()) {
            return Some(Arc::clone(known));
        }
        let Some(named) = self.source.actions.iter().find(|named| named.name.text == name.text)
        else {
            self.report(
                FindingCode::UndefinedAction,
                &name.spot,
                format!("there is no action `{}`", name.text),
            );
            return None;
        };
        if !self.doing.insert(&named.name.text) {
            self.report(
                FindingCode::UndefinedAction,
                &name.spot,
                format!("the action `{}` does itself", name.text),
            );
            return None;
        }
        let compiled = Arc::new(self.actions(&named.value));
        self.doing.remove(named.name.text.as_str());
        self.actions.insert(&named.name.text, Arc::clone(&compiled));
        Some(compiled)
    }

    pub(super) fn guard(&mut self, guard: Option<&source::Guard>) -> Option<Arc<Program>> {
        match guard? {
            source::Guard::Expression(expression) => {
                let names = self.names.clone();
                self.program(expression, Names { states: &names, item: None })
            }
            source::Guard::Ref(name) => {
                let found = self.guards.get(name.text.as_str()).cloned();
                let is_declared =
                    self.source.guards.iter().any(|guard| guard.name.text == name.text);
                if !is_declared {
                    self.report(
                        FindingCode::UndefinedGuard,
                        &name.spot,
                        format!("there is no guard `{}`", name.text),
                    );
                }
                found
            }
        }
    }
}

/// Returns the id of a named raise's timer; its own space, so that no author's name meets the platform's.
pub(crate) fn timer_id(name: &str) -> String {
    format!("raise.{name}")
}
