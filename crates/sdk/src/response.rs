//! One answer of the API: status, headers, the exact bytes.
//!
//! The bytes are kept because "the same answer, byte for byte" is a promise that a caller may want to check. A body is
//! bounded; the one answer that is not, a dump, is read line by line with [`Lines`].

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use statehouse_contract::Version;

/// Largest body that is read into memory.
pub(crate) const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The exact body.
    pub bytes: Bytes,
    /// The server that was asked.
    pub server: String,
    /// The key under which the answer is stored, for a change.
    pub key: Option<String>,
    /// How many attempts it took.
    pub attempts: u32,
}

impl Response {
    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON; `null` when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// Returns the body as text, with replacement characters where it is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Returns the version pair that the `ETag` carries.
    pub fn tag(&self) -> Option<Version> {
        Version::parse(self.header("etag")?).ok()
    }

    /// Returns the instance's version: from the `ETag`, else from the body.
    pub fn version(&self) -> Option<u64> {
        self.tag().map(|tag| tag.version).or_else(|| self.json().get("version")?.as_u64())
    }

    /// Tells whether the answer was stored by an earlier attempt.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// Returns the node that answered, as it names itself.
    pub fn node(&self) -> Option<&str> {
        self.header("x-statehouse-node")
    }
}

/// Reads a whole body, up to the limit.
pub(crate) async fn read(mut from: reqwest::Response) -> Result<Bytes, ReadError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = from.chunk().await.map_err(ReadError::Broken)? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection ended within it.
    Broken(reqwest::Error),
    /// It is larger than the limit.
    TooLarge,
}

/// An answer of bytes, read part by part: it may be larger than memory.
#[derive(Debug)]
pub struct Download {
    from: reqwest::Response,
}

/// The answer broke off before its end.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff(#[source] reqwest::Error);

impl Download {
    pub(crate) fn new(from: reqwest::Response) -> Self {
        Self { from }
    }

    /// Returns a header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.from.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the next part; nothing after the last.
    ///
    /// # Errors
    /// The connection ended before the answer did.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        self.from.chunk().await.map_err(BrokenOff)
    }
}

/// An answer of many lines, read one by one.
#[derive(Debug)]
pub struct Lines {
    from: reqwest::Response,
    rest: BytesMut,
    has_ended: bool,
}

/// Why the next line was not read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection ended before the answer did.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    /// A line is longer than any answer may be.
    #[error("a line is longer than {RESPONSE_BYTES_MAX} bytes")]
    TooLong,
}

impl Lines {
    pub(crate) fn new(from: reqwest::Response) -> Self {
        Self { from, rest: BytesMut::new(), has_ended: false }
    }

    /// Returns the next line without its end; nothing after the last.
    ///
    /// # Errors
    /// The connection broke, or the line is longer than any answer may be.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        let mut searched = 0;
        loop {
            if let Some(found) = self
                .rest
                .get(searched..)
                .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
            {
                let line = self.rest.split_to(searched + found + 1).freeze();
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            if self.has_ended {
                let last = self.rest.split().freeze();
                return Ok(if last.is_empty() { None } else { Some(last) });
            }
            searched = self.rest.len();
            if searched > RESPONSE_BYTES_MAX {
                return Err(LineError::TooLong);
            }
            match self.from.chunk().await.map_err(LineError::Broken)? {
                Some(chunk) => self.rest.extend_from_slice(&chunk),
                None => self.has_ended = true,
            }
        }
    }
}
