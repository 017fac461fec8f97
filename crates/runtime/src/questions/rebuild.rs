//! The question how an instance stood at an earlier version.
//!
//! It is asked for a reset, which begins another instance there. The answer is worked out from this node's rows, off the
//! threads that serve commands: a long history takes a while.

use std::{collections::HashMap, sync::Arc};

use statehouse_contract::{
    Command, Consistency, DefinitionRef, InstanceKey, Rejection, RejectionCode, Version,
    limits::{PAGE_MAX, REBUILD_VERSIONS_MAX},
};

use super::{deadline, read_failed, unknown_instance};
use crate::{
    decide::not_there,
    reading::{RowsError, chart_in, unreadable},
    rebuild::{Rebuilding, Rebuilt, Unprovable},
    reject,
    seat::Seat,
};

impl Seat {
    /// Returns the command that begins an instance as another one stood at a version.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn adoption(
        self: &Arc<Self>,
        key: &InstanceKey,
        version: u64,
        expected: Option<Version>,
    ) -> Result<Command, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        let row = self.log().view().instance(key).map_err(|error| read_failed(&error))?;
        let found = row.ok_or_else(|| unknown_instance(key))?.version;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(not_there(expected, found));
        }
        if version == 0 || version > found.version {
            let detail =
                format!("there is no version {version}; the last one is {}", found.version);
            return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
        }
        if version > REBUILD_VERSIONS_MAX {
            let detail = format!(
                "version {version} is above rebuild_versions_max, {REBUILD_VERSIONS_MAX}; take an earlier one"
            );
            return Err(reject::by_instance(RejectionCode::LimitExceeded, detail));
        }
        let (seat, own) = (Arc::clone(self), key.clone());
        let worked = tokio::task::spawn_blocking(move || seat.rebuilt(&own, version)).await;
        let rebuilt = worked.unwrap_or_else(|panic| {
            Err(Unprovable::Rows(RowsError::Unreadable(format!("rebuilding: {panic}"))))
        });
        let Rebuilt { pin, snapshot } = rebuilt.map_err(|why| unprovable(key, version, &why))?;
        Ok(Command::Adopt {
            definition: DefinitionRef {
                name: pin.name,
                version: Some(pin.version),
                digest: Some(pin.digest),
            },
            snapshot: snapshot.encode().into(),
            from: key.clone(),
            version,
        })
    }

    fn rebuilt(&self, key: &InstanceKey, version: u64) -> Result<Rebuilt, Unprovable> {
        let view = self.log().view();
        let mut charts = HashMap::new();
        let mut rebuilding = Rebuilding::new(|pin| match charts.get(&pin.digest) {
            Some(chart) => Ok(Arc::clone(chart)),
            None => {
                let chart = chart_in(self, &view, &key.tenant, pin)?;
                charts.insert(pin.digest, Arc::clone(&chart));
                Ok(chart)
            }
        });
        let mut after = 0;
        while after < version {
            let limit = u32::try_from(version - after).unwrap_or(u32::MAX).min(PAGE_MAX);
            let page = view.history(key, after, limit);
            let page = page.map_err(|error| Unprovable::Rows(error.into()))?;
            let rows = page.map(|page| page.rows).unwrap_or_default();
            if rows.is_empty() {
                return Err(Unprovable::Gap(after + 1));
            }
            for placed in &rows {
                rebuilding.take(&placed.record)?;
                after = placed.record.version.map_or(after, |version| version.version);
            }
        }
        rebuilding.end().ok_or(Unprovable::Gap(1))
    }
}

fn unprovable(key: &InstanceKey, version: u64, why: &Unprovable) -> Rejection {
    let no = |detail: String| reject::by_instance(RejectionCode::NotHandled, detail);
    match why {
        Unprovable::Rows(why) => unreadable(why),
        Unprovable::At(first) => no(format!(
            "version {version} of {} cannot be worked out: what came in at version {first} is not whole in the history \
             (secrets are masked there); take a version below {first}, or start a new instance",
            key.instance
        )),
        Unprovable::BeganByReset => no(format!(
            "{} itself began by a reset; reset the instance from which it comes",
            key.instance
        )),
        Unprovable::Gap(first) => {
            no(format!("version {first} of {} is not kept any more", key.instance))
        }
    }
}
