//! The store's rows behind what the log needs of them, and where snapshots lie.
//!
//! A snapshot is a file and a seal beside it: fingerprint, size, position and mark, in a frame. The seal
//! is written last and synced; a file without one is a rest and is removed by the next build. So finding
//! the newest at a start costs a few hundred bytes, and the whole file is read and checked only when it
//! is put in place.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bincode::{Decode, Encode};

use statehouse_contract::{Build, Digest, ShardId, codec};
use statehouse_store::{Applied, Committed, NodeDir, Store, StoreError, Verify, View};

use crate::rows::{Rows, SnapshotFile, Snapshots, Standing};

/// Reading connections of a shard: as many as readers that can be on their way on two or four cores.
const READERS: usize = 4;
const SEAL: &str = "seal";

/// A shard's state file.
pub(crate) struct StoreRows {
    store: Store,
    shelf: Shelf,
}

impl StoreRows {
    /// Opens the state file of a shard. Blocks.
    pub(crate) fn open(data: &NodeDir, shard: ShardId, build: Build) -> Result<Self, StoreError> {
        let store = Store::open(data, shard, READERS, Verify::Start, build)?;
        let shelf = Shelf { data: data.clone(), folder: data.snapshots(), shard };
        shelf.clear()?;
        Ok(Self { store, shelf })
    }
}

impl Rows for StoreRows {
    fn standing(&self) -> Result<Standing, StoreError> {
        let meta = self.store.meta();
        Ok(Standing { applied: meta.applied, mark: meta.mark.clone() })
    }

    fn apply(&mut self, batch: &[Committed<'_>], mark: &[u8]) -> Result<Vec<Applied>, StoreError> {
        self.store.apply(batch, Some(mark))
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        Box::new(StoreSnapshots { view: self.store.view(), shelf: self.shelf.clone() })
    }

    fn install(&mut self, snapshot: &SnapshotFile) -> Result<(), StoreError> {
        // Sealed first, so that a start finds it again if this one does not get to the end. The store
        // uses its copy up; the snapshot stays for the next replica that is behind.
        let sealed = self.shelf.put(snapshot)?;
        let copy = self.shelf.copy(&sealed, snapshot.bytes)?;
        self.store.install(&copy, snapshot.hash)
    }

    fn synced(&self) -> Option<u64> {
        self.store.synced_position()
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.checkpoint()
    }

    fn view(&self) -> Option<View> {
        Some(self.store.view())
    }
}

struct StoreSnapshots {
    view: View,
    shelf: Shelf,
}

impl Snapshots for StoreSnapshots {
    fn build(&self) -> Result<SnapshotFile, StoreError> {
        let built = self.view.build_snapshot()?;
        let standing = Standing { applied: built.meta.applied, mark: built.meta.mark };
        let file =
            SnapshotFile { path: built.path, bytes: built.bytes, hash: built.hash, standing };
        // A copy from the leader may have come in meanwhile.
        if let Some(newer) =
            self.newest()?.filter(|known| known.standing.applied > file.standing.applied)
        {
            self.shelf.remove(&file.path)?;
            return Ok(newer);
        }
        let path = self.shelf.put(&file)?;
        Ok(SnapshotFile { path, ..file })
    }

    fn newest(&self) -> Result<Option<SnapshotFile>, StoreError> {
        Ok(self.shelf.sealed()?.into_iter().max_by_key(|file| file.standing.applied))
    }
}

/// The form of a seal.
#[derive(Encode, Decode)]
struct Seal {
    shard: ShardId,
    hash: Digest,
    bytes: u64,
    applied: Option<u64>,
    mark: Vec<u8>,
}

/// Where the snapshots of one shard lie.
#[derive(Clone, Debug)]
struct Shelf {
    data: NodeDir,
    folder: PathBuf,
    shard: ShardId,
}

impl Shelf {
    /// Seals a finished snapshot, under its own name, which it returns, and removes the older ones. Doing it again changes
    /// nothing.
    fn put(&self, file: &SnapshotFile) -> Result<PathBuf, StoreError> {
        let position = file.standing.applied.unwrap_or_default();
        let path = self.folder.join(format!("{}{position}.db", self.prefix()));
        let sealed = path.with_extension(SEAL);
        if file.path != path && file.path.exists() {
            // A seal of another file at the same position must not be found beside this one.
            self.remove(&sealed)?;
            fs::rename(&file.path, &path).map_err(|e| StoreError::io("rename", &path, e))?;
        }
        let seal = Seal {
            shard: self.shard,
            hash: file.hash,
            bytes: file.bytes,
            applied: file.standing.applied,
            mark: file.standing.mark.clone(),
        };
        let frame = codec::encode(&seal).expect("a seal is far below the limit of a frame");
        write_synced(&sealed, &frame).map_err(|e| StoreError::io("write", &sealed, e))?;
        for old in self.files()?.into_iter().filter(|file| self.position(file) < Some(position)) {
            // A rest that cannot be removed now is removed by the next build.
            let _ = fs::remove_file(old);
        }
        Ok(path)
    }

    /// Copies a sealed snapshot for the store, which uses its copy up; where there is no room, nothing is left behind.
    fn copy(&self, sealed: &Path, bytes: u64) -> Result<PathBuf, StoreError> {
        let copy = self.folder.join(format!("installing-{}.tmp", self.shard));
        self.remove(&copy)?;
        if self.data.free_bytes()? < bytes {
            return Err(StoreError::StorageFull { path: copy });
        }
        match fs::copy(sealed, &copy) {
            Ok(_) => Ok(copy),
            Err(error) => {
                self.remove(&copy)?;
                Err(StoreError::io("copy", &copy, error))
            }
        }
    }

    /// Removes what was under way when the process ended.
    fn clear(&self) -> Result<(), StoreError> {
        let rests =
            ["building", "built", "installing"].map(|rest| format!("{rest}-{}.tmp", self.shard));
        let incoming = format!("incoming-{}-", self.shard);
        for path in self.listed()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if rests.iter().any(|rest| rest == name) || name.starts_with(&incoming) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn prefix(&self) -> String {
        format!("state-{}-", self.shard)
    }

    /// Returns the position in the name of a snapshot or its seal; nothing for any other file.
    fn position(&self, path: &Path) -> Option<u64> {
        let name = path.file_stem().and_then(|name| name.to_str())?;
        name.strip_prefix(&self.prefix())?.parse().ok()
    }

    fn listed(&self) -> Result<Vec<PathBuf>, StoreError> {
        let failed = |source| StoreError::io("list", &self.folder, source);
        let entries = fs::read_dir(&self.folder).map_err(failed)?;
        entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
    }

    /// Returns the snapshots of this shard and their seals.
    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let files = self.listed()?.into_iter();
        Ok(files.filter(|path| self.position(path).is_some()).collect())
    }

    /// Returns the snapshots that are whole, as far as their seals and sizes tell.
    fn sealed(&self) -> Result<Vec<SnapshotFile>, StoreError> {
        let mut found = Vec::new();
        for path in self.files()?.into_iter().filter(|path| path.extension() == Some(SEAL.as_ref()))
        {
            let Ok(frame) = fs::read(&path) else { continue };
            let Ok(seal) = codec::decode::<Seal>(&frame) else { continue };
            let path = path.with_extension("db");
            let bytes = fs::metadata(&path).map_or(0, |file| file.len());
            if bytes == seal.bytes && seal.shard == self.shard {
                let standing = Standing { applied: seal.applied, mark: seal.mark };
                found.push(SnapshotFile { path, bytes, hash: seal.hash, standing });
            }
        }
        Ok(found)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(data: &NodeDir) -> Shelf {
        Shelf { data: data.clone(), folder: data.snapshots(), shard: ShardId(3) }
    }

    fn file(folder: &Path, name: &str, applied: u64) -> SnapshotFile {
        let path = folder.join(name);
        fs::write(&path, name).unwrap();
        let standing = Standing { applied: Some(applied), mark: Vec::new() };
        SnapshotFile { path, bytes: name.len() as u64, hash: Digest::of(name.as_bytes()), standing }
    }

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_older_snapshot_that_is_finished_late_takes_no_newer_one_away() {
        let folder = tempfile::tempdir().unwrap();
        let data = NodeDir::open(folder.path()).unwrap();
        let shelf = shelf(&data);
        let newer = file(&data.snapshots(), "incoming-3-part-abc", 200);
        let kept = shelf.put(&newer).unwrap();
        assert_eq!(shelf.put(&newer).unwrap(), kept, "again is the same");
        shelf.put(&file(&data.snapshots(), "built-3.tmp", 100)).unwrap();
        assert!(kept.exists());
        shelf.put(&file(&data.snapshots(), "built-3.tmp", 300)).unwrap();
        assert_eq!(names(&data.snapshots()), ["state-3-300.db", "state-3-300.seal"]);
    }

    #[test]
    fn what_was_under_way_is_cleared_and_that_of_other_shards_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let data = NodeDir::open(folder.path()).unwrap();
        let rests = ["incoming-3-part", "incoming-3-part-abc", "built-3.tmp", "installing-3.tmp"];
        for name in rests.into_iter().chain(["incoming-31-part", "built-33.tmp", "state-3-9.db"]) {
            file(&data.snapshots(), name, 1);
        }
        shelf(&data).clear().unwrap();
        assert_eq!(names(&data.snapshots()), ["built-33.tmp", "incoming-31-part", "state-3-9.db"]);
    }

    #[test]
    fn a_copy_for_which_there_is_no_room_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let data = NodeDir::open(folder.path()).unwrap();
        let sealed = file(&data.snapshots(), "state-3-9.db", 9);
        let full = shelf(&data).copy(&sealed.path, u64::MAX).unwrap_err();
        assert!(matches!(full, StoreError::StorageFull { .. }), "{full}");
        assert_eq!(names(&data.snapshots()), ["state-3-9.db"]);
        shelf(&data).copy(&data.snapshots().join("none"), 1).unwrap_err();
        assert_eq!(names(&data.snapshots()), ["state-3-9.db"]);
    }
}
