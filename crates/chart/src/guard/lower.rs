//! From the parser's tree to ours: names resolved, constants and patterns made once, unsupported parts refused.
//!
//! Deliberately absent: types.

use std::sync::Arc;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};
use regex::Regex;

use super::{CelTrouble, Function, Names, functions};
use crate::{configuration::StateIndex, schema, value::Value};

/// The fixed names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Context,
    Event,
    Input,
    Item,
    Now,
}

/// Operators with two sides that are both always evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

/// An expression as it is evaluated.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Value),
    Name(Name),
    /// A variable of a comprehension, by its slot.
    Local(usize),
    Field(Box<Node>, Arc<str>),
    Has(Box<Node>, Arc<str>),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    List(Vec<Node>),
    Object(Vec<(Node, Node)>),
    Call(Function, Vec<Node>),
    /// `matches` with a constant pattern.
    Matches(Box<Node>, Regex),
    /// `active` of a state that is known.
    Active(StateIndex),
    /// True unless its part is strictly false: errors count as true.
    NotStrictlyFalse(Box<Node>),
    Loop(Box<Loop>),
}

/// A comprehension.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) range: Node,
    pub(super) variable: usize,
    pub(super) result_slot: usize,
    pub(super) start: Node,
    pub(super) condition: Node,
    pub(super) step: Step,
    pub(super) result: Node,
}

/// What a comprehension does with one element. Appending is told apart, because copying the list each time is quadratic.
#[derive(Debug)]
pub(super) enum Step {
    Replace(Node),
    Append { filter: Option<Node>, item: Node },
}

impl Node {
    /// Collects the field paths that start at `context`, `event`, `input` or the item.
    pub(super) fn paths(&self, found: &mut Vec<Vec<Arc<str>>>) {
        if let Some(path) = self.path() {
            if !found.contains(&path) {
                found.push(path);
            }
            return;
        }
        match self {
            Self::Constant(_) | Self::Name(_) | Self::Local(_) | Self::Active(_) => {}
            Self::Field(part, _) | Self::Has(part, _) | Self::Not(part) | Self::Negate(part) => {
                part.paths(found)
            }
            Self::Matches(part, _) | Self::NotStrictlyFalse(part) => part.paths(found),
            Self::Index(left, right) | Self::And(left, right) | Self::Or(left, right) => {
                left.paths(found);
                right.paths(found);
            }
            Self::Binary(_, left, right) => {
                left.paths(found);
                right.paths(found);
            }
            Self::If(condition, yes, no) => {
                [condition, yes, no].into_iter().for_each(|part| part.paths(found))
            }
            Self::List(parts) | Self::Call(_, parts) => {
                parts.iter().for_each(|part| part.paths(found))
            }
            Self::Object(fields) => fields.iter().for_each(|(_, value)| value.paths(found)),
            Self::Loop(inner) => {
                inner.range.paths(found);
                match &inner.step {
                    Step::Replace(step) => step.paths(found),
                    Step::Append { filter, item } => {
                        filter.iter().for_each(|filter| filter.paths(found));
                        item.paths(found);
                    }
                }
            }
        }
    }

    fn path(&self) -> Option<Vec<Arc<str>>> {
        match self {
            Self::Name(Name::Context) => Some(vec![Arc::from("context")]),
            Self::Name(Name::Event) => Some(vec![Arc::from("event")]),
            Self::Name(Name::Input) => Some(vec![Arc::from("input")]),
            Self::Field(part, field) | Self::Has(part, field) => {
                let mut path = part.path()?;
                path.push(Arc::clone(field));
                Some(path)
            }
            _ => None,
        }
    }
}

struct Lowering<'a> {
    names: Names<'a>,
    /// Names of comprehension variables in scope with their slots, innermost last.
    scope: Vec<(String, usize)>,
    slots: usize,
}

/// Lowers a parsed expression; gives back the node and the number of its slots.
pub(super) fn lower(expression: &IdedExpr, names: Names<'_>) -> Result<(Node, usize), CelTrouble> {
    let mut lowering = Lowering { names, scope: Vec::new(), slots: 0 };
    let node = lowering.node(&expression.expr)?;
    Ok((node, lowering.slots))
}

impl Lowering<'_> {
    fn boxed(&mut self, expression: &IdedExpr) -> Result<Box<Node>, CelTrouble> {
        self.node(&expression.expr).map(Box::new)
    }

    fn node(&mut self, expression: &Expr) -> Result<Node, CelTrouble> {
        match expression {
            Expr::Literal(literal) => constant(literal).map(Node::Constant),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let operand = self.boxed(&select.operand)?;
                let field = Arc::from(select.field.as_str());
                Ok(if select.test {
                    Node::Has(operand, field)
                } else {
                    Node::Field(operand, field)
                })
            }
            Expr::List(list) => {
                let items = list
                    .elements
                    .iter()
                    .map(|item| self.node(&item.expr))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Node::List(items))
            }
            Expr::Map(map) => {
                let mut fields = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(unsupported("messages"));
                    };
                    fields.push((self.node(&entry.key.expr)?, self.node(&entry.value.expr)?));
                }
                Ok(Node::Object(fields))
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(_) => Err(unsupported("messages")),
            Expr::Unspecified => Err(CelTrouble::Syntax("the expression is empty".to_owned())),
        }
    }

    fn name(&self, name: &str) -> Result<Node, CelTrouble> {
        if let Some((_, slot)) = self.scope.iter().rev().find(|(own, _)| own == name) {
            return Ok(Node::Local(*slot));
        }
        Ok(Node::Name(match name {
            "context" => Name::Context,
            "event" => Name::Event,
            "input" => Name::Input,
            "now" => Name::Now,
            _ if self.names.item == Some(name) => Name::Item,
            _ => return Err(CelTrouble::Undefined(format!("the name `{name}` is not in scope"))),
        }))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Node, CelTrouble> {
        if let (None, Some(node)) = (&call.target, self.operator(call)?) {
            return Ok(node);
        }
        if call.func_name == "active" {
            return self.active(call);
        }
        let parts: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let Some(function) = functions::find(&call.func_name, call.target.is_some(), parts.len())
        else {
            let how = if call.target.is_some() { "method" } else { "function" };
            let message = format!(
                "there is no {how} `{}` with {} arguments",
                call.func_name,
                call.args.len()
            );
            return Err(CelTrouble::Undefined(message));
        };
        let mut nodes =
            parts.iter().map(|part| self.node(&part.expr)).collect::<Result<Vec<_>, _>>()?;
        if let (Function::Matches, [_, Node::Constant(Value::Text(pattern))]) =
            (function, nodes.as_slice())
        {
            let pattern = schema::compile_pattern(pattern).map_err(CelTrouble::Syntax)?;
            return Ok(Node::Matches(Box::new(nodes.swap_remove(0)), pattern));
        }
        Ok(Node::Call(function, nodes))
    }

    fn active(&mut self, call: &CallExpr) -> Result<Node, CelTrouble> {
        let (None, [argument]) = (&call.target, call.args.as_slice()) else {
            return Err(CelTrouble::Undefined(
                "`active` is a function with one argument, a state's id".to_owned(),
            ));
        };
        match self.node(&argument.expr)? {
            Node::Constant(Value::Text(id)) => match self.names.states.get(&id) {
                Some(state) => Ok(Node::Active(state)),
                None => Err(CelTrouble::Undefined(format!("there is no state `{id}`"))),
            },
            other => Ok(Node::Call(Function::Active, vec![other])),
        }
    }

    fn operator(&mut self, call: &CallExpr) -> Result<Option<Node>, CelTrouble> {
        let name = call.func_name.as_str();
        let node = match call.args.as_slice() {
            [part] => match name {
                operators::LOGICAL_NOT => Node::Not(self.boxed(part)?),
                operators::NEGATE => Node::Negate(self.boxed(part)?),
                operators::NOT_STRICTLY_FALSE => Node::NotStrictlyFalse(self.boxed(part)?),
                _ => return Ok(None),
            },
            [left, right] => match name {
                operators::LOGICAL_AND => Node::And(self.boxed(left)?, self.boxed(right)?),
                operators::LOGICAL_OR => Node::Or(self.boxed(left)?, self.boxed(right)?),
                operators::INDEX => Node::Index(self.boxed(left)?, self.boxed(right)?),
                _ => match binary(name) {
                    Some(operator) => Node::Binary(operator, self.boxed(left)?, self.boxed(right)?),
                    None => return Ok(None),
                },
            },
            [condition, yes, no] if name == operators::CONDITIONAL => {
                Node::If(self.boxed(condition)?, self.boxed(yes)?, self.boxed(no)?)
            }
            _ => return Ok(None),
        };
        Ok(Some(node))
    }

    fn comprehension(&mut self, inner: &ComprehensionExpr) -> Result<Node, CelTrouble> {
        if inner.iter_var2.is_some() {
            return Err(unsupported("comprehensions with two variables"));
        }
        let range = self.node(&inner.iter_range.expr)?;
        let start = self.node(&inner.accu_init.expr)?;
        let (variable, result_slot) = (self.slots, self.slots + 1);
        self.slots += 2;
        self.scope.push((inner.accu_var.clone(), result_slot));
        self.scope.push((inner.iter_var.clone(), variable));
        let condition = self.node(&inner.loop_cond.expr)?;
        let step = self.step(&inner.loop_step.expr, &inner.accu_var)?;
        self.scope.pop();
        let result = self.node(&inner.result.expr)?;
        self.scope.pop();
        Ok(Node::Loop(Box::new(Loop {
            range,
            variable,
            result_slot,
            start,
            condition,
            step,
            result,
        })))
    }

    // The macros write `result + [item]` and `filter ? result + [item] : result`.
    fn step(&mut self, step: &Expr, accumulator: &str) -> Result<Step, CelTrouble> {
        if let Some(item) = appended(step, accumulator) {
            return Ok(Step::Append { filter: None, item: self.node(item)? });
        }
        if let Expr::Call(call) = step
            && let (operators::CONDITIONAL, [filter, yes, no]) =
                (call.func_name.as_str(), call.args.as_slice())
            && let (Some(item), Expr::Ident(other)) = (appended(&yes.expr, accumulator), &no.expr)
            && other == accumulator
        {
            return Ok(Step::Append {
                filter: Some(self.node(&filter.expr)?),
                item: self.node(item)?,
            });
        }
        Ok(Step::Replace(self.node(step)?))
    }
}

fn appended<'e>(step: &'e Expr, accumulator: &str) -> Option<&'e Expr> {
    let Expr::Call(call) = step else { return None };
    let (operators::ADD, [left, right]) = (call.func_name.as_str(), call.args.as_slice()) else {
        return None;
    };
    match (&left.expr, &right.expr) {
        (Expr::Ident(name), Expr::List(list)) if name == accumulator => {
            match list.elements.as_slice() {
                [item] => Some(&item.expr),
                _ => None,
            }
        }
        _ => None,
    }
}

fn binary(name: &str) -> Option<Operator> {
    Some(match name {
        operators::ADD => Operator::Add,
        operators::SUBSTRACT => Operator::Subtract,
        operators::MULTIPLY => Operator::Multiply,
        operators::DIVIDE => Operator::Divide,
        operators::MODULO => Operator::Modulo,
        operators::EQUALS => Operator::Equal,
        operators::NOT_EQUALS => Operator::NotEqual,
        operators::LESS => Operator::Less,
        operators::LESS_EQUALS => Operator::LessEqual,
        operators::GREATER => Operator::Greater,
        operators::GREATER_EQUALS => Operator::GreaterEqual,
        operators::IN => Operator::In,
        _ => return None,
    })
}

fn constant(literal: &LiteralValue) -> Result<Value, CelTrouble> {
    Ok(match literal {
        LiteralValue::Boolean(truth) => Value::Bool(*truth.inner()),
        LiteralValue::Int(number) => Value::Int(*number.inner()),
        LiteralValue::Double(number) => Value::Double(*number.inner()),
        LiteralValue::String(text) => Value::text(text.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::UInt(_) => return Err(unsupported("unsigned integers")),
        LiteralValue::Bytes(_) => return Err(unsupported("bytes")),
    })
}

fn unsupported(what: &str) -> CelTrouble {
    CelTrouble::Unsupported(format!("{what} are not part of these expressions"))
}
