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
    /// The thread that sends spans did not start.
    #[error("start the thread that sends spans")]
    Outlet(#[source] std::io::Error),
    /// The exporter of numbers did not come up.
    #[error("start the exporter of metrics over OTLP")]
    Otlp(#[source] opentelemetry_otlp::ExporterBuildError),
    /// This process has a subscriber already.
    #[error("install the log subscriber")]
    Subscriber(#[source] tracing_subscriber::util::TryInitError),
}
