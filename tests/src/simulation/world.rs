//! The world of a run: one queue of events over virtual time, a network, disks, clocks, and the faults of the plan.
//!
//! Everything that takes time is an event, and events of one moment keep the order in which they were made. So a run follows
//! from its plan: no thread, no real clock, no order of a hash map has a say. When the clients are done, or the time for
//! faults is over, the world heals: everybody is up and hears everybody, and the replicas have to come to rest at one place.
//!
//! Deliberately absent: judging. Only what cannot be told afterwards is checked on the way: that all replicas apply the same
//! record at a place, and that a term has one leader.

mod faults;
mod network;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use statehouse_contract::{Digest, Timestamp};

use super::{
    chance::Chance,
    client::Client,
    desk::Pending,
    history::{History, Trace},
    plan::{Element, Fault, NODES, Plan, Weather, clients},
    replica::{Copy, Manners, Replica},
    subject::Answer,
    wire::{Failure, Message, Request},
};

/// What every wall clock begins with, in milliseconds.
const WALL_MS: i64 = 1_700_000_000_000;
/// How often a node looks at its clock, in microseconds.
const TICK_US: u64 = 15_000;
/// When the world heals although clients still ask, in microseconds.
const HEAL_US: u64 = 9_000_000;
/// How long after the healing everything must be at rest, in microseconds.
const REST_US: u64 = 25_000_000;
/// How long it has to stay at rest, in microseconds.
const QUIET_US: u64 = 400_000;
/// Bounds of a sync on a good disk and of a message in a good network, in microseconds.
const SYNC_US: (u64, u64) = (100, 1_500);
const MESSAGE_US: (u64, u64) = (200, 3_000);

enum Event {
    Tick { node: u32, life: u32 },
    Depart { from: u32, life: u32, to: u32, message: Message },
    Arrive { from: u32, to: u32, message: Message },
    Flushed { node: u32, life: u32, upto: u64 },
    Late { node: u32, life: u32, pending: Box<Pending> },
    Ask { node: u32, request: Request },
    Told { client: u32, attempt: u64, answer: Option<Box<Answer>> },
    Wake { client: u32 },
    Break { number: usize, fault: Fault, for_us: u64, tries: u32 },
    Mend { node: u32, fault: Fault },
    Up { node: u32 },
}

/// One place for a node, alive or not.
pub struct Place {
    path: PathBuf,
    /// The node, while it lives.
    pub replica: Option<Replica>,
    life: u32,
    copy: Option<Copy>,
    skew_ms: i64,
    sync_us_max: u64,
    cuts: u32,
    silences: u32,
}

/// A run under way.
pub struct World<'p> {
    folder: &'p Path,
    chance: Chance,
    /// The time, in microseconds.
    pub now_us: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    /// The nodes by number, less one.
    pub places: Vec<Place>,
    clients: Vec<Client>,
    /// What clients ask and hear.
    pub history: History,
    /// What happened.
    pub trace: Trace,
    manners: Manners,
    loss: u64,
    repeats: u64,
    message_us_max: u64,
    broken_installs: u32,
    copies: u32,
    agreed: BTreeMap<u64, (u64, Digest)>,
    leaders: BTreeMap<u64, u32>,
    /// How often things happened that have to happen in some run.
    pub tally: BTreeMap<String, u64>,
    healed_at: Option<u64>,
    quiet_since: Option<u64>,
}

impl<'p> World<'p> {
    /// Makes the world of a plan in an empty directory.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(plan: &Plan, folder: &'p Path, keeps_lines: bool) -> Result<Self, Failure> {
        let chance = Chance::new(plan.seed);
        let place = |node: u32| Place {
            path: folder.join(format!("node-{node}")),
            replica: None,
            life: 0,
            copy: None,
            skew_ms: 0,
            sync_us_max: SYNC_US.1,
            cuts: 0,
            silences: 0,
        };
        let mut world = Self {
            folder,
            chance: chance.split(3),
            now_us: 0,
            queue: BTreeMap::new(),
            events: 0,
            places: (1..=NODES).map(place).collect(),
            clients: Vec::new(),
            history: History::default(),
            trace: Trace::new(keeps_lines),
            manners: Manners::default(),
            loss: 0,
            repeats: 0,
            message_us_max: MESSAGE_US.1,
            broken_installs: 0,
            copies: 0,
            agreed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            tally: BTreeMap::new(),
            healed_at: None,
            quiet_since: None,
        };
        let mut steps = vec![VecDeque::new(); clients() as usize];
        for (number, element) in plan.elements() {
            match element {
                Element::Weather(weather) => world.set_weather(weather),
                Element::Fault { at_ms, for_ms, fault } => {
                    let for_us = for_ms * 1_000;
                    world.after(at_ms * 1_000, Event::Break { number, fault, for_us, tries: 0 });
                }
                Element::Step { client, name, rest_ms, step } => {
                    if let Some(steps) = steps.get_mut(client as usize) {
                        steps.push_back((name, rest_ms, step));
                    }
                }
            }
        }
        for (number, steps) in (0u32..).zip(steps) {
            world.clients.push(Client::new(number, steps, chance.split(64 + u64::from(number))));
        }
        for node in 1..=NODES {
            let wall = world.wall(node);
            world.history.anchor(0, node, wall.0);
            world.rise(node)?;
        }
        for client in 0..clients() {
            let wish = world.client(client).rest();
            world.grant(client, wish);
        }
        Ok(world)
    }

    fn set_weather(&mut self, weather: Weather) {
        match weather {
            Weather::Loss(percent) => self.loss = percent,
            Weather::Repeats(percent) => self.repeats = percent,
            Weather::Slow(ms) => self.message_us_max = ms * 1_000,
            Weather::SlowDisk { node, ms } => self.place(node).sync_us_max = ms * 1_000,
            Weather::Skew { node, ms } => self.place(node).skew_ms = ms,
            Weather::TwoActors => self.manners.has_two_actors = true,
            Weather::LateDecisions(percent) => self.manners.late_percent = percent,
        }
    }

    fn place(&mut self, node: u32) -> &mut Place {
        self.places.get_mut(node as usize - 1).expect("a node of the plan")
    }

    fn client(&mut self, client: u32) -> &mut Client {
        self.clients.get_mut(client as usize).expect("a client of the plan")
    }

    fn wall(&mut self, node: u32) -> Timestamp {
        let ms = i64::try_from(self.now_us / 1_000).expect("a run is short");
        Timestamp(WALL_MS + ms + self.place(node).skew_ms)
    }

    fn after(&mut self, us: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now_us + us, self.events), event);
    }

    /// Lets everything happen until all is at rest.
    ///
    /// # Errors
    /// What the plan has brought to light on the way.
    pub fn run(&mut self) -> Result<(), Failure> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now_us = at;
            self.happen(event)?;
            if self.healed_at.is_none() && (at >= HEAL_US || self.are_clients_done()) {
                self.heal()?;
            }
            if self.is_over()? {
                return Ok(());
            }
        }
        Err(Failure::of("simulation", "nothing happens any more"))
    }

    fn are_clients_done(&self) -> bool {
        self.clients.iter().all(Client::is_done)
    }

    fn is_over(&mut self) -> Result<bool, Failure> {
        let Some(healed_at) = self.healed_at else { return Ok(false) };
        if !(self.are_clients_done() && self.is_at_rest()) {
            self.quiet_since = None;
            if self.now_us > healed_at + REST_US {
                let ends: Vec<String> = self.places.iter().map(Place::tell).collect();
                let what = format!("not at rest after the healing: {}", ends.join("; "));
                return Err(Failure::of("L2", what));
            }
            return Ok(false);
        }
        let since = *self.quiet_since.get_or_insert(self.now_us);
        Ok(self.now_us >= since + QUIET_US)
    }

    fn is_at_rest(&self) -> bool {
        let Some(leader) = self.leader().and_then(|node| self.replica(node)) else { return false };
        let end = leader.last().map_or(0, |last| last.index);
        self.places.iter().all(|place| {
            place.replica.as_ref().is_some_and(|replica| {
                replica.applied() == end && replica.last().is_some_and(|last| last.index == end)
            })
        })
    }

    fn replica(&self, node: u32) -> Option<&Replica> {
        self.places.get(node as usize - 1)?.replica.as_ref()
    }

    /// Returns the node of the highest term that leads with an open term.
    fn leader(&self) -> Option<u32> {
        let open = self.places.iter().filter_map(|place| place.replica.as_ref());
        let leading = open.filter(|replica| replica.is_open());
        leading.max_by_key(|replica| replica.term).map(|replica| replica.number)
    }

    fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Tick { node, life } => {
                if self.place(node).life == life {
                    self.with(node, Replica::tick)?;
                    self.after(TICK_US, Event::Tick { node, life });
                }
                Ok(())
            }
            Event::Depart { from, life, to, message } => {
                if self.place(from).life == life {
                    self.carry(from, to, message);
                }
                Ok(())
            }
            Event::Arrive { from, to, message } => self.arrive(from, to, message),
            Event::Flushed { node, life, upto } => {
                if self.place(node).life == life {
                    self.with(node, |replica| replica.flush(upto))?;
                }
                Ok(())
            }
            Event::Late { node, life, pending } => {
                if self.place(node).life == life {
                    self.with(node, |replica| replica.propose(*pending))?;
                }
                Ok(())
            }
            Event::Ask { node, request } => {
                self.note(|| format!("{} asked {} {}", node, request.client, request.attempt));
                self.with(node, |replica| replica.asked(request))
            }
            Event::Told { client, attempt, answer } => {
                self.note(|| format!("told {client} {attempt} {answer:?}"));
                self.told(client, attempt, answer.map(|answer| *answer));
                Ok(())
            }
            Event::Wake { client } => {
                let now = self.now_us;
                let Self { clients, history, .. } = self;
                let Some(who) = clients.get_mut(client as usize) else { return Ok(()) };
                let wish = who.wake(now, history);
                self.grant(client, wish);
                Ok(())
            }
            Event::Break { number, fault, for_us, tries } => {
                self.break_something(number, fault, (for_us, tries))
            }
            Event::Mend { node, fault } => {
                self.mend(node, fault);
                Ok(())
            }
            Event::Up { node } => match self.place(node).replica {
                Some(_) => Ok(()),
                None => self.rise(node),
            },
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{} {}", self.now_us, what());
        self.trace.take(&line);
    }

    fn agree(&mut self, node: u32, index: u64, found: (u64, Digest)) -> Result<(), Failure> {
        self.note(|| format!("{node} applies {index} of term {} as {}", found.0, found.1));
        let first = *self.agreed.entry(index).or_insert(found);
        if first == found {
            return Ok(());
        }
        let what = format!("node {node} applies another record at place {index} than others did");
        Err(Failure::of("S8", what))
    }

    fn count(&mut self, what: String) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn leads(&mut self, node: u32, term: u64) -> Result<(), Failure> {
        self.note(|| format!("{node} leads term {term}"));
        let first = *self.leaders.entry(term).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(Failure::of("S5", format!("nodes {first} and {node} both lead term {term}")))
    }
}

impl Place {
    fn tell(&self) -> String {
        match &self.replica {
            Some(replica) => format!(
                "node {} in term {} has applied {} of {:?}",
                replica.number,
                replica.term,
                replica.applied(),
                replica.last()
            ),
            None => "a node is down".to_owned(),
        }
    }
}
