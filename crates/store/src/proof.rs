//! Proofs of absence: what makes "there is none" as trustworthy as a row that was read.
//!
//! An index page with a flipped byte answers "not there" for a key that is there; a start would then be decided twice, or
//! a command applied again. So before an absence is believed for the first time since the file was opened, the set in
//! which the row would stand is compared with its sum: the names of a bucket, the keys of an instance. After that the set
//! is remembered as proven: pages do not rot under an open file without SQLite or a digest noticing, and the sets are
//! compared again at the next start.
//!
//! A set that is whole is not enough: a search walks over entries of its neighbours, and a damaged one of those leads it
//! astray. So each member of the set must be found by the search whose "not there" is going to be believed.
//!
//! Invariant: nothing is remembered as proven that was not compared in this generation of the file.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, params};

use statehouse_contract::{Bucket, KeyHash, limits};

use crate::{buckets::BucketRow, error::Fault, history, instances, sum::Sum, view::compare_table};

/// Instances that are remembered as proven; past that all are forgotten, which only costs time.
const INSTANCES_REMEMBERED_MAX: usize = 500_000;

/// Which sets have been compared with their sums since the file was opened.
#[derive(Debug)]
pub(crate) struct Proofs {
    buckets: Vec<AtomicBool>,
    instances: Mutex<HashSet<u64>>,
    table: AtomicBool,
}

impl Proofs {
    pub(crate) fn none() -> Self {
        Self {
            buckets: (0..limits::BUCKETS).map(|_| AtomicBool::new(false)).collect(),
            instances: Mutex::new(HashSet::new()),
            table: AtomicBool::new(false),
        }
    }

    /// Proves that the index of names shows every name of a bucket.
    pub(crate) fn names(&self, connection: &Connection, bucket: Bucket) -> Result<(), Fault> {
        let place = self.buckets.get(usize::from(bucket.number()));
        if place.is_some_and(|proven| proven.load(Ordering::Acquire)) {
            return Ok(());
        }
        let expected = BucketRow::names_of(connection, bucket)?;
        compare_names(connection, bucket, expected)?;
        if let Some(proven) = place {
            proven.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Proves that the index of keys shows every key of an instance.
    pub(crate) fn keys(&self, connection: &Connection, born: u64) -> Result<(), Fault> {
        if self.lock().contains(&born) {
            return Ok(());
        }
        if let Some(expected) = instances::keys(connection, born)? {
            compare_keys(connection, born, &history::keys(connection, born)?, expected)?;
        }
        let mut proven = self.lock();
        if proven.len() >= INSTANCES_REMEMBERED_MAX {
            proven.clear();
        }
        proven.insert(born);
        Ok(())
    }

    /// Proves that a walk over the table of instances meets every row.
    pub(crate) fn table(&self, connection: &Connection) -> Result<(), Fault> {
        if !self.table.load(Ordering::Acquire) {
            compare_table(connection)?;
            self.table.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        // A panic elsewhere cannot leave the set half changed.
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BucketRow {
    fn names_of(connection: &Connection, bucket: Bucket) -> Result<Sum, Fault> {
        crate::buckets::Buckets::read(connection, bucket).map(|row| row.names)
    }
}

/// Compares what the index shows of a bucket with its sum, and looks each name up.
pub(crate) fn compare_names(
    connection: &Connection,
    bucket: Bucket,
    expected: Sum,
) -> Result<(), Fault> {
    let bad = |what: String| Fault::row("names", format!("bucket {}", bucket.number()), what);
    let mut read = connection.prepare_cached(
        "SELECT tenant, instance, born FROM instances INDEXED BY names WHERE bucket = ?1",
    )?;
    let mut cursor = read.query(params![bucket.number()])?;
    let mut found = Sum::default();
    while let Some(row) = cursor.next()? {
        let (tenant, instance): (String, String) = (row.get(0)?, row.get(1)?);
        let born = row.get(2)?;
        found.add(instances::name_hash(&tenant, &instance, born));
        if instances::find_named(connection, bucket, &tenant, &instance)? != Some(born) {
            return Err(bad(format!("a search does not find {tenant}/{instance}")));
        }
    }
    if found == expected {
        return Ok(());
    }
    Err(bad(format!("sum {found:?}, expected {expected:?}")))
}

/// Compares the keys that the index shows with their sum, and looks each of them up.
pub(crate) fn compare_keys(
    connection: &Connection,
    born: u64,
    found: &[KeyHash],
    expected: Sum,
) -> Result<(), Fault> {
    let bad = |what: String| Fault::row("history_key", format!("instance {born}"), what);
    let mut sum = Sum::default();
    for key in found {
        sum.add(u128::from_le_bytes(key.0));
        if history::find(connection, born, *key)?.is_none() {
            return Err(bad(format!("a search does not find key {key:?}")));
        }
    }
    if sum == expected {
        return Ok(());
    }
    Err(bad(format!("sum {sum:?}, expected {expected:?}")))
}
