//! Reading nodes with their places: the small tools that the parser of the format is made of.
//!
//! Each tool takes a node, gives back a value if the node has the right kind, and otherwise writes a finding and gives back
//! nothing; so the parser goes on and one run reports everything.
//!
//! Deliberately absent: the format's keywords.

use std::collections::BTreeSet;

use super::{Raw, Source, Spot, Text, Whole};
use crate::{
    document::{Content, Node},
    finding::{Finding, FindingCode, Place, join, nearest},
    lost::{LOST_MAX, Lost},
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

/// Findings after which no more are kept: far more than a report shows.
const FINDINGS_MAX: usize = 5_000;

/// Words that the format keeps for later releases.
const RESERVED: [&str; 7] = ["keys", "every", "onFault", "assignee", "due", "form", "minDone"];

/// Collects findings while the tree is read.
#[derive(Default)]
pub(super) struct Reader {
    findings: Vec<Finding>,
    /// What had to be left out.
    lost: Vec<Lost>,
    /// Where a keyword was read as the one that it was taken for.
    taken: BTreeSet<String>,
}

impl Reader {
    /// Begins after a loader that left these parts out.
    pub(super) fn after(lost: &[Lost]) -> Self {
        Self { lost: lost.to_vec(), ..Self::default() }
    }

    pub(super) fn report(
        &mut self,
        code: FindingCode,
        spot: &Spot,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        // A text of nothing but mistakes is not told them all; one more says that there are too many.
        if self.findings.len() < FINDINGS_MAX {
            let finding = Finding::new(code, spot.pointer.as_str(), spot.place, message, advice);
            self.findings.push(finding);
        }
    }

    /// Gives back all findings, and to the source what had to be left out.
    pub(super) fn finish(self, source: Option<&mut Source>) -> Vec<Finding> {
        let Self { mut findings, lost, taken } = self;
        if let Some(source) = source {
            source.lost = lost;
        }
        // A keyword that was taken for another has its finding; that it does not fit the other is none.
        findings.retain(|finding| {
            finding.code != FindingCode::WrongShape || !taken.contains(&finding.pointer)
        });
        findings
    }

    fn lose(&mut self, lost: impl FnOnce() -> Lost) {
        if self.lost.len() < LOST_MAX {
            self.lost.push(lost());
        }
    }

    fn wrong(&mut self, at: &At<'_>, what: &str, wanted: &str) {
        let message = format!("{what} must be {wanted}, not {}", found(at.node));
        self.lose(|| Lost::new(&at.spot.pointer, at.node));
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
        allowed: &[&'static str],
    ) -> Option<Fields<'n>> {
        let fields = self.map(at, what)?;
        let mut written: BTreeSet<&str> = fields.iter().map(|field| field.key).collect();
        let mut known = Vec::with_capacity(fields.len());
        for mut field in fields {
            if allowed.contains(&field.key) {
                known.push(field);
                continue;
            }
            let spot = Spot { pointer: field.value.spot.pointer.clone(), place: field.key_place };
            if RESERVED.contains(&field.key) {
                let message = format!("`{}` is reserved for a later release", field.key);
                self.report(FindingCode::ReservedKeyword, &spot, message, "remove it");
                self.lose(|| Lost::stray(&spot.pointer, field.value.node));
            } else {
                let message = format!("{what} has no keyword `{}`", field.key);
                let is_advised = self.findings.len() < ADVICE_MAX;
                let near = if is_advised { nearest(field.key, allowed) } else { None };
                let meant = near.filter(|near| is_meant(field.key, near));
                let advice = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if is_advised => format!("known here: {}", allowed.join(", ")),
                    None => "see the list of keywords".to_owned(),
                };
                self.report(FindingCode::UnknownKeyword, &spot, message, advice);
                match meant.filter(|meant| !written.contains(meant)) {
                    Some(meant) => {
                        self.taken.insert(spot.pointer);
                        written.insert(meant);
                        field.key = meant;
                        known.push(field);
                    }
                    None => self.lose(|| Lost::stray(&spot.pointer, field.value.node)),
                }
            }
        }
        Some(Fields { spot: at.spot.clone(), fields: known })
    }

    /// Reads an object as `fields` does; what is none has no fields.
    pub(super) fn fields_or_none<'n>(
        &mut self,
        at: &At<'n>,
        what: &str,
        allowed: &[&'static str],
    ) -> Fields<'n> {
        self.fields(at, what, allowed)
            .unwrap_or_else(|| Fields { spot: at.spot.clone(), fields: Vec::new() })
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

/// Names what was found: a number by its value, for its kind may be right.
fn found(node: &Node) -> String {
    match &node.content {
        Content::Integer(number) => number.to_string(),
        Content::Number(number) => number.to_string(),
        Content::Null
        | Content::Bool(_)
        | Content::Text(_)
        | Content::List(_)
        | Content::Object(_) => node.kind().to_owned(),
    }
}

/// Returns whether a near keyword was surely meant, so that the value is read as its value.
///
/// Short words are near to too many others.
fn is_meant(key: &str, near: &str) -> bool {
    const LETTERS_MIN: usize = 4;
    key.len() >= LETTERS_MIN && near.len() >= LETTERS_MIN
}
