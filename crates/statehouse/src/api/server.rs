//! From a listener to answers, and from a signal to the end.
//!
//! HTTP/1.1 and HTTP/2 on one port. Connections are bounded, and so is the time a client may take for its
//! request head; a place is taken before a connection is accepted, so the rest waits in the listener's queue.
//!
//! Absent on purpose: where certificates come from, and any retry of a failed accept but the obvious one: out of file
//! descriptors passes, so it waits a moment.
//!
//! Invariant: when this returns, every connection has ended or was given up after the drain.

use std::{
    convert::Infallible,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderValue, Request, Version, header::CONNECTION},
    response::Response,
};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use statehouse_contract::limits;

use super::{ApiState, router};

/// Time for requests that are under way when the drain begins; the rest of the ten seconds is the node's.
const DRAIN: Duration = Duration::from_millis(limits::DRAIN_MS_MAX * 8 / 10);
/// How long a leaving node goes on answering on the connections that it has, while there are any: long enough for a client
/// that is busy.
const LEAVE: Duration = Duration::from_secs(1);
/// Who has come in before the listener is closed is let in: it is closed when nobody has come for so long.
const QUIET: Duration = Duration::from_millis(10);
/// Longest time for that.
const QUIET_MAX: Duration = Duration::from_millis(100);
/// Time for a client to send its request head.
const HEAD: Duration = Duration::from_millis(limits::HEADER_READ_MS_MAX);
/// Largest request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Silence after which an HTTP/2 client is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// Pause after an accept that failed for a reason that passes.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` ends, then leaves and drains. Leaving: no new connections; whoever asks on an old one gets its
/// answer and the word that the connection ends with it, so that no request is on its way when it is closed; meanwhile
/// `parting` does what has to be done while requests are still taken. Draining: open watches end, requests under way are
/// answered, for at most eight tenths of `limits::DRAIN_MS_MAX`. With `tls` it speaks HTTPS alone.
///
/// # Errors
/// Passes on what the listener says when it cannot accept any more.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: ApiState,
    shutdown: impl Future<Output = ()> + Send,
    parting: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let is_leaving = Arc::new(AtomicBool::new(false));
    let service = TowerToHyperService::new(router(state.clone()));
    let mut hall = Hall {
        service: Polite { service, is_leaving: Arc::clone(&is_leaving) },
        builder: Arc::new(builder()),
        graceful: GracefulShutdown::new(),
        tls,
        connections: JoinSet::new(),
    };
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut shutdown = std::pin::pin!(shutdown);
    let end = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            Some(_) = hall.connections.join_next(), if !hall.connections.is_empty() => {}
            next = accept(&listener, &places) => match next {
                Ok(Some((stream, place))) => hall.welcome(stream, place),
                Ok(None) => {}
                Err(error) => break Err(error),
            },
        }
    };
    is_leaving.store(true, Ordering::Relaxed);
    let latest = Instant::now() + QUIET_MAX;
    while Instant::now() < latest
        && let Ok(Ok(Some((stream, place)))) = timeout(QUIET, accept(&listener, &places)).await
    {
        hall.welcome(stream, place);
    }
    if let Err(error) = hall.close_door(listener, &places) {
        tracing::warn!(%error, "whoever came last was not let in");
    }
    let Hall { mut connections, graceful, .. } = hall;
    let goodbyes = timeout(LEAVE, async { while connections.join_next().await.is_some() {} });
    let (_, ()) = tokio::join!(goodbyes, parting);
    state.draining().cancel();
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "the drain ended before every answer was out"
        );
    }
    connections.shutdown().await;
    end
}

/// Where connections are talked to.
struct Hall {
    service: Polite,
    builder: Arc<auto::Builder<TokioExecutor>>,
    graceful: GracefulShutdown,
    tls: Option<TlsAcceptor>,
    connections: JoinSet<()>,
}

impl Hall {
    /// Talks to one connection until it ends; it keeps its place for as long.
    fn welcome(&mut self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (service, builder) = (self.service.clone(), Arc::clone(&self.builder));
        let (watcher, tls) = (self.graceful.watcher(), self.tls.clone());
        self.connections.spawn(async move {
            match tls {
                None => talk(stream, service, builder, watcher).await,
                // A handshake that fails or takes too long is a client that went away.
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEAD, tls.accept(stream)).await {
                        talk(stream, service, builder, watcher).await;
                    }
                }
            }
            drop(place);
        });
    }

    /// Closes the listener, with nothing but a system call between the last look for who has come and the end: whom the
    /// system takes in that moment it resets.
    fn close_door(&mut self, listener: TcpListener, places: &Arc<Semaphore>) -> io::Result<()> {
        let listener = listener.into_std()?;
        let mut last = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            last.push(stream);
        }
        drop(listener);
        for stream in last {
            stream.set_nonblocking(true)?;
            // One more than there are places for is let go.
            if let Ok(place) = Arc::clone(places).try_acquire_owned() {
                self.welcome(TcpStream::from_std(stream)?, place);
            }
        }
        Ok(())
    }
}

/// The face, and whether it says goodbye with each answer.
#[derive(Clone)]
struct Polite {
    service: TowerToHyperService<Router>,
    is_leaving: Arc<AtomicBool>,
}

impl Polite {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        // HTTP/2 has a word of its own for it, which the drain says.
        let has_connection_header = request.version() < Version::HTTP_2;
        let mut response = self.service.call(request).await?;
        if has_connection_header && self.is_leaving.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// Answers one connection until it ends.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Polite,
    builder: Arc<auto::Builder<TokioExecutor>>,
    watcher: Watcher,
) {
    let spoke = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoke);
    let service = service_fn(move |request| {
        heard.store(true, Ordering::Relaxed);
        let service = service.clone();
        async move { service.answer(request).await }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let mut connection = std::pin::pin!(watcher.watch(connection));
    // While it guesses between HTTP/1 and HTTP/2, hyper has no limit of its own.
    tokio::select! {
        // A connection that ends with an error is a client that went away.
        _ = &mut connection => {}
        () = tokio::time::sleep(HEAD) => {
            if spoke.load(Ordering::Relaxed) {
                let _ = connection.await;
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // No `pipeline_flush`: hyper then keeps its 400 to a head that cannot be read, because the rest of it is still there.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(HEAD);
    builder
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<Option<(TcpStream, OwnedSemaphorePermit)>> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and are waited for. A socket that refuses this still serves.
            let _ = stream.set_nodelay(true);
            Ok(Some((stream, place)))
        }
        Err(error) if passes(&error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns whether the listener is whole although this accept failed.
fn passes(error: &io::Error) -> bool {
    const OUT_OF_FILES: [i32; 2] = [23, 24];
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::OutOfMemory
    ) || error.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code))
}
