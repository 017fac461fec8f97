//! A copy of a whole shard: built beside the writer, checked, named after its position; and put in place of a file.
//!
//! Building: `VACUUM INTO` a temporary file (one read transaction, so one position), read the position from the result,
//! check every page and sum, hash, sync the file, rename, sync the directory. A crash leaves a temporary file that the
//! next build removes.
//!
//! Installing: the caller first notes durably that it installs (`contract.md`, section 13) and finishes it at the next
//! start if it does not get to the end. Then: check and sync the copy, close everything, remove `-wal` and `-shm`, sync the
//! directory, rename, sync the directory, open under a new generation. At every step either the old file is whole, or the
//! copy is still under its own name and the note says so, or the new file is whole.
//!
//! Deliberately absent: sending, keeping, and deciding when. The log does that.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use rusqlite::{Connection, params};

use statehouse_contract::{
    Build, Digest, ShardId,
    mutant::{self, Mutant},
};

use crate::{
    error::{Fault, StoreError},
    instances,
    meta::Meta,
    node_dir::{NodeDir, sync_directory},
    opening::{Verify, check_level, connect, inspect},
    schema,
    state_file::{Open, Store},
    view::{self, View},
};

/// A finished copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Where its rows stand: position, term, and the log's own mark.
    pub meta: Meta,
    /// Its size.
    pub bytes: u64,
    /// Its fingerprint.
    pub hash: Digest,
}

impl View {
    /// Builds a copy of the shard in the directory of snapshots, where whoever keeps it gives it a name. Takes long; run it
    /// where waiting hurts nobody, one at a time for each shard.
    ///
    /// # Errors
    /// [`StoreError::StorageFull`] when there is no room for it; whatever was written is removed then.
    pub fn build_snapshot(&self) -> Result<SnapshotFile, StoreError> {
        let shared = self.shared();
        let directory = shared.dir.snapshots();
        let building = directory.join(format!("building-{}.tmp", shared.shard));
        let found = self.build_checked(&building, sync_file)?;
        let path = directory.join(format!("built-{}.tmp", shared.shard));
        rename(&building, &path)?;
        sync_directory(&directory)?;
        Ok(SnapshotFile { path, ..found })
    }

    /// Builds a copy under a name of its own, checks it, and hands it to `then`; whatever fails leaves nothing behind.
    pub(crate) fn build_checked(
        &self,
        building: &Path,
        then: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<SnapshotFile, StoreError> {
        remove_if_there(building)?;
        let built = self.build_at(building).and_then(|()| {
            let found = check_snapshot(building, self.shared().shard, None)?;
            then(building)?;
            Ok(found)
        });
        built.inspect_err(|_| {
            // What was wrong is told; a rest that cannot be removed now is removed by the next build.
            let _ = remove_if_there(building);
        })
    }

    fn build_at(&self, building: &Path) -> Result<(), StoreError> {
        let shared = self.shared();
        self.check_generation()?;
        let at = |fault: Fault| fault.at(building, "build a snapshot");
        let connection = connect(&shared.path, false).map_err(at)?;
        // A read-only file may be copied; only statements that would change *it* are refused.
        connection.pragma_update(None, "query_only", false).map_err(|error| at(error.into()))?;
        let target = building.to_string_lossy();
        connection.execute("VACUUM INTO ?1", params![target]).map_err(|error| at(error.into()))?;
        if mutant::is(Mutant::SnapshotWithoutReceipts) {
            let copy = Connection::open(building).map_err(|error| at(error.into()))?;
            instances::forget_all_keys(&copy).map_err(at)?;
        }
        Ok(())
    }
}

/// Reads and checks a copy from end to end: its hash if one was announced, its schema, its shard, every page and sum.
///
/// # Errors
/// [`StoreError::Snapshot`] when it is not what was announced, [`StoreError::Corrupt`] when it is damaged.
pub fn check_snapshot(
    path: &Path,
    shard: ShardId,
    announced: Option<Digest>,
) -> Result<SnapshotFile, StoreError> {
    let (hash, bytes) = hash_file(path)?;
    let wrong = |what: String| StoreError::Snapshot { path: path.to_owned(), what };
    if let Some(expected) = announced.filter(|expected| *expected != hash) {
        return Err(wrong(format!("hash {hash}, expected {expected}")));
    }
    let look = || {
        let connection = connect(path, false)?;
        schema::check(&connection)?;
        let meta = Meta::read(&connection)?;
        inspect(&connection, &meta, Verify::Pages, path)?;
        view::compare_table(&connection)?;
        Ok(meta)
    };
    let meta = look().map_err(|fault: Fault| fault.at(path, "check a snapshot"))?;
    if meta.shard != shard {
        return Err(wrong(format!("belongs to shard {}, expected {shard}", meta.shard)));
    }
    Ok(SnapshotFile { path: path.to_owned(), meta, bytes, hash })
}

/// Puts a copy in place of a shard's file, which nobody has open: at start, to finish an install that was noted.
///
/// # Errors
/// As [`check_snapshot`], and [`StoreError::Level`] when a newer build wrote it; nothing was changed then.
pub fn install_closed(
    dir: &NodeDir,
    shard: ShardId,
    copy: &Path,
    announced: Digest,
    build: Build,
) -> Result<Meta, StoreError> {
    let found = check_snapshot(copy, shard, Some(announced))?;
    check_level(&found.meta, copy, build)?;
    swap(dir, shard, copy)?;
    Ok(found.meta)
}

impl Store {
    /// Puts a copy in place of this shard's file. The copy is used up. Every view of before ends.
    ///
    /// # Errors
    /// As [`check_snapshot`], and [`StoreError::Level`] when a newer build wrote it, with nothing changed; after any later
    /// error the store is closed for good.
    pub fn install(&mut self, copy: &Path, announced: Digest) -> Result<(), StoreError> {
        let found = check_snapshot(copy, self.shared.shard, Some(announced))?;
        check_level(&found.meta, copy, self.shared.build)?;
        self.close();
        swap(&self.shared.dir, self.shared.shard, copy)?;
        let open = Open::new(&self.shared, Verify::Start)?;
        self.reopen(open);
        Ok(())
    }

    /// Ends every view and closes every connection.
    fn close(&mut self) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.synced.store(0, Ordering::Release);
        for slot in &self.shared.readers {
            *view::lock(slot) = None;
        }
        self.open = None;
    }
}

fn swap(dir: &NodeDir, shard: ShardId, copy: &Path) -> Result<(), StoreError> {
    let path = dir.state_file(shard);
    sync_file(copy)?;
    for suffix in ["-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        remove_if_there(Path::new(&name))?;
    }
    sync_directory(dir.path())?;
    rename(copy, &path)?;
    sync_directory(dir.path())
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::io("rename", from, error))
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn sync_file(path: &Path) -> Result<(), StoreError> {
    let file = File::options().write(true).open(path);
    file.and_then(|open| open.sync_all()).map_err(|error| StoreError::io("sync", path, error))
}

/// Returns the fingerprint and the size of a file.
///
/// # Errors
/// What the operating system says.
pub fn hash_file(path: &Path) -> Result<(Digest, u64), StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut bytes) = (blake3::Hasher::new(), 0u64);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Ok((Digest(*hash.finalize().as_bytes()), bytes));
        };
        hash.update(part);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_whose_install_failed_half_way_answers_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = NodeDir::open(dir.path()).unwrap();
        let mut store = Store::open(&data, ShardId(1), 1, Verify::Start, Build::THIS).unwrap();
        store.close();
        assert!(matches!(store.apply(&[], None), Err(StoreError::Closed { .. })));
        assert!(matches!(store.checkpoint(), Err(StoreError::Closed { .. })));
        assert!(matches!(store.view().meta(), Err(StoreError::Closed { .. })));
    }
}
