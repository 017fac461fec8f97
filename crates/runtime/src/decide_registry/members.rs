//! Who is a member: adding, changing, removing. Pure.
//!
//! Ids are minted here, by an entry of shard 0: a number gets its incarnations one after the other and never the same
//! twice. A number that is a member already gets a new incarnation only where the caller says that the old one's data
//! is gone for good, because two nodes that both think they are node 2 are how acknowledged commands get lost.
//!
//! Absent on purpose: voters. Each shard's leader follows this list by itself.

use serde::Serialize;
use statehouse_contract::{
    MemberDocument, NodeId, ReceiptKind, Rejection, RejectionCode, Standing,
};
use statehouse_store::entry::{Body, Entry};

use super::{Judge, Rows, text};

#[derive(Serialize)]
struct MemberBody {
    node: String,
    standing: Standing,
}

pub(super) fn put(
    judge: Judge<'_>,
    node: NodeId,
    document: &MemberDocument,
    replace: bool,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    let members = &rows.members;
    if node.number == 0 {
        let detail = "nodes are numbered from 1";
        return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
    }
    let before = members.newest(node.number);
    let is_present = before.is_some_and(|before| members.has(before));
    let known = before.and_then(|before| members.0.get(&before));
    if node.incarnation > 0 {
        return change(judge, node, document, rows);
    }
    if members.0.is_empty() {
        let detail = "the first node of this cluster has not said yet where it is reached";
        return Err(Rejection::gateway(RejectionCode::NoLeader, detail).after_ms(100));
    }
    if let Some(before) = before.filter(|_| is_present && !replace) {
        let known = known.map(|known| known.log.as_str()).unwrap_or_default();
        let detail = format!(
            "node {} is a member already, as {before} at {known}; if its data is gone for good, join with --replace, \
             which gives it a new incarnation and takes {before} out",
            node.number
        );
        return Ok(judge.refuse(RejectionCode::AlreadyExists, detail, "put-member"));
    }
    let incarnation = before.map_or(1, |before| before.incarnation.saturating_add(1));
    let minted = NodeId { number: node.number, incarnation };
    Ok(set(judge, minted, document, Standing::Active, ReceiptKind::Created))
}

fn change(
    judge: Judge<'_>,
    node: NodeId,
    document: &MemberDocument,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    let members = &rows.members;
    // The founder of a cluster is the one member that nobody minted.
    let is_founding = members.0.is_empty();
    if !is_founding && !members.has(node) {
        let why = if members.is_gone(node) { "is gone for good" } else { "was never a member" };
        let detail = format!("{node} {why}; a node joins with `statehouse cluster join`");
        return Ok(judge.refuse(RejectionCode::InvalidRequest, detail, "put-member"));
    }
    let before = members.0.get(&node).and_then(|known| known.standing);
    let standing = document.standing.or(before).unwrap_or(Standing::Active);
    if standing == Standing::Removed {
        return remove(judge, node, rows);
    }
    Ok(set(judge, node, document, standing, ReceiptKind::Accepted))
}

/// Takes a member out, unless the shards could not go on without it. That is asked of shard 0, where everybody votes who
/// votes anywhere; a change of voters that nobody can commit could not be taken back.
pub(super) fn remove(judge: Judge<'_>, node: NodeId, rows: &Rows) -> Result<Entry, Rejection> {
    let members = &rows.members;
    let Some(document) = members.0.get(&node).filter(|_| members.has(node)) else {
        let detail = format!("{node} is no member");
        return Ok(judge.refuse(RejectionCode::InvalidRequest, detail, "remove-member"));
    };
    if members.present().count() == 1 {
        let detail = format!("{node} is the last member: a cluster without members is no cluster");
        return Ok(judge.refuse(RejectionCode::InvalidRequest, detail, "remove-member"));
    }
    let staying =
        || rows.voters.iter().filter(|(voter, _)| **voter != node && members.has(**voter));
    let (answering, all) = (staying().filter(|(_, answers)| **answers).count(), staying().count());
    if 2 * answering <= all {
        let silent =
            staying().filter(|(_, answers)| !**answers).map(|(voter, _)| voter.to_string());
        let silent = silent.collect::<Vec<_>>().join(", ");
        let why = if all == 0 {
            "nobody else votes yet; wait until `cluster status` shows another voter".to_owned()
        } else {
            format!(
                "only {answering} of the {all} other voters answer; start {silent} again, or remove what is gone first"
            )
        };
        let detail = format!("{node} stays: {why}");
        return Err(Rejection::gateway(RejectionCode::NoQuorum, detail).after_ms(500));
    }
    Ok(set(judge, node, document, Standing::Removed, ReceiptKind::Accepted))
}

fn set(
    judge: Judge<'_>,
    node: NodeId,
    document: &MemberDocument,
    standing: Standing,
    kind: ReceiptKind,
) -> Entry {
    let document = MemberDocument { standing: Some(standing), ..document.clone() };
    let body = text(&MemberBody { node: node.to_string(), standing });
    let asked = judge.asked(kind, body);
    judge.entry(Body::MemberSet { node, document: Some(document.json()), asked })
}
