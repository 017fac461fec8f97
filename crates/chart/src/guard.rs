//! Guards: CEL, compiled once and evaluated under a budget of steps.
//!
//! The foreign crate parses; everything after that is ours, behind [`Evaluate`]: the value type, the conversion, the order
//! of evaluation, every function, every error. So an expression gives the same value on every node and in every release,
//! no evaluation runs away, and reading a field of the context copies nothing.
//!
//! A text is measured before it is parsed and parsed on a thread with a big stack, because the parser recurses; what passes
//! is at most [`EXPRESSION_DEPTH_MAX`] deep, so evaluating it recurses little.
//!
//! Deliberately absent: clock, chance, unsigned integers, bytes, time zones, extensions, maps with keys other than texts,
//! and types (`types.rs` checks them before a definition is taken).
//!
//! Invariant: evaluating costs at most `COMPREHENSION_STEPS_MAX` steps, and never panics.

mod evaluate;
mod functions;
mod lower;
mod measure;
mod operators;

use std::{fmt, sync::Arc};

use cel::{IdedExpr, common::ast::Expr, parser::Parser};
use statehouse_contract::{
    limits::{COMPREHENSION_DEPTH_MAX, EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX},
    time::Timestamp,
};

pub(crate) use functions::parse_span;
pub use functions::{Function, Part, function_names};

use crate::{
    configuration::{StateIndex, StateSet},
    refusal::EvaluationError,
    source::Spot,
    value::Value,
};

/// Stack of the thread that parses and lowers expressions.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Something that makes a value out of what is in scope.
pub trait Evaluate: fmt::Debug + Send + Sync {
    /// Returns the value.
    ///
    /// # Errors
    /// With the expression, its place and the reason.
    fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError>;
}

/// What an expression can see.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `context`.
    pub context: &'a Value,
    /// `event`; nothing where none is in scope.
    pub event: Option<&'a Value>,
    /// `input`; only in the context initialiser.
    pub input: Option<&'a Value>,
    /// The item of a `forEach`.
    pub item: Option<&'a Value>,
    /// `now`.
    pub now: Timestamp,
    /// What `active()` asks.
    pub active: &'a StateSet,
    /// The names that `active()` knows, sorted.
    pub states: &'a StateNames,
}

/// State numbers by id, sorted by id.
#[derive(Clone, Debug, Default)]
pub struct StateNames(Vec<(Arc<str>, StateIndex)>);

impl StateNames {
    /// Returns the names in sorted order; of two equal ones the first stays.
    pub fn new(names: impl IntoIterator<Item = (Arc<str>, StateIndex)>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(names)
    }

    /// Returns the number of a state.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<StateIndex> {
        self.0.binary_search_by(|(own, _)| own.as_ref().cmp(id)).ok().map(|found| self.0[found].1)
    }
}

/// What an expression may name besides the fixed names.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The states.
    pub states: &'a StateNames,
    /// The name of the item of a `forEach`.
    pub item: Option<&'a str>,
}

/// Why a text is no expression of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CelTrouble {
    /// It does not parse.
    #[error("{0}")]
    Syntax(String),
    /// It is too long or too deep.
    #[error("{0}")]
    Limit(String),
    /// It nests comprehensions too deep.
    #[error("{0}")]
    Nesting(String),
    /// It names something that does not exist.
    #[error("{0}")]
    Undefined(String),
    /// It uses a part of CEL that is not ours.
    #[error("{0}")]
    Unsupported(String),
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    node: lower::Node,
    locals: usize,
    text: Arc<str>,
    place: Arc<str>,
}

impl Program {
    /// Compiles a text. To be called on a big stack: see [`on_big_stack`].
    ///
    /// # Errors
    /// When the text is no expression of ours.
    pub fn compile(text: &str, spot: &Spot, names: Names<'_>) -> Result<Self, CelTrouble> {
        let expression = parse(text)?;
        let (node, locals) = lower::lower(&expression, names)?;
        Ok(Self { node, locals, text: Arc::from(text), place: Arc::from(spot.pointer.as_str()) })
    }

    /// Returns the CEL text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the JSON pointer of the text in its definition.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns an evaluation error of this expression.
    #[must_use]
    pub fn error(&self, why: impl Into<String>) -> EvaluationError {
        EvaluationError {
            expression: self.text.to_string(),
            place: self.place.to_string(),
            why: why.into(),
        }
    }

    /// Returns the truth value of a guard.
    ///
    /// # Errors
    /// When evaluating fails or gives something else than true or false.
    pub fn truth(&self, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
        match self.evaluate(scope)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                Err(self.error(format!("a guard must be true or false, not {}", other.type_name())))
            }
        }
    }

    /// Returns the paths into `context` and `event` that the expression reads, in order of appearance.
    #[must_use]
    pub fn inputs(&self) -> Vec<Vec<Arc<str>>> {
        let mut paths = Vec::new();
        self.node.paths(&mut paths);
        paths
    }
}

impl Evaluate for Program {
    fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        evaluate::run(&self.node, self.locals, scope)
            .map_err(|trouble| self.error(trouble.to_string()))
    }
}

/// Parses a text after measuring it. To be called on a big stack: see [`on_big_stack`].
///
/// # Errors
/// When the text does not parse or breaks a limit.
pub fn parse(text: &str) -> Result<IdedExpr, CelTrouble> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!(
            "an expression has at most {EXPRESSION_BYTES_MAX} bytes, this one has {}",
            text.len()
        );
        return Err(CelTrouble::Limit(message));
    }
    if let Some(message) = measure::too_deep(text) {
        return Err(CelTrouble::Limit(message));
    }
    let expression = Parser::new().parse(text).map_err(|errors| {
        let first = errors
            .errors
            .first()
            .map_or_else(|| "it does not parse".to_owned(), |error| error.msg.clone());
        CelTrouble::Syntax(first)
    })?;
    let depth = depth(&expression, 0);
    if depth > EXPRESSION_DEPTH_MAX {
        return Err(CelTrouble::Limit(format!(
            "an expression is at most {EXPRESSION_DEPTH_MAX} deep, this one {depth}"
        )));
    }
    let nesting = nesting(&expression);
    if nesting > COMPREHENSION_DEPTH_MAX {
        let message =
            format!("comprehensions nest at most {COMPREHENSION_DEPTH_MAX} deep, here {nesting}");
        return Err(CelTrouble::Nesting(message));
    }
    Ok(expression)
}

/// Runs a function on a thread whose stack the parser cannot exhaust.
///
/// # Panics
/// When the function does, or when no thread can be made.
pub fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("chart-compile".to_owned()).stack_size(STACK_BYTES);
        let handle =
            thread.spawn_scoped(scope, work).expect("the machine has room for one more thread");
        match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Returns the direct parts of an expression.
fn parts(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(loop_) => {
            vec![
                &loop_.iter_range,
                &loop_.accu_init,
                &loop_.loop_cond,
                &loop_.loop_step,
                &loop_.result,
            ]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(entry_values).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(object) => object.entries.iter().flat_map(entry_values).collect(),
    }
}

fn entry_values(entry: &cel::common::ast::IdedEntryExpr) -> Vec<&IdedExpr> {
    use cel::common::ast::EntryExpr;
    match &entry.expr {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

fn depth(expression: &IdedExpr, above: usize) -> usize {
    // The parser's own nesting is bounded; stop as soon as the answer is known.
    if above > EXPRESSION_DEPTH_MAX {
        return above;
    }
    parts(&expression.expr)
        .into_iter()
        .map(|part| depth(part, above + 1))
        .max()
        .unwrap_or(above + 1)
}

fn nesting(expression: &IdedExpr) -> usize {
    let below = parts(&expression.expr).into_iter().map(nesting).max().unwrap_or(0);
    below + usize::from(matches!(expression.expr, Expr::Comprehension(_)))
}

#[cfg(test)]
mod tests;
