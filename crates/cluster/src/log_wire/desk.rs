//! The answering side of the log's wire: listens, greets, and hands each question to its shard.
//!
//! A question is answered in a task of its own, because the answer may wait for a sync; so many at a time for each
//! connection, and then the connection is not read on. When an established connection of another node breaks, whoever
//! watches for dead leaders hears of it at once: the system of a dead process closes its connections long before any
//! heartbeat is late.
//!
//! Absent on purpose: what an answer means. Garbage ends the connection it came on, with one line in the log.

use std::{
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use statehouse_contract::{NodeId, ShardId, codec, limits::FRAME_BYTES_MAX};
use statehouse_log::{LogResponse, ShardLog};
use tokio::{
    io::{AsyncWriteExt as _, BufReader, WriteHalf, split},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tracing::{debug, warn};

use super::{
    Ground, frames,
    greeting::{self, Purpose},
    join::JoinDesk,
    lane::{LIMITS, ToDesk, ToLane},
};
use crate::socket::Socket;

/// Questions of one connection that are being answered at once.
const WORKING_MAX: usize = 256;
/// Connections that are served at once: three lanes of each member, and some that have not noticed their end yet.
const CONNECTIONS_MAX: usize = 256;
/// Pause after the system would not hand out a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Answers that leave in one write, about.
const WRITE_BYTES: usize = 256 * 1024;

/// The shards of this node, for those who answer questions about them; empty before they are open and after the end.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    shards: Arc<RwLock<Vec<ShardLog>>>,
    is_leaving: Arc<AtomicBool>,
    is_doubted: Arc<AtomicBool>,
}

impl Shelf {
    /// Puts the shards there, in order of their numbers.
    pub(crate) fn fill(&self, shards: Vec<ShardLog>) {
        *self.shards.write().unwrap_or_else(PoisonError::into_inner) = shards;
    }

    /// Returns a shard.
    pub(crate) fn shard(&self, shard: ShardId) -> Option<ShardLog> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::try_from(shard.0).ok()?).cloned()
    }

    /// Returns whether any shard has a node among its members.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.all().iter().any(|log| log.members().contains_key(&node))
    }

    /// Returns all shards.
    pub(crate) fn all(&self) -> Vec<ShardLog> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that this node will stop: from now on no leader shall hand it anything.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Says whether this node's clock is off: as long as it is, no leader shall hand it anything.
    pub(crate) fn doubt(&self, is_off: bool) {
        self.is_doubted.store(is_off, Ordering::Relaxed);
    }

    /// Returns an answer as this node gives it. One that is leaving, or whose clock is off, has no room for more: a leader offers its place only to
    /// who says otherwise. To refuse the offer would be too late, because the engine's leader is mute once it has made one
    /// and the shard would stand still until an election.
    fn given(&self, answer: LogResponse) -> LogResponse {
        let is_unfit =
            self.is_leaving.load(Ordering::Relaxed) || self.is_doubted.load(Ordering::Relaxed);
        match answer {
            LogResponse::Append { ended, echo, applied } if is_unfit => {
                LogResponse::AppendWithoutRoom { ended, echo, applied }
            }
            other => other,
        }
    }
}

/// Everything that a connection needs here.
pub(crate) struct Desk {
    pub(crate) ground: Arc<Ground>,
    pub(crate) shelf: Shelf,
    pub(crate) joins: Arc<dyn JoinDesk>,
    /// Hears which node's connection broke.
    pub(crate) lost: mpsc::Sender<NodeId>,
}

/// Serves the log's address until it is dropped.
pub(crate) fn serve(desk: Desk, listener: TcpListener) -> JoinHandle<()> {
    let desk = Arc::new(desk);
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, _)) if connections.len() < CONNECTIONS_MAX => {
                        connections.spawn(Arc::clone(&desk).take(tcp));
                    }
                    Ok((tcp, remote)) => {
                        drop(tcp);
                        desk.ground.wire.refuse(remote, "crowded", &"too many connections");
                    }
                    Err(error) => {
                        warn!(%error, "the log's address accepts nothing for a moment");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

impl Desk {
    async fn take(self: Arc<Self>, tcp: TcpStream) {
        // What fails before the greeting is logged by the wire.
        let Ok(mut socket) = self.ground.wire.accept(tcp).await else { return };
        let remote = socket.remote();
        let hello =
            match greeting::receive(&mut socket, &self.ground, |node| self.shelf.has(node)).await {
                Ok(hello) => hello,
                Err(error) => return self.ground.wire.refuse(remote, "greeting", &error),
            };
        socket.set_peer(hello.from.number);
        socket.set_limits(LIMITS);
        if hello.purpose == Purpose::Join {
            let (number, level) = (hello.from.number, hello.level);
            if let Err(error) = self.joins.serve(&mut socket, number, level).await {
                self.ground.wire.refuse(remote, "join", &error);
            }
            return;
        }
        let from = hello.from;
        // Known for as long as this connection lasts.
        let _met = self.ground.builds.meet(from, hello.level);
        debug!(%from, version = hello.version, level = hello.level, "a connection of the log");
        let ended = self.answer(socket, hello.version).await;
        match &ended {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.ground.wire.refuse(remote, "frame", error);
            }
            _ => debug!(%from, ?ended, "a connection of the log ended"),
        }
        if is_sudden(&ended) {
            // A full queue means that somebody has much to look at already.
            let _ = self.lost.try_send(from);
        }
    }

    async fn answer(&self, socket: Socket, version: u16) -> io::Result<()> {
        let (reader, writer) = split(socket);
        let (answers, outgoing) = mpsc::channel(WORKING_MAX);
        tokio::select! {
            ended = self.hear(reader, answers, version) => ended,
            ended = say(writer, outgoing) => ended,
        }
    }

    async fn hear(
        &self,
        reader: tokio::io::ReadHalf<Socket>,
        answers: mpsc::Sender<Vec<u8>>,
        version: u16,
    ) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(WRITE_BYTES / 4, reader);
        let working = Arc::new(Semaphore::new(WORKING_MAX));
        // Dropped with the connection: nobody would hear the answers.
        let mut tasks = JoinSet::new();
        while let Some(question) = frames::read(&mut reader, FRAME_BYTES_MAX).await? {
            while tasks.try_join_next().is_some() {}
            let (id, shard, request) = match question {
                ToDesk::Ask { id, shard, request } => (id, shard, request),
                ToDesk::Ping => {
                    send(&answers, &ToLane::Pong).await?;
                    continue;
                }
                ToDesk::Echo { sent } => {
                    let told = self.ground.clock.tell();
                    send(&answers, &ToLane::Echo { sent, told }).await?;
                    continue;
                }
            };
            let turn = Arc::clone(&working).acquire_owned().await.map_err(io::Error::other)?;
            let (shelf, answers) = (self.shelf.clone(), answers.clone());
            tasks.spawn(async move {
                let answer = match shelf.shard(shard) {
                    Some(log) => match log.receive(request).await {
                        Ok(answer) => Ok(shelf.given(answer).in_version(version)),
                        Err(error) => Err(error.to_string().into()),
                    },
                    None => Err(format!("shard {shard} is not open here").into()),
                };
                let _ = send(&answers, &ToLane::Answer { id, answer }).await;
                drop(turn);
            });
        }
        Ok(())
    }
}

/// An end that only a process makes: closed or reset, not silence that was waited out, not garbage.
fn is_sudden(ended: &io::Result<()>) -> bool {
    match ended {
        Ok(()) => true,
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        ),
    }
}

async fn send(answers: &mpsc::Sender<Vec<u8>>, message: &ToLane) -> io::Result<()> {
    let frame = codec::encode(message).map_err(io::Error::other)?;
    answers.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn say(
    mut writer: WriteHalf<Socket>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(first) = outgoing.recv().await {
        buffer.clear();
        buffer.extend_from_slice(&first);
        while buffer.len() < WRITE_BYTES
            && let Ok(more) = outgoing.try_recv()
        {
            buffer.extend_from_slice(&more);
        }
        writer.write_all(&buffer).await?;
        writer.flush().await?;
    }
    Ok(())
}
