//! The keys that an awake instance has seen, so that a new key costs no look-up.
//!
//! When the set is whole, a key that is not in it was never used here, and the rows need not be asked. When it is not whole
//! (the actor has just woken, or there are too many keys), the rows are asked. A wrong "perhaps" costs a look-up; a wrong
//! "no" costs nothing but a proposal that apply answers with the stored receipt.
//!
//! Absent on purpose: the receipts.

use std::collections::HashSet;

use statehouse_contract::KeyHash;

/// Most keys of one instance that are kept in memory.
pub(crate) const KEYS_MAX: usize = 1_024;

/// Keys that were seen.
#[derive(Clone, Debug)]
pub struct KnownKeys {
    seen: HashSet<u64>,
    is_whole: bool,
}

impl KnownKeys {
    /// Returns the knowledge of an actor that has read nothing.
    #[must_use]
    pub fn nothing_read() -> Self {
        Self { seen: HashSet::new(), is_whole: false }
    }

    /// Returns the knowledge that there is no key yet.
    #[must_use]
    pub fn all_read() -> Self {
        Self { seen: HashSet::new(), is_whole: true }
    }

    /// Returns the knowledge of an actor that has read these keys.
    #[must_use]
    pub fn read(hashes: Vec<KeyHash>, is_whole: bool) -> Self {
        if is_whole {
            Self { seen: hashes.into_iter().map(short).collect(), is_whole }
        } else {
            Self::nothing_read()
        }
    }

    /// Returns whether the rows may hold a receipt under this name.
    #[must_use]
    pub fn may_know(&self, hash: KeyHash) -> bool {
        !self.is_whole || self.seen.contains(&short(hash))
    }

    /// Remembers a key.
    pub fn learn(&mut self, hash: KeyHash) {
        if !self.is_whole {
            return;
        }
        self.seen.insert(short(hash));
        if self.seen.len() > KEYS_MAX {
            *self = Self::nothing_read();
        }
    }
}

fn short(hash: KeyHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_set_says_no_and_a_broken_one_never_does() {
        let hash = |n: u16| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            KeyHash(bytes)
        };
        let mut keys = KnownKeys::all_read();
        assert!(!keys.may_know(hash(1)));
        keys.learn(hash(1));
        assert!(keys.may_know(hash(1)) && !keys.may_know(hash(2)));
        for n in 0..=KEYS_MAX as u16 {
            keys.learn(hash(n));
        }
        assert!(keys.may_know(hash(60_000)), "too many keys: ask the rows");
        assert!(KnownKeys::nothing_read().may_know(hash(1)));
    }
}
