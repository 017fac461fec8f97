//! The sections of a node's settings, and what the rest of the house makes of each.
//!
//! Deliberately absent: `[cluster]`, which has rules of its own (`cluster.rs`), and the rules of these (`Settings::check`).

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use statehouse_telemetry::{OutletSettings, Sampling};

use crate::{builtin, slo::Objectives};

/// What is promised of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SloSettings {
    /// Commands with a definite answer, in parts of a million.
    pub(crate) availability_per_million: u32,
    /// Commands answered within `latency_ms`, in parts of a million.
    pub(crate) latency_per_million: u32,
    /// The bound of that, in milliseconds.
    pub(crate) latency_ms: u64,
    /// Timers that fire in time, in parts of a million.
    pub(crate) timers_per_million: u32,
    /// With fewer events in a window there is no alarm.
    pub(crate) minimum: u64,
}

impl SloSettings {
    /// Returns the objectives.
    pub(crate) const fn objectives(&self) -> Objectives {
        Objectives {
            availability: self.availability_per_million,
            latency: self.latency_per_million,
            latency_ms: self.latency_ms,
            timers: self.timers_per_million,
            minimum: self.minimum,
        }
    }
}

/// What its own workers may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuiltinSettings {
    /// Networks that `http` tasks may reach although they are refused by default.
    pub(crate) http_allow: String,
    /// Webhooks for `emit` tasks: names with URLs.
    pub(crate) webhooks: String,
}

impl BuiltinSettings {
    /// Returns the kinds of tasks that this node runs itself.
    ///
    /// # Contract
    /// The settings were checked.
    pub(crate) fn kinds(&self) -> Vec<std::sync::Arc<dyn statehouse_cluster::Kind>> {
        let allowed = builtin::parse_allowed(&self.http_allow).unwrap_or_default();
        let webhooks = builtin::parse_webhooks(&self.webhooks).unwrap_or_default();
        builtin::kinds(&allowed, webhooks)
    }
}

/// Who and where the node is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// DATA.
    pub(crate) data: PathBuf,
    /// How many shards a new cluster gets.
    pub(crate) shards: u32,
    /// Its region, if that matters.
    pub(crate) region: Option<String>,
}

/// How clients reach it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiSettings {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The address that others see; `None` = where it listens.
    pub(crate) advertise: Option<String>,
    /// The file with its certificate chain; `None` = plain HTTP.
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The file with the certificate's private key.
    pub(crate) tls_private_key: Option<PathBuf>,
    /// Whether a proxy in front terminates TLS.
    pub(crate) behind_proxy: bool,
    /// How long a stopping node goes on answering.
    pub(crate) drain_ms: u64,
}

impl ApiSettings {
    /// Returns the base URL that others are told, for an API that listens at this address.
    pub(crate) fn seen_by_others(&self, listens: SocketAddr) -> String {
        let scheme = if self.tls_certificate.is_some() { "https" } else { "http" };
        self.advertise.clone().unwrap_or_else(|| format!("{scheme}://{listens}"))
    }
}

/// What it tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetrySettings {
    /// The filter of its lines.
    pub(crate) level: String,
    /// The form of its lines.
    pub(crate) format: LineFormat,
    /// The collector's base URL for OTLP over HTTP; empty: as `OTEL_EXPORTER_OTLP_ENDPOINT` says, else nobody.
    pub(crate) otlp: String,
    /// The name under which spans and numbers leave; empty: as `OTEL_SERVICE_NAME` says, else `statehouse`.
    pub(crate) service: String,
    /// `deployment.environment.name`; empty: none.
    pub(crate) environment: String,
    /// Whether ingress, shards and rows leave as services of their own.
    pub(crate) split_services: bool,
    /// The share of requests and timers that are traced, in parts of a million.
    pub(crate) trace_per_million: u32,
    /// Tenants of which everything is traced.
    pub(crate) trace_tenants: String,
    /// Instances (`tenant/instance`) of which everything is traced.
    pub(crate) trace_instances: String,
}

impl TelemetrySettings {
    /// Returns where spans and numbers go; nothing where nobody collects them.
    pub(crate) fn outlet(&self, node: &NodeSettings) -> Option<OutletSettings> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let is_off =
            set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let standard = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        let is_named =
            !self.otlp.is_empty() || standard.into_iter().any(|name| set(name).is_some());
        if is_off || !is_named {
            return None;
        }
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let service = some(&self.service).or_else(|| set("OTEL_SERVICE_NAME"));
        Some(OutletSettings {
            endpoint: some(&self.otlp),
            service: service.unwrap_or_else(|| "statehouse".to_owned()),
            instance: format!("n{}", node.number),
            environment: some(&self.environment),
            region: node.region.clone(),
            split: self.split_services,
        })
    }

    /// Returns what is traced.
    pub(crate) fn sampling(&self) -> Sampling {
        let list = |text: &str| -> Vec<String> {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        };
        let share = f64::from(self.trace_per_million) / 1_000_000.0;
        Sampling::of(share, list(&self.trace_tenants), list(&self.trace_instances))
    }
}

/// The form of a node's lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LineFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}
