//! A node to test with: its directory, its log, entries in few words, and its sudden death.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use statehouse_contract::{Actor, Build, NodeId, ShardId, TenantId, Timestamp, TraceContext};
use statehouse_log::{
    Leadership, LogError, LogOptions, NoPeers, NodeLog, Origin, Peer, Profile, ProposeError,
    Reserve, ShardLog, Urgency,
};
use statehouse_store::{Applied, Body, Entry, Header, NodeDir, Outcome, StoreError};
use tempfile::TempDir;

pub(crate) const NODE: NodeId = NodeId { number: 1, incarnation: 1 };
pub(crate) const SHARD: ShardId = ShardId(1);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(folder: &Path) -> LogOptions {
    // A node that was just dropped gives the directory back when its last task has ended.
    let begun = Instant::now();
    let data = loop {
        match NodeDir::open(folder) {
            Ok(data) => break data,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    LogOptions {
        data,
        node: NODE,
        profile: Profile::Local,
        build: Build::THIS,
        reserve_bytes: Reserve::Bytes(0),
        snapshot_every: 1_000_000,
        log_pages_max: None,
    }
}

pub(crate) async fn open(folder: &Path) -> Result<NodeLog, LogError> {
    NodeLog::open(options(folder), Arc::new(NoPeers)).await
}

pub(crate) fn found() -> Origin {
    Origin::Found(BTreeMap::from([(NODE, Peer::default())]))
}

/// Opens a node with one shard that leads.
pub(crate) async fn start(folder: &Path) -> (NodeLog, ShardLog) {
    let node = open(folder).await.unwrap();
    let shard = node.open_shard(SHARD, found()).await.unwrap();
    leading(&shard).await;
    (node, shard)
}

/// Waits until the shard leads; returns the term.
pub(crate) async fn leading(shard: &ShardLog) -> u64 {
    let mut leadership = shard.leadership();
    let leads = leadership.wait_for(|now| matches!(now, Leadership::Leading { .. }));
    match *tokio::time::timeout(PATIENCE, leads).await.expect("it leads in time").unwrap() {
        Leadership::Leading { term } => term,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn tenant(number: u64) -> TenantId {
    TenantId::parse(&format!("t-{number}")).unwrap()
}

/// An entry that leaves a row behind: a tenant of that number. `ballast` makes it larger.
pub(crate) fn entry(term: u64, number: u64, ballast: usize) -> Entry {
    Entry {
        header: Header {
            decided_term: term,
            decided_by: NODE,
            decided_at: Timestamp(1_000),
            actor: Actor::system(),
            reason: (ballast > 0).then(|| "x".repeat(ballast).into()),
            trace: TraceContext::default(),
            correlation: None,
        },
        body: Body::TenantSet { tenant: tenant(number), asked: None },
    }
}

/// Proposes an entry in the present term.
pub(crate) async fn put(shard: &ShardLog, number: u64) -> Result<Applied, ProposeError> {
    put_large(shard, number, 0).await
}

pub(crate) async fn put_large(
    shard: &ShardLog,
    number: u64,
    ballast: usize,
) -> Result<Applied, ProposeError> {
    let term = match *shard.leadership().borrow() {
        Leadership::Leading { term } => term,
        _ => 0,
    };
    shard.propose(entry(term, number, ballast), Urgency::Client).await
}

/// Returns which of the tenants below `count` have a row. A view whose file a snapshot has replaced is asked anew.
pub(crate) fn present(shard: &ShardLog, count: u64) -> Vec<u64> {
    let begun = Instant::now();
    loop {
        let view = shard.view();
        let rows = (0..count).map(|number| Ok((number, view.tenant(&tenant(number))?)));
        let rows: Result<Vec<_>, StoreError> = rows.collect();
        match rows {
            Ok(rows) => {
                return rows.iter().filter(|(_, row)| row.is_some()).map(|(n, _)| *n).collect();
            }
            Err(StoreError::Replaced { .. }) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn is_written(applied: &Applied) -> bool {
    matches!(applied.outcome, Outcome::Written(_))
}

/// Copies a node's files as they lie, as a kill of its process would leave them.
pub(crate) fn killed(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_all(folder, copy.path());
    copy
}

pub(crate) fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_all(&file.path(), &target);
        } else if !file.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
