//! Questions to a running node, asked as simply as possible: what a test says must not depend on our own client.
//!
//! Deliberately absent: retries, and everything that a test would want to be told about.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Returns the development token that `statehouse dev` wrote into its data directory.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn token(data: &Path) -> String {
    let path = data.join("dev-token");
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

/// An answer: status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends one request over a connection of its own and reads the whole answer.
///
/// # Errors
/// No connection, a broken one, or no answer in time.
pub fn ask(
    address: &str,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    Question::send(address, request, headers, body)?.answer(ANSWER_WITHIN)
}

/// A request that was sent and whose answer was not read yet. Dropped, its connection is cut.
#[derive(Debug)]
pub struct Question(TcpStream);

impl Question {
    /// Sends a request over a connection of its own. A process that is stopped gets it when it goes on.
    ///
    /// # Errors
    /// No connection, or a broken one.
    pub fn send(
        address: &str,
        request: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(text(address, request, headers, body).as_bytes())?;
        Ok(Self(stream))
    }

    /// Reads the whole answer.
    ///
    /// # Errors
    /// A broken connection, or no answer in time.
    pub fn answer(mut self, within: Duration) -> std::io::Result<Answer> {
        self.0.set_read_timeout(Some(within))?;
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        let broken = || std::io::Error::other(format!("no answer: {answer:?}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status =
            head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(broken)?;
        Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
    }
}

fn text(address: &str, request: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text
}

impl Answer {
    /// Returns the value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }

    /// Returns a field of the body, an object; null where there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> serde_json::Value {
        let body = serde_json::from_str::<serde_json::Value>(&self.body).unwrap_or_default();
        body.get(name).cloned().unwrap_or_default()
    }
}

/// Reads a path with a token; fails the test unless the answer is 200.
///
/// # Panics
/// If there is no answer, or another status.
#[must_use]
pub fn get(address: &str, path: &str, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let answer = ask(address, &format!("GET {path}"), &[("authorization", &bearer)], "")
        .unwrap_or_else(|error| panic!("GET {path}: {error}"));
    assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
    answer.body
}
