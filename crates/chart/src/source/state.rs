//! Reading states and transitions.
//!
//! Deliberately absent: rules that join two keywords (a final state with children, a `reject` with a target); the validator
//! has them all in one place.

use super::{
    Depth, Expression, Failure, Guard, Initial, Kind, Named, Reject, State, Text, Timeout,
    Transition,
    parse::ROOT_ONLY,
    reader::{At, Field, Fields, Reader},
};
use crate::finding::{FindingCode, nearest};

const STATE: [&str; 24] = [
    "id",
    "type",
    "initial",
    "states",
    "on",
    "after",
    "idle",
    "always",
    "entry",
    "exit",
    "invoke",
    "onDone",
    "onError",
    "postpone",
    "history",
    "target",
    "tags",
    "meta",
    "output",
    "error",
    "endless",
    "description",
    "context",
    "delays",
];
/// Keywords of a state that stand in the list above only to be refused with better words below the root.
const NOT_BELOW: [&str; 3] = ["context", "delays", "onError"];

const TRANSITION: [&str; 8] =
    ["target", "guard", "actions", "reenter", "reject", "postpone", "description", "meta"];

impl Reader {
    /// Reads the root: the same keywords as any state, and those of the definition.
    pub(super) fn root_state<'n>(&mut self, at: &At<'n>) -> Option<(State, Vec<Field<'n>>)> {
        let allowed: Vec<&'static str> = STATE
            .iter()
            .chain(&ROOT_ONLY)
            .copied()
            .filter(|keyword| !["history", "target", "onError"].contains(keyword))
            .collect();
        let fields = self.fields(at, "a definition", &allowed)?;
        let id = fields.get("id").and_then(|id| self.text(&id, "`id`"));
        if let Some(id) = &id {
            self.name(&id.text, &id.spot, "the definition's id");
        }
        let key = id.as_ref().map(|id| id.text.clone()).unwrap_or_default();
        let mut state = self.state_body(&fields, key);
        state.id = id;
        Some((state, fields.fields))
    }

    fn state(&mut self, field: &Field<'_>) -> State {
        let spot =
            super::Spot { pointer: field.value.spot.pointer.clone(), place: field.key_place };
        self.name(field.key, &spot, "the state");
        let Some(fields) = self.fields(&field.value, "a state", &STATE) else {
            return State::empty(field.value.spot.clone(), field.key.to_owned());
        };
        for misplaced in fields.fields.iter().filter(|inner| NOT_BELOW.contains(&inner.key)) {
            let message = format!("`{}` does not stand here", misplaced.key);
            let advice = match misplaced.key {
                "onError" => "write it in the `invoke` whose error it takes",
                _ => "write it at the top of the definition",
            };
            let spot = super::Spot {
                pointer: misplaced.value.spot.pointer.clone(),
                place: misplaced.key_place,
            };
            self.report(FindingCode::UnknownKeyword, &spot, message, advice);
        }
        let mut state = self.state_body(&fields, field.key.to_owned());
        state.id = fields.get("id").and_then(|id| self.text(&id, "`id`"));
        if let Some(id) = &state.id {
            self.name(&id.text, &id.spot, "the id");
        }
        // Invokes without an id take that of their state.
        let own_id = state.id().to_owned();
        for invoke in state.invokes.iter_mut().filter(|invoke| invoke.id.text.is_empty()) {
            invoke.id.text.clone_from(&own_id);
        }
        state
    }

    fn state_body(&mut self, fields: &Fields<'_>, key: String) -> State {
        let mut state = State::empty(fields.spot.clone(), key);
        state.keywords = fields.keywords();
        for field in &fields.fields {
            self.state_keyword(&mut state, field);
        }
        let by_children = if state.states.is_empty() { Kind::Atomic } else { Kind::Compound };
        state.kind = match state.kind_said.as_ref().map(Text::as_str) {
            Some("parallel") => Kind::Parallel,
            Some("final") => Kind::Final,
            Some("history") => Kind::History,
            Some("atomic" | "compound") | None => by_children,
            Some(other) => {
                let said = state.kind_said.clone().expect("matched above");
                let meant = match nearest(other, &["parallel", "final", "history"]) {
                    Some("parallel") => Kind::Parallel,
                    Some("final") => Kind::Final,
                    Some("history") => Kind::History,
                    Some(_) | None => by_children,
                };
                let advice = "write `parallel`, `final` or `history`, or leave it out";
                self.report(
                    FindingCode::WrongShape,
                    &said.spot,
                    format!("no type `{}`", said.text),
                    advice,
                );
                meant
            }
        };
        state
    }

    fn state_keyword(&mut self, state: &mut State, field: &Field<'_>) {
        let at = &field.value;
        match field.key {
            "type" => state.kind_said = self.text(at, "`type`"),
            "initial" => state.initial = self.initial(at),
            "states" => {
                let children = self.map(at, "`states`").unwrap_or_default();
                state.states = children.iter().map(|child| self.state(child)).collect();
            }
            "on" => {
                let events = self.map(at, "`on`").unwrap_or_default();
                let named = |reader: &mut Self, event: &Field<'_>| Named {
                    name: event.name(),
                    value: reader.transitions(&event.value),
                };
                state.on = events.iter().map(|event| named(self, event)).collect();
            }
            "after" => state.after = self.timeouts(at, "`after`"),
            "idle" => state.idle = self.timeouts(at, "`idle`"),
            "always" => state.always = self.transitions(at),
            "onDone" => state.on_done = self.transitions(at),
            "entry" => state.entry = self.actions(at),
            "exit" => state.exit = self.actions(at),
            "invoke" => {
                state.invokes =
                    at.one_or_many().iter().filter_map(|item| self.invoke(item)).collect()
            }
            "postpone" => state.postpone = self.texts(at, "`postpone`"),
            "history" => state.history = self.depth(at).map(|depth| (depth, at.spot.clone())),
            "target" => state.default = self.targets(at),
            "tags" => state.tags = self.texts(at, "`tags`"),
            "output" => state.output = Some(self.template(at)),
            "error" => state.error = self.failure(at),
            "endless" => state.endless = self.truth(at, "`endless`"),
            "description" => state.description = self.text(at, "`description`"),
            // `meta` is the author's own; the keywords of the definition are read by `parse`.
            _ => {}
        }
    }

    fn initial(&mut self, at: &At<'_>) -> Option<Initial> {
        if at.node.as_object().is_none() {
            return Some(Initial {
                spot: at.spot.clone(),
                targets: self.targets(at),
                actions: Vec::new(),
            });
        }
        let fields = self.fields(at, "`initial`", &["target", "actions"])?;
        let Some(target) = fields.get("target") else {
            self.missing(&at.spot, "`initial`", "target");
            return None;
        };
        Some(Initial {
            spot: at.spot.clone(),
            targets: self.targets(&target),
            actions: fields
                .get("actions")
                .map(|actions| self.actions(&actions))
                .unwrap_or_default(),
        })
    }

    fn depth(&mut self, at: &At<'_>) -> Option<Depth> {
        let text = self.text(at, "`history`")?;
        match text.text.as_str() {
            "shallow" => Some(Depth::Shallow),
            "deep" => Some(Depth::Deep),
            other => {
                let message = format!("no history `{other}`");
                self.report(
                    FindingCode::WrongShape,
                    &at.spot,
                    message,
                    "write `shallow` or `deep`",
                );
                None
            }
        }
    }

    fn failure(&mut self, at: &At<'_>) -> Option<Failure> {
        let fields = self.fields(at, "`error`", &["code", "message"])?;
        let code = fields.get("code");
        if code.is_none() {
            self.missing(&at.spot, "`error`", "code");
        }
        Some(Failure {
            spot: at.spot.clone(),
            code: self.template(&code.unwrap_or_else(|| at.clone())),
            message: fields.get("message").map(|message| self.template(&message)),
        })
    }

    fn timeouts(&mut self, at: &At<'_>, what: &str) -> Vec<Timeout> {
        let fields = self.map(at, what).unwrap_or_default();
        let timeout = |reader: &mut Self, field: &Field<'_>| {
            let spot =
                super::Spot { pointer: field.value.spot.pointer.clone(), place: field.key_place };
            let key = At { node: field.value.node, spot };
            let delay = reader.delay_text(field.key, &key, "the delay");
            Some(Timeout {
                key: super::Text { text: field.key.to_owned(), spot: key.spot },
                delay,
                transitions: reader.transitions(&field.value),
            })
        };
        fields.iter().filter_map(|field| timeout(self, field)).collect()
    }

    pub(super) fn targets(&mut self, at: &At<'_>) -> Vec<Text> {
        at.one_or_many().iter().filter_map(|item| self.text(item, "a target")).collect()
    }

    /// Reads transitions: a target, an object, or a list of both.
    pub(super) fn transitions(&mut self, at: &At<'_>) -> Vec<Transition> {
        at.one_or_many().iter().filter_map(|item| self.transition(item)).collect()
    }

    fn transition(&mut self, at: &At<'_>) -> Option<Transition> {
        if at.node.as_text().is_some() {
            let mut transition = Transition::empty(at.spot.clone());
            transition.targets = self.targets(at);
            return Some(transition);
        }
        let fields = self.fields(at, "a transition", &TRANSITION)?;
        let mut transition = Transition::empty(at.spot.clone());
        transition.keywords = fields.keywords();
        transition.targets =
            fields.get("target").map(|target| self.targets(&target)).unwrap_or_default();
        transition.guard = fields.get("guard").map(|guard| self.guard(&guard));
        transition.actions =
            fields.get("actions").map(|actions| self.actions(&actions)).unwrap_or_default();
        transition.reenter =
            fields.get("reenter").is_some_and(|reenter| self.truth(&reenter, "`reenter`"));
        transition.postpone =
            fields.get("postpone").is_some_and(|postpone| self.truth(&postpone, "`postpone`"));
        transition.reject = fields.get("reject").and_then(|reject| self.reject(&reject));
        let target = fields.get("target").filter(|_| transition.targets.is_empty());
        if let Some(target) =
            target.filter(|target| target.node.as_list().is_none_or(|items| !items.is_empty()))
        {
            // It moves, nobody knows where to: it must not pass for one that stays and always wins.
            transition.reenter = false;
            transition
                .guard
                .get_or_insert_with(|| Guard::Expression(Expression::opaque(&target.spot)));
        }
        Some(transition)
    }

    fn reject(&mut self, at: &At<'_>) -> Option<Reject> {
        let fields = self.fields(at, "`reject`", &["code", "message"])?;
        let Some(code) = fields.get("code") else {
            self.missing(&at.spot, "`reject`", "code");
            return None;
        };
        let code = self.text(&code, "`code`");
        Some(Reject {
            spot: at.spot.clone(),
            code: code
                .unwrap_or_else(|| Text { text: "refused".to_owned(), spot: at.spot.clone() }),
            message: fields.get("message").and_then(|message| self.text(&message, "`message`")),
        })
    }
}

impl State {
    fn empty(spot: super::Spot, key: String) -> Self {
        Self {
            spot,
            key,
            id: None,
            kind: Kind::Atomic,
            kind_said: None,
            history: None,
            default: Vec::new(),
            initial: None,
            entry: Vec::new(),
            exit: Vec::new(),
            on: Vec::new(),
            always: Vec::new(),
            after: Vec::new(),
            idle: Vec::new(),
            on_done: Vec::new(),
            invokes: Vec::new(),
            postpone: Vec::new(),
            tags: Vec::new(),
            output: None,
            error: None,
            endless: false,
            description: None,
            states: Vec::new(),
            keywords: Vec::new(),
        }
    }
}

impl Transition {
    fn empty(spot: super::Spot) -> Self {
        Self {
            spot,
            targets: Vec::new(),
            guard: None,
            actions: Vec::new(),
            reenter: false,
            reject: None,
            postpone: false,
            keywords: Vec::new(),
        }
    }
}
