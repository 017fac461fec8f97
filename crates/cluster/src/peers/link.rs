//! What runs on a link after the hello: data frames, a pulse when there is nothing to say, a goodbye at the end.
//!
//! A frame is a kind, a length and at most 64 KiB. The session behind (ractor_cluster) reads and writes plain bytes
//! through a pipe of bounded size and knows nothing of frames. The pulse lets the reader's idle limit be short: a peer that
//! was stopped or cut off is noticed within it, although the session has nothing to say.
//!
//! Deliberately absent: retries, order across links, checksums (TLS has them). A link that ends is replaced as a whole.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream,
        split,
    },
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::socket::Socket;

/// The most that one frame carries.
pub(super) const FRAME_BYTES_MAX: usize = 64 * 1024;
/// What the session may have written before the link took it.
pub(super) const PIPE_BYTES: usize = 256 * 1024;
const HEADER_BYTES: usize = 5;

const DATA: u8 = 1;
const PULSE: u8 = 2;
const GOODBYE: u8 = 3;

/// When a peer was heard last.
#[derive(Debug)]
pub(super) struct Heard {
    began: Instant,
    after_ms: AtomicU64,
}

impl Heard {
    pub(super) fn now() -> Self {
        Self { began: Instant::now(), after_ms: AtomicU64::new(0) }
    }

    fn again(&self) {
        let after = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(after, Ordering::Relaxed);
    }

    /// How long the peer has been silent.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.after_ms.load(Ordering::Relaxed));
        now.duration_since(self.began).saturating_sub(last)
    }
}

/// How a link ended.
#[derive(Debug)]
pub(super) enum End {
    /// We said goodbye, or cut it ourselves.
    Parted,
    /// The peer said goodbye.
    PeerLeft,
    /// The peer's side closed without a word: its process ended.
    PeerClosed,
    /// The session behind was closed, here.
    SessionClosed,
    /// The connection broke, or a limit passed.
    Broken(io::Error),
}

/// Carries bytes between the session and the connection until either ends, or a goodbye is asked for.
pub(super) async fn carry(
    socket: Socket,
    session: DuplexStream,
    pulse: Duration,
    heard: &Heard,
    goodbye: oneshot::Receiver<()>,
) -> End {
    let (read, write) = split(socket);
    let (from_session, to_session) = split(session);
    let read = BufReader::with_capacity(FRAME_BYTES_MAX, read);
    tokio::select! {
        end = hear(read, to_session, heard) => end,
        end = speak(write, from_session, pulse, goodbye) => end,
    }
}

async fn hear(
    mut read: impl AsyncRead + Unpin,
    mut session: impl AsyncWrite + Unpin,
    heard: &Heard,
) -> End {
    let mut body = Vec::new();
    loop {
        let (kind, length) = match header(&mut read).await {
            Ok(Some(found)) => found,
            Ok(None) => return End::PeerClosed,
            Err(error) => return End::Broken(error),
        };
        heard.again();
        match (kind, length) {
            (DATA, 1..=FRAME_BYTES_MAX) => {
                body.resize(length, 0);
                if let Err(error) = read.read_exact(&mut body).await {
                    return End::Broken(error);
                }
                if session.write_all(&body).await.is_err() {
                    return End::SessionClosed;
                }
            }
            (PULSE, 0) => {}
            (GOODBYE, 0) => return End::PeerLeft,
            _ => {
                let reason = format!(
                    "a frame of kind {kind} with {length} bytes; at most {FRAME_BYTES_MAX} are taken"
                );
                return End::Broken(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
    }
}

// None when the peer closed between two frames.
async fn header(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(u8, usize)>> {
    let mut bytes = [0; HEADER_BYTES];
    match read.read(&mut bytes[..1]).await? {
        0 => Ok(None),
        _ => {
            read.read_exact(&mut bytes[1..]).await?;
            let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            Ok(Some((bytes[0], length as usize)))
        }
    }
}

async fn speak(
    mut write: impl AsyncWrite + Unpin,
    mut session: impl AsyncRead + Unpin,
    pulse: Duration,
    mut goodbye: oneshot::Receiver<()>,
) -> End {
    let mut frame = vec![0; HEADER_BYTES + FRAME_BYTES_MAX];
    loop {
        let found = tokio::select! {
            biased;
            // Also when the sender is gone: nobody could ask for it any more.
            _ = &mut goodbye => {
                let sent = send(&mut write, &mut frame, GOODBYE, 0).await;
                // Without this the kernel may reset the connection before the word is read.
                let closed = match sent {
                    Ok(()) => write.shutdown().await,
                    Err(error) => Err(error),
                };
                return closed.map_or_else(End::Broken, |()| End::Parted);
            }
            found = timeout(pulse, session.read(&mut frame[HEADER_BYTES..])) => found,
        };
        let sent = match found {
            Ok(Ok(0) | Err(_)) => return End::SessionClosed,
            Ok(Ok(length)) => send(&mut write, &mut frame, DATA, length).await,
            Err(_) => send(&mut write, &mut frame, PULSE, 0).await,
        };
        if let Err(error) = sent {
            return End::Broken(error);
        }
    }
}

// The body stands in the frame already, behind room for the header.
async fn send(
    write: &mut (impl AsyncWrite + Unpin),
    frame: &mut [u8],
    kind: u8,
    length: usize,
) -> io::Result<()> {
    frame[0] = kind;
    frame[1..HEADER_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    write.write_all(&frame[..HEADER_BYTES + length]).await?;
    write.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_length_of_four_gibibytes_and_unknown_kinds_end_the_link() {
        for bytes in [
            [DATA, 0xff, 0xff, 0xff, 0xff],
            [DATA, 0, 1, 0, 1],
            [DATA, 0, 0, 0, 0],
            [PULSE, 0, 0, 0, 1],
            [9, 0, 0, 0, 0],
        ] {
            let end = hear(bytes.as_slice(), tokio::io::sink(), &Heard::now()).await;
            let End::Broken(error) = end else { panic!("{bytes:?}: {end:?}") };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let cut = hear([DATA, 0, 0].as_slice(), tokio::io::sink(), &Heard::now()).await;
        assert!(matches!(cut, End::Broken(_)), "{cut:?}");
        let closed = hear([PULSE, 0, 0, 0, 0].as_slice(), tokio::io::sink(), &Heard::now()).await;
        assert!(matches!(closed, End::PeerClosed), "{closed:?}");
        let left = hear([GOODBYE, 0, 0, 0, 0].as_slice(), tokio::io::sink(), &Heard::now()).await;
        assert!(matches!(left, End::PeerLeft), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_pulses_and_the_end_with_a_goodbye() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (session, mut actor) = tokio::io::duplex(1024);
        let (leave, goodbye) = oneshot::channel();
        let pulse = Duration::from_millis(500);
        let speaking = tokio::spawn(speak(near, session, pulse, goodbye));
        let mut heard = [0; HEADER_BYTES];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [PULSE, 0, 0, 0, 0]);
        actor.write_all(b"word").await.unwrap();
        let mut heard = [0; HEADER_BYTES + 4];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\x01\0\0\0\x04word");
        leave.send(()).unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [GOODBYE, 0, 0, 0, 0]);
        assert!(matches!(speaking.await.unwrap(), End::Parted));
    }
}
