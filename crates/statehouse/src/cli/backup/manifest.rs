//! `manifest.json`: what a backup is, written last.
//!
//! It names every file with its length, fingerprint and standing. A directory without it is no backup, whatever else lies
//! there; one of a newer format is refused before anything in it is believed.
//!
//! Deliberately absent: anything secret, and anything that a copy says better itself.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::cli::exit::{Exit, Failure};

/// The format that this build writes and reads.
pub(crate) const FORMAT: u32 = 1;

const FILE: &str = "manifest.json";

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The format of this page.
    pub(crate) format: u32,
    /// When it was finished.
    pub(crate) made_at: String,
    /// By which program.
    pub(crate) made_by: String,
    /// The cluster's name, if it had one.
    pub(crate) cluster: Option<String>,
    /// How long all of it took.
    pub(crate) took_ms: u64,
    /// The copies, by shard, none missing.
    pub(crate) shards: Vec<ShardFile>,
}

/// The copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardFile {
    /// The shard.
    pub(crate) shard: u32,
    /// The name of its file.
    pub(crate) file: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// The BLAKE3 of its bytes.
    pub(crate) digest: String,
    /// The position up to which everything is in it.
    pub(crate) position: u64,
    /// The term of that entry.
    pub(crate) term: u64,
    /// The feature level of its entries.
    pub(crate) level: u32,
    /// The node that gave it.
    pub(crate) node: String,
    /// How long it took.
    pub(crate) took_ms: u64,
}

impl ShardFile {
    /// Returns the name of a shard's file.
    pub(crate) fn name(shard: u32) -> String {
        format!("shard-{shard}.db")
    }
}

/// The one member that every format has.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl Manifest {
    /// Returns how many bytes the copies have together.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|file| file.bytes).sum()
    }

    /// Writes the page so that it is whole or not there, after everything else in the directory is.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(FILE);
        let draft = dir.join(format!("{FILE}.part"));
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::broken(format!("cannot write the manifest: {error}")))?;
        text.push('\n');
        let write = || {
            File::open(dir)?.sync_all()?;
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error| Failure::file("write", &path, &error))
    }

    /// Reads the page of a backup.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::new(
                    Exit::Rejected,
                    "no_backup",
                    format!(
                        "{} has no {FILE}: it is no backup, or one that broke off",
                        dir.display()
                    ),
                    "make another one: `statehouse cluster backup DIR` with a new directory",
                ));
            }
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        let odd = |why: String| damaged(&format!("{}: {why}", path.display()));
        let form: Form = serde_json::from_slice(&bytes)
            .map_err(|error| odd(format!("cannot be read: {error}")))?;
        if form.format != FORMAT {
            return Err(Failure::new(
                Exit::Rejected,
                "other_format",
                format!(
                    "{} has format {}, this build knows format {FORMAT}",
                    path.display(),
                    form.format
                ),
                "use the release that made it, or a newer one",
            ));
        }
        let read: Self = serde_json::from_slice(&bytes)
            .map_err(|error| odd(format!("cannot be read: {error}")))?;
        let is_row = |(place, file): (u32, &ShardFile)| {
            file.shard == place && file.file == ShardFile::name(place)
        };
        if read.shards.is_empty() || !(0..).zip(&read.shards).all(is_row) {
            return Err(odd("does not list the shards from 0 on, one after the other".to_owned()));
        }
        Ok(read)
    }
}

/// Makes the failure of a backup that must not be used.
pub(crate) fn damaged(what: &str) -> Failure {
    Failure::new(
        Exit::Rejected,
        "damaged_backup",
        what,
        "take another backup; this one is not whole, and restoring it would lose what was acknowledged",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |shard| ShardFile {
            shard,
            file: ShardFile::name(shard),
            bytes: 7,
            digest: "00".repeat(32),
            position: 3,
            term: 1,
            level: 1,
            node: "n1.1".to_owned(),
            took_ms: 2,
        };
        Manifest {
            format: FORMAT,
            made_at: "2026-01-01T00:00:00Z".to_owned(),
            made_by: "statehouse 0.1.0".to_owned(),
            cluster: None,
            took_ms: 5,
            shards: vec![file(0), file(1)],
        }
    }

    /// What a changed page is refused with.
    fn refused(change: impl FnOnce(String) -> String) -> String {
        let folder = tempfile::tempdir().unwrap();
        manifest().write(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        let text = change(fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        let no = Manifest::read(folder.path()).unwrap_err();
        assert_eq!(no.exit, Exit::Rejected);
        let place = format!("{}/", folder.path().display());
        format!("{}: {}", no.code, no.reason.replace(&place, ""))
    }

    #[test]
    fn a_manifest_is_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        manifest().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());
        assert_eq!(manifest().bytes(), 14);
    }

    #[test]
    fn a_directory_without_a_manifest_is_no_backup() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap_err().code, "no_backup");
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        // A later release may know members of which this one knows nothing.
        let newer = refused(|_| r#"{"format": 2, "more": true}"#.to_owned());
        assert_eq!(newer, "other_format: manifest.json has format 2, this build knows format 1");
        let cut = refused(|text| text[..text.len() / 2].to_owned());
        assert!(cut.starts_with("damaged_backup: manifest.json: cannot be read"), "{cut}");
        let more = refused(|text| text.replacen("\"took_ms\"", "\"tock_ms\"", 1));
        assert!(more.starts_with("damaged_backup: manifest.json: cannot be read"), "{more}");
    }

    #[test]
    fn a_shard_that_is_left_out_or_lies_elsewhere_is_damage() {
        let gap = refused(|text| text.replace("\"shard\": 1", "\"shard\": 2"));
        assert!(gap.contains("does not list the shards"), "{gap}");
        let elsewhere = refused(|text| text.replace("shard-1.db", "../shard-1.db"));
        assert!(elsewhere.contains("does not list the shards"), "{elsewhere}");
    }
}
