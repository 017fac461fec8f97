//! Reading a definition: from the document tree to [`Source`].
//!
//! Total: every document gives a list of findings, and every document whose root is an object gives a source, however much
//! is wrong with it. What could not be read is, after a finding, taken as the keyword that was surely meant, or replaced by
//! something harmless, or left out and remembered as lost, so that the checks that follow miss nothing a second time.
//!
//! Deliberately absent: the requirement of `format` and `version` (the validator's: a conformance case has neither).

use super::{
    Command, Migration, Named, Signal, Source, Start, TaskType,
    reader::{At, Field, Reader},
};
use crate::{
    document::Document,
    finding::{Finding, FindingCode, sort},
};

/// The one format that this build reads.
pub const FORMAT: &str = "statehouse/1";

/// Keywords that stand at the top only.
pub(super) const ROOT_ONLY: [&str; 14] = [
    "format",
    "version",
    "schemas",
    "commands",
    "signals",
    "events",
    "tasks",
    "start",
    "retries",
    "guards",
    "actions",
    "limits",
    "migrations",
    "slo",
];

/// Names under `limits`.
pub const LIMITS: [&str; 8] =
    ["microsteps", "raised", "postponed", "queue", "timers", "tasks", "context", "event"];

/// Returns whether a keyword belongs to the definition and not to its root state.
pub(crate) fn is_root_only(keyword: &str) -> bool {
    ROOT_ONLY.contains(&keyword)
}

impl Source {
    /// Reads a document and reports everything that is wrong with its shape.
    ///
    /// Nothing is given back only where the document is no object at all. Findings are sorted by place.
    #[must_use]
    pub fn parse(document: &Document) -> (Option<Self>, Vec<Finding>) {
        let mut reader = Reader::after(document.lost());
        let mut source = reader.source(document);
        let mut findings = reader.finish(source.as_mut());
        sort(&mut findings);
        (source, findings)
    }
}

impl Reader {
    fn source(&mut self, document: &Document) -> Option<Source> {
        let at = At::root(document.root());
        let (mut root, fields) = self.root_state(&at)?;
        let own_id = root.id().to_owned();
        for invoke in root.invokes.iter_mut().filter(|invoke| invoke.id.text.is_empty()) {
            invoke.id.text.clone_from(&own_id);
        }
        if root.id.is_none() && fields.iter().all(|field| field.key != "id") {
            self.missing(&at.spot, "a definition", "id");
        }
        let mut source = Source {
            document: document.clone(),
            format: None,
            version: None,
            schemas: Vec::new(),
            commands: Vec::new(),
            signals: Vec::new(),
            events: Vec::new(),
            tasks: Vec::new(),
            start: None,
            delays: Vec::new(),
            retries: Vec::new(),
            guards: Vec::new(),
            actions: Vec::new(),
            limits: Vec::new(),
            context: None,
            migrations: Vec::new(),
            root,
            lost: Vec::new(),
        };
        for field in &fields {
            self.definition_keyword(&mut source, field);
        }
        Some(source)
    }

    fn definition_keyword(&mut self, source: &mut Source, field: &Field<'_>) {
        let at = &field.value;
        match field.key {
            "format" => {
                source.format = self.text(at, "`format`");
                if let Some(format) = source.format.clone().filter(|format| format.text != FORMAT) {
                    let message = format!("the format `{}` is unknown", format.text);
                    self.report(
                        FindingCode::WrongShape,
                        &at.spot,
                        message,
                        format!("write `{FORMAT}`"),
                    );
                }
            }
            "version" => source.version = self.whole(at, "`version`", 1),
            "schemas" => {
                source.schemas = self.named(at, "`schemas`", |_, field| Some(field.value.raw()))
            }
            "commands" => source.commands = self.named(at, "`commands`", Self::command),
            "signals" => source.signals = self.named(at, "`signals`", Self::signal),
            "events" => source.events = self.named(at, "`events`", Self::signal),
            "tasks" => source.tasks = self.named(at, "`tasks`", Self::task),
            "start" => source.start = self.start(at),
            "delays" => {
                source.delays = self.named(at, "`delays`", |reader, field| {
                    Some(reader.delay(&field.value, "the delay"))
                });
            }
            "retries" => {
                source.retries =
                    self.named(at, "`retries`", |reader, field| Some(reader.retry(&field.value)))
            }
            "guards" => {
                let expression = |reader: &mut Self, field: &Field<'_>| {
                    Some(reader.expression_or_opaque(&field.value, "a guard"))
                };
                source.guards = self.named(at, "`guards`", expression);
            }
            "actions" => {
                source.actions =
                    self.named(at, "`actions`", |reader, field| Some(reader.actions(&field.value)));
            }
            "limits" => source.limits = self.limits(at),
            "context" => {
                let is_object = self.map(at, "`context`").is_some();
                source.context = is_object.then(|| self.template(at));
            }
            "migrations" => {
                let items = self.list(at, "`migrations`");
                source.migrations = items.iter().filter_map(|item| self.migration(item)).collect();
            }
            // `slo` is judged elsewhere; all others belong to the root state.
            _ => {}
        }
    }

    fn named<T>(
        &mut self,
        at: &At<'_>,
        what: &str,
        mut read: impl FnMut(&mut Self, &Field<'_>) -> Option<T>,
    ) -> Vec<Named<T>> {
        let fields = self.map(at, what).unwrap_or_default();
        let named =
            |field: &Field<'_>| Some(Named { name: field.name(), value: read(self, field)? });
        fields.iter().filter_map(named).collect()
    }

    // A declaration that cannot be read still declares its name.
    fn command(&mut self, field: &Field<'_>) -> Option<Command> {
        let allowed = ["schema", "reply", "role", "deadline", "description"];
        let fields = self.fields_or_none(&field.value, "a command", &allowed);
        Some(Command {
            spot: field.value.spot.clone(),
            schema: fields.get("schema").map(|schema| schema.raw()),
            reply: fields.get("reply").map(|reply| reply.raw()),
            role: fields.get("role").and_then(|role| self.text(&role, "`role`")),
            deadline: fields.get("deadline").map(|deadline| self.delay(&deadline, "`deadline`")),
        })
    }

    fn signal(&mut self, field: &Field<'_>) -> Option<Signal> {
        let fields = self.fields_or_none(&field.value, "an event", &["schema", "description"]);
        Some(Signal {
            spot: field.value.spot.clone(),
            schema: fields.get("schema").map(|schema| schema.raw()),
        })
    }

    fn task(&mut self, field: &Field<'_>) -> Option<TaskType> {
        let allowed = ["input", "output", "errors", "queue", "description"];
        let fields = self.fields_or_none(&field.value, "a task", &allowed);
        Some(TaskType {
            spot: field.value.spot.clone(),
            input: fields.get("input").map(|input| input.raw()),
            output: fields.get("output").map(|output| output.raw()),
            errors: fields
                .get("errors")
                .map(|errors| self.texts(&errors, "`errors`"))
                .unwrap_or_default(),
            queue: fields.get("queue").and_then(|queue| self.text(&queue, "`queue`")),
        })
    }

    fn start(&mut self, at: &At<'_>) -> Option<Start> {
        let fields = self.fields(at, "`start`", &["role", "schema", "description"])?;
        Some(Start {
            spot: at.spot.clone(),
            role: fields.get("role").and_then(|role| self.text(&role, "`role`")),
            schema: fields.get("schema").map(|schema| schema.raw()),
        })
    }

    fn limits(&mut self, at: &At<'_>) -> Vec<Named<super::Whole>> {
        let Some(fields) = self.fields(at, "`limits`", &LIMITS) else { return Vec::new() };
        let named = |field: &Field<'_>| {
            let value = self.whole(&field.value, &format!("`{}`", field.key), 1)?;
            Some(Named { name: field.name(), value })
        };
        fields.fields.iter().filter_map(named).collect()
    }

    fn migration(&mut self, at: &At<'_>) -> Option<Migration> {
        let fields = self.fields(at, "a migration", &["from", "states", "context", "when"])?;
        let Some(from) = fields.get("from") else {
            self.missing(&at.spot, "a migration", "from");
            return None;
        };
        let from = self.whole(&from, "`from`", 1)?;
        let states = fields.get("states").map(|states| {
            self.named(&states, "`states`", |reader, field| {
                reader.text(&field.value, "a state's id")
            })
        });
        Some(Migration {
            spot: at.spot.clone(),
            from,
            states: states.unwrap_or_default(),
            context: fields.get("context").map(|context| self.template(&context)),
            when: fields.get("when").and_then(|when| self.expression(&when, "`when`")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load;

    fn findings(text: &str) -> Vec<String> {
        let document = load(text).unwrap();
        Source::parse(&document).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_troubles_of_shape_are_reported_at_once_with_their_places() {
        let found = findings(
            "id: a\ncommand: {}\nstates:\n  one:\n    on: {go: {targt: two}}\n    keys: [x]\n  two: {after: {10x: one}}\n",
        );
        assert_eq!(
            found,
            [
                "2:1 error unknown-keyword /command: a definition has no keyword `command`; did you mean `commands`?",
                "5:15 error unknown-keyword /states/one/on/go/targt: a transition has no keyword `targt`; did you mean `target`?",
                "6:5 error reserved-keyword /states/one/keys: `keys` is reserved for a later release; remove it",
                "7:17 error bad-duration /states/two/after/10x: the delay `10x` is no duration; write a number and one of ms, s, m, h, d, such as `15m`, or the name of one of `delays`",
            ]
        );
    }

    #[test]
    fn extensions_are_allowed_everywhere_but_stay_in_data() {
        assert_eq!(
            findings(
                "id: a\nx-note: 1\ncontext: {x-a: 1}\nstates: {one: {x-b: {}, on: {go: {x-c: 1}}}}"
            ),
            Vec::<String>::new()
        );
    }
}
