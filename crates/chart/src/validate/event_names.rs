//! Names of events: well formed, not the platform's, and each of one kind.
//!
//! A command has a sender who waits for an answer, a signal has one who does not, a raised event has none outside. One
//! name for two of them would leave open what a refusal means, so it is refused itself.
//!
//! Deliberately absent: who handles an event (`events.rs`).

use std::collections::BTreeSet;

use super::{
    Desk,
    model::Model,
    names::{RESERVED, is_platform},
    walk,
};
use crate::{
    finding::FindingCode,
    source::{Act, Text},
};

/// What is wrong with a name, and what to do.
type Trouble = (FindingCode, String, String);

pub(super) fn check(model: &Model<'_>, desk: &mut Desk) {
    let source = model.source;
    let commands: BTreeSet<&str> =
        source.commands.iter().map(|named| named.name.as_str()).collect();
    let signals: BTreeSet<&str> = source.signals.iter().map(|named| named.name.as_str()).collect();
    let declared = source.commands.iter().map(|named| &named.name);
    let declared = declared.chain(source.signals.iter().map(|named| &named.name));
    for name in declared.chain(source.events.iter().map(|named| &named.name)) {
        for (code, message, advice) in shape(name).into_iter().chain(platform(name, "declared")) {
            desk.note_name(code, &name.spot, message, advice);
        }
    }
    for name in source.signals.iter().chain(&source.events).map(|named| &named.name) {
        if commands.contains(name.as_str()) {
            let message = format!("`{}` is a command too", name.text);
            desk.note_name(
                FindingCode::EventNameClash,
                &name.spot,
                message,
                "give one of them another name",
            );
        }
    }
    for name in source.events.iter().map(|named| &named.name) {
        if signals.contains(name.as_str()) {
            let message = format!("`{}` is a signal too, whose schema counts", name.text);
            desk.note_name(FindingCode::EventNameClash, &name.spot, message, "declare it once");
        }
    }
    walk::each_of(model, |_, action| check_sent(&action.act, &commands, desk));
}

fn check_sent(act: &Act, commands: &BTreeSet<&str>, desk: &mut Desk) {
    let (name, how) = match act {
        Act::Raise(raise) => (&raise.event, "raised"),
        Act::SendTo { event, .. } => (event, "sent"),
        Act::SendParent(message) => (&message.event, "sent"),
        Act::Emit(message) => (&message.event, "emitted"),
        Act::Assign(_)
        | Act::Unset(_)
        | Act::Cancel(_)
        | Act::Log(_)
        | Act::Reply(_)
        | Act::Choose(_)
        | Act::Do(_) => return,
    };
    let reserved = platform(name, how).filter(|_| how != "emitted");
    for (code, message, advice) in shape(name).into_iter().chain(reserved) {
        desk.note(code, &name.spot, message, advice);
    }
    if how == "raised" && commands.contains(name.as_str()) {
        let message = format!("`{}` is raised and is a command", name.text);
        let advice = "a command has a sender who waits; raise an event of another name";
        desk.note(FindingCode::EventNameClash, &name.spot, message, advice);
    }
}

fn platform(name: &Text, how: &str) -> Option<Trouble> {
    is_platform(&name.text).then(|| {
        let message =
            format!("`{}` is {how}, but its first word belongs to the platform", name.text);
        let advice = format!("names that begin with {} are the platform's", RESERVED.join(", "));
        (FindingCode::PlatformName, message, advice)
    })
}

fn shape(name: &Text) -> Option<Trouble> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let is_word = |word: &str| !word.is_empty() && word.chars().all(is_letter);
    (!name.text.split('.').all(is_word)).then(|| {
        let message = format!("`{}` is no name of an event", name.text);
        let advice = "write words of letters, digits, `_` and `-`, with dots between".to_owned();
        (FindingCode::BadName, message, advice)
    })
}
