//! What a step changes in the rows that others read: due work, tasks, lists.
//!
//! The rows of the due table follow from the two snapshots alone, before and after: whatever stands in one and not in the
//! other is armed or disarmed. So a row cannot be forgotten by a forgotten effect, and `audit` can compute the same again.
//!
//! Absent on purpose: the chart's meaning of a timer.
//!
//! Invariant `TOGETHER`: every snapshot that leaves work pending has its row in the same entry.

use std::collections::BTreeMap;

use statehouse_chart::{Chart, Effect, Snapshot, Status, WorkKey, snapshot::EventClass};
use statehouse_contract::{CorrelationId, Due, InstanceKey, TaskId, Timestamp, TraceContext};
use statehouse_store::{
    TaskState,
    entry::{self, DueChange, Pin, TaskChange, TaskKey},
};

use super::{Standing, body::Armed};
use crate::order::Ordered;

/// Whether a row fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Armed,
    Held,
}

/// Returns the changes of the due table between two snapshots.
pub(super) fn due_changes(before: &Snapshot, after: &Snapshot, at: Timestamp) -> Vec<DueChange> {
    let (old, new) = (pending(before, before.updated_at), pending(after, at));
    let mut changes = Vec::new();
    for ((at, what), row) in &old {
        let (at, what) = (*at, what.clone());
        match (row, new.get(&(at, what.clone()))) {
            (_, None) => changes.push(DueChange::Disarm { at, what }),
            (Row::Armed, Some(Row::Held)) => changes.push(DueChange::Hold { at, what }),
            (Row::Held, Some(Row::Armed)) => changes.push(DueChange::Release { at, what }),
            (Row::Armed, Some(Row::Armed)) | (Row::Held, Some(Row::Held)) => {}
        }
    }
    for ((at, what), row) in new {
        if old.contains_key(&(at, what.clone())) {
            continue;
        }
        changes.push(DueChange::Arm { at, what: what.clone() });
        if row == Row::Held {
            changes.push(DueChange::Hold { at, what });
        }
    }
    changes
}

/// Returns every row that a snapshot needs; `queued_at` names the row of a queue that is not empty.
fn pending(snapshot: &Snapshot, queued_at: Timestamp) -> BTreeMap<(Timestamp, Due), Row> {
    let timer_row = if snapshot.status == Status::Paused { Row::Held } else { Row::Armed };
    let timers = snapshot.timers.iter().filter(|timer| !timer.fired).map(|timer| {
        let what = Due::Timer { id: timer.id.as_str().into(), generation: timer.generation };
        ((timer.due, what), timer_row)
    });
    let deadlines = snapshot.postponed.iter().filter_map(|kept| match &kept.event.class {
        EventClass::Command { ticket, until } => {
            let what = Due::PostponeDeadline { ticket: ticket.as_str().into() };
            Some(((*until, what), Row::Armed))
        }
        EventClass::Signal | EventClass::Raised | EventClass::Platform => None,
    });
    // What the instance owes itself: its queue, and cancelled work that no worker has any more.
    let is_owing = snapshot.has_queued() || !snapshot.releasing.is_empty();
    let queue = is_owing.then_some(((queued_at, Due::Queue), Row::Armed));
    timers.chain(deadlines).chain(queue).collect()
}

/// Returns the name of the postponed command with this ticket; nothing if it is not postponed any more.
pub(super) fn postponed_event<'a>(snapshot: &'a Snapshot, ticket: &str) -> &'a str {
    let is_it = |class: &EventClass| matches!(class, EventClass::Command { ticket: own, .. } if own == ticket);
    let kept = snapshot.postponed.iter().find(|kept| is_it(&kept.event.class));
    kept.map_or("", |kept| kept.event.name.as_str())
}

/// Returns the timers that run after a step and did not before.
pub(super) fn armed(before: &Snapshot, after: &Snapshot) -> Vec<Armed> {
    let is_new = |timer: &&statehouse_chart::snapshot::Timer| {
        let same = |old: &statehouse_chart::snapshot::Timer| {
            old.id == timer.id && old.generation == timer.generation
        };
        !before.timers.iter().any(same)
    };
    let new = after.timers.iter().filter(is_new);
    new.map(|timer| Armed { id: timer.id.clone(), due: timer.due.to_rfc3339() }).collect()
}

/// Returns the names of the tasks that a step scheduled.
pub(super) fn scheduled(key: &InstanceKey, effects: &[Effect]) -> Vec<String> {
    let tasks = effects.iter().filter_map(|effect| match effect {
        Effect::ScheduleTask(order) => Some(task_id(key, order.work).to_string()),
        _ => None,
    });
    tasks.collect()
}

/// Returns the routable name of a task.
pub(crate) fn task_id(key: &InstanceKey, work: WorkKey) -> TaskId {
    TaskId {
        bucket: key.bucket(),
        instance: key.instance.clone(),
        version: work.version,
        n: work.number,
    }
}

/// The circumstances in which tasks are ordered and taken back.
#[derive(Clone, Copy)]
pub(super) struct Ordering<'a> {
    /// The instance before, with the rows of its tasks; nothing at its start.
    pub(super) standing: Option<&'a Standing>,
    /// The definition that decides.
    pub(super) pin: &'a Pin,
    /// The trace of the entry.
    pub(super) trace: &'a TraceContext,
    /// The conversation of the entry.
    pub(super) correlation: Option<&'a CorrelationId>,
    /// The time of the entry.
    pub(super) at: Timestamp,
}

/// Returns the changes of an instance's tasks.
///
/// A task that is cancelled while a worker has it, and whose end the saga waits for, keeps its row until that end.
pub(super) fn task_changes(
    ordering: Ordering<'_>,
    before: &Snapshot,
    after: &Snapshot,
    effects: &[Effect],
) -> Vec<TaskChange> {
    let rows = ordering.standing.map_or(&[][..], |standing| &standing.tasks);
    let row = |task: TaskKey| rows.iter().find(|row| row.task == task);
    let is_leased = |task| row(task).is_some_and(|r| matches!(r.state, TaskState::Leased { .. }));
    let token = |task: TaskKey| row(task).map_or(0, |row| row.token);
    let released = before.releasing.iter().filter(|work| !after.releasing.contains(work));
    let released = released.filter_map(|work| {
        let row = row(task_key(*work))?;
        Some(TaskChange::Cancel { task: row.task, token: row.token })
    });
    let changes = effects.iter().filter_map(|effect| match effect {
        Effect::ScheduleTask(order) => Some(TaskChange::Schedule {
            task: task_key(order.work),
            queue: order.queue.as_str().into(),
            order: Ordered::encode(order, ordering.pin, ordering.trace, ordering.correlation),
            ready_at: ordering.at,
        }),
        Effect::CloseTask { work } => {
            let task = task_key(*work);
            Some(TaskChange::Close { task, token: token(task) })
        }
        Effect::CancelTask { work, report_release } => {
            let task = task_key(*work);
            let keeps_row = *report_release && is_leased(task);
            (!keeps_row).then(|| TaskChange::Cancel { task, token: token(task) })
        }
        Effect::StartTimer { .. }
        | Effect::CancelTimer { .. }
        | Effect::HoldTimers
        | Effect::ReleaseTimers
        | Effect::StartPostpone { .. }
        | Effect::EndPostpone { .. }
        | Effect::RunQueue
        | Effect::StartChild(_)
        | Effect::CancelChild { .. }
        | Effect::Send { .. }
        | Effect::SendParent { .. }
        | Effect::TellParent(_)
        | Effect::Emit { .. }
        | Effect::Log { .. } => None,
    });
    released.chain(changes).collect()
}

/// Returns a piece of work as the rows name it.
pub(super) const fn task_key(work: WorkKey) -> TaskKey {
    TaskKey { version: work.version, n: work.number }
}

/// Returns a status as the rows know it.
pub(super) const fn status(status: Status) -> entry::Status {
    match status {
        Status::Running => entry::Status::Running,
        Status::Paused => entry::Status::Paused,
        Status::Faulted => entry::Status::Faulted,
        Status::Compensating => entry::Status::Compensating,
        Status::Done => entry::Status::Done,
        Status::Failed => entry::Status::Failed,
        Status::Cancelled => entry::Status::Cancelled,
        Status::Terminated => entry::Status::Terminated,
    }
}

/// Returns the ids of the active atomic states, in document order.
pub(crate) fn states(chart: &Chart, snapshot: &Snapshot) -> Vec<Box<str>> {
    chart.leaves(&snapshot.configuration).into_iter().map(Into::into).collect()
}

/// Returns the tags of the active states.
pub(super) fn tags(chart: &Chart, snapshot: &Snapshot) -> Vec<Box<str>> {
    chart.tags(&snapshot.configuration).into_iter().map(Into::into).collect()
}
