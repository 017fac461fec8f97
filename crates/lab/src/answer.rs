//! What one answer means to a load run: its class, and whether to ask again.
//!
//! The hot path looks at the status alone. Only when something is wrong, or a history is written, is more read: the
//! code by a scan of the bytes, the version from the `ETag` or by a scan for `"version":`. A problem document is small
//! and written by our own server, so a scan is enough; a document that puts these words elsewhere would at worst be
//! counted under another code.

use std::{borrow::Cow, time::Duration};

use serde::Serialize;

use statehouse_contract::{Digest, Version};

use crate::http::{Broken, Connection, find};

/// The code of an attempt that found nobody to connect to.
const CONNECT: &str = "connect";

/// What a client knows after an answer, in the words of the history format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Out {
    /// Applied, or read.
    Ok,
    /// Judged and refused.
    Rejected,
    /// This attempt certainly did nothing.
    Fail,
    /// It may take effect.
    Unknown,
    /// Kept for later.
    Postponed,
}

/// What was asked: an answer to a read has no outcome to look for in its body, which may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    Command,
    Read,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) out: Out,
    /// The code under which it is counted: `ok`, a rejection's code, or what broke.
    pub(crate) code: Cow<'static, str>,
    /// The server's advice on when to come back.
    pub(crate) retry_after: Option<Duration>,
}

impl Answer {
    /// Reads the answer that a connection holds.
    pub(crate) fn read(connection: &Connection, status: u16, asked: Asking) -> Self {
        let answer = |out, code| Self { out, code: Cow::Borrowed(code), retry_after: None };
        let is_done = (200..300).contains(&status);
        if asked == Asking::Read && is_done {
            return answer(Out::Ok, "ok");
        }
        if status == 202 {
            return answer(Out::Postponed, "postponed");
        }
        if is_done {
            return match text_after(connection.body(), b"\"outcome\":\"") {
                Some("ignored") => answer(Out::Rejected, "ignored"),
                Some("dropped") => answer(Out::Rejected, "dropped"),
                Some("postponed" | "held") => answer(Out::Postponed, "postponed"),
                Some(_) | None => answer(Out::Ok, "ok"),
            };
        }
        let code = text_after(connection.body(), b"\"code\":\"");
        let out = match (status, code) {
            // Without a code of ours it comes from something between us and the node.
            (504, _) | (408 | 500.., None) => Out::Unknown,
            (429 | 500.., _) => Out::Fail,
            (_, _) => Out::Rejected,
        };
        let ms = number_after(connection.body(), b"\"retry_after_ms\":");
        let retry_after = ms.map(Duration::from_millis);
        let code = Cow::Owned(code.map_or_else(|| format!("http_{status}"), str::to_owned));
        Self { out, code, retry_after }
    }

    /// Reads the lack of an answer.
    pub(crate) fn broken(broken: &Broken) -> Self {
        let (out, code) = match broken {
            Broken::Connect { .. } => (Out::Fail, CONNECT),
            Broken::Cut(_) | Broken::Closed => (Out::Unknown, "cut"),
            Broken::Malformed(_) => (Out::Unknown, "malformed"),
        };
        Self { out, code: Cow::Borrowed(code), retry_after: None }
    }

    /// The answer did not come in time.
    pub(crate) fn late() -> Self {
        Self { out: Out::Unknown, code: Cow::Borrowed("timeout"), retry_after: None }
    }

    /// Tells whether no connection to the server could be made.
    pub(crate) fn is_unreached(&self) -> bool {
        self.out == Out::Fail && self.code == CONNECT
    }

    /// Tells whether the server turned the request away for lack of room.
    pub(crate) fn is_throttled(&self) -> bool {
        matches!(&*self.code, "overloaded" | "quota_exceeded")
    }

    /// Tells whether the same request may be sent again with its key.
    pub(crate) fn may_repeat(&self) -> bool {
        match self.out {
            Out::Unknown => true,
            // `internal` and `quarantined` want an operator, not a repeat.
            Out::Fail => !matches!(&*self.code, "internal" | "quarantined"),
            Out::Ok | Out::Rejected | Out::Postponed => false,
        }
    }
}

/// What a history says of an answer beyond its class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) ver: Option<u64>,
    pub(crate) born: Option<u64>,
    pub(crate) reply: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) age_ms: Option<u64>,
    pub(crate) replayed: bool,
}

impl Details {
    /// Reads them from the answer that a connection holds.
    pub(crate) fn read(connection: &Connection) -> Self {
        let body = connection.body();
        let tag = connection.header("etag").and_then(|tag| Version::parse(tag).ok());
        Self {
            ver: tag.map(|tag| tag.version).or_else(|| number_after(body, b"\"version\":")),
            born: tag.map(|tag| tag.born),
            reply: Some(Digest::of(body).to_string()),
            node: connection.header("x-statehouse-node").map(str::to_owned),
            age_ms: number_after(body, b"\"age_ms\":"),
            replayed: connection.header("idempotency-replayed") == Some("true"),
        }
    }
}

fn text_after<'b>(body: &'b [u8], what: &[u8]) -> Option<&'b str> {
    let rest = body.get(find(body, what)? + what.len()..)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

fn number_after(body: &[u8], what: &[u8]) -> Option<u64> {
    let rest = body.get(find(body, what)? + what.len()..)?;
    let rest = rest.get(rest.iter().position(|byte| *byte != b' ')?..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Reply};

    async fn ask(status: u16, headers: &'static str, body: &'static str) -> (Answer, Details) {
        let fake = Fake::start(move |_, _| Reply::new(status, headers, body.to_owned())).await;
        let mut connection = Connection::open(&fake.address).await.unwrap();
        let status = connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        (Answer::read(&connection, status, Asking::Command), Details::read(&connection))
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        let class = async |status, body| {
            let (answer, _) = ask(status, "", body).await;
            (answer.out, answer.code, answer.retry_after.map(|wait| wait.as_millis()))
        };
        assert_eq!(class(201, "{}").await, (Out::Ok, "ok".into(), None));
        assert_eq!(class(202, "{}").await, (Out::Postponed, "postponed".into(), None));
        assert_eq!(
            class(200, "{\"outcome\":\"ignored\"}").await,
            (Out::Rejected, "ignored".into(), None)
        );
        assert_eq!(
            class(409, "{\"code\":\"not_handled\"}").await,
            (Out::Rejected, "not_handled".into(), None)
        );
        let busy = "{\"code\":\"overloaded\",\"retry_after_ms\":40}";
        assert_eq!(class(503, busy).await, (Out::Fail, "overloaded".into(), Some(40)));
        assert_eq!(
            class(504, "{\"code\":\"deadline_exceeded\"}").await,
            (Out::Unknown, "deadline_exceeded".into(), None)
        );
        for (status, code) in [(502, "http_502"), (503, "http_503"), (524, "http_524")] {
            assert_eq!(class(status, "<html>").await, (Out::Unknown, code.into(), None));
        }
        assert_eq!(class(302, "").await, (Out::Rejected, "http_302".into(), None));
    }

    #[tokio::test]
    async fn a_history_reads_the_version_from_the_tag_or_the_body() {
        let (_, tagged) = ask(
            200,
            "etag: \"11.3\"\r\nidempotency-replayed: true\r\nx-statehouse-node: n1\r\n",
            "{}",
        )
        .await;
        assert_eq!(
            (tagged.born, tagged.ver, tagged.replayed, tagged.node.as_deref()),
            (Some(11), Some(3), true, Some("n1"))
        );
        let (_, plain) = ask(412, "", "{\"version\": 7}").await;
        assert_eq!((plain.born, plain.ver), (None, Some(7)));
        assert_ne!(plain.reply, tagged.reply);
    }
}
