//! The real binary, built once a process.
//!
//! `cargo test` builds a package's binaries for that package's own tests only. A test that plays a whole story
//! with the real process asks here: cargo is called once, says where the binary is, and does nothing when it is
//! fresh. It is asked for a test of the whole workspace, not for a build of one package: only then are features and
//! development dependencies those of the README's test command, and nothing is compiled twice.
//!
//! Deliberately absent: starting it. Each story knows how it wants its process.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// Returns the path of the binary, freshly built.
///
/// # Panics
/// If it does not build: then no story can be told.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

/// Returns the root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package stands below the root")
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command.args(["test", "--workspace", "--test", "command_line", "--no-run"]);
    command.args(["--message-format", "json", "--quiet"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built =
        command.stderr(Stdio::inherit()).output().expect("cargo runs this test, so it is here");
    assert!(built.status.success(), "the binary does not build");
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_ours = message.pointer("/target/name")?.as_str()? == "statehouse"
            && message.pointer("/target/kind/0")?.as_str()? == "bin"
            && !message.pointer("/profile/test")?.as_bool()?;
        message.get("executable")?.as_str().filter(|_| is_ours).map(PathBuf::from)
    };
    messages
        .lines()
        .filter_map(executable)
        .next_back()
        .expect("cargo names the executable that it built")
}
