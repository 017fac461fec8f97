//! What a task's row holds of the order that made it.
//!
//! The chart's order says what is to be done. Beside it stands what only the scheduling entry knows and whoever gets the
//! lease wants to hear: which definition it was, and to which trace and conversation the work belongs.
//!
//! Absent on purpose: tokens, attempts and leases; those are columns of the row's own life.

use statehouse_chart::TaskOrder;
use statehouse_contract::{CorrelationId, DefinitionName, TraceContext, codec};
use statehouse_store::entry::Pin;

use crate::reading::RowsError;

/// An order with the circumstances in which it was given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ordered {
    /// What is to be done.
    pub(crate) order: TaskOrder,
    /// The definition that ordered it.
    pub(crate) definition: DefinitionName,
    /// Its version.
    pub(crate) definition_version: u32,
    /// The trace of the entry that ordered it.
    pub(crate) trace: TraceContext,
    /// The conversation of that entry.
    pub(crate) correlation: Option<CorrelationId>,
}

/// The fields of a row in their order on disk.
type Stored = (TaskOrder, DefinitionName, u32, TraceContext, Option<CorrelationId>);

impl Ordered {
    /// Returns the bytes of an order that a step gave.
    #[must_use]
    pub(crate) fn encode(
        order: &TaskOrder,
        pin: &Pin,
        trace: &TraceContext,
        correlation: Option<&CorrelationId>,
    ) -> Box<[u8]> {
        let stored: Stored =
            (order.clone(), pin.name.clone(), pin.version, trace.clone(), correlation.cloned());
        codec::encode(&stored).expect("an order is bounded by the payload limit").into()
    }

    /// Reads the bytes of a row.
    ///
    /// # Errors
    /// The row is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RowsError> {
        if let Ok((order, definition, definition_version, trace, correlation)) =
            codec::decode::<Stored>(bytes)
        {
            return Ok(Self { order, definition, definition_version, trace, correlation });
        }
        // Builds before there were workers kept the order alone.
        let order: TaskOrder = codec::decode(bytes)
            .map_err(|error| RowsError::Unreadable(format!("order of a task: {error}")))?;
        let definition = DefinitionName::parse("unknown").expect("a constant that fits");
        let (trace, correlation) = (TraceContext::default(), None);
        Ok(Self { order, definition, definition_version: 0, trace, correlation })
    }
}
