//! How fast records reach the disk: batches of 1 KB records of four shards, one sync each.
//!
//! Budget: 64 records in 1.3 ms (50,000 a second) on the reference machine; measured before with another
//! program at 102,000 a second. The disk decides: look at `fdatasync` first when a figure moves.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may stop where it fails")]

use divan::{Bencher, counter::ItemsCount};
use statehouse_contract::{ShardId, codec, limits};
use statehouse_store::log_file::{
    LogFile, LogFileOptions, LogOperation, LogPosition, LogRecord, RecordKind,
};

fn main() {
    divan::main();
}

const SHARDS: u64 = 4;

#[divan::bench(args = [1, 16, 64, 256, 1_024], sample_count = 200, sample_size = 1)]
fn append(bencher: Bencher<'_, '_>, records: u64) {
    let folder = tempfile::tempdir().unwrap();
    let file = LogFile::open(&LogFileOptions {
        path: folder.path().join("log.db"),
        wal_bytes_max: limits::LOG_WAL_BYTES_MAX,
        pages_max: None,
    });
    let mut file = file.unwrap();
    let frame: std::sync::Arc<[u8]> = codec::encode(&vec![7u8; 1_000]).unwrap().into();
    let mut next = [0; SHARDS as usize];
    bencher.counter(ItemsCount::new(records)).bench_local(|| {
        let batch = next.iter_mut().zip(0u32..).map(|(next, shard)| {
            let part = records.div_ceil(SHARDS).min(records);
            let records = (*next..*next + part).map(|index| LogRecord {
                position: LogPosition { term: 1, index },
                kind: RecordKind::Entry,
                frame: frame.clone(),
            });
            let records = records.collect();
            *next += part;
            LogOperation::Append { shard: ShardId(shard), records }
        });
        let shards = if records == 1 { 1 } else { SHARDS as usize };
        file.write(&batch.take(shards).collect::<Vec<_>>()).unwrap();
    });
}

fn batch(first: u64, count: u64) -> LogOperation {
    let frame: std::sync::Arc<[u8]> = codec::encode(&vec![7u8; 1_000]).unwrap().into();
    let record = |index| LogRecord {
        position: LogPosition { term: 1, index },
        kind: RecordKind::Entry,
        frame: frame.clone(),
    };
    LogOperation::Append {
        shard: ShardId(0),
        records: (first..first + count).map(record).collect(),
    }
}

fn options(folder: &std::path::Path, wal_bytes_max: u64) -> LogFileOptions {
    LogFileOptions { path: folder.join("log.db"), wal_bytes_max, pages_max: None }
}

/// The write that meets the bound of the write-ahead file and writes it back: the longest pause of the log.
#[divan::bench(args = [1, 4, 16], sample_count = 30, sample_size = 1)]
fn checkpoint(bencher: Bencher<'_, '_>, mebibytes: u64) {
    let folder = tempfile::tempdir().unwrap();
    let bound = mebibytes << 20;
    let file = std::cell::RefCell::new(LogFile::open(&options(folder.path(), bound)).unwrap());
    let next = std::cell::Cell::new(0);
    let write = |count| {
        file.borrow_mut().write(&[batch(next.get(), count)]).unwrap();
        next.set(next.get() + count);
    };
    bencher
        .with_inputs(|| {
            while file.borrow().wal_bytes() + 128 * 1_024 < bound {
                write(64);
            }
        })
        .bench_local_values(|()| {
            while file.borrow().wal_bytes() > 0 {
                write(64);
            }
        });
}

/// The start: every row is read and checked once. Budget: part of the 300 ms from start to first answer.
#[divan::bench(args = [10_000, 100_000, 400_000], sample_count = 5, sample_size = 1)]
fn open(bencher: Bencher<'_, '_>, records: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = LogFile::open(&options(folder.path(), limits::LOG_WAL_BYTES_MAX)).unwrap();
    for first in (0..records).step_by(1_000) {
        file.write(&[batch(first, 1_000)]).unwrap();
    }
    drop(file);
    bencher.bench_local(|| LogFile::open(&options(folder.path(), 1 << 24)).unwrap());
}
