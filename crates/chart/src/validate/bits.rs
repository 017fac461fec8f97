//! Sets of small numbers: events of a definition, fields of its context.
//!
//! The sets are joined and compared once for every transition, so they are words of bits and not trees.
//!
//! Deliberately absent: an upper bound; a set grows with its largest member.

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (number % 64);
        }
    }

    /// Adds the members of another set; returns whether there was a new one.
    pub(super) fn add(&mut self, other: &Self) -> bool {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut is_new = false;
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            is_new |= *more & !*own != 0;
            *own |= more;
        }
        is_new
    }

    /// Keeps the members of both sets; returns whether one was lost.
    pub(super) fn keep(&mut self, other: &Self) -> bool {
        let mut is_less = false;
        for (word, own) in self.0.iter_mut().enumerate() {
            let kept = *own & other.0.get(word).copied().unwrap_or_default();
            is_less |= kept != *own;
            *own = kept;
        }
        is_less
    }

    pub(super) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|bits| bits & (1 << (number % 64)) != 0)
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(left, right)| left & right != 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word * 64 + bit)
        })
    }
}
