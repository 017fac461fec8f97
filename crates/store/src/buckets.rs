//! Buckets: the epoch of each slice of keys, whether it has left, and the sum of the names in it.
//!
//! Columns: `bucket`, and `body` as a frame (a flipped byte fails its checksum). A missing row is noticed by the sum over
//! all of them in `meta`, which is compared when the file is opened. A bucket without a row has epoch 0 and no names.
//!
//! All rows (at most 4,096) are in memory while the file is open; the writer alone changes them.

use bincode::{Decode, Encode};
use rusqlite::{Connection, params};

use statehouse_contract::{Bucket, ShardId, codec, limits};

use crate::{
    error::Fault,
    meta::Meta,
    sum::{Sum, row_hash},
};

const TABLE: &str = "buckets";

/// What is known of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BucketRow {
    /// Its epoch; an entry decided under another one is fenced.
    pub epoch: u32,
    /// Where it goes or has gone; every entry for it is fenced then.
    pub moved_to: Option<ShardId>,
    /// The sum of its instances' names.
    pub names: Sum,
}

/// All buckets of a shard, and how those were that a batch has changed and not yet committed.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    rows: Vec<Option<BucketRow>>,
    before: Vec<(Bucket, Option<BucketRow>)>,
}

fn hash(bucket: Bucket, body: &[u8]) -> u128 {
    row_hash(&[&bucket.number().to_le_bytes(), body])
}

impl Buckets {
    /// Reads every row and compares them with their sum.
    pub(crate) fn load(connection: &Connection, meta: &Meta) -> Result<Self, Fault> {
        let mut rows = vec![None; usize::from(limits::BUCKETS)];
        let mut found = Sum::default();
        let mut read = connection.prepare("SELECT bucket, body FROM buckets ORDER BY bucket")?;
        let mut cursor = read.query([])?;
        while let Some(row) = cursor.next()? {
            let (number, body): (u16, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let bucket =
                Bucket::new(number).ok_or_else(|| Fault::row(TABLE, number, "no such bucket"))?;
            found.add(hash(bucket, &body));
            let place = rows.get_mut(usize::from(number)).expect("a bucket is below the limit");
            *place =
                Some(codec::decode(&body).map_err(|error| Fault::frame(TABLE, number, &error))?);
        }
        if found == meta.sums.buckets {
            return Ok(Self { rows, before: Vec::new() });
        }
        Err(Fault::row(TABLE, "(all)", format!("sum {found:?}, expected {:?}", meta.sums.buckets)))
    }

    /// Returns what is known of a bucket.
    pub(crate) fn get(&self, bucket: Bucket) -> BucketRow {
        self.rows.get(usize::from(bucket.number())).cloned().flatten().unwrap_or_default()
    }

    /// Returns the sum of the names in all buckets.
    pub(crate) fn names(&self) -> Sum {
        let mut all = Sum::default();
        for row in self.rows.iter().flatten() {
            all.count += row.names.count;
            all.xor ^= row.names.xor;
        }
        all
    }

    /// Changes a bucket, in memory and on disk.
    pub(crate) fn put(
        &mut self,
        connection: &Connection,
        meta: &mut Meta,
        bucket: Bucket,
        next: BucketRow,
    ) -> Result<(), Fault> {
        let encode = |row: &BucketRow| {
            codec::encode(row).map_err(|error| Fault::frame(TABLE, bucket.number(), &error))
        };
        let place =
            self.rows.get_mut(usize::from(bucket.number())).expect("a bucket is below the limit");
        if let Some(before) = place {
            meta.sums.buckets.remove(hash(bucket, &encode(before)?));
        }
        let body = encode(&next)?;
        meta.sums.buckets.add(hash(bucket, &body));
        let mut write = connection
            .prepare_cached("INSERT OR REPLACE INTO buckets (bucket, body) VALUES (?1, ?2)")?;
        write.execute(params![bucket.number(), body])?;
        self.before.push((bucket, place.replace(next)));
        Ok(())
    }

    /// Takes the changes since the last commit for good.
    pub(crate) fn keep(&mut self) {
        self.before.clear();
    }

    /// Takes back the changes since the last commit: their transaction was rolled back.
    pub(crate) fn undo(&mut self) {
        while let Some((bucket, row)) = self.before.pop() {
            if let Some(place) = self.rows.get_mut(usize::from(bucket.number())) {
                *place = row;
            }
        }
    }

    /// Reads one row, for those who do not hold them all.
    pub(crate) fn read(connection: &Connection, bucket: Bucket) -> Result<BucketRow, Fault> {
        let mut read = connection.prepare_cached("SELECT body FROM buckets WHERE bucket = ?1")?;
        let mut cursor = read.query(params![bucket.number()])?;
        let Some(row) = cursor.next()? else { return Ok(BucketRow::default()) };
        let body: Vec<u8> = row.get(0)?;
        codec::decode(&body).map_err(|error| Fault::frame(TABLE, bucket.number(), &error))
    }
}
