//! A plan: everything that a run will meet, made from a seed before it begins.
//!
//! Three kinds of elements: the weather (what holds for the whole run), faults (what is broken, and when), and steps (what
//! each client does, one after the other). Every element has a number, so a run can be repeated with some of them only:
//! that is how a failure is made small, and how the small one is named on a command line.
//!
//! Clients come in pairs that do the same under the same keys at instances of the same names, for two tenants: if anything
//! forgets the tenant, the pair notices.
//!
//! Invariant: a plan follows from its seed and its kept numbers alone.

use std::{collections::BTreeSet, fmt};

use super::chance::Chance;

/// Nodes of the simulated cluster.
pub const NODES: u32 = 3;
/// Names of instances; each tenant has one of each.
pub const INSTANCES: [&str; 4] = ["north", "east", "south", "west"];
/// The two tenants of a pair.
pub const TENANTS: [&str; 2] = ["acme", "bolt"];
/// Events that are sent; some more often than others.
const EVENTS: [&str; 10] =
    ["count", "count", "arm", "arm", "work", "work", "later", "later", "back", "ping"];
/// Pairs of clients that send commands.
const PAIRS: u32 = 2;
/// Workers of each tenant.
const WORKERS: u32 = 2;
/// Until when faults may begin, in milliseconds.
const FAULTS_UNTIL_MS: u64 = 3_500;

/// What holds for a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// So many of a hundred messages are lost.
    Loss(u64),
    /// So many of a hundred messages arrive twice.
    Repeats(u64),
    /// Messages take up to so many milliseconds, so that they overtake each other.
    Slow(u64),
    /// A node's disk takes up to so many milliseconds for a sync.
    SlowDisk {
        /// The node.
        node: u32,
        /// Its longest sync.
        ms: u64,
    },
    /// A node's wall clock is off.
    Skew {
        /// The node.
        node: u32,
        /// By how much; negative is behind.
        ms: i64,
    },
    /// Each instance has two actors on its leader, none of which knows of the other.
    TwoActors,
    /// So many of a hundred decisions wait a while before they are proposed, and nobody looks at the term meanwhile.
    LateDecisions(u64),
}

/// Whom a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Whoever leads then, or else the first node.
    Leader,
    /// This node.
    Node(u32),
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed; its files stay as they are.
    Kill(Which),
    /// A node loses power: what was not synced is gone.
    PowerCut(Which),
    /// All nodes lose power at once.
    PowerCutAll,
    /// A node is cut off from the others, in both directions. Clients still reach it.
    CutOff(Which),
    /// A node's messages to the others are lost, and theirs arrive.
    Unheard(Which),
    /// The leader makes a copy of the shard and purges its log, so that whoever is behind needs the copy.
    Copy,
    /// The next installation of a copy is broken off by a kill, after it was noted and before it was done.
    BrokenInstall,
    /// Another node asks for votes although the leader lives.
    Campaign(u32),
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Starts an instance.
    Start(&'static str),
    /// Sends an event.
    Send {
        /// The instance.
        instance: &'static str,
        /// The event.
        event: &'static str,
        /// Whether it expects the version that it saw last.
        expects: bool,
    },
    /// Sends an earlier command again: same key, same body, same expected version. The number picks which one.
    Again(u64),
    /// Reads what is true now.
    Read(&'static str),
    /// Reads what some node has.
    ReadAnywhere(&'static str),
    /// Claims a task, holds it for so many milliseconds and completes it.
    Work(u64),
}

/// One numbered part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// It holds for the whole run.
    Weather(Weather),
    /// It is broken at a time and for a time, both in milliseconds.
    Fault {
        /// When it begins.
        at_ms: u64,
        /// How long it lasts.
        for_ms: u64,
        /// What is broken.
        fault: Fault,
    },
    /// A client does something after some milliseconds of rest.
    Step {
        /// The client.
        client: u32,
        /// The name of the step among those of its client; a pair shares it.
        name: u32,
        /// Its rest.
        rest_ms: u64,
        /// What it does.
        step: Step,
    },
}

/// What a run will meet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    elements: Vec<Element>,
    kept: BTreeSet<usize>,
}

/// Returns how many clients there are: pairs and workers.
#[must_use]
pub const fn clients() -> u32 {
    2 * (PAIRS + WORKERS)
}

/// Returns the tenant of a client: the two of a pair have different ones.
#[must_use]
pub const fn tenant_of(client: u32) -> &'static str {
    TENANTS[(client % 2) as usize]
}

impl Plan {
    /// Makes the plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let chance = Chance::new(seed);
        let mut elements = weather(&mut chance.split(1));
        elements.extend(faults(&mut chance.split(2)));
        for pair in 0..PAIRS {
            elements.extend(pair_steps(&mut chance.split(16 + u64::from(pair)), pair));
        }
        for worker in 0..2 * WORKERS {
            let client = 2 * PAIRS + worker;
            elements.extend(worker_steps(&mut chance.split(32 + u64::from(worker)), client));
        }
        let kept = (0..elements.len()).collect();
        Self { seed, elements, kept }
    }

    /// Returns the plan with these elements only.
    #[must_use]
    pub fn keeping(&self, kept: BTreeSet<usize>) -> Self {
        Self { seed: self.seed, elements: self.elements.clone(), kept }
    }

    /// Returns the numbers of its elements.
    #[must_use]
    pub const fn kept(&self) -> &BTreeSet<usize> {
        &self.kept
    }

    /// Returns its elements with their numbers.
    pub fn elements(&self) -> impl Iterator<Item = (usize, Element)> {
        self.elements.iter().copied().enumerate().filter(|(number, _)| self.kept.contains(number))
    }

    /// Returns the numbers of what it is made of in groups that belong together: each client's steps, then the rest.
    #[must_use]
    pub fn groups(&self) -> Vec<BTreeSet<usize>> {
        let of = |wanted: &dyn Fn(&Element) -> bool| -> BTreeSet<usize> {
            self.elements().filter(|(_, element)| wanted(element)).map(|(n, _)| n).collect()
        };
        let mut groups: Vec<_> = (0..clients())
            .map(|who| of(&|e| matches!(e, Element::Step { client, .. } if *client == who)))
            .collect();
        groups.push(of(&|e| matches!(e, Element::Fault { .. })));
        groups.push(of(&|e| matches!(e, Element::Weather(_))));
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// Returns whether it is the whole plan of its seed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.kept.len() == self.elements.len()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} of {} elements", self.seed, self.kept.len(), self.elements.len())?;
        self.elements().try_for_each(|(number, element)| writeln!(f, "  {number:3} {element:?}"))
    }
}

fn weather(chance: &mut Chance) -> Vec<Element> {
    let mut weather = Vec::new();
    if chance.percent(50) {
        weather.push(Weather::Loss(chance.between(1, 12)));
    }
    if chance.percent(50) {
        weather.push(Weather::Repeats(chance.between(1, 15)));
    }
    if chance.percent(40) {
        weather.push(Weather::Slow(chance.between(10, 60)));
    }
    for node in 1..=NODES {
        if chance.percent(25) {
            weather.push(Weather::SlowDisk { node, ms: chance.between(5, 60) });
        }
        if chance.percent(40) {
            let ms = i64::try_from(chance.below(500)).unwrap_or(0) - 250;
            weather.push(Weather::Skew { node, ms });
        }
    }
    if chance.percent(50) {
        weather.push(Weather::TwoActors);
    }
    if chance.percent(50) {
        weather.push(Weather::LateDecisions(chance.between(5, 30)));
    }
    weather.into_iter().map(Element::Weather).collect()
}

fn faults(chance: &mut Chance) -> Vec<Element> {
    let mut faults = Vec::new();
    let mut add = |at_ms: u64, for_ms: u64, fault: Fault| {
        faults.push(Element::Fault { at_ms, for_ms, fault });
    };
    for _ in 0..chance.between(1, 4) {
        let at = chance.between(300, FAULTS_UNTIL_MS);
        let which = if chance.percent(60) {
            Which::Leader
        } else {
            Which::Node(u32::try_from(chance.between(1, NODES.into())).unwrap_or(1))
        };
        let long = chance.between(100, 1_200);
        match chance.below(8) {
            0 => add(at, long, Fault::Kill(which)),
            1 => add(at, long, Fault::PowerCut(which)),
            2 => add(at, long / 2, Fault::PowerCutAll),
            3 => add(at, long, Fault::CutOff(which)),
            4 => add(at, long, Fault::Unheard(which)),
            5 => add(at, 0, Fault::Campaign(u32::try_from(chance.between(1, 3)).unwrap_or(1))),
            // Whoever is away while the log is purged comes back to a copy, and may be asked to lead with it.
            6 | 7 => {
                let node = u32::try_from(chance.between(1, NODES.into())).unwrap_or(1);
                let fault = match chance.below(3) {
                    0 => Fault::Kill(Which::Node(node)),
                    1 => Fault::PowerCut(Which::Node(node)),
                    _ => Fault::CutOff(Which::Node(node)),
                };
                add(at, long + 400, fault);
                add(at + long + 300, 0, Fault::Copy);
                if chance.percent(25) {
                    add(at + long + 350, 0, Fault::BrokenInstall);
                }
                if chance.percent(60) {
                    add(at + long + 700 + chance.below(600), 0, Fault::Campaign(node));
                }
            }
            _ => {}
        }
    }
    faults
}

fn pair_steps(chance: &mut Chance, pair: u32) -> Vec<Element> {
    let mut elements = Vec::new();
    let steps = u32::try_from(chance.between(12, 20)).unwrap_or(12);
    let mut instance = *chance.pick(&INSTANCES);
    for number in 0..steps {
        // Often the one of before: what follows upon what is more than one step each.
        if chance.percent(50) {
            instance = *chance.pick(&INSTANCES);
        }
        let step = match chance.below(100) {
            _ if number < 2 => Step::Start(instance),
            0..8 => Step::Start(instance),
            8..62 => {
                let event = *chance.pick(&EVENTS);
                Step::Send { instance, event, expects: chance.percent(40) }
            }
            62..82 => Step::Again(chance.draw()),
            82..92 => Step::Read(instance),
            _ => Step::ReadAnywhere(instance),
        };
        let rests = [chance.between(5, 300), chance.between(5, 300)];
        for (rest_ms, client) in rests.into_iter().zip([2 * pair, 2 * pair + 1]) {
            elements.push(Element::Step { client, name: number, rest_ms, step });
        }
    }
    elements
}

fn worker_steps(chance: &mut Chance, client: u32) -> Vec<Element> {
    let steps = u32::try_from(chance.between(3, 8)).unwrap_or(3);
    let step = |name: u32| {
        let hold_ms =
            if chance.percent(40) { chance.between(600, 1_300) } else { chance.below(150) };
        let (rest_ms, step) = (chance.between(50, 500), Step::Work(hold_ms));
        Element::Step { client, name, rest_ms, step }
    };
    (0..steps).map(step).collect()
}
