//! A copy of a shard that leaves the node, and a shard that begins with such a copy.
//!
//! A copy that leaves is built like a snapshot, beside the writer, and loses its name as soon as it is open: whoever reads
//! it has a file that nobody can exchange or remove, and a crash frees its space. It is never put among the node's own
//! snapshots, so a backup changes nothing about what the log keeps.
//!
//! A copy that came back is looked at from end to end: fingerprint, pages, schema, level, every row (`audit`). Adopting one
//! makes it the state file of a shard and exchanges the log's mark, which names members of a cluster that is gone. The
//! rows stay as they are: who is a member is said by entries, as everything is.
//!
//! Deliberately absent: the manifest, and which shards belong together. Whoever makes a backup knows that.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rusqlite::{Connection, TransactionBehavior};

use statehouse_contract::{Build, Digest, ShardId};

use crate::{
    audit::{AuditFinding, audit},
    catalog::{self, DocumentRow, Kind},
    error::{Fault, StoreError},
    meta::Meta,
    node_dir::{NodeDir, sync_directory},
    opening::{check_format, check_level, checkpoint, connect, ready},
    shard_snapshot::{check_snapshot, install_closed, remove_if_there, sync_file},
    view::View,
};

/// A copy of a shard without a name: it lasts as long as it is open.
#[derive(Debug)]
pub struct LooseCopy {
    /// Its bytes, from the beginning.
    pub file: File,
    /// Where its rows stand.
    pub meta: Meta,
    /// Its size.
    pub bytes: u64,
    /// Its fingerprint.
    pub hash: Digest,
}

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Where its rows stand.
    pub meta: Meta,
    /// How many rows of history it has.
    pub entries: u64,
    /// The names of all members that there ever were; only shard 0 has any.
    pub members: Vec<Box<str>>,
    /// Everything that should not be so.
    pub findings: Vec<AuditFinding>,
}

impl View {
    /// Builds a copy of the shard that belongs to nobody but the caller. Takes long; one at a time for each shard.
    ///
    /// # Errors
    /// [`StoreError::StorageFull`] when there is no room for it; whatever was written is removed then.
    pub fn build_copy(&self) -> Result<LooseCopy, StoreError> {
        let shared = self.shared();
        let building = shared.dir.snapshots().join(format!("copying-{}.tmp", shared.shard));
        let mut opened = None;
        // Not synced: no crash leaves anybody who would read it.
        let found = self.build_checked(&building, |path| {
            let file = File::open(path).map_err(|error| StoreError::io("open", path, error))?;
            opened = Some(file);
            remove_if_there(path)
        })?;
        let file = opened.ok_or_else(|| StoreError::Closed { path: building })?;
        Ok(LooseCopy { file, meta: found.meta, bytes: found.bytes, hash: found.hash })
    }
}

/// Looks at a copy from end to end. Takes long; nobody may write the file meanwhile.
///
/// # Errors
/// [`StoreError::Snapshot`] when it is not what was announced, [`StoreError::Corrupt`] when it is damaged so that it cannot
/// be read at all, [`StoreError::Format`] and [`StoreError::Level`] when a newer build wrote it.
pub fn examine_copy(
    path: &Path,
    shard: ShardId,
    announced: Digest,
    build: Build,
) -> Result<Examined, StoreError> {
    let at = |fault: Fault| fault.at(path, "examine a copy");
    // The form first: what a newer build wrote is not damaged.
    check_format(&connect(path, false).map_err(at)?, path)?;
    let found = check_snapshot(path, shard, Some(announced))?;
    check_level(&found.meta, path, build)?;
    let look = || {
        let connection = connect(path, false)?;
        let findings = audit(&connection, &found.meta)?;
        let members: Vec<DocumentRow> = catalog::list(&connection, Kind::Member, None)?;
        let members = members.into_iter().map(|row| row.name).collect();
        Ok((findings, members, entries(&connection)?))
    };
    let (findings, members, entries) = look().map_err(at)?;
    Ok(Examined { meta: found.meta, entries, members, findings })
}

fn entries(connection: &Connection) -> Result<u64, Fault> {
    Ok(connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0))?)
}

/// Makes a copy the state file of a shard that nobody has open, with another mark. The copy itself is left alone.
///
/// # Errors
/// As [`install_closed`]; a shard that was adopted half way is adopted again from the beginning.
pub fn adopt(
    dir: &NodeDir,
    shard: ShardId,
    copy: &Path,
    announced: Digest,
    mark: &[u8],
    build: Build,
) -> Result<(), StoreError> {
    let own = dir.path().join(format!("adopting-{shard}.tmp"));
    remove_if_there(&own)?;
    fs::copy(copy, &own).map_err(|error| StoreError::io("copy", &own, error))?;
    sync_file(&own)?;
    install_closed(dir, shard, &own, announced, build)?;
    let path = dir.state_file(shard);
    let at = |fault: Fault| fault.at(&path, "adopt a copy");
    let mut connection = connect(&path, true).map_err(at)?;
    let meta = ready(&mut connection, &path, shard, build)?;
    let save = |connection: &mut Connection| -> Result<bool, Fault> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Meta { mark: mark.to_vec(), ..meta }.save(&transaction)?;
        transaction.commit()?;
        checkpoint(connection, "TRUNCATE")
    };
    if !save(&mut connection).map_err(at)? {
        let held = io::Error::other("somebody else has the file open");
        return Err(StoreError::io("write back", &path, held));
    }
    sync_directory(dir.path())
}
