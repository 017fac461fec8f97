//! Connections between nodes: dialled or accepted, in plain text or with both certificates checked.
//!
//! A `Wire` makes all connections of one purpose (node links, the log); each has its own count of bytes, and its own door
//! with room for a few strangers: a connection stays a stranger until `set_peer` says whose it is. Under TLS 1.3 the
//! dialer is done before the acceptor has judged its certificate, so only the peer's first bytes prove that it was let in.
//!
//! Deliberately absent: frames, hellos and retries. Whoever uses the connection knows what is said on it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{client, server};

use crate::{
    faults::Faults,
    line::{Limits, Line, Traffic},
    refusals::{Kind, Refusals},
    security::{LinkSecurity, carries_name, server_name},
};

/// How long a dial waits for the connection.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long the certificates may take, and then again the hello of whoever uses the connection.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// How many connections may be strangers at once.
pub(crate) const STRANGERS_MAX: usize = 64;

/// What holds until the user of the connection chooses.
const FIRST_LIMITS: Limits = Limits { read_idle: HANDSHAKE_MAX, write: HANDSHAKE_MAX };

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Somebody is there and says that nobody listens.
    #[error("{address} refused the connection")]
    Refused {
        /// Whom we dialled.
        address: String,
    },
    /// The connection could not be made.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// Whom we dialled, or who dialled us.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The connection stands, but the two did not agree on certificates.
    #[error("no secure connection with {address}: {reason}")]
    Handshake {
        /// Whom we dialled, or who dialled us.
        address: String,
        /// What TLS says.
        reason: String,
    },
    /// It took too long.
    #[error("{what} with {address} took longer than {limit:?}")]
    Timeout {
        /// Whom we dialled, or who dialled us.
        address: String,
        /// What took so long.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// Too many connections at once have not said yet who they are.
    #[error("{STRANGERS_MAX} connections have not said who they are; {address} must try again")]
    Crowded {
        /// Who dialled us.
        address: String,
    },
}

impl LinkError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. } | Self::Unreachable { .. } => "unreachable",
            Self::Handshake { .. } => "handshake",
            Self::Timeout { .. } => "timeout",
            Self::Crowded { .. } => "crowded",
        }
    }
}

/// Makes the connections of one purpose.
#[derive(Debug)]
pub(crate) struct Wire {
    security: LinkSecurity,
    faults: Arc<Faults>,
    traffic: Arc<Traffic>,
    strangers: Arc<Semaphore>,
    refusals: Refusals,
}

impl Wire {
    pub(crate) fn new(security: LinkSecurity, faults: Arc<Faults>, traffic: Arc<Traffic>) -> Self {
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        Self { security, faults, traffic, strangers, refusals: Refusals::default() }
    }

    /// How the connections are secured.
    pub(crate) fn security(&self) -> &LinkSecurity {
        &self.security
    }

    /// The bytes that went over its connections.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Logs a connection that its user refuses, at most once a minute for each address and kind.
    pub(crate) fn refuse(&self, remote: SocketAddr, kind: Kind, reason: &dyn fmt::Display) {
        self.refusals.log(remote.ip(), kind, reason);
    }

    /// Connects to the node of this number; its certificate must carry that name.
    ///
    /// # Errors
    /// Says at which step it failed. Nothing is logged: the dialer knows how often it has tried.
    pub(crate) async fn dial(&self, address: &str, number: u32) -> Result<Socket, LinkError> {
        let connecting = async {
            self.faults.passage(number).await;
            TcpStream::connect(address).await
        };
        let what = "the connection";
        let tcp =
            within(CONNECT_MAX, what, address, connecting).await?.map_err(|source| match source
                .kind()
            {
                io::ErrorKind::ConnectionRefused => {
                    LinkError::Refused { address: address.to_owned() }
                }
                _ => LinkError::Unreachable { address: address.to_owned(), source },
            })?;
        let mut line = self.line(tcp, address)?;
        line.set_peer(number);
        let stream = match &self.security {
            LinkSecurity::Plain => Stream::Plain(line),
            LinkSecurity::Mutual(tls) => {
                let handshake = tls.connector.connect(server_name(number), line);
                let done = within(HANDSHAKE_MAX, "the handshake", address, handshake).await?;
                Stream::Dialled(Box::new(done.map_err(|error| failed(address, &error))?))
            }
        };
        Ok(Socket { stream, stranger: None })
    }

    /// Takes a connection in; with certificates, only one whose certificate the authority signed.
    ///
    /// # Errors
    /// Says at which step it failed. A failure is logged here, at most once a minute for each address and kind.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> Result<Socket, LinkError> {
        let remote = tcp.peer_addr();
        let result = self.take_in(tcp).await;
        if let (Ok(remote), Err(error)) = (remote, &result) {
            self.refuse(remote, error.kind(), error);
        }
        result
    }

    async fn take_in(&self, tcp: TcpStream) -> Result<Socket, LinkError> {
        let address = tcp.peer_addr().map_or_else(|_| "somebody".to_owned(), |a| a.to_string());
        let stranger = Arc::clone(&self.strangers)
            .try_acquire_owned()
            .map_err(|_| LinkError::Crowded { address: address.clone() })?;
        let line = self.line(tcp, &address)?;
        let stream = match &self.security {
            LinkSecurity::Plain => Stream::Plain(line),
            LinkSecurity::Mutual(tls) => {
                let handshake = tls.acceptor.accept(line);
                let done = within(HANDSHAKE_MAX, "the handshake", &address, handshake).await?;
                Stream::Accepted(Box::new(done.map_err(|error| failed(&address, &error))?))
            }
        };
        Ok(Socket { stream, stranger: Some(stranger) })
    }

    fn line(&self, tcp: TcpStream, address: &str) -> Result<Line, LinkError> {
        Line::new(tcp, FIRST_LIMITS, Arc::clone(&self.faults), Arc::clone(&self.traffic))
            .map_err(|source| LinkError::Unreachable { address: address.to_owned(), source })
    }
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    address: &str,
    work: impl Future<Output = T>,
) -> Result<T, LinkError> {
    let late = |_| LinkError::Timeout { address: address.to_owned(), what, limit };
    timeout(limit, work).await.map_err(late)
}

fn failed(address: &str, error: &io::Error) -> LinkError {
    LinkError::Handshake { address: address.to_owned(), reason: error.to_string() }
}

enum Stream {
    Plain(Line),
    Dialled(Box<client::TlsStream<Line>>),
    Accepted(Box<server::TlsStream<Line>>),
}

/// A connection with another node, or with a stranger who must still say which node it is.
pub(crate) struct Socket {
    stream: Stream,
    // Its place among the strangers; none once it is known, or when we dialled.
    stranger: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.stranger.is_none();
        f.debug_struct("Socket").field("remote", &self.remote()).field("known", &known).finish()
    }
}

impl Socket {
    /// The address of the other side.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.line().remote()
    }

    /// Says which node it is, once that was checked: its faults hold from now on, and it is no stranger any more.
    pub(crate) fn set_peer(&mut self, number: u32) {
        self.line_mut().set_peer(number);
        self.stranger = None;
    }

    /// Says how long each direction may stand still from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.line_mut().set_limits(limits);
    }

    /// Returns whether the other side's certificate is that of this node; in plain text everybody is believed.
    pub(crate) fn proves(&self, number: u32) -> bool {
        let chain = match &self.stream {
            Stream::Plain(_) => return true,
            Stream::Dialled(stream) => stream.get_ref().1.peer_certificates(),
            Stream::Accepted(stream) => stream.get_ref().1.peer_certificates(),
        };
        chain.and_then(<[_]>::first).is_some_and(|certificate| carries_name(certificate, number))
    }

    fn line(&self) -> &Line {
        match &self.stream {
            Stream::Plain(line) => line,
            Stream::Dialled(stream) => stream.get_ref().0,
            Stream::Accepted(stream) => stream.get_ref().0,
        }
    }

    fn line_mut(&mut self) -> &mut Line {
        match &mut self.stream {
            Stream::Plain(line) => line,
            Stream::Dialled(stream) => stream.get_mut().0,
            Stream::Accepted(stream) => stream.get_mut().0,
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(line) => {
                let $stream = Pin::new(line);
                $call
            }
            Stream::Dialled(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
            Stream::Accepted(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_read(context, into))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests;
