//! What a command prints: a table for people, JSON or YAML for programs.
//!
//! Each verb hands over the server's document and says how people see it; the format is chosen here. Results go
//! to standard output, everything else to standard error, so that a pipe carries only what was asked for.
//! Colour is used only on a terminal and never with `NO_COLOR`.
//!
//! Deliberately absent: what the columns mean, and progress bars (`bench` has its own).

use std::io::{IsTerminal, Write as _};

use comfy_table::{Attribute, Cell, Table, presets};
use serde_json::Value;

use super::exit::Failure;

/// In which form results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    Table,
    /// The server's JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Where and how results are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// Looks at the terminal and at `NO_COLOR` once.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, colour: wants_colour(&std::io::stdout()) }
    }

    /// Returns whether somebody watches the terminal while the work goes on.
    pub(crate) fn is_watched(self) -> bool {
        self.format == Format::Table && std::io::stderr().is_terminal()
    }

    /// Prints a document; `table` says how people see it.
    pub(crate) fn show(
        self,
        value: &Value,
        table: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.line(&table(value)),
            Format::Json => {
                let text = serde_json::to_string_pretty(value)
                    .map_err(|error| Failure::broken(format!("cannot write JSON: {error}")))?;
                self.line(&text)
            }
            Format::Yaml => {
                let text = serde_saphyr::to_string(value)
                    .map_err(|error| Failure::broken(format!("cannot write YAML: {error}")))?;
                self.line(text.trim_end())
            }
        }
    }

    /// Prints one document of a stream: a line of JSON, or what people see.
    pub(crate) fn item(
        self,
        value: &Value,
        line: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.line(&line(value)),
            Format::Json => self.line(&value.to_string()),
            Format::Yaml => {
                self.line("---")?;
                self.show(value, |_| String::new())
            }
        }
    }

    /// Prints a text that has one form only. A reader that has gone is no failure.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::broken(format!("cannot write to standard output: {error}")))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Prints a remark that is not part of the result.
    pub(crate) fn note(self, text: &str) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints a failure in the chosen form.
    pub(crate) fn failure(self, failure: &Failure) {
        match self.format {
            Format::Table | Format::Yaml => self.note(&failure.to_string()),
            Format::Json => self.note(&failure.to_json().to_string()),
        }
    }

    /// Lays out rows under headings.
    pub(crate) fn table<const N: usize>(
        self,
        headings: [&str; N],
        rows: Vec<[String; N]>,
    ) -> String {
        if rows.is_empty() {
            return "nothing to show".to_owned();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        let heading = |text: &str| {
            let cell = Cell::new(text.to_uppercase());
            if self.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        if self.colour {
            table.enforce_styling();
        }
        table.set_header(headings.iter().map(|text| heading(text)).collect::<Vec<_>>());
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    /// Prints what a verb has done, as pairs or as one document of them.
    pub(crate) fn told(self, pairs: &[(&str, String)]) -> Result<(), Failure> {
        let member = |(name, value): &(&str, String)| {
            (!value.is_empty()).then(|| (name.replace(' ', "_"), Value::from(value.as_str())))
        };
        let document = Value::Object(pairs.iter().filter_map(member).collect());
        self.show(&document, |_| self.pairs(pairs))
    }

    /// Lays out names and values, one pair a line; pairs without a value are left out.
    pub(crate) fn pairs(self, pairs: &[(&str, String)]) -> String {
        let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
        let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = shown.iter().map(|(name, value)| format!("{name:width$}  {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Returns whether what is written there may have colour: it is a terminal, and `NO_COLOR` is not set or is empty.
pub(crate) fn wants_colour(place: &impl IsTerminal) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && place.is_terminal()
}

/// Returns a member as people read it: texts bare, lists joined, the rest as compact JSON.
pub(crate) fn text(value: &Value, name: &str) -> String {
    value.get(name).map(plain).unwrap_or_default()
}

/// Returns a value as people read it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Returns the items of a member that is a list.
pub(crate) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Output = Output { format: Format::Table, colour: false };

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_spaces() {
        let rows =
            vec![["a-1".to_owned(), "waiting".to_owned()], ["order-42".to_owned(), String::new()]];
        expect_test::expect![[r#"
            ID        STATE
            a-1       waiting
            order-42"#]]
        .assert_eq(&PLAIN.table(["id", "state"], rows));
        assert_eq!(PLAIN.table(["id"], Vec::new()), "nothing to show");
    }

    #[test]
    fn pairs_without_a_value_are_left_out() {
        let pairs =
            [("id", "a-1".to_owned()), ("output", String::new()), ("status", "running".to_owned())];
        assert_eq!(PLAIN.pairs(&pairs), "id      a-1\nstatus  running");
    }
}
