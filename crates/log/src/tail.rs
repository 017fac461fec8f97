//! The last few MiB of a shard's log, in memory.
//!
//! What was just appended is read at once: by the applier, and by followers that keep up. Entries enter
//! before they are written, because the engine wants to read them as soon as `append` returns; they may
//! only leave once they are in the file. When a write fails the whole tail is dropped, so that memory
//! can never know more than the disk.
//!
//! Invariant: the entries follow each other without a hole, and everything that is not yet in the file
//! is here.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openraft::EntryPayload;

use statehouse_store::log_file::{LogPosition, LogState, StoredVote};

use crate::engine::{self, EngineEntry};

/// Bytes of frames kept of a shard beyond what is not yet in the file.
const TAIL_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What is known of a shard's log without asking the writer.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    entries: VecDeque<EngineEntry>,
    bytes: usize,
    /// Entries below this index are in the file.
    flushed: u64,
    last: Option<LogPosition>,
    purged: Option<LogPosition>,
    vote: Option<StoredVote>,
    committed: Option<LogPosition>,
}

/// What a range of entries needs.
pub(crate) enum Lookup {
    /// All of it is here.
    Here(Vec<EngineEntry>),
    /// This part stands in the file only; the rest is here.
    File(Range<u64>, Vec<EngineEntry>),
}

fn bytes(entry: &EngineEntry) -> usize {
    let frame = match &entry.payload {
        EntryPayload::Normal(proposed) => proposed.frame.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    frame + size_of::<EngineEntry>()
}

impl Tail {
    /// Takes over what the file knows at open.
    pub(crate) fn new(state: &LogState) -> Self {
        Self(Mutex::new(Known {
            flushed: state.last.map_or(0, |last| last.index + 1),
            last: state.last,
            purged: state.marks.purged,
            vote: state.marks.vote,
            committed: state.marks.committed,
            ..Known::default()
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic while it was held cannot leave it half-changed: every section below is a few moves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds entries that are about to be written.
    pub(crate) fn push(&self, entries: impl IntoIterator<Item = EngineEntry>) {
        let mut known = self.known();
        for entry in entries {
            let position = engine::position(&entry.log_id);
            let follows = known.entries.back().is_none_or(|e| e.log_id.index + 1 == position.index);
            if !follows {
                known.entries.clear();
                known.bytes = 0;
            }
            known.last = Some(position);
            known.bytes += bytes(&entry);
            known.entries.push_back(entry);
        }
    }

    /// Notes that everything up to `index` is in the file, and lets go of the oldest entries.
    pub(crate) fn flushed(&self, index: u64) {
        let mut known = self.known();
        // What was written may have been cut off since: the end now is not what was flushed.
        let end = known.last.map_or(0, |last| last.index + 1);
        known.flushed = known.flushed.max((index + 1).min(end));
        while known.bytes > TAIL_BYTES_MAX {
            let Some(oldest) = known.entries.front() else { break };
            if oldest.log_id.index >= known.flushed {
                break;
            }
            known.bytes -= bytes(oldest);
            known.entries.pop_front();
        }
    }

    /// Returns whether everything up to `index` is in the file.
    pub(crate) fn is_flushed(&self, index: u64) -> bool {
        index < self.known().flushed
    }

    /// Takes the end away.
    pub(crate) fn truncate(&self, last: Option<LogPosition>) {
        let mut known = self.known();
        let next = last.map_or(0, |last| last.index + 1);
        if known.last.is_none_or(|end| end.index < next) {
            return;
        }
        while let Some(newest) = known.entries.back() {
            if newest.log_id.index < next {
                break;
            }
            known.bytes -= bytes(newest);
            known.entries.pop_back();
        }
        known.flushed = known.flushed.min(next);
        known.last = last.or(known.purged);
    }

    /// Takes the beginning away.
    pub(crate) fn purge(&self, upto: LogPosition) {
        let mut known = self.known();
        while let Some(oldest) = known.entries.front() {
            if oldest.log_id.index > upto.index {
                break;
            }
            known.bytes -= bytes(oldest);
            known.entries.pop_front();
        }
        known.purged = Some(upto);
        if known.last.is_none_or(|last| last.index <= upto.index) {
            known.last = Some(upto);
        }
    }

    /// Forgets everything, after a write has failed.
    pub(crate) fn drop_all(&self) {
        let mut known = self.known();
        known.entries.clear();
        known.bytes = 0;
    }

    /// Looks for a range of entries.
    pub(crate) fn read(&self, range: Range<u64>) -> Lookup {
        let known = self.known();
        let first_kept = known.purged.map_or(0, |purged| purged.index + 1);
        let end = range.end.min(known.last.map_or(0, |last| last.index + 1));
        let start = range.start.max(first_kept);
        let Some(oldest) = known.entries.front().map(|entry| entry.log_id.index) else {
            return Lookup::File(start..end, Vec::new());
        };
        let from = usize::try_from(start.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let upto = usize::try_from(end.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let upto = upto.min(known.entries.len());
        let here = known.entries.range(from.min(upto)..upto).cloned().collect();
        if start >= oldest {
            Lookup::Here(here)
        } else {
            Lookup::File(start..oldest.min(end), here)
        }
    }

    /// Returns the last purged position and the last one.
    pub(crate) fn extent(&self) -> (Option<LogPosition>, Option<LogPosition>) {
        let known = self.known();
        (known.purged, known.last)
    }

    pub(crate) fn vote(&self) -> Option<StoredVote> {
        self.known().vote
    }

    pub(crate) fn set_vote(&self, vote: StoredVote) {
        self.known().vote = Some(vote);
    }

    pub(crate) fn committed(&self) -> Option<LogPosition> {
        self.known().committed
    }

    pub(crate) fn set_committed(&self, committed: Option<LogPosition>) {
        self.known().committed = committed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> EngineEntry {
        let log_id = engine::log_id(LogPosition { term, index });
        EngineEntry { log_id, payload: EntryPayload::Blank }
    }

    #[test]
    fn what_was_cut_off_while_it_was_written_is_not_taken_for_what_follows() {
        let tail = Tail::new(&LogState::default());
        tail.push((0..20).map(|index| entry(1, index)));
        // Another leader takes the end away while it is on its way to the disk.
        tail.truncate(Some(LogPosition { term: 1, index: 14 }));
        tail.flushed(19);
        assert!(tail.is_flushed(14));
        tail.push((15..20).map(|index| entry(2, index)));
        assert!(!tail.is_flushed(15), "the new ones are not on the disk yet");
        tail.flushed(19);
        assert!(tail.is_flushed(19) && !tail.is_flushed(20));
    }
}
