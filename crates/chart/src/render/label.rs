//! What stands beside an arrow and in a state: the same words in both languages, not yet escaped.
//!
//! Deliberately absent: whole expressions; a guard longer than a line is cut.

use crate::{
    source::{Act, Action, Compensate, Guard, State, Transition},
    validate::model::{Cause, Move},
};

/// Longest guard that is shown whole.
const GUARD_LETTERS_MAX: usize = 48;

/// Returns `event [guard] / actions`.
pub(super) fn of_move(movement: &Move<'_>) -> String {
    let event = match &movement.cause {
        Cause::On(descriptor) => (*descriptor).to_owned(),
        Cause::Always => String::new(),
        Cause::After(key) => format!("after {key}"),
        Cause::Idle(key) => format!("idle {key}"),
        Cause::Done => "done".to_owned(),
        Cause::InvokeDone(id) => format!("done {id}"),
        Cause::InvokeError(id) => format!("error {id}"),
    };
    let parts = [event, guard(movement.of.guard.as_ref()), effects(movement.of)];
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn guard(guard: Option<&Guard>) -> String {
    match guard {
        None => String::new(),
        Some(Guard::Ref(name)) => format!("[{}]", name.text),
        Some(Guard::Expression(expression)) => {
            let text: Vec<&str> = expression.text.split_whitespace().collect();
            let text = text.join(" ");
            match text.char_indices().nth(GUARD_LETTERS_MAX) {
                Some((end, _)) => format!("[{}…]", text.get(..end).unwrap_or_default()),
                None => format!("[{text}]"),
            }
        }
    }
}

fn effects(transition: &Transition) -> String {
    let mut words = Vec::new();
    if let Some(reject) = &transition.reject {
        words.push(format!("reject {}", reject.code.text));
    }
    if transition.postpone {
        words.push("postpone".to_owned());
    }
    words.extend(transition.actions.iter().map(action));
    if words.is_empty() { String::new() } else { format!("/ {}", words.join(", ")) }
}

/// Returns the lines inside a state: what it does on the way in and out, its work, what it keeps for later.
pub(super) fn of_state(state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |what: &str, actions: &[Action]| {
        if !actions.is_empty() {
            let words: Vec<String> = actions.iter().map(action).collect();
            lines.push(format!("{what} / {}", words.join(", ")));
        }
    };
    add("entry", &state.entry);
    add("exit", &state.exit);
    for invoke in &state.invokes {
        let undo = match &invoke.compensate {
            Some(Compensate::By(undo)) => format!(" (undo {})", undo.src_said.text),
            Some(Compensate::None(_)) | None => String::new(),
        };
        lines.push(format!("do / {}{undo}", invoke.src_said.text));
    }
    if !state.postpone.is_empty() {
        let names: Vec<&str> = state.postpone.iter().map(|name| name.as_str()).collect();
        lines.push(format!("postpone / {}", names.join(", ")));
    }
    lines
}

fn action(action: &Action) -> String {
    match &action.act {
        Act::Assign(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            format!("assign {}", names.join(" "))
        }
        Act::Unset(names) => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            format!("unset {}", names.join(" "))
        }
        Act::Raise(raise) if raise.delay.is_some() => format!("raise {} later", raise.event.text),
        Act::Raise(raise) => format!("raise {}", raise.event.text),
        Act::Cancel(id) => format!("cancel {}", id.text),
        Act::SendTo { event, .. } => format!("send {}", event.text),
        Act::SendParent(message) => format!("send {} to parent", message.event.text),
        Act::Emit(message) => format!("emit {}", message.event.text),
        Act::Log(_) => "log".to_owned(),
        Act::Reply(_) => "reply".to_owned(),
        Act::Choose(branches) => {
            let inner: Vec<String> =
                branches.iter().flat_map(|branch| &branch.actions).map(self::action).collect();
            format!("maybe ({})", inner.join(", "))
        }
        Act::Do(name) => name.text.clone(),
    }
}
