//! The asking side of one connection: questions go out in batches, answers come back in any order.
//!
//! A lane dials when it is made and again whenever its connection is gone, with a growing pause. While there is no
//! connection every question fails at once, so that the engine hears the truth and not a timeout.
//!
//! Absent on purpose: sending anything twice. A question whose connection broke is answered with that.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bincode::{Decode, Encode};
use statehouse_contract::{NodeId, ShardId, limits::FRAME_BYTES_MAX};
use statehouse_log::{Lane as LaneName, LogRequest, LogResponse, TransportError};
use statehouse_runtime::Acquaintance;
use tokio::{
    io::{AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::debug;

use super::{
    Ground, IN_FLIGHT_MAX, frame, frames,
    greeting::{self, Hello, Purpose, Welcome},
};
use crate::{
    clock::{ECHOES_SINCE, Told},
    line::Limits,
    socket::Socket,
};

/// Bytes that leave in one write, about.
const WRITE_BYTES: usize = 256 * 1024;
/// The first and the longest pause before a connection is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often something is said, so that silence means something.
pub(super) const PING: Duration = Duration::from_millis(500);
/// How often the other node is asked for its time.
const ECHO: Duration = Duration::from_millis(500);
/// How long a connection of this wire may be silent or stuck.
pub(super) const LIMITS: Limits =
    Limits { read_idle: Duration::from_millis(2_500), write: Duration::from_millis(2_500) };

/// What goes to the answering side.
#[derive(Debug, Encode, Decode)]
pub(super) enum ToDesk {
    /// A question for a shard.
    Ask { id: u64, shard: ShardId, request: LogRequest },
    /// A sign of life, which is answered with one.
    Ping,
    /// Asks for the time; says when it was asked, which only the asking side understands. From version 3 of the wire on.
    Echo { sent: i64 },
}

/// What comes back.
#[derive(Debug, Encode, Decode)]
pub(super) enum ToLane {
    /// The answer to a question, or why there is none.
    Answer { id: u64, answer: Result<LogResponse, Box<str>> },
    /// A sign of life.
    Pong,
    /// The time, and when it was asked for. From version 3 of the wire on.
    Echo { sent: i64, told: Told },
}

type Reply = oneshot::Sender<Result<LogResponse, TransportError>>;

struct Outgoing {
    id: u64,
    frame: Vec<u8>,
    reply: Reply,
}

/// One way to one member.
pub(super) struct Lane {
    to: NodeId,
    next: AtomicU64,
    queue: mpsc::Sender<Outgoing>,
    open: Open,
    task: JoinHandle<()>,
}

/// The questions that wait for an answer.
type Open = Arc<Mutex<HashMap<u64, Reply>>>;

fn held(open: &Open) -> MutexGuard<'_, HashMap<u64, Reply>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lane {
    /// Opens a lane and begins to dial.
    pub(super) fn open(
        ground: &Arc<Ground>,
        to: NodeId,
        address: Box<str>,
        name: LaneName,
    ) -> Self {
        let (queue, questions) = mpsc::channel(IN_FLIGHT_MAX);
        let open = Open::default();
        let dialler =
            Dialler { ground: Arc::clone(ground), to, address, name, open: Arc::clone(&open) };
        let task = tokio::spawn(dialler.run(questions));
        Self { to, next: AtomicU64::new(0), queue, open, task }
    }

    /// Returns how many questions it has had.
    pub(super) fn asked(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Asks and waits for the answer, at most so long.
    pub(super) async fn ask(
        &self,
        shard: ShardId,
        request: LogRequest,
        patience: Duration,
    ) -> Result<LogResponse, TransportError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = frame(&ToDesk::Ask { id, shard, request }, self.to)?;
        let (reply, answer) = oneshot::channel();
        let unreachable =
            |what: &str| TransportError::Unreachable { to: self.to, what: what.to_owned() };
        let sent = self.queue.try_send(Outgoing { id, frame, reply });
        sent.map_err(|_| unreachable("too many questions wait"))?;
        match timeout(patience, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(unreachable("the lane was closed")),
            Err(_) => {
                held(&self.open).remove(&id);
                Err(TransportError::Late { to: self.to })
            }
        }
    }
}

struct Dialler {
    ground: Arc<Ground>,
    to: NodeId,
    address: Box<str>,
    name: LaneName,
    open: Open,
}

impl Dialler {
    async fn run(self, mut questions: mpsc::Receiver<Outgoing>) {
        let mut pause = PAUSE_MIN;
        loop {
            let why = match self.connect(&mut questions).await {
                Ok((socket, version, _met)) => {
                    pause = PAUSE_MIN;
                    let Err(why) = self.talk(socket, version, &mut questions).await else { return };
                    why.to_string()
                }
                Err(why) => why,
            };
            debug!(to = %self.to, lane = ?self.name, %why, "no connection");
            for (_, reply) in held(&self.open).drain() {
                let broken = TransportError::Broken { to: self.to, what: why.clone() };
                let _ = reply.send(Err(broken));
            }
            let until = Instant::now() + pause;
            if !self.refuse(&mut questions, sleep_until(until), &why).await {
                return;
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// Fails every question until something is done; returns whether the lane is still wanted.
    async fn refuse(
        &self,
        questions: &mut mpsc::Receiver<Outgoing>,
        until: impl Future<Output = ()>,
        why: &str,
    ) -> bool {
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                question = questions.recv() => match question {
                    Some(Outgoing { reply, .. }) => {
                        let unreachable = TransportError::Unreachable { to: self.to, what: why.to_owned() };
                        let _ = reply.send(Err(unreachable));
                    }
                    None => return false,
                },
            }
        }
    }

    async fn connect(
        &self,
        questions: &mut mpsc::Receiver<Outgoing>,
    ) -> Result<(Socket, u16, Acquaintance), String> {
        let members = self.ground.roll.members();
        // An address in the list is newer than the one in the shard's own membership.
        let address = members.0.get(&self.to).map_or(&*self.address, |known| &*known.log);
        let dialled = async {
            let Ground { wire, cookie, build, builds, .. } = &*self.ground;
            let socket = wire.dial(address, self.to.number).await;
            let mut socket = socket.map_err(|error| error.to_string())?;
            let hello = Hello {
                version: 0,
                cluster: Some(self.ground.cluster),
                from: self.ground.own,
                to: Some(self.to),
                purpose: Purpose::Lane(greeting::lane_number(self.name)),
                level: build.level,
            };
            let greeted = greeting::greet(&mut socket, cookie, *build, hello).await;
            let Welcome { version, level } = greeted.map_err(|error| error.to_string())?;
            debug!(to = %self.to, lane = ?self.name, version, level, "connected");
            self.ground.clock.meet(self.to, version);
            Ok((socket, version, builds.meet(self.to, level)))
        };
        tokio::select! {
            socket = dialled => socket,
            // Whoever asks meanwhile hears at once that nobody is there yet.
            _ = self.refuse(questions, std::future::pending(), "connecting") => {
                Err("the lane was closed".to_owned())
            }
        }
    }

    /// Talks until the connection is gone; ends well only when the lane is no longer wanted.
    async fn talk(
        &self,
        mut socket: Socket,
        version: u16,
        questions: &mut mpsc::Receiver<Outgoing>,
    ) -> io::Result<()> {
        socket.set_limits(LIMITS);
        let (reader, writer) = split(socket);
        tokio::select! {
            ended = self.hear(reader) => ended,
            ended = self.say(writer, version, questions) => ended,
        }
    }

    async fn say(
        &self,
        mut writer: WriteHalf<Socket>,
        version: u16,
        questions: &mut mpsc::Receiver<Outgoing>,
    ) -> io::Result<()> {
        let ping = frame(&ToDesk::Ping, self.to).map_err(io::Error::other)?;
        // Where least is said, and so least is in an echo's way.
        let has_echoes = self.name == LaneName::Urgent && version >= ECHOES_SINCE;
        let mut echoes = interval(ECHO);
        echoes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = Vec::with_capacity(WRITE_BYTES);
        loop {
            buffer.clear();
            tokio::select! {
                // The moment is taken right before it leaves.
                _ = echoes.tick(), if has_echoes => {
                    let echo = ToDesk::Echo { sent: self.ground.clock.own_ms() };
                    buffer.extend(frame(&echo, self.to).map_err(io::Error::other)?);
                }
                said = timeout(PING, questions.recv()) => match said {
                    Ok(Some(first)) => self.put(first, &mut buffer),
                    Ok(None) => return Ok(()),
                    Err(_) => buffer.extend_from_slice(&ping),
                },
            }
            while buffer.len() < WRITE_BYTES
                && let Ok(more) = questions.try_recv()
            {
                self.put(more, &mut buffer);
            }
            writer.write_all(&buffer).await?;
            writer.flush().await?;
        }
    }

    fn put(&self, Outgoing { id, frame, reply }: Outgoing, buffer: &mut Vec<u8>) {
        let mut open = held(&self.open);
        if reply.is_closed() {
            return;
        }
        if open.len() >= IN_FLIGHT_MAX {
            let what = "too many questions are open".to_owned();
            let _ = reply.send(Err(TransportError::Unreachable { to: self.to, what }));
            return;
        }
        open.insert(id, reply);
        buffer.extend_from_slice(&frame);
    }

    async fn hear(&self, reader: ReadHalf<Socket>) -> io::Result<()> {
        let mut reader = tokio::io::BufReader::with_capacity(WRITE_BYTES / 4, reader);
        loop {
            match frames::read(&mut reader, FRAME_BYTES_MAX).await? {
                Some(ToLane::Answer { id, answer }) => {
                    let Some(reply) = held(&self.open).remove(&id) else { continue };
                    let answer = answer
                        .map_err(|what| TransportError::Broken { to: self.to, what: what.into() });
                    let _ = reply.send(answer);
                }
                Some(ToLane::Pong) => {}
                Some(ToLane::Echo { sent, told }) => self.ground.clock.hear(self.to, sent, told),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
