//! The network of a world: when messages arrive, if they do, and what nodes and clients want to be done.
//!
//! Each message draws its own luck: it may be lost, late, or arrive twice, and so overtake others. Nodes that are cut off
//! still hear clients.
//!
//! Deliberately absent: connections. Nothing is known of whoever does not answer.

use super::{
    super::{
        client::Wish,
        disk::Death,
        plan::tenant_of,
        replica::{Effect, Replica},
        subject::{Answer, SHARD},
        wire::{Asked, Failure, Message, Request},
    },
    Event, MESSAGE_US, Place, SYNC_US, World,
};

impl World<'_> {
    pub(super) fn told(&mut self, client: u32, attempt: u64, answer: Option<Answer>) {
        let now = self.now_us;
        let Self { clients, history, .. } = self;
        let Some(who) = clients.get_mut(client as usize) else { return };
        if let Some(wish) = who.hear(attempt, answer, now, history) {
            self.grant(client, wish);
        }
    }

    pub(super) fn grant(&mut self, client: u32, wish: Wish) {
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
    pub(super) fn delays(&mut self) -> Vec<u64> {
        let mut delays = Vec::new();
        if !self.chance.percent(self.loss) {
            delays.push(self.chance.between(MESSAGE_US.0, self.message_us_max));
        }
        if self.chance.percent(self.repeats) {
            delays.push(self.chance.between(MESSAGE_US.0, 4 * self.message_us_max));
        }
        delays
    }

    pub(super) fn carry(&mut self, from: u32, to: u32, message: Message) {
        let is_cut = self.place(from).cuts > 0 || self.place(to).cuts > 0;
        if is_cut || self.place(from).silences > 0 {
            return;
        }
        for delay in self.delays() {
            self.after(delay, Event::Arrive { from, to, message: message.clone() });
        }
    }

    pub(super) fn arrive(&mut self, from: u32, to: u32, message: Message) -> Result<(), Failure> {
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
    pub(super) fn with(
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
