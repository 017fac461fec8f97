//! The log file on a real disk: order, damage, limits, restarts.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;

const A: ShardId = ShardId(0);
const B: ShardId = ShardId(7);

fn options(folder: &Path) -> LogFileOptions {
    LogFileOptions { path: folder.join("log.db"), wal_bytes_max: 1 << 20, pages_max: None }
}

fn open(folder: &Path) -> Result<LogFile, LogFileError> {
    LogFile::open(&options(folder))
}

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn record(term: u64, index: u64) -> LogRecord {
    let frame =
        codec::encode(&format!("record {index} of term {term} {}", "x".repeat(300))).unwrap();
    LogRecord { position: at(term, index), kind: RecordKind::Entry, frame: frame.into() }
}

fn append(shard: ShardId, term: u64, range: Range<u64>) -> LogOperation {
    LogOperation::Append { shard, records: range.map(|index| record(term, index)).collect() }
}

fn extent(file: &LogFile, shard: ShardId) -> (Option<u64>, Option<LogPosition>) {
    let state = file.state(shard);
    (state.first, state.last)
}

/// Copies the files as they lie on the disk, as a kill of the process would leave them.
fn killed(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["log.db", "log.db-wal"] {
        if folder.join(name).exists() {
            fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
    }
    copy
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Flips a bit wherever the text stands: pages keep old copies in their free space.
fn flip_text(path: &Path, text: &str) {
    let bytes = fs::read(path).unwrap();
    let mut places = bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes());
    assert!(places.any(|(place, _)| {
        flip(path, place as u64);
        true
    }));
    places.for_each(|(place, _)| flip(path, place as u64));
}

#[test]
fn shards_share_one_file_and_are_read_back_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    let vote = StoredVote { term: 3, node: 1 << 32, is_granted: true };
    file.write(&[append(A, 1, 0..5), append(B, 2, 0..3), LogOperation::Vote { shard: B, vote }])
        .unwrap();
    file.note_committed(A, Some(at(1, 3)));
    file.write(&[append(A, 2, 5..6)]).unwrap();

    let copy = killed(folder.path());
    let again = open(copy.path()).unwrap();
    assert_eq!(extent(&again, A), (Some(0), Some(at(2, 5))));
    assert_eq!(extent(&again, B), (Some(0), Some(at(2, 2))));
    assert_eq!(again.state(B).marks.vote, Some(vote));
    assert_eq!(again.state(A).marks.committed, Some(at(1, 3)));
    assert_eq!(again.read(A, 4..6, usize::MAX).unwrap(), [record(1, 4), record(2, 5)]);
    assert_eq!(again.read(B, 0..9, 1).unwrap(), [record(2, 0)], "at least one, then the bound");
    assert_eq!(again.shards().collect::<Vec<_>>(), [A, B]);
    assert_eq!(again.term(A, 5), Some(2));
}

#[test]
fn a_committed_position_is_never_written_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..2)]).unwrap();
    file.note_committed(A, Some(at(1, 1)));
    assert_eq!(file.state(A).marks.committed, Some(at(1, 1)));
    let copy = killed(folder.path());
    assert_eq!(open(copy.path()).unwrap().state(A).marks.committed, None);
}

#[test]
fn truncation_takes_the_end_away_and_other_records_may_follow() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[
        append(A, 1, 0..10),
        LogOperation::Truncate { shard: A, last: Some(6) },
        append(A, 2, 7..9),
    ])
    .unwrap();
    assert_eq!(extent(&file, A), (Some(0), Some(at(2, 8))));
    let copy = killed(folder.path());
    let mut again = open(copy.path()).unwrap();
    assert_eq!(
        again.read(A, 6..20, usize::MAX).unwrap(),
        [record(1, 6), record(2, 7), record(2, 8)]
    );
    again.write(&[LogOperation::Truncate { shard: A, last: None }]).unwrap();
    assert_eq!(extent(&again, A), (None, None));
}

#[test]
fn purged_records_are_gone_at_once_and_their_rows_soon() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..2_000)]).unwrap();
    file.write(&[LogOperation::Purge { shard: A, upto: at(1, 1_989) }]).unwrap();
    assert_eq!(extent(&file, A), (Some(1_990), Some(at(1, 1_999))));
    assert!(file.read(A, 0..1_990, usize::MAX).unwrap().is_empty());

    let copy = killed(folder.path());
    let mut again = open(copy.path()).unwrap();
    assert_eq!(extent(&again, A), (Some(1_990), Some(at(1, 1_999))));
    assert!(!again.garbage.is_empty(), "a write takes out a few rows only");
    while again.sweep().unwrap() {}
    let left: i64 =
        again.connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 10);
    again.write(&[LogOperation::Purge { shard: A, upto: at(1, 5_000) }]).unwrap();
    assert_eq!(extent(&again, A), (None, Some(at(1, 5_000))));
    let hole = again.write(&[append(A, 1, 5_002..5_003)]).unwrap_err();
    assert!(matches!(hole, LogFileError::Hole { expected: 5_001, found: 5_002, .. }), "{hole}");
    again.write(&[append(A, 1, 5_001..5_003)]).unwrap();
}

#[test]
fn a_hole_is_refused_and_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..2)]).unwrap();
    let error = file.write(&[append(B, 1, 0..2), append(A, 1, 3..4)]).unwrap_err();
    assert!(error.to_string().ends_with("shard 0: expected index 2, found 3"), "{error}");
    assert_eq!(extent(&file, A), (Some(0), Some(at(1, 1))));
    assert_eq!(extent(&file, B), (None, None), "nothing of the batch was written");
    file.write(&[append(A, 1, 2..3), append(B, 1, 0..1)]).unwrap();
}

#[test]
fn a_flipped_byte_of_a_frame_is_named_with_its_shard_and_index() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..9), append(B, 1, 0..9)]).unwrap();
    drop(file);
    let path = folder.path().join("log.db");
    flip_text(&path, "record 4 of term 1");
    let error = open(folder.path()).err().expect("the record is damaged");
    let said = error.to_string();
    assert!(matches!(error, LogFileError::Damaged { shard: A, index: 4, .. }), "{said}");
    assert!(said.contains("log.db is damaged: shard 0, index 4: checksum mismatch"), "{said}");
}

#[test]
fn a_byte_flipped_while_the_file_is_open_is_noticed_at_the_next_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..40)]).unwrap();
    file.checkpoint(Checkpoint::Truncate).unwrap();
    drop(file);
    // Opened again, so that the page is not in memory; the check at open reads it all the same.
    let path = folder.path().join("log.db");
    let file = open(folder.path()).unwrap();
    flip_text(&path, "record 4 of term 1");
    file.connection.execute_batch("PRAGMA shrink_memory").unwrap();
    let error = file.read(A, 0..40, usize::MAX).expect_err("the record is damaged");
    assert!(matches!(error, LogFileError::Damaged { shard: A, index: 4, .. }), "{error}");
}

#[test]
fn every_flipped_byte_of_a_file_is_noticed_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    let vote = StoredVote { term: 9, node: 1, is_granted: true };
    file.write(&[append(A, 1, 0..5), LogOperation::Vote { shard: A, vote }]).unwrap();
    drop(file);
    let whole = folder.path().join("log.db");
    let length = fs::metadata(&whole).unwrap().len();
    let expected: Vec<LogRecord> = (0..5).map(|index| record(1, index)).collect();
    // A prime step reaches every part of every page within a second.
    for place in (0..length).step_by(23) {
        let copy = killed(folder.path());
        flip(&copy.path().join("log.db"), place);
        let Ok(file) = open(copy.path()) else { continue };
        let state = file.state(A);
        let read = file.read(A, 0..5, usize::MAX);
        // What is not noticed is read as it was written, or is short, which the applied position tells.
        let Ok(read) = read else { continue };
        assert_eq!(read, expected[..read.len()], "byte {place}");
        assert!(state.marks.vote.is_none_or(|found| found == vote), "byte {place}");
    }
}

#[test]
fn a_torn_end_is_forgotten_and_a_bad_frame_inside_is_doubtful() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    for index in 0..20 {
        file.write(&[append(A, 1, index..index + 1)]).unwrap();
    }
    let wal = |copy: &TempDir| -> PathBuf { copy.path().join("log.db-wal") };
    let frame = 24 + file.page_bytes;

    let torn = killed(folder.path());
    let length = fs::metadata(wal(&torn)).unwrap().len();
    fs::File::options().write(true).open(wal(&torn)).unwrap().set_len(length - 100).unwrap();
    let again = open(torn.path()).unwrap();
    assert_eq!(extent(&again, A).1, Some(at(1, 18)), "the last write was not whole");

    let doubtful = killed(folder.path());
    flip(&wal(&doubtful), 32 + 4 * frame + 1_000);
    let error = open(doubtful.path()).err().expect("frames follow the bad one");
    assert!(matches!(error, LogFileError::Doubtful { frame: 5, .. }), "{error}");
    assert!(error.to_string().contains("cluster restore"), "{error}");

    let header = killed(folder.path());
    flip(&wal(&header), 17);
    let error = open(header.path()).err().expect("frames follow the header");
    assert!(matches!(error, LogFileError::Doubtful { frame: 0, .. }), "{error}");
}

#[test]
fn frames_of_an_older_generation_behind_the_end_are_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    let mut index = 0;
    let mut is_begun_again = false;
    for _ in 0..400 {
        let before = file.wal_bytes();
        file.write(&[append(A, 1, index..index + 10)]).unwrap();
        index += 10;
        is_begun_again |= before == 0 && index > 10;
        if is_begun_again && file.wal_bytes() > 100_000 {
            break;
        }
    }
    assert!(is_begun_again, "the write-ahead file was written back and begun again");
    let copy = killed(folder.path());
    let length = fs::metadata(copy.path().join("log.db-wal")).unwrap().len();
    assert!(length >= 1 << 20, "the file is kept: {length}");
    let again = open(copy.path()).unwrap();
    assert_eq!(extent(&again, A), (Some(0), Some(at(1, index - 1))));
    let after = fs::metadata(copy.path().join("log.db-wal")).unwrap().len();
    assert_eq!(after, 0, "every start rewrites it");
}

#[test]
fn a_full_disk_refuses_the_batch_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let mut file =
        LogFile::open(&LogFileOptions { pages_max: Some(40), ..options(folder.path()) }).unwrap();
    let mut index = 0;
    let error = loop {
        match file.write(&[append(A, 1, index..index + 10)]) {
            Ok(()) => index += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogFileError::Full { .. }), "{error}");
    assert_eq!(extent(&file, A), (Some(0), Some(at(1, index - 1))), "nothing was written");
    file.write(&[LogOperation::Vote {
        shard: A,
        vote: StoredVote { term: 1, node: 1, is_granted: false },
    }])
    .unwrap();
    file.set_pages_max(1_000).unwrap();
    file.write(&[append(A, 1, index..index + 10)]).unwrap();
    let copy = killed(folder.path());
    let again = open(copy.path()).unwrap();
    assert_eq!(extent(&again, A), (Some(0), Some(at(1, index + 9))));
}

/// Everything that the file knows in memory.
fn known(file: &LogFile) -> String {
    let shard = |(id, shard): (&ShardId, &Shard)| {
        let first = shard.index.first().unwrap_or(0);
        let rows = (first..).map_while(|index| shard.index.row(index)).collect::<Vec<_>>();
        (!rows.is_empty() || shard.marks != ShardMarks::default())
            .then(|| format!("{id}: {:?} from {first}: {rows:?}\n", shard.marks))
    };
    let mut garbage: Vec<_> = file.garbage.iter().collect();
    garbage.sort_unstable();
    file.shards.iter().filter_map(shard).collect::<String>() + &format!("garbage: {garbage:?}")
}

/// Batches of everything, of which a full disk refuses some: what is known in memory is what the file holds.
#[test]
fn a_refused_batch_is_taken_back_and_memory_knows_what_the_file_holds() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124);
    let mut state: u64 = seed;
    let mut draw = move |below: u64| {
        // splitmix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    let folder = tempfile::tempdir().unwrap();
    let mut file =
        LogFile::open(&LogFileOptions { pages_max: Some(60), ..options(folder.path()) }).unwrap();
    let (mut refused, mut written) = (0, 0);
    for turn in 0..400 {
        let before = known(&file);
        let mut batch = Vec::new();
        // What the batch would leave, by shard: the purged index and the one after the last.
        let mut ends = [A, B].map(|shard| {
            let LogState { marks, last, .. } = file.state(shard);
            (marks.purged.map_or(0, |at| at.index + 1), last.map_or(0, |at| at.index + 1))
        });
        for _ in 0..=draw(4) {
            let which = usize::try_from(draw(2)).unwrap();
            let (shard, (first, next)) = ([A, B][which], &mut ends[which]);
            match draw(10) {
                0..=5 => {
                    let end = *next + 1 + draw(12);
                    batch.push(append(shard, turn, *next..end));
                    *next = end;
                }
                6 if *next > *first => {
                    let keep = *first + draw(*next - *first);
                    let last = keep.checked_sub(1);
                    batch.push(LogOperation::Truncate { shard, last });
                    *next = keep;
                }
                7 | 8 if *next > *first => {
                    let upto = *first + draw(*next - *first);
                    batch.push(LogOperation::Purge { shard, upto: at(turn, upto) });
                    *first = upto + 1;
                }
                _ => {
                    let vote = StoredVote { term: turn, node: 1, is_granted: false };
                    batch.push(LogOperation::Vote { shard, vote });
                }
            }
        }
        if draw(8) == 0 {
            // A record that does not follow: nothing of the batch is written either.
            batch.push(append(A, turn, ends[0].1 + 5..ends[0].1 + 6));
        }
        match file.write(&batch) {
            Ok(()) => written += 1,
            Err(LogFileError::Full { .. } | LogFileError::Hole { .. }) => {
                refused += 1;
                assert_eq!(known(&file), before, "seed {seed}, turn {turn}: {batch:?}");
            }
            Err(error) => panic!("seed {seed}, turn {turn}: {error}"),
        }
        let now = known(&file);
        file.load().unwrap();
        assert_eq!(now, known(&file), "seed {seed}, turn {turn}: {batch:?}");
    }
    assert!(refused > 20 && written > 20, "{refused} refused, {written} written");
}

#[test]
fn the_note_of_a_copy_goes_with_the_purge_that_reaches_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    let installing =
        Some(Installing { upto: at(2, 9), hash: statehouse_contract::Digest::of(b"a copy") });
    file.write(&[append(A, 1, 0..5), LogOperation::Installing { shard: A, installing }]).unwrap();
    file.write(&[LogOperation::Purge { shard: A, upto: at(1, 3) }]).unwrap();
    assert_eq!(file.state(A).marks.installing, installing, "it is not that far");
    file.write(&[LogOperation::Purge { shard: A, upto: at(2, 9) }]).unwrap();
    assert_eq!(file.state(A).marks.installing, None);
    drop(file);
    let again = open(folder.path()).unwrap();
    assert_eq!(
        (again.state(A).marks.installing, again.state(A).marks.purged),
        (None, Some(at(2, 9)))
    );
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _file = open(folder.path()).unwrap();
    let error = open(folder.path()).err().expect("the file is exclusive");
    assert!(matches!(error, LogFileError::Locked { .. }), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().connection.execute_batch("PRAGMA user_version = 2").unwrap();
    let error = open(folder.path()).err().expect("format 2 is not known");
    assert!(matches!(error, LogFileError::Format { expected: 1, found: 2, .. }), "{error}");
}

#[test]
fn a_row_that_vanished_leaves_a_hole_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..5)]).unwrap();
    file.connection.execute_batch("DELETE FROM entries WHERE idx = 2").unwrap();
    drop(file);
    let error = open(folder.path()).err().expect("record 2 is missing");
    assert!(matches!(error, LogFileError::Hole { shard: A, expected: 2, found: 3, .. }), "{error}");
}

#[test]
fn a_write_whose_outcome_is_unknown_is_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path()).unwrap();
    file.write(&[append(A, 1, 0..2)]).unwrap();
    file.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    let error = file.write(&[append(A, 1, 2..3)]).unwrap_err();
    assert!(matches!(error, LogFileError::Fatal { .. }), "{error}");
}
