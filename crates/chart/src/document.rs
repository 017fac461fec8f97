//! A definition as a tree of plain values that remember where they stood in the text.
//!
//! Everything that reads a definition (the parser of the format, the schema reader, the validator) walks this tree, so that
//! whatever it finds can be told with line and column. The tree is also the authored document: its canonical JSON is what
//! is stored and what the digest is taken of; key order is kept because the order of states has meaning.
//!
//! Deliberately absent: YAML (see `load.rs`), any knowledge of the format's keywords, and editing.
//!
//! Invariants: keys of one object differ; numbers are 64-bit integers or finite doubles; nesting is at most
//! `DOCUMENT_DEPTH_MAX`, so recursion over the tree is safe.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::{finding::Place, lost::Lost};

/// One value of a definition and the place where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub content: Content,
    /// Where the value begins.
    pub place: Place,
}

/// A value of a definition: JSON's kinds, with integers and doubles told apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction or exponent.
    Integer(i64),
    /// A finite number with fraction or exponent.
    Number(f64),
    /// A text.
    Text(Box<str>),
    /// A list.
    List(Vec<Node>),
    /// An object, its keys in authored order.
    Object(Object),
}

/// One key of an object with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Box<str>,
    /// Where the key begins.
    pub key_place: Place,
    /// The value.
    pub node: Node,
}

/// The entries of an object, in authored order, with different keys.
#[derive(Clone, Debug, Default)]
pub struct Object {
    entries: Vec<Entry>,
    // Only for look-ups; never walked.
    index: HashMap<Box<str>, usize>,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Object {
    /// Appends an entry; gives it back if its key is already here.
    pub fn push(&mut self, entry: Entry) -> Result<(), Entry> {
        if self.index.contains_key(&entry.key) {
            return Err(entry);
        }
        self.index.insert(entry.key.clone(), self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// Returns the entries in authored order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).and_then(|&position| self.entries.get(position))
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Node {
    /// Returns the text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Null
            | Content::Bool(_)
            | Content::Integer(_)
            | Content::Number(_)
            | Content::List(_)
            | Content::Object(_) => None,
        }
    }

    /// Returns the items, if this is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            Content::Null
            | Content::Bool(_)
            | Content::Integer(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::Object(_) => None,
        }
    }

    /// Returns the object, if this is one.
    pub fn as_object(&self) -> Option<&Object> {
        match &self.content {
            Content::Object(object) => Some(object),
            Content::Null
            | Content::Bool(_)
            | Content::Integer(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_) => None,
        }
    }

    /// Returns the boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.content {
            Content::Bool(value) => Some(*value),
            Content::Null
            | Content::Integer(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Object(_) => None,
        }
    }

    /// Returns the integer, if this is one.
    pub fn as_integer(&self) -> Option<i64> {
        match &self.content {
            Content::Integer(value) => Some(*value),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Object(_) => None,
        }
    }

    /// Returns the name of this value's kind, with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Integer(_) => "an integer",
            Content::Number(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Object(_) => "an object",
        }
    }

    /// Returns the value as JSON, keys in authored order.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Integer(value) => Value::from(*value),
            Content::Number(value) => Value::from(*value),
            Content::Text(text) => Value::from(&**text),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Object(object) => {
                let pairs = object.entries().iter();
                Value::Object(
                    pairs
                        .map(|entry| (entry.key.to_string(), entry.node.to_json()))
                        .collect::<Map<_, _>>(),
                )
            }
        }
    }
}

/// A whole definition as authored: the tree, without a meaning yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    root: Node,
    lost: Vec<Lost>,
}

impl Document {
    /// Takes a tree whose invariants the loader has seen to.
    pub(crate) fn new(root: Node, lost: Vec<Lost>) -> Self {
        Self { root, lost }
    }

    /// Returns the parts of the text that are not in the tree, each after a finding of the loader.
    pub(crate) fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Returns the root of the tree.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the value at a JSON pointer.
    pub fn node(&self, pointer: &str) -> Option<&Node> {
        self.walk(pointer).map(|(_, node)| node)
    }

    /// Returns where to look for what a JSON pointer names.
    ///
    /// That is the value if it begins on the line of its key, else the key; for a pointer that leads nowhere it is
    /// the nearest thing above that exists.
    pub fn place(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some((key_place, node)) = self.walk(pointer) {
                return match key_place {
                    Some(key) if key.line != node.place.line => key,
                    Some(_) | None => node.place,
                };
            }
            pointer = pointer.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// Returns where the key that a JSON pointer ends with stands; for a list item, where the item begins.
    pub fn key_place(&self, pointer: &str) -> Place {
        match self.walk(pointer) {
            Some((Some(key_place), _)) => key_place,
            Some((None, _)) | None => self.place(pointer),
        }
    }

    /// Returns the document as JSON, keys in authored order.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// Returns the text that is stored and digested: compact JSON, keys in authored order.
    pub fn canonical(&self) -> String {
        self.to_json().to_string()
    }

    fn walk(&self, pointer: &str) -> Option<(Option<Place>, &Node)> {
        let mut here = (None, &self.root);
        if pointer.is_empty() {
            return Some(here);
        }
        for step in pointer.strip_prefix('/')?.split('/') {
            here = match &here.1.content {
                Content::Object(object) => {
                    let entry = object.entry(&unescape(step))?;
                    (Some(entry.key_place), &entry.node)
                }
                Content::List(items) => (None, items.get(step.parse::<usize>().ok()?)?),
                Content::Null
                | Content::Bool(_)
                | Content::Integer(_)
                | Content::Number(_)
                | Content::Text(_) => return None,
            };
        }
        Some(here)
    }
}

// The other direction of `finding::join`.
fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use crate::load::load;

    #[test]
    fn a_place_is_the_value_on_its_keys_line_and_else_the_key() {
        let document = load("a: 1\nb:\n  c: [x, y]\n\"d/e\": z\n").expect("well formed");
        let at = |pointer: &str| document.place(pointer).to_string();
        assert_eq!(
            [at(""), at("/a"), at("/b"), at("/b/c"), at("/b/c/1"), at("/d~1e")],
            ["1:1", "1:4", "2:1", "3:6", "3:10", "4:8"]
        );
        assert_eq!(document.key_place("/b/c").to_string(), "3:3");
        assert_eq!(at("/b/nothing/here"), "2:1", "the nearest thing above that exists");
    }

    #[test]
    fn the_canonical_text_is_the_same_for_yaml_and_json_and_keeps_key_order() {
        let yaml = load("z: 1\na: {y: 2.5, x: [no, ~]}\n").expect("well formed");
        let json =
            load("{\"z\": 1,\n\t\"a\": {\"y\": 2.5, \"x\": [\"no\", null]}}").expect("well formed");
        assert_eq!(yaml.canonical(), r#"{"z":1,"a":{"y":2.5,"x":["no",null]}}"#);
        assert_eq!(json.canonical(), yaml.canonical());
    }
}
