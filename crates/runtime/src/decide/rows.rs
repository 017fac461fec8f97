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
use statehouse_contract::{Due, InstanceKey, TaskId, Timestamp, codec};
use statehouse_store::entry::{self, DueChange, TaskChange, TaskKey};

use super::{Standing, body::Armed};

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
    let queue = snapshot.has_queued().then_some(((queued_at, Due::Queue), Row::Armed));
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

/// Returns the changes of an instance's tasks.
pub(super) fn task_changes(
    standing: Option<&Standing>,
    effects: &[Effect],
    at: Timestamp,
) -> Vec<TaskChange> {
    let token = |task: TaskKey| {
        let tokens = standing.map_or(&[][..], |standing| &standing.tokens);
        tokens.iter().find(|(held, _)| *held == task).map_or(0, |(_, token)| *token)
    };
    let changes = effects.iter().filter_map(|effect| match effect {
        Effect::ScheduleTask(order) => Some(TaskChange::Schedule {
            task: task_key(order.work),
            queue: order.queue.as_str().into(),
            order: codec::encode(order).expect("an order is bounded by the payload limit").into(),
            ready_at: at,
        }),
        Effect::CloseTask { work } => {
            let task = task_key(*work);
            Some(TaskChange::Close { task, token: token(task) })
        }
        Effect::CancelTask { work, .. } => {
            let task = task_key(*work);
            Some(TaskChange::Cancel { task, token: token(task) })
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
    changes.collect()
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
