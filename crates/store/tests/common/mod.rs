//! Entries in few words, for every test of this crate.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each test uses a part of it, may stop where it fails and prints its seed"
)]

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use statehouse_contract::{
    Actor, Build, DefinitionName, Digest, Due, InstanceId, InstanceKey, Json, Key, KeyText, NodeId,
    Receipt, ReceiptKind, RejectionCode, ShardId, StoredReceipt, Target, TenantId, Timestamp,
    TraceContext, Version,
};
use statehouse_store::{
    Applied, Body, Committed, Entry, Header, NodeDir, Outcome, Store, StoreError, Verify, Written,
    entry::{
        Asked, Authority, Cause, CauseKind, DefinitionAdded, DueChange, Expect, Pin, Refused,
        RowDigest, Status, Transitioned,
    },
};

pub(crate) const SHARD: ShardId = ShardId(1);

pub(crate) fn open(dir: &std::path::Path) -> Store {
    open_as(dir, Build::THIS).unwrap()
}

/// Opens the shard as a build would that knows this.
pub(crate) fn open_as(dir: &std::path::Path, build: Build) -> Result<Store, StoreError> {
    let dir = NodeDir::open(dir).unwrap();
    Store::open(&dir, SHARD, 2, Verify::Start, build)
}

pub(crate) fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

pub(crate) fn instance(text: &str) -> InstanceKey {
    InstanceKey { tenant: tenant("acme"), instance: InstanceId::parse(text).unwrap() }
}

pub(crate) fn client(text: &str) -> Key {
    Key::Client(KeyText::parse(text).unwrap())
}

pub(crate) fn header(term: u64, at: i64) -> Header {
    Header {
        decided_term: term,
        decided_by: NodeId { number: 1, incarnation: 1 },
        decided_at: Timestamp(at),
        actor: Actor { name: "ann".into(), roles: Vec::new() },
        reason: None,
        trace: TraceContext::default(),
        correlation: None,
    }
}

pub(crate) fn receipt(kind: ReceiptKind, version: Option<Version>, body: &str) -> StoredReceipt {
    StoredReceipt {
        kind,
        fingerprint: Digest::of(b"request"),
        version,
        body: Json::parse(body.as_bytes()).unwrap(),
    }
}

/// A transition with sensible parts; tests change what they are about.
pub(crate) fn transition(name: &str, expect: Expect, key: Option<&str>) -> Transitioned {
    let version = match expect {
        Expect::Absent => Version { born: 0, version: 1 },
        Expect::At { version, .. } => Version { version: version.version + 1, ..version },
    };
    let is_start = expect == Expect::Absent;
    let kind = if is_start { ReceiptKind::Created } else { ReceiptKind::Accepted };
    let body = format!(r#"{{"version":{}}}"#, version.version);
    Transitioned {
        instance: instance(name),
        bucket_epoch: 0,
        definition: Pin {
            name: DefinitionName::parse("order").unwrap(),
            version: 1,
            digest: Digest::of(b"order"),
        },
        expect,
        version: version.version,
        key: key.map(client),
        expected: None,
        cause: Cause {
            kind: if is_start { CauseKind::Start } else { CauseKind::Cmd },
            event: if is_start { "start".into() } else { "go".into() },
            data: None,
        },
        status: Status::Running,
        from: if is_start { Vec::new() } else { vec!["open".into()] },
        to: vec!["open".into()],
        tags: Vec::new(),
        snapshot: format!("snapshot of {name} at {}", version.version).into_bytes().into(),
        parent: None,
        due: Vec::new(),
        tasks: Vec::new(),
        outbox: Vec::new(),
        emitted: Vec::new(),
        receipt: key.map(|_| receipt(kind, Some(version), &body)),
        settled: Vec::new(),
        receipt_keep_ms: None,
    }
}

pub(crate) fn refusal(name: &str, expect: Expect, key: &str) -> Refused {
    let version = match expect {
        Expect::Absent => None,
        Expect::At { version, .. } => Some(version),
    };
    Refused {
        target: Target::Instance(instance(name)),
        bucket_epoch: 0,
        expect: Some(expect),
        definition: None,
        key: client(key),
        expected: None,
        cause: Cause { kind: CauseKind::Cmd, event: "go".into(), data: None },
        receipt: receipt(
            ReceiptKind::Refused(RejectionCode::NotHandled),
            version,
            r#"{"code":"not_handled"}"#,
        ),
        receipt_keep_ms: None,
    }
}

pub(crate) fn asked(key: &str, target: Target) -> Asked {
    Asked { target, key: client(key), receipt: receipt(ReceiptKind::Created, None, "{}") }
}

pub(crate) fn definition(version: u32, content: &str, key: Option<&str>) -> Body {
    Body::DefinitionAdded(Box::new(DefinitionAdded {
        tenant: tenant("acme"),
        name: DefinitionName::parse("order").unwrap(),
        version,
        digest: Digest::of(content.as_bytes()),
        document: Json::from_value(&content.into()),
        authority: Authority::Original,
        asked: key.map(|key| asked(key, Target::Tenant(tenant("acme")))),
    }))
}

pub(crate) fn timer(id: &str, generation: u64) -> Due {
    Due::Timer { id: id.into(), generation }
}

pub(crate) fn arm(at: i64, id: &str, generation: u64) -> DueChange {
    DueChange::Arm { at: Timestamp(at), what: timer(id, generation) }
}

pub(crate) fn disarm(at: i64, id: &str, generation: u64) -> DueChange {
    DueChange::Disarm { at: Timestamp(at), what: timer(id, generation) }
}

/// A store with a log of its own: gives positions, terms and times.
pub(crate) struct Shard {
    pub(crate) store: Store,
    pub(crate) term: u64,
    pub(crate) next: u64,
    pub(crate) now: i64,
}

impl Shard {
    pub(crate) fn new(dir: &std::path::Path) -> Self {
        Self::over(open(dir))
    }

    pub(crate) fn over(store: Store) -> Self {
        let next = store.meta().applied.map_or(1, |position| position + 1);
        Self { term: 1, next, now: 1_000 + store.meta().time.0, store }
    }

    pub(crate) fn header(&self) -> Header {
        header(self.term, self.now)
    }

    /// Applies one fact, decided now, and says what became of it.
    pub(crate) fn apply(&mut self, body: Body) -> Outcome {
        let entry = Entry { header: self.header(), body };
        self.apply_entry(&entry)
    }

    pub(crate) fn apply_entry(&mut self, entry: &Entry) -> Outcome {
        let place = Committed { position: self.next, term: self.term, entry: Some(entry) };
        let applied: Vec<Applied> = self.store.apply(&[place], None).unwrap();
        self.next += 1;
        self.now += 10;
        applied.into_iter().next().unwrap().outcome
    }

    pub(crate) fn moved(&mut self, t: Transitioned) -> Outcome {
        self.apply(Body::Transitioned(Box::new(t)))
    }

    pub(crate) fn refused(&mut self, refused: Refused) -> Outcome {
        self.apply(Body::Refused(Box::new(refused)))
    }

    pub(crate) fn written(&mut self, t: Transitioned) -> Written {
        written(self.moved(t))
    }

    /// Starts an instance under a key.
    pub(crate) fn start(&mut self, name: &str, key: &str) -> Written {
        self.written(transition(name, Expect::Absent, Some(key)))
    }

    /// How an instance stands now.
    pub(crate) fn at(&self, name: &str) -> Expect {
        let row = self.store.view().instance(&instance(name)).unwrap().unwrap();
        Expect::At { version: row.version, digest: row.digest }
    }
}

pub(crate) fn written(outcome: Outcome) -> Written {
    match outcome {
        Outcome::Written(written) => *written,
        other => panic!("not written: {other:?}"),
    }
}

pub(crate) fn known(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Known(receipt) => *receipt,
        other => panic!("not known: {other:?}"),
    }
}

pub(crate) fn digest_of(expect: Expect) -> RowDigest {
    match expect {
        Expect::At { digest, .. } => digest,
        Expect::Absent => RowDigest::default(),
    }
}

/// Numbers from a seed that is printed first (SplitMix64); `STATEHOUSE_SEED` repeats a run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var("STATEHOUSE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        println!("STATEHOUSE_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}
