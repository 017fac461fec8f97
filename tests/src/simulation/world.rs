//! The world of a run: one queue of events over virtual time, a network, disks, clocks, and the faults of the plan.
//!
//! Everything that takes time is an event, and events of one moment keep the order in which they were made. So a run follows
//! from its plan: no thread, no real clock, no order of a hash map has a say. When the clients are done, or the time for
//! faults is over, the world heals: everybody is up and hears everybody, and the replicas have to come to rest at one place.
//!
//! Deliberately absent: judging. Only what cannot be told afterwards is checked on the way: that all replicas apply the same
//! record at a place, and that a term has one leader.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use statehouse_contract::{Digest, Timestamp};

use super::{
    chance::Chance,
    client::{Client, Wish},
    desk::Pending,
    disk::{Death, Disk},
    history::{History, Trace},
    plan::{Element, Fault, NODES, Plan, Weather, Which, clients, tenant_of},
    replica::{Copy, Effect, Manners, Replica, Role},
    subject::{Answer, SHARD},
    wire::{Asked, Failure, Message, Request},
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

    fn heal(&mut self) -> Result<(), Failure> {
        self.trace.take(&format!("{} heals", self.now_us));
        self.healed_at = Some(self.now_us);
        (self.loss, self.repeats, self.message_us_max) = (0, 0, MESSAGE_US.1);
        self.broken_installs = 0;
        for node in 1..=NODES {
            (self.place(node).cuts, self.place(node).silences) = (0, 0);
            if self.place(node).replica.is_none() {
                self.rise(node)?;
            }
        }
        Ok(())
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

    fn told(&mut self, client: u32, attempt: u64, answer: Option<Answer>) {
        let now = self.now_us;
        let Self { clients, history, .. } = self;
        let Some(who) = clients.get_mut(client as usize) else { return };
        if let Some(wish) = who.hear(attempt, answer, now, history) {
            self.grant(client, wish);
        }
    }

    fn grant(&mut self, client: u32, wish: Wish) {
        match wish {
            Wish::Send { node, attempt, asked, patience_us } => {
                self.after(patience_us, Event::Told { client, attempt, answer: None });
                self.note(|| {
                    format!("{} client {client} asks {node}: {attempt}", tenant_of(client))
                });
                for delay in self.delays() {
                    let asked: Asked = asked.clone();
                    let request = Request { client, attempt, asked };
                    self.after(delay, Event::Ask { node, request });
                }
            }
            Wish::Rest(us) => self.after(us, Event::Wake { client }),
            Wish::Nothing => {}
        }
    }

    /// Draws when a message arrives: never, once or twice.
    fn delays(&mut self) -> Vec<u64> {
        let mut delays = Vec::new();
        if !self.chance.percent(self.loss) {
            delays.push(self.chance.between(MESSAGE_US.0, self.message_us_max));
        }
        if self.chance.percent(self.repeats) {
            delays.push(self.chance.between(MESSAGE_US.0, 4 * self.message_us_max));
        }
        delays
    }

    fn carry(&mut self, from: u32, to: u32, message: Message) {
        let is_cut = self.place(from).cuts > 0 || self.place(to).cuts > 0;
        if is_cut || self.place(from).silences > 0 {
            return;
        }
        for delay in self.delays() {
            self.after(delay, Event::Arrive { from, to, message: message.clone() });
        }
    }

    fn arrive(&mut self, from: u32, to: u32, message: Message) -> Result<(), Failure> {
        self.note(|| format!("{from} to {to}: {}", brief(&message)));
        let breaks = self.broken_installs > 0 && matches!(message, Message::Copy { .. });
        self.with(to, |replica| {
            replica.breaks_install = breaks;
            replica.hear(from, message)
        })?;
        let is_broken = |replica: &Replica| {
            let noted = replica.disk.log.state(SHARD).marks.installing;
            noted.is_some_and(|noted| noted.upto.index > replica.applied())
        };
        if breaks && self.replica(to).is_some_and(is_broken) {
            self.broken_installs -= 1;
            self.count("copy broken off".to_owned());
            self.fall(to, Death::Killed)?;
            self.after(100_000, Event::Up { node: to });
        }
        Ok(())
    }

    /// Calls a node, if it lives, and does what it wants.
    fn with(
        &mut self,
        node: u32,
        call: impl FnOnce(&mut Replica) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (now_us, wall) = (self.now_us, self.wall(node));
        let Place { replica, life, sync_us_max, .. } = self.place(node);
        let (life, sync_us_max) = (*life, *sync_us_max);
        let Some(replica) = replica else { return Ok(()) };
        (replica.now_us, replica.wall) = (now_us, wall);
        call(replica)?;
        let effects = std::mem::take(&mut replica.out);
        for effect in effects {
            match effect {
                Effect::Send { to, message, is_synced: false } => self.carry(node, to, message),
                Effect::Send { to, message, is_synced: true } => {
                    let delay = self.chance.between(SYNC_US.0, sync_us_max);
                    self.after(delay, Event::Depart { from: node, life, to, message });
                }
                Effect::Flush(upto) => {
                    let delay = self.chance.between(SYNC_US.0, sync_us_max);
                    self.after(delay, Event::Flushed { node, life, upto });
                }
                Effect::Tell { client, attempt, answer } => {
                    for delay in self.delays() {
                        let answer = Some(answer.clone());
                        self.after(delay, Event::Told { client, attempt, answer });
                    }
                }
                Effect::Later(pending) => {
                    let delay = self.chance.between(10_000, 900_000);
                    self.count("decision waited".to_owned());
                    self.after(delay, Event::Late { node, life, pending });
                }
                Effect::Agreed { index, term, print } => self.agree(node, index, (term, print))?,
                Effect::Leads(term) => self.leads(node, term)?,
                Effect::Count(what) => self.count(what),
            }
        }
        Ok(())
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

    /// Starts a node on what its disk holds.
    fn rise(&mut self, node: u32) -> Result<(), Failure> {
        self.note(|| format!("{node} is up"));
        let (now_us, manners) = (self.now_us, self.manners);
        let chance = self.chance.split(u64::from(node));
        let place = self.place(node);
        place.life += 1;
        let life = place.life;
        let chance = chance.split(u64::from(life));
        let disk = Disk::open(&place.path)?;
        let mut replica = Replica::start(node, disk, chance, now_us)?;
        replica.manners = manners;
        replica.copy = place.copy.clone();
        place.replica = Some(replica);
        self.after(TICK_US * u64::from(node) / 4, Event::Tick { node, life });
        Ok(())
    }

    fn fall(&mut self, node: u32, how: Death) -> Result<(), Failure> {
        self.note(|| format!("{node} dies: {how:?}"));
        let place = self.place(node);
        let Some(replica) = place.replica.take() else { return Ok(()) };
        place.life += 1;
        place.copy = replica.copy.clone();
        self.count(format!("death: {how:?}"));
        replica.disk.die(how)
    }

    fn resolve(&self, which: Which) -> u32 {
        match which {
            Which::Leader => self.leader().unwrap_or(1),
            Which::Node(node) => node,
        }
    }

    fn break_something(
        &mut self,
        number: usize,
        fault: Fault,
        (for_us, tries): (u64, u32),
    ) -> Result<(), Failure> {
        if self.healed_at.is_some() {
            return Ok(());
        }
        self.note(|| format!("{fault:?}"));
        if tries == 0 {
            self.history.fault(self.now_us, &format!("{number} {fault:?}"), "begin");
        }
        match fault {
            Fault::Kill(which) | Fault::PowerCut(which) => {
                let node = self.resolve(which);
                let is_kill = matches!(fault, Fault::Kill(_));
                self.fall(node, if is_kill { Death::Killed } else { Death::PowerCut })?;
                self.after(for_us, Event::Up { node });
            }
            Fault::PowerCutAll => {
                for node in 1..=NODES {
                    self.fall(node, Death::PowerCut)?;
                    self.after(for_us + 1_000 * u64::from(node), Event::Up { node });
                }
            }
            Fault::CutOff(which) => {
                let node = self.resolve(which);
                self.place(node).cuts += 1;
                self.after(for_us, Event::Mend { node, fault });
            }
            Fault::Unheard(which) => {
                let node = self.resolve(which);
                self.place(node).silences += 1;
                self.after(for_us, Event::Mend { node, fault });
            }
            Fault::Copy => return self.copy(number, fault, tries),
            Fault::BrokenInstall => self.broken_installs += 1,
            Fault::Campaign(node) => self.with(node, |replica| match replica.role {
                Role::Leader(_) => Ok(()),
                Role::Follower | Role::Candidate(_) => replica.campaign(),
            })?,
        }
        Ok(())
    }

    fn copy(&mut self, number: usize, fault: Fault, tries: u32) -> Result<(), Failure> {
        let Some(leader) = self.leader() else {
            if tries < 10 {
                self.after(50_000, Event::Break { number, fault, for_us: 0, tries: tries + 1 });
            }
            return Ok(());
        };
        self.copies += 1;
        let (folder, name) = (self.folder, format!("copy-{}.db", self.copies));
        self.with(leader, |replica| replica.make_copy(folder, &name))
    }

    fn mend(&mut self, node: u32, fault: Fault) {
        self.note(|| format!("{fault:?} is over"));
        let place = self.place(node);
        match fault {
            Fault::CutOff(_) => place.cuts = place.cuts.saturating_sub(1),
            Fault::Unheard(_) => place.silences = place.silences.saturating_sub(1),
            Fault::Kill(_)
            | Fault::PowerCut(_)
            | Fault::PowerCutAll
            | Fault::Copy
            | Fault::BrokenInstall
            | Fault::Campaign(_) => {}
        }
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

fn brief(message: &Message) -> String {
    match message {
        Message::Append { term, before, records, commit, round } => {
            format!("append {} behind {before:?} of {term}, {commit}, {round}", records.len())
        }
        Message::Copy { term, upto, round, .. } => format!("copy {upto:?} of {term}, {round}"),
        Message::AskVote { .. } | Message::Vote { .. } | Message::Appended { .. } => {
            format!("{message:?}")
        }
    }
}
