//! A shard is copied while it works, and a new node begins with the copy.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use statehouse_contract::{Build, Digest, NodeId, ShardId};
use statehouse_log::{
    LogOptions, NoPeers, NodeLog, Origin, Part, Peer, ShardCopy, ShardLog, examine, plant,
};

use crate::bed::{NODE, found, is_written, leading, open, options, present, put};

const FIRST: ShardId = ShardId(0);
const NEXT: NodeId = NodeId { number: 1, incarnation: 2 };

async fn start(folder: &Path) -> (NodeLog, ShardLog) {
    let node = open(folder).await.unwrap();
    let shard = node.open_shard(FIRST, found()).await.unwrap();
    leading(&shard).await;
    (node, shard)
}

/// Writes a copy where it is wanted, as whoever receives it does.
fn keep(mut copy: ShardCopy, folder: &Path) -> (PathBuf, Digest) {
    let mut bytes = Vec::new();
    copy.file.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len() as u64, Digest::of(&bytes)), (copy.bytes, copy.digest));
    let path = folder.join("shard-0.db");
    File::create(&path).unwrap().write_all(&bytes).unwrap();
    (path, copy.digest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_shard_goes_on_above_the_copy_with_one_voter() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, shard) = start(folder.path()).await;
    for number in 0..20 {
        put(&shard, number).await.unwrap();
    }
    let copy = shard.copy().await.unwrap();
    let (position, term) = (copy.position, copy.term);
    // What comes later is not in it, and does not change it.
    put(&shard, 20).await.unwrap();
    let copy = keep(copy, kept.path());
    let left = fs::read_dir(folder.path().join("snapshots")).unwrap().count();
    assert_eq!(left, 0, "a copy leaves nothing behind");
    node.stop().await;

    let found = examine(&copy.0, FIRST, copy.1, Build::THIS).unwrap();
    assert_eq!((found.position, found.term, found.holders), (position, term, vec![NODE]));
    assert_eq!(found.findings, Vec::<String>::new());

    let new = tempfile::tempdir().unwrap();
    let peer = Peer { address: "127.0.0.1:1".into() };
    // The second time it begins anew, as after a crash.
    for _ in 0..2 {
        plant(new.path(), NEXT, &peer, std::slice::from_ref(&copy), Build::THIS).unwrap();
    }
    for round in 0..2 {
        let options = LogOptions { node: NEXT, ..options(new.path()) };
        let node = NodeLog::open(options, Arc::new(NoPeers)).await.unwrap();
        let origin = Origin::Found(BTreeMap::from([(NEXT, peer.clone())]));
        let shard = node.open_shard(FIRST, origin).await.unwrap();
        assert!(leading(&shard).await > term + 1);
        shard.read_index().await.unwrap();
        assert_eq!(present(&shard, 30), (0..20 + round).collect::<Vec<_>>());
        assert_eq!(shard.numbers().purged, Some(position));
        let members = shard.members();
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [NEXT]);
        assert!(members.values().all(|member| member.part == Part::Voter));
        assert!(is_written(&put(&shard, 20).await.unwrap()));
        assert_eq!(shard.view().audit().unwrap(), []);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_not_what_was_announced_is_neither_examined_nor_planted() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, shard) = start(folder.path()).await;
    put(&shard, 1).await.unwrap();
    let (path, digest) = keep(shard.copy().await.unwrap(), kept.path());
    node.stop().await;
    let said = |error: statehouse_log::LogError| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        source.unwrap_or_default()
    };
    let other = said(examine(&path, ShardId(3), digest, Build::THIS).unwrap_err());
    assert!(other.contains("belongs to shard 0, expected 3"), "{other}");

    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let no = said(examine(&path, FIRST, digest, Build::THIS).unwrap_err());
    assert!(no.contains("is not what was announced"), "{no}");
    // With a fingerprint that fits, the rows or pages say it themselves, or nothing that is kept has changed.
    fs::write(&path, &whole[..whole.len() - 4_096]).unwrap();
    let cut = Digest::of(&whole[..whole.len() - 4_096]);
    assert!(examine(&path, FIRST, cut, Build::THIS).is_err());

    let new = tempfile::tempdir().unwrap();
    assert!(plant(new.path(), NEXT, &Peer::default(), &[(path, digest)], Build::THIS).is_err());
    assert!(!new.path().join("log.db").exists());
}
