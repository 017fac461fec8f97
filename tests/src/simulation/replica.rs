//! One simulated node: a plain replicated log around the product's log file and rows.
//!
//! Terms, votes, a leader that sends its records, a majority that makes them committed: as little of it as there can be, and
//! all of it deterministic. It stands where the product has its engine. What is real is what it calls: each vote and record
//! goes through `LogFile::write` before anybody hears of it, each committed entry through `Store::apply`.
//!
//! A node does nothing by itself. The world calls it with the time and takes away what it wants to be done.
//!
//! Deliberately absent: changes of members, pre-votes, leases. A leader that nobody hears stays one in its own eyes.
//!
//! Invariants: nothing is said before it was written; a committed record is never cut off; the rows never pass the log.

mod election;
mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use statehouse_contract::{Digest, NodeId, Timestamp, codec};
use statehouse_store::{
    Applied, Committed, Entry,
    log_file::{LogOperation, LogPosition, LogRecord, RecordKind},
};

use super::{
    chance::Chance,
    desk::{Desk, Pending},
    disk::Disk,
    plan::NODES,
    subject::{Answer, SHARD},
    wire::{Failure, Message},
};

/// Records that one message carries.
const RECORDS_MAX: u64 = 32;
/// Time between two heartbeats, in microseconds.
pub const HEARTBEAT_US: u64 = 40_000;
/// The shortest time without a leader after which a node asks for votes, in microseconds, and by how much it may be longer.
const ELECTION_US: (u64, u64) = (150_000, 150_000);

/// What a node wants to be done.
pub enum Effect {
    /// A message goes out, after a sync if it tells of something written.
    Send {
        /// To whom.
        to: u32,
        /// What.
        message: Message,
        /// Whether it waits for the disk.
        is_synced: bool,
    },
    /// The node hears that its own log is synced up to here, after a sync.
    Flush(u64),
    /// A client hears something.
    Tell {
        /// Whom.
        client: u32,
        /// Which attempt is answered.
        attempt: u64,
        /// What.
        answer: Box<Answer>,
    },
    /// A decision waits before it is proposed.
    Later(Box<Pending>),
    /// An entry was applied; every node must say the same of a place.
    Agreed {
        /// The place.
        index: u64,
        /// Its term.
        term: u64,
        /// The fingerprint of its record.
        print: Digest,
    },
    /// This node leads a term.
    Leads(u64),
    /// Something happened that a run has to have, or it proves nothing.
    Count(String),
}

/// What a node is to the others.
pub enum Role {
    /// It follows whoever leads.
    Follower,
    /// It asks for votes, and has these.
    Candidate(BTreeSet<u32>),
    /// It leads.
    Leader(Leading),
}

/// What a leader knows.
#[derive(Default)]
pub struct Leading {
    /// The next record for each follower.
    next: BTreeMap<u32, u64>,
    /// Up to where each log is known to be this one.
    matched: BTreeMap<u32, u64>,
    /// The last round of heartbeats.
    pub round: u64,
    /// The last round that each follower has answered.
    acked: BTreeMap<u32, u64>,
    /// Whether the entry that opens its term is applied.
    pub is_open: bool,
}

/// A copy of the shard, ready to be sent.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Where it stands.
    pub upto: LogPosition,
    /// The fingerprint of its file.
    pub hash: Digest,
    /// The file.
    pub path: PathBuf,
}

/// How a node behaves by the weather.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// Each instance has two actors.
    pub has_two_actors: bool,
    /// So many of a hundred decisions wait.
    pub late_percent: u64,
}

/// One living node.
pub struct Replica {
    /// Its number, from 1.
    pub number: u32,
    /// Its files.
    pub disk: Disk,
    /// The time of the run, in microseconds.
    pub now_us: u64,
    /// What its wall clock says.
    pub wall: Timestamp,
    /// Luck of its own.
    pub chance: Chance,
    /// How it behaves.
    pub manners: Manners,
    /// What it wants to be done.
    pub out: Vec<Effect>,
    /// What it is.
    pub role: Role,
    /// Whom it believes to lead.
    pub leader: Option<u32>,
    /// The copy that it sends to whoever is too far behind.
    pub copy: Option<Copy>,
    /// Whether the next installation is broken off.
    pub breaks_install: bool,
    /// What it does for clients while it leads.
    pub desk: Desk,
    /// Its term.
    pub term: u64,
    vote: u32,
    /// Up to where it knows the log committed.
    pub commit: u64,
    flushed: u64,
    election_at: u64,
    heartbeat_at: u64,
}

/// Returns how many make a majority.
const fn majority() -> usize {
    NODES as usize / 2 + 1
}

const fn index_of(position: Option<LogPosition>) -> u64 {
    match position {
        Some(position) => position.index,
        None => 0,
    }
}

impl Replica {
    /// Starts a node on its files.
    ///
    /// # Errors
    /// The rows are ahead of the log: something that was applied is no longer written.
    pub fn start(number: u32, disk: Disk, chance: Chance, now_us: u64) -> Result<Self, Failure> {
        let state = disk.log.state(SHARD);
        let applied = disk.store.meta().applied.unwrap_or(0);
        let last = index_of(state.last);
        if applied > last {
            let what =
                format!("node {number}: applied up to {applied}, and its log ends at {last}");
            return Err(Failure::of("S1", what));
        }
        let vote = state.marks.vote;
        let mut replica = Self {
            number,
            disk,
            now_us,
            wall: Timestamp(0),
            chance,
            manners: Manners::default(),
            out: Vec::new(),
            role: Role::Follower,
            leader: None,
            copy: None,
            breaks_install: false,
            desk: Desk::default(),
            term: vote.map_or(0, |vote| vote.term),
            vote: vote.map_or(0, |vote| u32::try_from(vote.node).unwrap_or(0)),
            commit: applied,
            flushed: last,
            election_at: 0,
            heartbeat_at: 0,
        };
        replica.wait_for_leader();
        Ok(replica)
    }

    /// Returns the node's name.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        NodeId { number: self.number, incarnation: 1 }
    }

    /// Returns the last applied position.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.disk.store.meta().applied.unwrap_or(0)
    }

    /// Returns the end of the log.
    #[must_use]
    pub fn last(&self) -> Option<LogPosition> {
        self.disk.log.state(SHARD).last
    }

    /// Returns whether it leads and its term is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(&self.role, Role::Leader(leading) if leading.is_open)
    }

    /// Returns what it leads with, if it leads.
    pub const fn leading(&mut self) -> Option<&mut Leading> {
        match &mut self.role {
            Role::Leader(leading) => Some(leading),
            Role::Follower | Role::Candidate(_) => None,
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &str) {
        self.out.push(Effect::Count(what.to_owned()));
    }

    fn send(&mut self, to: u32, message: Message) {
        self.out.push(Effect::Send { to, message, is_synced: false });
    }

    fn send_synced(&mut self, to: u32, message: Message) {
        self.out.push(Effect::Send { to, message, is_synced: true });
    }

    fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let me = self.number;
        (1..=NODES).filter(move |node| *node != me)
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// Log or rows have failed.
    pub fn tick(&mut self) -> Result<(), Failure> {
        match self.role {
            Role::Leader(_) => {
                if self.now_us >= self.heartbeat_at {
                    self.beat()?;
                }
                self.look_at_due_work()
            }
            Role::Follower | Role::Candidate(_) if self.now_us >= self.election_at => {
                self.campaign()
            }
            Role::Follower | Role::Candidate(_) => Ok(()),
        }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// Log or rows have failed, or a committed record would be cut off.
    pub fn hear(&mut self, from: u32, message: Message) -> Result<(), Failure> {
        match message {
            Message::AskVote { term, last } => self.asked_for_vote(from, term, last),
            Message::Vote { term, is_granted } => self.voted(from, term, is_granted),
            Message::Append { term, before, records, commit, round } => {
                if term < self.term {
                    return self.behind(from, round);
                }
                self.append(from, (term, commit, round), before, &records)
            }
            Message::Appended { term, is_fit, upto, round } => {
                self.appended(from, term, (is_fit, upto, round))
            }
            Message::Copy { term, upto, hash, path, round } => {
                if term < self.term {
                    return self.behind(from, round);
                }
                self.take_copy(from, (term, round), &Copy { upto, hash, path })
            }
        }
    }

    fn apply(&mut self) -> Result<(), Failure> {
        let (from, upto) = (self.applied() + 1, self.commit.min(self.flushed));
        if upto < from {
            return Ok(());
        }
        let records = self.disk.log.read(SHARD, from..upto + 1, usize::MAX)?;
        let decode = |record: &LogRecord| match record.kind {
            RecordKind::Entry => codec::decode::<Entry>(&record.frame).map(Some),
            RecordKind::Blank | RecordKind::Membership => Ok(None),
        };
        let entries: Vec<Option<Entry>> = records
            .iter()
            .map(decode)
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::of("S14", format!("a record cannot be read: {error}")))?;
        let places = records.iter().zip(&entries).map(|(record, entry)| Committed {
            position: record.position.index,
            term: record.position.term,
            entry: entry.as_ref(),
        });
        let applied = self.disk.store.apply(&places.collect::<Vec<_>>(), None)?;
        for record in &records {
            let LogPosition { term, index } = record.position;
            self.out.push(Effect::Agreed { index, term, print: Digest::of(&record.frame) });
        }
        let done: Vec<(u64, Applied)> =
            records.iter().map(|record| record.position.term).zip(applied).collect();
        self.settle(done)?;
        self.answer_reads()
    }

    /// Makes a copy of the shard and lets the log begin behind it.
    ///
    /// # Errors
    /// Log or rows have failed.
    pub fn make_copy(&mut self, folder: &std::path::Path, name: &str) -> Result<(), Failure> {
        let made = self.disk.store.view().build_snapshot()?;
        let Some(index) = made.meta.applied else { return Ok(()) };
        let path = folder.join(name);
        std::fs::rename(&made.path, &path)?;
        let upto = LogPosition { term: made.meta.term, index };
        self.copy = Some(Copy { upto, hash: made.hash, path });
        // The log goes only below what neither a power cut nor a lost file can take back.
        self.disk.sync_rows()?;
        if self.disk.log.state(SHARD).marks.purged.is_none_or(|purged| purged.index < index) {
            self.disk.write(&[LogOperation::Purge { shard: SHARD, upto }])?;
        }
        Ok(())
    }
}
