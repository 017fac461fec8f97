//! Once, fence, write: what each entry does to the rows.
#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

mod common;

use common::{
    Shard, arm, asked, client, definition, digest_of, disarm, instance, known, receipt, refusal,
    tenant, timer, transition, written,
};
use statehouse_contract::{
    Bucket, Command, DefinitionName, Digest, Key, KeyHash, Quota, ReceiptKind, RejectionCode,
    RoleName, ShardId, Target, Timestamp, Version,
};
use statehouse_store::{
    Body, Committed, DueOwner, Entry, Fence, ListFilter, Outcome, StoreError, SweepLimits,
    TaskState,
    entry::{
        AttemptEnded, AttemptNext, DueChange, Expect, KeyState, LeaseExtended, LeaseGiven,
        OutboxChange, OutboxDone, RowDigest, Status, TaskChange, TaskKey, TaskLeased, TaskRef,
    },
};

fn fence(outcome: Outcome) -> Fence {
    match outcome {
        Outcome::Fenced(fence) => fence,
        other => panic!("not fenced: {other:?}"),
    }
}

#[test]
fn a_start_and_a_command_make_versions_one_and_two() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let started = shard.start("a-1", "k-1");
    assert_eq!(started.version, Some(Version { born: 1, version: 1 }));
    assert_eq!(started.receipt.unwrap().body.as_str(), r#"{"version":1,"position":1}"#);
    let at = shard.at("a-1");
    let moved = shard.written(transition("a-1", at, Some("k-2")));
    assert_eq!(moved.version, Some(Version { born: 1, version: 2 }));
    let row = shard.store.view().instance(&instance("a-1")).unwrap().unwrap();
    assert_eq!(Some(row.digest), moved.digest);
    assert_eq!(&*row.snapshot, b"snapshot of a-1 at 2");
    let page = shard.store.view().history(&instance("a-1"), 0, 10).unwrap().unwrap();
    assert_eq!(page.rows.len(), 2);
}

#[test]
fn a_known_key_gets_its_stored_receipt_before_any_fence() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let first = shard.start("a-1", "k-1").receipt.unwrap();
    let at = shard.at("a-1");
    shard.written(transition("a-1", at, Some("k-2")));
    shard.term = 2;
    let mut late = transition("a-1", Expect::Absent, Some("k-1"));
    late.bucket_epoch = 9;
    let entry = Entry { header: common::header(1, 0), body: Body::Transitioned(Box::new(late)) };
    let again = known(shard.apply_entry(&entry));
    assert!(again.replayed);
    assert_eq!((again.body, again.position), (first.body, first.position));
    let mut other = transition("a-1", Expect::Absent, Some("k-1"));
    other.receipt.as_mut().unwrap().fingerprint = Digest::of(b"another request");
    assert_eq!(shard.moved(other), Outcome::KeyReused);
}

#[test]
fn a_late_entry_is_fenced_and_changes_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    let first = shard.at("a-1");
    shard.written(transition("a-1", first, Some("k-2")));
    let row = shard.store.view().instance(&instance("a-1")).unwrap();
    let now = shard.at("a-1");
    let Expect::At { version, digest } = now else { unreachable!() };

    let old_term = Entry {
        header: common::header(0, 0),
        body: Body::Transitioned(Box::new(transition("a-1", now, Some("k-3")))),
    };
    let found = fence(shard.apply_entry(&old_term));
    assert_eq!(found, Fence::Term { expected: 0, found: 1 });

    let found = fence(shard.moved(transition("a-1", first, Some("k-3"))));
    assert_eq!(found, Fence::Version { expected: Version { born: 1, version: 1 }, found: version });
    let found = fence(shard.moved(transition("a-1", Expect::Absent, Some("k-3"))));
    assert_eq!(found, Fence::Exists { found: version });
    let other = Expect::At { version, digest: RowDigest([7; 16]) };
    let found = fence(shard.moved(transition("a-1", other, Some("k-3"))));
    assert_eq!(found, Fence::Digest { expected: RowDigest([7; 16]), found: digest });
    let reborn = Expect::At { version: Version { born: 9, version: 2 }, digest };
    let found = fence(shard.moved(transition("a-1", reborn, Some("k-3"))));
    assert!(matches!(found, Fence::Version { .. }));
    let found = fence(shard.moved(transition("a-2", now, Some("k-3"))));
    assert_eq!(found, Fence::Missing { expected: version });
    let mut leap = transition("a-1", now, Some("k-3"));
    leap.version = 7;
    assert_eq!(fence(shard.moved(leap)), Fence::Step { expected: 3, found: 7 });
    let mut moved = transition("a-1", now, Some("k-3"));
    moved.bucket_epoch = 4;
    assert_eq!(fence(shard.moved(moved)), Fence::BucketEpoch { expected: 4, found: 0 });
    let found = fence(shard.refused(refusal("a-1", first, "k-3")));
    assert!(matches!(found, Fence::Version { .. }));

    assert_eq!(shard.store.view().instance(&instance("a-1")).unwrap(), row);
    assert_eq!(shard.store.view().audit().unwrap(), []);
    shard.written(transition("a-1", now, Some("k-3")));
}

#[test]
fn a_refusal_makes_no_version_and_is_repeated_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    let at = shard.at("a-1");
    let first = written(shard.refused(refusal("a-1", at, "k-2"))).receipt.unwrap();
    assert_eq!(first.kind, ReceiptKind::Refused(RejectionCode::NotHandled));
    assert_eq!(shard.at("a-1"), at);
    let again = known(shard.moved(transition("a-1", at, Some("k-2"))));
    assert_eq!(again.body, first.body);
    // Refused because there was no such instance: the answer stays when one is born.
    let none = written(shard.refused(refusal("b-1", Expect::Absent, "k-3"))).receipt.unwrap();
    shard.start("b-1", "k-4");
    let at = shard.at("b-1");
    assert_eq!(known(shard.moved(transition("b-1", at, Some("k-3")))).body, none.body);
    let target = Target::Instance(instance("b-1"));
    let stored = shard.store.view().receipt(&target, KeyHash::of(&target, &client("k-3")));
    assert_eq!(stored.unwrap().unwrap().body, none.body);
    assert_eq!(shard.store.view().audit().unwrap(), []);
}

#[test]
fn a_postponed_command_gets_its_final_answer_under_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    let target = Target::Instance(instance("a-1"));
    let hash = KeyHash::of(&target, &client("k-2"));
    let mut kept = transition("a-1", shard.at("a-1"), Some("k-2"));
    kept.receipt.as_mut().unwrap().kind = ReceiptKind::Postponed;
    shard.written(kept);
    let view = shard.store.view();
    assert_eq!(view.receipt(&target, hash).unwrap().unwrap().kind, ReceiptKind::Postponed);
    let mut settles = transition("a-1", shard.at("a-1"), None);
    let answer = receipt(ReceiptKind::Accepted, settles.receipt.take().and(None), r#"{"ok":1}"#);
    settles.settled.push((hash, answer));
    let done = shard.written(settles.clone());
    assert_eq!(done.settled[0].1.body.as_str(), r#"{"ok":1,"position":3}"#);
    let stored = view.receipt(&target, hash).unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.position), (r#"{"ok":1,"position":3}"#, 3));
    settles.expect = shard.at("a-1");
    settles.version += 1;
    assert_eq!(fence(shard.moved(settles)), Fence::Settled { key: hash });
    assert_eq!(view.audit().unwrap(), []);
}

#[test]
fn due_rows_are_armed_held_released_fired_once_and_given_in_shares() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let mut start = transition("a-1", Expect::Absent, Some("k-1"));
    start.due = vec![arm(5_000, "t1", 1), arm(6_000, "t2", 1)];
    shard.written(start);
    let mut other = transition("b-1", Expect::Absent, Some("k-1"));
    other.due = vec![arm(5_500, "t1", 1)];
    shard.written(other);
    let view = shard.store.view();
    let times = |until: i64, share: usize| -> Vec<i64> {
        let page = view.due(Timestamp(until), None, 10, share).unwrap();
        page.items.iter().map(|item| item.at.0).collect()
    };
    assert_eq!(times(5_600, 10), [5_000, 5_500]);
    assert_eq!(times(9_000, 1), [5_000]);
    assert_eq!(view.next_due(Timestamp(0)).unwrap(), Some(Timestamp(5_000)));
    let page = view.due(Timestamp(9_000), None, 1, 10).unwrap();
    assert!(matches!(&page.items[0].owner, DueOwner::Instance { born: 1, .. }));
    let page = view.due(Timestamp(9_000), page.next.as_ref(), 1, 10).unwrap();
    assert_eq!(page.items[0].at, Timestamp(5_500));

    let mut pauses = transition("a-1", shard.at("a-1"), Some("k-2"));
    pauses.due = vec![
        DueChange::Hold { at: Timestamp(5_000), what: timer("t1", 1) },
        DueChange::Hold { at: Timestamp(6_000), what: timer("t2", 1) },
    ];
    shard.written(pauses);
    assert_eq!(times(9_000, 10), [5_500]);
    let mut resumes = transition("a-1", shard.at("a-1"), Some("k-3"));
    resumes.due = vec![
        DueChange::Release { at: Timestamp(5_000), what: timer("t1", 1) },
        DueChange::Disarm { at: Timestamp(6_000), what: timer("t2", 1) },
    ];
    shard.written(resumes);
    assert_eq!(times(9_000, 10), [5_000, 5_500]);

    let mut fires = transition("a-1", shard.at("a-1"), None);
    fires.key = Some(Key::Timer { id: "t1".into(), generation: 1 });
    fires.due = vec![disarm(5_000, "t1", 1), arm(5_000, "t1", 4)];
    shard.written(fires.clone());
    fires.expect = shard.at("a-1");
    fires.version += 1;
    assert_eq!(fence(shard.moved(fires)), Fence::DueMissing { at: Timestamp(5_000) });
    assert_eq!(view.audit().unwrap(), []);
}

fn scheduled(shard: &mut Shard) -> TaskRef {
    let task = TaskKey { version: 1, n: 0 };
    let mut start = transition("a-1", Expect::Absent, Some("k-1"));
    start.tasks = vec![TaskChange::Schedule {
        task,
        queue: "mail".into(),
        order: b"order".as_slice().into(),
        ready_at: Timestamp(0),
    }];
    shard.written(start);
    TaskRef { instance: instance("a-1"), bucket_epoch: 0, born: shard.next - 1, task, token: 0 }
}

fn lease(task: &TaskRef, until: i64) -> Body {
    Body::TaskLeased(Box::new(TaskLeased {
        worker: "w-1".into(),
        leases: vec![LeaseGiven {
            task: task.clone(),
            attempt: 1,
            until: Timestamp(until),
            attempt_until: Some(Timestamp(until + 500)),
        }],
        asked: None,
    }))
}

#[test]
fn a_task_has_one_holder_and_a_stale_token_completes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let task = scheduled(&mut shard);
    let view = shard.store.view();
    assert_eq!(view.ready_tasks(&tenant("acme"), "mail", Timestamp(1), 9).unwrap().len(), 1);
    written(shard.apply(lease(&task, 9_000)));
    assert!(view.ready_tasks(&tenant("acme"), "mail", Timestamp(1), 9).unwrap().is_empty());
    let again = fence(shard.apply(lease(&task, 9_500)));
    assert_eq!(again, Fence::Token { expected: 0, found: Some(1) });
    let held = TaskRef { token: 1, ..task.clone() };
    assert!(matches!(fence(shard.apply(lease(&held, 9_500))), Fence::Token { .. }));
    let extends = LeaseExtended { task: held.clone(), until: Timestamp(9_900), asked: None };
    written(shard.apply(Body::LeaseExtended(Box::new(extends))));
    assert_eq!(view.due(Timestamp(99_999), None, 9, 9).unwrap().items.len(), 2);
    // A new leader gives every live lease a little more time.
    shard.now = 9_000;
    written(shard.apply(Body::TermOpened { lease_floor_ms: 5_000 }));
    let row = view.task(task.born, task.task).unwrap().unwrap();
    let until = Timestamp(14_000);
    let attempt_until = Some(Timestamp(9_500));
    assert_eq!(row.state, TaskState::Leased { until, attempt_until });
    // The attempt fails, and whoever held the lease comes too late.
    let ended = |task: &TaskRef, next| {
        Body::AttemptEnded(Box::new(AttemptEnded {
            task: task.clone(),
            code: "timeout".into(),
            message: "no word".into(),
            next,
            asked: None,
        }))
    };
    written(shard.apply(ended(&held, AttemptNext::At(Timestamp(20_000)))));
    let mut completes = transition("a-1", shard.at("a-1"), Some("k-2"));
    completes.tasks = vec![TaskChange::Close { task: task.task, token: 1 }];
    let found = fence(shard.moved(completes.clone()));
    assert_eq!(found, Fence::Token { expected: 1, found: Some(2) });
    shard.now = 20_000;
    let next = TaskRef { token: 2, ..task.clone() };
    written(shard.apply(lease(&next, 30_000)));
    let third = TaskRef { token: 3, ..task.clone() };
    written(shard.apply(ended(&third, AttemptNext::Parked)));
    completes.tasks = vec![
        TaskChange::Unpark { task: task.task, token: 4, ready_at: Timestamp(0) },
        TaskChange::Cancel { task: task.task, token: 4 },
    ];
    shard.written(completes);
    assert!(view.tasks_of(task.born).unwrap().is_empty());
    assert!(view.due(Timestamp(99_999), None, 9, 9).unwrap().items.is_empty());
    assert_eq!(view.audit().unwrap(), []);
}

#[test]
fn an_outbox_row_leaves_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let mut start = transition("a-1", Expect::Absent, Some("k-1"));
    let command = Box::new(Command::Signal {
        event: "hello".into(),
        data: statehouse_contract::Json::empty_object(),
    });
    let to = Target::Instance(instance("b-1"));
    start.outbox = vec![
        OutboxChange::Add { n: 0, to: to.clone(), command: command.clone() },
        OutboxChange::Add { n: 1, to, command },
    ];
    shard.written(start);
    let view = shard.store.view();
    assert_eq!(view.outbox((0, 0, 0), 10).unwrap().len(), 2);
    let done = |n| {
        Body::OutboxDone(Box::new(OutboxDone {
            sender: instance("a-1"),
            bucket_epoch: 0,
            born: 1,
            version: 1,
            n,
            answer: statehouse_contract::Json::empty_object(),
        }))
    };
    written(shard.apply(done(0)));
    assert_eq!(fence(shard.apply(done(0))), Fence::Outbox { version: 1, n: 0 });
    let mut takes_back = transition("a-1", shard.at("a-1"), Some("k-2"));
    takes_back.outbox = vec![OutboxChange::Remove { version: 1, n: 1 }];
    shard.written(takes_back);
    assert!(view.outbox((0, 0, 0), 10).unwrap().is_empty());
    let page = view.history(&instance("a-1"), 1, 10).unwrap().unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(view.changes(&instance("a-1"), 2, 10).unwrap().unwrap().rows, page.rows);
    assert_eq!(view.audit().unwrap(), []);
}

#[test]
fn a_definition_never_changes_and_its_versions_only_rise() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let name = DefinitionName::parse("order").unwrap();
    written(shard.apply(definition(2, "two", Some("k-1"))));
    let found = fence(shard.apply(definition(2, "other", None)));
    assert!(matches!(found, Fence::Content { .. }));
    let found = fence(shard.apply(definition(1, "one", None)));
    assert_eq!(found, Fence::NotRising { expected: 1, found: 2 });
    written(shard.apply(definition(2, "two", Some("k-2"))));
    known(shard.apply(definition(2, "two", Some("k-1"))));
    let current = |version| Body::CurrentSet {
        tenant: tenant("acme"),
        name: DefinitionName::parse("order").unwrap(),
        version,
        asked: None,
    };
    assert_eq!(fence(shard.apply(current(7))), Fence::Unknown { what: "definition" });
    let view = shard.store.view();
    assert_eq!(view.definition(&tenant("acme"), &name, None).unwrap(), None);
    written(shard.apply(current(2)));
    let row = view.definition(&tenant("acme"), &name, None).unwrap().unwrap();
    assert_eq!((row.version, row.document.as_str()), (2, "\"two\""));
    assert_eq!(view.current(&tenant("acme"), &name).unwrap(), Some(2));
    assert_eq!(view.latest_definition(&tenant("acme"), &name).unwrap(), 2);
    assert_eq!(view.definitions(&tenant("acme")).unwrap().len(), 1);
    assert_eq!(view.definitions(&tenant("other")).unwrap().len(), 0);
    assert_eq!(view.audit().unwrap(), []);
}

#[test]
fn keys_quotas_tenants_and_schedules_are_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let acme = tenant("acme");
    written(shard.apply(Body::TenantSet { tenant: acme.clone(), asked: None }));
    let hash = Digest::of(b"secret");
    let set =
        |state| Body::KeySet { tenant: tenant("acme"), id: "key-1".into(), state, asked: None };
    assert_eq!(fence(shard.apply(set(KeyState::Revoked))), Fence::Unknown { what: "key" });
    let roles = vec![RoleName::parse("caller").unwrap()];
    written(shard.apply(set(KeyState::Valid { hash, name: "ann".into(), roles })));
    let view = shard.store.view();
    assert_eq!(&*view.api_key(hash).unwrap().unwrap().name, "ann");
    assert_eq!(view.api_key(Digest::of(b"other")).unwrap(), None);
    written(shard.apply(set(KeyState::Revoked)));
    assert!(view.api_key(hash).unwrap().unwrap().revoked_at.is_some());
    assert_eq!(view.api_keys(&acme).unwrap().len(), 1);
    let quota = Quota { commands_per_s: Some(5), instances: None, refusals_per_s: None };
    written(shard.apply(Body::QuotaSet {
        tenant: acme.clone(),
        quota: quota.clone(),
        asked: None,
    }));
    assert_eq!(view.quota(&acme).unwrap(), Some(quota));
    assert_eq!(view.tenants().unwrap().len(), 1);
    assert!(view.tenant(&acme).unwrap().is_some());
    let schedule = |document: Option<&str>, next| Body::ScheduleSet {
        tenant: tenant("acme"),
        name: "nightly".into(),
        document: document.map(|text| statehouse_contract::Json::from_value(&text.into())),
        next,
        asked: None,
    };
    written(shard.apply(schedule(Some("0 0 * * *"), Some(Timestamp(7_000)))));
    let fired = |due| Body::ScheduleFired {
        tenant: tenant("acme"),
        name: "nightly".into(),
        due: Timestamp(due),
        next: Some(Timestamp(8_000)),
    };
    written(shard.apply(fired(7_000)));
    assert_eq!(fence(shard.apply(fired(7_000))), Fence::DueMissing { at: Timestamp(7_000) });
    let page = view.due(Timestamp(9_000), None, 10, 10).unwrap();
    assert_eq!(page.items[0].owner, DueOwner::Tenant(acme.clone()));
    written(shard.apply(schedule(None, None)));
    assert!(view.due(Timestamp(9_000), None, 10, 10).unwrap().items.is_empty());
    assert_eq!(fence(shard.apply(fired(8_000))), Fence::Unknown { what: "schedule" });
    assert!(view.schedules(&acme).unwrap().is_empty());
    assert_eq!(view.audit().unwrap(), []);
}

#[test]
fn a_frozen_bucket_fences_every_entry_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    let bucket: Bucket = instance("a-1").bucket();
    let to = ShardId(9);
    written(shard.apply(Body::BucketFrozen { bucket, epoch: 1, to }));
    let found = fence(shard.moved(transition("a-1", shard.at("a-1"), Some("k-2"))));
    assert_eq!(found, Fence::BucketMoved { to });
    let found = fence(shard.apply(Body::BucketFrozen { bucket, epoch: 1, to }));
    assert_eq!(found, Fence::BucketEpoch { expected: 1, found: 1 });
    written(shard.apply(Body::BucketMoved { bucket, epoch: 2, to: common::SHARD }));
    assert_eq!(shard.store.view().bucket(bucket).unwrap().epoch, 2);
    let mut moved = transition("a-1", shard.at("a-1"), Some("k-2"));
    moved.bucket_epoch = 2;
    shard.written(moved);
}

#[test]
fn a_feature_level_above_this_build_halts_and_never_skips() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let entry =
        Entry { header: shard.header(), body: Body::FeatureRaised { level: 99, asked: None } };
    let place = Committed { position: 1, term: 1, entry: Some(&entry) };
    let error = shard.store.apply(&[place], None).unwrap_err();
    assert!(matches!(error, StoreError::Level { expected: 1, found: 99, .. }), "{error:?}");
    assert_eq!(shard.store.meta().applied, None);
}

#[test]
fn what_was_applied_is_skipped_and_a_hole_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    let entry = Entry {
        header: shard.header(),
        body: Body::Transitioned(Box::new(transition("b-1", Expect::Absent, Some("k-1")))),
    };
    let place = |position| Committed { position, term: 1, entry: Some(&entry) };
    let applied = shard.store.apply(&[place(1), place(2)], Some(b"mark")).unwrap();
    assert_eq!(applied[0].outcome, Outcome::Skipped);
    assert!(matches!(applied[1].outcome, Outcome::Written(_)));
    assert_eq!(shard.store.meta().mark, b"mark");
    let error = shard.store.apply(&[place(4)], None).unwrap_err();
    assert!(matches!(error, StoreError::Hole { applied: Some(2), found: 4, .. }), "{error:?}");
    let blank = Committed { position: 3, term: 2, entry: None };
    assert_eq!(shard.store.apply(&[blank], None).unwrap()[0].outcome, Outcome::Blank);
    assert_eq!((shard.store.meta().applied, shard.store.meta().term), (Some(3), 2));
    assert_eq!(shard.store.meta().mark, b"mark");
}

#[test]
fn old_keys_and_finished_instances_are_swept_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    shard.start("a-1", "k-1");
    let mut ends = transition("a-1", shard.at("a-1"), Some("k-2"));
    ends.status = Status::Done;
    shard.written(ends);
    shard.start("b-1", "k-3");
    written(shard.refused(refusal("nobody", Expect::Absent, "k-4")));
    written(shard.apply(definition(1, "one", Some("k-5"))));
    let view = shard.store.view();
    let limits = |now| SweepLimits {
        now: Timestamp(now),
        receipt_keep_ms: 1_000_000,
        finished_keep_ms: 2_000_000,
    };
    let page = view.sweepable(&limits(500_000), 0, 0, 100).unwrap();
    assert!(page.is_end);
    assert_eq!((page.swept.keys.len(), page.swept.instances.len()), (0, 0));
    let page = view.sweepable(&limits(1_500_000), 0, 0, 100).unwrap();
    assert_eq!((&*page.swept.keys, &*page.swept.loose), (&[1, 2, 3, 5][..], &[4][..]));
    let page = view.sweepable(&limits(5_000_000), 0, 0, 100).unwrap();
    assert_eq!(page.swept.instances, [(instance("a-1"), 1)]);
    written(shard.apply(Body::Swept(page.swept)));
    assert_eq!(view.instance(&instance("a-1")).unwrap(), None);
    assert_eq!(view.meta().unwrap().purged, 4);
    assert_eq!(view.audit().unwrap(), []);
    // Born again, it is another life: an old tag does not match, an old key is new.
    let again = shard.start("a-1", "k-1");
    assert_eq!(again.version, Some(Version { born: shard.next - 1, version: 1 }));
    let target = Target::Instance(instance("b-1"));
    let hash = KeyHash::of(&target, &client("k-3"));
    assert_eq!(view.receipt(&target, hash).unwrap(), None);
    assert_eq!(view.history(&instance("b-1"), 0, 9).unwrap().unwrap().rows.len(), 1);
    assert_eq!(view.audit().unwrap(), []);
}

#[test]
fn lists_and_changes_come_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    for number in 0..7 {
        let mut start = transition(&format!("i-{number}"), Expect::Absent, Some("k"));
        start.to = vec![if number % 2 == 0 { "open.even".into() } else { "odd".into() }];
        start.tags = vec!["new".into()];
        if number == 6 {
            start.status = Status::Failed;
        }
        shard.written(start);
    }
    let view = shard.store.view();
    let mut filter = ListFilter {
        tenant: tenant("acme"),
        state: Some("open".into()),
        definition: Some(DefinitionName::parse("order").unwrap()),
        status: None,
        tag: Some("new".into()),
        with_finished: false,
    };
    let first = view.list(&filter, None, 2).unwrap();
    assert_eq!(first.rows.len(), 2);
    let second = view.list(&filter, first.next, 2).unwrap();
    assert_eq!((second.rows.len(), second.next), (1, None));
    filter.status = Some(Status::Failed);
    assert_eq!(view.list(&filter, None, 9).unwrap().rows.len(), 1);
    filter.tenant = tenant("other");
    assert_eq!(view.list(&filter, None, 9).unwrap().rows.len(), 0);

    let page = view.tenant_changes(&tenant("acme"), 2, 3).unwrap();
    assert_eq!((page.rows.len(), page.next, page.has_more), (3, 5, true));
    let page = view.tenant_changes(&tenant("acme"), page.next, 9).unwrap();
    assert_eq!((page.rows.len(), page.next, page.has_more), (2, 7, false));
    assert!(view.tenant_changes(&tenant("other"), 0, 9).unwrap().rows.is_empty());
    for _ in 0..4 {
        let at = shard.at("i-0");
        let refused = refusal("i-0", at, &format!("no-{}", shard.next));
        shard.refused(refused);
        shard.written(transition("i-0", at, None));
    }
    let page = view.history(&instance("i-0"), 2, 2).unwrap().unwrap();
    let versions = |rows: &[statehouse_store::Placed]| -> Vec<u64> {
        rows.iter().map(|row| row.record.version.unwrap().version).collect()
    };
    assert_eq!((versions(&page.rows), page.has_more), (vec![3, 4], true));
    let page = view.changes(&instance("i-0"), page.next, 9).unwrap().unwrap();
    assert_eq!((versions(&page.rows), page.has_more), (vec![5], false));
    let page = view.changes(&instance("i-0"), page.next, 9).unwrap().unwrap();
    assert!(page.rows.is_empty());
    assert_eq!(view.history(&instance("nobody"), 0, 9).unwrap(), None);
    let keys = view.keys(&instance("i-0"), 3).unwrap();
    assert_eq!((keys.hashes.len(), keys.is_complete), (3, false));
    assert_ne!(digest_of(shard.at("i-0")), RowDigest::default());
    let _ = asked("k", Target::Cluster);
}
