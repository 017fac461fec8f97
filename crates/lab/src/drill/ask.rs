//! Plain blocking questions of a drill to one node, for what is not load.
//!
//! A drill asks a few times a second who leads and whether all is well; a connection for each question is good enough,
//! and a node that is stopped or cut off must cost no more than the time that the question has.
//!
//! Deliberately absent: retries. Whoever asks knows what the lack of an answer means.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest answer to a question of a drill.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Asks `host:port` and returns the status and the body, null where it is no JSON.
///
/// # Errors
/// No connection, no whole answer in time, or no HTTP.
pub(crate) fn ask(
    address: &str,
    token: &str,
    request: &str,
    body: &str,
    within: Duration,
) -> io::Result<(u16, Value)> {
    let begun = Instant::now();
    let target =
        address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&target, within)?;
    stream.set_write_timeout(Some(within))?;
    let length = body.len();
    // What is asked for twice is done once; the answer comes before nobody waits for it any more.
    let deadline = within.mul_f64(0.8).as_millis();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         x-statehouse-deadline-ms: {deadline}\r\nidempotency-key: drill\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes())?;
    let left = within.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) =
        text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status"))?;
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}
