//! Lists of instances: a bounded walk over the rows in the order of their births.
//!
//! A page looks at a bounded number of rows, not at as many as it takes to fill it, so a filter that matches nothing costs
//! no more than one that matches all. The cursor is the birth of the last row that was looked at; it stays right whatever
//! is written meanwhile.

use rusqlite::{Connection, params};

use statehouse_contract::{DefinitionName, TenantId};

use super::View;
use crate::{
    buckets::Buckets,
    entry::Status,
    error::{Fault, StoreError},
    instances::{self, COLUMNS, InstanceRow},
    meta::Meta,
    sum::Sum,
};

/// Rows that one page looks at.
const LOOKED_AT_MAX: u64 = 5_000;

/// What a listed instance has to be. Every given part must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// Whose.
    pub tenant: TenantId,
    /// An active atomic state's id, or that of one of its ancestors as the path is written.
    pub state: Option<Box<str>>,
    /// The definition's name.
    pub definition: Option<DefinitionName>,
    /// The status.
    pub status: Option<Status>,
    /// A tag of an active state.
    pub tag: Option<Box<str>>,
    /// Whether finished instances are listed when no status is given.
    pub with_finished: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePage {
    /// The rows, oldest birth first.
    pub rows: Vec<InstanceRow>,
    /// Where the next page begins; nothing at the end. A page may be short, even empty, and still have a next one.
    pub next: Option<u64>,
}

impl ListFilter {
    fn takes(&self, row: &InstanceRow) -> bool {
        let status = match self.status {
            Some(wanted) => wanted == row.status,
            None => self.with_finished || !row.status.is_finished(),
        };
        status
            && row.key.tenant == self.tenant
            && self.definition.as_ref().is_none_or(|name| *name == row.definition.name)
            && self.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
            && self.state.as_ref().is_none_or(|state| is_in(&row.configuration, state))
    }
}

/// Returns whether a state, or a state above an active one, has this id. Ids of nested states are paths with dots.
fn is_in(configuration: &[Box<str>], state: &str) -> bool {
    configuration.iter().any(|active| {
        active.strip_prefix(state).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

impl View {
    /// Returns a page of instances whose births are above `after`, at most `limit`.
    ///
    /// # Errors
    /// As every question.
    pub fn list(
        &self,
        filter: &ListFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<InstancePage, StoreError> {
        self.ask("list instances", |connection| {
            self.proofs.table(connection)?;
            page(connection, filter, after.unwrap_or(0), limit)
        })
    }
}

fn page(
    connection: &Connection,
    filter: &ListFilter,
    after: u64,
    limit: u32,
) -> Result<InstancePage, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM instances WHERE born > ?1 AND tenant = ?2 AND (?3 IS NULL OR status = ?3) \
         ORDER BY born LIMIT ?4"
    );
    let mut read = connection.prepare_cached(&sql)?;
    let status = filter.status.map(Status::number);
    let mut cursor = read.query(params![after, filter.tenant.as_str(), status, LOOKED_AT_MAX])?;
    let (mut rows, mut looked_at, mut last) = (Vec::new(), 0, after);
    while let Some(row) = cursor.next()? {
        if rows.len() >= limit as usize {
            return Ok(InstancePage { rows, next: Some(last) });
        }
        let row = instances::checked(row)?;
        (last, looked_at) = (row.version.born, looked_at + 1);
        if filter.takes(&row) {
            rows.push(row);
        }
    }
    let next = (looked_at == LOOKED_AT_MAX).then_some(last);
    Ok(InstancePage { rows, next })
}

/// Compares the table itself, row by row but without the snapshots, with what is known of all of them: the digests with
/// their sum, the names with those of the buckets, the statuses with their counts. A walk filters by these columns.
pub(crate) fn compare_table(connection: &Connection) -> Result<(), Fault> {
    let meta = Meta::read(connection)?;
    let names_expected = Buckets::load(connection, &meta)?.names();
    let mut read = connection.prepare_cached(
        "SELECT born, tenant, instance, status, digest FROM instances NOT INDEXED",
    )?;
    let mut cursor = read.query([])?;
    let (mut digests, mut names, mut counts) = (Sum::default(), Sum::default(), [0u64; 8]);
    while let Some(row) = cursor.next()? {
        let (born, status): (u64, usize) = (row.get(0)?, row.get(3)?);
        let (tenant, instance): (String, String) = (row.get(1)?, row.get(2)?);
        names.add(instances::name_hash(&tenant, &instance, born));
        digests.add(u128::from_le_bytes(row.get(4)?));
        let unknown = || Fault::row(instances::TABLE, born, format!("status {status}"));
        *counts.get_mut(status).ok_or_else(unknown)? += 1;
    }
    let bad = |what: String| Err(Fault::row(instances::TABLE, "(all)", what));
    if digests != meta.sums.instances {
        return bad(format!("digests {digests:?}, expected {:?}", meta.sums.instances));
    }
    if names != names_expected {
        return bad(format!("names {names:?}, expected {names_expected:?}"));
    }
    if counts != meta.instances {
        return bad(format!("statuses {counts:?}, expected {:?}", meta.instances));
    }
    Ok(())
}
