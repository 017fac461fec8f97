//! Expressions and templates where they stand: parsed once, checked, and compared with the schema they are for.
//!
//! Deliberately absent: the question what is in scope somewhere (`data.rs` answers it).
//!
//! Invariant: every text is parsed once, however often it is written; parsing is what costs most here.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use cel::IdedExpr;

use super::Desk;
use crate::{
    finding::FindingCode,
    guard::{self, CelTrouble},
    schema::{Additional, Datum, Kind, Schema},
    source::{Expression, Shape, Spot, Template},
    types::{Checked, Record, Scope, Type, WHOLE, check, misfit},
    value::Value,
};

/// Most steps of comparing secret values with the places that they go to, in one definition.
const SECRET_STEPS_MAX: u32 = 100_000;

/// The expressions of one definition.
#[derive(Default)]
pub(super) struct Expressions<'s> {
    parsed: BTreeMap<&'s str, Result<Rc<IdedExpr>, CelTrouble>>,
    // Said once for each value, not for each reading.
    untyped: BTreeSet<String>,
    /// Top-level fields of the context that some expression reads.
    pub(super) reads: BTreeSet<String>,
    // What shows the value of the template that is being checked; nothing, where it may be secret.
    shown_by: Option<&'static str>,
    // Steps of all comparisons of secrets with where they go.
    secret_steps: Option<u32>,
}

impl<'s> Expressions<'s> {
    /// Parses a text, or remembers how that went.
    pub(super) fn parse(&mut self, text: &'s str) -> Result<Rc<IdedExpr>, CelTrouble> {
        self.parsed.entry(text).or_insert_with(|| guard::parse(text).map(Rc::new)).clone()
    }

    /// Checks an expression and reports everything wrong with it.
    pub(super) fn check(
        &mut self,
        expression: &'s Expression,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Option<Checked> {
        let parsed = match self.parse(&expression.text) {
            Ok(parsed) => parsed,
            Err(trouble) => {
                note_unparsed(expression, &trouble, desk);
                return None;
            }
        };
        let checked = check(&parsed, scope);
        self.reads.extend(checked.reads.iter().cloned());
        for trouble in &checked.troubles {
            if trouble.code == FindingCode::UntypedValue
                && !self.untyped.insert(trouble.message.clone())
            {
                continue;
            }
            desk.note(
                trouble.code,
                &expression.spot,
                trouble.message.as_str(),
                trouble.advice.as_str(),
            );
        }
        Some(checked)
    }

    /// Checks a guard; what it makes sure of is asked of the parsed text.
    pub(super) fn check_guard(
        &mut self,
        expression: &'s Expression,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Option<Checked> {
        let checked = self.check(expression, scope, desk)?;
        if !checked.value.meets(&Type::Bool) {
            let message = format!("a guard must be bool, found {}", checked.value);
            desk.note(
                FindingCode::GuardNotBoolean,
                &expression.spot,
                message,
                "compare it with something, or ask `has()`",
            );
        }
        Some(checked)
    }

    /// Checks a template whose value is shown, unless the schema that it is for marks it as secret.
    pub(super) fn check_shown(
        &mut self,
        shown_by: &'static str,
        template: &'s Template,
        wanted: Option<&Schema>,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Type {
        self.shown_by = Some(shown_by);
        let value = self.check_template(template, wanted, scope, desk);
        self.shown_by = None;
        value
    }

    /// Reports the secrets that an expression would carry to where they are shown.
    fn check_secrets(
        &mut self,
        expression: &Expression,
        checked: &Checked,
        wanted: Option<&Schema>,
        desk: &mut Desk,
    ) {
        let Some(shown_by) = self.shown_by else { return };
        let mut told = BTreeSet::new();
        let mut budget = self.secret_steps.unwrap_or(SECRET_STEPS_MAX);
        for read in &checked.secrets {
            let is_kept = checked.is_path && !read.is_shown_by(wanted, &mut budget);
            if !is_kept && told.insert(read.shown.as_str()) {
                let message = format!("`{}` is secret, and {shown_by} would show it", read.shown);
                let advice =
                    "leave it out, or mark what takes it with `x-secret: true` in its schema";
                desk.note(FindingCode::SecretLeaves, &expression.spot, message, advice);
            }
        }
        self.secret_steps = Some(budget);
    }

    /// Checks a template and compares it with the schema that its value is for.
    pub(super) fn check_template(
        &mut self,
        template: &'s Template,
        wanted: Option<&Schema>,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Type {
        let shown_by = self.shown_by;
        if wanted.is_some_and(Schema::is_secret) {
            // Nothing inside is shown either.
            self.shown_by = None;
        }
        let value = self.check_shape(template, wanted, scope, desk);
        self.shown_by = shown_by;
        value
    }

    fn check_shape(
        &mut self,
        template: &'s Template,
        wanted: Option<&Schema>,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Type {
        match &template.shape {
            Shape::Constant(value) => {
                note_interpolation(value, &template.spot, desk);
                for violation in wanted.map(|schema| schema.check(value)).unwrap_or_default() {
                    misfits(&template.spot, &violation.message, desk);
                }
                type_of(value)
            }
            Shape::Expression(expression) => {
                let Some(checked) = self.check(expression, scope, desk) else { return Type::Dyn };
                self.check_secrets(expression, &checked, wanted, desk);
                if let Some(why) = wanted.and_then(|schema| misfit(&checked.value, schema)) {
                    misfits(&expression.spot, &why, desk);
                }
                checked.value
            }
            Shape::List(items) => self.check_list(template, items, wanted, scope, desk),
            Shape::Object(_) => self.check_object(template, wanted, scope, desk),
        }
    }

    fn check_list(
        &mut self,
        template: &'s Template,
        items: &'s [Template],
        wanted: Option<&Schema>,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Type {
        let wanted = fitting(wanted, Kind::List, &template.spot, desk);
        if let Some(most) =
            wanted.and_then(Schema::items_max).filter(|most| items.len() as u64 > *most)
        {
            misfits(
                &template.spot,
                &format!("expected at most {most} items, found {}", items.len()),
                desk,
            );
        }
        let wanted = wanted.and_then(Schema::items);
        let mut value = Type::Never;
        for item in items {
            value = value.join(self.check_template(item, wanted, scope, desk));
        }
        Type::List(Arc::new(value), items.len() as u64)
    }

    fn check_object(
        &mut self,
        template: &'s Template,
        wanted: Option<&Schema>,
        scope: &Scope<'_>,
        desk: &mut Desk,
    ) -> Type {
        let Shape::Object(fields) = &template.shape else { return Type::Dyn };
        let wanted = fitting(wanted, Kind::Object, &template.spot, desk);
        let mut record = Record::default();
        for field in fields {
            let schema = wanted.and_then(|wanted| wanted.field(&field.name.text));
            let is_closed =
                wanted.is_some_and(|wanted| matches!(wanted.additional(), Additional::Closed));
            if is_closed && schema.is_none() {
                misfits(
                    &field.name.spot,
                    &format!("there is no field `{}` there", field.name.text),
                    desk,
                );
            }
            let value = self.check_template(&field.value, schema, scope, desk);
            record.fields.insert(field.name.text.as_str().into(), value);
        }
        for property in
            wanted.into_iter().flat_map(Schema::properties).filter(|property| property.required)
        {
            if !record.fields.contains_key(&property.name) {
                misfits(
                    &template.spot,
                    &format!("the required field `{}` is missing", property.name),
                    desk,
                );
            }
        }
        Type::Record(Arc::new(record))
    }

    /// Returns whether some expression reads a field of the context.
    pub(super) fn reads(&self, field: &str) -> bool {
        self.reads.contains(field) || self.reads.contains(WHOLE)
    }
}

fn note_unparsed(expression: &Expression, trouble: &CelTrouble, desk: &mut Desk) {
    let (code, advice) = match trouble {
        CelTrouble::Syntax(_) => {
            (FindingCode::CelSyntax, "mind quotes and brackets; texts stand in single quotes")
        }
        CelTrouble::Limit(_) => (
            FindingCode::ExpressionLimit,
            "split it: name parts under `guards`, or assign in steps",
        ),
        CelTrouble::Nesting(_) => {
            (FindingCode::ComprehensionTooDeep, "split the expression over two actions")
        }
        CelTrouble::Undefined(_) => (FindingCode::UndefinedName, ""),
        CelTrouble::Unsupported(_) => (FindingCode::TypeError, ""),
    };
    // The parser goes on to list every token that would have done.
    let message = trouble.to_string();
    let message = message.split(" expecting ").next().unwrap_or_default();
    desk.note(code, &expression.spot, message, advice);
}

/// Returns the schema if it can be for a value of this kind; reports it otherwise.
fn fitting<'w>(
    wanted: Option<&'w Schema>,
    kind: Kind,
    spot: &Spot,
    desk: &mut Desk,
) -> Option<&'w Schema> {
    let wanted = wanted?;
    if wanted.kind() == kind {
        return Some(wanted);
    }
    if wanted.kind() != Kind::Any {
        misfits(spot, &format!("expected {}, found {}", wanted.kind().word(), kind.word()), desk);
    }
    None
}

pub(super) fn misfits(spot: &Spot, why: &str, desk: &mut Desk) {
    desk.note(
        FindingCode::ValueMisfit,
        spot,
        format!("the value does not fit its schema: {why}"),
        "make them agree",
    );
}

/// A text that looks like an expression and is none.
fn note_interpolation(value: &Value, spot: &Spot, desk: &mut Desk) {
    let Value::Text(text) = value else { return };
    if text.contains("${") && text.contains('}') && !text.starts_with("${") {
        let message = "`${…}` inside a longer text is not replaced";
        let advice = "make the whole an expression: `${'text ' + context.name}`";
        desk.note(FindingCode::PartialInterpolation, spot, message, advice);
    }
}

/// Returns what is known of a value that is written out.
pub(super) fn type_of(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Double(_) => Type::Double,
        Value::Text(text) => Type::Text(Some([Box::from(&**text)].into())),
        Value::Moment(_) => Type::Moment,
        Value::Span(_) => Type::Span,
        Value::List(items) => {
            let joined = items.iter().map(type_of).fold(Type::Never, Type::join);
            Type::List(Arc::new(joined), items.len() as u64)
        }
        Value::Map(_) => {
            let fields =
                value.fields().into_iter().map(|(name, field)| (Box::from(name), type_of(field)));
            Type::Record(Arc::new(Record { fields: fields.collect() }))
        }
    }
}
