//! A "no" as the client reads it: problem+json (RFC 9457) with our members.
//!
//! Reading never fails. A body that is no problem document (a proxy's page, an empty 502) still becomes a problem with
//! its status, because what a client does next depends on the status, not on the prose.

use serde_json::Value;
use statehouse_contract::{Advice, RejectionCode};

use crate::response::Response;

/// A rejection as the API tells it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The stable code; none when this client does not know it.
    pub code: Option<RejectionCode>,
    /// The code as it was written; empty where the body named none.
    pub code_text: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence in words.
    pub detail: String,
    /// Whether the same request, with the same key, may succeed later.
    pub retryable: bool,
    /// After how many milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The version at which it was judged.
    pub version: Option<u64>,
    /// The author's own code.
    pub reason: Option<String>,
    /// Whether the instance itself said so, rather than the way to it.
    pub is_from_instance: bool,
    /// The whole answer.
    pub response: Response,
}

impl Problem {
    /// Reads the problem that an answer carries.
    pub fn read(response: Response) -> Self {
        let body = response.json();
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let code_text = text("code").unwrap_or_default();
        let code = RejectionCode::parse(&code_text);
        let advised = code.map(|code| code.advice().is_retryable());
        let told = body.get("retryable").and_then(Value::as_bool);
        let by_status = matches!(response.status, 408 | 429 | 502 | 503 | 504);
        let header_ms = || response.header("retry-after")?.parse::<u64>().ok()?.checked_mul(1000);
        let source = response
            .header("x-statehouse-error-source")
            .map(str::to_owned)
            .or_else(|| text("source"));
        Self {
            code,
            code_text,
            status: response.status,
            detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| by_head(&response)),
            retryable: told.or(advised).unwrap_or(by_status),
            retry_after_ms: body.get("retry_after_ms").and_then(Value::as_u64).or_else(header_ms),
            version: body.get("version").and_then(Value::as_u64),
            reason: text("reason"),
            is_from_instance: source.as_deref() == Some("instance"),
            response,
        }
    }

    /// Returns what the code advises; none when this client does not know the code.
    pub fn advice(&self) -> Option<Advice> {
        self.code.map(RejectionCode::advice)
    }

    /// Tells whether the outcome is unknown: it may still take effect.
    ///
    /// What carries no code of ours comes from something between us and the node, which may have passed the request on.
    pub fn is_unknown(&self) -> bool {
        self.code == Some(RejectionCode::DeadlineExceeded)
            || (self.code.is_none() && (self.status == 408 || self.status >= 500))
    }

    /// Tells whether this request certainly did nothing, without a judgement on the instance's state.
    pub fn is_failure(&self) -> bool {
        !self.is_unknown() && (self.status == 429 || self.status >= 500)
    }
}

/// Says what the head of an answer says that is no document of ours.
fn by_head(response: &Response) -> String {
    match (response.status, response.header("location")) {
        (300..=399, Some(place)) => format!(
            "HTTP status {}: the server sends elsewhere, to {place}; nothing is sent there by itself, name it as the server",
            response.status
        ),
        (status, _) => format!("HTTP status {status}"),
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.code_text.is_empty() { "error" } else { &self.code_text };
        f.write_str(name)?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, ": {}", self.detail)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn problem(status: u16, body: &'static str) -> Problem {
        Problem::read(Response {
            status,
            headers: vec![("retry-after".to_owned(), "2".to_owned())],
            bytes: body.into(),
            server: String::new(),
            key: None,
            attempts: 1,
        })
    }

    #[test]
    fn a_problem_document_is_read() {
        let read = problem(
            412,
            r#"{"code":"version_conflict","detail":"moved on","version":7,"source":"instance"}"#,
        );
        assert_eq!(read.code, Some(RejectionCode::VersionConflict));
        assert_eq!((read.version, read.retryable, read.is_from_instance), (Some(7), false, true));
        assert_eq!(read.to_string(), "version_conflict: moved on");
    }

    #[test]
    fn a_body_that_is_no_problem_document_is_judged_by_its_status() {
        let read = problem(502, "<html>bad gateway</html>");
        assert!(read.retryable && read.is_unknown() && !read.is_failure());
        assert_eq!(read.retry_after_ms, Some(2000));
        assert_eq!(read.to_string(), "error: HTTP status 502");
    }

    #[test]
    fn unavailable_is_certain_and_a_deadline_is_not() {
        assert!(problem(503, r#"{"code":"no_leader"}"#).is_failure());
        assert!(problem(500, r#"{"code":"internal"}"#).is_failure());
        assert!(problem(504, r#"{"code":"deadline_exceeded"}"#).is_unknown());
        assert!(!problem(409, r#"{"code":"not_handled"}"#).is_failure());
    }
}
