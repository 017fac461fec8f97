//! Changes of one shard after a position: what watches and long polls are made of.
//!
//! A cursor is a position of each shard, in the order of the shards: `17.0.5.221`. It is opaque to clients; the numbers are
//! log positions, so they never repeat and never go back.
//!
//! Absent on purpose: waiting on many shards; the router does that with each shard's `applied`.

use statehouse_contract::{InstanceKey, Rejection, RejectionCode, ShardId, TenantId};
use statehouse_store::{Placed, View};

use super::{read_failed, unknown_instance};
use crate::{answer, seat::Seat};
use statehouse_contract::view::TransitionView;

/// A place in the changes of several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(Vec<u64>);

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

/// The changes after a position are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Position {
    /// Returns a place in so many shards.
    #[must_use]
    pub fn new(positions: Vec<u64>) -> Self {
        Self(positions)
    }

    /// Reads a cursor of so many shards.
    ///
    /// # Errors
    /// `invalid_request` when it is none.
    pub fn parse(text: &str, shards: usize) -> Result<Self, Rejection> {
        let wrong = || {
            Rejection::gateway(
                RejectionCode::InvalidRequest,
                "the cursor is not one of this cluster's",
            )
        };
        let positions: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
        positions.filter(|positions| positions.len() == shards).map(Self).ok_or_else(wrong)
    }

    /// Returns the cursor of an instance's change: only its own shard counts.
    #[must_use]
    pub fn one(_: ShardId, position: u64) -> String {
        position.to_string()
    }

    /// Returns the position in a shard.
    #[must_use]
    pub fn of(&self, shard: usize) -> u64 {
        self.0.get(shard).copied().unwrap_or(0)
    }

    /// Moves forward in a shard.
    pub fn advance(&mut self, shard: usize, position: u64) {
        if let Some(own) = self.0.get_mut(shard) {
            *own = (*own).max(position);
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = self.0.iter();
        if let Some(first) = parts.next() {
            write!(f, "{first}")?;
        }
        parts.try_for_each(|part| write!(f, ".{part}"))
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
        let mut position = Position::parse("17.0.5", 3).unwrap();
        position.advance(1, 4);
        position.advance(0, 3);
        assert_eq!(position.to_string(), "17.4.5");
        assert_eq!((position.of(0), position.of(9)), (17, 0));
        for wrong in ["", "17", "17.0", "17.0.5.1", "17.x.5", "-1.0.5"] {
            assert!(Position::parse(wrong, 3).is_err(), "{wrong}");
        }
    }
}
