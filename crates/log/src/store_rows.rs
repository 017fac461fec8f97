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
        Ok(Self { store, shelf: Shelf { folder: data.snapshots(), shard } })
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
        let copy = self.shelf.folder.join(format!("installing-{}.tmp", self.shelf.shard));
        fs::copy(&sealed, &copy).map_err(|source| io_error("copy", &copy, source))?;
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
        self.shelf.put(&file)?;
        Ok(file)
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
    folder: PathBuf,
    shard: ShardId,
}

impl Shelf {
    /// Seals a finished snapshot, under its own name, which it returns, and removes the older ones.
    fn put(&self, file: &SnapshotFile) -> Result<PathBuf, StoreError> {
        let position = file.standing.applied.unwrap_or_default();
        let path = self.folder.join(format!("{}{position}.db", self.prefix()));
        if file.path != path {
            fs::rename(&file.path, &path).map_err(|e| io_error("rename", &path, e))?;
        }
        let seal = Seal {
            shard: self.shard,
            hash: file.hash,
            bytes: file.bytes,
            applied: file.standing.applied,
            mark: file.standing.mark.clone(),
        };
        let sealed = path.with_extension(SEAL);
        let frame = codec::encode(&seal).expect("a seal is far below the limit of a frame");
        write_synced(&sealed, &frame).map_err(|e| io_error("write", &sealed, e))?;
        for old in self.files()? {
            if old.with_extension("") != path.with_extension("") {
                // A rest that cannot be removed now is removed by the next build.
                let _ = fs::remove_file(old);
            }
        }
        Ok(path)
    }

    fn prefix(&self) -> String {
        format!("state-{}-", self.shard)
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let failed = |source| io_error("list", &self.folder, source);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(&self.prefix()) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
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

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    if source.kind() == io::ErrorKind::StorageFull {
        return StoreError::StorageFull { path: path.to_owned() };
    }
    StoreError::Io { doing, path: path.to_owned(), source }
}
