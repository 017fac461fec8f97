//! History as it is asked for: an instance's transitions, changes since a position, one record.
//!
//! An instance's versions run without a gap, so a row that got lost is noticed by the versions around it. A walk over the
//! whole shard cannot notice a lost row by itself; `audit` can.

use rusqlite::Connection;

use statehouse_contract::{InstanceKey, TenantId};

use super::View;
use crate::{
    entry::{Body, TaskKey},
    error::{Fault, StoreError},
    history::{self, Placed},
};

/// Rows that one look at a tenant's changes walks over.
const WALKED_MAX: u64 = 2_000;

/// Newest rows of an instance among which its last refusal is looked for.
const REFUSAL_LOOK_MAX: usize = 200;

/// A page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The rows, oldest first.
    pub rows: Vec<Placed>,
    /// The position after which to go on: that of the last row that was looked at.
    pub next: u64,
    /// Whether there is more to look at now.
    pub has_more: bool,
}

impl View {
    /// Returns an instance's transitions above a version, oldest first; nothing if there is no such instance.
    ///
    /// # Errors
    /// As every question.
    pub fn history(
        &self,
        key: &InstanceKey,
        after_version: u64,
        limit: u32,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.ask("read the history of an instance", |connection| {
            let Some(row) = self.find_instance(connection, key)? else { return Ok(None) };
            let born = row.version.born;
            let positions = self.positions(connection, born)?;
            let first = first_above(connection, born, &positions, after_version)?;
            let rest = positions.get(first..).unwrap_or_default();
            let page =
                transitions(connection, born, rest, limit, after_version + 1, row.version.version)?;
            Ok(Some(page))
        })
    }

    /// Returns an instance's transitions above a position, oldest first; nothing if there is no such instance.
    ///
    /// # Errors
    /// As every question.
    pub fn changes(
        &self,
        key: &InstanceKey,
        after: u64,
        limit: u32,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.ask("read changes of an instance", |connection| {
            let Some(row) = self.find_instance(connection, key)? else { return Ok(None) };
            let born = row.version.born;
            let positions = self.positions(connection, born)?;
            let first = positions.partition_point(|position| *position <= after);
            let met = match first.checked_sub(1).and_then(|place| positions.get(place)) {
                None => 0,
                Some(position) => version_at(connection, born, *position)?,
            };
            let rest = positions.get(first..).unwrap_or_default();
            let mut page =
                transitions(connection, born, rest, limit, met + 1, row.version.version)?;
            page.next = page.next.max(after);
            Ok(Some(page))
        })
    }

    /// Returns the last refusal among an instance's newest rows; nothing if there is none.
    ///
    /// # Errors
    /// As every question.
    pub fn last_refusal(&self, key: &InstanceKey) -> Result<Option<Placed>, StoreError> {
        self.ask("read the last refusal of an instance", |connection| {
            let Some(row) = self.find_instance(connection, key)? else { return Ok(None) };
            let born = row.version.born;
            let positions = self.positions(connection, born)?;
            for position in positions.iter().rev().take(REFUSAL_LOOK_MAX) {
                let placed = load(connection, born, *position)?;
                if matches!(placed.record.entry.body, Body::Refused(_)) {
                    return Ok(Some(placed));
                }
            }
            Ok(None)
        })
    }

    /// Returns the end of the last failed attempt of a task among its instance's newest rows; nothing if there is none.
    ///
    /// # Errors
    /// As every question.
    pub fn last_attempt_ended(
        &self,
        born: u64,
        task: TaskKey,
    ) -> Result<Option<Placed>, StoreError> {
        self.ask("read the last attempt of a task", |connection| {
            let positions = self.positions(connection, born)?;
            for position in positions.iter().rev().take(REFUSAL_LOOK_MAX) {
                let placed = load(connection, born, *position)?;
                let is_it = match &placed.record.entry.body {
                    Body::AttemptEnded(ended) => ended.task.task == task,
                    _ => false,
                };
                if is_it {
                    return Ok(Some(placed));
                }
            }
            Ok(None)
        })
    }

    /// Returns the positions of an instance's rows, oldest first. Versions show that a transition got lost, only the
    /// sum of the keys shows it of a refusal.
    fn positions(&self, connection: &Connection, born: u64) -> Result<Vec<u64>, Fault> {
        self.proofs.keys(connection, born)?;
        history::positions(connection, born)
    }

    /// Returns a tenant's transitions above a position, oldest first.
    ///
    /// # Errors
    /// As every question.
    pub fn tenant_changes(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: u32,
    ) -> Result<HistoryPage, StoreError> {
        self.ask("read changes of a tenant", |connection| {
            let walked = history::read_after(connection, Some(after), WALKED_MAX)?;
            let mut page = HistoryPage { rows: Vec::new(), next: after, has_more: false };
            let is_cut = walked.len() as u64 == WALKED_MAX;
            for placed in walked {
                if page.rows.len() >= limit as usize {
                    page.has_more = true;
                    return Ok(page);
                }
                page.next = placed.record.position;
                if moved(&placed).is_some_and(|key| key.tenant == *tenant) {
                    page.rows.push(placed);
                }
            }
            page.has_more = is_cut;
            Ok(page)
        })
    }

    /// Returns the record at a position.
    ///
    /// # Errors
    /// As every question.
    pub fn record(&self, position: u64) -> Result<Option<Placed>, StoreError> {
        self.ask("read a record", |connection| history::read(connection, position))
    }
}

fn moved(placed: &Placed) -> Option<&InstanceKey> {
    match &placed.record.entry.body {
        Body::Transitioned(t) => Some(&t.instance),
        _ => None,
    }
}

fn load(connection: &Connection, born: u64, position: u64) -> Result<Placed, Fault> {
    let gone = || Fault::row(history::TABLE, position, "the key index names it, it is not there");
    let placed = history::read(connection, position)?.filter(|placed| placed.record.born == born);
    placed.ok_or_else(gone)
}

/// Returns the version that a row made or met.
fn version_at(connection: &Connection, born: u64, position: u64) -> Result<u64, Fault> {
    Ok(load(connection, born, position)?.record.version.map_or(0, |version| version.version))
}

/// Returns the place of the first row that belongs to a version above the given one. Versions never fall.
fn first_above(
    connection: &Connection,
    born: u64,
    positions: &[u64],
    version: u64,
) -> Result<usize, Fault> {
    let (mut low, mut high) = (0, positions.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let position = positions.get(middle).copied().unwrap_or(u64::MAX);
        if version_at(connection, born, position)? <= version {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Reads transitions and checks that their versions run on from `expected` without a gap, up to `last` at the end.
fn transitions(
    connection: &Connection,
    born: u64,
    positions: &[u64],
    limit: u32,
    mut expected: u64,
    last: u64,
) -> Result<HistoryPage, Fault> {
    let mut page = HistoryPage { rows: Vec::new(), next: 0, has_more: false };
    let gap = |position: u64, expected: u64| {
        Fault::row(history::TABLE, position, format!("version {expected} is missing before it"))
    };
    for position in positions {
        if page.rows.len() >= limit as usize {
            // What is left may be refusals alone.
            page.has_more = expected <= last;
            return Ok(page);
        }
        let placed = load(connection, born, *position)?;
        page.next = *position;
        if moved(&placed).is_none() {
            continue;
        }
        if placed.record.version.map(|version| version.version) != Some(expected) {
            return Err(gap(*position, expected));
        }
        expected += 1;
        page.rows.push(placed);
    }
    if expected > last || positions.is_empty() && expected > last + 1 {
        return Ok(page);
    }
    Err(gap(positions.last().copied().unwrap_or(0), expected))
}
