//! History: every applied entry that changed something, by its position, with the receipt in it.
//!
//! Columns: `pos`; `inst`, the birth of the instance or 0; `key`, the hash under which a repeat finds its receipt, empty
//! when there is none or it was swept; `body`, a frame with the lean entry (no snapshot, no documents, no orders), followed
//! by a tail with the chain after it and, for a postponed command, the position that settled it.
//!
//! How damage is noticed: the frame has its checksum, the tail its own, which covers the frame's; the record inside repeats
//! position, birth and key, so a row found at a wrong place is noticed too. A row that the index no longer finds is noticed
//! by the sum of the instance's keys (`proof.rs`) and by the gap in its versions.
//!
//! Invariant: a row is written once. Only the tail's `settled` and the column `key` ever change, each once.

use bincode::{Decode, Encode};
use rusqlite::{Connection, OptionalExtension, Row, params};

use statehouse_contract::{
    InstanceId, KeyHash, Receipt, ReceiptKind, StoredReceipt, Target, Timestamp, Version,
    codec::{self, HEADER_BYTES},
};

use crate::{
    chain::Chain,
    entry::{Asked, Body, Entry, RowDigest},
    error::Fault,
};

pub(crate) const TABLE: &str = "history";
const TAIL_BYTES: usize = 16 + 8 + 4;

/// An applied entry without its heavy parts: no snapshot, no documents, no task orders, no outbox commands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Its place in the log.
    pub position: u64,
    /// Birth of the instance that it belongs to; 0 for none.
    pub born: u64,
    /// The version that it made, or met if it made none; nothing where there is no instance.
    pub version: Option<Version>,
    /// The instance's digest afterwards.
    pub digest: Option<RowDigest>,
    /// The entry.
    pub entry: Entry,
}

/// A record with what is known only at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The record.
    pub record: Record,
    /// The running hash after it.
    pub chain: Chain,
    /// The position of the entry that settled it, if it was postponed.
    pub settled: Option<u64>,
}

impl Record {
    /// Returns the receipt that stands here under a key of its own, with its hash.
    #[must_use]
    pub fn receipt(&self) -> Option<(KeyHash, &StoredReceipt)> {
        match &self.entry.body {
            Body::Transitioned(t) => {
                let target = Target::Instance(t.instance.clone());
                let key = t.key.as_ref()?;
                Some((KeyHash::of(&target, key), t.receipt.as_ref()?))
            }
            Body::Refused(refused) => {
                Some((KeyHash::of(&refused.target, &refused.key), &refused.receipt))
            }
            body => body.asked().map(|asked| (asked.key_hash(), &asked.receipt)),
        }
    }

    /// Returns how long the receipt is kept beyond the usual time, if the definition said so.
    #[must_use]
    pub const fn receipt_keep_ms(&self) -> Option<u64> {
        match &self.entry.body {
            Body::Transitioned(t) => t.receipt_keep_ms,
            Body::Refused(refused) => refused.receipt_keep_ms,
            _ => None,
        }
    }

    /// Returns when it was decided.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.entry.header.decided_at
    }
}

impl Asked {
    /// Returns the name by which the receipt is found.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        KeyHash::of(&self.target, &self.key)
    }
}

/// Encodes a record; its bytes are what the chain hashes.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>, Fault> {
    codec::encode(record).map_err(|error| Fault::frame(TABLE, record.position, &error))
}

fn tail(frame: &[u8], chain: Chain, settled: u64) -> [u8; TAIL_BYTES] {
    let mut tail = [0; TAIL_BYTES];
    tail[..16].copy_from_slice(&chain.0);
    tail[16..24].copy_from_slice(&settled.to_le_bytes());
    let head = frame.get(..HEADER_BYTES).unwrap_or(frame);
    let check = crc32c::crc32c_append(crc32c::crc32c(head), &tail[..24]);
    tail[24..].copy_from_slice(&check.to_le_bytes());
    tail
}

/// Appends a row. `frame` is the encoded record.
pub(crate) fn insert(
    connection: &Connection,
    (position, inst): (u64, u64),
    key: Option<KeyHash>,
    frame: &[u8],
    chain: Chain,
) -> Result<(), Fault> {
    let body = [frame, &tail(frame, chain, 0)].concat();
    let mut write = connection
        .prepare_cached("INSERT INTO history (pos, inst, key, body) VALUES (?1, ?2, ?3, ?4)")?;
    write.execute(params![position, inst, key.map(|hash| hash.0), body])?;
    Ok(())
}

/// Takes a row (pos, inst, key, body) apart and checks it.
pub(crate) fn checked(row: &Row<'_>) -> Result<Placed, Fault> {
    let (position, inst): (u64, u64) = (row.get(0)?, row.get(1)?);
    let bad = |what: &str| Fault::row(TABLE, position, what);
    let key: Option<[u8; 16]> = row.get(2)?;
    let body = row.get_ref(3)?.as_blob().map_err(|_| bad("body is no blob"))?;
    let (frame, stored_tail) =
        body.split_last_chunk::<TAIL_BYTES>().ok_or_else(|| bad("body is too short"))?;
    let record: Record =
        codec::decode(frame).map_err(|error| Fault::frame(TABLE, position, &error))?;
    let chain = Chain(*stored_tail.first_chunk().expect("a tail begins with the chain"));
    let (_, rest) = stored_tail.split_at(16);
    let settled = u64::from_le_bytes(*rest.first_chunk().expect("a tail has a settled position"));
    if *stored_tail != tail(frame, chain, settled) {
        return Err(bad("checksum of the tail does not match"));
    }
    if record.position != position || record.born != inst {
        let what = format!("holds position {} of instance {}", record.position, record.born);
        return Err(bad(&what));
    }
    if key.is_some() && key != record.receipt().map(|(hash, _)| hash.0) {
        return Err(bad("key is not the one of its receipt"));
    }
    Ok(Placed { record, chain, settled: (settled != 0).then_some(settled) })
}

/// Reads the row at a position.
pub(crate) fn read(connection: &Connection, position: u64) -> Result<Option<Placed>, Fault> {
    let mut read =
        connection.prepare_cached("SELECT pos, inst, key, body FROM history WHERE pos = ?1")?;
    let mut cursor = read.query(params![position])?;
    cursor.next()?.map(checked).transpose()
}

/// Reads rows above a position, at most `limit`.
pub(crate) fn read_after(
    connection: &Connection,
    after: Option<u64>,
    limit: u64,
) -> Result<Vec<Placed>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT pos, inst, key, body FROM history WHERE pos > ?1 ORDER BY pos LIMIT ?2",
    )?;
    let after = after.map_or(-1, |position| i64::try_from(position).unwrap_or(i64::MAX));
    let mut cursor = read.query(params![after, limit])?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push(checked(row)?);
    }
    Ok(rows)
}

/// Returns the position at which a key's receipt stands for an instance (0: for none).
pub(crate) fn find(connection: &Connection, inst: u64, key: KeyHash) -> Result<Option<u64>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT pos FROM history WHERE inst = ?1 AND key = ?2 ORDER BY pos LIMIT 1",
    )?;
    Ok(read.query_row(params![inst, key.0], |row| row.get(0)).optional()?)
}

/// Returns the position of a key's receipt at any instance of this name: what a lookup that forgets the tenant would find.
/// Only a deliberate bug asks.
pub(crate) fn find_named(
    connection: &Connection,
    instance: &InstanceId,
    key: KeyHash,
) -> Result<Option<u64>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT history.pos FROM instances JOIN history ON history.inst = instances.born \
         WHERE instances.instance = ?1 AND history.key = ?2 ORDER BY history.pos LIMIT 1",
    )?;
    Ok(read.query_row(params![instance.as_str(), key.0], |row| row.get(0)).optional()?)
}

/// Returns the positions of an instance's rows, oldest first.
pub(crate) fn positions(connection: &Connection, inst: u64) -> Result<Vec<u64>, Fault> {
    let mut read = connection
        .prepare_cached("SELECT pos FROM history INDEXED BY history_key WHERE inst = ?1")?;
    let found = read.query_map(params![inst], |row| row.get(0))?;
    let mut found = found.collect::<Result<Vec<u64>, _>>()?;
    found.sort_unstable();
    match found.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(found),
        Some(twice) => Err(Fault::row(TABLE, twice[0], "the key index names it twice")),
    }
}

/// Returns the keys under which receipts of an instance stand.
pub(crate) fn keys(connection: &Connection, inst: u64) -> Result<Vec<KeyHash>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT key FROM history INDEXED BY history_key WHERE inst = ?1 AND key IS NOT NULL",
    )?;
    let found = read.query_map(params![inst], |row| row.get(0).map(KeyHash))?;
    Ok(found.collect::<Result<Vec<_>, _>>()?)
}

/// Reads the receipt at a position: the final one if the command was postponed and settled later.
pub(crate) fn receipt(
    connection: &Connection,
    position: u64,
    key: KeyHash,
) -> Result<Receipt, Fault> {
    let gone = |what: &str| Fault::row(TABLE, position, what);
    let first = read(connection, position)?
        .ok_or_else(|| gone("the key index names it, it is not there"))?;
    let Some(later) = first.settled else {
        return match first.record.receipt() {
            Some((found, stored)) if found == key => Ok(stored.at(position)),
            _ => Err(gone("the key index names it for another key")),
        };
    };
    let settling = read(connection, later)?;
    let Some(Body::Transitioned(t)) = settling.map(|placed| placed.record.entry.body) else {
        return Err(gone(&format!("was settled at {later}, where no transition stands")));
    };
    let answer = t.settled.iter().find(|(found, _)| *found == key);
    let (_, stored) =
        answer.ok_or_else(|| gone(&format!("was settled at {later}, which does not name it")))?;
    Ok(stored.at(later))
}

/// Notes in a postponed command's row which entry settled it.
pub(crate) fn settle(connection: &Connection, position: u64, later: u64) -> Result<(), Fault> {
    let gone = |what: &str| Fault::row(TABLE, position, what);
    let placed = read(connection, position)?.ok_or_else(|| gone("is gone"))?;
    let mut frame = encode(&placed.record)?;
    let tail = tail(&frame, placed.chain, later);
    frame.extend_from_slice(&tail);
    let mut write = connection.prepare_cached("UPDATE history SET body = ?2 WHERE pos = ?1")?;
    write.execute(params![position, frame])?;
    Ok(())
}

/// Returns whether a row holds a postponed command that was not settled yet.
pub(crate) fn is_waiting(placed: &Placed) -> bool {
    let kind = placed.record.receipt().map(|(_, stored)| stored.kind);
    placed.settled.is_none() && kind == Some(ReceiptKind::Postponed)
}

/// Returns the instance and the key of a row that has a key.
pub(crate) fn key_at(
    connection: &Connection,
    position: u64,
) -> Result<Option<(u64, KeyHash)>, Fault> {
    let placed = read(connection, position)?;
    let found = placed.and_then(|p| Some((p.record.born, p.record.receipt()?.0)));
    let Some((inst, key)) = found else { return Ok(None) };
    let mut read =
        connection.prepare_cached("SELECT 1 FROM history WHERE pos = ?1 AND key IS NOT NULL")?;
    Ok(read.exists(params![position])?.then_some((inst, key)))
}

/// Forgets a row's key; the row stays.
pub(crate) fn forget(connection: &Connection, position: u64) -> Result<(), Fault> {
    let mut write = connection.prepare_cached("UPDATE history SET key = NULL WHERE pos = ?1")?;
    write.execute(params![position])?;
    Ok(())
}

/// Deletes a row.
pub(crate) fn delete(connection: &Connection, position: u64) -> Result<(), Fault> {
    let mut write = connection.prepare_cached("DELETE FROM history WHERE pos = ?1")?;
    write.execute(params![position])?;
    Ok(())
}
