//! Questions about work: what waits in which queue, who has what, what was given under a key.
//!
//! Absent on purpose: giving leases. A count may be old the moment it is told.

use std::collections::BTreeMap;

use statehouse_contract::{
    Consistency, Json, KeyHash, Receipt, Rejection, RejectionCode, Target, TaskFilter, TenantId,
    view::{QueueView, TaskView},
};
use statehouse_store::{Body, TaskRow, TaskState, View};

use super::{beside, deadline, read_failed, task_shown};
use crate::{answer, reading::unreadable, seat::Seat};

/// Rows that one look at a tenant's tasks reads.
const LOOK: u64 = 1_024;
/// Most tasks of a tenant and shard that are counted; past it the counts are lower bounds.
const COUNTED_MAX: usize = 200_000;
/// The words by which tasks can be filtered.
const STATES: [&str; 4] = ["ready", "waiting", "leased", "parked"];

impl Seat {
    /// Counts tasks of a queue that may be leased now, as this copy has them, up to a limit. A probe, not a promise.
    #[must_use]
    pub fn count_ready(&self, tenant: &TenantId, queue: &str, limit: u64) -> u64 {
        // Whatever cannot be read here is found by whoever claims.
        self.log().view().count_ready(tenant, queue, self.now(), limit).unwrap_or(0)
    }

    /// Returns the answer under a key of no instance, at a position for which the leader vouches.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn receipt_of(
        &self,
        target: &Target,
        hash: KeyHash,
    ) -> Result<Option<Receipt>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        self.log().view().receipt(target, hash).map_err(|error| read_failed(&error))
    }

    /// Answers a page of a tenant's open tasks of instances with births above `after`, and where the next page begins.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn tasks(
        &self,
        filter: &TaskFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<(Vec<TaskView>, Option<u64>), Rejection> {
        if let Some(state) = filter.state.as_deref().filter(|state| !STATES.contains(state)) {
            let detail = format!("{state:?} is no state of a task; they are {}", STATES.join(", "));
            return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
        }
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let view = self.log().view();
        // Above every task of that instance.
        let from = (after.unwrap_or(0), i64::MAX as u64, u32::MAX);
        let rows = view.tasks_of_tenant(&filter.tenant, from, LOOK);
        let mut rows = rows.map_err(|error| read_failed(&error))?;
        let mut next = None;
        if rows.len() as u64 == LOOK {
            // The last instance may be cut: its tasks belong to the next page.
            let last = rows.last().map_or(0, |row| row.born);
            rows.retain(|row| row.born != last);
            next = rows.last().map(|row| row.born);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut shown = Vec::new();
        let mut instances = rows.chunk_by(|one, other| one.born == other.born).peekable();
        while let Some(of_one) = instances.next() {
            shown.extend(self.shown_tasks(&view, of_one, filter)?);
            if shown.len() >= limit && instances.peek().is_some() {
                return Ok((shown, of_one.first().map(|row| row.born)));
            }
        }
        Ok((shown, next))
    }

    fn shown_tasks(
        &self,
        view: &View,
        rows: &[TaskRow],
        filter: &TaskFilter,
    ) -> Result<Vec<TaskView>, Rejection> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let instance = view.instance(&first.instance).map_err(|error| read_failed(&error))?;
        let Some(instance) = instance.filter(|found| found.version.born == first.born) else {
            return Ok(Vec::new());
        };
        let made = self.opened(view, &instance).and_then(|(chart, _)| {
            let shown = rows.iter().cloned().map(|row| task_shown(view, row, self.now()));
            Ok(answer::tasks(&instance, &chart, &shown.collect::<Result<Vec<_>, _>>()?))
        });
        let tasks = made.map_err(|why| unreadable(&why))?;
        let is_wanted = |task: &TaskView| {
            filter.queue.as_deref().is_none_or(|queue| task.queue == queue)
                && filter.state.as_deref().is_none_or(|state| task.state == state)
        };
        let owner = first.instance.instance.clone();
        let tasks = tasks.into_iter().filter(is_wanted);
        Ok(tasks.map(|task| TaskView { instance: Some(owner.clone()), ..task }).collect())
    }

    /// Answers what waits in each queue of a tenant.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn queues(&self, tenant: &TenantId) -> Result<Vec<QueueView>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let (view, tenant, now) = (self.log().view(), tenant.clone(), self.now());
        beside(move || {
            let mut queues: BTreeMap<Box<str>, QueueView> = BTreeMap::new();
            let (mut after, mut counted) = ((0, 0, 0), 0);
            loop {
                let rows = view.tasks_of_tenant(&tenant, after, LOOK)?;
                let Some(last) = rows.last() else { break };
                after = (last.born, last.task.version, last.task.n);
                counted += rows.len();
                for row in rows {
                    count(
                        queues.entry(row.queue.clone()).or_insert_with(|| empty(&row.queue)),
                        &row,
                        now,
                    );
                }
                if counted >= COUNTED_MAX {
                    break;
                }
            }
            Ok(queues.into_values().collect())
        })
        .await
    }
}

fn empty(queue: &str) -> QueueView {
    QueueView {
        queue: queue.to_owned(),
        ready: 0,
        waiting: 0,
        leased: 0,
        parked: 0,
        oldest_ready_ms: None,
        polled_ms: None,
    }
}

fn count(queue: &mut QueueView, row: &TaskRow, now: statehouse_contract::Timestamp) {
    match row.state {
        TaskState::Ready { at, .. } if at <= now => {
            queue.ready += 1;
            let waited = u64::try_from(now.since_ms(at)).unwrap_or(0);
            queue.oldest_ready_ms = queue.oldest_ready_ms.max(Some(waited));
        }
        TaskState::Ready { .. } => queue.waiting += 1,
        TaskState::Leased { .. } => queue.leased += 1,
        TaskState::Parked => queue.parked += 1,
    }
}

/// Returns how the last attempt of a task failed, as history has it; nothing while none has.
pub(super) fn last_error(
    view: &View,
    row: &TaskRow,
) -> Result<Option<Json>, statehouse_store::StoreError> {
    if row.attempts == 0 || matches!(row.state, TaskState::Leased { .. }) {
        return Ok(None);
    }
    let ended = view.last_attempt_ended(row.born, row.task)?;
    Ok(ended.and_then(|placed| match placed.record.entry.body {
        Body::AttemptEnded(ended) => Some(Json::from_value(
            &serde_json::json!({ "code": ended.code, "message": ended.message }),
        )),
        _ => None,
    }))
}
