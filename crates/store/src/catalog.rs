//! The catalog: definitions, current versions, tenants, API keys, quotas, schedules, batches, members.
//!
//! They are few, alike, and change seldom, so they share one table and this one file. Columns: `kind`, `tenant`, `name`,
//! `version` name a row; `body` is a frame. The sum of the table in `meta` tells when a row is missing; it is compared when
//! the file is opened.
//!
//! A key is found by the hash of its secret through a row of its own kind that names it, so that the answer to "no such
//! key" is a look-up, and both rows change in one transaction.

use bincode::{Decode, Encode};
use rusqlite::{Connection, OptionalExtension, params};

use statehouse_contract::{DefinitionName, Digest, Json, RoleName, TenantId, Timestamp, codec};

use crate::{
    entry::Authority,
    error::Fault,
    meta::Meta,
    sum::{Sum, row_hash},
};

pub(crate) const TABLE: &str = "catalog";

/// What a row is; the number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Definition = 1,
    Current = 2,
    Tenant = 3,
    Key = 4,
    KeyHash = 5,
    Quota = 6,
    Schedule = 7,
    Batch = 8,
    Member = 9,
}

/// A version of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DefinitionRow {
    /// Its name.
    pub name: DefinitionName,
    /// Its version.
    pub version: u32,
    /// The fingerprint of the document.
    pub digest: Digest,
    /// The document as authored.
    pub document: Json,
    /// Whether this row is the truth or a copy.
    pub authority: Authority,
    /// When it was deployed.
    pub deployed_at: Timestamp,
    /// Who deployed it.
    pub deployed_by: Box<str>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyRow {
    /// The owner.
    pub tenant: TenantId,
    /// Its public id.
    pub id: Box<str>,
    /// The hash of its secret.
    pub hash: Digest,
    /// What people call its holder.
    pub name: Box<str>,
    /// What it may do.
    pub roles: Vec<RoleName>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A named document: a schedule, a batch, a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DocumentRow {
    /// Its name.
    pub name: Box<str>,
    /// The document.
    pub document: Json,
    /// When it is due next, for a schedule.
    pub next: Option<Timestamp>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TenantRow {
    /// Its name.
    pub tenant: TenantId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The name of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) kind: Kind,
    pub(crate) tenant: &'a str,
    pub(crate) name: &'a str,
    pub(crate) version: u32,
}

impl<'a> Name<'a> {
    pub(crate) const fn new(kind: Kind, tenant: &'a str, name: &'a str) -> Self {
        Self { kind, tenant, name, version: 0 }
    }

    fn hash(&self, body: &[u8]) -> u128 {
        hash(self.kind as u8, self.tenant, self.name, self.version, body)
    }
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}/{} {}", self.kind, self.tenant, self.name, self.version)
    }
}

fn hash(kind: u8, tenant: &str, name: &str, version: u32, body: &[u8]) -> u128 {
    row_hash(&[&[kind], tenant.as_bytes(), name.as_bytes(), &version.to_le_bytes(), body])
}

/// Reads a row.
pub(crate) fn get<T: Decode<()>>(
    connection: &Connection,
    name: Name<'_>,
) -> Result<Option<T>, Fault> {
    let body = body(connection, name)?;
    body.map(|body| codec::decode(&body).map_err(|error| Fault::frame(TABLE, name, &error)))
        .transpose()
}

fn body(connection: &Connection, name: Name<'_>) -> Result<Option<Vec<u8>>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT body FROM catalog WHERE kind = ?1 AND tenant = ?2 AND name = ?3 AND version = ?4",
    )?;
    let asked = params![name.kind as u8, name.tenant, name.name, name.version];
    Ok(read.query_row(asked, |row| row.get(0)).optional()?)
}

/// Writes a row, new or in place of the one before.
pub(crate) fn put<T: Encode>(
    connection: &Connection,
    meta: &mut Meta,
    name: Name<'_>,
    value: &T,
) -> Result<(), Fault> {
    remove(connection, meta, name)?;
    let body = codec::encode(value).map_err(|error| Fault::frame(TABLE, name, &error))?;
    let mut write = connection.prepare_cached(
        "INSERT INTO catalog (kind, tenant, name, version, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    write.execute(params![name.kind as u8, name.tenant, name.name, name.version, body])?;
    meta.sums.catalog.add(name.hash(&body));
    Ok(())
}

/// Deletes a row, if it is there.
pub(crate) fn remove(
    connection: &Connection,
    meta: &mut Meta,
    name: Name<'_>,
) -> Result<(), Fault> {
    let Some(before) = body(connection, name)? else { return Ok(()) };
    let mut write = connection.prepare_cached(
        "DELETE FROM catalog WHERE kind = ?1 AND tenant = ?2 AND name = ?3 AND version = ?4",
    )?;
    write.execute(params![name.kind as u8, name.tenant, name.name, name.version])?;
    meta.sums.catalog.remove(name.hash(&before));
    Ok(())
}

/// Reads the rows of a kind, of one tenant or of all, in the order of their names.
pub(crate) fn list<T: Decode<()>>(
    connection: &Connection,
    kind: Kind,
    tenant: Option<&str>,
) -> Result<Vec<T>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT name, body FROM catalog WHERE kind = ?1 AND (?2 IS NULL OR tenant = ?2) \
         ORDER BY tenant, name, version",
    )?;
    let mut cursor = read.query(params![kind as u8, tenant])?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        let (name, body): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        rows.push(codec::decode(&body).map_err(|error| Fault::frame(TABLE, name, &error))?);
    }
    Ok(rows)
}

/// Returns the highest stored version of a definition; 0 if there is none.
pub(crate) fn latest(connection: &Connection, tenant: &str, name: &str) -> Result<u32, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT coalesce(max(version), 0) FROM catalog WHERE kind = ?1 AND tenant = ?2 AND name = ?3",
    )?;
    Ok(read.query_row(params![Kind::Definition as u8, tenant, name], |row| row.get(0))?)
}

/// Compares the table with its sum.
pub(crate) fn verify(connection: &Connection, meta: &Meta) -> Result<(), Fault> {
    let mut read =
        connection.prepare_cached("SELECT kind, tenant, name, version, body FROM catalog")?;
    let mut cursor = read.query([])?;
    let mut found = Sum::default();
    while let Some(row) = cursor.next()? {
        let (tenant, name): (String, String) = (row.get(1)?, row.get(2)?);
        let body: Vec<u8> = row.get(4)?;
        codec::check(&body).map_err(|error| Fault::frame(TABLE, &name, &error))?;
        found.add(hash(row.get(0)?, &tenant, &name, row.get(3)?, &body));
    }
    if found == meta.sums.catalog {
        return Ok(());
    }
    Err(Fault::row(TABLE, "(all)", format!("sum {found:?}, expected {:?}", meta.sums.catalog)))
}
