//! How a command ends: one exit code, and for every failure its code, its reason and the next step.
//!
//! Scripts read the number, people read the sentence, programs read the JSON of `-o json`. The three say the
//! same. The numbers are part of the command line's contract and stand in the README.
//!
//! Deliberately absent: logging. A failure is shown once, here, to whoever typed the command.

use std::{fmt, path::Path};

use serde_json::{Map, Value};

use statehouse_contract::{OutcomeClass, RejectionCode};

/// The process's last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Something broke that no other number names.
    Broken = 1,
    /// The command line, a file or a setting is wrong.
    Usage = 2,
    /// Understood and refused.
    Rejected = 3,
    /// There is no such thing.
    Missing = 4,
    /// Something else is there already, or has moved on.
    Conflict = 5,
    /// Nobody can do it now, or nobody knows yet whether it was done.
    Unavailable = 6,
    /// The time given by `--wait` is over.
    WaitElapsed = 7,
}

impl Exit {
    /// Every number with its meaning, in the words of the README.
    #[cfg(test)]
    pub(crate) const ALL: [(Self, &'static str); 8] = [
        (Self::Ok, "ok"),
        (Self::Broken, "something broke that no other number names"),
        (Self::Usage, "usage: the command line, a file or a setting is wrong"),
        (Self::Rejected, "rejected"),
        (Self::Missing, "not found"),
        (Self::Conflict, "conflict"),
        (Self::Unavailable, "unavailable, or the outcome is not known yet"),
        (Self::WaitElapsed, "the time of `--wait` is over"),
    ];

    /// Returns the number for a class of answers.
    pub(crate) const fn of_class(class: OutcomeClass) -> Self {
        match class {
            OutcomeClass::Ok | OutcomeClass::Postponed => Self::Ok,
            OutcomeClass::Invalid | OutcomeClass::Denied | OutcomeClass::Refused => Self::Rejected,
            OutcomeClass::Missing => Self::Missing,
            OutcomeClass::Conflict => Self::Conflict,
            OutcomeClass::Throttled | OutcomeClass::Unavailable | OutcomeClass::Unknown => {
                Self::Unavailable
            }
            OutcomeClass::Failed => Self::Broken,
        }
    }

    /// Returns the last word of a process of this program that failed, as its parent sees it.
    pub(crate) const fn of_failed_process(code: i32) -> Option<Self> {
        match code {
            2 => Some(Self::Usage),
            3 => Some(Self::Rejected),
            4 => Some(Self::Missing),
            5 => Some(Self::Conflict),
            6 => Some(Self::Unavailable),
            // 7 is about a flag that no node has, and 0 is no failure.
            _ => None,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not do what it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) exit: Exit,
    /// A stable name of the reason.
    pub(crate) code: String,
    /// What happened, in one sentence.
    pub(crate) reason: String,
    /// More lines of the same story: where, at which version, which places do not fit.
    pub(crate) notes: Vec<String>,
    /// What to do now.
    pub(crate) next: String,
    /// The server's problem document, for `-o json`.
    pub(crate) problem: Option<Box<Value>>,
}

impl Failure {
    /// Makes a failure without notes.
    pub(crate) fn new(
        exit: Exit,
        code: impl Into<String>,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            code: code.into(),
            reason: reason.into(),
            notes: Vec::new(),
            next: next.into(),
            problem: None,
        }
    }

    /// Makes the failure of a wrong command line, file or setting.
    pub(crate) fn usage(reason: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", reason, next)
    }

    /// Makes the failure of a file that cannot be read or written.
    pub(crate) fn file(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let reason = format!("cannot {what} {}: {error}", path.display());
        let exit =
            if error.kind() == std::io::ErrorKind::NotFound { Exit::Usage } else { Exit::Broken };
        Self::new(exit, "file", reason, "look at the path and its permissions")
    }

    /// Makes the failure of something that broke inside this process.
    pub(crate) fn broken(reason: impl Into<String>) -> Self {
        Self::new(
            Exit::Broken,
            "broken",
            reason,
            "repeat it; if it stays, report it with the output of `statehouse --version`",
        )
    }

    /// Reads the server's problem document.
    pub(crate) fn problem(status: u16, problem: Value) -> Self {
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let code = text("code").unwrap_or("unknown_answer").to_owned();
        let known = RejectionCode::parse(&code);
        let exit =
            known.map_or_else(|| exit_of_status(status), |code| Exit::of_class(code.class()));
        let detail =
            text("detail").or_else(|| text("title")).unwrap_or("no reason given").to_owned();
        let shown = match text("reason") {
            Some(reason) => format!("{code} ({reason})"),
            None => code,
        };
        let advice = known
            .map(|code| verb_of(code).unwrap_or_else(|| code.advice().text()))
            .or_else(|| text("advice"));
        let next = advice.unwrap_or("read the answer; `-o json` shows all of it").to_owned();
        let notes = notes_of(&problem);
        Self { exit, code: shown, reason: detail, notes, next, problem: Some(Box::new(problem)) }
    }

    /// Returns the failure as JSON: the server's document, or one of the same members.
    pub(crate) fn to_json(&self) -> Value {
        let document = self.problem.as_deref().and_then(Value::as_object);
        let mut members = document.cloned().unwrap_or_else(Map::new);
        members.entry("code").or_insert_with(|| self.code.clone().into());
        members.entry("detail").or_insert_with(|| self.reason.clone().into());
        members.entry("next").or_insert_with(|| self.next.clone().into());
        members.entry("exit").or_insert_with(|| (self.exit as u8).into());
        Value::Object(members)
    }
}

/// Returns the verb that leads on from a refusal, where there is one.
const fn verb_of(code: RejectionCode) -> Option<&'static str> {
    match code {
        RejectionCode::UnknownDefinition => Some(
            "`statehouse definition list` shows what there is; `definition deploy FILE` adds one",
        ),
        RejectionCode::UnknownInstance => {
            Some("`statehouse instance list --all` shows what there is")
        }
        RejectionCode::UnknownTenant => {
            Some("--tenant names one that the token may use; `statehouse tenant list` shows them")
        }
        RejectionCode::AlreadyExists => {
            Some("look at what is there (`statehouse instance get ID`), or choose another name")
        }
        RejectionCode::UnknownEvent | RejectionCode::NotHandled | RejectionCode::GuardRefused => {
            Some("`statehouse instance explain ID` says what it takes now, and why")
        }
        RejectionCode::VersionConflict => {
            Some("read it again (`statehouse instance get ID`), decide anew, and use a new key")
        }
        _ => None,
    }
}

/// The text for a terminal.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}", self.code, self.reason)?;
        self.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))?;
        write!(f, "\n  next: {}", self.next)
    }
}

// For answers without one of our codes, such as a proxy's.
const fn exit_of_status(status: u16) -> Exit {
    match status {
        404 | 410 => Exit::Missing,
        409 | 412 => Exit::Conflict,
        400..=499 => Exit::Rejected,
        502..=504 => Exit::Unavailable,
        _ => Exit::Broken,
    }
}

fn notes_of(problem: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    let names = |name: &str| {
        let list = problem.get(name).and_then(Value::as_array)?;
        Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
    };
    if let Some(version) = problem.get("version").and_then(Value::as_u64) {
        let place = names("configuration").unwrap_or_default();
        notes.push(format!("judged at version {version} in [{place}]"));
    }
    if let Some(accepts) = names("accepts").filter(|list| !list.is_empty()) {
        notes.push(format!("accepts now: {accepts}"));
    }
    let rows = |name: &str| problem.get(name).and_then(Value::as_array).into_iter().flatten();
    for violation in rows("violations") {
        let part = |name: &str| violation.get(name).and_then(Value::as_str).unwrap_or_default();
        let pointer = Some(part("pointer")).filter(|text| !text.is_empty()).unwrap_or("/");
        notes.push(format!("at {pointer}: {}", part("message")));
    }
    for finding in rows("findings") {
        notes.push(super::definition::check::line_of(finding));
    }
    if let Some(ms) = problem.get("retry_after_ms").and_then(Value::as_u64) {
        notes.push(format!("retry after {ms} ms"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_becomes_three_things_a_person_needs() {
        let problem = serde_json::json!({
            "code": "rejected", "detail": "Another person has to approve.", "reason": "self_approval",
            "version": 3, "configuration": ["waiting"], "accepts": ["approve", "decline"],
        });
        let failure = Failure::problem(409, problem);
        expect_test::expect![[r#"
            error: rejected (self_approval): Another person has to approve.
              judged at version 3 in [waiting]
              accepts now: approve, decline
              next: after the instance has changed, send a new command with a new key"#]]
        .assert_eq(&failure.to_string());
        assert_eq!(failure.exit, Exit::Rejected);
    }

    #[test]
    fn every_rejection_code_has_an_exit_code_that_fits_its_status() {
        for code in RejectionCode::ALL {
            let exit = Exit::of_class(code.class());
            match code.status() {
                404 | 410 => assert_eq!(exit, Exit::Missing, "{code}"),
                429 | 503 | 504 => assert_eq!(exit, Exit::Unavailable, "{code}"),
                500 => assert_eq!(exit, Exit::Broken, "{code}"),
                _ => assert!(matches!(exit, Exit::Rejected | Exit::Conflict), "{code}"),
            }
        }
    }

    #[test]
    fn the_readme_lists_every_exit_code() {
        let readme = include_str!("../../../../README.md");
        for (exit, meaning) in Exit::ALL {
            let row = format!("| {} | {meaning} |", exit as u8);
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
    }
}
