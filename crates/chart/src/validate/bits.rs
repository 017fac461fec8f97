//! Sets of small numbers: events of a definition, fields of its context.
//!
//! The sets are joined and compared once for every transition, so they are words of bits and not trees.
//!
//! Deliberately absent: an upper bound; a set grows with its largest member.

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bits(Vec<u64>);

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

    /// Adds the members of another set and hands each new one to `visit`.
    pub(super) fn add_each(&mut self, other: &Self, mut visit: impl FnMut(usize)) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, (own, more)) in self.0.iter_mut().zip(&other.0).enumerate() {
            let mut fresh = *more & !*own;
            *own |= more;
            while fresh != 0 {
                visit(word * 64 + fresh.trailing_zeros() as usize);
                fresh &= fresh - 1;
            }
        }
    }

    /// Returns whether there is a member from one number to another, both included.
    pub(super) fn has_within(&self, from: usize, to: usize) -> bool {
        let (first, last) = (from / 64, to / 64);
        self.0.iter().enumerate().take(last + 1).skip(first).any(|(word, bits)| {
            let above = if word == first { u64::MAX << (from % 64) } else { u64::MAX };
            let below = if word == last { u64::MAX >> (63 - to % 64) } else { u64::MAX };
            bits & above & below != 0
        })
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
            // Clears the lowest bit each time, so that an empty word costs nothing.
            let some = |bits: u64| (bits != 0).then_some(bits);
            std::iter::successors(some(*bits), move |bits| some(bits & (bits - 1)))
                .map(move |bits| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_member_only_between_its_ends() {
        let mut set = Bits::default();
        [3, 64, 130].into_iter().for_each(|number| set.insert(number));
        let asked = [(0, 2), (0, 3), (4, 63), (4, 64), (65, 129), (63, 64), (130, 130), (131, 999)];
        let found = asked.map(|(from, to)| set.has_within(from, to));
        assert_eq!(found, [false, true, false, true, false, true, true, false]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64, 130]);
    }

    #[test]
    fn only_new_members_are_handed_on() {
        let (mut set, mut more) = (Bits::default(), Bits::default());
        set.insert(1);
        [1, 2, 70].into_iter().for_each(|number| more.insert(number));
        let mut fresh = Vec::new();
        set.add_each(&more, |number| fresh.push(number));
        assert_eq!(fresh, [2, 70]);
        assert!(set.has(70) && set.has(1));
    }
}
