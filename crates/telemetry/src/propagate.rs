//! A trace as plain data, in and out of the present context.
//!
//! Envelopes and entries carry a [`TraceContext`]; spans live only inside one process. [`attach`] makes the
//! carried context the parent of whatever is traced next, [`current`] reads it back where work leaves.
//!
//! Absent on purpose: making spans. That is the business of whoever does the work, and only when the trace
//! is sampled: a span costs about a microsecond even when nobody wants it.
//!
//! Invariant: `current` under `attach(c)` returns `c` again, as long as no span was made in between.

use std::future::Future;

use opentelemetry::{Context, ContextGuard, context::FutureExt as _, trace::TraceContextExt as _};

use statehouse_contract::{CorrelationId, TraceContext};

use crate::spans::span_context;

/// The conversation that work belongs to, in the present context.
#[derive(Clone, Debug)]
pub(crate) struct Conversation(pub(crate) CorrelationId);

/// Returns the position in the present trace; no trace gives the empty context.
#[must_use]
pub fn current() -> TraceContext {
    let context = Context::current();
    let span = context.span();
    let here = span.span_context();
    if !here.is_valid() {
        return TraceContext::default();
    }
    let state = here.trace_state().header();
    TraceContext {
        trace: here.trace_id().to_bytes(),
        span: here.span_id().to_bytes(),
        flags: here.trace_flags().to_u8(),
        state: (!state.is_empty()).then(|| state.into()),
    }
}

/// Makes a carried context the present one until the guard is dropped, on this thread.
///
/// # Contract
/// The guard does not live across an `.await`; a future is given its context with [`carry`].
#[must_use = "the context ends when the guard is dropped"]
pub fn attach(trace: &TraceContext) -> ContextGuard {
    context_of(trace).attach()
}

/// Runs a future under a carried context, on whatever thread it is polled.
pub fn carry<F: Future>(trace: &TraceContext, future: F) -> impl Future<Output = F::Output> {
    future.with_context(context_of(trace))
}

/// Runs a future under a carried context and the conversation it belongs to: its lines tell both.
pub fn carry_all<F: Future>(
    trace: &TraceContext,
    correlation: Option<&CorrelationId>,
    future: F,
) -> impl Future<Output = F::Output> {
    let context = context_of(trace);
    let context = match correlation {
        Some(id) => context.with_value(Conversation(id.clone())),
        None => context,
    };
    future.with_context(context)
}

fn context_of(trace: &TraceContext) -> Context {
    if !trace.is_some() {
        return Context::new();
    }
    Context::new().with_remote_span_context(span_context(trace))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_attached_is_current_until_the_guard_goes() {
        let trace = TraceContext::parse(PARENT, Some("vendor=1")).unwrap();
        {
            let _guard = attach(&trace);
            assert_eq!(current(), trace);
        }
        assert_eq!(current(), TraceContext::default());
    }

    #[test]
    fn a_state_that_is_not_valid_is_left_out() {
        let trace = TraceContext::parse(PARENT, Some("no equals sign")).unwrap();
        let _guard = attach(&trace);
        assert_eq!(current(), TraceContext { state: None, ..trace });
    }

    #[test]
    fn a_carried_context_is_current_inside_its_future() {
        let trace = TraceContext::parse(PARENT, None).unwrap();
        let mut inside = std::pin::pin!(carry(&trace, async { current() }));
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(found) = inside.as_mut().poll(&mut task) else {
            panic!("nothing to wait for");
        };
        assert_eq!(found, trace);
    }
}
