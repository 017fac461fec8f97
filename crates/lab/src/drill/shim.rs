//! The storage and clock shim of a node: how it is built, started with, set while the node runs, and read after a kill.
//!
//! `shim/shim.c` is compiled by the system's C compiler into the drill's folder and preloaded into the real binary: the
//! node under test is the node that users run. Settings are words of a file that the shim has mapped, so a change is felt
//! by the next call.
//!
//! Deliberately absent: Windows and macOS. A drill that needs the shim says so where it cannot be built.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::DrillError;

const SOURCE: &str = include_str!("../../shim/shim.c");
/// Words of the settings, in the order of `struct settings`.
const WORDS: usize = 6;

/// A setting, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Milliseconds that a sync takes longer.
    SyncDelayMs = 0,
    /// Whether syncs fail.
    SyncError = 1,
    /// Milliseconds that the wall clock is ahead.
    ClockMs = 2,
    /// Whether the undo journal is kept; set before the node starts.
    Record = 3,
}

/// A shim for one node.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    library: PathBuf,
    folder: PathBuf,
    watched: PathBuf,
}

impl Shim {
    /// Builds the shim in a folder and prepares it for a node with this directory.
    pub(crate) fn build(folder: &Path, node: u32, watched: &Path) -> Result<Self, DrillError> {
        let own = folder.join(format!("node-{node}"));
        fs::create_dir_all(&own).map_err(|source| DrillError::file(&own, source))?;
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        if !library.exists() {
            fs::write(&source, SOURCE).map_err(|error| DrillError::file(&source, error))?;
            let line = ["-O2", "-fPIC", "-shared", "-o"];
            let built =
                Command::new("cc").args(line).arg(&library).arg(&source).arg("-ldl").output();
            let built = built.map_err(|error| {
                DrillError::NotHere(format!(
                    "this drill preloads a shim, which needs a C compiler (cc): {error}"
                ))
            })?;
            if !built.status.success() {
                let said = String::from_utf8_lossy(&built.stderr).into_owned();
                return Err(DrillError::NotHere(format!("the shim cannot be built here: {said}")));
            }
        }
        // What the system calls the files that the node opens.
        let watched =
            fs::canonicalize(watched).map_err(|source| DrillError::file(watched, source))?;
        let shim = Self { library, folder: own, watched };
        let control = shim.control();
        fs::write(&control, [0; WORDS * 8]).map_err(|source| DrillError::file(&control, source))?;
        Ok(shim)
    }

    /// Returns the variables with which the node is started.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("STATEHOUSE_SHIM".to_owned(), text(&self.folder)),
            ("STATEHOUSE_SHIM_WATCH".to_owned(), format!("{}/", text(&self.watched))),
        ]
    }

    /// Changes a setting; the node's next call feels it.
    pub(crate) fn set(&self, setting: Setting, value: i64) -> Result<(), DrillError> {
        let path = self.control();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.write_all_at(&value.to_ne_bytes(), setting as u64 * 8))
            .map_err(|source| DrillError::file(&path, source))
    }

    /// Returns the undo journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control")
    }
}
