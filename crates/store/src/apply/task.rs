//! Tasks and leases: what a transition does to its tasks, and what workers do to theirs.
//!
//! Every change of a task moves its due rows with it: those of the state before go, those of the state after come. Every
//! act names the token that the row must have; one stale token fences the whole entry.

use statehouse_contract::{
    Due, InstanceKey, Timestamp,
    mutant::{self, Mutant},
};

use super::{Batch, Stop, transition};
use crate::{
    due::{self, Slot},
    entry::{
        AttemptEnded, AttemptNext, Header, LeaseExtended, LeaseGiven, OutboxDone, TaskChange,
        TaskKey, TaskLeased, TaskRef,
    },
    fence::{self, Fence},
    outbox,
    tasks::{self, TaskRow, TaskState},
};

/// Tasks as they will be: a row, or gone.
pub(super) type Plan = Vec<(TaskKey, Option<TaskRow>)>;

type Fenced<T> = Result<Result<T, Fence>, Stop>;

impl Batch<'_> {
    pub(super) fn plan_task(
        &self,
        plan: &mut transition::Plan,
        (instance, born): (&InstanceKey, u64),
        change: &TaskChange,
    ) -> Fenced<()> {
        let (task, expected) = match change {
            TaskChange::Schedule { task, .. } => (*task, None),
            TaskChange::Close { task, token }
            | TaskChange::Cancel { task, token }
            | TaskChange::Unpark { task, token, .. } => (*task, Some(*token)),
        };
        let planned = plan.tasks.iter().rev().find(|(key, _)| *key == task);
        let before = match planned {
            Some((_, row)) => row.clone(),
            None => tasks::read(self.connection, born, task)?,
        };
        let found = before.as_ref().map(|row| row.token);
        if found != expected {
            return Ok(Err(Fence::Token { expected: expected.unwrap_or(0), found }));
        }
        // A deliberate bug: some tasks are said to be scheduled and have no row.
        if mutant::is(Mutant::LostSchedule)
            && matches!(change, TaskChange::Schedule { .. })
            && born.is_multiple_of(LOST_EVERY)
        {
            return Ok(Ok(()));
        }
        let after = match (change, &before) {
            (TaskChange::Schedule { queue, order, ready_at, .. }, _) => Some(TaskRow {
                instance: instance.clone(),
                born,
                task,
                queue: queue.clone(),
                token: 0,
                attempts: 0,
                worker: None,
                state: TaskState::Ready { at: *ready_at, armed: false },
                order: order.clone(),
            }),
            (TaskChange::Unpark { ready_at, .. }, Some(row)) => Some(TaskRow {
                state: TaskState::Ready { at: *ready_at, armed: false },
                ..row.clone()
            }),
            (TaskChange::Close { .. } | TaskChange::Cancel { .. }, _)
            | (TaskChange::Unpark { .. }, None) => None,
        };
        if let Err(fence) = self.move_due(&mut plan.due, before.as_ref(), after.as_ref())? {
            return Ok(Err(fence));
        }
        plan.tasks.push((task, after));
        Ok(Ok(()))
    }

    fn move_due(
        &self,
        plan: &mut due::Plan,
        before: Option<&TaskRow>,
        after: Option<&TaskRow>,
    ) -> Fenced<()> {
        for slot in before.map(TaskRow::slots).unwrap_or_default() {
            if let Err(missing) = plan.disarm(self.connection, slot)? {
                return self.due_missing(&missing).map(Err);
            }
        }
        for slot in after.map(TaskRow::slots).unwrap_or_default() {
            plan.arm(self.connection, slot)?;
        }
        Ok(Ok(()))
    }

    pub(super) fn write_tasks(
        &mut self,
        plan: Plan,
        (_, born): (&InstanceKey, u64),
    ) -> Result<(), Stop> {
        for (task, row) in plan {
            match row {
                Some(row) => tasks::put(self.connection, &mut self.meta, &row)?,
                None => tasks::remove(self.connection, &mut self.meta, born, task)?,
            }
        }
        Ok(())
    }

    /// Reads a task that an entry names, and checks bucket, birth and token.
    fn task(&self, named: &TaskRef) -> Fenced<TaskRow> {
        let bucket = self.buckets.get(named.instance.bucket());
        if let Err(fence) = fence::bucket(named.bucket_epoch, &bucket) {
            return Ok(Err(fence));
        }
        let row = tasks::read(self.connection, named.born, named.task)?
            .filter(|row| row.instance == named.instance);
        Ok(match row {
            Some(row) if row.token == named.token => Ok(row),
            other => Err(Fence::Token { expected: named.token, found: other.map(|row| row.token) }),
        })
    }

    /// Moves tasks to their next states, all of them or none.
    fn move_tasks(&mut self, moves: Vec<(TaskRow, TaskRow)>) -> Fenced<()> {
        let mut plan = due::Plan::default();
        for (before, after) in &moves {
            if let Err(fence) = self.move_due(&mut plan, Some(before), Some(after))? {
                return Ok(Err(fence));
            }
        }
        plan.write(self.connection, &mut self.meta)?;
        for (_, after) in &moves {
            tasks::put(self.connection, &mut self.meta, after)?;
        }
        Ok(Ok(()))
    }

    pub(super) fn task_leased(&mut self, header: &Header, leased: &TaskLeased) -> Fenced<()> {
        let mut moves: Vec<(TaskRow, TaskRow)> = Vec::new();
        for given in &leased.leases {
            let named = &given.task;
            let twice =
                moves.iter().any(|(row, _)| row.born == named.born && row.task == named.task);
            let row = match self.task(named)? {
                Ok(row) if !twice && may_be_leased(row.state, header.decided_at) => row,
                Ok(_) => return Ok(Err(Fence::Token { expected: named.token, found: None })),
                Err(fence) => return Ok(Err(fence)),
            };
            let after = lease(&row, given, leased, header.decided_term);
            moves.push((row, after));
        }
        self.move_tasks(moves)
    }

    pub(super) fn lease_extended(&mut self, extended: &LeaseExtended) -> Fenced<()> {
        let before = match self.task(&extended.task)? {
            Ok(row) => row,
            Err(fence) => return Ok(Err(fence)),
        };
        let TaskState::Leased { attempt_until, .. } = before.state else {
            return Ok(Err(Fence::Token { expected: extended.task.token, found: None }));
        };
        let state = TaskState::Leased { until: extended.until, attempt_until };
        let after = TaskRow { state, ..before.clone() };
        self.move_tasks(vec![(before, after)])
    }

    pub(super) fn attempt_ended(&mut self, ended: &AttemptEnded) -> Fenced<()> {
        let before = match self.task(&ended.task)? {
            Ok(row) => row,
            Err(fence) => return Ok(Err(fence)),
        };
        let state = match ended.next {
            // No due row: whoever looks for work finds the time in the index of the ready ones.
            AttemptNext::At(at) => TaskState::Ready { at, armed: false },
            AttemptNext::Parked => TaskState::Parked,
        };
        // The token rises, so that whoever held the lease can no longer complete the task.
        let is_kept = mutant::is(Mutant::TaskTokenReused);
        let token = if is_kept { before.token } else { before.token + 1 };
        let after = TaskRow { state, token, ..before.clone() };
        self.move_tasks(vec![(before, after)])
    }

    pub(super) fn outbox_done(&mut self, done: &OutboxDone) -> Fenced<()> {
        let bucket = self.buckets.get(done.sender.bucket());
        if let Err(fence) = fence::bucket(done.bucket_epoch, &bucket) {
            return Ok(Err(fence));
        }
        let (version, n) = (done.version, done.n);
        if !outbox::has(self.connection, done.born, version, n)? {
            return Ok(Err(Fence::Outbox { version, n }));
        }
        outbox::remove(self.connection, &mut self.meta, (done.born, version, n))?;
        Ok(Ok(()))
    }

    /// Lets every live lease live at least a while into a new term, so that a worker can reach the new leader.
    pub(super) fn term_opened(&mut self, header: &Header, floor_ms: u64) -> Fenced<()> {
        let floor = header.decided_at.after_ms(i64::try_from(floor_ms).unwrap_or(i64::MAX));
        let mut moves = Vec::new();
        let mut after: Option<Slot> = None;
        loop {
            let page = due::read_page(self.connection, after.as_ref(), floor, PAGE)?;
            for row in &page {
                let Due::Lease { task } = row.what.due else { continue };
                let task = TaskKey::from_number(task);
                if let Some(before) = tasks::read(self.connection, row.slot.born, task)?
                    && let TaskState::Leased { until, attempt_until } = before.state
                    && until < floor
                    && until > header.decided_at
                {
                    let state = TaskState::Leased { until: floor, attempt_until };
                    moves.push((before.clone(), TaskRow { state, ..before }));
                }
            }
            if page.len() < PAGE {
                return self.move_tasks(moves);
            }
            after = page.last().map(|row| row.slot.clone());
        }
    }
}

/// Of so many instances one has its tasks lost, under the mutant that loses some.
const LOST_EVERY: u64 = 4;

/// Due rows that are looked at in one read.
const PAGE: usize = 1_024;

fn may_be_leased(state: TaskState, at: Timestamp) -> bool {
    match state {
        TaskState::Ready { at: ready, .. } => ready <= at,
        TaskState::Leased { until, .. } => until <= at,
        TaskState::Parked => false,
    }
}

fn lease(row: &TaskRow, given: &LeaseGiven, leased: &TaskLeased, term: u64) -> TaskRow {
    TaskRow {
        token: tasks::next_token(row.token, term),
        attempts: given.attempt,
        worker: Some(leased.worker.clone()),
        state: TaskState::Leased { until: given.until, attempt_until: given.attempt_until },
        ..row.clone()
    }
}
