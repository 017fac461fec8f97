//! Changes after a cursor: of one instance, or of a tenant over all shards.
//!
//! What is there is answered at once; else the answer waits for the first change, at most as long as the caller. The cursor
//! of a tenant's changes is a position of every shard; the changes of one answer are ordered by time as far as they go, and
//! each carries the cursor behind it, so a reader that stops anywhere misses nothing and sees nothing twice.
//!
//! Absent on purpose: connections and heartbeats; the edge has those.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use statehouse_contract::{
    InstanceKey, Rejection, RejectionCode, TenantId, WatchScope,
    limits::{PAGE_DEFAULT, PAGE_MAX, WAIT_MS_MAX},
    view::{Changes, TransitionView},
};
use statehouse_runtime::{Seat, questions::Position};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::ShardMap;

/// Pause after a change, so that one answer carries what comes in a burst.
const GATHER: Duration = Duration::from_millis(5);

/// What the caller wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The cursor.
    pub(crate) after: Option<&'a str>,
    /// Most rows.
    pub(crate) limit: u32,
    /// Wait so long for the first change.
    pub(crate) wait_ms: u64,
}

/// Returns changes after a cursor.
///
/// # Errors
/// The rejection that the caller gets.
pub(crate) async fn changes(
    seats: &[Arc<Seat>],
    map: ShardMap,
    scope: &WatchScope,
    asked: Asked<'_>,
) -> Result<Changes, Rejection> {
    let limit = if asked.limit == 0 { PAGE_DEFAULT } else { asked.limit.min(PAGE_MAX) };
    let until = Instant::now() + Duration::from_millis(asked.wait_ms.min(WAIT_MS_MAX));
    match scope {
        WatchScope::Instance(key) => {
            let shard = usize::try_from(map.of_instance(key).0).unwrap_or(usize::MAX);
            let seat = seats.get(shard).ok_or_else(|| {
                Rejection::gateway(RejectionCode::Internal, "the shard is not held here")
            })?;
            of_instance(seat, key, asked.after, limit, until).await
        }
        WatchScope::Tenant(tenant) => of_tenant(seats, tenant, asked.after, limit, until).await,
    }
}

async fn of_instance(
    seat: &Arc<Seat>,
    key: &InstanceKey,
    after: Option<&str>,
    limit: u32,
    until: Instant,
) -> Result<Changes, Rejection> {
    let mut position = Position::parse(after.unwrap_or("0"), 1)?;
    let mut applied = seat.log().applied();
    loop {
        applied.mark_unchanged();
        let page = seat.instance_changes(key, position.of(0), limit)?;
        let shown = page
            .rows
            .iter()
            .filter_map(|placed| Seat::change(placed, placed.record.position.to_string()));
        let items: Vec<TransitionView> = shown.collect();
        position.advance(0, page.next);
        if !items.is_empty() || timeout_at(until, applied.changed()).await.is_err() {
            return Ok(Changes { items, cursor: position.to_string() });
        }
    }
}

async fn of_tenant(
    seats: &[Arc<Seat>],
    tenant: &TenantId,
    after: Option<&str>,
    limit: u32,
    until: Instant,
) -> Result<Changes, Rejection> {
    let mut position = match after {
        Some(text) => Position::parse(text, seats.len())?,
        None => Position::new(seats.iter().map(|seat| seat.applied()).collect()),
    };
    loop {
        let mut applied: Vec<_> = seats.iter().map(|seat| seat.log().applied()).collect();
        applied.iter_mut().for_each(|watch| watch.mark_unchanged());
        let (items, is_all) = look(seats, tenant, &mut position, limit)?;
        if !items.is_empty() {
            return Ok(Changes { items, cursor: position.to_string() });
        }
        if !is_all {
            continue;
        }
        if timeout_at(until, any_changed(applied)).await.is_err() {
            return Ok(Changes { items, cursor: position.to_string() });
        }
        sleep(GATHER).await;
    }
}

/// Looks once at every shard; returns what was found, and whether everything was looked at.
fn look(
    seats: &[Arc<Seat>],
    tenant: &TenantId,
    position: &mut Position,
    limit: u32,
) -> Result<(Vec<TransitionView>, bool), Rejection> {
    let mut found = Vec::new();
    let mut is_all = true;
    let mut ends = Vec::new();
    for (shard, seat) in seats.iter().enumerate() {
        let page = seat.tenant_changes(tenant, position.of(shard), limit)?;
        is_all &= !page.has_more;
        ends.push(page.next);
        found.extend(page.rows.into_iter().map(|placed| (shard, placed)));
    }
    if found.is_empty() {
        ends.into_iter().enumerate().for_each(|(shard, end)| position.advance(shard, end));
        return Ok((Vec::new(), is_all));
    }
    // Within a shard the order is the log's; between shards it is time's, as far as that goes.
    found.sort_by_key(|(shard, placed)| {
        (placed.record.at(), Reverse(*shard), placed.record.position)
    });
    // Time never goes back within a shard, so cutting the tail cuts no earlier change of any shard.
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut items = Vec::with_capacity(found.len());
    for (shard, placed) in found {
        position.advance(shard, placed.record.position);
        items.extend(Seat::change(&placed, position.to_string()));
    }
    Ok((items, is_all))
}

/// Waits until any shard has applied something.
async fn any_changed(watches: Vec<tokio::sync::watch::Receiver<Option<u64>>>) {
    let mut waiting = JoinSet::new();
    for mut watch in watches {
        waiting.spawn(async move {
            let _ = watch.changed().await;
        });
    }
    let _ = waiting.join_next().await;
}
