//! Questions to one shard, answered from its applied rows.
//!
//! Each answer is made of one read transaction that began after the wanted freshness was reached: for a linearizable read
//! after the ReadIndex was applied here. Waiting ends at the caller's deadline.
//!
//! Reads run where they are asked: a row takes some tens of microseconds. What walks over many rows runs beside.
//!
//! Absent on purpose: questions to many shards; `cluster`'s router puts those together.

mod batches;
mod copy;
mod rebuild;
mod registry;
mod schedules;
pub(crate) mod shard;
mod stream;
mod work;

use std::{sync::Arc, time::Duration};

use statehouse_chart::{Chart, Snapshot};
use statehouse_contract::{
    CommandEnvelope, Consistency, InstanceFilter, InstanceKey, Json, Key, KeyHash, KeyText,
    Receipt, ReceiptKind, Rejection, RejectionCode, Target, Timestamp, Verb,
    command::Command,
    limits::{DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, PAGE_MAX, STALE_AGE_MS_MAX, WAIT_MS_MAX},
    view::{DumpPage, InstanceRow as ListRow, InstanceView, Page, PageEnd, TransitionView},
};
use statehouse_log::ReadError;
use statehouse_store::{
    Body, InstanceRow, ListFilter, StoreError, TaskRow, TaskState, View, entry::Status,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    answer::{self, TaskShown},
    cache::RowName,
    decide::{Case, Decision, Other, decide},
    order::Ordered,
    reading::{RowsError, chart_in, resolve, standing, unreadable},
    reject,
    seat::Seat,
};

pub use stream::{Place, Position, StreamPage};

/// How long a read waits for a leader that can confirm it: an election and a little more.
const LEADER_WAIT: Duration = Duration::from_millis(700);
/// Pause between two such questions.
const LEADER_LOOK: Duration = Duration::from_millis(10);

impl Seat {
    /// Answers how an instance stands.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn instance(
        &self,
        key: &InstanceKey,
        consistency: Consistency,
        min_version: Option<u64>,
        remaining_ms: u64,
    ) -> Result<InstanceView, Rejection> {
        let deadline = deadline(remaining_ms);
        self.begin_read(consistency, deadline).await?;
        let mut applied = self.log().applied();
        loop {
            applied.mark_unchanged();
            let view = self.log().view();
            let (row, meta) = view.instance_at(key).map_err(|error| read_failed(&error))?;
            let row = row.ok_or_else(|| unknown_instance(key))?;
            if min_version.is_none_or(|min| row.version.version >= min) {
                let mut found = self.shown(&view, &row)?;
                found.position = meta.applied.unwrap_or(0);
                if consistency == Consistency::Stale {
                    found.age_ms = self.age_within(STALE_AGE_MS_MAX)?;
                }
                return Ok(found);
            }
            if timeout_at(deadline, applied.changed()).await.is_err() {
                let detail = format!("this copy is at version {}", row.version.version);
                return Err(Rejection::gateway(RejectionCode::Behind, detail).after_ms(100));
            }
        }
    }

    /// Waits until a read of this freshness may begin.
    pub(crate) async fn begin_read(
        &self,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<u64, Rejection> {
        // A read changes nothing, so it may be asked again while the shard changes its leader.
        let patience = deadline.min(Instant::now() + LEADER_WAIT);
        loop {
            let why = match timeout_at(deadline, self.log().begin_read(consistency)).await {
                Ok(Ok(position)) => return Ok(position),
                Ok(Err(why)) => why,
                Err(_) => {
                    let detail = "no majority has confirmed the leader in time";
                    return Err(Rejection::gateway(RejectionCode::NoQuorum, detail).after_ms(500));
                }
            };
            if Instant::now() + LEADER_LOOK >= patience || why == ReadError::Stopped {
                return Err(reject::from_read(&why));
            }
            sleep(LEADER_LOOK).await;
        }
    }

    /// Waits until this copy has everything that was acknowledged before.
    ///
    /// # Errors
    /// The rejection that the caller gets: nobody could vouch for it.
    pub async fn catch_up(&self) -> Result<(), Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await.map(|_| ())
    }

    /// Makes the view of a row, or finds it under exactly this row's name.
    fn shown(&self, view: &View, row: &InstanceRow) -> Result<InstanceView, Rejection> {
        let name = RowName {
            shard: self.shard(),
            generation: view.generation(),
            version: row.version,
            digest: row.digest,
        };
        let made = self.ground().caches.view(name, || {
            let (chart, snapshot) = self.opened(view, row)?;
            let tasks = tasks_shown(view, row, &snapshot, self.now())?;
            Ok(answer::instance(row, &chart, &snapshot, &tasks))
        });
        let mut found = made.map(|f| (*f).clone()).map_err(|why: RowsError| unreadable(&why))?;
        if !found.tasks.is_empty() {
            // Leases move tasks without their instance, so what was made for this row may be old.
            let fresh = self.opened(view, row).and_then(|(chart, snapshot)| {
                let tasks = tasks_shown(view, row, &snapshot, self.now())?;
                Ok(answer::tasks(row, &chart, &tasks))
            });
            found.tasks = fresh.map_err(|why| unreadable(&why))?;
        }
        Ok(found)
    }

    fn opened(&self, view: &View, row: &InstanceRow) -> Result<(Arc<Chart>, Snapshot), RowsError> {
        let chart = chart_in(self, view, &row.key.tenant, &row.definition)?;
        let snapshot = Snapshot::decode(&row.snapshot)
            .map_err(|error| RowsError::Unreadable(format!("snapshot of {}: {error}", row.key)))?;
        Ok((chart, snapshot))
    }

    /// Answers a page of an instance's transitions, each with the cursor from which a watch goes on after it.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn history(
        &self,
        key: &InstanceKey,
        epoch: u32,
        after: u64,
        limit: u32,
    ) -> Result<Page<TransitionView>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let limit = limit.clamp(1, PAGE_MAX);
        let found = self.log().view().history(key, after, limit);
        let page = found.map_err(|error| read_failed(&error))?;
        let page = page.ok_or_else(|| unknown_instance(key))?;
        let shown = page.rows.iter().filter_map(|placed| {
            let place = Place { epoch, position: placed.record.position };
            answer::transition(placed, place.to_string())
        });
        let items: Vec<TransitionView> = shown.collect();
        let end_cursor = items.last().map(|last| last.version.to_string());
        let has_more = page.has_more;
        Ok(Page { items, page: PageEnd { end_cursor, has_more, missing_shards: Vec::new() } })
    }

    /// Answers why an instance rests where it rests.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn explain(&self, key: &InstanceKey) -> Result<Json, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let view = self.log().view();
        let row = view.instance(key).map_err(|error| read_failed(&error))?;
        let row = row.ok_or_else(|| unknown_instance(key))?;
        let made = self.opened(&view, &row).and_then(|(chart, snapshot)| {
            let tasks = tasks_shown(&view, &row, &snapshot, self.now())?;
            let at = self.now().max(row.updated_at);
            let refused = view.last_refusal(key)?;
            Ok(answer::explain(&row, &chart, &snapshot, &tasks, refused.as_ref(), at))
        });
        made.map_err(|why| unreadable(&why))
    }

    /// Answers what a command would do; nothing is written.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn dry_run(&self, envelope: &CommandEnvelope) -> Result<Receipt, Rejection> {
        let Target::Instance(key) = &envelope.target else {
            let detail = "only a command to an instance can be tried";
            return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
        };
        let position =
            self.begin_read(Consistency::Linearizable, deadline(envelope.remaining_ms)).await?;
        let view = self.log().view();
        let row = view.instance(key).map_err(|error| read_failed(&error))?;
        let standing = row.map(standing).transpose().map_err(|why| unreadable(&why))?;
        let mut envelope = envelope.clone();
        let chart = match (&standing, &envelope.command) {
            (Some(standing), _) => {
                let chart = chart_in(self, &view, &key.tenant, &standing.pin);
                Some(chart.map_err(|why| unreadable(&why))?)
            }
            (None, Command::Start { definition, input }) => {
                let definition = resolve(self, &key.tenant, definition).await?;
                let chart = self.registry_chart(&key.tenant, &definition)?;
                envelope.command = Command::Start { definition, input: input.clone() };
                chart
            }
            (None, Command::Adopt { definition, .. }) => {
                self.registry_chart(&key.tenant, definition)?
            }
            (None, _) => None,
        };
        let last = standing.as_ref().map_or(Timestamp(0), |s| s.snapshot.updated_at);
        let other = match (&standing, &envelope.command) {
            (Some(standing), Command::Operate(Verb::Migrate { to })) => {
                self.registry_version(&key.tenant, &standing.pin, *to).await?
            }
            _ => None,
        };
        let case = Case {
            key,
            standing: standing.as_ref(),
            chart: chart.as_deref(),
            other: other.as_ref().map(|(pin, chart)| Other { pin, chart }),
            bucket_epoch: 0,
            at: last.max(self.now()),
            term: 0,
            node: self.ground().node,
        };
        match decide(case, &envelope) {
            Decision::Reject(no) => Err(*no),
            Decision::Nothing => {
                Err(reject::by_instance(RejectionCode::NotHandled, "nothing would change"))
            }
            Decision::Propose(draft) => {
                let receipt = match draft.entry.body {
                    Body::Transitioned(moved) => moved.receipt,
                    Body::Refused(refused) => Some(refused.receipt),
                    _ => None,
                };
                let stored = receipt.ok_or_else(|| {
                    Rejection::gateway(RejectionCode::Internal, "the decision has no answer")
                })?;
                Ok(stored.at(position))
            }
        }
    }

    /// Answers what is stored under a client's key; waits for the final answer while it is postponed.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn stored_receipt(
        &self,
        key: &InstanceKey,
        idempotency: &KeyText,
        wait_ms: u64,
    ) -> Result<Receipt, Rejection> {
        let until = Instant::now() + Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let target = Target::Instance(key.clone());
        let names = [Key::Client(idempotency.clone()), Key::Operator(idempotency.clone())]
            .map(|name| KeyHash::of(&target, &name));
        let mut applied = self.log().applied();
        loop {
            applied.mark_unchanged();
            let view = self.log().view();
            let mut found = None;
            for name in names {
                let stored = view.receipt(&target, name).map_err(|error| read_failed(&error))?;
                found = found.or(stored);
            }
            let Some(receipt) = found else {
                let detail =
                    format!("no answer of instance {} is stored under this key", key.instance);
                return Err(Rejection::gateway(RejectionCode::UnknownInstance, detail));
            };
            let is_final = receipt.kind != ReceiptKind::Postponed;
            if is_final || timeout_at(until, applied.changed()).await.is_err() {
                return Ok(receipt);
            }
        }
    }

    /// Answers a page of this shard's instances with births above `after`, and where the next page begins.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn list(
        &self,
        filter: &InstanceFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<(Vec<ListRow>, Option<u64>), Rejection> {
        let status = filter.status.as_deref().map(|word| {
            Status::parse(word).ok_or_else(|| {
                let detail = format!("{word:?} is no status");
                Rejection::gateway(RejectionCode::InvalidRequest, detail)
            })
        });
        let wanted = ListFilter {
            tenant: filter.tenant.clone(),
            state: filter.state.clone(),
            definition: filter.definition.clone(),
            status: status.transpose()?,
            tag: filter.tag.clone(),
            with_finished: filter.all,
        };
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let view = self.log().view();
        let listed = beside(move || view.list(&wanted, after, limit)).await?;
        Ok((listed.rows.iter().map(answer::list_row).collect(), listed.next))
    }

    /// Answers the entries of this shard above a position as lines of the history format; the last page ends with where
    /// this copy stands and what is open.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn dump(&self, after: u64, limit: u32) -> Result<DumpPage, Rejection> {
        self.begin_read(Consistency::Stale, deadline(0)).await?;
        let (view, node) = (self.log().view(), self.ground().node);
        let limit = u64::from(limit.clamp(1, 10 * PAGE_MAX));
        beside(move || view.dump(node, Some(after), limit)).await
    }
}

/// Runs a question that walks over many rows where it holds up nobody.
async fn beside<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Rejection> {
    match tokio::task::spawn_blocking(question).await {
        Ok(Ok(answered)) => Ok(answered),
        Ok(Err(error)) => Err(read_failed(&error)),
        Err(panic) => {
            tracing::error!(%panic, "a question panicked");
            Err(Rejection::gateway(RejectionCode::Internal, "the question could not be answered"))
        }
    }
}

/// Returns an instance's open tasks as its task rows tell them.
fn tasks_shown(
    view: &View,
    row: &InstanceRow,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<TaskShown>, RowsError> {
    if snapshot.works.is_empty() {
        return Ok(Vec::new());
    }
    let rows = view.tasks_of(row.version.born)?;
    rows.into_iter().map(|row| task_shown(view, row, now)).collect()
}

fn task_shown(view: &View, row: TaskRow, now: Timestamp) -> Result<TaskShown, RowsError> {
    let order = Ordered::decode(&row.order)?.order;
    // The attempt of a live lease is under way; else the next one is meant.
    let attempt = match row.state {
        TaskState::Leased { .. } => row.attempts,
        TaskState::Ready { .. } | TaskState::Parked => row.attempts + 1,
    };
    let error = work::last_error(view, &row)?;
    Ok(TaskShown { order, attempt, worker: row.worker, state: row.state, error, now })
}

fn deadline(remaining_ms: u64) -> Instant {
    let ms = if remaining_ms == 0 { DEADLINE_MS_DEFAULT } else { remaining_ms };
    Instant::now() + Duration::from_millis(ms.min(DEADLINE_MS_MAX))
}

fn unknown_instance(key: &InstanceKey) -> Rejection {
    let detail = format!("there is no instance {}", key.instance);
    Rejection::gateway(RejectionCode::UnknownInstance, detail)
}

pub(crate) fn read_failed(error: &StoreError) -> Rejection {
    let why = match error {
        StoreError::Replaced { .. } => RowsError::Replaced,
        other => RowsError::Unreadable(other.to_string()),
    };
    unreadable(&why)
}
