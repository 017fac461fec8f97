//! One TCP connection with deadlines, faults made on purpose, and a count of its bytes.
//!
//! It lies below TLS, so a cut stalls the handshake as well, and what is counted is what the network carries. A read
//! that hears nothing for its limit, and a write that moves nothing for its limit, end with `TimedOut`: TCP itself would
//! wait a quarter of an hour for a peer that was stopped or cut off.
//!
//! Deliberately absent: a deadline for a whole message (slow progress is progress) and one for a reader that does not
//! read; who is busy is not dead.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

use crate::faults::{Direction, Faults, Passage};

/// How long the kernel waits for what it sent to be acknowledged.
const UNACKNOWLEDGED_MS_MAX: u32 = 5_000;

/// How long each direction may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest silence of the peer while somebody reads.
    pub read_idle: Duration,
    /// The longest time in which a write moves nothing.
    pub write: Duration,
}

/// The bytes that went over the connections of one purpose.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Traffic {
    /// Bytes heard.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes sent.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }
}

/// How one direction gets on.
#[derive(Default)]
struct Pace {
    // Since when it stands still; none while it moves.
    since: Option<Instant>,
    // Set again only when it fires: most waits end long before, and a timer costs more than a read.
    alarm: Option<Pin<Box<Sleep>>>,
    late: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn moved(&mut self) {
        self.since = None;
        self.late = None;
    }

    // Ready once the direction has stood still for so long.
    fn poll_overdue(&mut self, limit: Duration, context: &mut Context<'_>) -> Poll<()> {
        let due = *self.since.get_or_insert_with(Instant::now) + limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        while alarm.as_mut().poll(context).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn poll_late(&mut self, ms: u64, context: &mut Context<'_>) -> Poll<()> {
        let late = || Box::pin(sleep(Duration::from_millis(ms)));
        self.late.get_or_insert_with(late).as_mut().poll(context)
    }
}

/// A TCP connection to another node, or to somebody who says so.
pub(crate) struct Line {
    tcp: TcpStream,
    remote: SocketAddr,
    peer: Option<u32>,
    limits: Limits,
    faults: Arc<Faults>,
    traffic: Arc<Traffic>,
    inbound: Pace,
    outbound: Pace,
}

impl Line {
    /// Takes a connection over and sets what the kernel must know of it.
    pub(crate) fn new(
        tcp: TcpStream,
        limits: Limits,
        faults: Arc<Faults>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(&tcp, UNACKNOWLEDGED_MS_MAX)?;
        let remote = tcp.peer_addr()?;
        let (inbound, outbound) = (Pace::default(), Pace::default());
        Ok(Self { tcp, remote, peer: None, limits, faults, traffic, inbound, outbound })
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Says whose line this is; its faults hold from now on.
    pub(crate) fn set_peer(&mut self, number: u32) {
        self.peer = Some(number);
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn fault(&self, direction: Direction, context: &mut Context<'_>) -> Option<Passage> {
        match self.peer {
            Some(peer) if self.faults.any() => self.faults.look(direction, peer, context),
            _ => None,
        }
    }

    fn wait_in<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limits.read_idle;
        self.inbound.poll_overdue(limit, context).map(|()| {
            let reason = format!("nothing was heard for {limit:?} (read idle limit)");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }

    fn wait_out<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limits.write;
        self.outbound.poll_overdue(limit, context).map(|()| {
            let reason = format!("nothing could be sent for {limit:?} (write limit)");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.fault(Direction::From, context) {
            None => {}
            Some(Passage::None) => return this.wait_in(context),
            // The delay runs from the arrival of a chunk, so silence still counts as silence.
            Some(Passage::Late(ms)) => match this.tcp.poll_read_ready(context) {
                Poll::Pending => return this.wait_in(context),
                Poll::Ready(_) if this.inbound.poll_late(ms, context).is_pending() => {
                    return Poll::Pending;
                }
                Poll::Ready(_) => {}
            },
        }
        let before = into.filled().len();
        match Pin::new(&mut this.tcp).poll_read(context, into) {
            Poll::Pending => this.wait_in(context),
            Poll::Ready(result) => {
                this.inbound.moved();
                let heard = into.filled().len() - before;
                this.traffic.bytes_in.fetch_add(heard as u64, Ordering::Relaxed);
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.fault(Direction::To, context) {
            Some(Passage::None) => return this.wait_out(context),
            Some(Passage::Late(ms)) if this.outbound.poll_late(ms, context).is_pending() => {
                return Poll::Pending;
            }
            Some(Passage::Late(_)) | None => {}
        }
        match Pin::new(&mut this.tcp).poll_write(context, bytes) {
            Poll::Pending => this.wait_out(context),
            Poll::Ready(result) => {
                this.outbound.moved();
                let sent = *result.as_ref().unwrap_or(&0);
                this.traffic.bytes_out.fetch_add(sent as u64, Ordering::Relaxed);
                Poll::Ready(result)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
