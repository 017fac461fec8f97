//! Tasks at their instance: reports of workers, attempts that ran out; the operator's hand is in `task/operator.rs`.
//!
//! An attempt is no event. Only the end of the work moves the chart; a failure that may be tried again is an entry of the
//! task alone, without a version. Whoever reports carries the token of its lease, and the row that was read for this
//! decision says whether that is still the one; apply compares it once more.
//!
//! A task that was cancelled while a worker had it, and whose compensation has to wait for that worker, keeps its row:
//! whatever ends the attempt, a report or the clock, releases the saga instead of moving the chart.
//!
//! Absent on purpose: giving leases and keeping them alive; those move no instance, and `desk_actor.rs` does them.
//!
//! Invariant `LEASE`: a stale token completes nothing.

use statehouse_chart::{
    Chart, Outcome, RefusalKind, Snapshot, Step, Trigger, WorkError, WorkKey, step,
};
use statehouse_contract::{
    Command, Digest, Due, Json, ReceiptKind, Rejection, RejectionCode, StoredReceipt, Target,
    TaskId, Timestamp,
};
use statehouse_store::{
    Body, Entry, TaskRow, TaskState,
    entry::{Asked, AttemptEnded, AttemptNext, Cause, CauseKind, TaskKey, TaskRef},
};

use super::{
    Answering, Decision, Draft, Judge, Moving, Standing, Told, body, cause, masked, reject_now,
    value_of,
};
use crate::{order::Ordered, reject};

mod operator;

/// The code of an attempt whose lease ran out: its worker is gone, or too slow.
pub(crate) const LEASE_EXPIRED: &str = "lease_expired";
/// The code of an attempt that took longer than its `timeout`.
const TIMEOUT: &str = "timeout";
/// The code of an attempt whose output does not fit.
const INVALID_OUTPUT: &str = "invalid_output";
/// The share of a wait by which its jitter may lengthen it.
const JITTER_PERCENT: u64 = 20;

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
struct Failing<'a> {
    code: &'a str,
    message: &'a str,
    retryable: bool,
}

/// A task whose attempt is judged.
#[derive(Clone, Copy)]
struct Held<'a> {
    standing: &'a Standing,
    chart: &'a Chart,
    row: &'a TaskRow,
    ordered: &'a Ordered,
}

/// Returns how much longer than its wait a task rests before its next attempt. Deterministic: every leader plans the same.
#[must_use]
pub(crate) fn jitter_ms(task: &TaskId, attempt: u32, wait_ms: u64) -> u64 {
    let room = wait_ms / 100 * JITTER_PERCENT + wait_ms % 100 * JITTER_PERCENT / 100;
    let digest = Digest::of(format!("{task}\0{attempt}").as_bytes());
    let drawn = u64::from_be_bytes(digest.0[..8].try_into().expect("a digest has 32 bytes"));
    if room == 0 { 0 } else { drawn % (room + 1) }
}

/// Returns a piece of work as the chart names it.
pub(crate) const fn work_key(task: TaskKey) -> WorkKey {
    WorkKey { version: task.version, number: task.n }
}

/// Returns the first cancelled piece of work that no worker has any more: the saga need not wait for it.
pub(crate) fn releasable(standing: &Standing) -> Option<WorkKey> {
    let is_leased = |work: &&WorkKey| {
        let row = standing.tasks.iter().find(|row| work_key(row.task) == **work);
        row.is_some_and(|row| matches!(row.state, TaskState::Leased { .. }))
    };
    standing.snapshot.releasing.iter().find(|work| !is_leased(work)).copied()
}

impl Judge<'_> {
    pub(super) fn complete(self, task: &TaskId, token: u64, output: &Json) -> Decision {
        self.reported(task, token, "complete", |judge, held| judge.completed(held, output))
    }

    pub(super) fn fail(
        self,
        (task, token): (&TaskId, u64),
        (code, message): (&str, &str),
        retryable: bool,
    ) -> Decision {
        self.reported(task, token, "fail", |judge, held| {
            judge.failed(held, Failing { code, message, retryable }, None)
        })
    }

    /// Finds the task that a worker reports on, if it still holds it.
    fn reported(
        self,
        task: &TaskId,
        token: u64,
        what: &str,
        judge: impl FnOnce(Self, Held<'_>) -> Decision,
    ) -> Decision {
        let caused = || cause(CauseKind::Task, what, None);
        let (Some(standing), Some(chart)) = (self.case.standing, self.case.chart) else {
            return self.refuse(None, no_such_task(task), caused());
        };
        let Some(row) = row_of(standing, task) else {
            let no = over_or_unknown(standing, task);
            return self.refuse(Some(standing), no, caused());
        };
        if row.token != token || !matches!(row.state, TaskState::Leased { .. }) {
            let detail = format!(
                "the lease with token {token} of task {task} is over: its worker was too late, or the task was taken back"
            );
            let no = reject::by_instance(RejectionCode::StaleLease, detail);
            return self.refuse(Some(standing), no, caused());
        }
        self.with_order(standing, chart, row, judge)
    }

    fn with_order(
        self,
        standing: &Standing,
        chart: &Chart,
        row: &TaskRow,
        judge: impl FnOnce(Self, Held<'_>) -> Decision,
    ) -> Decision {
        match Ordered::decode(&row.order) {
            Ok(ordered) => {
                let held = Held { standing, chart, row, ordered: &ordered };
                if is_releasing(&standing.snapshot, row) {
                    return self.released(held);
                }
                judge(self, held)
            }
            Err(why) => reject_now(crate::reading::unreadable(&why)),
        }
    }

    fn completed(self, held: Held<'_>, output: &Json) -> Decision {
        let work = work_key(held.row.task);
        let trigger = Trigger::WorkDone { work, output: value_of(output) };
        match step(held.chart, &held.standing.snapshot, &trigger, self.case.at) {
            Ok(taken) => {
                let shown = self.masked_output(held, output);
                let caused = cause(CauseKind::Task, "", Some(shown));
                self.ended(held, taken, caused, self.told(held, "done"))
            }
            Err(no) if no.kind == RefusalKind::Stale => self.gone(held),
            Err(no) => {
                let mut no = reject::from_kind(&no.kind);
                no.code = RejectionCode::InvalidPayload;
                let message = format!("the output does not fit: {}", no.detail);
                let failing = Failing { code: INVALID_OUTPUT, message: &message, retryable: true };
                self.failed(held, failing, Some(no))
            }
        }
    }

    /// An attempt failed. `answer` is what its worker hears if the failure is not the one that it reported.
    fn failed(self, held: Held<'_>, failing: Failing<'_>, answer: Option<Rejection>) -> Decision {
        let Held { standing, chart, row, ordered } = held;
        let policy = &ordered.order.retry;
        let may_repeat = failing.retryable && policy.is_retryable(failing.code);
        if let Some(wait_ms) = policy.wait_ms(row.attempts).filter(|_| may_repeat) {
            let more = jitter_ms(&self.task_id(row), row.attempts, wait_ms);
            let at = self.case.at.after_ms(i64::try_from(wait_ms + more).unwrap_or(i64::MAX));
            return self.attempt_ended(held, failing, AttemptNext::At(at), answer);
        }
        let error = WorkError {
            code: failing.code.to_owned(),
            message: failing.message.to_owned(),
            attempts: row.attempts,
        };
        let trigger = Trigger::WorkFailed { work: work_key(row.task), error };
        match step(chart, &standing.snapshot, &trigger, self.case.at) {
            Ok(taken) if taken.outcome == Outcome::Parked => {
                self.attempt_ended(held, failing, AttemptNext::Parked, answer)
            }
            Ok(taken) => {
                let shown = failure(failing, row.attempts);
                let caused = cause(CauseKind::Task, "", Some(shown));
                let answering = match answer {
                    Some(no) => self.told_no(no, "the task has failed for good"),
                    None => self.told(held, "failed"),
                };
                self.ended(held, taken, caused, answering)
            }
            Err(_) => self.gone(held),
        }
    }

    fn released(self, held: Held<'_>) -> Decision {
        let trigger = Trigger::WorkReleased { work: work_key(held.row.task) };
        match step(held.chart, &held.standing.snapshot, &trigger, self.case.at) {
            Ok(taken) => {
                let caused = cause(CauseKind::Task, "release", None);
                self.ended(held, taken, caused, self.told(held, "cancelled"))
            }
            Err(_) => self.gone(held),
        }
    }

    fn ended(self, held: Held<'_>, taken: Step, caused: Cause, answering: Answering) -> Decision {
        if !taken.is_transition(&held.standing.snapshot) {
            return self.gone(held);
        }
        let (standing, pin) = (Some(held.standing), &held.standing.pin);
        self.transition(Moving {
            standing,
            pin,
            chart: held.chart,
            was: None,
            taken,
            caused,
            answering,
            tasks: Vec::new(),
        })
    }

    /// The row says that the task is open and the chart says that it is not: whoever reports is too late.
    fn gone(self, held: Held<'_>) -> Decision {
        if self.is_fire() {
            return Decision::Nothing;
        }
        let detail = format!("task {} is over", self.task_id(held.row));
        let no = reject::by_instance(RejectionCode::StaleLease, detail);
        self.refuse(Some(held.standing), no, cause(CauseKind::Task, "report", None))
    }

    /// The entry of a failed attempt that does not move the chart.
    fn attempt_ended(
        self,
        held: Held<'_>,
        failing: Failing<'_>,
        next: AttemptNext,
        answer: Option<Rejection>,
    ) -> Decision {
        let Held { standing, row, .. } = held;
        let task = self.task_id(row);
        let what_follows = match next {
            AttemptNext::At(at) => format!("the next attempt begins at {}", at.to_rfc3339()),
            AttemptNext::Parked => "the task waits for an operator".to_owned(),
        };
        let (kind, body) = match answer {
            Some(no) => {
                let no =
                    Rejection { version: Some(standing.version), ..ended_too(no, &what_follows) };
                (ReceiptKind::Refused(no.code), self.render(&no))
            }
            None => (ReceiptKind::Accepted, body::attempt(&task.to_string(), next)),
        };
        let receipt = StoredReceipt {
            kind,
            fingerprint: self.envelope.fingerprint,
            version: Some(standing.version),
            body,
        };
        let asked = (!self.is_fire()).then(|| Asked {
            target: Target::Instance(self.case.key.clone()),
            key: self.envelope.key.clone(),
            receipt,
        });
        let ended = AttemptEnded {
            task: self.task_ref(standing, row),
            code: failing.code.into(),
            message: failing.message.into(),
            next,
            asked,
        };
        let body = Body::AttemptEnded(Box::new(ended));
        let entry = Entry { header: self.header(), body };
        Decision::Propose(Box::new(Draft { entry, next: None }))
    }

    /// The lease or the time of an attempt has run out.
    pub(super) fn run_out(self, what: &Due, due: Timestamp) -> Decision {
        let (Some(standing), Some(chart)) = (self.case.standing, self.case.chart) else {
            return Decision::Nothing;
        };
        let (number, is_lease) = match what {
            Due::Lease { task } => (*task, true),
            Due::Attempt { task } => (*task, false),
            _ => return Decision::Nothing,
        };
        let task = TaskKey::from_number(number);
        let Some(row) = standing.tasks.iter().find(|row| row.task == task) else {
            return Decision::Nothing;
        };
        let TaskState::Leased { until, attempt_until } = row.state else {
            return Decision::Nothing;
        };
        let ends = if is_lease { Some(until) } else { attempt_until };
        if ends != Some(due) {
            return Decision::Nothing;
        }
        let worker = row.worker.as_deref().unwrap_or("a worker");
        let message = if is_lease {
            format!("{worker} neither reported nor asked for more time")
        } else {
            format!("{worker} took longer than an attempt may take")
        };
        let code = if is_lease { LEASE_EXPIRED } else { TIMEOUT };
        self.with_order(standing, chart, row, |judge, held| {
            judge.failed(held, Failing { code, message: &message, retryable: true }, None)
        })
    }

    /// The first attempt of a task is about to begin: its compensation is registered now.
    pub(super) fn start_task(self, task: &TaskId) -> Decision {
        let (Some(standing), Some(chart)) = (self.case.standing, self.case.chart) else {
            return reject_now(no_such_task(task));
        };
        let Some(row) = row_of(standing, task) else {
            return reject_now(over_or_unknown(standing, task));
        };
        let trigger = Trigger::WorkStarted { work: work_key(row.task) };
        match step(chart, &standing.snapshot, &trigger, self.case.at) {
            Ok(taken) if taken.is_transition(&standing.snapshot) => {
                let told = Told::Ended { task: self.task_id(row).to_string(), outcome: "started" };
                self.transition(Moving {
                    standing: Some(standing),
                    pin: &standing.pin,
                    chart,
                    was: None,
                    taken,
                    caused: cause(CauseKind::Task, "start", None),
                    answering: Answering::Told(told),
                    tasks: Vec::new(),
                })
            }
            // Noted before, or nobody asked to be told.
            Ok(_) | Err(_) => Decision::Nothing,
        }
    }

    /// The instance owes itself a release: cancelled work that no worker has any more.
    pub(super) fn release_next(self, standing: &Standing, chart: &Chart) -> Decision {
        let Some(work) = releasable(standing) else { return Decision::Nothing };
        let trigger = Trigger::WorkReleased { work };
        match step(chart, &standing.snapshot, &trigger, self.case.at) {
            Ok(taken) if taken.is_transition(&standing.snapshot) => self.transition(Moving {
                standing: Some(standing),
                pin: &standing.pin,
                chart,
                was: None,
                taken,
                caused: cause(CauseKind::Task, "release", None),
                answering: Answering::Nobody,
                tasks: Vec::new(),
            }),
            Ok(_) | Err(_) => Decision::Nothing,
        }
    }

    fn told(self, held: Held<'_>, outcome: &'static str) -> Answering {
        if self.is_fire() {
            return Answering::Nobody;
        }
        Answering::Told(Told::Ended { task: self.task_id(held.row).to_string(), outcome })
    }

    fn told_no(self, no: Rejection, what_follows: &str) -> Answering {
        Answering::Told(Told::No(Box::new(ended_too(no, what_follows))))
    }

    const fn is_fire(self) -> bool {
        matches!(self.envelope.command, Command::Fire { .. })
    }

    fn task_id(self, row: &TaskRow) -> TaskId {
        super::task_id(self.case.key, work_key(row.task))
    }

    fn task_ref(self, standing: &Standing, row: &TaskRow) -> TaskRef {
        TaskRef {
            instance: self.case.key.clone(),
            bucket_epoch: self.case.bucket_epoch,
            born: standing.version.born,
            task: row.task,
            token: row.token,
        }
    }

    fn masked_output(self, held: Held<'_>, output: &Json) -> Json {
        masked_output(held.chart, &held.ordered.order.src, output)
    }
}

fn masked_output(chart: &Chart, src: &str, output: &Json) -> Json {
    let kind = src.strip_prefix("task:");
    let types = || chart.task_types().find(|(name, _)| Some(*name) == kind);
    let schema = kind.and_then(|_| types()).and_then(|(_, found)| found.output.as_ref());
    masked(schema, output)
}

fn row_of<'a>(standing: &'a Standing, task: &TaskId) -> Option<&'a TaskRow> {
    let key = TaskKey { version: task.version, n: task.n };
    standing.tasks.iter().find(|row| row.task == key)
}

fn is_releasing(snapshot: &Snapshot, row: &TaskRow) -> bool {
    snapshot.releasing.contains(&work_key(row.task))
}

fn no_such_task(task: &TaskId) -> Rejection {
    reject::by_instance(RejectionCode::UnknownTask, format!("there is no open task {task}"))
}

/// A task of a version that the instance has reached was there once; one of a later version never was.
fn over_or_unknown(standing: &Standing, task: &TaskId) -> Rejection {
    if task.version > standing.version.version {
        return no_such_task(task);
    }
    let detail = format!("task {task} is over: it has ended, or the instance has left its state");
    reject::by_instance(RejectionCode::StaleLease, detail)
}

/// A report that was refused has ended its attempt all the same, and says so.
fn ended_too(no: Rejection, what_follows: &str) -> Rejection {
    let detail =
        format!("{}; the attempt has ended as {INVALID_OUTPUT} and {what_follows}", no.detail);
    Rejection { detail: detail.into(), ..no }
}

fn failure(failing: Failing<'_>, attempts: u32) -> Json {
    Json::from_value(&serde_json::json!({
        "code": failing.code,
        "message": failing.message,
        "attempts": attempts,
    }))
}
