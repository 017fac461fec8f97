//! Sums: how a lost row is noticed without reading every row each time.
//!
//! A row that is read proves itself by its own digest. A row that is *not found* proves nothing: an index page with one
//! flipped byte answers "not there" for a key that is there. So each set of rows whose absence means something keeps a
//! sum (how many, and the exclusive or of their hashes) in a place of its own, written in the same transaction. Whoever
//! relies on an absence compares the set with its sum first, once per set and opening (`proof.rs`), the small sets when
//! the file is opened.
//!
//! Deliberately absent: protection against an attacker with the files; an exclusive or can be forged.

use bincode::{Decode, Encode};

use crate::chain::short;

/// How many rows a set has, and the exclusive or of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// The exclusive or.
    pub xor: u128,
}

impl Sum {
    /// Takes a row in.
    pub(crate) const fn add(&mut self, hash: u128) {
        self.count += 1;
        self.xor ^= hash;
    }

    /// Takes a row out.
    pub(crate) const fn remove(&mut self, hash: u128) {
        self.count = self.count.wrapping_sub(1);
        self.xor ^= hash;
    }
}

/// Returns the hash of a row from its columns, each with its length.
pub(crate) fn row_hash(columns: &[&[u8]]) -> u128 {
    u128::from_le_bytes(short(&hashed(columns)))
}

/// Feeds columns to a hash, each with its length, so that no two rows look alike.
pub(crate) fn hashed(columns: &[&[u8]]) -> blake3::Hasher {
    let mut hash = blake3::Hasher::new();
    for column in columns {
        hash.update(&(column.len() as u64).to_le_bytes());
        hash.update(column);
    }
    hash
}
