//! The running hash over everything that was applied: two replicas with one history have one chain.
//!
//! Each applied position adds its term, how it ended and, if it left a row of history, the bytes of that row, which carry
//! the digest of the instance afterwards. Equal chains at equal positions are the law `ORDER`.
//!
//! Sixteen bytes are enough: the chain guards against accidents and defects, not against an attacker with the files.

use bincode::{Decode, Encode};

/// The running hash after some position.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Chain(pub [u8; 16]);

/// How an entry ended, as the chain sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// There was nothing to apply.
    Blank = 0,
    /// It changed rows.
    Written = 1,
    /// Its key was known.
    Known = 2,
    /// Its key was known for another request.
    KeyReused = 3,
    /// It was fenced.
    Fenced = 4,
}

impl Chain {
    /// Returns the chain one position further.
    pub(crate) fn next(self, position: u64, term: u64, mark: Mark, row: &[u8]) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.0);
        hash.update(&position.to_le_bytes());
        hash.update(&term.to_le_bytes());
        hash.update(&[mark as u8]);
        hash.update(row);
        Self(short(&hash))
    }
}

/// Returns the first sixteen bytes of a hash.
pub(crate) fn short(hash: &blake3::Hasher) -> [u8; 16] {
    let mut bytes = [0; 16];
    hash.finalize_xof().fill(&mut bytes);
    bytes
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
