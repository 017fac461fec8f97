//! Moving an instance: to another version of its definition, and into a life of its own.
//!
//! A migration is an entry like any other: it stands at the version and digest that were judged, carries the new pin, and is
//! refused with the reason where the instance has no place. A reset makes a new instance; the old one does not move.
//!
//! Absent on purpose: what a version makes of an instance (`statehouse_chart::migrate`), and how an instance stood at an
//! earlier version (`rebuild.rs`).

use statehouse_chart::{Snapshot, adopt, migrate};
use statehouse_contract::{
    DefinitionRef, InstanceKey, Json, Rejection, RejectionCode, Verb, Version,
};
use statehouse_store::entry::CauseKind;

use super::{Answering, Decision, Judge, Moving, cause, pin_of, reject_now};
use crate::reject;

impl Judge<'_> {
    /// Moves the instance to another version of its definition.
    pub(super) fn migrate(self, to: u32) -> Decision {
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let data = serde_json::json!({ "from": standing.pin.version, "to": to });
        let caused = || {
            let name = Verb::Migrate { to }.name();
            cause(CauseKind::Migrate, name, Some(Json::from_value(&data)))
        };
        if let Some(no) = self.conflict(standing) {
            return self.refuse(Some(standing), no, caused());
        }
        let Some(other) = self.case.other else {
            let detail = format!("there is no version {to} of {}", standing.pin.name);
            let no = reject::by_instance(RejectionCode::UnknownDefinition, detail);
            return self.refuse(Some(standing), no, caused());
        };
        match migrate(chart, other.chart, &standing.snapshot, self.case.at) {
            Ok(taken) => self.transition(Moving {
                standing: Some(standing),
                pin: other.pin,
                chart: other.chart,
                was: Some(chart),
                taken,
                caused: caused(),
                answering: Answering::accepted(),
                tasks: Vec::new(),
            }),
            Err(no) => self.refuse(Some(standing), no_place(&no), caused()),
        }
    }

    /// Begins this instance as another one stood at a version.
    pub(super) fn adopt(
        self,
        definition: &DefinitionRef,
        snapshot: &[u8],
        (from, version): (&InstanceKey, u64),
    ) -> Decision {
        let caused = || {
            let data =
                serde_json::json!({ "instance": from.instance.as_str(), "version": version });
            cause(CauseKind::Start, "reset", Some(Json::from_value(&data)))
        };
        if let Some(standing) = self.case.standing {
            let detail = format!("there is an instance {} already", self.case.key.instance);
            let no = reject::by_instance(RejectionCode::AlreadyExists, detail);
            return self.refuse(Some(standing), no, caused());
        }
        let (Some(chart), Some(pin)) = (self.case.chart, pin_of(definition)) else {
            let detail = format!("there is no such version of {} any more", definition.name);
            let no = reject::by_instance(RejectionCode::UnknownDefinition, detail);
            return self.refuse(None, no, caused());
        };
        let stood = match Snapshot::decode(snapshot) {
            Ok(stood) if from.tenant == self.case.key.tenant => stood,
            Ok(_) | Err(_) => {
                return reject_now(reject::misdirected("this is no instance of the tenant"));
            }
        };
        match adopt(chart, &stood, self.case.at) {
            Ok(taken) => self.transition(Moving {
                standing: None,
                pin: &pin,
                chart,
                was: None,
                taken,
                caused: caused(),
                answering: Answering::created(),
                tasks: Vec::new(),
            }),
            Err(no) => self.refuse_start(&pin, reject::from_refusal(&no), caused()),
        }
    }
}

/// A guard that says no here belongs to the migration, not to an event.
fn no_place(no: &statehouse_chart::Refusal) -> Rejection {
    let said = reject::from_refusal(no);
    match no.kind {
        statehouse_chart::RefusalKind::GuardRefused => {
            let detail = "the migration's `when` says that this instance stays where it is";
            Rejection { detail: detail.into(), accepts: None, ..said }
        }
        _ => said,
    }
}

/// Returns the version at which a caller wanted the other instance, where it is another one.
pub(crate) fn not_there(expected: Version, found: Version) -> Rejection {
    let detail = format!("expected version {expected}, found {found}");
    Rejection {
        version: Some(found),
        ..reject::by_instance(RejectionCode::VersionConflict, detail)
    }
}
