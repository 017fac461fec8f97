//! How a node comes into a cluster: asking for an identity, giving one, and saying where one is reached.
//!
//! Three acts, all of them commands to shard 0: a new node asks any member, which submits the command for it; a member
//! says at each start where it is reached now; the founder says so of itself. None is concluded from an empty directory.
//!
//! Absent on purpose: taking the new member into the shards. Their leaders do that when they see the list.

use std::{io, path::Path, sync::Arc};

use statehouse_contract::{
    Actor, Build, Command, CommandEnvelope, Digest, Key, KeyText, MemberDocument, Members, NodeId,
    Receipt, ReceiptKind, Rejection, Target, TraceContext,
};
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep},
};
use tracing::{info, warn};

use crate::{
    NodeError, Router,
    cookie::Cookie,
    faults::Faults,
    identity::{self, ClusterId},
    line::Traffic,
    log_wire::join::{self, JOIN_MAX, JoinDesk, JoinError, JoinGrant, JoinRequest, Served},
    roll::Roll,
    security::LinkSecurity,
    socket::{Socket, Wire},
};

/// Pause before an announcement that was not taken is made again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a node needs to ask for an identity.
#[derive(Debug)]
pub struct Joining<'a> {
    /// Its directory, `DATA/node-K`.
    pub data: &'a Path,
    /// Its number.
    pub number: u32,
    /// Members to ask, as `(number, host:port)` of their log's addresses. The number is that of the certificate.
    pub seeds: &'a [(u32, String)],
    /// Where it will be reached.
    pub document: MemberDocument,
    /// Whether it takes the place of a member of its number, whose data is gone for good.
    pub replace: bool,
    /// The name tag of the cluster.
    pub cookie: &'a Cookie,
    /// How connections are secured.
    pub security: &'a LinkSecurity,
    /// What this build knows.
    pub build: Build,
}

/// Asks the members for an identity and gives it to the directory; returns it.
///
/// # Errors
/// The directory is in use, nobody answered, or the cluster said no.
pub async fn join(joining: Joining<'_>) -> Result<NodeId, NodeError> {
    let Joining { data, number, seeds, document, replace, cookie, security, build } = joining;
    if identity::is_there(data) {
        return Err(NodeError::Mismatch {
            path: data.to_owned(),
            problem: "has an identity already; it need not join".to_owned(),
        });
    }
    let nonce = identity::joining(data)?;
    let request = JoinRequest { number, nonce, document, replace };
    let faults = Arc::new(Faults::default());
    let wire = Wire::new(security.clone(), faults, Arc::new(Traffic::default()));
    let mut tried = Vec::new();
    for (seed, address) in seeds {
        match join::ask(&wire, cookie, build, address, *seed, &request).await {
            Ok(Ok(JoinGrant { node, cluster, shards })) => {
                identity::joined(data, cluster, node, shards)?;
                return Ok(node);
            }
            Ok(Err(why)) => {
                // The cluster keeps a no for a day, but its reason may be gone tomorrow. Nothing was given under the number
                // that was drawn, so the next join may be another question.
                identity::forget_joining(data);
                return Err(NodeError::Join(JoinError::Refused(why.into())));
            }
            Err(why) => tried.push(format!("{address} ({why})")),
        }
    }
    Err(NodeError::Join(JoinError::NobodyThere { tried: tried.join(", ") }))
}

/// The desk of a running node at which others join.
pub(crate) struct Registrar {
    pub(crate) router: Router,
    pub(crate) roll: Roll,
    pub(crate) cluster: ClusterId,
    pub(crate) shards: u32,
}

impl JoinDesk for Registrar {
    fn serve<'a>(&'a self, socket: &'a mut Socket, number: u32, level: u16) -> Served<'a> {
        Box::pin(async move {
            join::serve(socket, number, async |request| self.mint(request, level).await).await
        })
    }
}

impl Registrar {
    /// Returns the identity or the cluster's no; an error where it may be asked again.
    async fn mint(
        &self,
        request: JoinRequest,
        level: u16,
    ) -> io::Result<Result<JoinGrant, Box<str>>> {
        let raised = self.router.level();
        if level < raised {
            let why = format!(
                "a shard of it is at feature level {raised}, and this build knows levels up to {level}; join with the \
                 build that the others run"
            );
            return Ok(Err(why.into()));
        }
        let JoinRequest { number, nonce, document, replace } = request;
        let node = NodeId { number, incarnation: 0 };
        // A no to the plain question is stored; whoever then says --replace asks another one.
        let way = if replace { "-replace" } else { "" };
        let key = format!("join-{number}-{}{way}", hex(&nonce));
        let command = Command::PutMember { node, document, replace };
        let receipt = self.router.submit(envelope(command, &key)).await;
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(no) if no.code.advice().is_retryable() => {
                return Err(io::Error::other(no.to_string()));
            }
            Err(no) => return Ok(Err(no.to_string().into())),
        };
        let minted = minted(&receipt, &self.roll.members())?;
        Ok(minted.map(|node| {
            info!(%node, "a new member was taken in");
            JoinGrant { node, cluster: self.cluster, shards: self.shards }
        }))
    }
}

/// Reads shard 0's answer: the identity that it gave, or its no.
fn minted(receipt: &Receipt, members: &Members) -> io::Result<Result<NodeId, Box<str>>> {
    let body = receipt.body.to_value();
    let text = |name: &str| body.get(name).and_then(|value| value.as_str());
    if let ReceiptKind::Refused(_) = receipt.kind {
        return Ok(Err(text("detail").unwrap_or("it refuses").into()));
    }
    let node = text("node").and_then(|text| text.parse().ok());
    let node: NodeId = node.ok_or_else(|| io::Error::other("the answer names no node"))?;
    // Given once to this directory, which did not keep it, and taken back since.
    if members.is_gone(node) {
        let why =
            format!("{node}, as which it was taken in before, is no member any more; join again");
        return Ok(Err(why.into()));
    }
    Ok(Ok(node))
}

/// Says in shard 0 where this node is reached whenever the list says otherwise. Whoever changes something else about a
/// member copies the addresses that it knows, and those may be old.
pub(crate) fn announce(
    router: Router,
    roll: &Roll,
    node: NodeId,
    document: MemberDocument,
) -> JoinHandle<()> {
    let mut members = roll.subscribe();
    tokio::spawn(async move {
        loop {
            let known = members.borrow_and_update().0.get(&node).cloned();
            let is_known = known.is_some_and(|known| {
                MemberDocument { standing: document.standing, ..known } == document
            });
            if is_known {
                if members.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match say(&router, node, &document).await {
                Ok(Receipt { kind: ReceiptKind::Refused(code), body, .. }) => {
                    // Its place was taken while it was away: the log refuses it as well, and says why.
                    warn!(%code, body = body.as_str(), "this node is not welcome any more");
                    return;
                }
                Ok(_) => {}
                Err(no) => warn!(error = %no, "the node could not say where it is reached"),
            }
            sleep(AGAIN).await;
        }
    })
}

async fn say(
    router: &Router,
    node: NodeId,
    document: &MemberDocument,
) -> Result<Receipt, Rejection> {
    let mut drawn = [0; 16];
    if let Err(error) = getrandom::fill(&mut drawn) {
        let why = io::Error::other(error).to_string();
        return Err(Rejection::gateway(statehouse_contract::RejectionCode::Internal, why));
    }
    let key = format!("announce-{node}-{}", hex(&drawn));
    let command = Command::PutMember { node, document: document.clone(), replace: false };
    router.submit(envelope(command, &key)).await
}

fn hex(bytes: &[u8; 16]) -> String {
    ClusterId(*bytes).to_string()
}

pub(crate) fn envelope(command: Command, key: &str) -> CommandEnvelope {
    let key = KeyText::parse(key).expect("letters, digits, dots and dashes");
    CommandEnvelope {
        target: Target::Cluster,
        fingerprint: Digest::of(key.as_str().as_bytes()),
        key: Key::Operator(key),
        command,
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: u64::try_from(JOIN_MAX.as_millis()).unwrap_or(u64::MAX) / 2,
        expected: None,
        actor: Actor::system(),
        reason: Some("membership".into()),
        attempt: 1,
    }
}

#[cfg(test)]
mod tests;
