//! Apply: one batch, one transaction; each entry once, fenced, then written.
//!
//! The order is fixed. A key that is known gives its stored receipt before anything else is looked at. Then the fences.
//! Only then the first write, and from there on nothing can say no: an entry is all or nothing because everything was
//! checked before, and the batch is all or nothing because it is one transaction.
//!
//! One entry per log position. An entry at or below the applied position is skipped, and the next must be exactly one
//! higher, so a hole stops the replica instead of being papered over.
//!
//! Deliberately absent: decisions. What an entry means was decided by a leader; what is unknown halts, never skips.
//!
//! Invariants `ONCE`, `FENCE`, `TOGETHER`: this file is where they are kept.

mod admin;
mod sweep;
mod task;
mod transition;

use rusqlite::Connection;

use statehouse_contract::{
    Build, Digest, InstanceKey, KeyHash, Receipt, StoredReceipt, Target, Version, codec,
};

use crate::{
    buckets::Buckets,
    chain::{Chain, Mark},
    due::{self, MissingSlot},
    entry::{Asked, Body, Entry, RowDigest},
    error::Fault,
    fence::{self, Fence},
    history::{self, Record},
    instances::{self, Standing},
    lean::lean,
    meta::Meta,
    proof::Proofs,
};

/// One committed place of the log.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// The place.
    pub position: u64,
    /// Its term.
    pub term: u64,
    /// The entry; nothing for what concerns the log alone.
    pub entry: Option<&'a Entry>,
}

/// What became of one committed place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The place.
    pub position: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// How an entry ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied before; nothing is known of how it ended then.
    Skipped,
    /// There was nothing to apply.
    Blank,
    /// It changed rows; what stands here is what is true from now on.
    Written(Box<Written>),
    /// Its key was known: the stored answer.
    Known(Box<Receipt>),
    /// Its key was known for another request.
    KeyReused,
    /// It changed nothing.
    Fenced(Fence),
}

/// What an applied entry has made true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The answer that is stored under its key.
    pub receipt: Option<Receipt>,
    /// Final answers of commands that were postponed before.
    pub settled: Vec<(KeyHash, Receipt)>,
    /// How the instance stands now.
    pub version: Option<Version>,
    /// The fingerprint at which its next entry has to be decided.
    pub digest: Option<RowDigest>,
    /// For a marker, the fingerprint of all rows here: the same on every replica.
    pub state: Option<Chain>,
}

/// Why a batch was not applied.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(Fault),
    Hole { found: u64 },
    Level { found: u16 },
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What came of judging an entry: rows were written, or why not.
pub(super) enum Verdict {
    Written(Written, Vec<u8>),
    Known(Receipt),
    KeyReused,
    Fenced(Fence),
}

impl From<Fence> for Verdict {
    fn from(fence: Fence) -> Self {
        Self::Fenced(fence)
    }
}

pub(super) type Judged = Result<Verdict, Stop>;

/// A batch under way, within its transaction.
pub(crate) struct Batch<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) meta: Meta,
    pub(crate) buckets: &'a mut Buckets,
    pub(crate) proofs: &'a Proofs,
    /// What the process knows.
    pub(crate) build: Build,
}

/// The place that is being applied.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) term: u64,
}

impl Batch<'_> {
    /// Applies one place of the log.
    pub(crate) fn one(&mut self, committed: Committed<'_>) -> Result<Applied, Stop> {
        let Committed { position, term, entry } = committed;
        if self.meta.applied.is_some_and(|applied| position <= applied) {
            return Ok(Applied { position, outcome: Outcome::Skipped });
        }
        let follows = self.meta.applied.map_or(position <= 1, |applied| position == applied + 1);
        if !follows {
            return Err(Stop::Hole { found: position });
        }
        let place = Place { position, term };
        let outcome = match entry {
            None => {
                self.advance(place, Mark::Blank, &[]);
                Outcome::Blank
            }
            Some(entry) => self.entry(place, entry)?,
        };
        Ok(Applied { position, outcome })
    }

    fn entry(&mut self, place: Place, entry: &Entry) -> Result<Outcome, Stop> {
        let outcome = match self.judge(place, entry)? {
            Verdict::Written(written, row) => {
                self.advance(place, Mark::Written, &row);
                Outcome::Written(Box::new(written))
            }
            Verdict::Known(receipt) => {
                self.advance(place, Mark::Known, &[]);
                Outcome::Known(Box::new(receipt))
            }
            Verdict::KeyReused => {
                self.advance(place, Mark::KeyReused, &[]);
                Outcome::KeyReused
            }
            Verdict::Fenced(fence) => {
                self.advance(place, Mark::Fenced, &[]);
                Outcome::Fenced(fence)
            }
        };
        // A fenced entry was decided too: shard time never goes back behind what a leader has said.
        self.meta.time = self.meta.time.max(entry.header.decided_at);
        Ok(outcome)
    }

    fn advance(&mut self, place: Place, mark: Mark, row: &[u8]) {
        self.meta.chain = self.chain_after(place, mark, row);
        self.meta.applied = Some(place.position);
        self.meta.term = place.term;
    }

    fn chain_after(&self, place: Place, mark: Mark, row: &[u8]) -> Chain {
        self.meta.chain.next(place.position, place.term, mark, row)
    }

    fn judge(&mut self, place: Place, entry: &Entry) -> Judged {
        match &entry.body {
            Body::Transitioned(t) => self.transitioned(place, entry, t),
            Body::Refused(refused) => self.refused(place, entry, refused),
            Body::TermOpened { .. }
            | Body::TaskLeased(_)
            | Body::LeaseExtended(_)
            | Body::AttemptEnded(_)
            | Body::OutboxDone(_)
            | Body::DefinitionAdded(_)
            | Body::CurrentSet { .. }
            | Body::TenantSet { .. }
            | Body::KeySet { .. }
            | Body::QuotaSet { .. }
            | Body::ScheduleSet { .. }
            | Body::ScheduleFired { .. }
            | Body::BatchSet { .. }
            | Body::MemberSet { .. }
            | Body::BucketFrozen { .. }
            | Body::BucketMoved { .. }
            | Body::FeatureRaised { .. }
            | Body::DigestAt
            | Body::Swept(_) => self.other(place, entry),
        }
    }

    /// Applies an entry that is not one instance's move or refusal: once, fence, write, in the same order.
    fn other(&mut self, place: Place, entry: &Entry) -> Judged {
        let asked = entry.body.asked();
        let standing = match asked.map(|asked| &asked.target) {
            Some(Target::Instance(key)) => self.locate(key, None)?,
            Some(Target::Tenant(_) | Target::Shard(_) | Target::Cluster) | None => None,
        };
        if let Some(asked) = asked
            && let Some(known) =
                self.once(standing.as_ref(), asked.key_hash(), asked.receipt.fingerprint)?
        {
            return Ok(known);
        }
        if let Err(fence) = fence::term(&entry.header, place.term) {
            return Ok(fence.into());
        }
        if let Err(fence) = self.change(place, entry)? {
            return Ok(fence.into());
        }
        self.record_other(place, entry, asked, standing)
    }

    fn change(&mut self, place: Place, entry: &Entry) -> Result<Result<(), Fence>, Stop> {
        let header = &entry.header;
        match &entry.body {
            Body::TermOpened { lease_floor_ms } => self.term_opened(header, *lease_floor_ms),
            Body::TaskLeased(leased) => self.task_leased(header, leased),
            Body::LeaseExtended(extended) => self.lease_extended(extended),
            Body::AttemptEnded(ended) => self.attempt_ended(ended),
            Body::OutboxDone(done) => self.outbox_done(done),
            Body::Swept(swept) => self.swept(swept),
            Body::FeatureRaised { level, .. } if *level > self.build.level => {
                Err(Stop::Level { found: *level })
            }
            Body::DigestAt => Ok(Ok(())),
            Body::DefinitionAdded(_)
            | Body::CurrentSet { .. }
            | Body::TenantSet { .. }
            | Body::KeySet { .. }
            | Body::QuotaSet { .. }
            | Body::ScheduleSet { .. }
            | Body::ScheduleFired { .. }
            | Body::BatchSet { .. }
            | Body::MemberSet { .. }
            | Body::BucketFrozen { .. }
            | Body::BucketMoved { .. }
            | Body::FeatureRaised { .. } => self.admin(header, &entry.body),
            Body::Transitioned(_) | Body::Refused(_) => {
                let row = place.position.to_string();
                Err(Fault::row("(log)", row, "an instance's entry has its own way").into())
            }
        }
    }

    fn record_other(
        &mut self,
        place: Place,
        entry: &Entry,
        asked: Option<&Asked>,
        standing: Option<Standing>,
    ) -> Judged {
        if !leaves_history(&entry.body) {
            let state = matches!(entry.body, Body::DigestAt).then(|| self.meta.state_digest());
            let written = Written { state, ..Written::default() };
            return Ok(Verdict::Written(written, codec::bare(&entry.body)));
        }
        let owner = match &entry.body {
            Body::LeaseExtended(extended) => extended.task.born,
            Body::AttemptEnded(ended) => ended.task.born,
            Body::OutboxDone(done) => done.born,
            _ => 0,
        };
        // A receipt stands where its target is looked up; without one the row stands with its instance.
        let stands = standing.as_ref().map(|standing| (standing.version, standing.digest));
        let met = match asked {
            Some(_) => stands,
            None => instances::stands_at(self.connection, owner)?,
        };
        let record = Record {
            position: place.position,
            born: met.map_or(0, |(version, _)| version.born),
            version: met.map(|(version, _)| version),
            digest: met.map(|(_, digest)| digest),
            entry: lean(entry),
        };
        let key = asked.map(Asked::key_hash);
        if let Some(key) = key {
            self.remember(standing.map(|s| (s.version.born, s.keys)), key)?;
        }
        let row = self.append(place, &record, key)?;
        let receipt = asked.map(|asked| asked.receipt.at(place.position));
        Ok(Verdict::Written(Written { receipt, ..Written::default() }, row))
    }

    /// Appends a row of history and returns the bytes that the chain takes in.
    pub(super) fn append(
        &self,
        place: Place,
        record: &Record,
        key: Option<KeyHash>,
    ) -> Result<Vec<u8>, Stop> {
        let frame = history::encode(record)?;
        let chain = self.chain_after(place, Mark::Written, &frame);
        history::insert(self.connection, (record.position, record.born), key, &frame, chain)?;
        Ok(frame)
    }

    /// Counts a new key in the sum that proves its absence elsewhere: its instance's, or that of the loose ones.
    pub(super) fn remember(
        &mut self,
        instance: Option<(u64, crate::sum::Sum)>,
        key: KeyHash,
    ) -> Result<(), Stop> {
        let hash = u128::from_le_bytes(key.0);
        match instance {
            None => self.meta.sums.loose.add(hash),
            Some((born, mut keys)) => {
                keys.add(hash);
                instances::update_keys(self.connection, born, keys)?;
            }
        }
        Ok(())
    }

    /// Finds an instance: by the birth that the entry names, else by its name, else proves that there is none.
    pub(super) fn locate(
        &self,
        key: &InstanceKey,
        hint: Option<u64>,
    ) -> Result<Option<Standing>, Stop> {
        if let Some(born) = hint
            && let Some(standing) = instances::standing(self.connection, key, born)?
        {
            return Ok(Some(standing));
        }
        let Some(born) = instances::find(self.connection, key)? else {
            self.proofs.names(self.connection, key.bucket())?;
            return Ok(None);
        };
        let standing = instances::standing(self.connection, key, born)?;
        if standing.is_none() {
            let what = format!("leads to {born}, where another row stands");
            return Err(Fault::row("names", key, what).into());
        }
        Ok(standing)
    }

    /// Looks a key up: in the instance's receipts, then in those of no instance.
    pub(super) fn once(
        &self,
        standing: Option<&Standing>,
        key: KeyHash,
        fingerprint: Digest,
    ) -> Result<Option<Verdict>, Stop> {
        for inst in standing.map(|found| found.version.born).into_iter().chain([0]) {
            if let Some(position) = history::find(self.connection, inst, key)? {
                let mut receipt = history::receipt(self.connection, position, key)?;
                receipt.replayed = true;
                let same = receipt.fingerprint == fingerprint;
                return Ok(Some(if same { Verdict::Known(receipt) } else { Verdict::KeyReused }));
            }
        }
        if let Some(found) = standing {
            self.proofs.keys(self.connection, found.version.born)?;
        }
        Ok(None)
    }

    /// Says whose fault it is that a due row is not there: this replica's, or the entry's.
    pub(super) fn due_missing(&self, missing: &MissingSlot) -> Result<Fence, Stop> {
        due::verify(self.connection, &self.meta)?;
        Ok(Fence::DueMissing { at: missing.0 })
    }
}

/// Returns whether an entry is kept in history: what somebody has changed, not what the system does for itself.
const fn leaves_history(body: &Body) -> bool {
    match body {
        Body::TermOpened { .. } | Body::DigestAt | Body::Swept(_) => false,
        Body::Transitioned(_)
        | Body::Refused(_)
        | Body::TaskLeased(_)
        | Body::LeaseExtended(_)
        | Body::AttemptEnded(_)
        | Body::OutboxDone(_)
        | Body::DefinitionAdded(_)
        | Body::CurrentSet { .. }
        | Body::TenantSet { .. }
        | Body::KeySet { .. }
        | Body::QuotaSet { .. }
        | Body::ScheduleSet { .. }
        | Body::ScheduleFired { .. }
        | Body::BatchSet { .. }
        | Body::MemberSet { .. }
        | Body::BucketFrozen { .. }
        | Body::BucketMoved { .. }
        | Body::FeatureRaised { .. } => true,
    }
}

/// Returns a stored answer as it leaves the house, from its place.
pub(super) fn placed(stored: &StoredReceipt, place: Place) -> Receipt {
    stored.at(place.position)
}
