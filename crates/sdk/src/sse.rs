//! Server-sent events: bytes in, events out.
//!
//! A pure parser of the parts of the HTML standard's event stream that the API uses: `id`, `event`, `data`, comments,
//! any of the three line ends, a stream cut anywhere. `retry` is ignored: our own backoff decides.
//!
//! Invariant: an event is yielded only when its blank line has come; a cut event is asked for again by its cursor.

/// Largest event that is kept while it is incomplete.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The cursor behind this event; the newest one that the stream named.
    pub id: Option<String>,
    /// The kind; `message` unless told otherwise.
    pub event: String,
    /// The data, lines joined by line feeds.
    pub data: String,
}

/// Turns bytes into events.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    has_carriage_return: bool,
    event: Option<String>,
    data: Option<String>,
    id: Option<String>,
    ready: Vec<SseEvent>,
}

/// An event grew past every bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {EVENT_BYTES_MAX} bytes")]
pub struct TooLarge;

impl Parser {
    /// Takes bytes and returns the events that they complete.
    ///
    /// # Errors
    /// An event is larger than any may be.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        for byte in bytes {
            let follows_return = std::mem::replace(&mut self.has_carriage_return, *byte == b'\r');
            match byte {
                b'\n' if follows_return => (),
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line));
                }
                other => self.line.push(*other),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
                return Err(TooLarge);
            }
        }
        Ok(std::mem::take(&mut self.ready))
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            let event = self.event.take();
            if let Some(data) = self.data.take() {
                let event = event.unwrap_or_else(|| "message".to_owned());
                self.ready.push(SseEvent { id: self.id.clone(), event, data });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.event = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment has an empty field name; unknown fields are ignored by the standard.
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 7\nevent: moved\ndata: {\"a\":\ndata: 1}\n\ndata:x\r\n\r\nevent: lost\n\ndata: cut";

    fn expected() -> Vec<SseEvent> {
        let event = |event: &str, data: &str| SseEvent {
            id: Some("7".into()),
            event: event.into(),
            data: data.into(),
        };
        vec![event("moved", "{\"a\":\n1}"), event("message", "x")]
    }

    #[test]
    fn a_stream_is_read_the_same_wherever_it_is_cut() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| parser.feed(chunk).unwrap())
                .collect();
            assert_eq!(events, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLarge));
    }
}
