//! `statehouse definition …`: check, try and draw a definition here; deploy and list them there.
//!
//! `check`, `graph`, `simulate` and `conform` need no server: they are the chart alone. A definition is sent as
//! its author wrote it, so that what a server finds has the author's lines and columns.
//!
//! Deliberately absent: migrations between versions. They come with `instance migrate`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::{Value, json};

use statehouse_sdk::{Body, Method, Request, escape};

use super::{
    again::Again,
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

pub(crate) mod check;
mod conform;
mod graph;
mod simulate;

/// What to do with definitions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say everything that is wrong with definitions; exit 3 if one has errors.
    Check {
        /// The files, YAML or JSON.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also print what every command meets in every state in which an instance can rest.
        #[arg(long)]
        table: bool,
    },
    /// Check a definition and store it as a new version.
    Deploy {
        /// The file, YAML or JSON.
        file: PathBuf,
        /// Only check it on the server; nothing is stored.
        #[arg(long)]
        dry_run: bool,
        /// Idempotency key; left out: a new one.
        #[arg(long, value_parser = super::key_text)]
        key: Option<String>,
    },
    /// List definitions and their versions.
    List,
    /// Print a definition as it was deployed.
    Show {
        /// Its name.
        name: String,
        /// Its version; left out: the current one.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Choose the version that new instances take.
    SetCurrent {
        /// The definition's name.
        name: String,
        /// The version.
        version: u32,
        #[command(flatten)]
        again: Again,
    },
    /// Draw a definition.
    Graph(graph::Graph),
    /// Try a definition: run a script of events, in virtual time.
    Simulate(simulate::Simulate),
    /// Run a folder of conformance cases; exit 0 only if all pass.
    Conform {
        /// The folder; its *.json files are run in the order of their names.
        folder: PathBuf,
    },
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        Verb::Check { files, table } => {
            let overview = if table { check::Overview::Table } else { check::Overview::None };
            check::run(&files, overview, session.output)
        }
        Verb::Graph(graph) => graph.run(session.output),
        Verb::Simulate(simulate) => simulate.run(session.output),
        Verb::Conform { folder } => conform::run(&folder, session.output),
        Verb::Deploy { file, dry_run, key } => {
            deploy(&file, dry_run, key.as_deref(), session).await
        }
        Verb::List => {
            let request = Request::get(session.path("/definitions"));
            session.show(&request, |body| list(session, body)).await
        }
        Verb::Show { name, version } => show(&name, version, session).await,
        Verb::SetCurrent { name, version, again } => {
            let path = session.path(&format!("/definitions/{}/current", escape(&name)));
            let request = Request::new(Method::Put, path, Body::Json(json!({"version": version})));
            session
                .show(&again.on(request), |_| {
                    format!("new instances of {name} take version {version}")
                })
                .await
        }
    }
}

/// Reads a file that is a definition, `-` from the standard input; its length is judged by whoever parses it.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map_err(|error| Failure::file("read", path, &error))
}

async fn deploy(
    file: &Path,
    dry_run: bool,
    key: Option<&str>,
    session: &Session,
) -> Result<Exit, Failure> {
    let bytes = read(file)?;
    // Findings first, with the file's name before each line; a server would say the same without it.
    let report = check::report(file, &bytes);
    if !session.is_curl() {
        report.print_to_stderr(session.output);
    }
    if report.has_errors() {
        return Err(report.failure());
    }
    let document = String::from_utf8(bytes)
        .map_err(|_| Failure::usage("the definition is not UTF-8", "save the file as UTF-8"))?;
    let request = Request::post(session.path("/definitions"), Body::Yaml(document))
        .with("dry_run", dry_run.then_some(true))
        .keyed(key);
    let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
    let what = match (dry_run, reply.status) {
        (true, _) => "is valid",
        (false, 201) => "deployed",
        (false, _) => "was deployed already",
    };
    let line = |body: &Value| {
        format!(
            "{} version {} {what} (digest {})",
            text(body, "name"),
            text(body, "version"),
            digest(body)
        )
    };
    session.output.show(&reply.body, line)?;
    Ok(Exit::Ok)
}

// Twelve digits tell versions apart for a person; `-o json` shows all of them.
fn digest(body: &Value) -> String {
    text(body, "digest").chars().take(12).collect()
}

fn list(session: &Session, body: &Value) -> String {
    let rows = body.as_array().map_or_else(|| items(body, "items"), Vec::as_slice);
    let row = |item: &Value| {
        let versions: Vec<String> =
            items(item, "versions").iter().map(|row| text(row, "version")).collect();
        let last = items(item, "versions").last().cloned().unwrap_or(Value::Null);
        [
            text(item, "name"),
            text(item, "current"),
            versions.join(", "),
            text(&last, "deployed_at"),
            text(&last, "deployed_by"),
        ]
    };
    let rows = rows.iter().map(row).collect();
    session.output.table(["name", "current", "versions", "last deployed", "by"], rows)
}

async fn show(name: &str, version: Option<u32>, session: &Session) -> Result<Exit, Failure> {
    let name = escape(name);
    let path = match version {
        Some(version) => session.path(&format!("/definitions/{name}/versions/{version}")),
        None => session.path(&format!("/definitions/{name}")),
    };
    session
        .show(&Request::get(path), |body| {
            let current = if body.get("current").and_then(Value::as_bool) == Some(true) {
                ", current"
            } else {
                ""
            };
            let document = body.get("document").unwrap_or(&Value::Null);
            let yaml = serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string());
            format!(
                "# {} version {}{current}, digest {}\n{}",
                text(body, "name"),
                text(body, "version"),
                text(body, "digest"),
                yaml.trim_end()
            )
        })
        .await
}
