//! One command or read of a probe, as it is sent and as it is written down.
//!
//! An order sent again is the same bytes, apart from the host: same key, same expected version, same payload. That is what
//! a client does that lost its answer, and what the receipts promise to recognise.
//!
//! Deliberately absent: sending. Pure.

use std::fmt::Write as _;

use statehouse_contract::Version;

use crate::history::Asked;

/// How long a server may take for a command of a probe, in milliseconds.
const DEADLINE_MS: u32 = 3_000;

/// What a probe asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The instance.
    pub(crate) wf: String,
    /// The command, `start`, or a read's consistency.
    pub(crate) name: &'static str,
    /// Empty for a read.
    pub(crate) key: String,
    /// The version that the instance must have.
    pub(crate) expected: Option<Version>,
    /// The payload.
    pub(crate) body: String,
}

impl Order {
    /// Tells whether it is a read.
    pub(crate) fn is_read(&self) -> bool {
        self.key.is_empty()
    }

    /// Returns what the history says of an attempt.
    pub(crate) fn asked<'a>(&'a self, client: u64, tenant: &'a str) -> Asked<'a> {
        let common = Asked { c: client, tenant, wf: Some(&self.wf), ..Asked::default() };
        if self.is_read() {
            let level = if self.name == "linearizable" { "lin" } else { self.name };
            return Asked { op: "read", lvl: Some(level), ..common };
        }
        Asked {
            op: "cmd",
            key: Some(&self.key),
            cmd: Some(self.name),
            exp: self.expected.map(|expected| expected.version),
            ..common
        }
    }

    /// Writes the request.
    pub(crate) fn request(&self, tenant: &str, token: &str, host: &str) -> Vec<u8> {
        let Self { wf, name, .. } = self;
        let path = format!("/v1/tenants/{tenant}/instances");
        let line = match (self.is_read(), *name) {
            (true, level) => format!("GET {path}/{wf}?consistency={level}"),
            (false, "start") => format!("POST {path}"),
            (false, event) => format!("POST {path}/{wf}/events/{event}"),
        };
        let mut text = format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nx-statehouse-deadline-ms: {DEADLINE_MS}\r\n"
        );
        // Writing to a string cannot fail.
        if !self.is_read() {
            let (key, length) = (&self.key, self.body.len());
            let _ = write!(
                text,
                "content-type: application/json\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n"
            );
        }
        if let Some(expected) = self.expected {
            let _ = write!(text, "if-match: \"{}.{}\"\r\n", expected.born, expected.version);
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(name: &'static str, key: &str) -> Order {
        let expected = Some(Version { born: 4, version: 2 });
        Order { wf: "p-1".into(), name, key: key.into(), expected, body: "{}".into() }
    }

    #[test]
    fn an_order_sent_again_differs_in_its_host_alone() {
        let order = order("add", "k-1");
        let text = |host| String::from_utf8(order.request("twin", "secret", host)).unwrap();
        assert_eq!(text("a:1"), text("b:2").replace("host: b:2", "host: a:1"));
        let text = text("a:1");
        assert!(text.starts_with("POST /v1/tenants/twin/instances/p-1/events/add HTTP/1.1\r\n"));
        assert!(text.contains("if-match: \"4.2\"") && text.contains("idempotency-key: k-1"));
        let asked = order.asked(7, "twin");
        assert_eq!((asked.op, asked.exp, asked.cmd), ("cmd", Some(2), Some("add")));
    }

    #[test]
    fn a_read_has_a_level_and_no_key() {
        let order = Order { expected: None, ..order("linearizable", "") };
        let text = String::from_utf8(order.request("t", "s", "h")).unwrap();
        assert!(text.starts_with("GET /v1/tenants/t/instances/p-1?consistency=linearizable"));
        assert!(!text.contains("idempotency-key"));
        assert_eq!(order.asked(1, "t").lvl, Some("lin"));
    }
}
