//! Which deliberate bug this process has: none, unless a test asked a debug build for one.
//!
//! `STATEHOUSE_MUTANT` names a bug of `statehouse_contract::mutant`, so that the fault lab can prove that it catches it. A
//! build without such bugs refuses to start when it sees the variable: a run that believes it tests a bug and tests none
//! would be worse than no run.
//!
//! The variable is read here, once, before a node opens anything. Absent on purpose: a setting. A configuration outlives the
//! test that wrote it.

use std::ffi::OsString;

use statehouse_contract::mutant::{self, ChooseError, Mutant};

use crate::cli::exit::Failure;

/// The variable with the name of the bug.
const VARIABLE: &str = "STATEHOUSE_MUTANT";

/// Chooses this process's bug, if it was asked for one.
///
/// # Errors
/// The variable is set in a build without deliberate bugs, or names none.
pub(crate) fn of_process() -> Result<(), Failure> {
    let asked = std::env::var_os(VARIABLE).map(OsString::into_string);
    // What is no text is no name either; it is shown as it can be shown.
    let asked = asked.map(|asked| asked.unwrap_or_else(|odd| odd.to_string_lossy().into_owned()));
    mutant::choose(asked.as_deref()).map(drop).map_err(|error| refused(&error))
}

/// Says loudly, in the log of a node, that nothing here may be trusted.
pub(crate) fn announce() {
    if let Some(active) = mutant::chosen() {
        tracing::warn!(
            mutant = active.name(),
            breaks = active.breaks(),
            "this node misbehaves on purpose: a deliberate bug is active, trust nothing that it says or stores"
        );
    }
}

fn refused(error: &ChooseError) -> Failure {
    let what = match error {
        ChooseError::NotCompiledIn(name) => format!(
            "{VARIABLE} is {name:?}, and this build has no deliberate bugs: it is a release build, or built without the \
             feature `mutants`"
        ),
        ChooseError::Unknown(name) => format!("{VARIABLE} is {name:?}, which is no deliberate bug"),
        ChooseError::ChosenBefore => {
            format!("{VARIABLE} is read twice, and this process has another deliberate bug already")
        }
    };
    let next = match error {
        ChooseError::NotCompiledIn(_) => {
            format!(
                "unset {VARIABLE}: it is a hook for the fault lab, whose debug builds have the feature"
            )
        }
        ChooseError::Unknown(_) => {
            let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
            format!("unset it, or set it to one of {}", names.join(", "))
        }
        ChooseError::ChosenBefore => "start a new process for each bug".to_owned(),
    };
    Failure::usage(what, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_deliberate_bugs_says_why_it_does_not_start() {
        let failure = refused(&ChooseError::NotCompiledIn("timer-early".to_owned()));
        expect_test::expect![[r#"
            error: usage: STATEHOUSE_MUTANT is "timer-early", and this build has no deliberate bugs: it is a release build, or built without the feature `mutants`
              next: unset STATEHOUSE_MUTANT: it is a hook for the fault lab, whose debug builds have the feature"#]]
        .assert_eq(&failure.to_string());
    }

    #[test]
    fn a_name_that_is_none_is_answered_with_those_that_are() {
        let told = refused(&ChooseError::Unknown("timer-late".to_owned())).to_string();
        assert!(told.contains("\"timer-late\", which is no deliberate bug"), "{told}");
        assert!(Mutant::ALL.iter().all(|mutant| told.contains(mutant.name())), "{told}");
    }
}
