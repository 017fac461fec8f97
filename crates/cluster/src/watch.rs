//! Changes after a cursor: of one instance, or of a tenant over all shards.
//!
//! Each question asks the leader of every shard concerned from which position this node's rows may be read, then reads
//! them: so an answer has everything that was acknowledged before the question, wherever it was asked. A shard that nobody
//! can vouch for now is named as missing, and its changes come later, from the same cursor.
//!
//! What is there is answered at once; else the answer waits for the first change, at most as long as the caller. The
//! changes of one answer are ordered by time as far as that goes, and each carries the cursor behind it, so a reader that
//! stops anywhere misses nothing and sees nothing twice.
//!
//! Absent on purpose: connections and heartbeats; the edge has those.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use statehouse_contract::{
    InstanceKey, Rejection, RejectionCode, ShardId, TenantId, WatchScope,
    limits::{PAGE_DEFAULT, PAGE_MAX, WAIT_MS_MAX},
    view::{Page, PageEnd, TransitionView},
};
use statehouse_runtime::{
    Seat,
    questions::{Place, Position, StreamPage},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::ShardMap;

/// Pause after a change, so that one answer carries what comes in a burst.
const GATHER: Duration = Duration::from_millis(5);
/// Longest wait while a shard is missing, so that the caller soon learns that it is back.
const WAIT_INCOMPLETE: Duration = Duration::from_secs(1);

/// What the caller wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The cursor.
    pub(crate) after: Option<&'a str>,
    /// Most rows.
    pub(crate) limit: u32,
    /// Wait so long for the first change.
    pub(crate) wait_ms: u64,
    /// Refuse rather than leave a shard out.
    pub(crate) complete: bool,
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
) -> Result<Page<TransitionView>, Rejection> {
    let watched = match scope {
        WatchScope::Tenant(tenant) => {
            let whole = Watched { seats: seats.to_vec(), of: Of::Tenant(tenant) };
            return whole.changes(map, asked).await;
        }
        WatchScope::Instance(key) => {
            let shard = usize::try_from(map.of_instance(key).0).unwrap_or(usize::MAX);
            let seat = seats.get(shard).ok_or_else(|| {
                Rejection::gateway(RejectionCode::Internal, "the shard is not held here")
            })?;
            Watched { seats: vec![Arc::clone(seat)], of: Of::Instance(key) }
        }
    };
    // The only shard of an instance: without it there is nothing to tell.
    watched.changes(map, Asked { complete: true, ..asked }).await
}

/// Whose changes.
#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    Instance(&'a InstanceKey),
    Tenant(&'a TenantId),
}

/// The shards concerned, in their order.
struct Watched<'a> {
    seats: Vec<Arc<Seat>>,
    of: Of<'a>,
}

impl Watched<'_> {
    async fn changes(
        &self,
        map: ShardMap,
        asked: Asked<'_>,
    ) -> Result<Page<TransitionView>, Rejection> {
        let limit = if asked.limit == 0 { PAGE_DEFAULT } else { asked.limit.min(PAGE_MAX) };
        let mut until = Instant::now() + Duration::from_millis(asked.wait_ms.min(WAIT_MS_MAX));
        let epochs: Vec<u32> = self.seats.iter().map(|seat| map.epoch(seat.shard())).collect();
        let given = asked.after.map(|text| Position::parse(text, &epochs)).transpose()?;
        let missing = self.missing(asked.complete).await?;
        if !missing.is_empty() {
            until = until.min(Instant::now() + WAIT_INCOMPLETE);
        }
        let mut position = given.unwrap_or_else(|| self.beginning(&epochs));
        loop {
            let present = || self.seats.iter().filter(|seat| !missing.contains(&seat.shard()));
            let mut applied: Vec<_> = present().map(|seat| seat.log().applied()).collect();
            applied.iter_mut().for_each(|watch| watch.mark_unchanged());
            let (items, has_more) = self.look(&missing, &mut position, limit)?;
            let is_over = !items.is_empty()
                || (!has_more && timeout_at(until, any_changed(applied)).await.is_err());
            if is_over {
                let end_cursor = Some(position.to_string());
                let missing_shards = missing.iter().map(|shard| shard.0).collect();
                return Ok(Page { items, page: PageEnd { end_cursor, has_more, missing_shards } });
            }
            if !has_more {
                sleep(GATHER).await;
            }
        }
    }

    /// Where a reader without a cursor begins: a tenant's now, an instance's birth.
    fn beginning(&self, epochs: &[u32]) -> Position {
        let place = |(seat, epoch): (&Arc<Seat>, &u32)| {
            let position = match self.of {
                Of::Tenant(_) => seat.applied(),
                Of::Instance(_) => 0,
            };
            Place { epoch: *epoch, position }
        };
        Position::new(self.seats.iter().zip(epochs).map(place).collect())
    }

    /// Lets every shard's copy here catch up with its leader. Returns those that could not.
    async fn missing(&self, complete: bool) -> Result<Vec<ShardId>, Rejection> {
        let mut asking = JoinSet::new();
        for seat in &self.seats {
            let seat = Arc::clone(seat);
            asking.spawn(async move { (seat.shard(), seat.catch_up().await) });
        }
        let mut missing = Vec::new();
        while let Some(asked) = asking.join_next().await {
            let crashed = |_| Rejection::gateway(RejectionCode::Internal, "a question was lost");
            match asked.map_err(crashed)? {
                (_, Ok(())) => {}
                (shard, Err(no)) if no.code.status() == 503 && !complete => missing.push(shard),
                (_, Err(no)) => return Err(no),
            }
        }
        missing.sort_unstable();
        Ok(missing)
    }

    /// Looks once at every shard that is not missing; returns what was found, and whether there is more to look at.
    fn look(
        &self,
        missing: &[ShardId],
        position: &mut Position,
        limit: u32,
    ) -> Result<(Vec<TransitionView>, bool), Rejection> {
        let (mut found, mut ends) = (Vec::new(), Vec::new());
        let mut has_more = false;
        for (shard, seat) in self.seats.iter().enumerate() {
            if missing.contains(&seat.shard()) {
                continue;
            }
            let page = self.page(seat, position.of(shard), limit)?;
            has_more |= page.has_more;
            ends.push((shard, page.next));
            found.extend(page.rows.into_iter().map(|placed| (shard, placed)));
        }
        if found.is_empty() {
            ends.into_iter().for_each(|(shard, end)| position.advance(shard, end));
            return Ok((Vec::new(), has_more));
        }
        // Within a shard the order is the log's; between shards it is time's, as far as that goes.
        found.sort_by_key(|(shard, placed)| {
            (placed.record.at(), Reverse(*shard), placed.record.position)
        });
        // Time never goes back within a shard, so cutting the tail cuts no earlier change of any shard.
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        has_more |= found.len() > most;
        found.truncate(most);
        let mut items = Vec::with_capacity(found.len());
        for (shard, placed) in found {
            position.advance(shard, placed.record.position);
            items.extend(Seat::change(&placed, position.to_string()));
        }
        Ok((items, has_more))
    }

    fn page(&self, seat: &Seat, after: u64, limit: u32) -> Result<StreamPage, Rejection> {
        match self.of {
            Of::Instance(key) => seat.instance_changes(key, after, limit),
            Of::Tenant(tenant) => seat.tenant_changes(tenant, after, limit),
        }
    }
}

/// Waits until any shard has applied something; for ever where there is none to wait for.
async fn any_changed(watches: Vec<tokio::sync::watch::Receiver<Option<u64>>>) {
    let mut waiting = JoinSet::new();
    for mut watch in watches {
        waiting.spawn(async move {
            let _ = watch.changed().await;
        });
    }
    if waiting.join_next().await.is_none() {
        std::future::pending::<()>().await;
    }
}
