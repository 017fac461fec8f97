//! A small HTTP/1.1 client: one connection, one request at a time, kept alive.
//!
//! Written by hand because the load tool shares two cores with the server that it measures. A general client spends
//! several times the work of the exchange itself on pools, header maps, body streams and timers for each request, and
//! that work would be measured as if it were the server's. Here an exchange is one write, usually one read, and a scan
//! of the head; nothing is allocated once the buffer has grown.
//!
//! Deliberately absent: trust in anybody but the given authority, redirects, compression, pipelining, trailers. An answer must say its length or be chunked;
//! the head is bounded.
//!
//! Invariant: after an error the connection is never used again.

use std::{io::ErrorKind, ops::Range};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::trust::Trust;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why an exchange has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No connection was made: nothing was sent.
    #[error("connect to {address}")]
    Connect {
        /// The server.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke after the request began to leave: it may have arrived.
    #[error("the connection broke")]
    Cut(#[source] std::io::Error),
    /// The server closed the connection before its answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The answer is no HTTP/1.1 that we read.
    #[error("the answer cannot be read: {0}")]
    Malformed(&'static str),
}

impl Broken {
    /// Tells whether certainly nothing was sent.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

/// What the bytes travel through.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket below. What is taken from it is missing above: the connection is of no use then.
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    status: u16,
    head: Range<usize>,
    body: Range<usize>,
    is_last: bool,
}

impl Connection {
    /// Tells whether nothing is known against sending another request: a server that drains closes what is idle, and what
    /// it closed cannot have taken a request.
    pub fn is_open(&self) -> bool {
        // What comes without a question is no answer of ours.
        self.stream
            .socket()
            .try_read(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Connects to `host:port`.
    ///
    /// # Errors
    /// The server does not accept.
    pub async fn open(address: &str) -> Result<Self, Broken> {
        Ok(Self::over(Stream::Plain(connect(address).await?)))
    }

    /// Connects to `host:port` and makes sure that it has a certificate for `host`.
    ///
    /// # Errors
    /// The server does not accept, or is not to be trusted.
    pub(crate) async fn open_tls(address: &str, trust: &Trust) -> Result<Self, Broken> {
        let stream = connect(address).await?;
        let trusted = trust.shake_hands(address, stream).await;
        let stream =
            trusted.map_err(|source| Broken::Connect { address: address.to_owned(), source })?;
        Ok(Self::over(Stream::Tls(Box::new(stream))))
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(8 * 1024),
            status: 0,
            head: 0..0,
            body: 0..0,
            is_last: false,
        }
    }

    /// Sends a whole request and reads its whole answer; returns the status.
    ///
    /// # Errors
    /// There is no answer; the connection must be dropped.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16, Broken> {
        self.buffer.clear();
        self.send(request).await.map_err(Broken::Cut)?;
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Broken::Malformed("the head is too long"));
            }
            self.fill().await?;
        };
        self.head = 0..head;
        self.status = status(&self.buffer).ok_or(Broken::Malformed("no status line"))?;
        self.is_last =
            self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let length = self.header("content-length").map(|value| value.trim().parse::<usize>());
        match length {
            Some(Ok(length)) if length <= BODY_BYTES_MAX => {
                while self.buffer.len() < head + length {
                    self.fill().await?;
                }
                self.body = head..head + length;
            }
            Some(_) => return Err(Broken::Malformed("no such length")),
            None if matches!(self.status, 204 | 304) => self.body = head..head,
            None if self.header("transfer-encoding").is_some() => self.read_chunks(head).await?,
            None => return Err(Broken::Malformed("the length is not told")),
        }
        Ok(self.status)
    }

    /// Returns a header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.buffer.get(self.head.clone())?;
        head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
            let (known, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            known
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| std::str::from_utf8(value).ok().map(str::trim))?
        })
    }

    /// Returns the body of the last answer.
    pub fn body(&self) -> &[u8] {
        self.buffer.get(self.body.clone()).unwrap_or_default()
    }

    /// Tells whether the server closes the connection after this answer.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    async fn send(&mut self, request: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(request).await,
            Stream::Tls(stream) => {
                stream.write_all(request).await?;
                // A record may wait in the buffer until the next one.
                stream.flush().await
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.buffer).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.buffer).await,
        };
        match read {
            Ok(0) => Err(Broken::Closed),
            Ok(_) => Ok(()),
            Err(source) => Err(Broken::Cut(source)),
        }
    }

    /// Reads a chunked body and closes it up within the buffer.
    async fn read_chunks(&mut self, head: usize) -> Result<(), Broken> {
        let (mut read, mut written) = (head, head);
        loop {
            let line = loop {
                let rest = self.buffer.get(read..).unwrap_or_default();
                if let Some(end) = find(rest, b"\r\n") {
                    break end;
                }
                self.fill().await?;
            };
            let digits = self
                .buffer
                .get(read..read + line)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            let digits = digits.and_then(|digits| digits.split(';').next()).unwrap_or_default();
            let size = usize::from_str_radix(digits.trim(), 16)
                .map_err(|_| Broken::Malformed("no chunk size"))?;
            if written - head + size > BODY_BYTES_MAX {
                return Err(Broken::Malformed("the body is too long"));
            }
            read += line + 2;
            while self.buffer.len() < read + size + 2 {
                self.fill().await?;
            }
            self.buffer.copy_within(read..read + size, written);
            (read, written) = (read + size + 2, written + size);
            if size == 0 {
                self.body = head..written;
                return Ok(());
            }
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, Broken> {
    let failed = |source| Broken::Connect { address: address.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns where `what` begins.
pub(crate) fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Reply};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test]
    async fn one_connection_serves_many_exchanges() {
        let fake = Fake::start(|number, _| {
            Reply::new(200 + number as u16, "etag: \"3.4\"\r\n", format!("body {number}"))
        })
        .await;
        let mut connection = Connection::open(&fake.address).await.unwrap();
        for number in 0..3 {
            assert_eq!(connection.exchange(REQUEST).await.unwrap(), 200 + number);
            assert_eq!(connection.body(), format!("body {number}").as_bytes());
            assert_eq!(connection.header("ETag"), Some("\"3.4\""));
            assert!(!connection.is_last());
        }
        assert_eq!(fake.connections(), 1);
    }

    #[tokio::test]
    async fn a_chunked_body_is_closed_up() {
        let raw = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n";
        let fake = Fake::start(move |_, _| Reply::Raw(raw.to_owned())).await;
        let mut connection = Connection::open(&fake.address).await.unwrap();
        connection.exchange(REQUEST).await.unwrap();
        assert_eq!(connection.body(), b"wikipedia");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_told_from_one_that_never_began() {
        let fake = Fake::start(|number, _| match number {
            0 => Reply::Cut,
            1 => Reply::Partial("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned()),
            2 => Reply::Partial("HTTP/1.1 200 OK\r\n\r\n".to_owned()),
            _ => Reply::Raw("SMTP ready\r\n\r\n".to_owned()),
        })
        .await;
        let mut ends = Vec::new();
        for _ in 0..4 {
            let mut connection = Connection::open(&fake.address).await.unwrap();
            let broken = connection.exchange(REQUEST).await.unwrap_err();
            assert!(!broken.is_unsent());
            ends.push(broken.to_string());
        }
        assert!(
            ends[1].contains("closed")
                && ends[2].contains("length is not told")
                && ends[3].contains("status"),
            "{ends:?}"
        );
        let refused = Connection::open(&crate::server::free_address().unwrap()).await.unwrap_err();
        assert!(refused.is_unsent());
    }
}
