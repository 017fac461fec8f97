//! `statehouse drill judge`: reads the history of a run and says whether every promise was kept.
//!
//! The judge shares no code with the server. Exit 0 only for VALID: a run that proves nothing proves nothing.
//!
//! Deliberately absent: running drills. They come with the lab.

use std::{io::Read as _, path::PathBuf};

use clap::{Subcommand, ValueEnum};

use statehouse_judge::{Demands, History};

use super::{
    exit::{Exit, Failure},
    output::Output,
};

/// What to do with drills.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Judge a history; exit 0 only if it is valid.
    Judge {
        /// The history (JSON lines, format 1), or `-` for standard input.
        file: PathBuf,
        /// What the run must contain at least, so that its verdict means something.
        #[arg(long, value_enum, default_value = "least")]
        demand: Demand,
    },
}

/// The least that a run must contain.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Demand {
    /// One acknowledged command.
    Least,
    /// What a drill with killed processes must show: unknown outcomes, retries, dedupe hits, a fault.
    Drill,
}

/// Runs a verb.
pub(crate) fn run(verb: Verb, output: Output) -> Result<Exit, Failure> {
    let Verb::Judge { file, demand } = verb;
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(&file).and_then(|mut opened| opened.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::file("read", &file, &error))?;
    // A line that cannot be read is the judge's business: it makes the verdict undecided, and is named there.
    let history = History::parse(text);
    let demands = match demand {
        Demand::Least => Demands::LEAST,
        Demand::Drill => Demands::DRILL,
    };
    let verdict = statehouse_judge::judge(&history, &demands);
    let document = serde_json::to_value(&verdict)
        .map_err(|error| Failure::broken(format!("cannot write the verdict: {error}")))?;
    output.show(&document, |_| verdict.to_string().trim_end().to_owned())?;
    Ok(if verdict.is_valid() { Exit::Ok } else { Exit::Rejected })
}
