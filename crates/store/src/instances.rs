//! Instances: one row each, known by `born`, the position of its Start entry.
//!
//! `digest` covers every column but `keys` and is recomputed at every read; entries are decided at it and fenced at any
//! other. `keys` is the sum of the keys under which receipts of this instance stand in `history`, sealed with a checksum
//! of its own, because sweeping a receipt must not look like a move of the instance. A damaged row is noticed by its
//! digest; a row that the index `names` no longer finds, by the sum of its bucket (`proof.rs`); a row that `names` finds
//! wrongly, by comparing the names.
//!
//! Deliberately absent: what the snapshot means.

use bincode::{Decode, Encode};
use rusqlite::{Connection, OptionalExtension, Row, params};

use statehouse_contract::{Bucket, InstanceId, InstanceKey, TenantId, Timestamp, Version, codec};

use crate::{
    chain::short,
    entry::{Parent, Pin, RowDigest, Status},
    error::Fault,
    sum::{Sum, hashed, row_hash},
};

pub(crate) const TABLE: &str = "instances";

/// What never changes after the start.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Birth {
    pub(crate) created_at: Timestamp,
    pub(crate) parent: Option<Parent>,
}

/// What lists show, beside the columns.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Head {
    pub(crate) definition: Pin,
    pub(crate) configuration: Vec<Box<str>>,
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) updated_at: Timestamp,
}

/// An instance as its row holds it; the digest was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Whose and which.
    pub key: InstanceKey,
    /// Its birth and version.
    pub version: Version,
    /// The fingerprint at which the next entry has to be decided.
    pub digest: RowDigest,
    /// Position of its last transition.
    pub position: u64,
    /// Where it is in its life.
    pub status: Status,
    /// The definition to which it is pinned.
    pub definition: Pin,
    /// The active atomic states.
    pub configuration: Vec<Box<str>>,
    /// Tags of the active states.
    pub tags: Vec<Box<str>>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// Who started it.
    pub parent: Option<Parent>,
    /// The whole instance, encoded by the runtime.
    pub snapshot: Box<[u8]>,
}

/// What an entry needs to know of an instance before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) version: Version,
    pub(crate) digest: RowDigest,
    pub(crate) status: Status,
    pub(crate) keys: Sum,
    pub(crate) birth: Vec<u8>,
}

/// The columns that change with every transition, in the order of the statement.
pub(crate) struct Next<'a> {
    pub(crate) key: &'a InstanceKey,
    pub(crate) version: Version,
    pub(crate) status: Status,
    pub(crate) position: u64,
    pub(crate) birth: &'a [u8],
    pub(crate) head: &'a Head,
    pub(crate) snapshot: &'a [u8],
    pub(crate) keys: Sum,
}

struct Columns<'a> {
    bucket: Bucket,
    tenant: &'a str,
    instance: &'a str,
    version: Version,
    status: u8,
    position: u64,
    birth: &'a [u8],
    head: &'a [u8],
    snapshot: &'a [u8],
}

impl Columns<'_> {
    fn digest(&self) -> RowDigest {
        let mut fixed = [0; 27];
        fixed[..8].copy_from_slice(&self.version.born.to_le_bytes());
        fixed[8..16].copy_from_slice(&self.version.version.to_le_bytes());
        fixed[16..24].copy_from_slice(&self.position.to_le_bytes());
        fixed[24..26].copy_from_slice(&self.bucket.number().to_le_bytes());
        fixed[26] = self.status;
        let parts: [&[u8]; 6] = [
            &fixed,
            self.tenant.as_bytes(),
            self.instance.as_bytes(),
            self.birth,
            self.head,
            self.snapshot,
        ];
        RowDigest(short(&hashed(&parts)))
    }
}

/// Returns the hash by which a name counts in the sum of its bucket.
pub(crate) fn name_hash(tenant: &str, instance: &str, born: u64) -> u128 {
    row_hash(&[tenant.as_bytes(), instance.as_bytes(), &born.to_le_bytes()])
}

fn seal(born: u64, keys: Sum) -> [u8; 28] {
    let mut sealed = [0; 28];
    sealed[..8].copy_from_slice(&keys.count.to_le_bytes());
    sealed[8..24].copy_from_slice(&keys.xor.to_le_bytes());
    let check = crc32c::crc32c_append(crc32c::crc32c(&born.to_le_bytes()), &sealed[..24]);
    sealed[24..].copy_from_slice(&check.to_le_bytes());
    sealed
}

fn unseal(born: u64, bytes: &[u8]) -> Result<Sum, Fault> {
    let damaged = || Fault::row(TABLE, born, "checksum of the sum of its keys does not match");
    let (count, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (xor, _) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
    let keys = Sum { count: u64::from_le_bytes(*count), xor: u128::from_le_bytes(*xor) };
    if seal(born, keys) == bytes { Ok(keys) } else { Err(damaged()) }
}

fn status_of(born: u64, number: u8) -> Result<Status, Fault> {
    Status::from_number(number).ok_or_else(|| Fault::row(TABLE, born, format!("status {number}")))
}

/// Returns the birth under which the index knows a name.
pub(crate) fn find(connection: &Connection, key: &InstanceKey) -> Result<Option<u64>, Fault> {
    find_named(connection, key.bucket(), key.tenant.as_str(), key.instance.as_str())
}

/// As [`find`], for names as an index shows them.
pub(crate) fn find_named(
    connection: &Connection,
    bucket: Bucket,
    tenant: &str,
    instance: &str,
) -> Result<Option<u64>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born FROM instances WHERE bucket = ?1 AND tenant = ?2 AND instance = ?3",
    )?;
    Ok(read.query_row(params![bucket.number(), tenant, instance], |row| row.get(0)).optional()?)
}

/// Reads what an entry needs to know of the row born at a position; nothing if there is none.
///
/// The digest is the column's: the row is not recomputed here, because an entry that matches it is applied blindly to
/// the next state, and one that does not makes the caller look ([`verify`]).
pub(crate) fn standing(
    connection: &Connection,
    key: &InstanceKey,
    born: u64,
) -> Result<Option<Standing>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT version, status, digest, keys, birth, tenant, instance FROM instances WHERE born = ?1",
    )?;
    let mut cursor = read.query(params![born])?;
    let Some(row) = cursor.next()? else { return Ok(None) };
    let same = row.get_ref(5)?.as_str().is_ok_and(|text| text == key.tenant.as_str())
        && row.get_ref(6)?.as_str().is_ok_and(|text| text == key.instance.as_str());
    if !same {
        return Ok(None);
    }
    Ok(Some(Standing {
        version: Version { born, version: row.get(0)? },
        status: status_of(born, row.get(1)?)?,
        digest: RowDigest(row.get(2)?),
        keys: unseal(born, blob(row, 3)?)?,
        birth: row.get(4)?,
    }))
}

/// Reads version and digest of the row born at a position; nothing if there is none.
pub(crate) fn stands_at(
    connection: &Connection,
    born: u64,
) -> Result<Option<(Version, RowDigest)>, Fault> {
    let mut read =
        connection.prepare_cached("SELECT version, digest FROM instances WHERE born = ?1")?;
    let found = read.query_row(params![born], |row| {
        Ok((Version { born, version: row.get(0)? }, RowDigest(row.get(1)?)))
    });
    Ok(found.optional()?)
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], Fault> {
    let found = row.get_ref(column)?;
    found.as_blob().map_err(|_| Fault::row(TABLE, "(any)", format!("column {column} is no blob")))
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Fault> {
    let found = row.get_ref(column)?;
    found.as_str().map_err(|_| Fault::row(TABLE, "(any)", format!("column {column} is no text")))
}

/// Every column, in the order in which [`checked`] reads them.
pub(crate) const COLUMNS: &str = "born, bucket, tenant, instance, version, status, position, digest, keys, birth, head, snapshot";

/// Takes a row apart and checks its digest.
pub(crate) fn checked(row: &Row<'_>) -> Result<InstanceRow, Fault> {
    let born: u64 = row.get(0)?;
    let number: u16 = row.get(1)?;
    let bucket = Bucket::new(number).ok_or_else(|| Fault::row(TABLE, born, "no such bucket"))?;
    let version = Version { born, version: row.get(4)? };
    let columns = Columns {
        bucket,
        tenant: text(row, 2)?,
        instance: text(row, 3)?,
        version,
        status: row.get(5)?,
        position: row.get(6)?,
        birth: blob(row, 9)?,
        head: blob(row, 10)?,
        snapshot: blob(row, 11)?,
    };
    let stored = RowDigest(row.get(7)?);
    let found = columns.digest();
    if found != stored {
        let name = format!("{born} ({}/{})", columns.tenant, columns.instance);
        return Err(Fault::row(TABLE, name, format!("digest {found}, expected {stored}")));
    }
    unseal(born, blob(row, 8)?)?;
    let bad = |what: &str| Fault::row(TABLE, born, what);
    let head: Head = codec::decode(columns.head).map_err(|error| bad(&error.to_string()))?;
    let birth: Birth = codec::decode(columns.birth).map_err(|error| bad(&error.to_string()))?;
    let key = InstanceKey {
        tenant: TenantId::parse(columns.tenant).map_err(|error| bad(&error.to_string()))?,
        instance: InstanceId::parse(columns.instance).map_err(|error| bad(&error.to_string()))?,
    };
    Ok(InstanceRow {
        key,
        version,
        digest: stored,
        position: columns.position,
        status: status_of(born, columns.status)?,
        definition: head.definition,
        configuration: head.configuration,
        tags: head.tags,
        created_at: birth.created_at,
        updated_at: head.updated_at,
        parent: birth.parent,
        snapshot: columns.snapshot.into(),
    })
}

/// Reads the row born at a position and checks its digest.
pub(crate) fn read(connection: &Connection, born: u64) -> Result<Option<InstanceRow>, Fault> {
    const SQL: &str = "SELECT born, bucket, tenant, instance, version, status, position, digest, keys, birth, head, \
                       snapshot FROM instances WHERE born = ?1";
    let mut read = connection.prepare_cached(SQL)?;
    let mut cursor = read.query(params![born])?;
    cursor.next()?.map(checked).transpose()
}

/// Recomputes the digest of one's own row, before anybody else is told to be wrong.
pub(crate) fn verify(connection: &Connection, born: u64) -> Result<(), Fault> {
    read(connection, born).map(|_| ())
}

/// Encodes a column that the digest covers.
pub(crate) fn encode<T: Encode>(born: u64, value: &T) -> Result<Vec<u8>, Fault> {
    codec::encode(value).map_err(|error| Fault::frame(TABLE, born, &error))
}

/// Writes the row of a new instance and returns its digest.
pub(crate) fn insert(connection: &Connection, next: &Next<'_>) -> Result<RowDigest, Fault> {
    let bucket = next.key.bucket();
    let head = encode(next.version.born, next.head)?;
    let digest = next.digest(bucket, &head);
    let mut write = connection.prepare_cached(
        "INSERT INTO instances (born, bucket, tenant, instance, version, status, position, digest, keys, birth, head, \
         snapshot) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    write.execute(params![
        next.version.born,
        bucket.number(),
        next.key.tenant.as_str(),
        next.key.instance.as_str(),
        next.version.version,
        next.status.number(),
        next.position,
        digest.0,
        seal(next.version.born, next.keys),
        next.birth,
        head,
        next.snapshot,
    ])?;
    Ok(digest)
}

/// Writes the next state of an instance and returns its digest.
pub(crate) fn update(connection: &Connection, next: &Next<'_>) -> Result<RowDigest, Fault> {
    let head = encode(next.version.born, next.head)?;
    let digest = next.digest(next.key.bucket(), &head);
    let mut write = connection.prepare_cached(
        "UPDATE instances SET version = ?2, status = ?3, position = ?4, digest = ?5, keys = ?6, head = ?7, \
         snapshot = ?8 WHERE born = ?1",
    )?;
    let changed = write.execute(params![
        next.version.born,
        next.version.version,
        next.status.number(),
        next.position,
        digest.0,
        seal(next.version.born, next.keys),
        head,
        next.snapshot,
    ])?;
    present(next.version.born, changed)?;
    Ok(digest)
}

/// Writes the sum of an instance's keys and nothing else.
pub(crate) fn update_keys(connection: &Connection, born: u64, keys: Sum) -> Result<(), Fault> {
    let mut write = connection.prepare_cached("UPDATE instances SET keys = ?2 WHERE born = ?1")?;
    let changed = write.execute(params![born, seal(born, keys)])?;
    present(born, changed)
}

/// Deletes the row.
pub(crate) fn delete(connection: &Connection, born: u64) -> Result<(), Fault> {
    let mut write = connection.prepare_cached("DELETE FROM instances WHERE born = ?1")?;
    let changed = write.execute(params![born])?;
    present(born, changed)
}

fn present(born: u64, changed: usize) -> Result<(), Fault> {
    if changed == 1 { Ok(()) } else { Err(Fault::row(TABLE, born, "is gone")) }
}

/// Makes the rows of a copy say that no instance has any key, in a way that no sum contradicts. Only a deliberate bug asks.
pub(crate) fn forget_all_keys(connection: &Connection) -> Result<(), Fault> {
    connection.execute("UPDATE history SET key = NULL WHERE inst <> 0", [])?;
    let mut read = connection.prepare("SELECT born FROM instances")?;
    let all = read.query_map([], |row| row.get(0))?.collect::<Result<Vec<u64>, _>>()?;
    all.into_iter().try_for_each(|born| update_keys(connection, born, Sum::default()))
}

/// Reads the sum of an instance's keys.
pub(crate) fn keys(connection: &Connection, born: u64) -> Result<Option<Sum>, Fault> {
    let mut read = connection.prepare_cached("SELECT keys FROM instances WHERE born = ?1")?;
    let mut cursor = read.query(params![born])?;
    let Some(row) = cursor.next()? else { return Ok(None) };
    unseal(born, blob(row, 0)?).map(Some)
}

/// Returns the fingerprint that a row of these columns has.
pub(crate) fn digest_of(
    key: &InstanceKey,
    version: Version,
    (status, position): (Status, u64),
    (birth, head): (&Birth, &Head),
    snapshot: &[u8],
) -> Result<RowDigest, Fault> {
    let (birth, encoded) = (encode(version.born, birth)?, encode(version.born, head)?);
    let next = Next {
        key,
        version,
        status,
        position,
        birth: &birth,
        head,
        snapshot,
        keys: Sum::default(),
    };
    Ok(next.digest(key.bucket(), &encoded))
}

impl Next<'_> {
    fn digest(&self, bucket: Bucket, head: &[u8]) -> RowDigest {
        let columns = Columns {
            bucket,
            tenant: self.key.tenant.as_str(),
            instance: self.key.instance.as_str(),
            version: self.version,
            status: self.status.number(),
            position: self.position,
            birth: self.birth,
            head,
            snapshot: self.snapshot,
        };
        columns.digest()
    }
}
