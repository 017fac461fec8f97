//! Questions about batches, answered from the rows of shard 0.
//!
//! The answer holds what was asked for and how far it has come. Where in the list it goes on is left out: it means nothing
//! to anybody but the batch.

use statehouse_contract::{Consistency, Json, Rejection, RejectionCode, TenantId, Timestamp};

use super::{deadline, read_failed};
use crate::{batch::Batch, seat::Seat};

impl Seat {
    /// Answers a tenant's batches.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn batches(&self, tenant: &TenantId) -> Result<Vec<Json>, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let rows = self.log().view().batches(tenant).map_err(|error| read_failed(&error))?;
        Ok(rows.iter().filter_map(|row| show(&row.name, row.document.as_str())).collect())
    }

    /// Answers one batch.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn batch(&self, tenant: &TenantId, name: &str) -> Result<Json, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let rows = self.log().view().batches(tenant).map_err(|error| read_failed(&error))?;
        let row = rows.iter().find(|row| *row.name == *name);
        row.and_then(|row| show(&row.name, row.document.as_str())).ok_or_else(|| {
            let detail = format!("there is no batch {name}");
            Rejection::gateway(RejectionCode::InvalidRequest, detail)
        })
    }
}

fn show(name: &str, document: &str) -> Option<Json> {
    let Batch { spec, state } = Batch::read(document)?;
    let when = |ms: i64| Timestamp(ms).to_rfc3339();
    Some(Json::from_value(&serde_json::json!({
        "name": name,
        "spec": spec,
        "state": {
            "by": state.by,
            "phase": state.phase,
            "began": when(state.began),
            "ended": state.ended.map(when),
            "found": state.found,
            "accepted": state.accepted,
            "refused": state.refused,
            "left": state.left,
            "not_drawn": state.not_drawn,
            "codes": state.codes,
            "moves": state.moves,
            "examples": state.examples,
            "stopped": state.stopped,
        },
    })))
}
