//! The configuration of a node: four layers, one struct, and for each value where it came from.
//!
//! The layers are `config/node.toml` (embedded, so that every default stands in a file that people read), the
//! operator's file, the environment, and flags. A later layer wins. Keys that no layer may have are errors that
//! name the nearest key, because a misspelt setting that is silently ignored is found at the worst moment.
//!
//! Deliberately absent: `Default` for any of these structs (a default is a decision, and it is written down in
//! node.toml), secrets, and reloading: a change is a restart.
//!
//! Invariant: a [`Settings`] that left this file keeps every rule of `Settings::check`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat, Source as _, Value, ValueKind};
use serde::Deserialize;

use statehouse_contract::limits;

use statehouse_telemetry::{OutletSettings, Sampling};

use crate::{builtin, slo::Objectives};

pub(crate) use cluster::{ClusterSettings, Distance};

mod cluster;

/// Every setting with its default and its meaning.
pub(crate) const DEFAULTS: &str = include_str!("../../../config/node.toml");

/// What is left of [`limits::DRAIN_MS_MAX`] for the API when the node has closed its files, for which it has a quarter.
const API_DRAIN_MS_MAX: u64 = limits::DRAIN_MS_MAX / 4 * 3;

// Settings that have no default. A test holds this list and the file above against the structs below.
const OPTIONAL: [&str; 4] =
    ["api.advertise", "api.tls_certificate", "api.tls_private_key", "node.region"];

/// Everything that an operator sets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Who and where the node is.
    pub(crate) node: NodeSettings,
    /// How clients reach it.
    pub(crate) api: ApiSettings,
    /// How it is part of a cluster.
    pub(crate) cluster: ClusterSettings,
    /// What its own workers may do.
    pub(crate) builtin: BuiltinSettings,
    /// What it tells.
    pub(crate) telemetry: TelemetrySettings,
    /// What is promised.
    pub(crate) slo: SloSettings,
}

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

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Malformed {
        /// Which file.
        origin: String,
        /// What the parser said, with line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` in {origin}{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: String,
        /// The nearest key that exists.
        near: Option<String>,
    },
    /// A value of the wrong kind.
    #[error("{0}")]
    WrongValue(String),
    /// A value that breaks a rule.
    #[error("`{key}` in {origin}: {problem}")]
    Rule {
        /// The key.
        key: &'static str,
        /// Where it stands.
        origin: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// What the layers above the defaults are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The operator's file.
    pub(crate) file: Option<PathBuf>,
    /// The environment; only names that begin with `STATEHOUSE__` count.
    pub(crate) environment: Vec<(String, String)>,
    /// Flags: the key, the flag's name, the value.
    pub(crate) flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// Takes a file and the environment of this process.
    pub(crate) fn from_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, environment, flags: Vec::new() }
    }

    /// Adds a flag, if it was given.
    #[must_use]
    pub(crate) fn flag(
        mut self,
        key: &'static str,
        name: &'static str,
        value: Option<impl ToString>,
    ) -> Self {
        self.flags.extend(value.map(|value| (key, name, value.to_string())));
        self
    }
}

/// A setting with its value and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    /// The value, as JSON.
    pub(crate) value: serde_json::Value,
    /// The layer that won: `default`, a file's path, a variable's name, or a flag.
    pub(crate) origin: String,
}

/// A configuration and the origin of each of its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// Every key that has a value.
    pub(crate) origins: BTreeMap<String, Origin>,
}

/// Reads all layers.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut values = layer("default", parse("node.toml", DEFAULTS)?);
    let optional = OPTIONAL.iter().chain(&cluster::OPTIONAL).map(|key| (*key).to_owned());
    let known: Vec<String> = values.keys().cloned().chain(optional).collect();
    let mut put = |upper: BTreeMap<String, (Value, String)>| -> Result<(), ConfigError> {
        for (key, (value, origin)) in upper {
            if !known.contains(&key) {
                let near = nearest(&key, &known);
                return Err(ConfigError::UnknownKey { key, origin, near });
            }
            values.insert(key, (value, origin));
        }
        Ok(())
    };
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let name = path.display().to_string();
        put(layer(&name, parse(&name, &text)?))?;
    }
    put(environment(sources))?;
    for (key, name, value) in &sources.flags {
        let entry = (Value::from(value.as_str()), (*name).to_owned());
        put(BTreeMap::from([((*key).to_owned(), entry)]))?;
    }
    assemble(values)
}

fn parse(name: &str, text: &str) -> Result<Value, ConfigError> {
    let malformed = |error: config::ConfigError| ConfigError::Malformed {
        origin: name.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    };
    let config = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
    let table = config.and_then(|config| config.collect()).map_err(malformed)?;
    Ok(Value::new(None, ValueKind::Table(table)))
}

fn environment(sources: &Sources) -> BTreeMap<String, (Value, String)> {
    let mut layer = BTreeMap::new();
    for (name, value) in &sources.environment {
        let one = [(name.clone(), value.clone())].into_iter().collect();
        let variable = Environment::with_prefix("STATEHOUSE")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .source(Some(one));
        let Ok(table) = variable.collect() else { continue };
        let tree = Value::new(None, ValueKind::Table(table));
        flatten("", tree, &format!("variable {name}"), &mut layer);
    }
    layer
}

fn layer(origin: &str, tree: Value) -> BTreeMap<String, (Value, String)> {
    let mut flat = BTreeMap::new();
    flatten("", tree, origin, &mut flat);
    flat
}

fn flatten(prefix: &str, value: Value, origin: &str, flat: &mut BTreeMap<String, (Value, String)>) {
    match value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&path, value, origin, flat);
            }
        }
        // `config` is a foreign enum: every kind that is no table is a leaf.
        kind => {
            let owner = origin.to_owned();
            flat.insert(prefix.to_owned(), (Value::new(Some(&owner), kind), owner));
        }
    }
}

fn assemble(values: BTreeMap<String, (Value, String)>) -> Result<Loaded, ConfigError> {
    let wrong = |error: config::ConfigError| ConfigError::WrongValue(error.to_string());
    let mut builder = Config::builder();
    let mut origins = BTreeMap::new();
    for (key, (value, origin)) in values {
        let json = value.clone().try_deserialize().map_err(wrong)?;
        builder = builder.set_override(&key, value).map_err(wrong)?;
        origins.insert(key, Origin { value: json, origin });
    }
    let settings: Settings = builder.build().and_then(Config::try_deserialize).map_err(wrong)?;
    settings.check(&origins)?;
    Ok(Loaded { settings, origins })
}

impl Settings {
    fn check(&self, origins: &BTreeMap<String, Origin>) -> Result<(), ConfigError> {
        let origin =
            |key: &str| origins.get(key).map_or("default", |found| &found.origin).to_owned();
        let rule = |holds: bool, key: &'static str, problem: String| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError::Rule { key, origin: origin(key), problem })
            }
        };
        rule(self.node.number >= 1, "node.number", "nodes are numbered from 1".to_owned())?;
        rule(
            (1..=limits::SHARDS_MAX).contains(&self.node.shards),
            "node.shards",
            format!("{} is not within 1 to {}", self.node.shards, limits::SHARDS_MAX),
        )?;
        rule(
            self.api.tls_certificate.is_some() || self.api.tls_private_key.is_none(),
            "api.tls_private_key",
            "a key without its certificate: set `api.tls_certificate` as well".to_owned(),
        )?;
        rule(
            self.api.tls_private_key.is_some() || self.api.tls_certificate.is_none(),
            "api.tls_certificate",
            "a certificate without its key: set `api.tls_private_key` as well".to_owned(),
        )?;
        let is_guarded = self.api.tls_certificate.is_some() || self.api.behind_proxy;
        rule(
            self.api.listen.ip().is_loopback() || is_guarded,
            "api.listen",
            format!(
                "{} is not loopback, and plain HTTP would show every token: set `api.tls_certificate` and \
                 `api.tls_private_key`, or put a proxy that terminates TLS in front and set \
                 `api.behind_proxy = true` (flag --behind-proxy), or listen on 127.0.0.1",
                self.api.listen
            ),
        )?;
        rule(
            (1..=API_DRAIN_MS_MAX).contains(&self.api.drain_ms),
            "api.drain_ms",
            format!("{} is not within 1 to {API_DRAIN_MS_MAX}", self.api.drain_ms),
        )?;
        let networks = builtin::parse_allowed(&self.builtin.http_allow);
        rule(networks.is_ok(), "builtin.http_allow", networks.err().unwrap_or_default())?;
        let webhooks = builtin::parse_webhooks(&self.builtin.webhooks);
        rule(webhooks.is_ok(), "builtin.webhooks", webhooks.err().unwrap_or_default())?;
        let advertised = self.api.advertise.as_deref();
        rule(
            advertised.is_none_or(is_base_url),
            "api.advertise",
            format!(
                "{:?} is no base URL: clients are sent there as it stands, so say `https://host:port` (or `http://…`)",
                advertised.unwrap_or_default()
            ),
        )?;
        self.cluster.check(self, &rule)
    }

    /// Returns the directory of this node's own files.
    pub(crate) fn directory(&self) -> PathBuf {
        node_directory(&self.node.data, self.node.number)
    }
}

/// Returns whether a text is `http://host…` or `https://host…`.
fn is_base_url(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
}

/// Returns the directory of a node's own files: `DATA/node-K`.
pub(crate) fn node_directory(data: &Path, number: u32) -> PathBuf {
    data.join(format!("node-{number}"))
}

/// Returns the key that takes the fewest edits to reach, if it is near at all.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let best = known.iter().map(|name| (distance(key, name), name)).min()?;
    (best.0 <= 3.max(key.len() / 3)).then(|| best.1.clone())
}

/// Counts the single-letter edits between two texts (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut last = index + 1;
        let mut next = vec![last];
        for (above, b) in row.windows(2).zip(right.chars()) {
            last = (above[0] + usize::from(a != b)).min(above[1] + 1).min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
