//! Every instrument of this binary, made without a node: what dashboards and alerts may name.
//!
//! Absent on purpose: values. A test compares this list with what a running node exports.

use std::{collections::BTreeMap, sync::Arc};

use statehouse_telemetry::{Made, Meters, TelemetryError};

use crate::{
    api,
    serve::upkeep::{self, WallClock},
    slo,
};

/// Returns every instrument by its exported name.
pub(crate) fn all() -> Result<BTreeMap<String, Made>, TelemetryError> {
    let meters = Meters::start()?;
    statehouse_cluster::describe(&meters);
    api::describe(&meters);
    Arc::new(statehouse_telemetry::Leaving::default()).register(&meters);
    let promised =
        slo::Objectives { availability: 0, latency: 0, latency_ms: 0, timers: 0, minimum: 0 };
    drop(slo::Slo::new(promised, &meters));
    upkeep::watch_end(&meters, 0);
    Arc::new(WallClock::default()).register(&meters);
    Ok(meters.list())
}
