//! What a run has come to: every node tells its rows, the judge reads the history, and the rows are audited.
//!
//! Deliberately absent: rules. What must hold is the business of `judge` and of the store's own audit; here is only that all
//! nodes at rest have one chain and one fingerprint of all rows.

use statehouse_contract::NodeId;
use statehouse_judge::{Counts, Demands, Finding, judge};

use super::{wire::Failure, world::World};

/// By how much a timer may be early in real time: wall clocks differ by at most half a second.
const SKEW_MS: u64 = 1_000;
/// How late a timer may be.
const GRACE_MS: u64 = 30_000;
/// Lines of a dump at once: more than a run has.
const LINES_MAX: u64 = 100_000;

/// Judges a world at rest.
///
/// # Errors
/// A promise was broken, or nobody can say.
pub fn judge_world(world: &mut World<'_>) -> Result<Counts, Failure> {
    let mut ends = Vec::new();
    let mut lines = Vec::new();
    for place in &world.places {
        let Some(replica) = &place.replica else { continue };
        let view = replica.disk.store.view();
        let meta = view.meta()?;
        ends.push((replica.number, meta.applied, meta.chain, meta.state_digest()));
        let node = NodeId { number: replica.number, incarnation: 1 };
        let page = view.dump(node, None, LINES_MAX)?;
        lines.extend(page.lines.iter().map(|line| line.as_str().to_owned()));
    }
    for line in lines {
        world.history.raw(&line);
    }
    world.history.end(world.now_us, GRACE_MS, SKEW_MS);
    let verdict =
        judge(&statehouse_judge::History::parse(world.history.text().to_owned()), &Demands::LEAST);
    match &verdict.finding {
        Finding::Valid => {}
        Finding::Undecided { why } => return Err(Failure::of("undecided", why.join("; "))),
        Finding::Invalid { violations, .. } => {
            let first = violations.first().expect("an invalid history has a violation");
            return Err(Failure::of(first.rule.code(), first.to_string()));
        }
    }
    for replica in world.places.iter().filter_map(|place| place.replica.as_ref()) {
        if let Some(finding) = replica.disk.store.view().audit()?.first() {
            return Err(Failure::of("audit", format!("node {}: {finding:?}", replica.number)));
        }
    }
    if let Some(pair) = ends.windows(2).find(|pair| match pair {
        [(_, at, chain, rows), (_, other_at, other_chain, other_rows)] => {
            (at, chain, rows) != (other_at, other_chain, other_rows)
        }
        _ => false,
    }) {
        return Err(Failure::of("S8", format!("rows at rest differ: {pair:?}")));
    }
    Ok(verdict.counts)
}
