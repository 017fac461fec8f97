//! Evaluating a lowered expression.
//!
//! Fields are borrowed as far as a path goes; only what an operator makes is new. `&&` and `||` absorb an error of one side
//! when the other side decides; `all` and `exists` do so over all elements, because they are made of these two.
//!
//! Deliberately absent: caching. An expression is short, and its parts change with every event.
//!
//! Invariant: every node costs at least one step, and making or comparing something large costs in proportion.

use std::{fmt, sync::Arc};

use statehouse_contract::limits::COMPREHENSION_STEPS_MAX;

use super::{
    Function, Scope, functions,
    lower::{Loop, Name, Node, Operator, Step},
    operators,
};
use crate::value::{Map, Value};

/// Why an evaluation failed. Names types and fields, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble(Box<str>);

impl Trouble {
    pub(super) fn new(why: impl Into<Box<str>>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

pub(super) type Answer<T = Value> = Result<T, Trouble>;

/// Evaluates a node with that many slots for comprehension variables.
pub(super) fn run(node: &Node, locals: usize, scope: &Scope<'_>) -> Answer {
    let mut run =
        Run { scope, locals: vec![Ok(Value::Null); locals], steps: COMPREHENSION_STEPS_MAX };
    run.value(node)
}

struct Run<'a> {
    scope: &'a Scope<'a>,
    /// A result in the making may be an error: a later element may still absorb it.
    locals: Vec<Answer>,
    steps: u64,
}

impl Run<'_> {
    fn pay(&mut self, steps: usize) -> Answer<()> {
        match self.steps.checked_sub(steps as u64) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Trouble::new("the expression takes too many steps")),
        }
    }

    /// Returns what a path of fields leads to, without copying; `None` where the node is no such path.
    fn path<'n>(&'n self, node: &Node) -> Option<Answer<&'n Value>> {
        match node {
            Node::Name(name) => self.name(*name),
            Node::Local(slot) => Some(match &self.locals[*slot] {
                Ok(value) => Ok(value),
                Err(trouble) => Err(trouble.clone()),
            }),
            Node::Field(part, field) => Some(match self.path(part)? {
                Ok(value) => field_of(value, field),
                Err(trouble) => Err(trouble),
            }),
            _ => None,
        }
    }

    fn name(&self, name: Name) -> Option<Answer<&Value>> {
        let missing = |what: &str| Err(Trouble::new(format!("`{what}` is not in scope here")));
        match name {
            Name::Context => Some(Ok(self.scope.context)),
            Name::Event => Some(self.scope.event.map_or_else(|| missing("event"), Ok)),
            Name::Input => Some(self.scope.input.map_or_else(|| missing("input"), Ok)),
            Name::Item => Some(self.scope.item.map_or_else(|| missing("item"), Ok)),
            Name::Now => None,
        }
    }

    fn value(&mut self, node: &Node) -> Answer {
        self.pay(1)?;
        if let Some(found) = self.path(node) {
            return found.cloned();
        }
        match node {
            Node::Constant(value) => Ok(value.clone()),
            // `path` has answered for all others and for every local.
            Node::Name(_) | Node::Local(_) => Ok(Value::moment(self.scope.now)),
            Node::Field(part, field) => field_of(&self.value(part)?, field).cloned(),
            Node::Has(part, field) => self.has(part, field),
            Node::Index(part, index) => {
                let index = self.value(index)?;
                match self.path(part) {
                    Some(found) => operators::index(found?, &index).cloned(),
                    None => operators::index(&self.value(part)?, &index).cloned(),
                }
            }
            Node::Not(part) => Ok(Value::Bool(!self.truth(part)?)),
            Node::Negate(part) => operators::negate(&self.value(part)?),
            Node::And(left, right) => self.logic(left, right, false),
            Node::Or(left, right) => self.logic(left, right, true),
            Node::If(condition, yes, no) => {
                if self.truth(condition)? {
                    self.value(yes)
                } else {
                    self.value(no)
                }
            }
            Node::Binary(operator, left, right) => self.binary(*operator, left, right),
            Node::List(parts) => {
                let items =
                    parts.iter().map(|part| self.value(part)).collect::<Answer<Vec<_>>>()?;
                Ok(Value::list(items))
            }
            Node::Object(fields) => self.object(fields),
            Node::Call(function, parts) => self.call(*function, parts),
            Node::Matches(part, pattern) => match self.value(part)? {
                Value::Text(text) => {
                    self.pay(text.len() / 16)?;
                    Ok(Value::Bool(pattern.is_match(&text)))
                }
                other => Err(Trouble::new(format!(
                    "`matches` takes a string, not {}",
                    other.type_name()
                ))),
            },
            Node::Active(state) => Ok(Value::Bool(self.scope.active.contains(*state))),
            Node::NotStrictlyFalse(part) => {
                Ok(Value::Bool(!matches!(self.value(part), Ok(Value::Bool(false)))))
            }
            Node::Loop(inner) => self.comprehension(inner),
        }
    }

    fn truth(&mut self, node: &Node) -> Answer<bool> {
        match self.value(node)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                Err(Trouble::new(format!("expected true or false, found {}", other.type_name())))
            }
        }
    }

    // `decides` is the side's value that settles the answer whatever the other one is.
    fn logic(&mut self, left: &Node, right: &Node, decides: bool) -> Answer {
        let left = self.truth(left);
        if left == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        let right = self.truth(right);
        if right == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        // Neither decides: the first error stands, else the answer is the other truth value.
        left.and(right).map(Value::Bool)
    }

    fn has(&mut self, part: &Node, field: &str) -> Answer {
        let of = |value: &Value| match value {
            Value::Map(map) => Ok(Value::Bool(map.get(field).is_some())),
            other => {
                Err(Trouble::new(format!("`has` looks into maps, not into {}", other.type_name())))
            }
        };
        match self.path(part) {
            Some(found) => of(found?),
            None => of(&self.value(part)?),
        }
    }

    fn binary(&mut self, operator: Operator, left: &Node, right: &Node) -> Answer {
        // Both sides as they stand: comparing two paths copies nothing.
        if let (Some(left), Some(right)) = (self.still(left), self.still(right)) {
            let (left, right) = (left?, right?);
            let cost = operators::cost(operator, left, right);
            let answer = operators::binary(operator, left, right)?;
            self.pay(cost.saturating_add(2))?;
            return Ok(answer);
        }
        let left = self.value(left)?;
        let right = self.value(right)?;
        self.pay(operators::cost(operator, &left, &right))?;
        operators::binary(operator, &left, &right)
    }

    /// Returns a value that needs no evaluation: a path or a constant.
    fn still<'n>(&'n self, node: &'n Node) -> Option<Answer<&'n Value>> {
        match node {
            Node::Constant(value) => Some(Ok(value)),
            _ => self.path(node),
        }
    }

    fn object(&mut self, fields: &[(Node, Node)]) -> Answer {
        let mut map = Map::new();
        for (name, value) in fields {
            let Value::Text(name) = self.value(name)? else {
                return Err(Trouble::new("a map's key must be a string"));
            };
            let value = self.value(value)?;
            if map.get(&name).is_some() {
                return Err(Trouble::new("a map has the same key twice"));
            }
            map.insert(name, value);
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn call(&mut self, function: Function, parts: &[Node]) -> Answer {
        let values = parts.iter().map(|part| self.value(part)).collect::<Answer<Vec<_>>>()?;
        if function == Function::Active {
            return match values.as_slice() {
                [Value::Text(id)] => match self.scope.states.get(id) {
                    Some(state) => Ok(Value::Bool(self.scope.active.contains(state))),
                    None => Err(Trouble::new("`active` was asked for a state that does not exist")),
                },
                _ => Err(Trouble::new("`active` takes a state's id")),
            };
        }
        for value in &values {
            if let Value::Text(text) = value {
                self.pay(text.len() / 16)?;
            }
        }
        functions::call(function, &values)
    }

    fn comprehension(&mut self, inner: &Loop) -> Answer {
        let range = match self.value(&inner.range)? {
            Value::List(items) => items,
            Value::Map(_) => return Err(Trouble::new("comprehensions work on lists, not on maps")),
            other => {
                return Err(Trouble::new(format!(
                    "comprehensions work on lists, not on {}",
                    other.type_name()
                )));
            }
        };
        if let Step::Append { filter, item } = &inner.step {
            return self.collect(inner, &range, filter.as_ref(), item);
        }
        let Step::Replace(step) = &inner.step else { return Err(Trouble::new("no such step")) };
        self.locals[inner.result_slot] = self.value(&inner.start);
        for element in range.iter() {
            self.locals[inner.variable] = Ok(element.clone());
            if !self.truth(&inner.condition)? {
                break;
            }
            let next = self.value(step);
            self.pay(1)?;
            self.locals[inner.result_slot] = next;
        }
        self.value(&inner.result)
    }

    fn collect(
        &mut self,
        inner: &Loop,
        range: &[Value],
        filter: Option<&Node>,
        item: &Node,
    ) -> Answer {
        let mut collected = Vec::new();
        for element in range {
            self.locals[inner.variable] = Ok(element.clone());
            let is_wanted = match filter {
                Some(filter) => self.truth(filter)?,
                None => true,
            };
            if is_wanted {
                collected.push(self.value(item)?);
            }
        }
        self.locals[inner.result_slot] = Ok(Value::list(collected));
        self.value(&inner.result)
    }
}

fn field_of<'v>(value: &'v Value, field: &str) -> Answer<&'v Value> {
    match value {
        Value::Map(map) => {
            map.get(field).ok_or_else(|| Trouble::new(format!("there is no field `{field}`")))
        }
        other => Err(Trouble::new(format!("{} has no fields, so no `{field}`", other.type_name()))),
    }
}
