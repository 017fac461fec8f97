//! Reading nodes with their places: the small tools that the parser of the format is made of.
//!
//! Each tool takes a node, gives back a value if the node has the right kind, and otherwise writes a finding and gives back
//! nothing; so the parser goes on and one run reports everything.
//!
//! Deliberately absent: the format's keywords.

use super::{Raw, Spot, Text, Whole};
use crate::{
    document::{Content, Node},
    finding::{Finding, FindingCode, Place, join, nearest},
};

/// A node and where it stands.
#[derive(Clone)]
pub(super) struct At<'n> {
    pub(super) node: &'n Node,
    pub(super) spot: Spot,
}

impl<'n> At<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { node, spot: Spot { pointer: String::new(), place: node.place } }
    }

    /// Returns the items of a list; a lone value is a list of one.
    pub(super) fn one_or_many(&self) -> Vec<At<'n>> {
        match self.node.as_list() {
            Some(items) => self.items(items),
            None => vec![self.clone()],
        }
    }

    pub(super) fn items(&self, items: &'n [Node]) -> Vec<At<'n>> {
        let at = |(index, node): (usize, &'n Node)| At {
            node,
            spot: Spot { pointer: join(&self.spot.pointer, &index.to_string()), place: node.place },
        };
        items.iter().enumerate().map(at).collect()
    }

    pub(super) fn raw(&self) -> Raw {
        Raw { node: self.node.clone(), spot: self.spot.clone() }
    }
}

/// One entry of an object.
pub(super) struct Field<'n> {
    pub(super) key: &'n str,
    pub(super) key_place: Place,
    pub(super) value: At<'n>,
}

impl Field<'_> {
    /// Returns the key as a text that stands where the value does.
    pub(super) fn name(&self) -> Text {
        Text { text: self.key.to_owned(), spot: self.value.spot.clone() }
    }
}

/// The entries of an object whose keywords were checked.
pub(super) struct Fields<'n> {
    pub(super) spot: Spot,
    pub(super) fields: Vec<Field<'n>>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, keyword: &str) -> Option<At<'n>> {
        self.fields.iter().find(|field| field.key == keyword).map(|field| field.value.clone())
    }

    pub(super) fn keywords(&self) -> Vec<Text> {
        self.fields.iter().map(Field::name).collect()
    }
}

/// Findings after which no advice is looked for: nobody reads more, and looking costs most.
const ADVICE_MAX: usize = 500;

/// Words that the format keeps for later releases.
const RESERVED: [&str; 7] = ["keys", "every", "onFault", "assignee", "due", "form", "minDone"];

/// Collects findings while the tree is read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Finding>,
}

impl Reader {
    pub(super) fn report(
        &mut self,
        code: FindingCode,
        spot: &Spot,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.findings.push(Finding::new(code, spot.pointer.as_str(), spot.place, message, advice));
    }

    fn wrong(&mut self, at: &At<'_>, what: &str, wanted: &str) {
        let message = format!("{what} must be {wanted}, not {}", at.node.kind());
        self.report(FindingCode::WrongShape, &at.spot, message, format!("write {wanted}"));
    }

    /// Reads an object with any keys.
    pub(super) fn map<'n>(&mut self, at: &At<'n>, what: &str) -> Option<Vec<Field<'n>>> {
        let Some(object) = at.node.as_object() else {
            self.wrong(at, what, "an object");
            return None;
        };
        let field = |entry: &'n crate::document::Entry| {
            let same_line = entry.key_place.line == entry.node.place.line;
            let place = if same_line { entry.node.place } else { entry.key_place };
            let spot = Spot { pointer: join(&at.spot.pointer, &entry.key), place };
            Field {
                key: &entry.key,
                key_place: entry.key_place,
                value: At { node: &entry.node, spot },
            }
        };
        Some(
            object
                .entries()
                .iter()
                .filter(|entry| !entry.key.starts_with("x-"))
                .map(field)
                .collect(),
        )
    }

    /// Reads an object whose keywords are a closed list.
    pub(super) fn fields<'n>(
        &mut self,
        at: &At<'n>,
        what: &str,
        allowed: &[&str],
    ) -> Option<Fields<'n>> {
        let fields = self.map(at, what)?;
        let mut known = Vec::with_capacity(fields.len());
        for field in fields {
            if allowed.contains(&field.key) {
                known.push(field);
                continue;
            }
            let spot = Spot { pointer: field.value.spot.pointer, place: field.key_place };
            if RESERVED.contains(&field.key) {
                let message = format!("`{}` is reserved for a later release", field.key);
                self.report(FindingCode::ReservedKeyword, &spot, message, "remove it");
            } else {
                let message = format!("{what} has no keyword `{}`", field.key);
                self.report(
                    FindingCode::UnknownKeyword,
                    &spot,
                    message,
                    if self.findings.len() < ADVICE_MAX {
                        advice_for(field.key, allowed)
                    } else {
                        String::new()
                    },
                );
            }
        }
        Some(Fields { spot: at.spot.clone(), fields: known })
    }

    pub(super) fn missing(&mut self, spot: &Spot, what: &str, keyword: &str) {
        let message = format!("{what} needs `{keyword}`");
        self.report(FindingCode::MissingKeyword, spot, message, format!("add `{keyword}`"));
    }

    pub(super) fn text(&mut self, at: &At<'_>, what: &str) -> Option<Text> {
        match at.node.as_text() {
            Some(text) => Some(Text { text: text.to_owned(), spot: at.spot.clone() }),
            None => {
                self.wrong(at, what, "a text");
                None
            }
        }
    }

    pub(super) fn list<'n>(&mut self, at: &At<'n>, what: &str) -> Vec<At<'n>> {
        match at.node.as_list() {
            Some(items) => at.items(items),
            None => {
                self.wrong(at, what, "a list");
                Vec::new()
            }
        }
    }

    pub(super) fn texts(&mut self, at: &At<'_>, what: &str) -> Vec<Text> {
        self.list(at, what).iter().filter_map(|item| self.text(item, what)).collect()
    }

    pub(super) fn truth(&mut self, at: &At<'_>, what: &str) -> bool {
        at.node.as_bool().unwrap_or_else(|| {
            self.wrong(at, what, "true or false");
            false
        })
    }

    pub(super) fn whole(&mut self, at: &At<'_>, what: &str, least: u64) -> Option<Whole> {
        let number = at.node.as_integer().and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| *number >= least) {
            Some(value) => Some(Whole { value, spot: at.spot.clone() }),
            None => {
                self.wrong(at, what, &format!("an integer of at least {least}"));
                None
            }
        }
    }

    pub(super) fn factor(&mut self, at: &At<'_>, what: &str) -> Option<f64> {
        let number = match &at.node.content {
            Content::Integer(number) => Some(*number as f64),
            Content::Number(number) => Some(*number),
            Content::Null
            | Content::Bool(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Object(_) => None,
        };
        let fits = number.filter(|number| (1.0..=1_000.0).contains(number));
        if fits.is_none() {
            self.wrong(at, what, "a number from 1 to 1000");
        }
        fits
    }

    /// Checks a state key or an id.
    pub(super) fn name(&mut self, text: &str, spot: &Spot, what: &str) {
        let mut letters = text.chars();
        let starts_well =
            letters.next().is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
        let goes_on =
            letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
        if !(starts_well && goes_on) {
            let advice = "start with a letter or `_`, go on with letters, digits, `_` and `-`";
            self.report(FindingCode::BadName, spot, format!("{what} `{text}` is no name"), advice);
        }
    }
}

/// Returns the advice for an unknown keyword: the nearest known one, or all.
fn advice_for(found: &str, allowed: &[&str]) -> String {
    match nearest(found, allowed) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("known here: {}", allowed.join(", ")),
    }
}
