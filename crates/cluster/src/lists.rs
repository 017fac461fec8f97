//! A page of a tenant's instances, or of its open tasks, over all shards.
//!
//! The page walks from shard to shard; within a shard it is ordered by birth. The cursor names the shard, the epoch of its
//! buckets and the birth after which to go on. There is no order over all shards, and none is promised.
//!
//! Absent on purpose: sorting and counting; both would have to read everything.

use std::sync::Arc;

use futures::future::BoxFuture;
use statehouse_contract::{
    InstanceFilter, Rejection, RejectionCode, ShardId, TaskFilter,
    limits::{PAGE_DEFAULT, PAGE_MAX},
    view::{InstanceRow, Page, PageEnd, TaskView},
};
use statehouse_runtime::{Seat, questions::Place};

use crate::ShardMap;

/// Most looks at rows for one page: a page may come out short, with a cursor to go on.
const LOOKS_MAX: usize = 64;

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    shard: usize,
    after: Option<u64>,
}

/// Returns a page of instances.
///
/// # Errors
/// The rejection that the caller gets.
pub(crate) async fn page<'a>(
    seats: &'a [Arc<Seat>],
    map: ShardMap,
    filter: &'a InstanceFilter,
) -> Result<Page<InstanceRow>, Rejection> {
    let asked =
        Asked { limit: filter.limit, cursor: filter.cursor.as_deref(), complete: filter.complete };
    walk(seats, map, asked, |seat, after, room| Box::pin(seat.list(filter, after, room))).await
}

/// Returns a page of open tasks.
///
/// # Errors
/// The rejection that the caller gets.
pub(crate) async fn tasks<'a>(
    seats: &'a [Arc<Seat>],
    map: ShardMap,
    filter: &'a TaskFilter,
) -> Result<Page<TaskView>, Rejection> {
    let asked =
        Asked { limit: filter.limit, cursor: filter.cursor.as_deref(), complete: filter.complete };
    walk(seats, map, asked, |seat, after, room| Box::pin(seat.tasks(filter, after, room))).await
}

/// Rows of one shard, and the birth after which its next ones stand.
type Rows<T> = Result<(Vec<T>, Option<u64>), Rejection>;

/// Which page is asked for.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    limit: u32,
    cursor: Option<&'a str>,
    complete: bool,
}

/// Walks from shard to shard until a page is full. `look` returns rows of a shard with births above a place, and the place
/// after which its next rows stand.
async fn walk<'a, T>(
    seats: &'a [Arc<Seat>],
    map: ShardMap,
    asked: Asked<'_>,
    look: impl Fn(&'a Seat, Option<u64>, u32) -> BoxFuture<'a, Rows<T>>,
) -> Result<Page<T>, Rejection> {
    let limit = if asked.limit == 0 { PAGE_DEFAULT } else { asked.limit.min(PAGE_MAX) };
    let mut cursor = match asked.cursor {
        Some(text) => parse(text, map)?,
        None => Cursor { shard: 0, after: None },
    };
    let mut items = Vec::new();
    let mut missing_shards = Vec::new();
    for _ in 0..LOOKS_MAX {
        let Some(seat) = seats.get(cursor.shard) else { break };
        let room = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        if room == 0 {
            break;
        }
        match look(seat, cursor.after, room).await {
            Ok((rows, next)) => {
                items.extend(rows);
                cursor = step(cursor, next);
            }
            Err(no) if no.code.status() == 503 && !asked.complete => {
                missing_shards.push(seat.shard().0);
                cursor = step(cursor, None);
            }
            Err(no) => return Err(no),
        }
    }
    let has_more = cursor.shard < seats.len();
    let end_cursor = has_more.then(|| write(cursor, map));
    Ok(Page { items, page: PageEnd { end_cursor, has_more, missing_shards } })
}

const fn step(cursor: Cursor, next: Option<u64>) -> Cursor {
    match next {
        Some(after) => Cursor { after: Some(after), ..cursor },
        None => Cursor { shard: cursor.shard + 1, after: None },
    }
}

fn write(cursor: Cursor, map: ShardMap) -> String {
    let shard = id(cursor.shard);
    let place = Place { epoch: map.epoch(shard), position: cursor.after.unwrap_or(0) };
    format!("{shard}-{place}")
}

fn parse(text: &str, map: ShardMap) -> Result<Cursor, Rejection> {
    let read = || {
        let (shard, place) = text.split_once('-')?;
        let (shard, place) = (shard.parse::<u32>().ok()?, Place::parse(place)?);
        (shard < map.shards()).then_some((ShardId(shard), place))
    };
    let (shard, Place { epoch, position }) = read().ok_or_else(|| {
        let detail = "the cursor is not one that a list has given";
        Rejection::gateway(RejectionCode::InvalidRequest, detail)
    })?;
    if epoch != map.epoch(shard) {
        let detail = "buckets have moved since this cursor was given; begin the list again";
        return Err(Rejection::gateway(RejectionCode::Compacted, detail));
    }
    let shard = usize::try_from(shard.0).unwrap_or(usize::MAX);
    Ok(Cursor { shard, after: Some(position) })
}

fn id(shard: usize) -> ShardId {
    ShardId(u32::try_from(shard).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_garbage_is_refused() {
        let (map, cursor) = (ShardMap::even(4), Cursor { shard: 2, after: Some(17) });
        assert_eq!(write(cursor, map), "2-0.17");
        assert_eq!(parse("2-0.17", map).unwrap(), cursor);
        for wrong in ["", "2", "4-0.0", "-1-0.0", "2-0.x", "2-0.1.1", "2.1"] {
            let no = parse(wrong, map).unwrap_err();
            assert_eq!(no.code, RejectionCode::InvalidRequest, "{wrong}");
        }
        assert_eq!(parse("2-1.17", map).unwrap_err().code, RejectionCode::Compacted);
    }
}
