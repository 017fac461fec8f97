//! Reading actions, guards, templates and delays.
//!
//! Deliberately absent: CEL. An expression is a text here; whether it parses is found out by the validator and the compiler.

use super::{
    Act, Action, Branch, Delay, Expression, Guard, Length, Message, Named, Raise, Shape, Template,
    reader::{At, Reader},
};
use crate::{document::Content, duration, finding::FindingCode, value::Value};

/// Stands for a delay that could not be read: long enough for no rule about short ones.
const UNREAD_MS: u64 = 3_600_000;

const ACTIONS: [&str; 11] = [
    "assign",
    "unset",
    "raise",
    "cancel",
    "sendTo",
    "sendParent",
    "emit",
    "log",
    "reply",
    "choose",
    "do",
];

impl Reader {
    /// Reads a list of actions; a lone action is a list of one.
    pub(super) fn actions(&mut self, at: &At<'_>) -> Vec<Action> {
        at.one_or_many().iter().filter_map(|item| self.action(item)).collect()
    }

    fn action(&mut self, at: &At<'_>) -> Option<Action> {
        let fields = self.fields(at, "an action", &ACTIONS)?;
        let [field] = fields.fields.as_slice() else {
            if fields.fields.len() > 1
                || at.node.as_object().is_some_and(crate::document::Object::is_empty)
            {
                let message =
                    format!("an action has exactly one keyword, not {}", fields.fields.len());
                self.report(
                    FindingCode::WrongShape,
                    &at.spot,
                    message,
                    "write one object for each action",
                );
            }
            return None;
        };
        let act = self.act(field.key, &field.value)?;
        Some(Action { spot: at.spot.clone(), act })
    }

    fn act(&mut self, keyword: &str, at: &At<'_>) -> Option<Act> {
        Some(match keyword {
            "assign" => Act::Assign(self.templates(at, "`assign`")?),
            "unset" => Act::Unset(self.texts(at, "`unset`")),
            "raise" => Act::Raise(self.raise(at)?),
            "cancel" => Act::Cancel(self.text(at, "`cancel`")?),
            "sendTo" => self.send_to(at)?,
            "sendParent" => Act::SendParent(self.message(at, "`sendParent`")?),
            "emit" => Act::Emit(self.message(at, "`emit`")?),
            "log" => Act::Log(self.template(at)),
            "reply" => Act::Reply(self.template(at)),
            "choose" => Act::Choose(
                self.list(at, "`choose`").iter().filter_map(|item| self.branch(item)).collect(),
            ),
            _ => Act::Do(self.text(at, "`do`")?),
        })
    }

    fn raise(&mut self, at: &At<'_>) -> Option<Raise> {
        let fields = self.fields(at, "`raise`", &["event", "data", "delay", "id"])?;
        let Some(event) = fields.get("event") else {
            self.missing(&at.spot, "`raise`", "event");
            return None;
        };
        let id = fields.get("id").and_then(|id| self.text(&id, "`id`"));
        if let Some(id) = &id {
            self.name(&id.text, &id.spot, "the timer id");
        }
        Some(Raise {
            event: self.text(&event, "`event`")?,
            data: fields.get("data").map(|data| self.template(&data)),
            delay: fields.get("delay").map(|delay| self.delay(&delay, "`delay`")),
            id,
        })
    }

    fn message(&mut self, at: &At<'_>, what: &str) -> Option<Message> {
        let fields = self.fields(at, what, &["event", "data"])?;
        let Some(event) = fields.get("event") else {
            self.missing(&at.spot, what, "event");
            return None;
        };
        Some(Message {
            event: self.text(&event, "`event`")?,
            data: fields.get("data").map(|data| self.template(&data)),
        })
    }

    fn send_to(&mut self, at: &At<'_>) -> Option<Act> {
        let fields = self.fields(at, "`sendTo`", &["workflow", "event", "data"])?;
        let (Some(workflow), Some(event)) = (fields.get("workflow"), fields.get("event")) else {
            for keyword in
                ["workflow", "event"].into_iter().filter(|keyword| fields.get(keyword).is_none())
            {
                self.missing(&at.spot, "`sendTo`", keyword);
            }
            return None;
        };
        Some(Act::SendTo {
            workflow: self.template(&workflow),
            event: self.text(&event, "`event`")?,
            data: fields.get("data").map(|data| self.template(&data)),
        })
    }

    fn branch(&mut self, at: &At<'_>) -> Option<Branch> {
        let fields =
            self.fields(at, "a branch of `choose`", &["guard", "actions", "description"])?;
        Some(Branch {
            spot: at.spot.clone(),
            guard: fields.get("guard").map(|guard| self.guard(&guard)),
            actions: fields
                .get("actions")
                .map(|actions| self.actions(&actions))
                .unwrap_or_default(),
        })
    }

    /// Reads a guard: CEL, a truth value, or `{ref: name}`.
    ///
    /// One that cannot be read is still there: the transition must not pass for one without.
    pub(super) fn guard(&mut self, at: &At<'_>) -> Guard {
        self.guard_said(at).unwrap_or_else(|| Guard::Expression(Expression::opaque(&at.spot)))
    }

    fn guard_said(&mut self, at: &At<'_>) -> Option<Guard> {
        match &at.node.content {
            Content::Object(_) => {
                let fields = self.fields(at, "a guard", &["ref"])?;
                let Some(name) = fields.get("ref") else {
                    self.missing(&at.spot, "a guard", "ref");
                    return None;
                };
                self.text(&name, "`ref`").map(Guard::Ref)
            }
            Content::Bool(truth) => Some(Guard::Expression(Expression {
                text: truth.to_string(),
                spot: at.spot.clone(),
            })),
            Content::Null
            | Content::Integer(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_) => {
                let text = self.text(at, "a guard")?;
                Some(Guard::Expression(Expression { text: text.text, spot: text.spot }))
            }
        }
    }

    /// Reads CEL that stands by itself.
    pub(super) fn expression(&mut self, at: &At<'_>, what: &str) -> Option<Expression> {
        self.text(at, what).map(|text| Expression { text: text.text, spot: text.spot })
    }

    /// Reads CEL that has a name, which is declared even where the CEL is none.
    pub(super) fn expression_or_opaque(&mut self, at: &At<'_>, what: &str) -> Expression {
        self.expression(at, what).unwrap_or_else(|| Expression::opaque(&at.spot))
    }

    /// Reads an object of templates.
    pub(super) fn templates(&mut self, at: &At<'_>, what: &str) -> Option<Vec<Named<Template>>> {
        let fields = self.map(at, what)?;
        Some(
            fields
                .iter()
                .map(|field| Named { name: field.name(), value: self.template(&field.value) })
                .collect(),
        )
    }

    /// Reads a template. Every JSON value is one.
    pub(super) fn template(&mut self, at: &At<'_>) -> Template {
        let shape = match &at.node.content {
            Content::Null => Shape::Constant(Value::Null),
            Content::Bool(truth) => Shape::Constant(Value::Bool(*truth)),
            Content::Integer(number) => Shape::Constant(Value::Int(*number)),
            Content::Number(number) => Shape::Constant(Value::Double(*number)),
            Content::Text(text) => text_shape(text, at),
            Content::List(items) => {
                Shape::List(at.items(items).iter().map(|item| self.template(item)).collect())
            }
            Content::Object(object) => {
                // Not `map`: in data a key that starts with `x-` is a key like any other.
                let named = |entry: &crate::document::Entry| {
                    let spot = super::Spot {
                        pointer: crate::finding::join(&at.spot.pointer, &entry.key),
                        place: entry.node.place,
                    };
                    let name = super::Text { text: entry.key.to_string(), spot: spot.clone() };
                    Named { name, value: self.template(&At { node: &entry.node, spot }) }
                };
                Shape::Object(object.entries().iter().map(named).collect())
            }
        };
        Template { spot: at.spot.clone(), shape }
    }

    /// Reads a delay: a duration, the name of one of `delays`, or a template.
    ///
    /// One that cannot be read is still a delay, so that its transitions are judged and nobody is told to add one.
    pub(super) fn delay(&mut self, at: &At<'_>, what: &str) -> Delay {
        match self.text(at, what) {
            Some(text) => self.delay_text(&text.text, at, what),
            None => Delay { spot: at.spot.clone(), length: Length::Fixed(UNREAD_MS) },
        }
    }

    pub(super) fn delay_text(&mut self, text: &str, at: &At<'_>, what: &str) -> Delay {
        let length = if let Some(ms) = duration::parse_ms(text) {
            Length::Fixed(ms)
        } else if let Some(cel) = whole_expression(text) {
            Length::Expression(Expression { text: cel.to_owned(), spot: at.spot.clone() })
        } else if text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
            Length::Ref(text.to_owned())
        } else {
            let message = format!("{what} `{text}` is no duration");
            let advice = "write a number and one of ms, s, m, h, d, such as `15m`, or the name of one of `delays`";
            self.report(FindingCode::BadDuration, &at.spot, message, advice);
            Length::Fixed(UNREAD_MS)
        };
        Delay { spot: at.spot.clone(), length }
    }

    /// Reads a duration that must be known without evaluating anything.
    pub(super) fn fixed_ms(&mut self, at: &At<'_>, what: &str) -> Option<u64> {
        let text = self.text(at, what)?;
        let ms = duration::parse_ms(&text.text);
        if ms.is_none() {
            let message = format!("{what} `{}` is no duration", text.text);
            self.report(
                FindingCode::BadDuration,
                &at.spot,
                message,
                "write a number and one of ms, s, m, h, d",
            );
        }
        ms
    }
}

impl Expression {
    /// Makes an expression for one that could not be read: a boolean of which nobody knows the value.
    pub(super) fn opaque(spot: &super::Spot) -> Self {
        Self { text: "now == now".to_owned(), spot: spot.clone() }
    }
}

fn text_shape(text: &str, at: &At<'_>) -> Shape {
    if let Some(cel) = whole_expression(text) {
        return Shape::Expression(Expression { text: cel.to_owned(), spot: at.spot.clone() });
    }
    let plain = if text.starts_with("$${") { &text[1..] } else { text };
    Shape::Constant(Value::text(plain))
}

/// Returns the CEL of a text that is wholly `${cel}`.
fn whole_expression(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}')
}
