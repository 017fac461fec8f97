//! What a process starts once: log lines and instruments.
//!
//! Logs go to standard error, as text on a terminal and as JSON lines elsewhere, so that standard output
//! stays what a command prints. Messages are constant text; what varies are fields.
//!
//! Absent on purpose: OTLP (a later delivery adds it behind this same face), log files and their rotation:
//! whoever runs the process collects its standard error. Broken laws are counted by
//! `runtime`, where the domains are that they stop.

use std::{fmt, io, io::IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

use crate::{Meters, TelemetryError};

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

/// Neighbours that talk more than anybody reads; prepended, so that a filter can still ask for them.
const QUIET: &str =
    "ractor=warn,ractor_cluster=warn,openraft=warn,hyper=warn,h2=warn,opentelemetry=warn,";

/// Telemetry of one process.
#[derive(Clone, Debug)]
pub struct Pipeline {
    meters: Meters,
}

impl Pipeline {
    /// Starts logging and the instruments. Once a process.
    ///
    /// # Errors
    /// Says what did not come up; nothing is half started in a way that matters.
    pub fn start(logs: &LogSettings) -> Result<Self, TelemetryError> {
        let meters = Meters::start()?;
        let subscriber = subscriber(logs, io::stderr, io::stderr().is_terminal())?;
        subscriber.try_init().map_err(TelemetryError::Subscriber)?;
        Ok(Self { meters })
    }

    /// Returns the source of instruments.
    #[must_use]
    pub const fn meters(&self) -> &Meters {
        &self.meters
    }
}

fn subscriber<W>(
    logs: &LogSettings,
    writer: W,
    colour: bool,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET}{}", logs.filter))
        .map_err(|source| TelemetryError::Filter { filter: logs.filter.clone(), source })?;
    // A line that cannot be written is lost and nothing else: the library would report it on the standard error, where
    // the same full disk makes the report a panic.
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false);
    Ok(match logs.format {
        LogFormat::Text => Box::new(base.with_ansi(colour && !no_color()).finish()),
        LogFormat::Json => Box::new(base.json().flatten_event(true).finish()),
    })
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
        let subscriber = subscriber(&logs, move || target.clone(), false).unwrap();
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
        let error = subscriber(&logs, io::sink, false).err().unwrap();
        assert_eq!(error.to_string(), "read the log filter \"a=b=c\"");
    }
}
