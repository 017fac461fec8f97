//! Parts of a definition that were written and could not be read.
//!
//! Loader and parser go on after a trouble, and what they had to leave out must not be missed a second time: a state whose
//! only arrow stands in an unreadable part is not unreachable. So they keep, of each such part, where it stood and which
//! words stood in it; `validate/gaps.rs` asks.
//!
//! Deliberately absent: the parts themselves. Nothing is guessed from them.
//!
//! Invariant: what is kept is bounded by the size of the text and by `LOST_MAX`.

use crate::document::{Content, Node};

/// Most parts that are remembered; with more, nothing is said to be missing anywhere.
pub(crate) const LOST_MAX: usize = 1_000;

/// A part that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Where it stood, as a JSON pointer.
    pub(crate) pointer: String,
    /// Every name in it, and the last one of its pointer.
    pub(crate) words: Vec<String>,
    /// Whether its keyword exists nowhere, so that nobody knows what it would have been.
    pub(crate) is_stray: bool,
}

impl Lost {
    pub(crate) fn new(pointer: &str, node: &Node) -> Self {
        let mut words: Vec<String> = pointer.rsplit('/').take(1).map(str::to_owned).collect();
        collect(node, &mut words);
        Self { pointer: pointer.to_owned(), words, is_stray: false }
    }

    pub(crate) fn stray(pointer: &str, node: &Node) -> Self {
        Self { is_stray: true, ..Self::new(pointer, node) }
    }
}

// A tree of a document is of bounded depth, so this may recurse.
fn collect(node: &Node, words: &mut Vec<String>) {
    match &node.content {
        Content::Text(text) => add(text, words),
        Content::List(items) => items.iter().for_each(|item| collect(item, words)),
        Content::Object(object) => {
            for entry in object.entries() {
                add(&entry.key, words);
                collect(&entry.node, words);
            }
        }
        Content::Null | Content::Bool(_) | Content::Integer(_) | Content::Number(_) => {}
    }
}

fn add(text: &str, words: &mut Vec<String>) {
    words.push(text.to_owned());
    // A target is a path, an expression names several things.
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    let parts = text.split(|letter| !is_letter(letter));
    words.extend(parts.filter(|part| !part.is_empty() && *part != text).map(str::to_owned));
}
