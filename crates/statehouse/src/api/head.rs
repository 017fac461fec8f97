//! The headers of a request, read once and into types.
//!
//! Each header that Statehouse knows may come once and has to be valid; garbage is answered with 400 and
//! the header's name, whatever bytes it holds. The two trace headers are the exception that their
//! specification asks for: when they are not valid, there is no trace.
//!
//! Absent on purpose: the credential. It is read in `auth.rs` and goes nowhere else.

use axum::http::{HeaderMap, HeaderName, header};

use statehouse_contract::{
    CorrelationId, IdError, KeyText, Rejection, TraceContext, Version, limits,
};

use super::problem::invalid;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const TRACE: HeaderName = HeaderName::from_static("x-statehouse-trace");
pub(super) const DEADLINE: HeaderName = HeaderName::from_static("x-statehouse-deadline-ms");
pub(super) const POSTPONE: HeaderName = HeaderName::from_static("x-statehouse-postpone-ms");
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Longest opaque cursor that a client may send back.
const CURSOR_BYTES_MAX: usize = 4_096;

/// What the headers of a request say.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// The name under which the command may be repeated.
    pub(super) key: Option<KeyText>,
    /// The version at which it wants to be judged.
    pub(super) expected: Option<Version>,
    /// The conversation.
    pub(super) correlation: Option<CorrelationId>,
    /// The trace; empty when there is none.
    pub(super) trace: TraceContext,
    /// Whether the caller asks for a trace.
    pub(super) wants_trace: bool,
    /// How long the caller waits; the default when it does not say.
    pub(super) deadline_ms: u64,
    /// How long a command may stay postponed.
    pub(super) postpone_ms: Option<u64>,
    /// Where a watch goes on.
    pub(super) last_event: Option<Box<str>>,
}

impl Head {
    /// Reads the headers. What was valid is there even when something was not, so that the answer can
    /// carry the correlation id.
    pub(super) fn read(headers: &HeaderMap) -> (Self, Result<(), Rejection>) {
        let mut head = Self { deadline_ms: limits::DEADLINE_MS_DEFAULT, ..Self::default() };
        let result = head.fill(headers);
        (head, result)
    }

    fn fill(&mut self, headers: &HeaderMap) -> Result<(), Rejection> {
        self.correlation = read(headers, &CORRELATION, "X-Correlation-Id", CorrelationId::parse)?;
        self.trace = trace(headers);
        self.wants_trace =
            one(headers, &TRACE, "X-Statehouse-Trace")?.is_some_and(|text| text == "1");
        self.key = read(headers, &IDEMPOTENCY_KEY, "Idempotency-Key", KeyText::parse)?;
        self.expected = match one(headers, &header::IF_MATCH, "If-Match")? {
            // "Any version": nothing to compare.
            None | Some("*") => None,
            Some(text) => Some(Version::parse(text).map_err(named("If-Match"))?),
        };
        let deadline = one(headers, &DEADLINE, "X-Statehouse-Deadline-Ms")?;
        if let Some(text) = deadline {
            self.deadline_ms =
                milliseconds("X-Statehouse-Deadline-Ms", text, limits::DEADLINE_MS_MAX)?;
        }
        self.postpone_ms = one(headers, &POSTPONE, "X-Statehouse-Postpone-Ms")?
            .map(|text| milliseconds("X-Statehouse-Postpone-Ms", text, limits::POSTPONE_MS_MAX))
            .transpose()?;
        self.last_event = one(headers, &LAST_EVENT, "Last-Event-ID")?
            .map(|text| cursor("header Last-Event-ID", text))
            .transpose()?;
        Ok(())
    }
}

/// Checks an opaque position that a client sends back.
pub(super) fn cursor(what: &str, text: &str) -> Result<Box<str>, Rejection> {
    let is_ours = !text.is_empty()
        && text.len() <= CURSOR_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_ours {
        Ok(text.into())
    } else {
        Err(invalid(format!(
            "{what} is not a position that Statehouse gave out: 1 to {CURSOR_BYTES_MAX} visible ASCII characters"
        )))
    }
}

fn named(name: &'static str) -> impl Fn(IdError) -> Rejection {
    move |error| invalid(format!("header {name}: {error}"))
}

fn one<'h>(
    headers: &'h HeaderMap,
    header: &HeaderName,
    name: &'static str,
) -> Result<Option<&'h str>, Rejection> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(format!("header {name} comes more than once")));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            Err(invalid(format!("header {name} is not UTF-8 from byte {} on", error.valid_up_to())))
        }
    }
}

fn read<T>(
    headers: &HeaderMap,
    header: &HeaderName,
    name: &'static str,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<Option<T>, Rejection> {
    one(headers, header, name)?.map(|text| parse(text).map_err(named(name))).transpose()
}

fn milliseconds(name: &'static str, text: &str, max: u64) -> Result<u64, Rejection> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(ms) if is_number && (1..=max).contains(&ms) => Ok(ms),
        Ok(_) | Err(_) => {
            Err(invalid(format!("header {name} is not a number of milliseconds from 1 to {max}")))
        }
    }
}

fn trace(headers: &HeaderMap) -> TraceContext {
    let text = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        if values.next().is_some() { None } else { first.to_str().ok() }
    };
    let Some(parent) = text(&TRACEPARENT) else { return TraceContext::default() };
    TraceContext::parse(parent, text(&TRACESTATE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn said(name: &'static str, value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        match Head::read(&headers).1 {
            Ok(()) => "fine".to_owned(),
            Err(rejection) => rejection.to_string(),
        }
    }

    #[test]
    fn each_wrong_header_is_named() {
        let table = [
            ("idempotency-key", &b"a b"[..]),
            ("idempotency-key", b""),
            ("idempotency-key", b"\xff"),
            ("x-correlation-id", b"\xc3\xa9"),
            ("if-match", b"3"),
            ("if-match", b"W/\"1.2\""),
            ("x-statehouse-deadline-ms", b"0"),
            ("x-statehouse-deadline-ms", b"60001"),
            ("x-statehouse-deadline-ms", b"+5"),
            ("x-statehouse-deadline-ms", b"1e3"),
            ("x-statehouse-postpone-ms", b"99999999999999999999999"),
            ("last-event-id", b"a b"),
        ];
        let text: String = table.map(|(name, value)| said(name, value) + "\n").concat();
        expect_test::expect![[r#"
            invalid_request: header Idempotency-Key: idempotency key has ' ' at byte 1; allowed are visible ASCII characters
            invalid_request: header Idempotency-Key: idempotency key is empty
            invalid_request: header Idempotency-Key is not UTF-8 from byte 0 on
            invalid_request: header X-Correlation-Id: correlation id has 'é' at byte 0; allowed are visible ASCII characters
            invalid_request: header If-Match: version "3" is not of the form "<born>.<version>", as ETag gives it
            invalid_request: header If-Match: version "W/\"1.2\"" is not of the form "<born>.<version>", as ETag gives it
            invalid_request: header X-Statehouse-Deadline-Ms is not a number of milliseconds from 1 to 60000
            invalid_request: header X-Statehouse-Deadline-Ms is not a number of milliseconds from 1 to 60000
            invalid_request: header X-Statehouse-Deadline-Ms is not a number of milliseconds from 1 to 60000
            invalid_request: header X-Statehouse-Deadline-Ms is not a number of milliseconds from 1 to 60000
            invalid_request: header X-Statehouse-Postpone-Ms is not a number of milliseconds from 1 to 2592000000
            invalid_request: header Last-Event-ID is not a position that Statehouse gave out: 1 to 4096 visible ASCII characters
        "#]].assert_eq(&text);
    }

    #[test]
    fn good_headers_are_read() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("idempotency-key", "k-1"),
            ("x-correlation-id", "c-1"),
            ("if-match", "\"17.3\""),
            ("x-statehouse-deadline-ms", "250"),
            ("x-statehouse-postpone-ms", "1"),
            ("last-event-id", "v1:abc"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "a=b"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let (head, result) = Head::read(&headers);
        assert_eq!(result, Ok(()));
        assert_eq!(head.key.unwrap().as_str(), "k-1");
        assert_eq!(head.expected, Some(Version { born: 17, version: 3 }));
        assert_eq!((head.deadline_ms, head.postpone_ms), (250, Some(1)));
        assert_eq!(head.trace.state.as_deref(), Some("a=b"));
        assert_eq!(head.last_event.as_deref(), Some("v1:abc"));
    }

    #[test]
    fn a_trace_that_is_not_valid_is_no_trace() {
        for (name, value) in
            [("traceparent", &b"nonsense"[..]), ("traceparent", b"\xff"), ("tracestate", b"a=b")]
        {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            let (head, result) = Head::read(&headers);
            assert_eq!((result, head.trace), (Ok(()), TraceContext::default()));
        }
    }

    #[test]
    fn a_header_comes_at_most_once() {
        let mut headers = HeaderMap::new();
        headers.append("idempotency-key", HeaderValue::from_static("a"));
        headers.append("idempotency-key", HeaderValue::from_static("b"));
        let said = Head::read(&headers).1.unwrap_err().to_string();
        assert_eq!(said, "invalid_request: header Idempotency-Key comes more than once");
    }
}
