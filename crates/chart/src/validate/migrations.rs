//! Migrations: every instance of an earlier version finds its place in this one.
//!
//! What can be said of this version alone is always said: that the new states exist and that the new context fits. Whether
//! every state of an earlier version is carried over can only be said with that version in hand.
//!
//! Deliberately absent: instances; a dry run over them is the engine's.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Desk,
    model::{Model, StateNumber},
    reach::reached_from,
    values::Facts,
};
use crate::{
    finding::{FindingCode, nearest},
    source::{Kind, Migration, Source},
    types::{Known, Scope, Type},
};

pub(super) fn check<'s>(
    model: &Model<'s>,
    earlier: &[Source],
    facts: &mut Facts<'s>,
    desk: &mut Desk,
) {
    let own = model.source.version.as_ref().map(|version| version.value);
    let mut seen = BTreeSet::new();
    for migration in &model.source.migrations {
        let from = &migration.from;
        if own.is_some_and(|own| from.value >= own) {
            let message = format!("a migration from {} does not lead to this version", from.value);
            desk.note(FindingCode::WrongShape, &from.spot, message, "name an earlier version");
        }
        if !seen.insert(from.value) {
            let message = format!("a second migration from {}", from.value);
            desk.note(FindingCode::WrongShape, &from.spot, message, "keep one for each version");
        }
        check_states(model, migration, desk);
        let old = earlier.iter().find(|source| {
            source.version.as_ref().is_some_and(|version| version.value == from.value)
        });
        let old_model = old.map(Model::new);
        check_data(migration, facts, old_model.as_ref(), desk);
        if let Some(old) = &old_model {
            check_total(model, old, migration, desk);
        }
    }
}

fn check_states(model: &Model<'_>, migration: &Migration, desk: &mut Desk) {
    let ids: Vec<&str> = model.ids.keys().copied().collect();
    for named in &migration.states {
        let new = &named.value;
        if model.ids.get(new.text.as_str()).is_none_or(|number| *number == 0) {
            let advice = match nearest(&new.text, &ids) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write it as `old: new`".to_owned(),
            };
            desk.note(
                FindingCode::UndefinedState,
                &new.spot,
                format!("there is no state `{}` in this version", new.text),
                advice,
            );
        }
    }
}

/// The new context is made from the old one, of which only its own version knows the types.
fn check_data<'s>(
    migration: &'s Migration,
    facts: &mut Facts<'s>,
    old: Option<&Model<'_>>,
    desk: &mut Desk,
) {
    let mut scope = Scope {
        context: Some(Type::Dyn),
        input: None,
        event: None,
        item: None,
        states: &BTreeSet::new(),
        assigned: BTreeSet::new(),
        known: Known::default(),
    };
    let old_ids: BTreeSet<&str> =
        old.map(|old| old.ids.keys().copied().collect()).unwrap_or_default();
    let ids = facts.ids.clone();
    scope.states = if old.is_some() { &old_ids } else { &ids };
    if let Some(when) = &migration.when {
        facts.expressions.check_guard(when, &scope, desk);
    }
    let wanted = facts.declared.context.clone();
    if let Some(context) = &migration.context {
        facts.expressions.check_template(context, wanted.as_ref(), &scope, desk);
    }
}

fn check_total(model: &Model<'_>, old: &Model<'_>, migration: &Migration, desk: &mut Desk) {
    let said: BTreeMap<&str, &str> =
        migration.states.iter().map(|named| (named.name.as_str(), named.value.as_str())).collect();
    let reached = reached_from(old, &old.start);
    let mut mapped: Vec<(StateNumber, StateNumber)> = Vec::new();
    for leaf in (0..old.states.len()).filter(|state| reached.can_rest(old, *state)) {
        let id = old.id(leaf);
        let new = said.get(id).copied().unwrap_or(id);
        match model.ids.get(new).filter(|number| model.kind(**number) != Kind::History) {
            Some(number) => mapped.push((leaf, *number)),
            None => {
                let message = format!(
                    "instances of version {} that rest in `{id}` have no place here",
                    migration.from.value
                );
                let advice = format!("add `{id}: <new state>` to its `states`");
                desk.note(FindingCode::MigrationNotTotal, &migration.spot, message, advice);
            }
        }
    }
    for (position, (leaf, new)) in mapped.iter().enumerate() {
        for (other, other_new) in mapped.iter().take(position) {
            let were_together = old.are_orthogonal(*leaf, *other);
            let can_be = new == other_new || model.are_orthogonal(*new, *other_new);
            if were_together && !can_be {
                let message = format!(
                    "`{}` and `{}` can be active together in version {}; their new states cannot",
                    old.id(*other),
                    old.id(*leaf),
                    migration.from.value
                );
                let advice = "map them to one state, or into different regions";
                desk.note(FindingCode::MigrationNotTotal, &migration.spot, message, advice);
                return;
            }
        }
    }
}
