//! The files themselves: locks, crashes, full disks, snapshots, flipped bytes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop where it fails and says what it tried"
)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Chance, SHARD, Shard, arm, instance, open, refusal, tenant, transition};
use statehouse_contract::{Build, KeyHash, ShardId, Target, Timestamp};
use statehouse_store::{
    Body, Committed, Entry, ListFilter, NodeDir, Outcome, Store, StoreError, Verify,
    check_snapshot, entry::Expect, install_closed,
};

fn state_file(dir: &Path) -> PathBuf {
    dir.join("state-1.db")
}

/// A shard with a little of everything.
fn filled(dir: &Path, instances: usize) -> Shard {
    let mut shard = Shard::new(dir);
    shard.apply(Body::TenantSet {
        tenant: tenant("acme"),
        asked: Some(common::asked("k-tenant", Target::Cluster)),
    });
    shard.apply(common::definition(1, "one", Some("k-def")));
    for number in 0..instances {
        let name = format!("i-{number}");
        let mut start = transition(&name, Expect::Absent, Some(&format!("start-{number}")));
        start.due = vec![arm(500_000 + number as i64, "after.1s.open", 1)];
        shard.written(start);
        let at = shard.at(&name);
        shard.written(transition(&name, at, Some(&format!("go-{number}"))));
        let at = shard.at(&name);
        shard.refused(refusal(&name, at, &format!("no-{number}")));
    }
    shard.refused(refusal("nobody", Expect::Absent, "k-nobody"));
    shard
}

#[test]
fn a_second_opener_of_the_directory_is_refused_with_a_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let first = NodeDir::open(dir.path()).unwrap();
    let error = NodeDir::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::Locked { .. }));
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    drop(first);
    NodeDir::open(dir.path()).unwrap();
}

#[test]
fn the_end_of_the_last_user_of_a_directory_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (first, release) = NodeDir::lock(dir.path()).unwrap();
    let second = first.clone();
    drop(first);
    assert!(!release.wait(Duration::ZERO), "a clone is left");
    let waiting = std::thread::spawn(move || release.wait(Duration::from_secs(60)));
    drop(second);
    assert!(waiting.join().unwrap());
    NodeDir::open(dir.path()).unwrap();
}

#[test]
fn free_space_and_reserve_are_told_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let shard = filled(dir.path(), 1);
    let size = fs::metadata(state_file(dir.path())).unwrap().len();
    drop(shard);
    let data = NodeDir::open(dir.path()).unwrap();
    assert!(data.free_bytes().unwrap() > 0);
    assert!(data.reserve_bytes().unwrap() > size);
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let shard = filled(dir.path(), 5);
    let before = shard.store.meta().clone();
    drop(shard);
    let shard = Shard::new(dir.path());
    assert_eq!(*shard.store.meta(), before);
    assert_eq!(shard.store.view().audit().unwrap(), []);
    assert_eq!(shard.store.synced_position(), before.applied);
}

/// Copies the files as a crash would leave them: the WAL is there, nothing was closed.
fn crashed_copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let name = format!("state-1.db{suffix}");
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn a_crash_between_write_and_commit_leaves_the_batch_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = filled(dir.path(), 3);
    let before = shard.store.meta().clone();
    let after_crash = tempfile::tempdir().unwrap();
    crashed_copy(dir.path(), after_crash.path());
    shard.start("later", "k-later");
    let torn = tempfile::tempdir().unwrap();
    crashed_copy(dir.path(), torn.path());
    let wal = torn.path().join("state-1.db-wal");
    let bytes = fs::read(&wal).unwrap();
    fs::write(&wal, &bytes[..bytes.len() - 2_000]).unwrap();
    for copy in [after_crash.path(), torn.path()] {
        let mut again = Shard::new(copy);
        assert_eq!(*again.store.meta(), before);
        assert_eq!(again.store.view().audit().unwrap(), []);
        again.now = shard.now - 10;
        again.start("later", "k-later");
        assert_eq!(again.store.meta().chain, shard.store.meta().chain);
    }
}

#[test]
fn a_full_disk_writes_nothing_of_the_batch_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = filled(dir.path(), 3);
    let before = shard.store.meta().clone();
    shard.store.limit_pages(Some(0)).unwrap();
    let mut refused = 0;
    for number in 0..50 {
        let mut start = transition(&format!("big-{number}"), Expect::Absent, Some("k"));
        start.snapshot = vec![7; 60_000].into();
        let entry = Entry { header: shard.header(), body: Body::Transitioned(Box::new(start)) };
        let place = Committed { position: shard.next, term: shard.term, entry: Some(&entry) };
        match shard.store.apply(&[place], None) {
            Ok(_) => shard.next += 1,
            Err(error) => {
                assert!(matches!(error, StoreError::StorageFull { .. }), "{error:?}");
                refused += 1;
                break;
            }
        }
    }
    assert_eq!(refused, 1);
    let applied = shard.store.meta().applied;
    assert_eq!(shard.store.view().meta().unwrap().applied, applied);
    assert_eq!(shard.store.view().audit().unwrap(), []);
    assert!(shard.store.view().instance(&instance("i-1")).unwrap().is_some());
    shard.store.limit_pages(None).unwrap();
    shard.start("small", "k-small");
    assert!(shard.store.meta().applied > before.applied);
    assert_eq!(shard.store.view().audit().unwrap(), []);
}

#[test]
fn a_snapshot_holds_the_same_rows_and_takes_their_place_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let shard = filled(dir.path(), 20);
    let built = shard.store.view().build_snapshot().unwrap();
    assert_eq!(built.meta, *shard.store.meta());
    assert_eq!(built.path, dir.path().join("snapshots/built-1.tmp"));
    assert_eq!(check_snapshot(&built.path, SHARD, Some(built.hash)).unwrap(), built);

    let elsewhere = tempfile::tempdir().unwrap();
    let mut other = Shard::new(elsewhere.path());
    other.start("old", "k-old");
    let old_view = other.store.view();
    let copy = elsewhere.path().join("snapshots/received.db");
    fs::copy(&built.path, &copy).unwrap();
    other.store.install(&copy, built.hash).unwrap();
    assert!(matches!(
        old_view.instance(&instance("old")),
        Err(StoreError::Replaced { expected: 1, found: 2 })
    ));
    assert!(matches!(old_view.build_snapshot(), Err(StoreError::Replaced { .. })));
    assert_eq!(other.store.meta(), shard.store.meta());
    let view = other.store.view();
    assert_eq!(view.generation(), 2);
    assert_eq!(view.instance(&instance("old")).unwrap(), None);
    assert_eq!(
        view.instance(&instance("i-7")).unwrap(),
        shard.store.view().instance(&instance("i-7")).unwrap()
    );
    assert_eq!(view.audit().unwrap(), []);

    let mut both = [shard, Shard::over(other.store)];
    let chains = both.each_mut().map(|shard| {
        shard.now = 9_000_000;
        let again = common::known(shard.moved(transition("i-3", Expect::Absent, Some("start-3"))));
        assert!(again.replayed);
        shard.start("after", "k-after");
        shard.store.meta().chain
    });
    assert_eq!(chains[0], chains[1]);
}

#[test]
fn a_snapshot_that_is_not_the_announced_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = filled(dir.path(), 2);
    let before = shard.store.meta().clone();
    let built = shard.store.view().build_snapshot().unwrap();
    let wrong = statehouse_contract::Digest::of(b"another file");
    let error = shard.store.install(&built.path, wrong).unwrap_err();
    assert!(matches!(error, StoreError::Snapshot { .. }), "{error:?}");
    assert!(matches!(
        check_snapshot(&built.path, ShardId(2), None),
        Err(StoreError::Snapshot { .. })
    ));
    shard.start("still", "k-still");
    assert!(shard.store.meta().applied > before.applied);
}

#[test]
fn an_install_that_a_crash_has_cut_short_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let shard = filled(dir.path(), 4);
    let built = shard.store.view().build_snapshot().unwrap();
    drop(shard);
    let elsewhere = tempfile::tempdir().unwrap();
    let old = filled(elsewhere.path(), 2);
    // The crash came after the old WAL was removed and before the rename.
    crashed_copy(elsewhere.path(), dir.path());
    drop(old);
    fs::remove_file(dir.path().join("state-1.db-wal")).unwrap();
    let data = NodeDir::open(dir.path()).unwrap();
    let meta = install_closed(&data, SHARD, &built.path, built.hash, Build::THIS).unwrap();
    assert_eq!(meta, built.meta);
    let store = Store::open(&data, SHARD, 1, Verify::Pages, Build::THIS).unwrap();
    assert_eq!(*store.meta(), built.meta);
    assert_eq!(store.view().audit().unwrap(), []);
}

#[test]
fn a_snapshot_under_way_that_a_crash_has_left_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let shard = filled(dir.path(), 2);
    fs::write(dir.path().join("snapshots/building-1.tmp"), b"half a file").unwrap();
    let built = shard.store.view().build_snapshot().unwrap();
    assert_eq!(built.meta, *shard.store.meta());
    assert!(!dir.path().join("snapshots/building-1.tmp").exists());
}

#[test]
fn a_file_of_another_shard_or_format_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 1));
    let data = NodeDir::open(dir.path()).unwrap();
    fs::copy(state_file(dir.path()), dir.path().join("state-2.db")).unwrap();
    let error = Store::open(&data, ShardId(2), 1, Verify::Start, Build::THIS).unwrap_err();
    assert!(matches!(error, StoreError::OtherShard { expected: ShardId(2), found: SHARD, .. }));
    let newer = rusqlite::Connection::open(dir.path().join("state-4.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 9; CREATE TABLE theirs (x)").unwrap();
    drop(newer);
    let error = Store::open(&data, ShardId(4), 1, Verify::Start, Build::THIS).unwrap_err();
    assert!(matches!(error, StoreError::Format { expected: 1, found: 9, .. }), "{error:?}");
    let error = NodeDir::open(&state_file(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    fs::write(dir.path().join("state-3.db"), b"this is no database, but it is long enough")
        .unwrap();
    let error = Store::open(&data, ShardId(3), 1, Verify::Start, Build::THIS).unwrap_err();
    assert!(error.is_damage(), "{error:?}");
    // A schema format that no SQLite knows: byte 47 of its header.
    let mut bytes = fs::read(state_file(dir.path())).unwrap();
    bytes[47] = 64;
    fs::write(dir.path().join("state-5.db"), bytes).unwrap();
    let error = Store::open(&data, ShardId(5), 1, Verify::Start, Build::THIS).unwrap_err();
    assert!(error.is_damage(), "{error:?}");
}

/// Everything that a reader may ask, as text; the errors are counted apart.
fn ask_everything(shard: &Shard, instances: usize) -> (Vec<String>, Vec<StoreError>) {
    let (mut answers, mut errors) = (Vec::new(), Vec::new());
    let view = shard.store.view();
    let mut note = |answer: Result<String, StoreError>| match answer {
        Ok(text) => answers.push(text),
        Err(error) => errors.push(error),
    };
    for number in 0..instances {
        let key = instance(&format!("i-{number}"));
        let target = Target::Instance(key.clone());
        note(view.instance(&key).map(|row| format!("{number} row {row:?}")));
        note(view.history(&key, 0, 100).map(|page| format!("{number} history {page:?}")));
        note(view.keys(&key, 100).map(|keys| format!("{number} keys {keys:?}")));
        for word in ["start", "go", "no", "never"] {
            let hash = KeyHash::of(&target, &common::client(&format!("{word}-{number}")));
            note(view.receipt(&target, hash).map(|found| format!("{number} {word} {found:?}")));
        }
    }
    let nobody = instance("nobody");
    note(view.instance(&nobody).map(|row| format!("nobody {row:?}")));
    let target = Target::Instance(nobody);
    let hash = KeyHash::of(&target, &common::client("k-nobody"));
    note(view.receipt(&target, hash).map(|found| format!("nobody {found:?}")));
    let due = view.due(Timestamp(900_000_000), None, 1_000, 1_000);
    note(due.map(|page| format!("due {page:?}")));
    note(view.definitions(&tenant("acme")).map(|rows| format!("definitions {rows:?}")));
    note(view.tenants().map(|rows| format!("tenants {rows:?}")));
    let filter = ListFilter {
        tenant: tenant("acme"),
        state: None,
        definition: None,
        status: None,
        tag: None,
        with_finished: true,
    };
    note(view.list(&filter, None, 1_000).map(|page| format!("list {page:?}")));
    (answers, errors)
}

#[test]
fn a_flipped_byte_in_a_state_file_is_noticed_or_harmless_and_never_served() {
    const INSTANCES: usize = 24;
    let mut random = Chance::from_environment();
    let dir = tempfile::tempdir().unwrap();
    let mut shard = filled(dir.path(), INSTANCES);
    let (truth, none) = ask_everything(&shard, INSTANCES);
    assert!(none.is_empty());
    shard.store.checkpoint().unwrap();
    drop(shard);
    let whole = fs::read(state_file(dir.path())).unwrap();
    let (mut noticed_at_open, mut noticed_later, mut harmless) = (0, 0, 0);
    for _ in 0..100 {
        let place = random.below(whole.len());
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << random.below(8);
        let damaged = tempfile::tempdir().unwrap();
        fs::write(state_file(damaged.path()), &bytes).unwrap();
        let data = NodeDir::open(damaged.path()).unwrap();
        let store = match Store::open(&data, SHARD, 1, Verify::Start, Build::THIS) {
            Ok(store) => store,
            Err(error) => {
                assert!(error.is_damage(), "byte {place}: {error:?}");
                noticed_at_open += 1;
                continue;
            }
        };
        let shard = Shard::over(store);
        let (answers, errors) = ask_everything(&shard, INSTANCES);
        for answer in &answers {
            let shown = answer.get(..300).unwrap_or(answer);
            assert!(truth.contains(answer), "byte {place}: served {shown}");
        }
        for error in &errors {
            assert!(error.is_damage(), "byte {place}: {error:?}");
        }
        if errors.is_empty() {
            harmless += 1;
        } else {
            noticed_later += 1;
        }
    }
    println!("at open {noticed_at_open}, later {noticed_later}, harmless {harmless}");
    assert!(noticed_at_open > 0 && noticed_later > 0);
}

/// Entries that a leader with whole rows would decide, one after another, and what becomes of them.
fn apply_after(store: &mut Store, log: &[Entry]) -> Result<Vec<Outcome>, StoreError> {
    let first = store.meta().applied.unwrap() + 1;
    let mut outcomes = Vec::new();
    for (place, entry) in log.iter().enumerate() {
        let position = first + place as u64;
        let place = Committed { position, term: 1, entry: Some(entry) };
        outcomes.extend(store.apply(&[place], None)?.into_iter().map(|one| one.outcome));
    }
    Ok(outcomes)
}

#[test]
fn a_flipped_byte_never_makes_an_entry_end_otherwise() {
    const INSTANCES: usize = 16;
    let mut chance = Chance::from_environment();
    let dir = tempfile::tempdir().unwrap();
    let mut shard = filled(dir.path(), INSTANCES);
    let mut log = Vec::new();
    let mut note = |body: Body| {
        let header = common::header(1, 800_000 + log.len() as i64);
        log.push(Entry { header, body });
    };
    for number in 0..INSTANCES {
        let name = format!("i-{number}");
        let at = shard.at(&name);
        let moved = |t| Body::Transitioned(Box::new(t));
        note(moved(transition(&name, at, Some(&format!("go-{number}")))));
        note(moved(transition(&name, Expect::Absent, Some("a-new-key"))));
        note(Body::Refused(Box::new(refusal(&name, at, &format!("no-{number}")))));
        let mut fires = transition(&name, at, Some(&format!("new-{number}")));
        fires.due = vec![common::disarm(500_000 + number as i64, "after.1s.open", 1)];
        note(moved(fires));
        note(moved(transition(&format!("new-{number}"), Expect::Absent, Some("k"))));
    }
    note(Body::Refused(Box::new(refusal("nobody", Expect::Absent, "k-nobody"))));
    note(common::definition(1, "another", None));
    shard.store.checkpoint().unwrap();
    drop(shard);
    let whole = fs::read(state_file(dir.path())).unwrap();
    let mut undamaged = open(dir.path());
    let truth = apply_after(&mut undamaged, &log).unwrap();
    drop(undamaged);
    let (mut noticed, mut harmless) = (0, 0);
    for _ in 0..100 {
        let place = chance.below(whole.len());
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << chance.below(8);
        let damaged = tempfile::tempdir().unwrap();
        fs::write(state_file(damaged.path()), &bytes).unwrap();
        let data = NodeDir::open(damaged.path()).unwrap();
        let applied = Store::open(&data, SHARD, 1, Verify::Start, Build::THIS)
            .and_then(|mut store| apply_after(&mut store, &log));
        match applied {
            Ok(outcomes) => {
                assert!(outcomes == truth, "byte {place}: entries ended otherwise");
                harmless += 1;
            }
            Err(error) => {
                assert!(error.is_damage(), "byte {place}: {error:?}");
                noticed += 1;
            }
        }
    }
    println!("noticed {noticed}, harmless {harmless}");
    assert!(noticed > 0);
}

#[test]
fn a_damaged_row_is_named_with_its_file_table_and_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = filled(dir.path(), 3);
    shard.store.checkpoint().unwrap();
    drop(shard);
    let mut bytes = fs::read(state_file(dir.path())).unwrap();
    let wanted = b"snapshot of i-1 at 2";
    let place = bytes.windows(wanted.len()).position(|part| part == wanted).unwrap();
    bytes[place] ^= 1;
    fs::write(state_file(dir.path()), bytes).unwrap();
    let store = open(dir.path());
    let error = store.view().instance(&instance("i-1")).unwrap_err();
    let StoreError::Corrupt(found) = &error else { panic!("{error:?}") };
    assert_eq!(
        (found.table, found.path.as_path()),
        ("instances", state_file(dir.path()).as_path())
    );
    assert!(found.row.contains("acme/i-1"), "{error}");
    assert!(store.view().instance(&instance("i-2")).unwrap().is_some());
}
