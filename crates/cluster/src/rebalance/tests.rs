//! Situations of a shard and the one move that follows, and whole lives of clusters move by move.

use statehouse_contract::MemberDocument;

use super::*;

const fn node(number: u32, incarnation: u32) -> NodeId {
    NodeId { number, incarnation }
}

fn members(list: &[(NodeId, Standing)]) -> Members {
    let row = |(node, standing): &(NodeId, Standing)| {
        let text = String::new;
        let (links, log, api) = (text(), text(), text());
        let standing = Some(*standing);
        (*node, MemberDocument { links, log, api, region: None, standing })
    };
    Members(list.iter().map(row).collect())
}

/// A shard whose replicas do at once what they are told.
struct Shard {
    shard: u32,
    own: NodeId,
    members: Members,
    current: BTreeMap<NodeId, Part>,
    behind: BTreeSet<NodeId>,
    down: BTreeSet<NodeId>,
    full: BTreeSet<NodeId>,
    is_joint: bool,
    unsettled: BTreeSet<NodeId>,
    off: BTreeSet<NodeId>,
}

impl Shard {
    fn new(own: NodeId, voters: &[NodeId], list: &[(NodeId, Standing)]) -> Self {
        let current = voters.iter().map(|node| (*node, Part::Voter)).collect();
        let (behind, down, full) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            shard: 0,
            own,
            members: members(list),
            current,
            behind,
            down,
            full,
            is_joint: false,
            unsettled: BTreeSet::new(),
            off: BTreeSet::new(),
        }
    }

    fn next(&self) -> Option<Move> {
        let at = |node: &NodeId| if self.behind.contains(node) { Some(10) } else { Some(10_000) };
        let progress =
            self.current.keys().filter(|n| **n != self.own).map(|n| (*n, at(n))).collect();
        let up = self.members.0.keys().filter(|n| !self.down.contains(n)).copied().collect();
        let settled =
            self.members.0.keys().filter(|n| !self.unsettled.contains(n)).copied().collect();
        let roomy = self.members.0.keys().filter(|n| !self.full.contains(n)).copied().collect();
        let situation = Situation {
            shard: ShardId(self.shard),
            own: self.own,
            members: &self.members,
            current: &self.current,
            progress: &progress,
            last: 10_000,
            up: &up,
            roomy: &roomy,
            is_joint: self.is_joint,
            settled: &settled,
            off: &self.off,
        };
        situation.next()
    }

    fn obey(&mut self, next: Move) {
        match next {
            Move::Learn(node) => drop(self.current.insert(node, Part::Learner)),
            Move::Vote(voters) => {
                assert!(voters.contains(&self.own), "a leader does not vote itself out");
                self.is_joint = false;
                for (node, part) in &mut self.current {
                    *part = if voters.contains(node) { Part::Voter } else { Part::Learner };
                }
            }
            Move::Forget(node) => drop(self.current.remove(&node)),
            Move::HandOver(node) => {
                assert_eq!(self.current.get(&node), Some(&Part::Voter));
                self.own = node;
            }
        }
    }

    /// Moves until nothing is left to do; returns what was done.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(next) = self.next() {
            done.push(format!("{next:?}"));
            assert!(done.len() < 32, "it never ends: {done:?}");
            self.obey(next);
        }
        done
    }

    fn voters(&self) -> Vec<NodeId> {
        self.current.iter().filter(|(_, p)| **p == Part::Voter).map(|(node, _)| *node).collect()
    }
}

#[test]
fn new_members_learn_first_and_vote_when_they_have_everything() {
    let list = [1, 2, 3].map(|number| (node(number, 1), Standing::Active));
    let mut shard = Shard::new(node(1, 1), &[node(1, 1)], &list);
    shard.behind.extend([node(2, 1), node(3, 1)]);
    shard.settle();
    assert_eq!(shard.voters(), [node(1, 1)], "nobody votes who is behind");
    assert_eq!(shard.current.len(), 3);
    shard.behind.clear();
    shard.down.insert(node(3, 1));
    shard.settle();
    assert_eq!(shard.voters(), [node(1, 1), node(2, 1)], "nor who does not answer");
    shard.down.clear();
    shard.settle();
    assert_eq!(shard.voters().len(), 3);
    assert_eq!(shard.next(), None);
}

#[test]
fn a_replaced_member_votes_until_its_successor_does_and_both_change_at_once() {
    let list = [
        (node(1, 1), Standing::Active),
        (node(2, 1), Standing::Active),
        (node(2, 2), Standing::Active),
        (node(3, 1), Standing::Active),
    ];
    let mut shard = Shard::new(node(1, 1), &[node(1, 1), node(2, 1), node(3, 1)], &list);
    shard.down.insert(node(2, 1));
    shard.behind.insert(node(2, 2));
    assert_eq!(shard.next(), Some(Move::Learn(node(2, 2))));
    shard.settle();
    assert_eq!(shard.voters(), [node(1, 1), node(2, 1), node(3, 1)]);
    shard.behind.clear();
    let both: BTreeSet<NodeId> = [node(1, 1), node(2, 2), node(3, 1)].into();
    assert_eq!(shard.next(), Some(Move::Vote(both)));
    shard.settle();
    assert!(!shard.current.contains_key(&node(2, 1)), "the old one is forgotten");
}

#[test]
fn a_removed_member_leaves_and_hands_over_before_it_does() {
    let list = [
        (node(1, 1), Standing::Removed),
        (node(2, 1), Standing::Active),
        (node(3, 1), Standing::Active),
    ];
    let mut shard = Shard::new(node(1, 1), &[node(1, 1), node(2, 1), node(3, 1)], &list);
    assert_eq!(shard.next(), Some(Move::HandOver(node(2, 1))));
    // The others cut their links with it at once; it hands over all the same.
    shard.down.extend([node(2, 1), node(3, 1)]);
    assert_eq!(shard.next(), Some(Move::HandOver(node(2, 1))));
    shard.down.clear();
    shard.settle();
    assert_eq!(shard.current.keys().copied().collect::<Vec<_>>(), [node(2, 1), node(3, 1)]);
}

#[test]
fn leadership_moves_for_balance_only_when_settled_and_for_draining_at_once() {
    let list = [1, 2, 3].map(|number| (node(number, 1), Standing::Active));
    let all = [node(1, 1), node(2, 1), node(3, 1)];
    let mut shard = Shard::new(node(3, 1), &all, &list);
    shard.unsettled.insert(node(1, 1));
    assert_eq!(shard.next(), None);
    shard.unsettled.clear();
    assert_eq!(shard.next(), Some(Move::HandOver(node(1, 1))));
    shard.down.insert(node(1, 1));
    assert_eq!(shard.next(), None, "not to one that does not answer");
    shard.down.clear();
    shard.full.insert(node(1, 1));
    assert_eq!(shard.next(), None, "nor to one whose disk is full");

    let drains = [
        (node(1, 1), Standing::Draining),
        (node(2, 1), Standing::Active),
        (node(3, 1), Standing::Active),
    ];
    let mut shard = Shard::new(node(1, 1), &all, &drains);
    shard.unsettled.extend(all);
    assert_eq!(shard.next(), Some(Move::HandOver(node(2, 1))));
    shard.down.insert(node(2, 1));
    assert_eq!(shard.next(), Some(Move::HandOver(node(3, 1))));
}

#[test]
fn a_leader_whose_clock_is_off_hands_over_at_once_and_gets_nothing_back_until_it_is_right() {
    let list = [1, 2, 3].map(|number| (node(number, 1), Standing::Active));
    let all = [node(1, 1), node(2, 1), node(3, 1)];
    let mut shard = Shard::new(node(1, 1), &all, &list);
    shard.off.insert(node(1, 1));
    shard.unsettled.extend(all);
    shard.full.insert(node(2, 1));
    assert_eq!(shard.next(), Some(Move::HandOver(node(3, 1))), "it should lead by the plan");
    shard.down.insert(node(3, 1));
    assert_eq!(shard.next(), None, "without an heir it goes on");
    shard.down.clear();
    shard.full.clear();
    shard.unsettled.clear();
    shard.settle();
    assert_eq!(shard.own, node(2, 1));
    assert_eq!(shard.next(), None, "the one that should lead is off");
    shard.off.clear();
    assert_eq!(shard.next(), Some(Move::HandOver(node(1, 1))));
}

#[tokio::test(start_paused = true)]
async fn who_has_been_away_is_settled_after_a_while_of_answering() {
    let begin = Instant::now();
    let at = |ms| begin + Duration::from_millis(ms);
    let (one, two) = (BTreeSet::from([node(1, 1)]), BTreeSet::from([node(1, 1), node(2, 1)]));
    let mut seen = Seen::default();
    assert_eq!(seen.look(&two, at(0)), BTreeSet::new());
    assert_eq!(seen.look(&one, at(2_900)), BTreeSet::new());
    assert_eq!(seen.look(&two, at(3_000)), one, "the second one was gone at the last look");
    assert_eq!(seen.look(&two, at(5_999)), one);
    assert_eq!(seen.look(&two, at(6_000)), two);
}

#[test]
fn without_a_list_nothing_moves() {
    let shard = Shard::new(node(1, 1), &[node(1, 1)], &[]);
    assert_eq!(shard.next(), None);
}

#[test]
fn a_change_of_voters_that_has_stopped_half_way_is_finished() {
    let list = [1, 2, 3].map(|number| (node(number, 1), Standing::Active));
    let all = [node(1, 1), node(2, 1), node(3, 1)];
    let mut shard = Shard::new(node(1, 1), &all, &list);
    assert_eq!(shard.next(), None);
    shard.is_joint = true;
    assert_eq!(shard.next(), Some(Move::Vote(all.into())));
    shard.settle();
    assert!(!shard.is_joint);
}

#[test]
fn nobody_leaves_the_voters_while_the_rest_has_no_majority() {
    let list = [(1, Standing::Removed), (2, Standing::Active), (3, Standing::Active)];
    let list = list.map(|(number, standing)| (node(number, 1), standing));
    let all = [node(1, 1), node(2, 1), node(3, 1)];
    let mut shard = Shard::new(node(2, 1), &all, &list);
    shard.down.insert(node(3, 1));
    assert_eq!(shard.next(), None, "one of two is no majority: it could never be committed");
    shard.down.clear();
    shard.behind.insert(node(3, 1));
    assert_eq!(shard.next(), None, "nor are two of which one has everything");
    shard.behind.clear();
    assert_eq!(shard.next(), Some(Move::Vote([node(2, 1), node(3, 1)].into())));
}

#[test]
fn a_leader_that_was_removed_makes_an_heir_although_its_links_are_cut() {
    let list = [(1, Standing::Removed), (2, Standing::Active)];
    let list = list.map(|(number, standing)| (node(number, 1), standing));
    let mut shard = Shard::new(node(1, 1), &[node(1, 1)], &list);
    shard.current.insert(node(2, 1), Part::Learner);
    shard.down.insert(node(2, 1));
    shard.behind.insert(node(2, 1));
    assert_eq!(shard.next(), None, "it is behind");
    shard.behind.clear();
    let both = Move::Vote([node(1, 1), node(2, 1)].into());
    assert_eq!(shard.next(), Some(both));
    shard.obey(shard.next().unwrap());
    shard.full.insert(node(2, 1));
    assert_eq!(shard.next(), None, "the disk of its heir is full");
    shard.full.clear();
    shard.settle();
    assert_eq!((shard.own, shard.voters()), (node(2, 1), vec![node(2, 1)]));
}

#[test]
fn a_voter_that_makes_place_stays_until_the_other_can_vote() {
    let numbers = [1, 2, 3, 4, 5, 6];
    let list = numbers.map(|number| (node(number, 1), Standing::Active));
    let without_two: Vec<NodeId> = [1, 3, 4, 5, 6].map(|number| node(number, 1)).into();
    let mut shard = Shard::new(node(1, 1), &without_two, &list);
    assert_eq!(shard.next(), Some(Move::Learn(node(2, 1))));
    shard.current.insert(node(2, 1), Part::Learner);
    shard.behind.insert(node(2, 1));
    shard.settle();
    assert_eq!(shard.voters(), without_two, "five vote until the new one has everything");
    shard.behind.clear();
    shard.settle();
    assert_eq!(shard.voters(), [1, 2, 3, 4, 5].map(|number| node(number, 1)));
}

/// Members come, go and are replaced in any order: the shard settles, keeps a leader that votes, and never votes for
/// anybody who is not in the list or not replaced yet.
#[test]
fn any_life_of_a_cluster_settles_where_the_list_says() {
    let seed =
        std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_123_u64);
    let mut state = seed;
    let mut draw = move |below: u64| {
        // splitmix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    for life in 0..200 {
        let mut shard = Shard::new(node(1, 1), &[node(1, 1)], &[(node(1, 1), Standing::Active)]);
        shard.shard = u32::try_from(draw(8)).unwrap();
        for act in 0..12 {
            let present: Vec<NodeId> = shard.members.present().map(|(node, _)| node).collect();
            let number = u32::try_from(draw(6)).unwrap() + 1;
            let new = shard.members.newest(number).map_or(1, |newest| newest.incarnation + 1);
            let standing = [Standing::Removed, Standing::Draining, Standing::Active]
                [usize::try_from(draw(3)).unwrap()];
            let target = present[usize::try_from(draw(present.len() as u64)).unwrap()];
            let change = if draw(2) == 0 {
                (node(number, new), Standing::Active)
            } else {
                (target, standing)
            };
            if change.1 == Standing::Removed && present.len() == 1 {
                continue;
            }
            shard.members.0.extend(members(&[change]).0);
            let done = shard.settle();
            let said = format!("seed {seed}, life {life}, act {act}: {change:?} then {done:?}");
            let present: BTreeSet<NodeId> = shard.members.present().map(|(node, _)| node).collect();
            assert_eq!(shard.current.keys().copied().collect::<BTreeSet<_>>(), present, "{said}");
            assert_eq!(
                shard.voters().into_iter().collect::<BTreeSet<_>>(),
                placement::voters(&shard.members),
                "{said}"
            );
            assert!(shard.voters().contains(&shard.own), "{said}");
        }
    }
}
