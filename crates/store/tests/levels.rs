//! Feature levels: what a build knows against what a shard has, when entries come, when files are opened, when copies are
//! installed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::path::Path;

use common::{SHARD, Shard, client, open, open_as, receipt, written};
use statehouse_contract::{Build, Digest, ReceiptKind, Target};
use statehouse_store::{
    Body, Committed, Entry, NodeDir, Store, StoreError, entry::Asked, examine_copy, install_closed,
};

const NEWER: Build = Build::rehearsed(2);

fn raised(level: u16, key: &str) -> Body {
    let receipt = receipt(ReceiptKind::Accepted, None, r#"{"level":2}"#);
    let asked = Asked { target: Target::Shard(SHARD), key: client(key), receipt };
    Body::FeatureRaised { level, asked: Some(asked) }
}

/// A shard of a newer build, raised to level 2, with an instance.
fn newer(dir: &Path) -> Shard {
    let mut shard = Shard::over(open_as(dir, NEWER).unwrap());
    shard.start("a-1", "k-1");
    written(shard.apply(raised(2, "raise")));
    shard
}

fn is_above(error: &StoreError) -> bool {
    matches!(error, StoreError::Level { expected: 1, found: 2, .. })
}

#[test]
fn a_level_rises_once_and_its_answer_is_kept_under_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = newer(dir.path());
    assert_eq!(shard.store.meta().level, 2);
    let again = common::known(shard.apply(raised(2, "raise")));
    assert!(again.body.as_str().starts_with(r#"{"level":2"#), "{}", again.body.as_str());
    // An entry for a level that was passed long ago takes nothing back.
    written(shard.apply(raised(1, "late")));
    assert_eq!(shard.store.meta().level, 2);
}

#[test]
fn an_older_build_does_not_open_what_a_newer_one_has_raised_and_leaves_it_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let meta = newer(dir.path()).store.meta().clone();
    let error = open_as(dir.path(), Build::THIS).unwrap_err();
    assert!(is_above(&error), "{error:?}");
    assert!(error.to_string().ends_with("is at feature level 2, this build knows level 1"));
    let store = open_as(dir.path(), NEWER).unwrap();
    assert_eq!(*store.meta(), meta);
    assert_eq!(store.view().audit().unwrap(), []);
}

#[test]
fn a_copy_of_a_higher_level_is_refused_and_the_rows_go_on() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let built = newer(theirs.path()).store.view().build_snapshot().unwrap();
    let mut shard = Shard::over(open(ours.path()));
    shard.start("b-1", "k-1");
    let (before, view) = (shard.store.meta().clone(), shard.store.view());
    let error = shard.store.install(&built.path, built.hash).unwrap_err();
    assert!(is_above(&error), "{error:?}");
    // Nothing was closed: the view from before still answers, and what comes next is applied.
    assert_eq!(view.meta().unwrap(), before);
    shard.start("b-2", "k-2");
    assert!(built.path.exists(), "the copy is not used up");
    drop((shard, view));
    assert_eq!(open(ours.path()).meta().instances.iter().sum::<u64>(), 2);
}

#[test]
fn a_copy_of_a_higher_level_is_neither_put_in_place_at_a_start_nor_taken_for_a_backup() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let built = newer(theirs.path()).store.view().build_snapshot().unwrap();
    let (path, hash): (&Path, Digest) = (&built.path, built.hash);
    let data = NodeDir::open(ours.path()).unwrap();
    let error = install_closed(&data, SHARD, path, hash, Build::THIS).unwrap_err();
    assert!(is_above(&error), "{error:?}");
    assert!(!data.state_file(SHARD).exists());
    let error = examine_copy(path, SHARD, hash, Build::THIS).unwrap_err();
    assert!(is_above(&error), "{error:?}");
    assert_eq!(examine_copy(path, SHARD, hash, NEWER).unwrap().meta.level, 2);
    install_closed(&data, SHARD, path, hash, NEWER).unwrap();
    assert!(data.state_file(SHARD).exists());
}

#[test]
fn an_entry_above_the_build_halts_and_leaves_the_rows_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut store: Store = open_as(dir.path(), NEWER).unwrap();
    let header = common::header(1, 1_000);
    let entry = Entry { header, body: raised(3, "raise") };
    let place = Committed { position: 1, term: 1, entry: Some(&entry) };
    let error = store.apply(&[place], None).unwrap_err();
    assert!(matches!(error, StoreError::Level { expected: 2, found: 3, .. }), "{error:?}");
    assert_eq!((store.meta().applied, store.meta().level), (None, 1));
}
