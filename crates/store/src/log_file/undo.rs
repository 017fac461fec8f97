//! What a batch has changed in memory, so that it can be taken back when nothing of it was written.
//!
//! A full disk refuses a batch again and again. Reading the file anew each time would cost a scan of everything in it; what
//! the batch has changed is a few rows. The file itself is rolled back by SQLite.
//!
//! Absent on purpose: row numbers. A gap in them means nothing.

use std::collections::{BTreeMap, VecDeque};

use statehouse_contract::ShardId;

use super::{
    Shard,
    index::{Row, ShardIndex},
    record::ShardMarks,
};

/// One change of an index.
enum Step {
    Pushed(usize),
    Cut(VecDeque<Row>),
    Purged(VecDeque<Row>),
}

/// The changes of one batch, in their order.
#[derive(Default)]
pub(super) struct Undo {
    /// Each with the shard and the first index before it.
    steps: Vec<(ShardId, u64, Step)>,
    /// Marks as they were, and whether they still had to be written.
    marks: BTreeMap<ShardId, (ShardMarks, bool)>,
    /// Purged rows that the batch has added to those to be taken out.
    collected: usize,
    /// Those that it has taken out.
    swept: VecDeque<i64>,
}

impl Undo {
    pub(super) fn pushed(&mut self, shard: ShardId, first: u64) {
        match self.steps.last_mut() {
            Some((of, _, Step::Pushed(rows))) if *of == shard => *rows += 1,
            _ => self.steps.push((shard, first, Step::Pushed(1))),
        }
    }

    pub(super) fn cut(&mut self, shard: ShardId, first: u64, rows: VecDeque<Row>) {
        self.steps.push((shard, first, Step::Cut(rows)));
    }

    pub(super) fn purged(&mut self, shard: ShardId, first: u64, rows: VecDeque<Row>) {
        self.collected += rows.len();
        self.steps.push((shard, first, Step::Purged(rows)));
    }

    pub(super) fn marked(&mut self, id: ShardId, shard: &Shard) {
        self.marks.entry(id).or_insert((shard.marks, shard.is_marks_dirty));
    }

    pub(super) fn swept(&mut self, rows: VecDeque<i64>) {
        self.swept = rows;
    }

    /// Takes everything back, the last change first.
    pub(super) fn take_back(
        self,
        shards: &mut BTreeMap<ShardId, Shard>,
        garbage: &mut VecDeque<i64>,
    ) {
        // What was taken out stood in front, also if this very batch had added it.
        for row in self.swept.into_iter().rev() {
            garbage.push_front(row);
        }
        garbage.truncate(garbage.len() - self.collected);
        for (id, first, step) in self.steps.into_iter().rev() {
            let index: &mut ShardIndex = &mut shards.entry(id).or_default().index;
            match step {
                Step::Pushed(rows) => index.pop(rows),
                Step::Cut(rows) => index.put_back(rows),
                Step::Purged(rows) => index.put_before(rows),
            }
            index.begin_at(first);
        }
        for (id, (marks, is_marks_dirty)) in self.marks {
            let shard = shards.entry(id).or_default();
            (shard.marks, shard.is_marks_dirty) = (marks, is_marks_dirty);
        }
    }
}
