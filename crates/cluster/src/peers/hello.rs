//! The first words on a node link, in both directions: who I am, whom I expect, and of which cluster.
//!
//! They are checked before anything reaches the session behind, so a foreign cluster, an old incarnation or plain garbage
//! never meets an actor. A hello has a fixed size: there is no length to lie about. Whoever is refused after a well-formed
//! hello is told why in one byte, so that the operator of either side can read it; garbage gets no answer.
//!
//! Deliberately absent: secrets. Certificates prove the name, the cookie is the session's business.

use std::{fmt, io};

use statehouse_contract::NodeId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::socket::{HANDSHAKE_MAX, Socket};

const MAGIC: [u8; 8] = *b"STHSLINK";
/// The versions of what follows the hello that this build speaks.
const VERSION_MIN: u16 = 1;
const VERSION_MAX: u16 = 1;
const HELLO_BYTES: usize = MAGIC.len() + 2 + 2 + 16 + 8 + 8 + 1;

/// What the answering side makes of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Welcome; also what the dialing side says.
    Welcome,
    /// I am about to leave; dial again later.
    Leaving,
    /// We have no version in common.
    Version,
    /// You belong to another cluster.
    ForeignCluster,
    /// I do not know this node, or not in this incarnation.
    UnknownNode,
    /// You look for somebody else.
    NotMe,
    /// Your certificate is another node's.
    WrongName,
    /// I am the one who dials you.
    WrongDirection,
    /// The link before this one is not taken down yet.
    Occupied,
    /// I have not read yet who is a member.
    Unready,
}

impl Verdict {
    const ALL: [Self; 10] = [
        Self::Welcome,
        Self::Leaving,
        Self::Version,
        Self::ForeignCluster,
        Self::UnknownNode,
        Self::NotMe,
        Self::WrongName,
        Self::WrongDirection,
        Self::Occupied,
        Self::Unready,
    ];

    fn byte(self) -> u8 {
        Self::ALL.iter().position(|verdict| *verdict == self).map_or(u8::MAX, |at| at as u8)
    }

    /// For the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Leaving => "the node is leaving",
            Self::Version => {
                "no version of the link protocol in common; upgrade one node at a time"
            }
            Self::ForeignCluster => "the node belongs to another cluster; check its address",
            Self::UnknownNode => {
                "the node is no member, or an earlier incarnation of one; see `cluster status`"
            }
            Self::NotMe => "another node was expected at this address, or another incarnation",
            Self::WrongName => "the certificate is another node's; give each node its own",
            Self::WrongDirection => "the node with the lower number dials",
            Self::Occupied => "the link before is not taken down yet",
            Self::Unready => "the node has not read yet who is a member",
        }
    }
}

/// The first words of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub versions: (u16, u16),
    pub cluster: [u8; 16],
    pub own: NodeId,
    pub expected: NodeId,
    pub verdict: Verdict,
}

/// Why a hello led to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    /// The connection ended or stood still.
    #[error("no hello came: {0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no hello came within {HANDSHAKE_MAX:?}")]
    Late,
    /// These are not the words of a node.
    #[error("what came first was no hello of a node")]
    Garbage,
    /// We refuse the other side.
    #[error("{}", .0.reason())]
    Refused(Verdict),
    /// The other side refuses us.
    #[error("the other node refuses: {}", .0.reason())]
    RefusedThere(Verdict),
}

impl Hello {
    pub(super) fn new(cluster: [u8; 16], own: NodeId, expected: NodeId) -> Self {
        let versions = (VERSION_MIN, VERSION_MAX);
        Self { versions, cluster, own, expected, verdict: Verdict::Welcome }
    }

    fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = Vec::with_capacity(HELLO_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.versions.0.to_be_bytes());
        bytes.extend(self.versions.1.to_be_bytes());
        bytes.extend(self.cluster);
        for node in [self.own, self.expected] {
            bytes.extend(node.number.to_be_bytes());
            bytes.extend(node.incarnation.to_be_bytes());
        }
        bytes.push(self.verdict.byte());
        bytes.try_into().expect("its parts add up to the size of a hello")
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let mut rest = bytes.as_slice();
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at(count);
            rest = tail;
            head
        };
        let u32_of = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let u16_of = |bytes: &[u8]| u16::from(bytes[0]) << 8 | u16::from(bytes[1]);
        if take(MAGIC.len()) != MAGIC {
            return None;
        }
        let versions = (u16_of(take(2)), u16_of(take(2)));
        let cluster = take(16).try_into().ok()?;
        let own = NodeId { number: u32_of(take(4)), incarnation: u32_of(take(4)) };
        let expected = NodeId { number: u32_of(take(4)), incarnation: u32_of(take(4)) };
        let verdict = *Verdict::ALL.get(usize::from(take(1)[0]))?;
        Some(Self { versions, cluster, own, expected, verdict })
    }

    /// Judges the hello of a dialer. `known` says whether a node is a member, and nothing before that is known; `proven`
    /// whether it has that certificate.
    pub(super) fn judge(
        &self,
        own: &Self,
        known: impl Fn(NodeId) -> Option<bool>,
        proven: impl Fn(u32) -> bool,
    ) -> Verdict {
        let in_common = self.versions.0 <= own.versions.1 && own.versions.0 <= self.versions.1;
        if !in_common {
            Verdict::Version
        } else if self.cluster != own.cluster {
            Verdict::ForeignCluster
        } else if !proven(self.own.number) {
            Verdict::WrongName
        } else if known(self.own).is_none() {
            Verdict::Unready
        } else if known(self.own) == Some(false) {
            Verdict::UnknownNode
        } else if self.expected != own.own {
            Verdict::NotMe
        } else if self.own >= own.own {
            Verdict::WrongDirection
        } else {
            Verdict::Welcome
        }
    }
}

/// Says hello to a node that was dialled, and checks its answer.
pub(super) async fn offer(socket: &mut Socket, hello: Hello) -> Result<(), HelloError> {
    let talk = async {
        say(socket, &hello).await?;
        let answer = hear(socket).await?;
        if answer.verdict != Verdict::Welcome {
            return Err(HelloError::RefusedThere(answer.verdict));
        }
        let verdict = match () {
            () if answer.cluster != hello.cluster => Verdict::ForeignCluster,
            () if answer.own != hello.expected => Verdict::UnknownNode,
            () if answer.expected != hello.own => Verdict::NotMe,
            () => return Ok(()),
        };
        Err(HelloError::Refused(verdict))
    };
    timeout(HANDSHAKE_MAX, talk).await.unwrap_or(Err(HelloError::Late))
}

/// Hears the hello of whoever dialled us.
pub(super) async fn listen(socket: &mut Socket) -> Result<Hello, HelloError> {
    timeout(HANDSHAKE_MAX, hear(socket)).await.unwrap_or(Err(HelloError::Late))
}

/// Answers a hello.
pub(super) async fn answer(socket: &mut Socket, own: Hello) -> Result<(), HelloError> {
    // Whoever is refused learns the reason and nothing else.
    let cluster = if own.verdict == Verdict::Welcome { own.cluster } else { [0; 16] };
    let words = Hello { cluster, ..own };
    timeout(HANDSHAKE_MAX, say(socket, &words)).await.unwrap_or(Err(HelloError::Late))
}

async fn say(socket: &mut Socket, hello: &Hello) -> Result<(), HelloError> {
    socket.write_all(&hello.encode()).await?;
    Ok(socket.flush().await?)
}

async fn hear(socket: &mut Socket) -> Result<Hello, HelloError> {
    let mut bytes = [0; HELLO_BYTES];
    // The magic first, so that a shorter greeting of a stranger is not waited out.
    socket.read_exact(&mut bytes[..MAGIC.len()]).await?;
    if !bytes.starts_with(&MAGIC) {
        return Err(HelloError::Garbage);
    }
    socket.read_exact(&mut bytes[MAGIC.len()..]).await?;
    Hello::decode(&bytes).ok_or(HelloError::Garbage)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn node(number: u32, incarnation: u32) -> NodeId {
        NodeId { number, incarnation }
    }

    #[test]
    fn a_hello_reads_back_and_garbage_does_not() {
        for verdict in Verdict::ALL {
            let hello = Hello { verdict, ..Hello::new([7; 16], node(1, 2), node(3, u32::MAX)) };
            assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        }
        let mut bytes = Hello::new([7; 16], node(1, 2), node(3, 4)).encode();
        bytes[HELLO_BYTES - 1] = 200;
        assert_eq!(Hello::decode(&bytes), None);
        assert_eq!(Hello::decode(&[0xff; HELLO_BYTES]), None);
    }

    #[test]
    fn every_reason_to_refuse_is_found() {
        let own = Hello::new([7; 16], node(2, 1), node(1, 1));
        let good = Hello::new([7; 16], node(1, 1), node(2, 1));
        let known =
            |node: NodeId| Some([(1, 1), (3, 1)].contains(&(node.number, node.incarnation)));
        let judge = |hello: Hello| hello.judge(&own, known, |number| number != 9);
        assert_eq!(good.judge(&own, |_| None, |_| true), Verdict::Unready);
        assert_eq!(judge(good), Verdict::Welcome);
        assert_eq!(judge(Hello { versions: (1, 5), ..good }), Verdict::Welcome);
        assert_eq!(judge(Hello { versions: (2, 5), ..good }), Verdict::Version);
        assert_eq!(judge(Hello { cluster: [8; 16], ..good }), Verdict::ForeignCluster);
        assert_eq!(judge(Hello { own: node(1, 2), ..good }), Verdict::UnknownNode);
        assert_eq!(judge(Hello { own: node(9, 1), ..good }), Verdict::WrongName);
        assert_eq!(judge(Hello { expected: node(2, 2), ..good }), Verdict::NotMe);
        assert_eq!(judge(Hello { own: node(3, 1), ..good }), Verdict::WrongDirection);
    }
}
