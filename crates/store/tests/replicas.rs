//! Replicas that apply one log in different pieces, with crashes and snapshots in between, are equal.
#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

mod common;

use common::{Chance, Shard, arm, disarm, open, refusal, transition};
use statehouse_contract::{Timestamp, Version};
use statehouse_store::{
    Applied, Body, Committed, Entry, Outcome, Store, StoreError,
    entry::{Expect, RowDigest, Status, TaskChange, TaskKey, Transitioned},
};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Makes a log as leaders would: mostly right decisions, some late, repeated, refused or under an old term.
fn log(chance: &mut Chance, entries: usize) -> Vec<Option<Entry>> {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let mut past: Vec<Expect> = vec![Expect::Absent; NAMES.len()];
    let mut armed: Vec<Vec<(i64, u64)>> = vec![Vec::new(); NAMES.len()];
    let mut log = Vec::new();
    while log.len() < entries {
        let which = chance.below(NAMES.len());
        let name = NAMES[which];
        let row = shard.store.view().instance(&common::instance(name)).unwrap();
        let now = row
            .map_or(Expect::Absent, |row| Expect::At { version: row.version, digest: row.digest });
        let key = format!("k-{}", chance.below(entries));
        let right = transition(name, now, Some(&key));
        let body = match chance.below(12) {
            0 => Body::Refused(Box::new(refusal(name, now, &key))),
            1 => Body::Transitioned(Box::new(transition(name, past[which], Some(&key)))),
            2 => common::definition(u32::try_from(chance.below(9)).unwrap(), &key, Some(&key)),
            3 => Body::DigestAt,
            4 if matches!(now, Expect::At { .. }) => {
                Body::Transitioned(Box::new(firing(name, now, &armed[which])))
            }
            5 => Body::Transitioned(Box::new(scheduling(right))),
            6 => Body::TermOpened { lease_floor_ms: 5_000 },
            7 => {
                let finished = Transitioned { status: Status::Done, ..right };
                Body::Transitioned(Box::new(finished))
            }
            _ => {
                let mut moves = right;
                moves.due = vec![arm(shard.now + 5_000, "t", moves.version)];
                Body::Transitioned(Box::new(moves))
            }
        };
        past[which] = now;
        let old_term = u64::from(chance.below(15) == 0);
        let header = common::header(shard.term - old_term, shard.now);
        let entry = Entry { header, body };
        if let (Outcome::Written(_), Body::Transitioned(t)) =
            (shard.apply_entry(&entry), &entry.body)
        {
            for change in &t.due {
                if let statehouse_store::entry::DueChange::Arm { at, .. } = change {
                    armed[which].push((at.0, t.version));
                }
            }
        }
        log.push(Some(entry));
        if chance.below(20) == 0 {
            // A new term begins with a blank entry.
            let blank = Committed { position: shard.next, term: shard.term + 1, entry: None };
            shard.store.apply(&[blank], None).unwrap();
            (shard.term, shard.next) = (shard.term + 1, shard.next + 1);
            log.push(None);
        }
    }
    log
}

fn firing(name: &str, now: Expect, armed: &[(i64, u64)]) -> Transitioned {
    let mut fires = transition(name, now, None);
    if let Some((at, generation)) = armed.last() {
        fires.due = vec![disarm(*at, "t", *generation)];
    }
    fires
}

fn scheduling(mut t: Transitioned) -> Transitioned {
    t.tasks = vec![TaskChange::Schedule {
        task: TaskKey { version: t.version, n: 0 },
        queue: "q".into(),
        order: Box::default(),
        ready_at: Timestamp(0),
    }];
    t
}

fn places<'a>(log: &'a [Option<Entry>], from: usize, to: usize) -> Vec<Committed<'a>> {
    let mut term = 1;
    let mut all = Vec::new();
    for (place, entry) in log.iter().enumerate() {
        term += u64::from(entry.is_none());
        let position = place as u64 + 1;
        all.push(Committed { position, term, entry: entry.as_ref() });
    }
    all[from..to].to_vec()
}

fn apply_in_pieces(
    store: &mut Store,
    log: &[Option<Entry>],
    chance: &mut Chance,
    most: usize,
) -> Vec<Applied> {
    let mut outcomes = Vec::new();
    let mut done = usize::try_from(store.meta().applied.unwrap_or(0)).unwrap();
    while done < log.len() {
        let to = (done + 1 + chance.below(most)).min(log.len());
        let mut batch = places(log, done, to);
        if chance.below(5) == 0 {
            // A batch that fails at its end leaves nothing behind.
            batch.push(Committed { position: to as u64 + 7, term: 1, entry: None });
            let error = store.apply(&batch, None).unwrap_err();
            assert!(matches!(error, StoreError::Hole { .. }), "{error:?}");
            batch.pop();
        }
        // What was applied already may be given again.
        let again = done.saturating_sub(chance.below(3));
        let batch = [places(log, again, done), batch].concat();
        let applied = store.apply(&batch, None).unwrap();
        outcomes.extend(applied.into_iter().filter(|one| one.outcome != Outcome::Skipped));
        done = to;
    }
    outcomes
}

#[test]
fn replicas_of_one_log_are_equal_however_it_is_cut() {
    let mut chance = Chance::from_environment();
    for _ in 0..6 {
        let log = log(&mut chance, 150);
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let mut first = open(dirs[0].path());
        let outcomes = apply_in_pieces(&mut first, &log, &mut chance, 1);
        assert_eq!(outcomes.len(), log.len());
        assert_eq!(first.view().audit().unwrap(), []);

        let mut second = open(dirs[1].path());
        assert_eq!(apply_in_pieces(&mut second, &log, &mut chance, 40), outcomes);
        assert_eq!(second.meta(), first.meta());

        // The third comes late: a snapshot of half of it, then the rest, with a restart in between.
        let half = log.len() / 2;
        let mut source = open(dirs[2].path());
        apply_in_pieces(&mut source, &log[..half], &mut chance, 40);
        let built = source.view().build_snapshot().unwrap();
        let late = tempfile::tempdir().unwrap();
        let mut third = open(late.path());
        third.install(&built.path, built.hash).unwrap();
        drop(third);
        let mut third = open(late.path());
        let rest = apply_in_pieces(&mut third, &log, &mut chance, 9);
        assert_eq!(rest, outcomes[half..]);
        assert_eq!(third.meta(), first.meta());
        assert_eq!(third.meta().state_digest(), first.meta().state_digest());
        assert_eq!(third.view().audit().unwrap(), []);
        for name in NAMES {
            let rows = [&first, &second, &third].map(|store| {
                let view = store.view();
                let key = common::instance(name);
                (view.instance(&key).unwrap(), view.history(&key, 0, 500).unwrap())
            });
            assert!(rows[0] == rows[1] && rows[1] == rows[2], "{name}");
        }
        check_versions(&outcomes);
    }
}

/// Versions run without a gap, each digest once.
fn check_versions(outcomes: &[Applied]) {
    let mut last: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    let mut digests: std::collections::BTreeSet<RowDigest> = std::collections::BTreeSet::new();
    for one in outcomes {
        let Outcome::Written(written) = &one.outcome else { continue };
        let (Some(Version { born, version }), Some(digest)) = (written.version, written.digest)
        else {
            continue;
        };
        let before = last.insert(born, version).unwrap_or(0);
        assert!(version == before + 1 || version == before, "{born}: {before} then {version}");
        assert_eq!(digests.insert(digest), version == before + 1);
    }
}
