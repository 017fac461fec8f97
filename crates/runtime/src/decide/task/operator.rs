//! The operator's hand on a task: tried again, or completed in its worker's stead.
//!
//! Absent on purpose: cancelling a task. An operator moves its instance, which cancels what it leaves.

use statehouse_chart::{Chart, Outcome, Step, Trigger, step};
use statehouse_contract::{Json, RejectionCode, TaskId};
use statehouse_store::{
    TaskRow, TaskState,
    entry::{Cause, CauseKind, TaskChange, TaskKey},
};

use super::{
    super::{Answering, Decision, Judge, Moving, Standing, cause, value_of},
    is_releasing, masked_output, no_such_task, row_of, work_key,
};
use crate::reject;

impl Judge<'_> {
    /// An operator lets a parked task be tried again.
    pub(in crate::decide) fn unpark(self, task: &TaskId) -> Decision {
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let caused = cause(CauseKind::Operator, "retry", Some(named(task)));
        if let Some(no) = self.conflict(standing) {
            return self.refuse(Some(standing), no, caused);
        }
        let Some(row) = row_of(standing, task) else {
            return self.refuse(Some(standing), no_such_task(task), caused);
        };
        if row.state != TaskState::Parked {
            let detail = format!("task {task} is not parked: a worker can have it, or has it");
            let no = reject::by_instance(RejectionCode::NotHandled, detail);
            return self.refuse(Some(standing), no, caused);
        }
        self.unparked(standing, chart, &[row], caused)
    }

    /// An operator lets every parked task of an instance that is not faulted be tried again; nothing if none is parked.
    pub(in crate::decide) fn unpark_all(self) -> Option<Decision> {
        let (Some(standing), Some(chart)) = (self.case.standing, self.case.chart) else {
            return None;
        };
        let parked = standing.tasks.iter().filter(|row| row.state == TaskState::Parked);
        let parked: Vec<&TaskRow> = parked.collect();
        if parked.is_empty() || !standing.snapshot.status.is_live() {
            return None;
        }
        let names: Vec<String> = parked.iter().map(|row| self.task_id(row).to_string()).collect();
        let data = Json::from_value(&serde_json::json!({ "tasks": names }));
        let caused = cause(CauseKind::Operator, "retry", Some(data));
        Some(match self.conflict(standing) {
            Some(no) => self.refuse(Some(standing), no, caused),
            None => self.unparked(standing, chart, &parked, caused),
        })
    }

    fn unparked(
        self,
        standing: &Standing,
        chart: &Chart,
        rows: &[&TaskRow],
        caused: Cause,
    ) -> Decision {
        let mut next = standing.snapshot.clone();
        next.version += 1;
        let taken = Step {
            next,
            outcome: Outcome::Accepted,
            event: "retry".to_owned(),
            reply: None,
            cause: None,
            effects: Vec::new(),
            settled: Vec::new(),
        };
        let unpark = |row: &&TaskRow| TaskChange::Unpark {
            task: row.task,
            token: row.token,
            ready_at: self.case.at,
        };
        self.transition(Moving {
            standing: Some(standing),
            pin: &standing.pin,
            chart,
            was: None,
            taken,
            caused,
            answering: Answering::accepted(),
            tasks: rows.iter().map(unpark).collect(),
        })
    }

    /// An operator completes a task in its worker's stead.
    pub(in crate::decide) fn settle_task(self, task: &TaskId, output: &Json) -> Decision {
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let caused =
            || cause(CauseKind::Operator, "skip", Some(settled(standing, chart, task, output)));
        if let Some(no) = self.conflict(standing) {
            return self.refuse(Some(standing), no, caused());
        }
        let row = row_of(standing, task).filter(|row| !is_releasing(&standing.snapshot, row));
        let Some(row) = row else {
            return self.refuse(Some(standing), no_such_task(task), caused());
        };
        let work = work_key(row.task);
        let trigger = Trigger::WorkDone { work, output: value_of(output) };
        match step(chart, &standing.snapshot, &trigger, self.case.at) {
            Ok(taken) if taken.is_transition(&standing.snapshot) => self.transition(Moving {
                standing: Some(standing),
                pin: &standing.pin,
                chart,
                was: None,
                taken,
                caused: caused(),
                answering: Answering::accepted(),
                tasks: Vec::new(),
            }),
            Ok(_) => self.refuse(Some(standing), no_such_task(task), caused()),
            Err(no) => self.refuse(Some(standing), reject::from_refusal(&no), caused()),
        }
    }
}

/// What history shows of a task that an operator completed.
fn settled(standing: &Standing, chart: &Chart, task: &TaskId, output: &Json) -> Json {
    let work = work_key(TaskKey { version: task.version, n: task.n });
    let src = standing.snapshot.work(work).map_or("", |work| &work.src);
    let shown = masked_output(chart, src, output);
    Json::from_trusted(format!(r#"{{"task":"{task}","output":{}}}"#, shown.as_str()))
}

fn named(task: &TaskId) -> Json {
    Json::from_value(&serde_json::json!({ "task": task.to_string() }))
}
