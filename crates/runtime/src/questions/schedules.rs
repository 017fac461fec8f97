//! Questions about schedules, answered from the rows of shard 0.
//!
//! The answer holds what was asked for, when it starts something next, and what its last starts came to.

use statehouse_contract::{Consistency, Json, Rejection, RejectionCode, TenantId, Timestamp};

use super::{deadline, read_failed};
use crate::{schedule::Schedule, seat::Seat};

/// How many of the next times are told.
const UPCOMING: usize = 5;

impl Seat {
    /// Answers a tenant's schedules.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn schedules(&self, tenant: &TenantId) -> Result<Vec<Json>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let rows = self.log().view().schedules(tenant).map_err(|error| read_failed(&error))?;
        let now = self.now();
        let shown =
            rows.iter().filter_map(|row| show(&row.name, row.document.as_str(), row.next, now));
        Ok(shown.collect())
    }

    /// Answers one schedule.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn schedule(&self, tenant: &TenantId, name: &str) -> Result<Json, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let rows = self.log().view().schedules(tenant).map_err(|error| read_failed(&error))?;
        let now = self.now();
        let row = rows.iter().find(|row| *row.name == *name);
        row.and_then(|row| show(&row.name, row.document.as_str(), row.next, now)).ok_or_else(|| {
            let detail = format!("there is no schedule {name}");
            Rejection::gateway(RejectionCode::InvalidRequest, detail)
        })
    }
}

fn show(name: &str, document: &str, next: Option<Timestamp>, now: Timestamp) -> Option<Json> {
    let schedule = Schedule::read(document)?;
    let times = schedule.spec.upcoming(now, UPCOMING).into_iter().map(Timestamp::to_rfc3339);
    let state = &schedule.state;
    let when = |ms: i64| Timestamp(ms).to_rfc3339();
    Some(Json::from_value(&serde_json::json!({
        "name": name,
        "spec": schedule.spec,
        "next": next.map(Timestamp::to_rfc3339),
        "upcoming": times.collect::<Vec<_>>(),
        "state": {
            "by": state.by,
            "pending": state.pending.iter().copied().map(when).collect::<Vec<_>>(),
            "last_instance": state.last_instance,
            "last_due": state.last_due.map(when),
            "last_error": state.last_error,
            "started": state.started,
            "skipped": state.skipped,
            "refused": state.refused,
        },
    })))
}
