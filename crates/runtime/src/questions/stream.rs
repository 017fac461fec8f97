//! Changes of one shard after a position: what watches and long polls are made of.
//!
//! A cursor is a place in each shard's log, in the order of the shards: `0.17-0.0-0.221`. A place is the epoch of the
//! shard's buckets and a log position. Positions never repeat and never go back; where a bucket has moved since, the epoch
//! differs, and the cursor is answered as one that is no longer kept. Clients take the whole as opaque.
//!
//! Absent on purpose: waiting on many shards; the router does that with each shard's `applied`.

use std::fmt;

use statehouse_contract::{InstanceKey, Rejection, RejectionCode, TenantId, view::TransitionView};
use statehouse_store::{Placed, View};

use super::{read_failed, unknown_instance};
use crate::{answer, seat::Seat};

/// A place in the log of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The epoch of the shard's buckets.
    pub epoch: u32,
    /// The log position.
    pub position: u64,
}

/// A place in the changes of several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(Vec<Place>);

/// Changes of one shard, oldest first.
#[derive(Debug)]
pub struct StreamPage {
    /// The changes.
    pub rows: Vec<Placed>,
    /// The position after which to go on.
    pub next: u64,
    /// Whether there is more to look at now.
    pub has_more: bool,
}

impl Place {
    /// Reads a place as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, position) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, position: position.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.position)
    }
}

impl Position {
    /// Returns a place in so many shards.
    #[must_use]
    pub fn new(places: Vec<Place>) -> Self {
        Self(places)
    }

    /// Reads a cursor of shards whose buckets have these epochs.
    ///
    /// # Errors
    /// `invalid_request` when it is none; `compacted` when a bucket has moved since it was given.
    pub fn parse(text: &str, epochs: &[u32]) -> Result<Self, Rejection> {
        let places: Option<Vec<Place>> = text.split('-').map(Place::parse).collect();
        let places = places.filter(|places| places.len() == epochs.len()).ok_or_else(|| {
            let detail = "the cursor is not one of this cluster's";
            Rejection::gateway(RejectionCode::InvalidRequest, detail)
        })?;
        if places.iter().zip(epochs).any(|(place, epoch)| place.epoch != *epoch) {
            let detail =
                "buckets have moved since this cursor was given; read again and go on from now";
            return Err(Rejection::gateway(RejectionCode::Compacted, detail));
        }
        Ok(Self(places))
    }

    /// Returns the position in a shard.
    #[must_use]
    pub fn of(&self, shard: usize) -> u64 {
        self.0.get(shard).map_or(0, |place| place.position)
    }

    /// Moves forward in a shard.
    pub fn advance(&mut self, shard: usize, position: u64) {
        if let Some(own) = self.0.get_mut(shard) {
            own.position = own.position.max(position);
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, place) in self.0.iter().enumerate() {
            let between = if n == 0 { "" } else { "-" };
            write!(f, "{between}{place}")?;
        }
        Ok(())
    }
}

impl Seat {
    /// Returns an instance's changes above a position.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub fn instance_changes(
        &self,
        key: &InstanceKey,
        after: u64,
        limit: u32,
    ) -> Result<StreamPage, Rejection> {
        let found = self.log().view().changes(key, after, limit);
        let page = found.map_err(|error| read_failed(&error))?;
        let page = page.ok_or_else(|| unknown_instance(key))?;
        Ok(StreamPage { rows: page.rows, next: page.next, has_more: page.has_more })
    }

    /// Returns a tenant's changes in this shard above a position.
    ///
    /// # Errors
    /// `compacted` when they are no longer kept; else the rejection that the caller gets.
    pub fn tenant_changes(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: u32,
    ) -> Result<StreamPage, Rejection> {
        let view = self.log().view();
        if is_gone(&view, after)? {
            let detail =
                "changes after this cursor are no longer kept; read again and go on from now";
            return Err(Rejection::gateway(RejectionCode::Compacted, detail));
        }
        let found = view.tenant_changes(tenant, after, limit);
        let page = found.map_err(|error| read_failed(&error))?;
        Ok(StreamPage { rows: page.rows, next: page.next, has_more: page.has_more })
    }

    /// Returns the position up to which this shard is applied here.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.log().view().applied().unwrap_or(0)
    }

    /// Returns a transition as watches tell it, with the cursor after it.
    #[must_use]
    pub fn change(placed: &Placed, cursor: String) -> Option<TransitionView> {
        answer::transition(placed, cursor)
    }
}

fn is_gone(view: &View, after: u64) -> Result<bool, Rejection> {
    let meta = view.meta().map_err(|error| read_failed(&error))?;
    Ok(meta.purged > after && meta.applied.is_some_and(|applied| after < applied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_only_moves_forward() {
        let mut position = Position::parse("0.17-0.0-2.5", &[0, 0, 2]).unwrap();
        position.advance(1, 4);
        position.advance(0, 3);
        assert_eq!(position.to_string(), "0.17-0.4-2.5");
        assert_eq!((position.of(0), position.of(9)), (17, 0));
        for wrong in ["", "17", "0.17", "0.17-0.0", "0.17-0.0-0.5-0.1", "0.17-0.x-0.5", "-0.17-0.5"]
        {
            let no = Position::parse(wrong, &[0, 0, 0]).unwrap_err();
            assert_eq!(no.code, RejectionCode::InvalidRequest, "{wrong}");
        }
    }

    #[test]
    fn a_cursor_from_before_a_bucket_moved_is_no_longer_kept() {
        for epochs in [[0, 1], [1, 0]] {
            let no = Position::parse("0.17-0.4", &epochs).unwrap_err();
            assert_eq!(no.code, RejectionCode::Compacted, "{epochs:?}");
        }
    }
}
