//! The outlet: where finished spans leave the process, without anybody waiting for them.
//!
//! A span that ends is put into a bounded queue, and a thread of its own looks there now and then and sends what has gathered
//! to the collector, over OTLP. Nobody wakes it: with a wake for each span, tracing everything cost a third of the
//! commands on two cores. A collector that is gone, refuses, hangs or is slow costs that thread and nobody else: a span
//! that finds no room is dropped and counted, a batch that was not taken is lost and counted.
//!
//! Spans leave under the name of their role where the services are told apart (`split`), so that the picture of the
//! architecture has more than one box.
//!
//! Absent on purpose: retries. What is lost of a trace can be told again from the instance's history.
//!
//! Invariant `BOUND`: at most `QUEUE_SPANS_MAX` spans wait, and as many are on their way. Each span that ended is sent, failed
//! or dropped, and counted as that.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use opentelemetry::Context;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter as _, SpanProcessor},
};

use crate::{Meters, spans::ROLE};

/// Spans that may wait to be sent.
const QUEUE_SPANS_MAX: usize = 8_192;
/// Spans of one request to the collector.
const BATCH_SPANS_MAX: usize = 512;
/// How often the thread looks for spans.
const LOOK: Duration = Duration::from_millis(100);
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where spans go, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletSettings {
    /// The collector's base URL for OTLP over HTTP; nothing: as the variables `OTEL_EXPORTER_OTLP_…` say.
    pub endpoint: Option<String>,
    /// The name of the service.
    pub service: String,
    /// Which instance of it: the node.
    pub instance: String,
    /// `deployment.environment.name`, if any.
    pub environment: Option<String>,
    /// `cloud.region`, if any.
    pub region: Option<String>,
    /// Whether the roles of one process leave as services of their own.
    pub split: bool,
}

/// What has become of spans.
#[derive(Debug, Default)]
pub struct Leaving {
    /// Sent, and taken by the collector.
    pub sent: AtomicU64,
    /// Dropped because the queue was full.
    pub dropped: AtomicU64,
    /// Sent in vain.
    pub failed: AtomicU64,
}

impl Leaving {
    /// Shows the numbers as instruments.
    pub fn register(self: &Arc<Self>, meters: &Meters) {
        let count = |name, help, of: fn(&Self) -> &AtomicU64| {
            let own = Arc::clone(self);
            meters.watch_count(name, "{span}", help, move || of(&own).load(Ordering::Relaxed));
        };
        count("statehouse.telemetry.spans.sent", "Spans that the collector has taken", |l| &l.sent);
        count("statehouse.telemetry.spans.dropped", "Spans dropped for want of room", |l| {
            &l.dropped
        });
        count("statehouse.telemetry.spans.failed", "Spans that the collector did not take", |l| {
            &l.failed
        });
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<SpanData>,
    /// Under the same lock, so that no span comes after the last look.
    is_closed: bool,
}

impl Queue {
    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, span: SpanData) -> bool {
        let mut waiting = self.locked();
        let has_room = !waiting.is_closed && waiting.spans.len() < QUEUE_SPANS_MAX;
        if has_room {
            waiting.spans.push(span);
        }
        has_room
    }

    /// Takes all that waits; says whether nothing comes any more.
    fn take(&self) -> (Vec<SpanData>, bool) {
        let mut waiting = self.locked();
        // As many as there were last time will come again.
        let room = Vec::with_capacity(waiting.spans.len());
        (std::mem::replace(&mut waiting.spans, room), waiting.is_closed)
    }

    /// Takes nothing more from now on; says whether it did until now.
    fn close(&self) -> bool {
        !std::mem::replace(&mut self.locked().is_closed, true)
    }
}

/// Takes finished spans and lets them leave. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outlet {
    queue: Arc<Queue>,
    leaving: Arc<Leaving>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlet")
    }
}

impl Outlet {
    /// Starts the thread that sends.
    pub(crate) fn start(settings: OutletSettings) -> std::io::Result<(Self, Arc<Leaving>)> {
        let (queue, leaving) = (Arc::<Queue>::default(), Arc::<Leaving>::default());
        let sender = Sender {
            settings,
            queue: Arc::clone(&queue),
            counts: Arc::clone(&leaving),
            ways: BTreeMap::new(),
        };
        let thread =
            std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || sender.run())?;
        let outlet = Self {
            queue,
            leaving: Arc::clone(&leaving),
            thread: Arc::new(Mutex::new(Some(thread))),
        };
        Ok((outlet, leaving))
    }

    /// Sends what waits and ends, within a time.
    pub(crate) fn close(&self, limit: Duration) {
        if !self.queue.close() {
            return;
        }
        let until = Instant::now() + limit;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        thread.thread().unpark();
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

impl SpanProcessor for Outlet {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !self.queue.put(span) {
            self.leaving.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.close(limit);
        Ok(())
    }
}

/// The thread that sends.
struct Sender {
    settings: OutletSettings,
    queue: Arc<Queue>,
    counts: Arc<Leaving>,
    /// The way to the collector for each service; nothing where it could not be built.
    ways: BTreeMap<String, Option<opentelemetry_otlp::SpanExporter>>,
}

impl Sender {
    fn run(mut self) {
        loop {
            let (mut spans, is_over) = self.queue.take();
            while !spans.is_empty() {
                let rest = spans.split_off(spans.len().min(BATCH_SPANS_MAX));
                self.send(std::mem::replace(&mut spans, rest));
            }
            if is_over {
                return;
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn send(&mut self, spans: Vec<SpanData>) {
        let mut by_service: BTreeMap<String, Vec<SpanData>> = BTreeMap::new();
        for span in spans {
            by_service.entry(self.service_of(&span)).or_default().push(span);
        }
        for (service, spans) in by_service {
            let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            let settings = &self.settings;
            let way = self.ways.entry(service.clone()).or_insert_with(|| way(settings, service));
            let sent = match way {
                Some(way) => futures::executor::block_on(way.export(spans)).is_ok(),
                None => false,
            };
            let counter = if sent { &self.counts.sent } else { &self.counts.failed };
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn service_of(&self, span: &SpanData) -> String {
        let name = &self.settings.service;
        if !self.settings.split {
            return name.clone();
        }
        let role = span.attributes.iter().find(|pair| pair.key.as_str() == ROLE);
        role.map_or_else(|| name.clone(), |role| format!("{name}-{}", role.value))
    }
}

fn way(settings: &OutletSettings, service: String) -> Option<opentelemetry_otlp::SpanExporter> {
    let builder = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_timeout(PATIENCE)
        .with_headers(std::collections::HashMap::new());
    let built = match &settings.endpoint {
        Some(base) => {
            builder.with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/'))).build()
        }
        None => builder.build(),
    };
    let mut exporter = built.ok()?;
    exporter.set_resource(&resource(settings, service));
    Some(exporter)
}

/// Who speaks; what `OTEL_RESOURCE_ATTRIBUTES` says comes along.
pub(crate) fn resource(settings: &OutletSettings, service: String) -> Resource {
    use opentelemetry::KeyValue;
    let more = [
        ("deployment.environment.name", &settings.environment),
        ("cloud.region", &settings.region),
    ];
    let more = more
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| KeyValue::new(name, value.clone())));
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.instance.id", settings.instance.clone()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(more)
        .build()
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// An outlet to nobody: the port was given back.
    fn to_nobody() -> (Outlet, Arc<Leaving>) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        let settings = OutletSettings {
            endpoint: Some(format!("http://{gone}")),
            service: "test".to_owned(),
            instance: "n1".to_owned(),
            environment: None,
            region: None,
            split: false,
        };
        Outlet::start(settings).unwrap()
    }

    fn counted(leaving: &Leaving) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&leaving.sent), of(&leaving.failed), of(&leaving.dropped))
    }

    #[test]
    fn each_span_that_ends_is_counted_also_while_the_outlet_closes() {
        let (outlet, leaving) = to_nobody();
        let provider = SdkTracerProvider::builder().with_span_processor(outlet.clone()).build();
        let ended = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let tracer = provider.tracer("test");
                    while ended.load(Ordering::Relaxed) < 3_000 {
                        drop(tracer.start("work"));
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while ended.load(Ordering::Relaxed) < 1_000 {
                std::thread::yield_now();
            }
            outlet.close(Duration::from_secs(60));
        });
        let (sent, failed, dropped) = counted(&leaving);
        assert_eq!((sent, failed + dropped), (0, ended.load(Ordering::Relaxed)));
        assert!(failed >= 1_000, "what had ended before was tried: {failed} of {dropped} dropped");
    }

    #[test]
    fn a_queue_holds_what_it_may_and_nothing_once_it_is_closed() {
        // Made by hand, without the thread: nothing is taken out.
        let queue = Arc::new(Queue::default());
        let outlet =
            Outlet { queue: Arc::clone(&queue), leaving: Arc::default(), thread: Arc::default() };
        let provider = SdkTracerProvider::builder().with_span_processor(outlet.clone()).build();
        let tracer = provider.tracer("test");
        for _ in 0..QUEUE_SPANS_MAX + 3 {
            drop(tracer.start("work"));
        }
        assert_eq!(counted(&outlet.leaving).2, 3);
        let (waiting, is_over) = queue.take();
        assert_eq!((waiting.len(), is_over), (QUEUE_SPANS_MAX, false));
        assert!(queue.close());
        assert!(!queue.close(), "it was closed before");
        drop(tracer.start("work"));
        assert_eq!(counted(&outlet.leaving).2, 4);
        assert!(queue.take().0.is_empty());
    }
}
