//! Whose fault a difference is, what time it is after a fence, and what is swept only when its sender says so.
#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

mod common;

use std::fs;

use common::{Shard, digest_of, instance, open, transition, written};
use statehouse_contract::{Key, Timestamp, limits};
use statehouse_store::{
    Body, Committed, Entry, Fence, NodeDir, Outcome, StoreError, SweepLimits,
    entry::{Expect, RowDigest, Status},
};

#[test]
fn a_replica_looks_at_its_own_row_before_it_calls_an_entry_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    shard.start("b-1", "k-2");
    let (right, neighbour) = (shard.at("a-1"), shard.at("b-1"));
    shard.store.checkpoint().unwrap();
    drop(shard);
    // The column at which entries are fenced, in the one row and nowhere else.
    let file = dir.path().join("state-1.db");
    let mut bytes = fs::read(&file).unwrap();
    let RowDigest(digest) = digest_of(right);
    let place = bytes.windows(16).position(|part| part == digest).unwrap();
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();
    let mut shard = Shard::over(open(dir.path()));
    // The others have applied this entry: to fence it would make this replica another one.
    let header = shard.header();
    let moves = transition("a-1", right, Some("k-3"));
    let entry = Entry { header, body: Body::Transitioned(Box::new(moves)) };
    let place = Committed { position: shard.next, term: shard.term, entry: Some(&entry) };
    let error = shard.store.apply(&[place], None).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    // Where the own row is good, the entry is the one that is wrong.
    let Expect::At { version, .. } = neighbour else { unreachable!() };
    let other = Expect::At { version, digest: RowDigest([7; 16]) };
    let fenced = shard.moved(transition("b-1", other, Some("k-4")));
    assert!(matches!(fenced, Outcome::Fenced(Fence::Digest { .. })), "{fenced:?}");
}

#[test]
fn shard_time_is_the_highest_that_was_decided_fenced_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let time = |shard: &Shard| shard.store.meta().time.0;
    shard.now = 5_000;
    shard.start("a-1", "k-1");
    assert_eq!(time(&shard), 5_000);
    shard.now = 3_000;
    shard.start("b-1", "k-2");
    assert_eq!(time(&shard), 5_000, "an earlier decision takes nothing back");
    shard.now = 9_000;
    let late = shard.moved(transition("a-1", Expect::Absent, Some("k-3")));
    assert!(matches!(late, Outcome::Fenced(Fence::Exists { .. })), "{late:?}");
    assert_eq!(time(&shard), 9_000, "a leader has said so");
}

#[test]
fn what_another_instance_has_sent_is_never_forgotten_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let sender = instance("parent");
    let delivery = |n| Key::Outbox { sender: sender.clone(), version: 3, n };
    let mut start = transition("child", Expect::Absent, Some("k"));
    start.key = Some(delivery(0));
    start.status = Status::Done;
    shard.written(start);
    let mut plain = transition("plain", Expect::Absent, Some("k"));
    plain.status = Status::Done;
    shard.written(plain);
    let mut nobody = common::refusal("nobody", Expect::Absent, "k");
    nobody.key = delivery(1);
    written(shard.refused(nobody));
    let limits =
        SweepLimits { now: Timestamp(i64::MAX / 2), receipt_keep_ms: 1, finished_keep_ms: 1 };
    let page = shard.store.view().sweepable(&limits, 0, 0, 100).unwrap();
    assert_eq!((&*page.swept.keys, &*page.swept.loose), (&[2][..], &[0; 0][..]));
    assert_eq!(page.swept.instances, [(instance("plain"), 2)]);
}

#[test]
fn a_receipt_is_kept_as_long_as_its_definition_asks_and_never_shorter_than_all_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let keep = |name: &str, ms| {
        let mut start = transition(name, Expect::Absent, Some("k"));
        start.receipt_keep_ms = ms;
        start
    };
    for (name, ms) in [("plain", None), ("long", Some(5_000)), ("short", Some(10))] {
        shard.now = 1_000;
        shard.written(keep(name, ms));
    }
    let swept = |now| {
        let limits =
            SweepLimits { now: Timestamp(now), receipt_keep_ms: 1_000, finished_keep_ms: 1 };
        let page = shard.store.view().sweepable(&limits, 0, 0, 100).unwrap();
        page.swept.keys.to_vec()
    };
    assert_eq!(swept(1_999), [0_u64; 0]);
    assert_eq!(swept(2_000), [1, 3]);
    assert_eq!(swept(5_999), [1, 3]);
    assert_eq!(swept(6_000), [1, 2, 3]);
    assert_eq!(limits::RECEIPT_KEEP_MS_MIN, 24 * 3_600_000);
    assert_eq!(limits::RECEIPT_KEEP_MS_MAX, 30 * 24 * 3_600_000);
    assert_eq!(limits::FINISHED_KEEP_MS, 7 * 24 * 3_600_000);
}

#[test]
fn the_reserve_has_room_for_the_write_ahead_files_and_the_largest_state_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = NodeDir::open(dir.path()).unwrap();
    let fixed =
        limits::DISK_RESERVE_BYTES + limits::LOG_WAL_BYTES_MAX + limits::STATE_WAL_BYTES_MAX;
    assert_eq!(data.reserve_bytes().unwrap(), fixed);
    fs::write(dir.path().join("state-1.db"), vec![0; 70_000]).unwrap();
    fs::write(dir.path().join("state-2.db"), vec![0; 90_000]).unwrap();
    fs::write(dir.path().join("log.db"), vec![0; 200_000]).unwrap();
    assert_eq!(data.reserve_bytes().unwrap(), fixed + 90_000);
    assert_eq!(limits::DISK_RESERVE_BYTES, 64 << 20);
}
