//! The configuration: the set of active states, and the laws that a legal one keeps.
//!
//! States are numbered in document order (preorder, the root is 0), so going through a set in rising order is going through
//! it in document order, and the states below one are a range. A set is a fixed row of bits: copying it copies 64 bytes.
//!
//! Deliberately absent: names (the chart knows them), history.
//!
//! Laws of a legal configuration: the root is active; the parent of an active state is active; an active compound state has
//! exactly one active child; an active parallel state has all its regions active; no history state is active.

use std::fmt;

use bincode::{
    BorrowDecode, Decode, Encode,
    de::{BorrowDecoder, Decoder},
    enc::Encoder,
    error::{DecodeError, EncodeError},
};
use statehouse_contract::limits::STATES_MAX;

/// How many states a set can hold.
pub const SET_CAPACITY: usize = 512;

const WORDS: usize = SET_CAPACITY / 64;

// The root counts too.
const _: () = assert!(STATES_MAX < SET_CAPACITY);

/// The number of a state in its chart: its place in document order; the root is 0.
pub type StateIndex = u16;

/// A set of states, in document order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StateSet([u64; WORDS]);

impl StateSet {
    /// Returns the empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    /// Returns whether the state is in the set.
    #[must_use]
    pub const fn contains(&self, state: StateIndex) -> bool {
        let state = state as usize;
        state < SET_CAPACITY && self.0[state / 64] & (1 << (state % 64)) != 0
    }

    /// Adds a state; returns whether it was not there.
    pub fn insert(&mut self, state: StateIndex) -> bool {
        let is_new = !self.contains(state);
        self.0[usize::from(state) / 64] |= 1 << (state % 64);
        is_new
    }

    /// Removes a state.
    pub fn remove(&mut self, state: StateIndex) {
        self.0[usize::from(state) / 64] &= !(1 << (state % 64));
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns how many states are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the states in document order.
    pub fn iter(&self) -> impl Iterator<Item = StateIndex> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let rest = bits(*word, |rest| rest & (rest - 1));
            rest.map(move |rest| number(index, rest.trailing_zeros()))
        })
    }

    /// Returns the states in reverse document order: inner before outer, later before earlier.
    pub fn iter_inward_out(&self) -> impl Iterator<Item = StateIndex> + '_ {
        self.0.iter().enumerate().rev().flat_map(|(index, word)| {
            let rest = bits(*word, |rest| rest & !(1 << (63 - rest.leading_zeros())));
            rest.map(move |rest| number(index, 63 - rest.leading_zeros()))
        })
    }

    /// Returns the states of the set within a range of numbers, both ends included.
    #[must_use]
    pub fn within(&self, first: StateIndex, last: StateIndex) -> Self {
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            let start = index * 64;
            let low = usize::from(first).saturating_sub(start).min(64);
            let high = (usize::from(last) + 1).saturating_sub(start).min(64);
            if low < high {
                let below_high = if high == 64 { u64::MAX } else { (1 << high) - 1 };
                let below_low = if low == 64 { u64::MAX } else { (1 << low) - 1 };
                *word = self.0[index] & below_high & !below_low;
            }
        }
        Self(words)
    }

    /// Returns whether the two sets share a state.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(left, right)| left & right != 0)
    }

    /// Adds every state of another set.
    pub fn extend_set(&mut self, other: &Self) {
        for (own, added) in self.0.iter_mut().zip(&other.0) {
            *own |= added;
        }
    }
}

/// Returns a word with one bit fewer each time, as long as one is left.
fn bits(word: u64, without_one: impl Fn(u64) -> u64) -> impl Iterator<Item = u64> {
    let some = |word: u64| (word != 0).then_some(word);
    std::iter::successors(some(word), move |word| some(without_one(*word)))
}

fn number(word: usize, bit: u32) -> StateIndex {
    (word * 64) as StateIndex + bit as StateIndex
}

impl FromIterator<StateIndex> for StateSet {
    fn from_iter<I: IntoIterator<Item = StateIndex>>(states: I) -> Self {
        let mut set = Self::new();
        for state in states {
            set.insert(state);
        }
        set
    }
}

impl fmt::Debug for StateSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}

impl Encode for StateSet {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.iter().collect::<Vec<_>>().encode(encoder)
    }
}

impl<Context> Decode<Context> for StateSet {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let states = Vec::<StateIndex>::decode(decoder)?;
        if states.iter().any(|state| usize::from(*state) >= SET_CAPACITY) {
            return Err(DecodeError::Other("a state number is out of range"));
        }
        Ok(states.into_iter().collect())
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for StateSet {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_document_order_and_knows_its_ranges() {
        let set: StateSet = [200, 3, 64, 63, 511, 0].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 63, 64, 200, 511]);
        assert_eq!(set.iter_inward_out().collect::<Vec<_>>(), [511, 200, 64, 63, 3, 0]);
        assert_eq!(StateSet::new().iter().chain(StateSet::new().iter_inward_out()).count(), 0);
        assert_eq!(set.within(3, 64).iter().collect::<Vec<_>>(), [3, 63, 64]);
        assert_eq!(set.within(64, 511).iter().collect::<Vec<_>>(), [64, 200, 511]);
        assert_eq!(set.within(4, 62).len(), 0);
        assert!(set.meets(&[200].into_iter().collect()));
        assert!(!set.meets(&[201].into_iter().collect()));
    }
}
