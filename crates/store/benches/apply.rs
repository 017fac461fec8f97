//! How fast entries become bytes, and rows: batches of 64 transitions on one thread, in a file of its own.
//!
//! Budget: at least 20,000 transitions a second (64 in 3.2 ms) on one core of the reference machine, with 10,000 and with
//! 200,000 instances. Each transition carries a snapshot of 600 bytes, a receipt, and every other one a timer.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may stop where it fails")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{SHARD, arm, disarm, header, transition};
use divan::{Bencher, counter::ItemsCount};
use statehouse_contract::{Build, Version, codec};
use statehouse_store::{
    Body, Committed, Entry, NodeDir, Outcome, Store, Verify,
    entry::{Expect, RowDigest, Transitioned},
};

fn main() {
    divan::main();
}

const BATCH: usize = 64;

struct Bed {
    store: Store,
    stands: Vec<(Version, RowDigest)>,
    next: u64,
    turn: usize,
    _dir: tempfile::TempDir,
}

fn entry(at: u64, mut t: Transitioned) -> Entry {
    t.snapshot = vec![7; 600].into();
    Entry { header: header(1, 1_000 + at as i64), body: Body::Transitioned(Box::new(t)) }
}

impl Bed {
    fn new(instances: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = NodeDir::open(dir.path()).unwrap();
        let store = Store::open(&data, SHARD, 1, Verify::Start, Build::THIS).unwrap();
        let mut bed = Self { store, stands: Vec::new(), next: 1, turn: 0, _dir: dir };
        while bed.stands.len() < instances {
            let first = bed.stands.len();
            let batch: Vec<Entry> = (first..first + 1_000)
                .map(|number| {
                    let name = format!("order-{number}");
                    entry(bed.next, transition(&name, Expect::Absent, Some("start")))
                })
                .collect();
            bed.apply(&batch, |stands, version, digest| stands.push((version, digest)));
        }
        bed
    }

    fn apply(
        &mut self,
        batch: &[Entry],
        mut stand: impl FnMut(&mut Vec<(Version, RowDigest)>, Version, RowDigest),
    ) {
        let first = self.next;
        let places = batch.iter().enumerate().map(|(place, entry)| Committed {
            position: first + place as u64,
            term: 1,
            entry: Some(entry),
        });
        let places: Vec<Committed<'_>> = places.collect();
        self.next += batch.len() as u64;
        for applied in self.store.apply(&places, None).unwrap() {
            let Outcome::Written(written) = applied.outcome else {
                panic!("{:?}", applied.outcome)
            };
            stand(&mut self.stands, written.version.unwrap(), written.digest.unwrap());
        }
    }

    /// The next batch: instances spread over the whole file, as traffic is.
    fn batch(&mut self) -> (Vec<usize>, Vec<Entry>) {
        let chosen: Vec<usize> = (0..BATCH)
            .map(|place| (self.turn * BATCH + place) * 7_919 % self.stands.len())
            .collect();
        self.turn += 1;
        let entries = chosen.iter().map(|number| {
            let (version, digest) = self.stands[*number];
            let expect = Expect::At { version, digest };
            let key = format!("k-{}-{}", number, version.version);
            let mut t = transition(&format!("order-{number}"), expect, Some(&key));
            let at = |version: u64| 10_000_000 + (*number as i64) * 10 + version as i64;
            if t.version.is_multiple_of(2) {
                t.due.push(arm(at(t.version), "after.1h.open", t.version));
            } else if t.version > 2 {
                t.due.push(disarm(at(t.version - 1), "after.1h.open", t.version - 1));
            }
            entry(self.next, t)
        });
        let entries = entries.collect();
        (chosen, entries)
    }
}

#[divan::bench(args = [10_000, 200_000], sample_size = 1)]
fn transitions(bencher: Bencher<'_, '_>, instances: usize) {
    let bed = std::cell::RefCell::new(Bed::new(instances));
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| bed.borrow_mut().batch())
        .bench_local_values(|(chosen, entries)| {
            let mut bed = bed.borrow_mut();
            let mut places = chosen.into_iter();
            bed.apply(&entries, |stands, version, digest| {
                stands[places.next().unwrap()] = (version, digest);
            });
        });
}

#[divan::bench(sample_size = 1)]
fn starts(bencher: Bencher<'_, '_>) {
    let bed = std::cell::RefCell::new(Bed::new(10_000));
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let bed = bed.borrow();
            let first = bed.stands.len();
            let names = (first..first + BATCH).map(|number| format!("order-{number}"));
            let starts =
                names.map(|name| entry(bed.next, transition(&name, Expect::Absent, Some("start"))));
            starts.collect::<Vec<_>>()
        })
        .bench_local_values(|entries| {
            bed.borrow_mut()
                .apply(&entries, |stands, version, digest| stands.push((version, digest)));
        });
}

fn sample() -> Entry {
    let mut t = transition("order-1", Expect::Absent, Some("start"));
    t.due.push(arm(5_000, "after.1h.open", 1));
    entry(1, t)
}

/// Encoding, framing and checksumming an entry of about 1,000 bytes, as a proposal does.
#[divan::bench]
fn encode_an_entry(bencher: Bencher<'_, '_>) {
    let entry = sample();
    bencher.bench_local(|| codec::encode(divan::black_box(&entry)).unwrap());
}

/// The way back, as a replica does with what it is sent.
#[divan::bench]
fn decode_an_entry(bencher: Bencher<'_, '_>) {
    let frame = codec::encode(&sample()).unwrap();
    bencher.bench_local(|| codec::decode::<Entry>(divan::black_box(&frame)).unwrap());
}

#[divan::bench(args = [10_000], sample_size = 100)]
fn reads(bencher: Bencher<'_, '_>, instances: usize) {
    let bed = Bed::new(instances);
    let view = bed.store.view();
    let mut number = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        number = (number + 7_919) % instances;
        view.instance(&common::instance(&format!("order-{number}"))).unwrap().unwrap()
    });
}
