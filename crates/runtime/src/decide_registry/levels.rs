//! A shard's feature level: raising it. Pure.
//!
//! From the raising entry on, the shard's log may hold entries that an older build cannot read, and a replica that cannot
//! read an entry halts. So the level is raised only when every member of the shard, voter or learner, is known to
//! understand it. What a member's build knows comes in as a fact, gathered a moment ago; one that is restarted as an older
//! build after that refuses to open the shard, which is safe.
//!
//! Absent on purpose: lowering a level. Entries that were written stay written.
//!
//! Invariant: a shard's level only rises.

use std::collections::BTreeMap;

use serde::Serialize;
use statehouse_contract::{NodeId, ReceiptKind, Rejection, RejectionCode, ShardId};
use statehouse_store::entry::{Body, Entry};

use super::{Judge, Rows, text};

const VERB: &str = "raise-feature";

#[derive(Serialize)]
struct RaisedBody {
    shard: u32,
    level: u16,
    raised: bool,
}

pub(super) fn raise(
    judge: Judge<'_>,
    shard: ShardId,
    level: u16,
    rows: &Rows,
) -> Result<Entry, Rejection> {
    if level == 0 {
        let detail = "feature levels are counted from 1";
        return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
    }
    let body = |level, raised| text(&RaisedBody { shard: shard.0, level, raised });
    if level <= rows.level {
        return Ok(judge.accept_nothing(body(rows.level, false), VERB));
    }
    let mut builds = rows.builds.clone();
    // The one that decides has to read what it writes, whoever else is a member.
    builds.insert(judge.circumstances.node, Some(judge.circumstances.build.level));
    if let Some(why) = hindrance(&builds, level) {
        let have = rows.level;
        let detail = format!("shard {shard} stays at level {have}: {why}; then raise it again");
        return Ok(judge.refuse(RejectionCode::LimitExceeded, detail, VERB));
    }
    let asked = judge.asked(ReceiptKind::Accepted, body(level, true));
    Ok(judge.entry(Body::FeatureRaised { level, asked }))
}

/// Says who hinders the level, and what to do about it; nothing if everybody is known to understand it.
fn hindrance(builds: &BTreeMap<NodeId, Option<u16>>, level: u16) -> Option<String> {
    let older = builds.iter().filter_map(|(node, known)| {
        let known = known.filter(|known| *known < level)?;
        Some(format!("{node} (level {known})"))
    });
    let unknown = builds.iter().filter(|(_, known)| known.is_none());
    let older = older.collect::<Vec<_>>().join(", ");
    let unknown = unknown.map(|(node, _)| node.to_string()).collect::<Vec<_>>().join(", ");
    let older = (!older.is_empty())
        .then(|| format!("level {level} is beyond the builds of {older}; start newer ones there"));
    let unknown = (!unknown.is_empty()).then(|| {
        format!(
            "nobody knows what the builds of {unknown} know while there is no connection; start them, or take them out of \
             the cluster"
        )
    });
    let why: Vec<String> = older.into_iter().chain(unknown).collect();
    (!why.is_empty()).then(|| why.join("; "))
}
