//! Proof that an instance stood as somebody says it did.
//!
//! History keeps no snapshots, but each of its rows keeps the fingerprint that the instance's row had afterwards. Whoever
//! works a snapshot out anew from what came in can show by it that it is the same one, byte for byte.
//!
//! Absent on purpose: working it out; that takes the chart.

use statehouse_contract::Timestamp;

use crate::{
    entry::{Body, Parent, Transitioned},
    history::Record,
    instances::{self, Birth, Head},
};

/// What of an instance's start counts in every fingerprint after it.
#[derive(Clone, Debug)]
pub struct Origin {
    created_at: Timestamp,
    parent: Option<Parent>,
}

impl Origin {
    /// Reads it from the instance's first record; nothing if this is not one.
    #[must_use]
    pub fn of(first: &Record) -> Option<Self> {
        let moved = moved(first).filter(|moved| moved.version == 1)?;
        Some(Self { created_at: first.at(), parent: moved.parent.clone() })
    }

    /// Returns whether the instance stood exactly like this after a record.
    #[must_use]
    pub fn proves(&self, record: &Record, snapshot: &[u8]) -> bool {
        let (Some(moved), Some(version)) = (moved(record), record.version) else { return false };
        let birth = Birth { created_at: self.created_at, parent: self.parent.clone() };
        let head = Head {
            definition: moved.definition.clone(),
            configuration: moved.to.clone(),
            tags: moved.tags.clone(),
            updated_at: record.at(),
        };
        let place = (moved.status, record.position);
        let found =
            instances::digest_of(&moved.instance, version, place, (&birth, &head), snapshot);
        found.is_ok_and(|digest| record.digest == Some(digest))
    }
}

fn moved(record: &Record) -> Option<&Transitioned> {
    match &record.entry.body {
        Body::Transitioned(moved) => Some(moved),
        _ => None,
    }
}
