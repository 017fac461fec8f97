//! What two nodes say before anything else on the log's wire: who they are, and that they share cluster and cookie.
//!
//! The accepting side speaks first, with a number that is used once; the dialler answers with its hello, sealed by the
//! cookie; the accepting side judges it and seals its own answer. Nobody tells the cookie. Versions are a range on each
//! side: the newest that both know is spoken, so that an older and a newer build work side by side. Each side also tells
//! the newest feature level that its build knows; no shard is raised above that while the node is a member.
//!
//! Absent on purpose: secrecy and proof of identity. Certificates give those (`security.rs`); the cookie keeps clusters
//! apart that were wired together by mistake.

use std::{io, time::Duration};

use bincode::{Decode, Encode};
use statehouse_contract::{Build, Digest, NodeId, codec};
use statehouse_log::Lane;
use tokio::time::timeout;

use super::{Ground, frames};
use crate::{cookie::Cookie, identity::ClusterId, socket::Socket};

/// The oldest version of this wire that is spoken; the newest comes with the build.
const VERSION_MIN: u16 = 1;
/// How long the whole greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(3);

type Nonce = [u8; 32];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Purpose {
    /// Questions of the log, on the lane of this number.
    Lane(u8),
    /// A node that has no identity yet asks for one.
    Join,
}

#[derive(Debug, Encode, Decode)]
struct Challenge {
    versions: (u16, u16),
    nonce: Nonce,
}

/// What the dialler says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Hello {
    /// The version that will be spoken.
    pub(crate) version: u16,
    /// The cluster; a node that joins knows none yet.
    pub(crate) cluster: Option<ClusterId>,
    /// Who dials. A node that joins has incarnation 0.
    pub(crate) from: NodeId,
    /// Whom it believes to dial; a node that joins cannot know.
    pub(crate) to: Option<NodeId>,
    /// What for.
    pub(crate) purpose: Purpose,
    /// The newest feature level that its build knows.
    pub(crate) level: u16,
}

/// What the accepting side says about itself when it has found nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Welcome {
    /// The version that is spoken from now on.
    pub(crate) version: u16,
    /// The newest feature level that its build knows.
    pub(crate) level: u16,
}

#[derive(Debug, Encode, Decode)]
struct Sealed {
    hello: Hello,
    nonce: Nonce,
    seal: Digest,
}

#[derive(Debug, Encode, Decode)]
enum Verdict {
    Welcome { welcome: Welcome, seal: Digest },
    Refused { why: Box<str> },
}

/// Why the two did not come together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    /// The other side refused us, and says why.
    #[error("refused: {0}")]
    Refused(Box<str>),
    /// We refuse the other side.
    #[error("{0}")]
    Unwelcome(String),
    /// The connection broke, or what came was no greeting.
    #[error("no greeting: {0}")]
    Broken(#[from] io::Error),
    /// It took too long.
    #[error("no greeting within {GREETING_MAX:?}")]
    Late,
}

/// Numbers the lanes for the wire.
pub(crate) const fn lane_number(lane: Lane) -> u8 {
    match lane {
        Lane::Urgent => 0,
        Lane::Append => 1,
        Lane::Snapshot => 2,
    }
}

/// Returns the versions of this wire that a build speaks, oldest and newest.
const fn versions(build: Build) -> (u16, u16) {
    (VERSION_MIN, build.wire)
}

/// Returns the newest version that both ranges hold.
fn common(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0.max(theirs.0)).then_some(newest)
}

/// Seals a text with the cookie; the number that is used once keeps a seal from being used again.
fn seal(cookie: &Cookie, nonce: &Nonce, what: &[u8]) -> Digest {
    let cookie = Digest::of(cookie.text().as_bytes()).to_string();
    let parts = [cookie.as_bytes(), nonce, what].concat();
    Digest::of(&parts)
}

/// Seals the answer; its first word keeps it apart from a sealed hello.
fn seal_welcome(cookie: &Cookie, nonce: &Nonce, welcome: Welcome) -> Digest {
    seal(cookie, nonce, &[b"welcome", codec::bare(&welcome).as_slice()].concat())
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// Greets whom we have dialled, in the name of a build, and returns what it said once its seal was checked. The hello gets
/// the version that both speak.
///
/// # Errors
/// Says who refused whom and why.
pub(crate) async fn greet(
    socket: &mut Socket,
    cookie: &Cookie,
    build: Build,
    mut hello: Hello,
) -> Result<Welcome, GreetingError> {
    let greeting = async {
        let challenge: Challenge = next(socket).await?;
        let ours = versions(build);
        hello.version = common(ours, challenge.versions).ok_or_else(|| {
            let (oldest, newest) = challenge.versions;
            GreetingError::Unwelcome(format!(
                "it speaks versions {oldest} to {newest} of the log's wire, this build {} to {}",
                ours.0, ours.1
            ))
        })?;
        let body = codec::bare(&hello);
        let ours = nonce()?;
        let sealed = Sealed { seal: seal(cookie, &challenge.nonce, &body), nonce: ours, hello };
        frames::write(socket, &sealed).await?;
        match next(socket).await? {
            Verdict::Refused { why } => Err(GreetingError::Refused(why)),
            Verdict::Welcome { welcome, seal: found }
                if found == seal_welcome(cookie, &ours, welcome) =>
            {
                Ok(welcome)
            }
            Verdict::Welcome { .. } => {
                Err(GreetingError::Unwelcome("it does not have the cluster's cookie".to_owned()))
            }
        }
    };
    timeout(GREETING_MAX, greeting).await.unwrap_or(Err(GreetingError::Late))
}

/// Greets whoever has dialled us, and returns what it said once everything in it was checked. `is_needed` says whether a
/// shard of this node still has a node among its members.
///
/// # Errors
/// Says who refused whom and why; the other side has been told.
pub(crate) async fn receive(
    socket: &mut Socket,
    ground: &Ground,
    is_needed: impl Fn(NodeId) -> bool,
) -> Result<Hello, GreetingError> {
    let greeting = async {
        let ours = nonce()?;
        let spoken = versions(ground.build);
        frames::write(socket, &Challenge { versions: spoken, nonce: ours }).await?;
        let Sealed { hello, nonce: theirs, seal: found } = next(socket).await?;
        let body = codec::bare(&hello);
        let is_sealed = found == seal(&ground.cookie, &ours, &body);
        let judged = if is_sealed {
            judge(&hello, ground, socket.proves(hello.from.number), is_needed)
        } else {
            Err("the cookie is another one".to_owned())
        };
        match judged {
            Ok(()) => {
                let welcome = Welcome { version: hello.version, level: ground.build.level };
                let seal = seal_welcome(&ground.cookie, &theirs, welcome);
                frames::write(socket, &Verdict::Welcome { welcome, seal }).await?;
                Ok(hello)
            }
            Err(why) => {
                frames::write(socket, &Verdict::Refused { why: why.as_str().into() }).await?;
                Err(GreetingError::Unwelcome(why))
            }
        }
    };
    timeout(GREETING_MAX, greeting).await.unwrap_or(Err(GreetingError::Late))
}

fn judge(
    hello: &Hello,
    ground: &Ground,
    is_proven: bool,
    is_needed: impl Fn(NodeId) -> bool,
) -> Result<(), String> {
    let from = hello.from;
    if common(versions(ground.build), (hello.version, hello.version)).is_none() {
        return Err(format!("version {} of the log's wire is not spoken here", hello.version));
    }
    if !is_proven {
        return Err(format!("the certificate is not that of node-{}", from.number));
    }
    match (hello.purpose, hello.cluster) {
        (Purpose::Join, None) => return Ok(()),
        (_, Some(cluster)) if cluster == ground.cluster => {}
        (_, Some(cluster)) => {
            return Err(format!("this is cluster {}, not cluster {cluster}", ground.cluster));
        }
        (Purpose::Lane(_), None) => return Err("no cluster was named".to_owned()),
    }
    if let Some(to) = hello.to.filter(|to| *to != ground.own) {
        return Err(format!("this is {}, not {to}", ground.own));
    }
    // One that was removed goes on until no shard needs its vote any more: it hands over, and the others let it go.
    if ground.roll.members().is_gone(from) && !is_needed(from) {
        return Err(format!("{from} is no member any more; it joins again as a new one"));
    }
    Ok(())
}

async fn next<T: Decode<()>>(socket: &mut Socket) -> Result<T, GreetingError> {
    let found = frames::read(socket, frames::GREETING_BYTES_MAX).await?;
    found.ok_or_else(|| GreetingError::Broken(io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        assert_eq!(common((1, 3), (2, 5)), Some(3));
        assert_eq!(common((2, 5), (1, 3)), Some(3));
        assert_eq!(common((1, 1), (2, 3)), None);
        assert_eq!(common((3, 4), (1, 2)), None);
    }

    #[test]
    fn a_seal_fits_one_answer_to_one_greeting() {
        let (cookie, other) = (
            Cookie::from_text("a-cookie-of-the-tests"),
            Cookie::from_text("another-cookie-altogether"),
        );
        let welcome = Welcome { version: 1, level: 1 };
        let fits = seal_welcome(&cookie, &[1; 32], welcome);
        let wrong = [
            seal_welcome(&cookie, &[1; 32], Welcome { level: 2, ..welcome }),
            seal_welcome(&cookie, &[1; 32], Welcome { version: 2, ..welcome }),
            seal_welcome(&cookie, &[2; 32], welcome),
            seal_welcome(&other, &[1; 32], welcome),
        ];
        assert!(!wrong.contains(&fits));
    }
}
