//! The steps of a script as values.
//!
//! Deliberately absent: loops, variables and assertions. A test that needs them is a conformance case.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{duration, exit::Failure, payload};

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A command.
    Send(String, Value),
    /// A signal.
    Signal(String, Value),
    /// Time passes.
    Advance(Duration),
    /// Somebody else acts from now on.
    As(String),
    /// A task's result.
    Complete(String, Value),
    /// A task's last failure: invoke, code, message.
    Fail(String, String, String),
    /// An operator's verb.
    Operate(Verb),
}

/// An operator's verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Ask it to end.
    Cancel,
    /// End it.
    Terminate,
    /// Hold it.
    Pause,
    /// Go on.
    Resume,
    /// Run the kept event again.
    Retry,
    /// Drop the kept event.
    Skip,
}

impl Verb {
    /// Returns the word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }
}

/// Reads steps; empty lines and comments are skipped.
pub(super) fn parse(lines: &[String]) -> Result<Vec<Step>, Failure> {
    let lines = lines.iter().map(|line| line.trim());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(step).collect()
}

fn step(line: &str) -> Result<Step, Failure> {
    let (word, rest) = split(line);
    let wrong = |why: &str| {
        Failure::usage(
            format!("the step `{line}` {why}"),
            "known are send, signal, advance, as, complete, fail and the operator's verbs",
        )
    };
    let (name, more) = split(rest);
    let named = |make: &dyn Fn(String, Value) -> Step| {
        if name.is_empty() {
            return Err(wrong("lacks a name"));
        }
        let text = if more.is_empty() { "{}" } else { more };
        Ok(make(name.to_owned(), payload::value("the step's JSON", text)?))
    };
    match word {
        "send" => named(&Step::Send),
        "signal" => named(&Step::Signal),
        "complete" => named(&Step::Complete),
        "advance" => {
            duration(rest).map(Step::Advance).map_err(|why| wrong(&format!("has no time: {why}")))
        }
        "as" if !name.is_empty() => Ok(Step::As(name.to_owned())),
        "fail" => match split(more) {
            ("", _) => Err(wrong("lacks an invoke or a code")),
            (code, message) => Ok(Step::Fail(name.to_owned(), code.to_owned(), message.to_owned())),
        },
        "cancel" => Ok(Step::Operate(Verb::Cancel)),
        "terminate" => Ok(Step::Operate(Verb::Terminate)),
        "pause" => Ok(Step::Operate(Verb::Pause)),
        "resume" => Ok(Step::Operate(Verb::Resume)),
        "retry" => Ok(Step::Operate(Verb::Retry)),
        "skip" => Ok(Step::Operate(Verb::Skip)),
        _ => Err(wrong("is none that a script knows")),
    }
}

fn split(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((first, rest)) => (first, rest.trim()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(line: &str) -> Result<Vec<Step>, String> {
        parse(&[line.to_owned()]).map_err(|failure| failure.reason)
    }

    #[test]
    fn steps_are_read_and_comments_skipped() {
        assert_eq!(
            read("send pay {\"amount\": 3}"),
            Ok(vec![Step::Send("pay".into(), json!({"amount": 3}))])
        );
        assert_eq!(read("  advance 2m "), Ok(vec![Step::Advance(Duration::from_secs(120))]));
        assert_eq!(
            read("fail charge card_declined no money left"),
            Ok(vec![Step::Fail("charge".into(), "card_declined".into(), "no money left".into())])
        );
        assert_eq!(read("# nothing"), Ok(vec![]));
        assert_eq!(read("pause"), Ok(vec![Step::Operate(Verb::Pause)]));
    }

    #[test]
    fn a_wrong_step_is_named() {
        assert_eq!(read("jump"), Err("the step `jump` is none that a script knows".to_owned()));
        assert_eq!(read("send"), Err("the step `send` lacks a name".to_owned()));
        assert_eq!(
            read("fail charge"),
            Err("the step `fail charge` lacks an invoke or a code".to_owned())
        );
        assert!(read("advance soon").is_err());
        assert!(read("send x {").is_err());
    }
}
