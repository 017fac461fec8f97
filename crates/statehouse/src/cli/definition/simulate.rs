//! `statehouse definition simulate`: a definition, a script of events, virtual time.
//!
//! The chart is the very one that a server steps; only time, tasks and the caller are played. A script is a list
//! of steps, one an argument or one a line of `--script`:
//!
//! ```text
//! send EVENT [JSON]          a command            signal EVENT [JSON]         a signal
//! advance TIME               what is due fires    as NAME                     who acts from now on
//! complete INVOKE [JSON]     a task's result      fail INVOKE CODE [MESSAGE]  a task's last failure
//! cancel, terminate, pause, resume, retry, skip   the operator's verbs
//! ```
//!
//! Deliberately absent: roles, keys and quotas; they are a server's.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use statehouse_chart::{Chart, Source, load};

use crate::cli::{
    exit::{Exit, Failure},
    output::{Output, text},
    payload,
};
use play::Play;

mod play;
mod script;

/// `definition simulate`.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The definition, YAML or JSON.
    file: PathBuf,
    /// The steps, for example 'send approve {"note": "fine"}' 'advance 30s'.
    steps: Vec<String>,
    /// A file with one step a line; `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Input of the start as JSON, `@FILE`, or `-`.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    input: String,
    /// Who starts it.
    #[arg(long = "as", default_value = "someone", value_name = "NAME")]
    actor: String,
}

impl Simulate {
    /// Runs the script and prints each step; a refused step is a result, not a failure.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let chart = compile(&self.file)?;
        let mut lines = self.steps;
        if let Some(path) = &self.script {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::file("read", path, &error))?;
            lines.extend(text.lines().map(str::to_owned));
        }
        let steps = script::parse(&lines)?;
        let input = payload::object("--input", &self.input)?;
        let mut play = Play::new(&chart, self.actor);
        play.start(&input);
        for step in &steps {
            play.take(step);
        }
        let moves = play.into_moves();
        let document = json!({"definition": chart.name(), "moves": moves});
        output.show(&document, |_| moves.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        Ok(Exit::Ok)
    }
}

fn compile(file: &std::path::Path) -> Result<Chart, Failure> {
    let refused = |findings: Vec<statehouse_chart::Finding>| {
        let mut failure = Failure::new(
            Exit::Rejected,
            "invalid_definition",
            format!("{} cannot be run", file.display()),
            format!(
                "`statehouse definition check {}` says everything that is wrong",
                file.display()
            ),
        );
        failure.notes = findings.iter().take(10).map(ToString::to_string).collect();
        failure
    };
    let document = load::load_bytes(&super::read(file)?).map_err(refused)?;
    match Source::parse(&document) {
        (Some(source), findings) if !findings.iter().any(statehouse_chart::Finding::is_error) => {
            Chart::compile(&source).map_err(refused)
        }
        (_, findings) => Err(refused(findings)),
    }
}

fn line(step: &Json) -> String {
    let mut shown =
        format!("{:<8}  {}: {}", text(step, "at"), text(step, "step"), text(step, "outcome"));
    let to = text(step, "to");
    if !to.is_empty() {
        shown.push_str(&format!(" [{to}]"));
    }
    for name in ["code", "message", "reply", "emitted", "tasks", "timers", "status", "output"] {
        let value = text(step, name);
        if !value.is_empty() {
            shown.push_str(&format!(" {name}={value}"));
        }
    }
    shown
}
