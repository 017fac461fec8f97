//! Terms and votes of a simulated node.
//!
//! A vote is in the log file before anybody hears of it. Whoever is asked grants it once a term, and only to a log that is not
//! behind its own. A new leader's first record is of its own term: only with one of those may it count what came before.
//!
//! Deliberately absent: pre-votes and leases. A node that was cut off comes back with a high term and unseats a leader; that is
//! a nuisance, and a nuisance is welcome here.

use std::{collections::BTreeSet, sync::Arc};

use statehouse_store::log_file::{LogOperation, LogPosition, RecordKind, StoredVote};

use super::{
    super::{
        desk::Desk,
        subject::SHARD,
        wire::{Failure, Message},
    },
    ELECTION_US, Effect, Leading, Replica, Role, index_of, majority,
};

impl Replica {
    pub(super) fn wait_for_leader(&mut self) {
        self.election_at = self.now_us + ELECTION_US.0 + self.chance.below(ELECTION_US.1);
    }

    pub(super) fn write_vote(&mut self, term: u64, vote: u32) -> Result<(), Failure> {
        (self.term, self.vote) = (term, vote);
        let vote = StoredVote { term, node: vote.into(), is_granted: false };
        self.disk.write(&[LogOperation::Vote { shard: SHARD, vote }])
    }

    /// Follows in a term that is not below its own.
    pub(super) fn follow(&mut self, term: u64, leader: Option<u32>) -> Result<(), Failure> {
        if term > self.term {
            self.write_vote(term, 0)?;
        }
        if !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
            // Whoever waits hears nothing, and asks again.
            self.desk = Desk::default();
        }
        self.leader = leader;
        Ok(())
    }

    /// Asks for votes.
    ///
    /// # Errors
    /// The log has failed.
    pub fn campaign(&mut self) -> Result<(), Failure> {
        self.follow(self.term, None)?;
        self.write_vote(self.term + 1, self.number)?;
        self.role = Role::Candidate(BTreeSet::from([self.number]));
        self.wait_for_leader();
        let (term, last) = (self.term, self.last());
        for node in self.others() {
            self.send_synced(node, Message::AskVote { term, last });
        }
        Ok(())
    }

    pub(super) fn asked_for_vote(
        &mut self,
        from: u32,
        term: u64,
        last: Option<LogPosition>,
    ) -> Result<(), Failure> {
        if term > self.term {
            self.follow(term, None)?;
        }
        let is_granted = term == self.term
            && (self.vote == 0 || self.vote == from)
            && last >= self.last()
            && matches!(self.role, Role::Follower);
        if is_granted {
            self.write_vote(term, from)?;
            self.wait_for_leader();
        }
        let term = self.term;
        self.send_synced(from, Message::Vote { term, is_granted });
        Ok(())
    }

    pub(super) fn voted(&mut self, from: u32, term: u64, is_granted: bool) -> Result<(), Failure> {
        if term > self.term {
            return self.follow(term, None);
        }
        let Role::Candidate(votes) = &mut self.role else { return Ok(()) };
        if term < self.term || !is_granted {
            return Ok(());
        }
        votes.insert(from);
        if votes.len() < majority() {
            return Ok(());
        }
        let next = index_of(self.last()) + 1;
        let followers = self.others().map(|node| (node, next)).collect();
        self.role = Role::Leader(Leading { next: followers, ..Leading::default() });
        self.leader = Some(self.number);
        self.desk = Desk::default();
        self.out.push(Effect::Leads(self.term));
        // A record of its own term is what lets a leader count what came before as committed.
        self.put(RecordKind::Blank, Arc::from([]))?;
        self.open_term()?;
        self.beat()
    }
}
