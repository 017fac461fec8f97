//! A node from start to end, through its router, on real files.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use statehouse_cluster::{Bootstrap, Node, NodeConfig, NodeError, Router, Tuning};
use statehouse_contract::{
    Actor, Answer, Build, Clock, Command, CommandEnvelope, Consistency, DefinitionName,
    DefinitionRef, Digest, InstanceFilter, InstanceId, InstanceKey, Json, Key, KeyText, Query,
    ReceiptKind, RejectionCode, ShardId, Target, TenantId, Timestamp, TraceContext, WatchScope,
};

const LAMP: &str = r#"{"format":"statehouse/1","version":1,"id":"lamp","initial":"off","endless":true,
"commands":{"press":{}},"states":{"off":{"on":{"press":"on"}},"on":{"on":{"press":"off"}}}}"#;

#[derive(Debug)]
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A new cluster of one, with four shards.
const FOUND: Bootstrap = Bootstrap::Found { shards: 4 };

fn config(data: &Path, bootstrap: Bootstrap) -> NodeConfig {
    NodeConfig {
        data: data.to_owned(),
        number: 1,
        api: "127.0.0.1:0".to_owned(),
        region: None,
        bootstrap,
        cluster: None,
        clock: Arc::new(WallClock),
        tuning: Tuning::standard(),
    }
}

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a fitting name")
}

fn key(instance: &str) -> InstanceKey {
    let instance = InstanceId::parse(instance).expect("a fitting name");
    InstanceKey { tenant: tenant(), instance }
}

fn envelope(target: Target, name: &str, command: Command) -> CommandEnvelope {
    CommandEnvelope {
        target,
        fingerprint: Digest::of(format!("{command:?}").as_bytes()),
        command,
        key: Key::Client(KeyText::parse(name).expect("a fitting key")),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: 10_000,
        expected: None,
        actor: Actor { name: "ann".into(), roles: Vec::new() },
        reason: None,
        attempt: 1,
    }
}

async fn furnish(router: &Router) {
    let target = Target::Tenant(tenant());
    let put = Command::PutTenant { tenant: tenant() };
    router.submit(envelope(target.clone(), "tenant", put)).await.expect("a new tenant");
    let deploy = Command::Deploy {
        name: DefinitionName::parse("lamp").expect("a fitting name"),
        version: Some(1),
        digest: Digest::of(LAMP.as_bytes()),
        document: Json::parse(LAMP.as_bytes()).expect("a JSON text"),
    };
    let deployed = router.submit(envelope(target, "deploy", deploy)).await.expect("deployed");
    assert_eq!(deployed.kind, ReceiptKind::Created);
}

fn start(instance: &str) -> CommandEnvelope {
    let name = DefinitionName::parse("lamp").expect("a fitting name");
    let definition = DefinitionRef { name, version: None, digest: None };
    let command = Command::Start { definition, input: Json::empty_object() };
    envelope(Target::Instance(key(instance)), &format!("start-{instance}"), command)
}

fn press(instance: &str, name: &str) -> CommandEnvelope {
    let data = Json::empty_object();
    let command = Command::Send { event: "press".into(), data, postpone_ms: None };
    envelope(Target::Instance(key(instance)), name, command)
}

async fn version(router: &Router, instance: &str) -> u64 {
    let query = Query::Instance {
        key: key(instance),
        consistency: Consistency::Linearizable,
        min_version: None,
        remaining_ms: 5_000,
    };
    match router.query(query).await.expect("the instance is there") {
        Answer::Instance(view) => view.version,
        other => panic!("another answer: {other:?}"),
    }
}

fn filter(cursor: Option<String>) -> InstanceFilter {
    let cursor = cursor.map(Into::into);
    InstanceFilter { all: true, limit: 7, cursor, complete: true, ..InstanceFilter::of(tenant()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("node-1");
    let node = Node::start(config(&data, FOUND)).await.expect("a new node");
    assert!(node.readiness().ready, "{:?}", node.readiness());
    let router = node.router();
    furnish(&router).await;
    for n in 0..40 {
        let born = router.submit(start(&format!("i{n}"))).await.expect("started");
        assert_eq!(born.kind, ReceiptKind::Created);
        router.submit(press(&format!("i{n}"), "p1")).await.expect("pressed");
    }
    let before = router.submit(press("i7", "p2")).await.expect("pressed again");
    node.drain(Duration::from_secs(10)).await;

    let node = Node::start(config(&data, Bootstrap::Never)).await.expect("the same node");
    let router = node.router();
    for n in 0..40 {
        let expected = if n == 7 { 3 } else { 2 };
        assert_eq!(version(&router, &format!("i{n}")).await, expected, "i{n}");
    }
    let again = router.submit(press("i7", "p2")).await.expect("the stored answer");
    assert_eq!((again.body, again.replayed), (before.body, true));
    node.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_walks_over_all_shards_and_names_each_instance_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(config(directory.path(), FOUND)).await.expect("a node");
    let router = node.router();
    furnish(&router).await;
    for n in 0..30 {
        router.submit(start(&format!("i{n}"))).await.expect("started");
    }
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let query = Query::Instances(filter(cursor));
        let Answer::Instances(page) = router.query(query).await.expect("a page") else {
            panic!("another answer");
        };
        assert!(page.items.len() <= 7);
        for row in page.items {
            assert!(seen.insert(row.id.as_str().to_owned()), "{} twice", row.id);
        }
        pages += 1;
        cursor = page.page.end_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (30, pages.max(5)));
    let wrong = router.query(Query::Instances(filter(Some("x".to_owned())))).await.unwrap_err();
    assert_eq!(wrong.code, RejectionCode::InvalidRequest);
    node.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_a_tenant_misses_nothing_and_sees_nothing_twice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(config(directory.path(), FOUND)).await.expect("a node");
    let router = node.router();
    furnish(&router).await;
    let changes = |after: Option<String>| Query::Changes {
        scope: WatchScope::Tenant(tenant()),
        after: after.map(Into::into),
        limit: 5,
        wait_ms: 2_000,
        complete: true,
    };
    let writer = {
        let router = router.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for n in 0..20 {
                let instance = format!("i{n}");
                router.submit(start(&instance)).await.expect("started");
                router.submit(press(&instance, "p")).await.expect("pressed");
            }
        })
    };
    let (mut seen, mut cursor) = (Vec::new(), None);
    while seen.len() < 40 {
        let Answer::Changes(page) = router.query(changes(cursor)).await.expect("changes") else {
            panic!("another answer");
        };
        assert!(!page.items.is_empty(), "after {} changes", seen.len());
        // A reader that stops in the middle goes on from the cursor of what it read last.
        let middle = page.items.len().div_ceil(2);
        seen.extend(page.items[..middle].iter().map(|c| (c.instance.to_string(), c.version)));
        cursor = Some(page.items[middle - 1].cursor.clone());
    }
    writer.await.expect("the writer ends");
    let once: BTreeSet<_> = seen.iter().collect();
    assert_eq!((once.len(), seen.len()), (40, 40));
    node.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_or_without_identity_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let no = Node::start(config(directory.path(), Bootstrap::Never)).await.unwrap_err();
    assert!(matches!(no, NodeError::NotInitialised { .. }), "{no}");
    let node = Node::start(config(directory.path(), FOUND)).await.expect("a node");
    let no = Node::start(config(directory.path(), Bootstrap::Never)).await.unwrap_err();
    assert!(matches!(no, NodeError::Locked { .. }), "{no}");
    node.drain(Duration::from_secs(10)).await;
}

/// The same node as a build that knows level 2.
fn newer(data: &Path, bootstrap: Bootstrap) -> NodeConfig {
    let tuning = Tuning { build: Build::rehearsed(2), ..Tuning::standard() };
    NodeConfig { tuning, ..config(data, bootstrap) }
}

fn raise(shard: u32, level: u16, name: &str) -> CommandEnvelope {
    envelope(Target::Shard(ShardId(shard)), name, Command::RaiseFeature { level })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_shard_is_raised_in_its_own_log_and_an_older_build_opens_none_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(newer(directory.path(), FOUND)).await.unwrap();
    let router = node.router();
    for shard in [1, 2, 3, 0] {
        let told = async |level, name| router.submit(raise(shard, level, name)).await.unwrap();
        let above = told(3, "too-far").await;
        assert_eq!(above.kind, ReceiptKind::Refused(RejectionCode::LimitExceeded));
        let body = above.body.as_str();
        assert!(body.contains("level 3 is beyond the builds of n1.1 (level 2)"), "{body}");
        let first = told(2, "first").await;
        let (kind, body) = (first.kind, first.body.as_str());
        let expected = format!(r#"{{"shard":{shard},"level":2,"raised":true"#);
        assert!(kind == ReceiptKind::Accepted && body.starts_with(&expected), "{kind:?} {body}");
        let again = told(2, "first").await;
        assert!(again.replayed && again.body == first.body, "{again:?}");
        let late = told(1, "late").await;
        assert!(late.body.as_str().contains(r#""level":2,"raised":false"#), "{late:?}");
    }
    let nowhere = router.submit(raise(4, 2, "nowhere")).await.unwrap_err();
    assert_eq!(nowhere.code, RejectionCode::InvalidRequest);
    let put = Command::PutTenant { tenant: tenant() };
    let astray = router.submit(envelope(Target::Shard(ShardId(1)), "astray", put)).await;
    assert_eq!(astray.unwrap_err().code, RejectionCode::InvalidRequest);
    let Answer::Cluster(view) = router.query(Query::Cluster { instance: None }).await.unwrap()
    else {
        panic!("another answer");
    };
    assert_eq!(view.members[0].build_level, Some(2));
    assert!(view.shards.iter().all(|shard| shard.level == Some(2)), "{view:?}");
    node.drain(Duration::from_secs(10)).await;

    let error = Node::start(config(directory.path(), Bootstrap::Never)).await.unwrap_err();
    assert!(matches!(error, NodeError::Level { expected: 1, found: 2, .. }), "{error:?}");
    let node = Node::start(newer(directory.path(), Bootstrap::Never)).await.unwrap();
    let again = node.router().submit(raise(1, 2, "first")).await.unwrap();
    assert!(again.replayed, "{again:?}");
    node.drain(Duration::from_secs(10)).await;
}
