//! Due work: timers, queues, deadlines, leases, retries, schedules; one row each, ordered by time.
//!
//! Columns: `held` (1 while a paused instance holds it), `at`, `born` (0 for a schedule), `what`. All four are the primary
//! key, so a row is found by naming it and nothing else is indexed; the timer actor reads the front of `held = 0`.
//! A row that was lost would mean silence for ever, so the table has a sum in `meta`, compared when the file is opened and
//! whenever an entry disarms a row that is not there: if the sum does not fit, this replica is damaged; if it fits, the
//! entry is wrong and is fenced.
//!
//! Arming a row that is there already is no error: it is what the entry wants. Disarming needs the row: it is the fence of
//! a firing.

use bincode::{Decode, Encode};
use rusqlite::{Connection, Row, params};

use statehouse_contract::{Due, TenantId, Timestamp, codec};

use crate::{
    entry::DueChange,
    error::Fault,
    meta::Meta,
    sum::{Sum, row_hash},
};

pub(crate) const TABLE: &str = "due";

/// What is due, and for whom if not for an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(crate) struct What {
    /// Given for schedules, which belong to a tenant.
    pub(crate) tenant: Option<TenantId>,
    /// What is due.
    pub(crate) due: Due,
}

/// The name of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) at: Timestamp,
    pub(crate) born: u64,
    pub(crate) what: Vec<u8>,
}

/// Whether a row is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    Ready,
    Held,
}

impl Slot {
    pub(crate) fn of(at: Timestamp, born: u64, what: &Due) -> Self {
        Self { at, born, what: encode(&What { tenant: None, due: what.clone() }) }
    }

    pub(crate) fn schedule(at: Timestamp, tenant: &TenantId, name: &str) -> Self {
        let due = Due::Schedule { name: name.into() };
        Self { at, born: 0, what: encode(&What { tenant: Some(tenant.clone()), due }) }
    }

    fn hash(&self, held: bool) -> u128 {
        let head = [u8::from(held)];
        row_hash(&[&head, &self.at.0.to_le_bytes(), &self.born.to_le_bytes(), &self.what])
    }
}

fn encode(what: &What) -> Vec<u8> {
    codec::encode(what).expect("a name of due work is shorter than a frame")
}

/// Looks whether a row is there.
pub(crate) fn presence(connection: &Connection, slot: &Slot) -> Result<Presence, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT 1 FROM due WHERE held = ?1 AND at = ?2 AND born = ?3 AND what = ?4",
    )?;
    for (held, presence) in [(0, Presence::Ready), (1, Presence::Held)] {
        if read.exists(params![held, slot.at.0, slot.born, slot.what])? {
            return Ok(presence);
        }
    }
    Ok(Presence::Absent)
}

/// Changes of the table that were checked and are not written yet: each slot once, before and after.
#[derive(Debug, Default)]
pub(crate) struct Plan(Vec<(Slot, Presence, Presence)>);

/// A slot that an entry names and that is not there.
#[derive(Debug)]
pub(crate) struct MissingSlot(pub(crate) Timestamp);

impl Plan {
    fn now(&self, connection: &Connection, slot: &Slot) -> Result<Presence, Fault> {
        let planned = self.0.iter().find(|(known, ..)| known == slot);
        planned.map_or_else(|| presence(connection, slot), |(_, _, after)| Ok(*after))
    }

    fn set(&mut self, slot: Slot, before: Presence, after: Presence) {
        match self.0.iter_mut().find(|(known, ..)| *known == slot) {
            Some(planned) => planned.2 = after,
            None => self.0.push((slot, before, after)),
        }
    }

    /// Plans a row; it may be there already.
    pub(crate) fn arm(&mut self, connection: &Connection, slot: Slot) -> Result<(), Fault> {
        let before = self.now(connection, &slot)?;
        self.set(slot, before, Presence::Ready);
        Ok(())
    }

    /// Plans the end of a row, held or not. The inner error says that it is not there.
    pub(crate) fn disarm(
        &mut self,
        connection: &Connection,
        slot: Slot,
    ) -> Result<Result<(), MissingSlot>, Fault> {
        self.change(connection, slot, Presence::Absent)
    }

    fn change(
        &mut self,
        connection: &Connection,
        slot: Slot,
        after: Presence,
    ) -> Result<Result<(), MissingSlot>, Fault> {
        let before = self.now(connection, &slot)?;
        if before == Presence::Absent {
            return Ok(Err(MissingSlot(slot.at)));
        }
        self.set(slot, before, after);
        Ok(Ok(()))
    }

    /// Plans one change that a transition asks for.
    pub(crate) fn take(
        &mut self,
        connection: &Connection,
        born: u64,
        change: &DueChange,
    ) -> Result<Result<(), MissingSlot>, Fault> {
        match change {
            DueChange::Arm { at, what } => self.arm(connection, Slot::of(*at, born, what)).map(Ok),
            DueChange::Disarm { at, what } => self.disarm(connection, Slot::of(*at, born, what)),
            DueChange::Hold { at, what } => {
                self.change(connection, Slot::of(*at, born, what), Presence::Held)
            }
            DueChange::Release { at, what } => {
                self.change(connection, Slot::of(*at, born, what), Presence::Ready)
            }
        }
    }

    /// Writes what was planned.
    pub(crate) fn write(self, connection: &Connection, meta: &mut Meta) -> Result<(), Fault> {
        for (slot, before, after) in self.0 {
            if before == after {
                continue;
            }
            match before {
                Presence::Absent => {}
                Presence::Ready => delete(connection, meta, &slot, false)?,
                Presence::Held => delete(connection, meta, &slot, true)?,
            }
            match after {
                Presence::Absent => {}
                Presence::Ready => insert(connection, meta, &slot, false)?,
                Presence::Held => insert(connection, meta, &slot, true)?,
            }
        }
        Ok(())
    }
}

fn insert(connection: &Connection, meta: &mut Meta, slot: &Slot, held: bool) -> Result<(), Fault> {
    let mut write = connection
        .prepare_cached("INSERT INTO due (held, at, born, what) VALUES (?1, ?2, ?3, ?4)")?;
    write.execute(params![held, slot.at.0, slot.born, slot.what])?;
    meta.sums.due.add(slot.hash(held));
    Ok(())
}

/// Deletes a row that was seen before.
pub(crate) fn delete(
    connection: &Connection,
    meta: &mut Meta,
    slot: &Slot,
    held: bool,
) -> Result<(), Fault> {
    let mut write = connection.prepare_cached(
        "DELETE FROM due WHERE held = ?1 AND at = ?2 AND born = ?3 AND what = ?4",
    )?;
    if write.execute(params![held, slot.at.0, slot.born, slot.what])? != 1 {
        return Err(Fault::row(TABLE, format!("{} of {}", slot.at, slot.born), "is gone"));
    }
    meta.sums.due.remove(slot.hash(held));
    Ok(())
}

/// One row as it was read.
#[derive(Clone, Debug)]
pub(crate) struct DueRow {
    pub(crate) held: bool,
    pub(crate) slot: Slot,
    pub(crate) what: What,
}

pub(crate) fn checked(row: &Row<'_>) -> Result<DueRow, Fault> {
    let (held, at, born): (bool, i64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let bytes: Vec<u8> = row.get(3)?;
    let what = codec::decode(&bytes)
        .map_err(|error| Fault::frame(TABLE, format!("{at} of instance {born}"), &error))?;
    Ok(DueRow { held, slot: Slot { at: Timestamp(at), born, what: bytes }, what })
}

/// Reads rows that are not held, from a place on, up to a time.
pub(crate) fn read_page(
    connection: &Connection,
    after: Option<&Slot>,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<DueRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT held, at, born, what FROM due WHERE held = 0 AND (at, born, what) > (?1, ?2, ?3) AND at <= ?4 \
         ORDER BY at, born, what LIMIT ?5",
    )?;
    let start = Slot { at: Timestamp(i64::MIN), born: 0, what: Vec::new() };
    let after = after.unwrap_or(&start);
    let asked = params![after.at.0, after.born, after.what, until.0, limit as u64];
    let mut cursor = read.query(asked)?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push(checked(row)?);
    }
    Ok(rows)
}

/// Reads all rows of the table in order, with their sum.
pub(crate) fn read_all(connection: &Connection) -> Result<(Vec<DueRow>, Sum), Fault> {
    let mut read = connection
        .prepare_cached("SELECT held, at, born, what FROM due ORDER BY at, born, what")?;
    let mut cursor = read.query([])?;
    let (mut rows, mut sum) = (Vec::new(), Sum::default());
    while let Some(row) = cursor.next()? {
        let row = checked(row)?;
        sum.add(row.slot.hash(row.held));
        rows.push(row);
    }
    Ok((rows, sum))
}

/// Compares the table with its sum.
pub(crate) fn verify(connection: &Connection, meta: &Meta) -> Result<(), Fault> {
    let mut read = connection.prepare_cached("SELECT held, at, born, what FROM due")?;
    let mut cursor = read.query([])?;
    let mut found = Sum::default();
    while let Some(row) = cursor.next()? {
        let row = checked(row)?;
        found.add(row.slot.hash(row.held));
    }
    if found == meta.sums.due {
        return Ok(());
    }
    Err(Fault::row(TABLE, "(all)", format!("sum {found:?}, expected {:?}", meta.sums.due)))
}

/// Deletes every row of an instance that is swept.
pub(crate) fn delete_of(connection: &Connection, meta: &mut Meta, born: u64) -> Result<(), Fault> {
    let mut read =
        connection.prepare_cached("SELECT held, at, born, what FROM due WHERE born = ?1")?;
    let mut cursor = read.query(params![born])?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push(checked(row)?);
    }
    rows.iter().try_for_each(|row| delete(connection, meta, &row.slot, row.held))
}
