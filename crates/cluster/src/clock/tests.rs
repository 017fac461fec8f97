//! Whole clusters of clocks, with no connection between them but a network that is drawn: who starts when, whose clock is
//! wrong by how much, and what each of them shows.
//!
//! Absent on purpose: the wire. Its tests show that an echo comes back.

use std::sync::atomic::AtomicI64;

use super::*;
use crate::faults::FaultPlan;

const HOUR: i64 = 3_600_000;
/// The true time at which every story begins.
const BEGIN: i64 = 1_700_000_000_000;

/// A node's own clock, moved by hand.
#[derive(Debug, Default)]
struct Hand(AtomicI64, AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        self.now().after_ms(self.1.load(Ordering::Relaxed))
    }
}

const fn id(number: u32) -> NodeId {
    NodeId { number, incarnation: 1 }
}

/// One node: its clock is so far ahead of true time, and gains so many millionths.
struct One {
    clock: Arc<ClusterClock>,
    hand: Arc<Hand>,
    faults: Arc<Faults>,
    ahead_ms: i64,
    gains_ppm: i64,
    applied: Option<Timestamp>,
    readings: Vec<(i64, i64)>,
}

struct Story {
    now: i64,
    nodes: BTreeMap<u32, One>,
    voters: BTreeSet<NodeId>,
    mute: BTreeSet<u32>,
    state: u64,
}

impl Story {
    fn new(voters: u32, seed: u64) -> Self {
        let voters = (1..=voters).map(id).collect();
        Self { now: 0, nodes: BTreeMap::new(), voters, mute: BTreeSet::new(), state: seed }
    }

    fn draw(&mut self, below: u64) -> i64 {
        // splitmix64 (Steele, Lea and Flood, 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((z ^ (z >> 31)) % below).unwrap()
    }

    /// Starts a node, or starts it anew.
    fn start(&mut self, number: u32, ahead_ms: i64) {
        let (hand, faults) = (Arc::new(Hand::default()), Arc::new(Faults::default()));
        let own: Arc<dyn Clock> = Arc::<Hand>::clone(&hand);
        let clock = ClusterClock::new(id(number), own, Arc::clone(&faults));
        let (gains_ppm, applied, readings) = (0, None, Vec::new());
        let one = One { clock, hand, faults, ahead_ms, gains_ppm, applied, readings };
        self.nodes.insert(number, one);
        self.set_hands();
    }

    fn put_wrong(&self, number: u32, clock_ms: i64) {
        self.nodes[&number].faults.set(FaultPlan { clock_ms, ..FaultPlan::default() });
    }

    fn set_hands(&self) {
        for one in self.nodes.values() {
            let gained = self.now * one.gains_ppm / 1_000_000;
            one.hand.0.store(BEGIN + self.now + one.ahead_ms + gained, Ordering::Relaxed);
        }
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        self.set_hands();
    }

    /// Lets everybody ask everybody once, over a network that takes up to so long each way.
    fn echoes(&mut self, way_ms: u64) {
        let numbers: Vec<u32> = self.nodes.keys().copied().collect();
        for from in &numbers {
            for to in numbers.iter().filter(|to| *to != from) {
                let asking = Arc::clone(&self.nodes[from].clock);
                if self.mute.contains(to) {
                    asking.meet(id(*to), ECHOES_SINCE - 1);
                    continue;
                }
                asking.meet(id(*to), ECHOES_SINCE);
                let sent = asking.own_ms();
                let there = self.draw(way_ms);
                self.pass(there);
                let told = self.nodes[to].clock.tell();
                let back = self.draw(way_ms);
                self.pass(back);
                asking.hear(id(*to), sent, told);
            }
        }
    }

    fn turn(&mut self) {
        for one in self.nodes.values_mut() {
            one.clock.turn(&self.voters, || one.applied);
            if one.clock.is_set() {
                one.readings.push((one.hand.now().0, one.clock.now().0));
            }
        }
    }

    /// Lives on for so many seconds.
    fn live(&mut self, seconds: i64) {
        let end = self.now + 1_000 * seconds;
        while self.now < end {
            self.echoes(20);
            for _ in 0..5 {
                self.turn();
                self.pass(100);
            }
        }
        self.turn();
    }

    /// How far a node's cluster clock is ahead of true time.
    fn shows(&self, number: u32) -> i64 {
        self.nodes[&number].clock.now().0 - BEGIN - self.now
    }

    fn off(&self) -> Vec<u32> {
        let off = |(number, one): (&u32, &One)| one.clock.is_off().then_some(*number);
        self.nodes.iter().filter_map(off).collect()
    }

    /// No clock went back, and none ran by more than a twentieth faster or slower than its node's.
    fn judge(&self, story: &str) {
        for (number, one) in &self.nodes {
            for pair in one.readings.windows(2) {
                let (passed, moved) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
                assert!(moved >= 0, "{story}: node {number} went back by {moved} ms");
                let wrong = (moved - passed).abs();
                assert!(wrong <= passed / 20 + 1, "{story}: node {number}, {moved} in {passed}");
            }
        }
    }
}

#[test]
fn three_that_start_together_have_the_time_of_the_two_that_agree() {
    for (seed, wrong) in [HOUR, -HOUR, 5_000, -5_000].into_iter().enumerate() {
        for which in 1..=3 {
            let mut story = Story::new(3, seed as u64);
            for number in 1..=3 {
                let spread = story.draw(30) - 15;
                story.start(number, if number == which { wrong } else { spread });
            }
            story.live(10);
            for number in 1..=3 {
                let shows = story.shows(number);
                assert!(shows.abs() <= 15 + 25, "node {number} shows {shows}");
            }
            assert_eq!(story.off(), [which]);
            story.judge("together");
        }
    }
}

#[test]
fn a_clock_that_goes_wrong_moves_none_of_the_three_and_its_node_is_off_until_it_is_right() {
    let mut story = Story::new(3, 3);
    (1..=3).for_each(|number| story.start(number, 0));
    story.live(10);
    assert!(story.off().is_empty());
    for wrong in [HOUR, -HOUR] {
        story.put_wrong(1, wrong);
        story.turn();
        assert_eq!(story.off(), [1], "it knows by itself, before the next echo");
        story.live(20);
        for number in 1..=3 {
            assert!(story.shows(number).abs() <= 25, "{}", story.shows(number));
            assert_eq!(story.nodes[&number].clock.off(), [id(1)].into());
        }
        story.put_wrong(1, 0);
        story.live(20);
        assert!(story.off().is_empty());
    }
    story.judge("wrong");
}

#[test]
fn who_starts_anew_takes_the_time_of_the_others_and_not_its_own() {
    let mut story = Story::new(3, 5);
    (1..=3).for_each(|number| story.start(number, 0));
    story.live(5);
    story.start(2, -HOUR);
    assert!(!story.nodes[&2].clock.is_set());
    story.turn();
    assert!(!story.nodes[&2].clock.is_set(), "nobody has told it anything");
    story.live(1);
    assert!(story.shows(2).abs() <= 40, "{}", story.shows(2));
    assert_eq!(story.off(), [2]);
    story.judge("anew");
}

#[test]
fn a_wall_clock_that_was_set_right_ends_being_off_and_one_that_was_set_wrong_changes_nothing() {
    let mut story = Story::new(3, 12);
    (1..=2).for_each(|number| story.start(number, 0));
    story.start(3, HOUR);
    story.live(5);
    assert_eq!(story.off(), [3]);
    // The wall clock of another one jumps, and that of the wrong one to another wrong time.
    story.nodes[&1].hand.1.store(HOUR, Ordering::Relaxed);
    story.nodes[&3].hand.1.store(-HOUR / 2, Ordering::Relaxed);
    story.live(5);
    assert_eq!(story.off(), [3]);
    story.nodes[&3].hand.1.store(-HOUR + 300, Ordering::Relaxed);
    story.live(5);
    assert!(story.off().is_empty());
    for number in 1..=3 {
        assert!(story.shows(number).abs() <= 40, "{}", story.shows(number));
    }
    story.judge("set right");
}

#[test]
fn the_time_never_begins_below_what_was_applied() {
    let mut story = Story::new(3, 6);
    for number in 1..=3 {
        story.start(number, -HOUR);
        story.nodes.get_mut(&number).unwrap().applied = Some(Timestamp(BEGIN));
    }
    story.live(2);
    for number in 1..=3 {
        // Never below it, and from there on slower than true time.
        assert!((-200..=0).contains(&story.shows(number)), "{}", story.shows(number));
    }
    assert!(story.off().is_empty());
    story.judge("applied");
}

#[test]
fn a_node_alone_and_one_among_builds_without_echoes_have_their_own_time() {
    let mut alone = Story::new(1, 7);
    alone.start(1, 77);
    alone.turn();
    assert_eq!(alone.shows(1), 77);
    let mut older = Story::new(3, 8);
    older.mute.extend([2, 3]);
    (1..=3).for_each(|number| older.start(number, 10 * i64::from(number)));
    older.live(2);
    assert_eq!((older.shows(1), older.off()), (10, vec![]));
}

#[test]
fn clocks_that_drift_apart_stay_together_where_it_counts() {
    let mut story = Story::new(5, 9);
    for (number, ppm) in [(1, -150), (2, -40), (3, 0), (4, 60), (5, 190)] {
        story.start(number, 0);
        story.nodes.get_mut(&number).unwrap().gains_ppm = ppm;
    }
    story.live(6_000);
    let shown: Vec<i64> = (1..=5).map(|number| story.shows(number)).collect();
    assert!(shown.iter().all(|ms| ms.abs() <= 60), "{shown:?}");
    assert_eq!(story.off(), [5], "it has gained more than a second");
    story.judge("drift");
}

#[test]
fn any_minority_with_wrong_clocks_changes_nothing_for_anybody() {
    for seed in 0..60 {
        let mut story = Story::new(5, seed);
        for number in 1..=5 {
            let spread = story.draw(20) - 10;
            story.start(number, spread);
        }
        story.live(5);
        for _ in 0..6 {
            let (first, second) = (story.draw(5), story.draw(5));
            for (index, number) in (1..=5).enumerate() {
                let index = i64::try_from(index).unwrap();
                let wrong = story.draw(4 * HOUR.unsigned_abs()) - 2 * HOUR;
                let is_wrong = index == first || index == second;
                story.put_wrong(number, if is_wrong { wrong } else { 0 });
            }
            if story.draw(3) == 0 {
                let anew = u32::try_from(story.draw(5)).unwrap() + 1;
                story.start(anew, 0);
            }
            story.live(5);
            for number in 1..=5 {
                let shows = story.shows(number);
                assert!(shows.abs() <= 50, "seed {seed}: node {number} shows {shows}");
            }
        }
        story.judge(&format!("seed {seed}"));
    }
}

#[test]
fn a_node_without_a_majority_goes_on_by_its_boot_clock() {
    let mut story = Story::new(3, 10);
    (1..=3).for_each(|number| story.start(number, 0));
    story.live(5);
    // Both others are gone for longer than their clocks are known.
    story.nodes.retain(|number, _| *number == 1);
    let before = story.shows(1);
    for _ in 0..80 {
        story.pass(60_000);
        story.turn();
    }
    assert_eq!(story.shows(1), before);
    story.judge("cut off");
}
