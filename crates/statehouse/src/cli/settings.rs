//! `statehouse config …`: is a configuration right, and where does each value come from.
//!
//! Deliberately absent: writing a configuration. `config/node.toml` is the commented example to start from.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    exit::{Exit, Failure},
    output::Output,
};
use crate::config::{self, ConfigError, Loaded, Sources};

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say what is wrong with a configuration; exit 2 if anything is.
    Check(Which),
    /// Print every value.
    Print {
        #[command(flatten)]
        which: Which,
        /// Also print where each value comes from.
        #[arg(long)]
        origin: bool,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The file; left out: the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs a verb.
pub(crate) fn run(verb: Verb, output: Output) -> Result<Exit, Failure> {
    match verb {
        Verb::Check(which) => {
            let loaded = load(&Sources::from_process(which.config))?;
            let text = format!("the configuration is right: {} settings", loaded.origins.len());
            output.show(&json!({"settings": loaded.origins.len()}), |_| text)?;
        }
        Verb::Print { which, origin } => {
            let loaded = load(&Sources::from_process(which.config))?;
            output.show(&to_json(&loaded, origin), |_| to_toml(&loaded, origin))?;
        }
    }
    Ok(Exit::Ok)
}

/// Reads a configuration, or says what is wrong with it.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, Failure> {
    config::load(sources).map_err(|error| {
        let next = match &error {
            ConfigError::Read { path, source } => return Failure::file("read", path, source),
            ConfigError::UnknownKey { .. } => "`statehouse config print` lists every key",
            ConfigError::Malformed { .. } | ConfigError::WrongValue(_) | ConfigError::Rule { .. } => {
                "config/node.toml explains every setting; `statehouse config print --origin` says where values come from"
            }
        };
        Failure::new(Exit::Usage, "invalid_configuration", error.to_string(), next)
    })
}

fn to_json(loaded: &Loaded, origin: bool) -> Value {
    let members = loaded.origins.iter().map(|(key, found)| {
        let value = if origin {
            json!({"value": found.value, "origin": found.origin})
        } else {
            found.value.clone()
        };
        (key.clone(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

// Dotted keys are TOML: the output can be used as a file.
pub(crate) fn to_toml(loaded: &Loaded, origin: bool) -> String {
    let lines: Vec<(String, &str)> = loaded
        .origins
        .iter()
        .map(|(key, found)| {
            let value = match &found.value {
                Value::String(text) => toml::Value::from(text.as_str()).to_string(),
                other => other.to_string(),
            };
            (format!("{key} = {value}"), found.origin.as_str())
        })
        .collect();
    if !origin {
        return lines.into_iter().map(|(line, _)| line).collect::<Vec<_>>().join("\n");
    }
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let with_origin = lines.iter().map(|(line, origin)| format!("{line:width$}  # {origin}"));
    with_origin.collect::<Vec<_>>().join("\n")
}
