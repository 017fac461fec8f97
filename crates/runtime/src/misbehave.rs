//! What some deliberate bugs need beside their site: a memory of their own, or an answer that nobody else would give.
//!
//! Everything here is called behind `mutant::is` and nowhere else; in a build without mutants nothing calls it. The bugs
//! themselves stand where a careless change would have put them.
//!
//! Absent on purpose: a choice of bugs. `statehouse_contract::mutant` makes it, once for each process.
//!
//! Invariant: what is kept here is no part of any answer while no mutant is chosen.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use statehouse_contract::{KeyHash, Receipt, Rejection, RejectionCode, ShardId, Version};

use crate::reject;

/// Receipts of this node's own answers, for as long as it lives: what a cache would know of them.
static RECEIPTS: Mutex<Option<HashMap<(ShardId, KeyHash), Receipt>>> = Mutex::new(None);

/// The first term in which this node led each shard.
static FIRST_TERMS: Mutex<BTreeMap<ShardId, u64>> = Mutex::new(BTreeMap::new());

/// Remembers an answer in memory alone.
pub(crate) fn remember(shard: ShardId, key: KeyHash, receipt: &Receipt) {
    let mut receipts = RECEIPTS.lock().unwrap_or_else(PoisonError::into_inner);
    receipts.get_or_insert_default().insert((shard, key), receipt.clone());
}

/// Returns an answer that this node remembers.
pub(crate) fn recall(shard: ShardId, key: KeyHash) -> Option<Receipt> {
    let receipts = RECEIPTS.lock().unwrap_or_else(PoisonError::into_inner);
    receipts.as_ref()?.get(&(shard, key)).cloned()
}

/// Returns the term of this node's first reign over a shard, as if whoever decided in it were still alive.
pub(crate) fn first_term(shard: ShardId, term: u64) -> u64 {
    let mut first = FIRST_TERMS.lock().unwrap_or_else(PoisonError::into_inner);
    *first.entry(shard).or_insert(term)
}

/// Returns the refusal of a command that expects another version, without a look at its key.
pub(crate) fn conflict(expected: Option<Version>, found: Option<Version>) -> Option<Rejection> {
    let (expected, found) = (expected?, found?);
    if expected == found {
        return None;
    }
    let detail = format!("expected version {expected}, found {found}");
    let no = reject::by_instance(RejectionCode::VersionConflict, detail);
    Some(Rejection { version: Some(found), ..no })
}
