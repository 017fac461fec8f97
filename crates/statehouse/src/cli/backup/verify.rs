//! `statehouse cluster verify DIR`: is a backup whole, and can this build read it.
//!
//! Every file is read twice: as bytes, against length and fingerprint, and as a shard, every page and every row, with all
//! laws of the audit. It needs no server and changes nothing.
//!
//! Deliberately absent: mercy. The first file that is not what the manifest says ends it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use statehouse_cluster::{Examined, examine};
use statehouse_contract::{Build, Digest, ShardId};

use super::manifest::{Manifest, ShardFile, damaged};
use crate::{
    cli::{
        exit::{Exit, Failure},
        output::{Output, items, text},
    },
    serve::chain,
};

/// Most findings that are shown.
const FINDINGS_SHOWN: usize = 8;

/// A backup that is whole.
pub(crate) struct Checked {
    /// Its page.
    pub(crate) manifest: Manifest,
    /// Its copies, by shard.
    pub(crate) copies: Vec<(PathBuf, Digest)>,
    /// What they hold.
    pub(crate) found: Vec<Examined>,
}

/// Runs `cluster verify`.
pub(crate) fn run(dir: &Path, output: Output, build: Build) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let checked = check(dir, build)?;
    let document = document(dir, &checked, begin);
    output.show(&document, |document| shown(output, document))?;
    Ok(Exit::Ok)
}

fn document(dir: &Path, checked: &Checked, begin: Instant) -> Value {
    let rows = checked.manifest.shards.iter().zip(&checked.found);
    let rows = rows.map(|(file, found)| {
        json!({
            "shard": file.shard, "bytes": file.bytes, "position": found.position, "term": found.term,
            "instances": found.instances, "entries": found.entries, "state": "whole",
        })
    });
    json!({
        "backup": dir.display().to_string(),
        "made_at": checked.manifest.made_at,
        "cluster": checked.manifest.cluster,
        "shards": rows.collect::<Vec<_>>(),
        "bytes": checked.manifest.bytes(),
        "took_ms": u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn shown(output: Output, document: &Value) -> String {
    let names = ["shard", "bytes", "position", "term", "instances", "entries", "state"];
    let rows = items(document, "shards").iter().map(|row| names.map(|name| text(row, name)));
    let pairs = output.pairs(&[
        ("backup", text(document, "backup")),
        ("made", text(document, "made_at")),
        ("cluster", text(document, "cluster")),
        ("took", format!("{} ms", text(document, "took_ms"))),
    ]);
    format!("{}\n\n{pairs}", output.table(names, rows.collect()))
}

/// Reads a backup from end to end.
pub(crate) fn check(dir: &Path, build: Build) -> Result<Checked, Failure> {
    let manifest = Manifest::read(dir)?;
    let (mut copies, mut found) = (Vec::new(), Vec::new());
    for file in &manifest.shards {
        let path = dir.join(&file.file);
        let digest = length_and_digest(file, &path)?;
        found.push(look(file, &path, digest, build)?);
        copies.push((path, digest));
    }
    Ok(Checked { manifest, copies, found })
}

fn length_and_digest(file: &ShardFile, path: &Path) -> Result<Digest, Failure> {
    let shown = path.display();
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(&format!("{shown} is missing")));
        }
        Err(error) => return Err(Failure::file("read", path, &error)),
    };
    if length != file.bytes {
        let bytes = file.bytes;
        return Err(damaged(&format!("{shown} has {length} bytes, the manifest says {bytes}")));
    }
    let parsed = blake3::Hash::from_hex(&file.digest);
    let parsed =
        parsed.map_err(|_| damaged(&format!("the manifest has no fingerprint of {shown}")))?;
    Ok(Digest(*parsed.as_bytes()))
}

fn look(file: &ShardFile, path: &Path, digest: Digest, build: Build) -> Result<Examined, Failure> {
    if file.level > u32::from(build.level) {
        let what = format!(
            "{} is at feature level {}, and this build knows levels up to {}",
            path.display(),
            file.level,
            build.level
        );
        let next = "use the release that made it, or a newer one; nothing is wrong with the backup";
        return Err(Failure::new(Exit::Conflict, "level", what, next));
    }
    // What the system refuses says nothing about the backup.
    fs::File::open(path).map_err(|error| Failure::file("read", path, &error))?;
    let found = examine(path, ShardId(file.shard), digest, build);
    let found = found.map_err(|error| damaged(&chain(&error)))?;
    if let Some(first) = found.findings.first() {
        let mut failure = damaged(&format!("{}: {first}", path.display()));
        failure.notes.extend(found.findings.iter().skip(1).take(FINDINGS_SHOWN).cloned());
        return Err(failure);
    }
    let told = (file.position, file.term, file.level);
    let stands = (found.position, found.term, u32::from(found.level));
    if told != stands {
        let what = format!(
            "{} is at position {} of term {} and level {}, the manifest says {}, {} and {}",
            path.display(),
            stands.0,
            stands.1,
            stands.2,
            told.0,
            told.1,
            told.2
        );
        return Err(damaged(&what));
    }
    Ok(found)
}
