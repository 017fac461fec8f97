//! Children: an instance that is another one's piece of work, and how the other one hears of its end.
//!
//! A child is started like any instance, by the system on behalf of its parent: who may start the parent has decided that
//! already, so the definition's `start.role` does not count. Its last entry writes a row to its parent.
//!
//! Absent on purpose: delivery; `outbox_actor.rs` does that, in order, until there is a definite answer.

use statehouse_chart::{Chart, RefusalKind, Trigger, WorkError, WorkKey, step};
use statehouse_contract::{
    ChildEnding, Command, DefinitionRef, Json, ParentRef, RejectionCode, limits::CHILD_DEPTH_MAX,
};
use statehouse_store::entry::CauseKind;

use super::{Answering, Decision, Judge, Moving, cause, value_of};
use crate::reject;

impl Judge<'_> {
    pub(super) fn start_child(
        self,
        definition: &DefinitionRef,
        input: &Json,
        parent: &ParentRef,
    ) -> Decision {
        if parent.depth > CHILD_DEPTH_MAX {
            let detail = format!(
                "there are {} parents above, child_depth_max is {CHILD_DEPTH_MAX}: a workflow that starts itself?",
                parent.depth
            );
            let no = reject::by_instance(RejectionCode::LimitExceeded, detail);
            return self.refuse(None, no, cause(CauseKind::Start, "start", None));
        }
        self.start(definition, input)
    }

    /// Returns the role that a start needs: none where a parent starts its child.
    pub(super) fn start_role(self, chart: &Chart) -> Option<&str> {
        match self.envelope.command {
            Command::StartChild { .. } => None,
            _ => chart.start_role(),
        }
    }

    /// A child has ended: its work is done, or has failed.
    pub(super) fn child_ended(self, work: &ParentRef, ending: &ChildEnding) -> Decision {
        let caused = |data| cause(CauseKind::Child, "", data);
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let over = || {
            let detail = "the child was not waited for any more";
            let no = reject::by_instance(RejectionCode::StaleLease, detail);
            self.refuse(Some(standing), no, cause(CauseKind::Child, "child", None))
        };
        if standing.version.born != work.born {
            return over();
        }
        let key = WorkKey { version: work.version, number: work.n };
        let failed = |code: &str, message: &str| Trigger::WorkFailed {
            work: key,
            error: WorkError { code: code.to_owned(), message: message.to_owned(), attempts: 1 },
        };
        let (trigger, data) = match ending {
            ChildEnding::Done { output } => {
                let trigger = Trigger::WorkDone { work: key, output: value_of(output) };
                (trigger, Some(output.clone()))
            }
            ChildEnding::Failed { code, message } => {
                let data = serde_json::json!({ "code": code, "message": message, "attempts": 1 });
                (failed(code, message), Some(Json::from_value(&data)))
            }
        };
        let mut taken = step(chart, &standing.snapshot, &trigger, self.case.at);
        if let Err(no) = &taken
            && no.kind != RefusalKind::Stale
        {
            // What the child said does not fit: to its parent that is a failure like any other.
            let message = reject::from_kind(&no.kind).detail;
            let trigger = failed("invalid_output", &message);
            taken = step(chart, &standing.snapshot, &trigger, self.case.at);
        }
        match taken {
            Ok(taken) if taken.is_transition(&standing.snapshot) => self.transition(Moving {
                standing: Some(standing),
                pin: &standing.pin,
                chart,
                was: None,
                taken,
                caused: caused(data),
                answering: Answering::accepted(),
                tasks: Vec::new(),
            }),
            Ok(_) | Err(_) => over(),
        }
    }
}
