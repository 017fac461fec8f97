//! What the clocks of the voters say together: their middle, and who is far from it.
//!
//! An odd number of clocks has one middle. An even number has two, and between them nobody can tell who is right: then
//! whatever lies between them is left as it is, so that one wrong clock of two moves nothing. Of a cluster of which no
//! majority is known nothing follows at all.
//!
//! Absent on purpose: averages. One clock that is an hour off would move an average by minutes; it moves the middle by no
//! more than the others are apart.
//!
//! Invariant: with a majority of the known clocks within an interval, every middle is within it.

/// A clock further from the middle than this is off: its node should not lead. Milliseconds.
pub(crate) const OFF_MS: i64 = 1_000;
/// How long a start waits for the rest of the voters once a majority is known, in milliseconds.
const REST_MS_MAX: i64 = 500;

/// What is known of one voter, in milliseconds ahead of this node's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Voter {
    /// Its own clock.
    pub(crate) own_ms: Option<i64>,
    /// The cluster's clock as it has it.
    pub(crate) cluster_ms: Option<i64>,
}

/// The middle of some clocks: one value, or two with nothing known in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Middle {
    low: i64,
    high: i64,
}

impl Middle {
    /// Returns the middle; nothing where there are no clocks.
    pub(crate) fn of(mut clocks: Vec<i64>) -> Option<Self> {
        clocks.sort_unstable();
        let low = *clocks.get(clocks.len().checked_sub(1)? / 2)?;
        let high = *clocks.get(clocks.len() / 2)?;
        Some(Self { low, high })
    }

    /// Returns the value of the middle that is nearest to another one.
    pub(crate) fn nearest(self, to: i64) -> i64 {
        to.clamp(self.low, self.high)
    }

    /// Returns how far a clock is ahead of the middle; negative when it is behind.
    pub(crate) fn ahead(self, clock: i64) -> i64 {
        clock.saturating_sub(self.nearest(clock))
    }

    /// Returns whether a clock is off.
    pub(crate) fn is_off(self, clock: i64) -> bool {
        self.ahead(clock).saturating_abs() > OFF_MS
    }
}

/// What a majority says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opinion {
    /// The middle of the voters' own clocks.
    pub(crate) own: Middle,
    /// The middle of what those have for the cluster's clock who have one.
    pub(crate) cluster: Option<Middle>,
    voters: usize,
    known: usize,
    settled: usize,
}

/// Returns what the voters say; nothing while no majority of them is known.
pub(crate) fn hear(voters: &[Voter]) -> Option<Opinion> {
    let own: Vec<i64> = voters.iter().filter_map(|voter| voter.own_ms).collect();
    let cluster: Vec<i64> = voters.iter().filter_map(|voter| voter.cluster_ms).collect();
    let (known, settled) = (own.len(), cluster.len());
    if 2 * known <= voters.len() {
        return None;
    }
    let (own, cluster) = (Middle::of(own)?, Middle::of(cluster));
    Some(Opinion { own, cluster, voters: voters.len(), known, settled })
}

impl Opinion {
    /// Returns what a node without a cluster clock takes for it: what a majority has; else, once all are known or the rest
    /// was waited for, the middle of the own clocks, where the clocks that somebody has decide between two middles.
    /// Without those it is the earlier one: what comes late can be waited for, what came early cannot be taken back.
    pub(crate) fn first(&self, waited_ms: i64) -> Option<i64> {
        let had = self.cluster.map(|cluster| cluster.low);
        if 2 * self.settled > self.voters {
            return had;
        }
        let is_complete = self.known == self.voters || waited_ms >= REST_MS_MAX;
        is_complete.then(|| self.own.nearest(had.unwrap_or(i64::MIN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn known(own: &[i64]) -> Vec<Voter> {
        own.iter().map(|own| Voter { own_ms: Some(*own), cluster_ms: None }).collect()
    }

    fn settled(voters: &[(i64, i64)]) -> Vec<Voter> {
        let voter =
            |(own, cluster): &(i64, i64)| Voter { own_ms: Some(*own), cluster_ms: Some(*cluster) };
        voters.iter().map(voter).collect()
    }

    #[test]
    fn one_of_three_that_is_an_hour_off_moves_the_middle_by_no_more_than_the_others_are_apart() {
        for spread in 0..200 {
            for first in [-700, -3, 0, 12, 900] {
                for wrong in [-HOUR, HOUR] {
                    let middle = Middle::of(vec![first, wrong, first + spread]).unwrap();
                    for of in [-HOUR, 0, HOUR] {
                        let found = middle.nearest(of);
                        assert!((first..=first + spread).contains(&found), "{middle:?}");
                    }
                    assert!(middle.is_off(wrong));
                    assert!(!middle.is_off(first) && !middle.is_off(first + spread));
                }
            }
        }
    }

    #[test]
    fn two_that_disagree_move_nothing_and_neither_is_off() {
        let opinion = hear(&known(&[0, HOUR])).unwrap();
        assert_eq!(opinion.own.nearest(1_234), 1_234);
        assert!(!opinion.own.is_off(0) && !opinion.own.is_off(HOUR));
        assert_eq!(opinion.own.nearest(-5), 0);
        assert_eq!(opinion.own.nearest(2 * HOUR), HOUR);
    }

    #[test]
    fn without_a_majority_nothing_follows() {
        let unknown = Voter::default();
        assert_eq!(hear(&[known(&[0])[0], unknown, unknown]), None);
        assert_eq!(hear(&[]), None);
        assert!(hear(&[known(&[0])[0], known(&[0])[0], unknown]).is_some());
    }

    #[test]
    fn who_starts_takes_what_a_majority_has() {
        // The wall clock of the third, which has just started, is an hour ahead.
        let mut voters = settled(&[(-HOUR, -HOUR + 40), (-HOUR + 5, -HOUR + 41)]);
        voters.extend(known(&[0]));
        assert_eq!(hear(&voters).unwrap().first(0), Some(-HOUR + 40));
    }

    #[test]
    fn where_a_majority_starts_the_middle_of_their_clocks_counts_once_all_are_known() {
        let all = hear(&known(&[0, -HOUR, -HOUR - 7])).unwrap();
        assert_eq!(all.first(0), Some(-HOUR));
        let mut two = known(&[0, -HOUR]);
        two.push(Voter::default());
        let two = hear(&two).unwrap();
        assert_eq!(two.first(0), None, "the third may still say who is right");
        assert_eq!(two.first(REST_MS_MAX), Some(-HOUR), "the earlier of two");
    }

    #[test]
    fn one_that_has_the_clusters_clock_decides_between_two_that_disagree() {
        let mut voters = known(&[-HOUR]);
        voters.extend(settled(&[(0, 3)]));
        voters.push(Voter::default());
        let opinion = hear(&voters).unwrap();
        assert_eq!(opinion.first(REST_MS_MAX), Some(0));
    }

    #[test]
    fn a_cluster_of_one_begins_with_its_own_clock() {
        assert_eq!(hear(&known(&[0])).unwrap().first(0), Some(0));
    }
}
