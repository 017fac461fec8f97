//! How a node gets its identity: it asks any member, which asks shard 0.
//!
//! The one that joins keeps a number that it has drawn once; asking again with the same number gets the same answer,
//! because it is the idempotency key of the command in shard 0. A crash anywhere in between costs nothing.
//!
//! Absent on purpose: shards. The new member's log is filled by their leaders once they see it in the list.

use std::{future::Future, io, pin::Pin};

use bincode::{Decode, Encode};
use statehouse_contract::{Build, MemberDocument, NodeId};
use tokio::time::{Duration, timeout};

use super::{
    frames,
    greeting::{self, GreetingError, Hello, Purpose},
};
use crate::{
    cookie::Cookie,
    identity::ClusterId,
    socket::{LinkError, Socket, Wire},
};

/// How long a member may take to get shard 0's answer.
pub(crate) const JOIN_MAX: Duration = Duration::from_secs(15);
/// Longest message of a join.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// What a node that joins says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct JoinRequest {
    /// Its number.
    pub(crate) number: u32,
    /// What it has drawn once and kept.
    pub(crate) nonce: [u8; 16],
    /// Where it is reached.
    pub(crate) document: MemberDocument,
    /// Whether it may take the place of a member of its number.
    pub(crate) replace: bool,
}

/// What it is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct JoinGrant {
    /// Its identity.
    pub(crate) node: NodeId,
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// How many shards it has.
    pub(crate) shards: u32,
}

type Answer = Result<JoinGrant, Box<str>>;

/// A future that is boxed, because the desk is a trait object.
pub(crate) type Served<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// Answers those who join.
pub(crate) trait JoinDesk: Send + Sync + 'static {
    /// Serves one connection of a node with this number, whose build knows feature levels up to this one.
    fn serve<'a>(&'a self, socket: &'a mut Socket, number: u32, level: u16) -> Served<'a>;
}

/// Serves one that joins: reads its request, asks for its identity, answers.
///
/// # Errors
/// What the connection says, that the request is for another number than the greeting, or that there is no answer yet:
/// the connection ends then, and the other side asks again.
pub(crate) async fn serve(
    socket: &mut Socket,
    number: u32,
    mint: impl AsyncFnOnce(JoinRequest) -> io::Result<Answer>,
) -> io::Result<()> {
    let request: Option<JoinRequest> = frames::read(socket, JOIN_BYTES_MAX).await?;
    let request = request.ok_or(io::ErrorKind::UnexpectedEof)?;
    if request.number != number {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a join for another number"));
    }
    let answer = mint(request).await?;
    frames::write(socket, &answer).await
}

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster does not take it in, and says why.
    #[error("the cluster says: {0}")]
    Refused(String),
    /// No member answered.
    #[error("no member answered at {tried}")]
    NobodyThere {
        /// Each address with what went wrong there.
        tried: String,
    },
}

/// Asks a member for an identity.
pub(crate) async fn ask(
    wire: &Wire,
    cookie: &Cookie,
    build: Build,
    address: &str,
    seed: u32,
    request: &JoinRequest,
) -> Result<Answer, String> {
    let asking = async {
        let dialled = wire.dial(address, seed).await;
        let mut socket = dialled.map_err(|error: LinkError| error.to_string())?;
        let hello = Hello {
            version: 0,
            cluster: None,
            from: NodeId { number: request.number, incarnation: 0 },
            to: None,
            purpose: Purpose::Join,
            level: build.level,
        };
        let greeted = greeting::greet(&mut socket, cookie, build, hello).await;
        greeted.map_err(|error: GreetingError| error.to_string())?;
        socket.set_limits(crate::line::Limits { read_idle: JOIN_MAX, write: JOIN_MAX });
        let broken = |error: io::Error| error.to_string();
        frames::write(&mut socket, request).await.map_err(broken)?;
        let answer = frames::read(&mut socket, JOIN_BYTES_MAX).await.map_err(broken)?;
        answer.ok_or_else(|| "it closed the connection".to_owned())
    };
    let late = |_| format!("no answer within {JOIN_MAX:?}");
    timeout(JOIN_MAX, asking).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}
