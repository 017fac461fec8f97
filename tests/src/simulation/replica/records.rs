//! Records on their way: from the leader's log into the others', and from there to "committed".
//!
//! A leader sends what a follower lacks, from where their logs are known to be the same; what was lost is sent again with the
//! next heartbeat. Whoever is behind the beginning of the leader's log gets a copy of the rows.
//!
//! Deliberately absent: flow control. A run has some hundred records.
//!
//! Invariants: an answer tells of nothing that is not written; a committed record is never cut off; a leader counts copies of a
//! record only if it is of its own term.

use std::sync::Arc;

use statehouse_store::log_file::{Installing, LogOperation, LogPosition, LogRecord, RecordKind};

use super::{
    super::{
        disk::HowFar,
        subject::SHARD,
        wire::{Failure, Message},
    },
    Copy, Effect, HEARTBEAT_US, RECORDS_MAX, Replica, Role, index_of, majority,
};

impl Replica {
    pub(super) fn behind(&mut self, from: u32, round: u64) -> Result<(), Failure> {
        let term = self.term;
        self.send(from, Message::Appended { term, is_fit: false, upto: 0, round });
        Ok(())
    }

    /// Adds a record to the leader's log and sends it; returns its place.
    ///
    /// # Errors
    /// The log has failed.
    pub fn put(&mut self, kind: RecordKind, frame: Arc<[u8]>) -> Result<u64, Failure> {
        let index = index_of(self.last()) + 1;
        let position = LogPosition { term: self.term, index };
        let records = vec![LogRecord { position, kind, frame }];
        self.disk.write(&[LogOperation::Append { shard: SHARD, records }])?;
        self.out.push(Effect::Flush(index));
        for node in self.others() {
            self.send_records(node)?;
        }
        Ok(index)
    }

    /// The log is synced up to here.
    ///
    /// # Errors
    /// The rows have failed.
    pub fn flush(&mut self, upto: u64) -> Result<(), Failure> {
        self.flushed = self.flushed.max(upto.min(index_of(self.last())));
        self.advance()
    }

    /// Begins a round of heartbeats.
    ///
    /// # Errors
    /// The log has failed.
    pub fn beat(&mut self) -> Result<(), Failure> {
        self.heartbeat_at = self.now_us + HEARTBEAT_US;
        let others: Vec<u32> = self.others().collect();
        let Some(leading) = self.leading() else { return Ok(()) };
        leading.round += 1;
        for node in &others {
            // Whatever was lost on the way is sent again.
            if let Some(matched) = leading.matched.get(node) {
                leading.next.insert(*node, matched + 1);
            }
        }
        others.into_iter().try_for_each(|node| self.send_records(node))
    }

    pub(super) fn send_records(&mut self, to: u32) -> Result<(), Failure> {
        let (last, term, commit) = (index_of(self.last()), self.term, self.commit);
        let Role::Leader(leading) = &mut self.role else { return Ok(()) };
        let round = leading.round;
        let next = leading.next.get(&to).copied().unwrap_or(1).min(last + 1);
        let state = self.disk.log.state(SHARD);
        let purged = state.marks.purged;
        if next <= index_of(purged) {
            let Some(Copy { upto, hash, path }) = self.copy.clone() else {
                return Err(Failure::of("simulation", "a log was purged without a copy"));
            };
            self.send(to, Message::Copy { term, upto, hash, path, round });
            return Ok(());
        }
        let before = match next - 1 {
            0 => None,
            index if index == index_of(purged) => purged,
            index => self.disk.log.term(SHARD, index).map(|term| LogPosition { term, index }),
        };
        let upto = last.min(next + RECORDS_MAX - 1);
        let records = self.disk.log.read(SHARD, next..upto + 1, usize::MAX)?;
        leading.next.insert(to, upto + 1);
        self.send(to, Message::Append { term, before, records, commit, round });
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        from: u32,
        (term, commit, round): (u64, u64, u64),
        before: Option<LogPosition>,
        records: &[LogRecord],
    ) -> Result<(), Failure> {
        self.follow(term, Some(from))?;
        self.wait_for_leader();
        let purged = index_of(self.disk.log.state(SHARD).marks.purged);
        let fits = before.is_none_or(|before| {
            before.index <= purged || self.disk.log.term(SHARD, before.index) == Some(before.term)
        });
        if !fits {
            let upto = index_of(self.last()).min(index_of(before).saturating_sub(1));
            self.send(from, Message::Appended { term, is_fit: false, upto, round });
            return Ok(());
        }
        let upto = index_of(before) + records.len() as u64;
        let is_known = |record: &&LogRecord| {
            let LogPosition { term, index } = record.position;
            index <= purged || self.disk.log.term(SHARD, index) == Some(term)
        };
        let fresh: Vec<LogRecord> = records.iter().skip_while(is_known).cloned().collect();
        if let Some(first) = fresh.first().map(|record| record.position.index) {
            let mut batch = Vec::new();
            if first <= index_of(self.last()) {
                if first <= self.commit {
                    let what = format!(
                        "node {}: place {first} is committed and would be cut off",
                        self.number
                    );
                    return Err(Failure::of("S1", what));
                }
                self.count("log cut off");
                batch.push(LogOperation::Truncate { shard: SHARD, last: Some(first - 1) });
                self.flushed = self.flushed.min(first - 1);
            }
            batch.push(LogOperation::Append { shard: SHARD, records: fresh });
            self.disk.write(&batch)?;
        }
        self.flushed = self.flushed.max(upto);
        self.send_synced(from, Message::Appended { term, is_fit: true, upto, round });
        self.commit = self.commit.max(commit.min(upto));
        self.apply()
    }

    pub(super) fn take_copy(
        &mut self,
        from: u32,
        (term, round): (u64, u64),
        copy: &Copy,
    ) -> Result<(), Failure> {
        self.follow(term, Some(from))?;
        self.wait_for_leader();
        let upto = copy.upto.index;
        if upto > self.applied() {
            let how_far = if self.breaks_install { HowFar::Noted } else { HowFar::Done };
            let noted = Installing { upto: copy.upto, hash: copy.hash };
            // Whoever is filled by a copy has a log that begins behind it, and may have to send it on.
            self.copy = Some(copy.clone());
            self.disk.install(&copy.path, noted, how_far)?;
            if how_far == HowFar::Noted {
                return Ok(());
            }
            self.count("copy installed");
            self.commit = self.commit.max(upto);
            self.flushed = index_of(self.last());
        }
        self.send_synced(from, Message::Appended { term, is_fit: true, upto, round });
        Ok(())
    }

    pub(super) fn appended(
        &mut self,
        from: u32,
        term: u64,
        (is_fit, upto, round): (bool, u64, u64),
    ) -> Result<(), Failure> {
        if term > self.term {
            return self.follow(term, None);
        }
        let (is_mine, last) = (term == self.term, index_of(self.last()));
        let Some(leading) = self.leading().filter(|_| is_mine) else { return Ok(()) };
        let acked = leading.acked.entry(from).or_default();
        *acked = (*acked).max(round);
        if is_fit {
            let matched = leading.matched.entry(from).or_default();
            *matched = (*matched).max(upto);
            let next = leading.next.entry(from).or_default();
            *next = (*next).max(upto + 1);
        } else {
            leading.matched.remove(&from);
            leading.next.insert(from, upto + 1);
        }
        let is_short = leading.next.get(&from).is_some_and(|next| *next <= last);
        if !is_fit || is_short {
            self.send_records(from)?;
        }
        self.advance()?;
        self.answer_reads()
    }

    /// Returns the round that a majority has answered.
    #[must_use]
    pub fn confirmed_round(&self) -> u64 {
        let Role::Leader(leading) = &self.role else { return 0 };
        let mut rounds: Vec<u64> =
            self.others().map(|node| leading.acked.get(&node).copied().unwrap_or(0)).collect();
        rounds.push(leading.round);
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        rounds.get(majority() - 1).copied().unwrap_or(0)
    }

    /// Counts what a majority has, and applies it.
    pub(super) fn advance(&mut self) -> Result<(), Failure> {
        if let Role::Leader(leading) = &self.role {
            let mut ends: Vec<u64> = self
                .others()
                .map(|node| leading.matched.get(&node).copied().unwrap_or(0))
                .collect();
            ends.push(self.flushed);
            ends.sort_unstable_by(|a, b| b.cmp(a));
            let upto = ends.get(majority() - 1).copied().unwrap_or(0);
            if upto > self.commit && self.disk.log.term(SHARD, upto) == Some(self.term) {
                self.commit = upto;
            }
        }
        self.apply()
    }
}
