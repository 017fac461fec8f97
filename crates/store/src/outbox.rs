//! The outbox: commands that wait to leave, written with the transition that wants them.
//!
//! Columns: `born`, `version`, `n` name a row; `body` is a frame with the target and the command. The sum of the table in
//! `meta` tells when a row is missing. Order of delivery is (version, n) within one sender and target; who delivers keeps
//! it.

use bincode::{Decode, Encode};
use rusqlite::{Connection, OptionalExtension, Row, params};

use statehouse_contract::{Command, InstanceKey, Target, codec};

use crate::{
    error::Fault,
    meta::Meta,
    sum::{Sum, row_hash},
};

pub(crate) const TABLE: &str = "outbox";

/// A command that waits to leave.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OutboxRow {
    /// The sender.
    pub sender: InstanceKey,
    /// Birth of the sender.
    pub born: u64,
    /// The version that wrote it.
    pub version: u64,
    /// Its number within that version.
    pub n: u32,
    /// Where it goes.
    pub to: Target,
    /// What is sent.
    pub command: Box<Command>,
}

fn hash(born: u64, version: u64, n: u32, body: &[u8]) -> u128 {
    row_hash(&[&born.to_le_bytes(), &version.to_le_bytes(), &n.to_le_bytes(), body])
}

fn checked(row: &Row<'_>) -> Result<(OutboxRow, u128), Fault> {
    let (born, version, n): (u64, u64, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let body: Vec<u8> = row.get(3)?;
    let name = || format!("{version}-{n} of instance {born}");
    let found: OutboxRow =
        codec::decode(&body).map_err(|error| Fault::frame(TABLE, name(), &error))?;
    if (found.born, found.version, found.n) != (born, version, n) {
        return Err(Fault::row(TABLE, name(), "columns and body differ"));
    }
    Ok((found, hash(born, version, n, &body)))
}

/// Returns whether a row is there.
pub(crate) fn has(connection: &Connection, born: u64, version: u64, n: u32) -> Result<bool, Fault> {
    let mut read = connection
        .prepare_cached("SELECT 1 FROM outbox WHERE born = ?1 AND version = ?2 AND n = ?3")?;
    Ok(read.exists(params![born, version, n])?)
}

/// Writes a row.
pub(crate) fn insert(
    connection: &Connection,
    meta: &mut Meta,
    row: &OutboxRow,
) -> Result<(), Fault> {
    let body = codec::encode(row).map_err(|error| Fault::frame(TABLE, row.version, &error))?;
    let mut write = connection
        .prepare_cached("INSERT INTO outbox (born, version, n, body) VALUES (?1, ?2, ?3, ?4)")?;
    write.execute(params![row.born, row.version, row.n, body])?;
    meta.sums.outbox.add(hash(row.born, row.version, row.n, &body));
    Ok(())
}

/// Deletes a row, if it is there.
pub(crate) fn remove(
    connection: &Connection,
    meta: &mut Meta,
    (born, version, n): (u64, u64, u32),
) -> Result<(), Fault> {
    let mut write = connection.prepare_cached(
        "DELETE FROM outbox WHERE born = ?1 AND version = ?2 AND n = ?3 RETURNING body",
    )?;
    let before: Option<Vec<u8>> =
        write.query_row(params![born, version, n], |row| row.get(0)).optional()?;
    if let Some(body) = before {
        meta.sums.outbox.remove(hash(born, version, n, &body));
    }
    Ok(())
}

/// Reads rows above a place, in order.
pub(crate) fn read_after(
    connection: &Connection,
    after: (u64, u64, u32),
    limit: u64,
) -> Result<Vec<OutboxRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born, version, n, body FROM outbox WHERE (born, version, n) > (?1, ?2, ?3) \
         ORDER BY born, version, n LIMIT ?4",
    )?;
    let mut cursor = read.query(params![after.0, after.1, after.2, limit])?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push(checked(row)?.0);
    }
    Ok(rows)
}

/// Reads the rows of a sender, in order.
pub(crate) fn read_of(connection: &Connection, born: u64) -> Result<Vec<OutboxRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born, version, n, body FROM outbox WHERE born = ?1 ORDER BY version, n",
    )?;
    let mut cursor = read.query(params![born])?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push(checked(row)?.0);
    }
    Ok(rows)
}

/// Compares the table with its sum.
pub(crate) fn verify(connection: &Connection, meta: &Meta) -> Result<(), Fault> {
    let mut read = connection.prepare_cached("SELECT born, version, n, body FROM outbox")?;
    let mut cursor = read.query([])?;
    let mut found = Sum::default();
    while let Some(row) = cursor.next()? {
        found.add(checked(row)?.1);
    }
    if found == meta.sums.outbox {
        return Ok(());
    }
    Err(Fault::row(TABLE, "(all)", format!("sum {found:?}, expected {:?}", meta.sums.outbox)))
}
