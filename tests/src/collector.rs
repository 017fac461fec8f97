//! A collector for tests: it takes OTLP over HTTP as it is published, and gives back what was told.
//!
//! It can also be a bad one: refuse, hang, or be slow. One thread a connection; the bodies are decoded with the published
//! protobuf definitions.
//!
//! Deliberately absent: storage, and any forgiveness: a body that cannot be decoded fails the test.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;

/// How a collector behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It takes everything.
    Good,
    /// It says 503 to everything.
    Refuses,
    /// It takes the request and never answers.
    Hangs,
    /// It answers after so long.
    Slow(Duration),
}

/// A span as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: String,
    /// The span's name.
    pub name: String,
    /// `server`, `client`, `internal`, `consumer`, `producer`.
    pub kind: &'static str,
    /// The trace, in hexadecimal digits.
    pub trace: String,
    /// The span.
    pub id: String,
    /// The span above; empty at the root.
    pub parent: String,
    /// The spans that it links to.
    pub links: Vec<String>,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub is_error: bool,
    /// When it began and ended, in nanoseconds.
    pub time: (u64, u64),
}

/// A collector that runs.
pub struct Collector {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    metrics: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicU64>,
}

impl Collector {
    /// Opens one on a free port. It lives as long as the test's process.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn open(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let collector =
            Self { address, seen: Arc::default(), metrics: Arc::default(), asked: Arc::default() };
        let (seen, metrics) = (Arc::clone(&collector.seen), Arc::clone(&collector.metrics));
        let asked = Arc::clone(&collector.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, metrics) = (Arc::clone(&seen), Arc::clone(&metrics));
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || serve(stream, mood, &seen, &metrics, &asked));
            }
        });
        collector
    }

    /// Returns its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how often it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns every span that has arrived.
    #[must_use]
    pub fn spans(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the names of every metric that has arrived.
    #[must_use]
    pub fn metrics(&self) -> Vec<String> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    stream: TcpStream,
    mood: Mood,
    seen: &Mutex<Vec<Seen>>,
    metrics: &Mutex<Vec<String>>,
    asked: &AtomicU64,
) {
    let Ok(mut answers) = stream.try_clone() else { return };
    let mut requests = BufReader::new(stream);
    while let Some((path, body)) = request(&mut requests) {
        asked.fetch_add(1, Ordering::Relaxed);
        let status = match mood {
            Mood::Good => "200 OK",
            Mood::Refuses => "503 Service Unavailable",
            Mood::Hangs => {
                std::thread::sleep(Duration::from_secs(600));
                return;
            }
            Mood::Slow(time) => {
                std::thread::sleep(time);
                "200 OK"
            }
        };
        if status.starts_with("200") {
            if path.ends_with("/v1/traces") {
                let told = ExportTraceServiceRequest::decode(&*body).expect("a body of traces");
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(spans_of(told));
            } else if path.ends_with("/v1/metrics") {
                let told = ExportMetricsServiceRequest::decode(&*body).expect("a body of metrics");
                let names = told.resource_metrics.into_iter().flat_map(|one| one.scope_metrics);
                let names = names.flat_map(|one| one.metrics).map(|metric| metric.name);
                metrics.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
            }
        }
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
        );
        if answers.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, body))
}

fn spans_of(told: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut spans = Vec::new();
    for one in told.resource_spans {
        let resource = one.resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
        let said = |name: &str| resource.get(name).cloned().unwrap_or_default();
        for span in one.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(seen(span, said("service.name"), said("service.instance.id")));
        }
    }
    spans
}

fn seen(span: Span, service: String, instance: String) -> Seen {
    let kind = match span.kind() {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Consumer => "consumer",
        SpanKind::Producer => "producer",
        SpanKind::Internal | SpanKind::Unspecified => "internal",
    };
    Seen {
        service,
        instance,
        kind,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        attributes: texts(&span.attributes),
        is_error: span.status.as_ref().is_some_and(|status| status.code == 2),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
        name: span.name,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text =
        |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(flag)) => flag.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
    attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}
