//! Spans: one for each part of a command's way, made only where the trace is sampled.
//!
//! A part opens a span under the context that was carried to it, and hands the span's own context on to whatever comes next:
//! in the envelope over the hop, in the entry to every replica, in the task to its worker. Where the trace is not sampled
//! nothing is made, and the context goes on as it came.
//!
//! The names are those of the parts, never of a tenant, an instance or an event: those are attributes. A refusal is a good
//! end; status error is for our own faults.
//!
//! Absent on purpose: deciding what is sampled. That is done once, at the door (`sampling.rs`).

use std::borrow::Cow;

use opentelemetry::{
    Context, Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use statehouse_contract::TraceContext;

/// The target of our spans; no log line has it.
pub(crate) const TARGET: &str = "statehouse::span";
/// The attribute that names a part's role.
pub(crate) const ROLE: &str = "statehouse.role";

/// A part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// A request at the HTTP face; named by its route.
    Ingress {
        /// The method.
        method: &'static str,
        /// The template of the path.
        route: &'static str,
    },
    /// A command leaves for the node that leads its shard.
    Forward,
    /// It arrives there.
    Gate,
    /// It is decided by its instance, or by the registry.
    Decide,
    /// Something that was due is decided: a timer, the queue, a lease that has run out.
    Fire,
    /// Its entry goes into the log.
    Propose,
    /// The entry goes to one other replica.
    Replicate,
    /// The entry changes the rows of this node.
    Apply,
    /// A worker does a task.
    Task,
}

impl Leg {
    fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Ingress { method, route } => return Cow::Owned(format!("{method} {route}")),
            Self::Forward => "cluster.forward",
            Self::Gate => "cluster.gate",
            Self::Decide => "runtime.decide",
            Self::Fire => "runtime.fire",
            Self::Propose => "log.propose",
            Self::Replicate => "log.replicate",
            Self::Apply => "store.apply",
            Self::Task => "task",
        })
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Ingress { .. } | Self::Gate => "server",
            Self::Forward | Self::Replicate => "client",
            Self::Task => "consumer",
            Self::Decide | Self::Fire | Self::Propose | Self::Apply => "internal",
        }
    }

    /// The box that it belongs to, where the services of one process are told apart.
    const fn role(self) -> &'static str {
        match self {
            Self::Ingress { .. } | Self::Forward => "ingress",
            Self::Gate | Self::Decide | Self::Fire | Self::Propose | Self::Replicate => "shard",
            Self::Apply => "store",
            Self::Task => "worker",
        }
    }
}

/// A span that ends when it is dropped; nothing where the trace is not sampled.
#[derive(Clone, Debug)]
pub struct Span {
    own: tracing::Span,
    context: TraceContext,
}

impl Span {
    /// Opens a span under a carried context, if that is sampled.
    #[must_use]
    pub fn open(leg: Leg, parent: &TraceContext) -> Self {
        if !parent.is_sampled() || !parent.is_some() {
            return Self { own: tracing::Span::none(), context: parent.clone() };
        }
        Self::made(leg, Some(parent))
    }

    /// Opens the first span of a trace of its own, if it was drawn.
    #[must_use]
    pub fn root(leg: Leg, is_drawn: bool) -> Self {
        match is_drawn {
            true => Self::made(leg, None),
            false => Self { own: tracing::Span::none(), context: TraceContext::default() },
        }
    }

    fn made(leg: Leg, parent: Option<&TraceContext>) -> Self {
        let own = tracing::info_span!(
            target: TARGET,
            "span",
            otel.name = &*leg.name(),
            otel.kind = leg.kind(),
            statehouse.role = leg.role(),
        );
        if own.is_disabled() {
            // Nobody takes spans in this process; the trace goes on elsewhere.
            return Self { own, context: parent.cloned().unwrap_or_default() };
        }
        let above = parent.map_or_else(Context::new, remote);
        let _ = own.set_parent(above);
        let context = here(&own).unwrap_or_else(|| parent.cloned().unwrap_or_default());
        Self { own, context }
    }

    /// Returns the context for whatever comes next.
    #[must_use]
    pub const fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Returns whether there is a span at all.
    #[must_use]
    pub fn is_real(&self) -> bool {
        !self.own.is_none() && !self.own.is_disabled()
    }

    /// Returns the span, for a future that is to run inside it.
    #[must_use]
    pub const fn tracing(&self) -> &tracing::Span {
        &self.own
    }

    /// Says more about it.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if self.is_real() {
            self.own.set_attribute(name, value);
        }
    }

    /// Says more about it that costs something to say.
    pub fn set_with<V: Into<Value>>(&self, name: &'static str, value: impl FnOnce() -> V) {
        if self.is_real() {
            self.own.set_attribute(name, value());
        }
    }

    /// Names another span that this one follows.
    pub fn link(&self, to: &TraceContext) {
        if self.is_real() && to.is_some() {
            self.own.add_link(span_context(to));
        }
    }

    /// Says that it ended by a fault of ours.
    pub fn fail(&self, why: &'static str) {
        if self.is_real() {
            self.own.set_status(Status::error(why));
        }
    }
}

fn here(span: &tracing::Span) -> Option<TraceContext> {
    let context = span.context();
    let own = context.span().span_context().clone();
    own.is_valid().then(|| {
        let state = own.trace_state().header();
        TraceContext {
            trace: own.trace_id().to_bytes(),
            span: own.span_id().to_bytes(),
            flags: own.trace_flags().to_u8(),
            state: (!state.is_empty()).then(|| state.into()),
        }
    })
}

fn remote(trace: &TraceContext) -> Context {
    Context::new().with_remote_span_context(span_context(trace))
}

pub(crate) fn span_context(trace: &TraceContext) -> SpanContext {
    let state = trace.state.as_deref().and_then(|text| text.parse::<TraceState>().ok());
    SpanContext::new(
        TraceId::from_bytes(trace.trace),
        SpanId::from_bytes(trace.span),
        TraceFlags::new(trace.flags),
        true,
        state.unwrap_or_default(),
    )
}
