//! Templates: JSON in which a string that is wholly `${cel}` is that value.
//!
//! Compiled once: what is constant is one shared value, and rendering a template without expressions is cloning a pointer.
//! What a template makes is settled (`value.rs`): fit to be kept.
//!
//! Deliberately absent: partial interpolation, loops, and defaults. A missing field is an error, never an empty text.

use std::sync::Arc;

use crate::{
    guard::{CelTrouble, Evaluate, Names, Program, Scope},
    refusal::EvaluationError,
    schema::{Kind, Schema},
    source::{self, Shape, Spot},
    value::Value,
};

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    part: Part,
    place: Arc<str>,
}

#[derive(Debug)]
enum Part {
    Constant(Value),
    Expression(Program),
    List(Vec<Part>),
    Object(Vec<(Arc<str>, Part)>),
}

impl Template {
    /// Compiles an authored template. To be called on a big stack.
    ///
    /// # Errors
    /// Every expression that does not compile, with its place.
    pub fn compile(
        source: &source::Template,
        names: Names<'_>,
    ) -> Result<Self, Vec<(Spot, CelTrouble)>> {
        let mut troubles = Vec::new();
        let part = part(source, names, &mut troubles);
        let template = Self { part, place: Arc::from(source.spot.pointer.as_str()) };
        if troubles.is_empty() { Ok(template) } else { Err(troubles) }
    }

    /// Returns the value that the template makes.
    ///
    /// # Errors
    /// The first expression that fails, or what it made and cannot be kept.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        self.part.render(scope)?.settled().map_err(|unfit| self.error(unfit.to_string()))
    }

    /// Returns the value as an expression made it: a moment or a span stays one.
    ///
    /// # Errors
    /// The first expression that fails.
    pub fn render_raw(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        self.part.render(scope)
    }

    /// Returns an evaluation error of the template as a whole.
    #[must_use]
    pub fn error(&self, why: impl Into<String>) -> EvaluationError {
        let expression = match &self.part {
            Part::Expression(program) => program.text().to_owned(),
            Part::Constant(_) | Part::List(_) | Part::Object(_) => String::new(),
        };
        EvaluationError { expression, place: self.place.to_string(), why: why.into() }
    }

    /// Renders and judges by a schema, whose numbers decide which of them are doubles.
    ///
    /// # Errors
    /// As [`Template::render`], and when the value does not fit.
    pub fn render_as(
        &self,
        schema: Option<&Schema>,
        scope: &Scope<'_>,
    ) -> Result<Value, EvaluationError> {
        let value = self.render(scope)?;
        let Some(schema) = schema else { return Ok(value) };
        let value = shaped(schema, value);
        match schema.check(&value).first() {
            None => Ok(value),
            Some(violation) => {
                Err(self
                    .error(format!("the value does not fit its schema at `{}`", violation.pointer)))
            }
        }
    }
}

impl Part {
    fn render(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Expression(program) => program.evaluate(scope),
            Self::List(parts) => {
                let items =
                    parts.iter().map(|part| part.render(scope)).collect::<Result<_, _>>()?;
                Ok(Value::list(items))
            }
            Self::Object(fields) => {
                let rendered =
                    fields.iter().map(|(name, part)| Ok((Arc::clone(name), part.render(scope)?)));
                Ok(Value::Map(Arc::new(rendered.collect::<Result<_, EvaluationError>>()?)))
            }
        }
    }
}

fn part(
    source: &source::Template,
    names: Names<'_>,
    troubles: &mut Vec<(Spot, CelTrouble)>,
) -> Part {
    match &source.shape {
        Shape::Constant(value) => Part::Constant(value.clone()),
        Shape::Expression(expression) => {
            match Program::compile(&expression.text, &expression.spot, names) {
                Ok(program) => Part::Expression(program),
                Err(trouble) => {
                    troubles.push((expression.spot.clone(), trouble));
                    Part::Constant(Value::Null)
                }
            }
        }
        Shape::List(items) => {
            let parts: Vec<Part> = items.iter().map(|item| part(item, names, troubles)).collect();
            let constants: Option<Vec<Value>> = parts.iter().map(Part::constant).collect();
            constants.map_or(Part::List(parts), |items| Part::Constant(Value::list(items)))
        }
        Shape::Object(fields) => {
            let named = |field: &source::Named<source::Template>| {
                (Arc::from(field.name.text.as_str()), part(&field.value, names, troubles))
            };
            let parts: Vec<(Arc<str>, Part)> = fields.iter().map(named).collect();
            let constant =
                |(name, part): &(Arc<str>, Part)| Some((Arc::clone(name), part.constant()?));
            match parts.iter().map(constant).collect::<Option<crate::value::Map>>() {
                Some(map) => Part::Constant(Value::Map(Arc::new(map))),
                None => Part::Object(parts),
            }
        }
    }
}

impl Part {
    fn constant(&self) -> Option<Value> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Expression(_) | Self::List(_) | Self::Object(_) => None,
        }
    }
}

/// Returns the value with its numbers as the schema wants them: `number` makes doubles, `integer` makes integers.
#[must_use]
pub fn shaped(schema: &Schema, value: Value) -> Value {
    // Nearly every value has its shape already; then nothing is copied.
    if is_shaped(schema, &value) { value } else { reshaped(schema, value) }
}

fn is_shaped(schema: &Schema, value: &Value) -> bool {
    match (schema.kind(), value) {
        (Kind::Number, Value::Int(_)) | (Kind::Integer, Value::Double(_)) => false,
        (_, Value::List(items)) => {
            schema.items().is_none_or(|of| items.iter().all(|item| is_shaped(of, item)))
        }
        (_, Value::Map(map)) => map
            .iter()
            .all(|(name, value)| schema.field(name).is_none_or(|schema| is_shaped(schema, value))),
        _ => true,
    }
}

fn reshaped(schema: &Schema, value: Value) -> Value {
    match (schema.kind(), value) {
        (Kind::Number, Value::Int(number)) => Value::Double(number as f64),
        (Kind::Integer, Value::Double(number))
            if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 =>
        {
            Value::Int(number as i64)
        }
        (_, Value::List(items)) => match schema.items() {
            Some(of) => Value::list(items.iter().map(|item| shaped(of, item.clone())).collect()),
            None => Value::List(items),
        },
        (_, Value::Map(map)) => {
            let field = |(name, value): (&Arc<str>, &Value)| {
                let value = schema
                    .field(name)
                    .map_or_else(|| value.clone(), |schema| shaped(schema, value.clone()));
                (Arc::clone(name), value)
            };
            Value::Map(Arc::new(map.iter().map(field).collect()))
        }
        (_, other) => other,
    }
}
