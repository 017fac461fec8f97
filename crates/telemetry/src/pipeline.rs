//! What a process starts once: log lines and instruments.
//!
//! Logs go to standard error, as text on a terminal and as JSON lines elsewhere, so that standard output
//! stays what a command prints. Messages are constant text; what varies are fields.
//!
//! Spans leave over OTLP where a collector is named (`outlet.rs`), and so do the numbers, every few seconds; `/metrics` tells
//! the same numbers to whoever asks.
//!
//! Absent on purpose: log files and their rotation: whoever runs the process collects its standard error. Broken laws are
//! counted by `runtime`, where the domains are that they stop.

use std::{fmt, io, io::IsTerminal as _, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    Meters, TelemetryError,
    lines::JsonLines,
    outlet::{Outlet, OutletSettings},
    spans::TARGET,
};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Returns text for a terminal and JSON for everything else.
    #[must_use]
    pub fn for_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }

    /// Reads `text` or `json`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Which log lines are written, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// How they look.
    pub format: LogFormat,
    /// What is wanted, in the language of `tracing-subscriber`: `info,statehouse_runtime=debug`.
    pub filter: String,
}

/// Neighbours that talk more than anybody reads; prepended, so that a filter can still ask for them. `ractor_cluster` warns of
/// each session that ends, also when the other node was asked to stop; our own lines tell each peer's state, and who was not let in.
const QUIET: &str =
    "ractor=warn,ractor_cluster=error,openraft=warn,hyper=warn,h2=warn,opentelemetry=warn,";

/// Telemetry of one process.
#[derive(Clone, Debug)]
pub struct Pipeline {
    meters: Meters,
    outlet: Option<Outlet>,
    // The layer has a tracer of it.
    _tracers: Option<SdkTracerProvider>,
}

impl Pipeline {
    /// Starts logging and the instruments. Once a process.
    ///
    /// # Errors
    /// Says what did not come up; nothing is half started in a way that matters.
    pub fn start(
        logs: &LogSettings,
        outlet: Option<OutletSettings>,
    ) -> Result<Self, TelemetryError> {
        if outlet.is_some() {
            // The exporters' HTTP client takes the process's choice; another part may have made the same one already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let meters = match &outlet {
            Some(settings) => Meters::start_telling(settings)?,
            None => Meters::start()?,
        };
        let opened = outlet.map(Outlet::start).transpose().map_err(TelemetryError::Outlet)?;
        let (tracers, outlet) = match opened {
            Some((outlet, leaving)) => {
                leaving.register(&meters);
                (Some(provider(outlet.clone())), Some(outlet))
            }
            None => (None, None),
        };
        if let Some(tracers) = &tracers {
            // For libraries that trace by themselves, such as the SDK's worker.
            opentelemetry::global::set_tracer_provider(tracers.clone());
        }
        let tracer = tracers.as_ref().map(|tracers| tracers.tracer("statehouse"));
        let subscriber = subscriber(logs, io::stderr, io::stderr().is_terminal(), tracer)?;
        subscriber.try_init().map_err(TelemetryError::Subscriber)?;
        Ok(Self { meters, outlet, _tracers: tracers })
    }

    /// Sends what waits, within a time. Blocks; whatever ends afterwards is dropped and counted.
    pub fn close(&self, limit: Duration) {
        if let Some(outlet) = &self.outlet {
            outlet.close(limit);
        }
    }

    /// Returns whether spans leave this process.
    #[must_use]
    pub const fn takes_spans(&self) -> bool {
        self.outlet.is_some()
    }

    /// Returns the source of instruments.
    #[must_use]
    pub const fn meters(&self) -> &Meters {
        &self.meters
    }
}

/// What is sampled was decided before a span is made: everything that is made is taken.
fn provider(outlet: Outlet) -> SdkTracerProvider {
    SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_span_processor(outlet).build()
}

fn subscriber<W>(
    logs: &LogSettings,
    writer: W,
    colour: bool,
    tracer: Option<SdkTracer>,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET}{}", logs.filter))
        .map_err(|source| TelemetryError::Filter { filter: logs.filter.clone(), source })?;
    // A line that cannot be written is lost and nothing else: the library would report it on the standard error, where
    // the same full disk makes the report a panic.
    let base = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match logs.format {
        LogFormat::Text => base.with_ansi(colour && !no_color()).boxed(),
        LogFormat::Json => base.event_format(JsonLines).boxed(),
    };
    // Lines are events, spans are for the collector: neither sees the other.
    let lines = lines.with_filter(filter).with_filter(filter_fn(|metadata| metadata.is_event()));
    let spans = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_level(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET))
    });
    Ok(Box::new(tracing_subscriber::registry().with(spans).with(lines)))
}

fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str) -> String {
        let page = Page::default();
        let logs = LogSettings { format, filter: filter.to_owned() };
        let target = page.clone();
        let subscriber = subscriber(&logs, move || target.clone(), false, None).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(shard = 3, "stepped down");
            tracing::debug!("too much");
            tracing::info!(target: "ractor::actor", "too much");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_carries_message_and_fields() {
        let text = written(LogFormat::Json, "info");
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [r#""level":"INFO""#, r#""message":"stepped down""#, r#""shard":3"#] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_line_tells_the_trace_and_the_conversation_in_which_it_is_written() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = statehouse_contract::TraceContext::parse(parent, None).unwrap();
        let correlation = statehouse_contract::CorrelationId::parse("c-1").unwrap();
        let page = Page::default();
        let logs = LogSettings { format: LogFormat::Json, filter: "info".to_owned() };
        let target = page.clone();
        let subscriber = subscriber(&logs, move || target.clone(), false, None).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let work = async { tracing::info!("decided") };
            futures::executor::block_on(crate::carry_all(&trace, Some(&correlation), work));
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((&line["correlation"], &line["message"]), (&"c-1".into(), &"decided".into()));
    }

    #[test]
    fn a_text_line_is_read_by_people() {
        let text = written(LogFormat::Text, "info");
        assert!(text.contains("stepped down shard=3"), "{text}");
        assert!(!text.contains("too much"), "{text}");
    }

    #[test]
    fn a_filter_may_ask_for_a_quiet_neighbour() {
        assert_eq!(written(LogFormat::Text, "info,ractor=info").lines().count(), 2);
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let logs = LogSettings { format: LogFormat::Text, filter: "a=b=c".to_owned() };
        let error = subscriber(&logs, io::sink, false, None).err().unwrap();
        assert_eq!(error.to_string(), "read the log filter \"a=b=c\"");
    }
}
