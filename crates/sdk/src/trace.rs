//! A task in its trace: a worker's span is a child of the step that ordered the task, and links to it.
//!
//! Spans go to whatever tracer provider the process has set up with the `opentelemetry` crate; where it has none, or the
//! trace is not sampled, nothing is made and the trace goes on as it came.
//!
//! Deliberately absent: setting up an exporter. That is the business of whoever writes the worker.

use opentelemetry::{
    Context, KeyValue, global,
    trace::{
        Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};

use statehouse_contract::TraceContext;

use crate::LeasedTask;

/// Opens a span for an attempt and hands its context on in the task; it ends when it is dropped.
pub(crate) fn open(task: &mut LeasedTask) -> Option<Context> {
    let text = task.traceparent.as_deref()?;
    let ordered = TraceContext::parse(text, None).filter(TraceContext::is_sampled)?;
    let above = SpanContext::new(
        TraceId::from_bytes(ordered.trace),
        SpanId::from_bytes(ordered.span),
        TraceFlags::new(ordered.flags),
        true,
        TraceState::default(),
    );
    let tracer = global::tracer("statehouse-sdk");
    let span = tracer
        .span_builder("task")
        .with_kind(SpanKind::Consumer)
        .with_attributes([
            KeyValue::new("statehouse.role", "worker"),
            KeyValue::new("messaging.destination.name", task.queue.clone()),
            KeyValue::new("statehouse.task", task.id.clone()),
            KeyValue::new("statehouse.instance", task.instance.clone()),
            KeyValue::new("statehouse.attempt", i64::from(task.attempt)),
        ])
        .with_links(vec![Link::with_context(above.clone())])
        .start_with_context(&tracer, &Context::new().with_remote_span_context(above));
    let context = Context::new().with_span(span);
    let own = context.span().span_context().clone();
    if !own.is_valid() || own.span_id() == SpanId::from_bytes(ordered.span) {
        // Nobody takes spans here.
        return None;
    }
    let own = TraceContext {
        trace: own.trace_id().to_bytes(),
        span: own.span_id().to_bytes(),
        flags: own.trace_flags().to_u8(),
        state: None,
    };
    task.traceparent = Some(own.to_string());
    Some(context)
}
