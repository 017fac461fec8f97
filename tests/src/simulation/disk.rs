//! A node's files and what is left of them when it dies.
//!
//! The files are real, in a directory of the run. A kill leaves them as they are: they are read before their owners close
//! them, because closing would tidy up, and written back after. A power cut takes what was not synced. Of the rows only the
//! last checkpoint is safe. Of the log everything is, if SQLite syncs each write as its settings say; the log is asked for
//! them, and if it does not, only what its last checkpoint has synced is safe.
//!
//! Deliberately absent: torn pages and flipped bits; the store's own tests make those.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use statehouse_contract::Build;
use statehouse_store::{
    NodeDir, Store, Verify, install_closed,
    log_file::{Installing, LogFile, LogFileOptions, LogOperation},
};

use super::{subject::SHARD, wire::Failure};

/// Files with their bytes; nothing where there is none.
type Bytes = Vec<(PathBuf, Option<Vec<u8>>)>;

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its process is killed.
    Killed,
    /// Its power is cut.
    PowerCut,
}

/// How far an installation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowFar {
    /// It is noted in the log, and the copy lies beside the rows.
    Noted,
    /// To its end.
    Done,
}

/// What a living node has open.
pub struct Disk {
    dir: NodeDir,
    /// The log.
    pub log: LogFile,
    /// The rows.
    pub store: Store,
    /// What a power cut leaves of the rows.
    safe_rows: Bytes,
    /// What a power cut leaves of the log, unless each write is synced.
    safe_log: Option<Bytes>,
}

impl Disk {
    /// Opens a node's files and finishes an installation that was noted and not done.
    ///
    /// # Errors
    /// The files are not to be believed.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let dir = NodeDir::open(path)?;
        let options = LogFileOptions {
            path: path.join("log.db"),
            wal_bytes_max: 8 * 1024 * 1024,
            pages_max: None,
        };
        let mut log = LogFile::open(&options)?;
        let mut store = Store::open(&dir, SHARD, 1, Verify::Start, Build::THIS)?;
        if let Some(noted) = log.state(SHARD).marks.installing {
            let upto = noted.upto.index;
            if store.meta().applied.is_none_or(|applied| applied < upto) {
                drop(store);
                install_closed(&dir, SHARD, &incoming(&dir), noted.hash, Build::THIS)?;
                store = Store::open(&dir, SHARD, 1, Verify::Start, Build::THIS)?;
            }
            log.write(&begin_behind(&log, noted))?;
        }
        let safe_rows = read(path, &["state-1.db", "state-1.db-wal"])?;
        let mut disk = Self { dir, log, store, safe_rows, safe_log: None };
        if !disk.log.syncs_each_write()? {
            disk.safe_log = Some(disk.log_files()?);
        }
        Ok(disk)
    }

    /// Writes to the log: one transaction.
    ///
    /// # Errors
    /// The log has failed.
    pub fn write(&mut self, batch: &[LogOperation]) -> Result<(), Failure> {
        self.log.write(batch)?;
        if self.safe_log.is_some() && self.log.wal_bytes() == 0 {
            self.safe_log = Some(self.log_files()?);
        }
        Ok(())
    }

    /// Brings the rows to where no power cut takes them back.
    ///
    /// # Errors
    /// The rows have failed.
    pub fn sync_rows(&mut self) -> Result<(), Failure> {
        self.store.checkpoint()?;
        self.rows_are_safe()
    }

    /// Takes note that the rows were synced as they are.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn rows_are_safe(&mut self) -> Result<(), Failure> {
        self.safe_rows = read(self.dir.path(), &["state-1.db", "state-1.db-wal"])?;
        Ok(())
    }

    /// Puts a copy in place of the rows: notes it, installs it, and lets the log begin behind it. The file stays.
    ///
    /// # Errors
    /// The copy is not what was announced, or log or rows have failed.
    pub fn install(
        &mut self,
        copy: &Path,
        noted: Installing,
        how_far: HowFar,
    ) -> Result<(), Failure> {
        let place = incoming(&self.dir);
        fs::copy(copy, &place)?;
        self.write(&[LogOperation::Installing { shard: SHARD, installing: Some(noted) }])?;
        if how_far == HowFar::Noted {
            return Ok(());
        }
        self.store.install(&place, noted.hash)?;
        self.rows_are_safe()?;
        let batch = begin_behind(&self.log, noted);
        self.write(&batch)
    }

    /// Ends the node; what its death leaves is on the disk afterwards.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn die(self, how: Death) -> Result<(), Failure> {
        let path = self.dir.path().to_owned();
        let (mut rows, mut log) =
            (read(&path, &["state-1.db", "state-1.db-wal"])?, self.log_files()?);
        let Self { dir, log: log_file, store, safe_rows, safe_log } = self;
        if how == Death::PowerCut {
            rows = safe_rows;
            log = safe_log.unwrap_or(log);
        }
        drop((store, log_file, dir));
        rows.push((path.join("state-1.db-shm"), None));
        for (file, bytes) in rows.into_iter().chain(log) {
            match bytes {
                Some(bytes) => fs::write(&file, bytes)?,
                None => remove(&file)?,
            }
        }
        Ok(())
    }

    fn log_files(&self) -> Result<Bytes, Failure> {
        read(self.dir.path(), &["log.db", "log.db-wal"])
    }
}

/// Lets the log begin where a copy ends. Records behind it stay only if the copy's last one stands in the log.
fn begin_behind(log: &LogFile, noted: Installing) -> Vec<LogOperation> {
    let mut batch = Vec::new();
    if log.term(SHARD, noted.upto.index) != Some(noted.upto.term) {
        batch.push(LogOperation::Truncate { shard: SHARD, last: None });
    }
    batch.push(LogOperation::Purge { shard: SHARD, upto: noted.upto });
    batch.push(LogOperation::Installing { shard: SHARD, installing: None });
    batch
}

fn incoming(dir: &NodeDir) -> PathBuf {
    dir.snapshots().join("incoming.db")
}

fn read(path: &Path, names: &[&str]) -> Result<Bytes, Failure> {
    let one = |name: &&str| {
        let file = path.join(name);
        match fs::read(&file) {
            Ok(bytes) => Ok((file, Some(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((file, None)),
            Err(error) => Err(error.into()),
        }
    };
    names.iter().map(one).collect()
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
