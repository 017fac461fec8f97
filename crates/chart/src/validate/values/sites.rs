//! Actions: each in its turn, with what the ones before it have set.
//!
//! Deliberately absent: who runs a list of actions; the caller knows and gives the scope.

use super::Judge;
use crate::{
    finding::FindingCode,
    schema::{Kind, Schema},
    source::{Act, Action, Branch, Guard, Message, Named, Raise, Template, Text},
    types::{Known, Scope},
    validate::{bits::Bits, expressions::misfits},
};

impl<'a, 's> Judge<'a, '_, 's> {
    /// Checks a list of actions; afterwards the scope knows what they have set.
    pub(super) fn actions(&mut self, actions: &'s [Action], scope: &mut Scope<'a>, events: &Bits) {
        for action in actions {
            self.action(action, scope, events);
            scope.assigned.extend(self.flow.set_by(std::slice::from_ref(action)));
            match &action.act {
                Act::Assign(fields) => {
                    scope.assigned.extend(fields.iter().map(|field| field.name.as_str()))
                }
                Act::Unset(names) => names.iter().for_each(|name| {
                    scope.assigned.remove(name.as_str());
                }),
                _ => {}
            }
        }
    }

    fn action(&mut self, action: &'s Action, scope: &mut Scope<'a>, events: &Bits) {
        match &action.act {
            Act::Assign(fields) => self.assign(fields, scope),
            Act::Unset(names) => names.iter().for_each(|name| self.unset(name)),
            Act::Raise(raise) => self.raise(raise, scope),
            Act::SendTo { workflow, data, .. } => {
                let text = Schema::plain(Kind::Text);
                self.template(workflow, Some(&text), scope);
                self.data(data.as_ref(), scope);
            }
            Act::SendParent(Message { data, .. }) => self.data(data.as_ref(), scope),
            Act::Emit(Message { data, .. }) => {
                if let Some(data) = data {
                    self.shown("`emit`", data, None, scope);
                }
            }
            Act::Log(template) => self.shown("`log`", template, None, scope),
            Act::Reply(template) => self.reply(template, scope, events),
            Act::Choose(branches) => self.choose(branches, scope, events),
            Act::Cancel(_) | Act::Do(_) => {}
        }
    }

    fn template(&mut self, template: &'s Template, wanted: Option<&Schema>, scope: &Scope<'_>) {
        self.expressions.check_template(template, wanted, scope, self.desk);
    }

    /// Checks a template whose value others see.
    fn shown(
        &mut self,
        by: &'static str,
        template: &'s Template,
        wanted: Option<&Schema>,
        scope: &Scope<'_>,
    ) {
        self.expressions.check_shown(by, template, wanted, scope, self.desk);
    }

    fn data(&mut self, template: Option<&'s Template>, scope: &Scope<'_>) {
        if let Some(template) = template {
            self.template(template, None, scope);
        }
    }

    /// All right sides see the old context, so the fields come into scope only afterwards.
    fn assign(&mut self, fields: &'s [Named<Template>], scope: &Scope<'_>) {
        for field in fields {
            self.check_declared(field.name.as_str(), &field.name.spot);
            let wanted =
                self.declared.context.as_ref().and_then(|schema| schema.field(&field.name.text));
            self.shown("the field of the context", &field.value, wanted, scope);
        }
    }

    fn unset(&mut self, name: &Text) {
        self.check_declared(&name.text, &name.spot);
        let property =
            self.declared.context.as_ref().and_then(|schema| schema.property(&name.text));
        if property.is_some_and(|property| property.required) {
            misfits(
                &name.spot,
                &format!("`{}` is required and cannot be unset", name.text),
                self.desk,
            );
        }
    }

    fn raise(&mut self, raise: &'s Raise, scope: &Scope<'_>) {
        if let Some(delay) = &raise.delay {
            self.delay(delay, scope);
        }
        let wanted = self.declared.payload(&raise.event.text);
        match (&raise.data, wanted) {
            (Some(data), wanted) => self.shown("the raised event", data, wanted, scope),
            (None, Some(schema))
                if schema.properties().iter().any(|property| property.required) =>
            {
                let why = format!(
                    "`{}` has required fields and no data is raised with it",
                    raise.event.text
                );
                misfits(&raise.event.spot, &why, self.desk);
            }
            (None, _) => {}
        }
    }

    /// A reply has to fit whichever command is being answered.
    fn reply(&mut self, template: &'s Template, scope: &Scope<'_>, events: &Bits) {
        let mut wanted: Vec<&Schema> = Vec::new();
        for number in events.iter() {
            let schema = self.declared.reply(&self.events.event(number).name);
            wanted
                .extend(schema.filter(|schema| !wanted.iter().any(|other| other.is_same(schema))));
        }
        if wanted.is_empty() {
            self.shown("`reply`", template, None, scope);
        }
        for schema in wanted {
            self.shown("`reply`", template, Some(schema), scope);
        }
    }

    fn choose(&mut self, branches: &'s [Branch], scope: &mut Scope<'a>, events: &Bits) {
        let before = scope.clone();
        let mut ruled_out = before.known.clone();
        for branch in branches {
            scope.known = ruled_out.clone();
            scope.assigned = before.assigned.clone();
            if let Some(Guard::Expression(expression)) = &branch.guard {
                let checked = self.expressions.check_guard(expression, scope, self.desk);
                if let Some(false) = checked.and_then(|checked| checked.constant) {
                    let message = "this guard is never true, so its branch is never taken";
                    self.desk.note(
                        FindingCode::GuardNeverTrue,
                        &expression.spot,
                        message,
                        "remove the branch",
                    );
                }
            }
            if let Some(parsed) = self.branch_guard(branch) {
                scope.known = ruled_out.clone().and(&Known::if_true(&parsed));
                ruled_out = ruled_out.and(&Known::if_false(&parsed));
            }
            self.actions(&branch.actions, scope, events);
        }
        *scope = before;
    }

    fn branch_guard(&mut self, branch: &'s Branch) -> Option<std::rc::Rc<cel::IdedExpr>> {
        let text = match branch.guard.as_ref()? {
            Guard::Expression(expression) => &expression.text,
            Guard::Ref(name) => {
                let named =
                    self.model.source.guards.iter().find(|named| named.name.text == name.text)?;
                &named.value.text
            }
        };
        self.expressions.parse(text).ok()
    }
}
