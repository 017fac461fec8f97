//! The keywords of a schema that only run time checks: bounds, lengths and patterns.
//!
//! Deliberately absent: checking a value against them (`schema/check.rs`).
//!
//! Invariant: patterns are bounded in number and in compiled size before they are compiled, because compiling is the only
//! thing in reading a schema that costs more than reading.

use regex::{Regex, RegexBuilder};

use super::Reader;
use crate::{
    document::{Content, Object},
    finding::join,
    schema::{Facets, Kind},
};

/// Most patterns in one definition.
const PATTERNS_MAX: usize = 64;
/// Largest compiled pattern.
const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// Most patterns that may fail to compile before the others are left alone: failing is what costs most.
const FAILURES_MAX: usize = 8;

impl Reader<'_> {
    pub(super) fn facets(&mut self, object: &Object, pointer: &str) -> Facets {
        let facets = Facets {
            pattern: self.pattern(object, pointer),
            minimum: self.bound(object, pointer, "minimum"),
            maximum: self.bound(object, pointer, "maximum"),
            length_min: self.count(object, pointer, "minLength"),
            length_max: self.count(object, pointer, "maxLength"),
            items_min: self.count(object, pointer, "minItems"),
            items_max: self.count(object, pointer, "maxItems"),
        };
        let over = |low: Option<f64>, high: Option<f64>| matches!((low, high), (Some(low), Some(high)) if low > high);
        let pairs = [
            ("maximum", over(facets.minimum, facets.maximum)),
            (
                "maxLength",
                facets.length_min.zip(facets.length_max).is_some_and(|(low, high)| low > high),
            ),
            (
                "maxItems",
                facets.items_min.zip(facets.items_max).is_some_and(|(low, high)| low > high),
            ),
        ];
        for (keyword, is_empty) in pairs {
            if let (true, Some(node)) = (is_empty, object.get(keyword)) {
                self.note(
                    node,
                    &join(pointer, keyword),
                    "no value can fit: the bounds cross",
                    "swap the bounds",
                );
            }
        }
        facets
    }

    fn bound(&mut self, object: &Object, pointer: &str, keyword: &str) -> Option<f64> {
        let node = object.get(keyword)?;
        match &node.content {
            // Bounds beyond 2^53 lose their last digits; the check is about sizes, not identities.
            Content::Integer(value) => Some(*value as f64),
            Content::Number(value) => Some(*value),
            Content::Null
            | Content::Bool(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Object(_) => {
                self.note(
                    node,
                    &join(pointer, keyword),
                    format!("`{keyword}` is a number"),
                    "write a number",
                );
                None
            }
        }
    }

    fn count(&mut self, object: &Object, pointer: &str, keyword: &str) -> Option<u64> {
        let node = object.get(keyword)?;
        let count = node.as_integer().and_then(|value| u64::try_from(value).ok());
        if count.is_none() {
            let message = format!("`{keyword}` is a whole number from 0");
            self.note(node, &join(pointer, keyword), message, "write a whole number");
        }
        count
    }

    fn pattern(&mut self, object: &Object, pointer: &str) -> Option<Regex> {
        let node = object.get("pattern")?;
        let spot = join(pointer, "pattern");
        let Some(text) = node.as_text() else {
            self.note(node, &spot, "`pattern` is a regular expression", "write it as a text");
            return None;
        };
        self.schemas.patterns += 1;
        if self.schemas.failures >= FAILURES_MAX {
            return None;
        }
        if self.schemas.patterns > PATTERNS_MAX {
            // Said once; the rest would say the same.
            if self.schemas.patterns == PATTERNS_MAX + 1 {
                let message = format!("more than {PATTERNS_MAX} patterns in one definition");
                self.note(node, &spot, message, "name schemas and refer to them");
            }
            return None;
        }
        match compile_pattern(text) {
            Ok(pattern) => Some(pattern),
            Err(reason) => {
                self.schemas.failures += 1;
                let message = format!("`pattern` does not compile: {reason}");
                self.note(
                    node,
                    &spot,
                    message,
                    "bound the repeats, and write `[0-9]` for `\\d`; back-references and look-around do not exist",
                );
                None
            }
        }
    }

    /// A keyword that cannot apply to its type is a mistake, not a comment.
    pub(super) fn check_applicable(&mut self, object: &Object, pointer: &str, kind: Kind) {
        for entry in object.entries() {
            let wanted: &[Kind] = match &*entry.key {
                "properties" | "required" | "additionalProperties" => &[Kind::Object],
                "items" | "minItems" | "maxItems" => &[Kind::List],
                "pattern" | "minLength" | "maxLength" => &[Kind::Text],
                "minimum" | "maximum" => &[Kind::Integer, Kind::Number],
                _ => continue,
            };
            if !wanted.contains(&kind) {
                let words: Vec<_> = wanted.iter().map(|kind| kind.word()).collect();
                let message = format!(
                    "`{}` has no meaning without `type: {}`",
                    entry.key,
                    words.join("` or `type: ")
                );
                self.note(&entry.node, &join(pointer, &entry.key), message, "say the type");
            }
        }
    }
}

/// Compiles a regular expression within its bounds; says in one line why not.
pub(crate) fn compile_pattern(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).nest_limit(16).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too big".to_owned(),
        // The error type is foreign; its last line names the trouble.
        other => other
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    })
}
