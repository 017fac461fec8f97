//! A node's shards on a temporary directory, with a clock that the test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use statehouse_chart::{Source, load};
use statehouse_contract::{
    Actor, Command, CommandEnvelope, Consistency, DefinitionName, DefinitionRef, Digest,
    InstanceFilter, InstanceId, InstanceKey, Json, Key, KeyText, Receipt, Rejection, Target,
    TenantId, TraceContext, Verb, Version,
};
use statehouse_contract::{Clock, NodeId, ShardId, Timestamp, view::InstanceView};

use statehouse_log::{NoPeers, Origin, Peer, Transport};

use crate::{Door, HostConfig, Profile, Reserve, ShardHost, Tuning, reading::resolve, seat::Seat};

/// A clock that stands where the test puts it, and panics as often as the test says.
#[derive(Debug, Default)]
pub(super) struct TestClock {
    now: AtomicI64,
    panics: AtomicU32,
    is_unset: AtomicBool,
}

impl TestClock {
    /// Says whether others have to be asked for the time first.
    pub(super) fn unset(&self, is_unset: bool) {
        self.is_unset.store(is_unset, Ordering::SeqCst);
    }

    pub(super) fn advance(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    /// Makes the next readings panic: a fault inside whoever reads the clock.
    pub(super) fn break_for(&self, readings: u32) {
        self.panics.store(readings, Ordering::SeqCst);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.panics.load(Ordering::SeqCst) == 0
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let left = self.panics.load(Ordering::SeqCst);
        if left > 0 {
            self.panics.store(left - 1, Ordering::SeqCst);
            panic!("the clock is broken (by the test)");
        }
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn is_set(&self) -> bool {
        !self.is_unset.load(Ordering::SeqCst)
    }
}

pub(super) const DOOR: &str = r#"
format: statehouse/1
version: 1
id: door
initial: closed
endless: true
context: {count: 0}
schemas:
  context: {type: object, properties: {count: {type: integer}}, required: [count]}
commands:
  open: {}
  close: {}
  later: {}
  wind: {}
signals:
  ping: {}
states:
  closed:
    on:
      open: {target: opened, actions: [{assign: {count: '${context.count + 1}'}}, {reply: {count: '${context.count}'}}]}
      later: {postpone: true}
      wind: {target: wound}
      ping: {actions: [{assign: {count: '${context.count + 1}'}}]}
  opened:
    on:
      close: {target: closed}
      later: {actions: [{reply: {at: opened}}]}
  wound:
    after: {30s: closed}
"#;

pub(super) struct Fixture {
    pub(super) host: ShardHost,
    pub(super) clock: Arc<TestClock>,
    pub(super) directory: tempfile::TempDir,
    pub(super) tuning: Tuning,
}

pub(super) fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

pub(super) fn key(instance: &str) -> InstanceKey {
    InstanceKey { tenant: tenant(), instance: InstanceId::parse(instance).unwrap() }
}

pub(super) fn envelope(key: &InstanceKey, name: &str, command: Command) -> CommandEnvelope {
    CommandEnvelope {
        target: Target::Instance(key.clone()),
        fingerprint: Digest::of(format!("{command:?}").as_bytes()),
        command,
        key: Key::Client(KeyText::parse(name).unwrap()),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: 10_000,
        expected: None,
        actor: Actor { name: "ann".into(), roles: Vec::new() },
        reason: None,
        attempt: 1,
    }
}

impl Fixture {
    /// Starts one shard with a tenant and a deployed definition.
    pub(super) async fn new() -> Self {
        Self::with(Tuning::standard()).await
    }

    pub(super) async fn with(tuning: Tuning) -> Self {
        Self::among(tuning, Arc::new(NoPeers), alone()).await
    }

    /// Starts the shard with fellow voters behind a transport.
    pub(super) async fn among(
        tuning: Tuning,
        transport: Arc<dyn Transport>,
        origin: Origin,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::default());
        clock.advance(1_000_000);
        let config = config(&directory, &clock, tuning, Reserve::Bytes(0));
        let host = open(HostConfig { transport, origin, ..config }).await;
        let fixture = Self { host, clock, directory, tuning };
        fixture.register("tenant", Command::PutTenant { tenant: tenant() }).await.unwrap();
        fixture.deploy(DOOR).await;
        fixture
    }

    /// Stops everything in order and starts it again on the same directory.
    pub(super) async fn restart(self) -> Self {
        let Self { host, clock, directory, tuning } = self;
        host.drain(Duration::from_secs(5)).await;
        let host = start(&directory, &clock, tuning, Reserve::Bytes(0)).await;
        Self { host, clock, directory, tuning }
    }

    /// Stops everything and starts it again with no room on the disk.
    pub(super) async fn restart_full(self) -> Self {
        let Self { host, clock, directory, tuning } = self;
        host.drain(Duration::from_secs(5)).await;
        let host = start(&directory, &clock, tuning, Reserve::Bytes(u64::MAX / 4)).await;
        Self { host, clock, directory, tuning }
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        self.host.seat(ShardId(0)).unwrap()
    }

    pub(super) fn door(&self) -> Door {
        self.host.door(ShardId(0)).unwrap()
    }

    pub(super) async fn register(
        &self,
        name: &str,
        command: Command,
    ) -> Result<Receipt, Rejection> {
        let target = Target::Tenant(tenant());
        let envelope = CommandEnvelope { target, ..envelope(&key("x"), name, command) };
        self.door().register(envelope).await
    }

    pub(super) async fn deploy(&self, text: &str) {
        self.deploy_as(text, "deploy").await;
    }

    pub(super) async fn deploy_as(&self, text: &str, name: &str) {
        let document = load::load(text).unwrap();
        let (source, findings) = Source::parse(&document);
        assert!(findings.is_empty(), "{findings:?}");
        let chart = statehouse_chart::Chart::compile(&source.unwrap()).unwrap();
        let deploy = Command::Deploy {
            name: DefinitionName::parse(chart.name()).unwrap(),
            version: chart.version().and_then(|version| u32::try_from(version).ok()),
            digest: chart.digest(),
            document: Json::parse(chart.document().as_bytes()).unwrap(),
        };
        self.register(name, deploy).await.unwrap();
    }

    pub(super) async fn start(&self, instance: &str, name: &str) -> Result<Receipt, Rejection> {
        let key = key(instance);
        let wanted = DefinitionRef {
            name: DefinitionName::parse("door").unwrap(),
            version: None,
            digest: None,
        };
        let definition = resolve(self.seat(), &key.tenant, &wanted).await?;
        let command = Command::Start { definition, input: Json::empty_object() };
        self.door().deliver(&key, envelope(&key, name, command)).await
    }

    pub(super) async fn send(
        &self,
        instance: &str,
        event: &str,
        name: &str,
    ) -> Result<Receipt, Rejection> {
        let key = key(instance);
        let data = Json::empty_object();
        let command = Command::Send { event: event.into(), data, postpone_ms: None };
        self.door().deliver(&key, envelope(&key, name, command)).await
    }

    /// Sends an event as somebody who waits so long, and who has seen this version.
    pub(super) async fn send_as(
        &self,
        instance: &str,
        event: &str,
        name: &str,
        (remaining_ms, expected): (u64, Option<Version>),
    ) -> Result<Receipt, Rejection> {
        let key = key(instance);
        let data = Json::empty_object();
        let command = Command::Send { event: event.into(), data, postpone_ms: None };
        let sent = envelope(&key, name, command);
        self.door().deliver(&key, CommandEnvelope { remaining_ms, expected, ..sent }).await
    }

    pub(super) async fn operate(&self, instance: &str, verb: Verb) -> Result<Receipt, Rejection> {
        let key = key(instance);
        let name = format!("operate-{}", verb.name());
        self.door().deliver(&key, envelope(&key, &name, Command::Operate(verb))).await
    }

    pub(super) async fn read(&self, instance: &str) -> InstanceView {
        let key = key(instance);
        let read = self.seat().instance(&key, Consistency::Linearizable, None, 5_000);
        read.await.unwrap()
    }

    /// Works every instance out anew at each of its versions: the fingerprints in its history say that it was so.
    pub(super) async fn rebuilds_all(&self) {
        let filter = InstanceFilter { all: true, ..InstanceFilter::of(tenant()) };
        let (rows, _) = self.seat().list(&filter, None, 100).await.unwrap();
        for row in rows {
            for version in 1..=row.version {
                let key = key(row.id.as_str());
                let command = self.seat().adoption(&key, version, None).await;
                assert!(command.is_ok(), "{} at {version}: {command:?}", row.id);
            }
        }
    }

    /// Makes the timer actor look now: the test's clock moves without it.
    pub(super) fn poke(&self) {
        self.seat().timer_hint().armed(Timestamp(i64::MIN + 1));
    }

    /// Waits for a condition, with a deadline.
    pub(super) async fn until(&self, what: &str, is_true: impl AsyncFn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_true(self).await {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
            self.poke();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) async fn start(
    directory: &tempfile::TempDir,
    clock: &Arc<TestClock>,
    tuning: Tuning,
    reserve: Reserve,
) -> ShardHost {
    open(config(directory, clock, tuning, reserve)).await
}

pub(super) fn config(
    directory: &tempfile::TempDir,
    clock: &Arc<TestClock>,
    tuning: Tuning,
    reserve: Reserve,
) -> HostConfig {
    let clock: Arc<TestClock> = Arc::clone(clock);
    HostConfig {
        data: directory.path().to_owned(),
        node: NodeId { number: 1, incarnation: 1 },
        shards: 1,
        profile: Profile::Local,
        reserve,
        origin: alone(),
        transport: Arc::new(NoPeers),
        builds: crate::Builds::default(),
        clock,
        tuning,
    }
}

async fn open(config: HostConfig) -> ShardHost {
    let host = ShardHost::start(config).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while host.seats().iter().any(|seat| seat.trouble().is_some()) {
        assert!(tokio::time::Instant::now() < deadline, "the shard did not open");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host
}

/// A shard that is founded with its one node.
pub(super) fn alone() -> Origin {
    Origin::Found([(NodeId { number: 1, incarnation: 1 }, Peer::default())].into())
}
