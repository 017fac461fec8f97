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
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat, Source as _, Value, ValueKind};
use serde::Deserialize;

use statehouse_contract::limits;

use crate::builtin;

pub(crate) use cluster::{ClusterSettings, Distance};
pub(crate) use sections::{
    ApiSettings, BuiltinSettings, LineFormat, NodeSettings, SloSettings, TelemetrySettings,
};

mod cluster;
mod sections;

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

    /// Returns the files with certificates that this node shows or trusts.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Path> {
        let files =
            [&self.api.tls_certificate, &self.cluster.tls_certificate, &self.cluster.tls_authority];
        files.into_iter().flatten().map(PathBuf::as_path)
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
