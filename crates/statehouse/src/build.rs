//! Which build this process is: what its sources know, or, in a debug build, what a test makes it claim.
//!
//! `STATEHOUSE_BUILD_LEVEL` is a hook for tests and rehearsals: two processes of one binary are an older and a newer build
//! by it, while there is only one. No release build takes it, because a node that claims to understand what it does not
//! would halt on the first entry that it cannot read.
//!
//! The variable is read here, once, and goes down as a value. Absent on purpose: a setting. A configuration travels from
//! one build to the next, and what a build knows does not.

use std::ffi::{OsStr, OsString};

use statehouse_contract::Build;

use crate::cli::exit::Failure;

/// The variable with the feature level that a debug build claims to know.
const VARIABLE: &str = "STATEHOUSE_BUILD_LEVEL";

/// Returns what this process knows.
///
/// # Errors
/// The variable is set in a release build, or holds no level.
pub(crate) fn of_process() -> Result<Build, Failure> {
    claimed(std::env::var_os(VARIABLE), cfg!(debug_assertions))
}

fn claimed(value: Option<OsString>, is_debug: bool) -> Result<Build, Failure> {
    let Some(value) = value else { return Ok(Build::THIS) };
    if !is_debug {
        return Err(Failure::usage(
            format!("{VARIABLE} is set, and this is a release build, which knows what it knows"),
            format!("unset {VARIABLE}: it is a hook for the tests of debug builds"),
        ));
    }
    match level(&value) {
        Some(level) => Ok(Build::rehearsed(level)),
        None => Err(Failure::usage(
            format!("{VARIABLE} is {:?}, which is no feature level", value.to_string_lossy()),
            format!("set it to a whole number from 1 to {}, or unset it", u16::MAX),
        )),
    }
}

fn level(value: &OsStr) -> Option<u16> {
    value.to_str()?.parse().ok().filter(|level| *level > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: Option<&str>, is_debug: bool) -> String {
        match claimed(value.map(Into::into), is_debug) {
            Ok(build) => format!("level {}, wire {}", build.level, build.wire),
            Err(failure) => format!("exit {}: {failure}", failure.exit as u8),
        }
    }

    #[test]
    fn a_debug_build_claims_what_it_is_told_and_a_release_build_refuses() {
        let this = format!("level {}, wire {}", Build::THIS.level, Build::THIS.wire);
        assert_eq!((said(None, true), said(None, false)), (this.clone(), this));
        let newer = format!("level 2, wire {}", Build::rehearsed(2).wire);
        assert_eq!(said(Some("2"), true), newer);
        expect_test::expect![[r#"
            exit 2: error: usage: STATEHOUSE_BUILD_LEVEL is set, and this is a release build, which knows what it knows
              next: unset STATEHOUSE_BUILD_LEVEL: it is a hook for the tests of debug builds"#]]
        .assert_eq(&said(Some("2"), false));
        for wrong in ["0", "", "two", "-1", "65536", "1.5", " 2"] {
            let told = said(Some(wrong), true);
            let expected = format!(
                "exit 2: error: usage: STATEHOUSE_BUILD_LEVEL is {wrong:?}, which is no feature level\n  next: set it to \
                 a whole number from 1 to 65535, or unset it"
            );
            assert_eq!(told, expected);
        }
    }
}
