//! The walk over an expression: its type, and everything in it that would fail.
//!
//! One pass, bottom up. After a trouble the walk goes on with `Dyn`, so that one mistake is told once and does not hide
//! the next. What `has()` makes sure of is carried into the sides and branches where it holds.
//!
//! Deliberately absent: parsing and its limits (`guard.rs`; what comes here is at most `EXPRESSION_DEPTH_MAX` deep), and
//! places: a trouble belongs to the whole text, whose place its caller knows.

mod loops;
mod operators;
mod select;

use std::{collections::BTreeSet, sync::Arc};

use cel::{
    IdedExpr,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators as names},
};

use super::{
    Known, Record, Scope, SecretRead, Type, functions,
    known::{literal_text, path},
    secrets::{is_plain, schemas_of},
};
use crate::{finding::FindingCode, schema::Schema};

/// Stands in [`Checked::reads`] for the context as a whole.
pub const WHOLE: &str = "*";

const EXTENSIONS: &str =
    "the extensions of CEL are off; see the list of functions in the format's page";

/// One thing that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble.
    pub code: FindingCode,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

/// What the walk found out.
#[derive(Debug)]
pub struct Checked {
    /// The type of the whole.
    pub value: Type,
    /// Everything wrong, in the order of the text.
    pub troubles: Vec<Trouble>,
    /// The truth value, if it is the same whatever the data.
    pub constant: Option<bool>,
    /// Top-level fields of the context that it reads; [`WHOLE`] stands for all.
    pub reads: BTreeSet<String>,
    /// Whether it asks for anything but the context: the event, the time, the active states.
    pub reads_more: bool,
    /// The secrets that it reads.
    pub secrets: Vec<SecretRead>,
    /// Whether it is nothing but a path: its value is what stands there.
    pub is_path: bool,
}

/// Checks an expression where it stands.
pub fn check(expression: &IdedExpr, scope: &Scope<'_>) -> Checked {
    let mut walk = Walk {
        scope,
        known: scope.known.clone(),
        locals: Vec::new(),
        troubles: Vec::new(),
        reads: BTreeSet::new(),
        reads_more: false,
        secrets: Vec::new(),
        loops: 0,
        factor: 1,
        steps: 0,
    };
    let value = walk.value(expression);
    Checked {
        value,
        troubles: walk.troubles,
        constant: operators::constant_truth(expression),
        reads: walk.reads,
        reads_more: walk.reads_more,
        secrets: walk.secrets,
        is_path: path(expression).is_some(),
    }
}

struct Walk<'a> {
    scope: &'a Scope<'a>,
    known: Known,
    locals: Vec<(String, Type)>,
    troubles: Vec<Trouble>,
    reads: BTreeSet<String>,
    reads_more: bool,
    secrets: Vec<SecretRead>,
    loops: usize,
    // By how much the loops around multiply a step, and the steps of all loops so far.
    factor: u64,
    steps: u64,
}

impl Walk<'_> {
    fn note(&mut self, code: FindingCode, message: impl Into<String>, advice: impl Into<String>) {
        let trouble = Trouble { code, message: message.into(), advice: advice.into() };
        if !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
    }

    /// Writes down that something with a secret is read.
    fn read_secret(&mut self, shown: &str, schemas: Arc<[Schema]>) {
        if !schemas.is_empty() {
            self.secrets.push(SecretRead { shown: shown.to_owned(), schemas });
        }
    }

    /// The type of what is only walked into: what is read of it is written down, it is not.
    fn value_on_the_way(&mut self, target: &IdedExpr) -> Type {
        let before = self.secrets.len();
        let value = self.value(target);
        let is_followed = is_plain(target) && !value.is_dyn();
        if is_followed && self.secrets.iter().skip(before).all(SecretRead::is_only_around) {
            self.secrets.truncate(before);
        }
        value
    }

    fn value(&mut self, expression: &IdedExpr) -> Type {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select, path(expression)),
            Expr::Call(call) => self.call(call, path(expression)),
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.value(item));
                let items = items.fold(Type::Never, Type::join);
                Type::List(items.into(), list.elements.len() as u64)
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Some((&entry.key, &entry.value)),
                    EntryExpr::StructField(_) => None,
                });
                self.object(entries.collect())
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(object) => {
                let message = format!("there are no messages such as `{}`", object.type_name);
                self.note(
                    FindingCode::UndefinedName,
                    message,
                    "write an object: `{'field': value}`",
                );
                Type::Dyn
            }
            Expr::Unspecified => Type::Dyn,
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Type {
        match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::Double(_) => Type::Double,
            LiteralValue::String(text) => Type::Text(Some([Box::from(text.inner())].into())),
            LiteralValue::Null => Type::Null,
            LiteralValue::UInt(_) | LiteralValue::Bytes(_) => {
                let message = "unsigned integers and bytes are not part of these expressions";
                self.note(FindingCode::TypeError, message, "write an int or a string");
                Type::Dyn
            }
        }
    }

    fn object(&mut self, entries: Vec<(&IdedExpr, &IdedExpr)>) -> Type {
        let mut record = Record::default();
        let mut is_known = true;
        for (key, value) in entries {
            let value = self.value(value);
            match literal_text(key) {
                Some(name) => {
                    record.fields.insert(name.into(), value);
                }
                None => {
                    is_known = false;
                    let key = self.value(key);
                    self.expect(&key, &Type::TEXT, "a key of an object");
                }
            }
        }
        if is_known { Type::Record(record.into()) } else { Type::Dyn }
    }

    fn name(&mut self, name: &str) -> Type {
        if let Some((_, value)) = self.locals.iter().rev().find(|(own, _)| own == name) {
            let value = value.clone();
            self.read_secret(name, schemas_of(&value));
            return value;
        }
        self.reads_more |= name != "context";
        if name == "context" {
            self.reads.insert(WHOLE.to_owned());
        }
        let known = match name {
            "context" => self.scope.context.clone(),
            "event" => self.scope.event.as_ref().map(|_| Type::Dyn),
            "input" => self.scope.input.clone(),
            "now" => Some(Type::Moment),
            _ => self
                .scope
                .item
                .as_ref()
                .filter(|(item, _)| *item == name)
                .map(|(_, value)| value.clone()),
        };
        let inside = match (name, &self.scope.event) {
            ("event", Some(event)) => ["data", "output"]
                .into_iter()
                .filter_map(|field| event.field(field)?.ok())
                .flat_map(|value| schemas_of(&value).to_vec())
                .collect(),
            (_, _) => known.as_ref().map(schemas_of).unwrap_or_default(),
        };
        self.read_secret(name, inside);
        known.unwrap_or_else(|| {
            let advice = match name {
                "event" => "no event is in scope here; put what is needed into the context first",
                "input" => "`input` is in scope only in the `context` of the definition; keep it there",
                "context" => "the context is only being made here; use `input` and `event`",
                _ => "in scope are `context`, `event`, `now`, `active(id)` and, where the context is made, `input`",
            };
            self.note(FindingCode::UndefinedName, format!("the name `{name}` is not in scope"), advice);
            Type::Dyn
        })
    }

    fn is_in_scope(&self, name: &str) -> bool {
        let is_local = self.locals.iter().any(|(own, _)| own == name);
        is_local
            || matches!(name, "context" | "event" | "input" | "now")
            || self.scope.item.as_ref().is_some_and(|(item, _)| *item == name)
    }

    fn call(&mut self, call: &CallExpr, spelled: Option<String>) -> Type {
        if call.target.is_none() {
            match (call.func_name.as_str(), call.args.as_slice()) {
                (names::INDEX, [target, index]) => return self.index(target, index, spelled),
                ("active", [state]) => return self.active(state),
                (operator, parts) => {
                    if let Some(value) = self.operator(operator, parts) {
                        return value;
                    }
                }
            }
        }
        if let Some(Expr::Ident(module)) = call.target.as_deref().map(|target| &target.expr)
            && !self.is_in_scope(module)
        {
            // `math.greatest(…)`: one mistake, not two.
            let message = format!("there is no function `{module}.{}`", call.func_name);
            self.note(FindingCode::UndefinedName, message, EXTENSIONS);
            return Type::Dyn;
        }
        let name = &call.func_name;
        let parts = call.target.as_deref().into_iter().chain(&call.args);
        let parts: Vec<Type> = if name == "size" {
            // How many there are says nothing of a secret inside one of them.
            parts.map(|part| self.value_on_the_way(part)).collect()
        } else {
            parts.map(|part| self.value(part)).collect()
        };
        if name == "matches" {
            self.check_pattern(call.args.last());
        }
        match functions::call(name, call.target.is_some(), &parts) {
            functions::Answer::Of(value) => value,
            functions::Answer::Unknown => {
                let how = if call.target.is_some() { "method" } else { "function" };
                let message =
                    format!("there is no {how} `{name}` with {} arguments", call.args.len());
                self.note(FindingCode::UndefinedName, message, EXTENSIONS);
                Type::Dyn
            }
            functions::Answer::Misfit { wanted, found } => {
                let message = format!("`{name}` takes {wanted}, found {found}");
                self.note(FindingCode::TypeError, message, "convert the argument first");
                Type::Dyn
            }
        }
    }

    fn check_pattern(&mut self, pattern: Option<&IdedExpr>) {
        let trouble = match pattern.map(literal_text) {
            Some(Some(text)) => crate::schema::compile_pattern(text).err(),
            Some(None) => Some("it is not written out, so nobody can bound it".to_owned()),
            None => None,
        };
        if let Some(why) = trouble {
            let advice = "write a text in quotes; back-references and look-around do not exist";
            self.note(FindingCode::TypeError, format!("the pattern of `matches`: {why}"), advice);
        }
    }

    fn active(&mut self, state: &IdedExpr) -> Type {
        self.reads_more = true;
        match literal_text(state) {
            Some(id) if self.scope.states.contains(id) => {}
            Some(id) => {
                let advice = "`active` takes a state's id: its key, or its `id`";
                self.note(FindingCode::UndefinedState, format!("there is no state `{id}`"), advice);
            }
            None => {
                let found = self.value(state);
                self.expect(&found, &Type::TEXT, "the argument of `active`");
            }
        }
        Type::Bool
    }

    fn expect(&mut self, found: &Type, wanted: &Type, what: &str) {
        if !found.meets(wanted) {
            let message = format!("{what} must be {wanted}, found {found}");
            self.note(FindingCode::TypeError, message, format!("make it {wanted}"));
        }
    }
}
