//! Why telemetry could not be started.
//!
//! Only starting can fail. Once it runs, telemetry never answers with an error: a measurement that cannot
//! be taken is not the business of the code that is measured.

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter for Prometheus did not come up.
    #[error("start the metrics exporter")]
    Metrics(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// The text that says which log lines are wanted is not valid.
    #[error("read the log filter {filter:?}")]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// This process has a subscriber already.
    #[error("install the log subscriber")]
    Subscriber(#[source] tracing_subscriber::util::TryInitError),
}
