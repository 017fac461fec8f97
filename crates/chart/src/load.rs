//! Text to tree: YAML 1.2 or JSON into a [`Document`], or every reason why not.
//!
//! A definition is read by people and by many tools, so a text that two YAML readers understand differently is refused
//! rather than guessed: one document, no aliases, no tags, string keys, no key twice. Scalars are typed by the core schema
//! of YAML 1.2: `on`, `off`, `yes` and `no` are texts. JSON is read by the same path, as the flow style of YAML that it is.
//!
//! The validator goes on with what could be read, so that such a text is told everything at once; nobody else gets it.
//!
//! Deliberately absent: the format's keywords, included files, comments (they are not part of the stored document).
//!
//! Invariants: size is checked before a byte is parsed, depth while parsing; nothing here recurses over the input.

mod scalar;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span};

use statehouse_contract::limits::{DEFINITION_BYTES_MAX, DOCUMENT_DEPTH_MAX};

pub use crate::document::{Content, Document, Entry, Node, Object};
use crate::{
    finding::{Finding, FindingCode, Place, join},
    lost::Lost,
};

use scalar::plain;

/// Findings after which reading stops: nobody reads more, and a hostile text could make many.
const FINDINGS_MAX: usize = 100;

/// Parses the bytes of a definition; they must be UTF-8.
pub fn load_bytes(bytes: &[u8]) -> Result<Document, Vec<Finding>> {
    whole(read_bytes(bytes))
}

/// Parses the text of a definition.
pub fn load(text: &str) -> Result<Document, Vec<Finding>> {
    whole(read(text))
}

/// A text with findings is no document for anybody but the validator.
fn whole((document, findings): (Option<Document>, Vec<Finding>)) -> Result<Document, Vec<Finding>> {
    document.filter(|_| findings.is_empty()).ok_or(findings)
}

/// Parses the bytes of a definition as far as that can be done.
///
/// What two readers may read differently is left out of the document, after a finding: of a repeated key the first one
/// counts, an alias is null, a tag is ignored, what stands under a key that is no text is skipped.
pub(crate) fn read_bytes(bytes: &[u8]) -> (Option<Document>, Vec<Finding>) {
    if let Err(findings) = check_size(bytes.len()) {
        return (None, findings);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => read(text),
        Err(error) => {
            let good =
                bytes.get(..error.valid_up_to()).and_then(|part| std::str::from_utf8(part).ok());
            let place = end_of(good.unwrap_or_default());
            (None, vec![malformed(place, "the text is not UTF-8", "save the file as UTF-8")])
        }
    }
}

fn read(text: &str) -> (Option<Document>, Vec<Finding>) {
    if let Err(findings) = check_size(text.len()) {
        return (None, findings);
    }
    let options = granit_parser::options! {
        emit_anchor_events: false,
        emit_unresolved_aliases: true,
        emit_comments: false,
        simple_key_max_lookahead: DEFINITION_BYTES_MAX,
        flow_nesting_limit: DOCUMENT_DEPTH_MAX,
        block_nesting_limit: DOCUMENT_DEPTH_MAX,
    };
    let mut builder = Builder { text, ..Builder::default() };
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => builder.take(event, &span),
            Err(error) => {
                builder.fail(&error);
                break;
            }
        }
        if builder.is_full() {
            break;
        }
    }
    builder.finish()
}

fn check_size(bytes: usize) -> Result<(), Vec<Finding>> {
    if bytes <= DEFINITION_BYTES_MAX {
        return Ok(());
    }
    Err(vec![Finding::new(
        FindingCode::DocumentTooLarge,
        "",
        Place::START,
        format!("the definition has {bytes} bytes; definition_bytes_max is {DEFINITION_BYTES_MAX}"),
        "move parts into child workflows, or data out of the definition",
    )])
}

/// A list or an object that is still open.
enum Frame {
    List { items: Vec<Node>, place: Place },
    Object { object: Object, key: Option<Key>, place: Place },
}

/// A key that waits for its value.
struct Key {
    text: Box<str>,
    place: Place,
    // Whether it is no key of ours, so that what stands under it is left out.
    is_refused: bool,
}

#[derive(Default)]
struct Builder<'t> {
    text: &'t str,
    frames: Vec<Frame>,
    root: Option<Node>,
    documents: u32,
    // Set once what follows can no longer be read sensibly.
    stopped: bool,
    findings: Vec<Finding>,
    lost: Vec<Lost>,
}

impl Builder<'_> {
    fn is_full(&self) -> bool {
        self.stopped || self.findings.len() >= FINDINGS_MAX
    }

    fn take(&mut self, event: Event<'_>, span: &Span) {
        let place = place_of(&span.start);
        match event {
            Event::DocumentStart(..) => self.start_document(place),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.note_alias(place, "an alias");
                self.complete(Node { content: Content::Null, place }, place);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_properties(anchor, tag.is_some(), place);
                self.scalar(&text, style, place);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_properties(anchor, tag.is_some(), place);
                self.open(Frame::List { items: Vec::new(), place }, place);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_properties(anchor, tag.is_some(), place);
                self.open(Frame::Object { object: Object::default(), key: None, place }, place);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            // The event type is foreign and may grow: the rest carries no values.
            _ => {}
        }
    }

    fn start_document(&mut self, place: Place) {
        self.documents += 1;
        if self.documents > 1 {
            self.note(
                FindingCode::SeveralDocuments,
                String::new(),
                place,
                "a second document begins here",
                "keep one definition in one file; remove the `---`",
            );
            self.stopped = true;
        }
    }

    fn check_properties(&mut self, anchor: usize, tagged: bool, place: Place) {
        if anchor != 0 {
            self.note_alias(place, "an anchor");
        }
        if tagged {
            let pointer = self.pointer();
            self.note(
                FindingCode::Tag,
                pointer,
                place,
                "a tag changes the type of this value",
                "remove the tag; quote the value if it must be a text",
            );
        }
    }

    fn note_alias(&mut self, place: Place, what: &str) {
        let pointer = self.pointer();
        self.note(
            FindingCode::Alias,
            pointer,
            place,
            format!("{what} is not allowed in a definition"),
            "write the value out, or name it under `schemas`, `guards`, `actions` or `delays`",
        );
    }

    fn open(&mut self, frame: Frame, place: Place) {
        if self.frames.len() >= DOCUMENT_DEPTH_MAX {
            let pointer = self.pointer();
            self.note_depth(pointer, place);
            return;
        }
        self.frames.push(frame);
    }

    fn note_depth(&mut self, pointer: String, place: Place) {
        self.stopped = true;
        self.note(
            FindingCode::NestingTooDeep,
            pointer,
            place,
            format!(
                "lists and objects are nested deeper than document_depth_max, {DOCUMENT_DEPTH_MAX}"
            ),
            "nest less",
        );
    }

    fn close(&mut self) {
        match self.frames.pop() {
            Some(Frame::List { items, place }) => {
                self.complete(Node { content: Content::List(items), place }, place);
            }
            Some(Frame::Object { object, place, .. }) => {
                self.complete(Node { content: Content::Object(object), place }, place);
            }
            None => {}
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, place: Place) {
        let is_key = matches!(self.frames.last(), Some(Frame::Object { key: None, .. }));
        let content =
            if style == ScalarStyle::Plain { plain(text) } else { Ok(Content::Text(text.into())) };
        match content {
            Ok(Content::Text(_)) if is_key => {
                let is_merge = text == "<<" && style == ScalarStyle::Plain;
                if is_merge {
                    self.note_alias(place, "a merge key");
                }
                self.set_key(Key { text: text.into(), place, is_refused: is_merge });
            }
            Ok(_) | Err(_) if is_key => {
                self.note_key(text, place);
                self.set_key(Key { text: text.into(), place, is_refused: true });
            }
            Ok(content) => self.complete(Node { content, place }, place),
            Err(reason) => {
                let pointer = self.pointer();
                self.note(
                    FindingCode::NumberOutOfRange,
                    pointer,
                    place,
                    format!("`{}` {reason}", shortened(text)),
                    "quote it if it is a text",
                );
                self.complete(Node { content: Content::Null, place }, place);
            }
        }
    }

    fn set_key(&mut self, read: Key) {
        if let Some(Frame::Object { key, .. }) = self.frames.last_mut() {
            *key = Some(read);
        }
    }

    fn note_key(&mut self, text: &str, place: Place) {
        let advice = match text {
            "true" | "True" | "TRUE" => {
                "an old YAML 1.1 tool reads the key `on` as true and has probably rewritten this file: write `on`"
            }
            "false" | "False" | "FALSE" => {
                "an old YAML 1.1 tool reads the keys `off` and `no` as false and has probably rewritten this file"
            }
            _ => "quote the key; a delay needs a unit, as in `30s`",
        };
        let pointer = join(&self.pointer(), text);
        let message = format!("the key `{}` is not a text", shortened(text));
        self.note(FindingCode::NonStringKey, pointer, place, message, advice);
    }

    /// Puts a whole value where it belongs: into the open list, under the waiting key, or at the root.
    fn complete(&mut self, node: Node, place: Place) {
        let (entry, is_repeated) = match self.frames.last_mut() {
            None => {
                self.root.get_or_insert(node);
                return;
            }
            Some(Frame::List { items, .. }) => {
                items.push(node);
                return;
            }
            Some(Frame::Object { object, key, .. }) => match key.take() {
                Some(Key { text: key, place: key_place, is_refused }) => {
                    let entry = Entry { key, key_place, node };
                    if is_refused { (Some(entry), false) } else { (object.push(entry).err(), true) }
                }
                None => {
                    // A list or an object (or an alias) where a key should be: its value goes under a name of ours.
                    *key = Some(Key { text: "?".into(), place, is_refused: true });
                    let pointer = self.pointer_above();
                    self.note(
                        FindingCode::NonStringKey,
                        pointer,
                        place,
                        "a key must be a text",
                        "a template such as `${…}` must be quoted",
                    );
                    return;
                }
            },
        };
        let Some(Entry { key, key_place, node }) = entry else { return };
        let pointer = join(&self.pointer(), &key);
        self.lost.push(Lost::new(&pointer, &node));
        if is_repeated {
            self.note(
                FindingCode::DuplicateKey,
                pointer,
                key_place,
                format!("the key `{}` stands twice in this object", shortened(&key)),
                "remove one, or join the two",
            );
        }
    }

    fn fail(&mut self, error: &ScanError) {
        let place = place_of(error.marker());
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            let pointer = self.pointer();
            self.note_depth(pointer, place);
            return;
        }
        self.stopped = true;
        let advice = match error.kind() {
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart => "indent with spaces; YAML forbids tabs there",
            _ if self.line(place).contains("${") => "quote a template: `\"${context.name}\"`",
            // The error type is foreign and large.
            _ => {
                "mind indentation, closing brackets and quotes; `definition check` reads YAML 1.2 and JSON"
            }
        };
        let pointer = self.pointer();
        let text = error.info();
        self.note(
            FindingCode::Malformed,
            pointer,
            place,
            format!("not YAML or JSON: {text}"),
            advice,
        );
    }

    fn line(&self, place: Place) -> &str {
        let above = usize::try_from(place.line.saturating_sub(1)).unwrap_or_default();
        self.text.lines().nth(above).unwrap_or_default()
    }

    fn finish(mut self) -> (Option<Document>, Vec<Finding>) {
        let root = self.root.take();
        if root.is_none() && self.findings.is_empty() {
            self.findings.push(malformed(
                Place::START,
                "the document is empty",
                "a definition has at least `format`, `id`, `initial` and `states`",
            ));
        }
        crate::finding::sort(&mut self.findings);
        let lost = std::mem::take(&mut self.lost);
        (root.map(|root| Document::new(root, lost)), self.findings)
    }

    fn note(
        &mut self,
        code: FindingCode,
        pointer: String,
        place: Place,
        message: impl Into<String>,
        advice: &str,
    ) {
        self.findings.push(Finding::new(code, pointer, place, message, advice));
    }

    /// The place in the tree that is being read.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for frame in &self.frames {
            match frame {
                Frame::List { items, .. } => pointer = join(&pointer, &items.len().to_string()),
                Frame::Object { key: Some(key), .. } => pointer = join(&pointer, &key.text),
                Frame::Object { key: None, .. } => {}
            }
        }
        pointer
    }

    fn pointer_above(&self) -> String {
        let pointer = self.pointer();
        pointer.rsplit_once('/').map_or_else(String::new, |(above, _)| above.to_owned())
    }
}

fn malformed(place: Place, message: &str, advice: &str) -> Finding {
    Finding::new(FindingCode::Malformed, "", place, message, advice)
}

fn place_of(marker: &Marker) -> Place {
    let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Place { line: count(marker.line()).max(1), column: count(marker.col()).saturating_add(1) }
}

fn end_of(text: &str) -> Place {
    let line = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    place_of(&Marker::new(0, line, column - 1))
}

// A message quotes what it is about, but not 200 KiB of it.
fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
