//! `statehouse definition graph`: a definition as a picture, in the language of Mermaid or Graphviz.
//!
//! Deliberately absent: layout and files. Mermaid is drawn by most places that show Markdown; DOT by `dot -Tsvg`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use statehouse_chart::{Source, load};

use crate::cli::{
    exit::{Exit, Failure},
    output::Output,
};

/// `definition graph`.
#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The definition, YAML or JSON.
    file: PathBuf,
    /// The language of the picture.
    #[arg(long, value_enum, default_value = "mermaid")]
    format: Language,
}

/// The language of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Mermaid's stateDiagram.
    Mermaid,
    /// Graphviz.
    Dot,
}

impl Graph {
    /// Runs the verb.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let bytes = super::read(&self.file)?;
        let report = super::check::report(&self.file, &bytes);
        let source = load::load_bytes(&bytes).ok().and_then(|document| Source::parse(&document).0);
        let Some(source) = source else {
            report.print_to_stderr(output);
            return Err(report.failure());
        };
        let picture = match self.format {
            Language::Mermaid => statehouse_chart::render::mermaid(&source),
            Language::Dot => statehouse_chart::render::dot(&source),
        };
        output.line(picture.trim_end())?;
        if report.has_errors() {
            // What can be drawn helps to find what is wrong, but nobody shall take it for the whole.
            report.print_to_stderr(output);
            return Err(report.failure());
        }
        Ok(Exit::Ok)
    }
}
