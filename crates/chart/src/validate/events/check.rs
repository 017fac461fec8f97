//! What is wrong with events: names that nobody sends, commands that nobody handles, replies that nobody hears.
//!
//! Deliberately absent: the form of names (`event_names.rs`), and payloads (`data.rs`).

use super::{Bits, Events};
use crate::{
    finding::{FindingCode, nearest},
    source::{Act, Text},
    validate::{
        Desk,
        model::{Cause, Model, StateNumber},
        names, walk,
    },
};

impl<'s> Events<'s> {
    pub(in crate::validate) fn check(&self, model: &Model<'s>, desk: &mut Desk) {
        self.check_descriptors(model, desk);
        self.check_commands(model, desk);
        self.check_replies(model, desk);
        self.check_wildcards(model, desk);
    }

    fn check_descriptors(&self, model: &Model<'s>, desk: &mut Desk) {
        let known: Vec<&str> = self.list.iter().map(|event| event.name.as_str()).collect();
        for placed in &model.states {
            let descriptors = placed.source.on.iter().map(|on| &on.name);
            for descriptor in descriptors.chain(&placed.source.postpone) {
                let name = descriptor.as_str();
                let is_wildcard = name == "*" || name.ends_with(".*");
                if is_wildcard || (self.number(name).is_some() && name != "init") {
                    continue;
                }
                let advice = match nearest(name, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if names::is_platform(name) => {
                        "the platform sends no such event here".to_owned()
                    }
                    None => "declare it under `commands` or `signals`, or `raise` it".to_owned(),
                };
                desk.note_name(
                    FindingCode::UndefinedEvent,
                    &descriptor.spot,
                    format!("nobody sends `{name}`"),
                    advice,
                );
            }
        }
    }

    /// Returns the events that some state handles: with a candidate that does not postpone them.
    fn handled(&self, model: &Model<'s>) -> Bits {
        let mut handled = Bits::default();
        for (movement, set) in model.moves.iter().zip(&self.of_move) {
            if matches!(movement.cause, Cause::On(_)) && !movement.of.postpone {
                handled.add(set);
            }
        }
        handled
    }

    fn check_commands(&self, model: &Model<'s>, desk: &mut Desk) {
        let handled = self.handled(model);
        let is_handled =
            |name: &Text| self.number(name.as_str()).is_some_and(|number| handled.has(number));
        for named in &model.source.commands {
            let is_handled = is_handled(&named.name);
            if !is_handled {
                let message = format!("no state handles the command `{}`", named.name.text);
                desk.note_name(
                    FindingCode::CommandUnhandled,
                    &named.name.spot,
                    message,
                    "write it under some `on`, or remove it",
                );
            }
        }
        let signals = model.source.signals.iter().map(|named| &named.name);
        for name in signals {
            let is_handled = is_handled(name);
            if !is_handled {
                let message = format!("no state handles the signal `{}`", name.text);
                desk.note_name(
                    FindingCode::UnusedName,
                    &name.spot,
                    message,
                    "write it under some `on`, or remove it",
                );
            }
        }
        for name in model.source.events.iter().map(|named| &named.name) {
            if !self.number(name.as_str()).is_some_and(|number| self.event(number).origin.is_raised)
            {
                let message = format!("nothing raises `{}`", name.text);
                desk.note_name(
                    FindingCode::UnusedName,
                    &name.spot,
                    message,
                    "`raise` it, or remove it",
                );
            }
        }
    }

    fn check_replies(&self, model: &Model<'s>, desk: &mut Desk) {
        walk::each_of(model, |place, action| {
            let Act::Reply(template) = &action.act else { return };
            let set = self.at(place);
            if !set.iter().any(|number| self.event(number).origin.is_command) {
                let message = "no command can lead to this `reply`";
                desk.note(
                    FindingCode::ReplyWithoutCommand,
                    &template.spot,
                    message,
                    "use `emit`, or move it to where a command is taken",
                );
            }
        });
    }

    /// A wildcard that always wins takes what an outer state has a name for, and commands that nobody thought of.
    fn check_wildcards(&self, model: &Model<'s>, desk: &mut Desk) {
        for (number, placed) in model.states.iter().enumerate() {
            for on in placed
                .source
                .on
                .iter()
                .filter(|on| on.name.text == "*" || on.name.text.ends_with(".*"))
            {
                if !on
                    .value
                    .iter()
                    .any(|transition| transition.guard.is_none() && transition.reject.is_none())
                {
                    continue;
                }
                let hidden = self.hidden_by(model, number, &on.name);
                if !hidden.is_empty() {
                    let shown: Vec<String> =
                        hidden.iter().take(3).map(|name| format!("`{name}`")).collect();
                    let message = format!("`{}` also takes {}", on.name.text, shown.join(", "));
                    let advice =
                        "name the events that are meant, or give these a candidate of their own";
                    desk.note_name(
                        FindingCode::WildcardHidesEvents,
                        &on.name.spot,
                        message,
                        advice,
                    );
                }
            }
        }
    }

    fn hidden_by(&self, model: &Model<'s>, state: StateNumber, wildcard: &Text) -> Vec<&str> {
        let own: Vec<Bits> = model
            .at(state)
            .source
            .on
            .iter()
            .filter(|on| on.name.text.len() > wildcard.text.len())
            .map(|on| self.matching(on.name.as_str()))
            .collect();
        let outer: Vec<Bits> = model
            .upwards(state)
            .skip(1)
            .flat_map(|above| &model.at(above).source.on)
            .filter(|on| on.name.text != "*")
            .map(|on| self.matching(on.name.as_str()))
            .collect();
        let taken = self.matching(wildcard.as_str());
        let is_hidden = |number: &usize| {
            let is_own = own.iter().any(|set| set.has(*number));
            let is_outer = outer.iter().any(|set| set.has(*number));
            !is_own && (is_outer || self.event(*number).origin.is_command)
        };
        taken.iter().filter(is_hidden).map(|number| self.event(number).name.as_str()).collect()
    }
}
