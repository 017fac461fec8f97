//! Tasks: work for the outside, one row each while it is open.
//!
//! Columns: `born`, `version`, `n` name it; `tenant`, `queue` and `ready` (empty unless it may be leased) serve the polls;
//! `body` is a frame. The sum of the table in `meta` tells when a row is missing or a column was changed.
//!
//! Due rows of a task (ready again, lease, attempt) follow from its state, here and nowhere else, so no entry can forget
//! one. The token rises with every lease and with the end of every attempt: whoever lost a lease holds a stale one.

use bincode::{Decode, Encode};
use rusqlite::{Connection, OptionalExtension, Row, params};

use statehouse_contract::{
    Due, InstanceKey, Timestamp, codec,
    mutant::{self, Mutant},
};

use crate::{
    due::Slot,
    entry::TaskKey,
    error::Fault,
    meta::Meta,
    sum::{Sum, row_hash},
};

pub(crate) const TABLE: &str = "tasks";

/// Returns the token that a lease gives a task which has this one now.
#[must_use]
pub fn next_token(token: u64, decided_term: u64) -> u64 {
    // Two deliberate bugs: only the task's own counter is different for each lease.
    if mutant::is(Mutant::TokenByTerm) {
        return decided_term;
    }
    if mutant::is(Mutant::TaskTokenReused) {
        return token.max(1);
    }
    token + 1
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TaskState {
    /// A worker, from this time on.
    Ready {
        /// When it may be leased.
        at: Timestamp,
        /// Whether a due row announces that time. Nobody needs one: those who look for work find the time in the index of
        /// the ready tasks, and a thousand tasks without a worker would be read by the timer for ever.
        armed: bool,
    },
    /// The report of its worker.
    Leased {
        /// Until when the lease lives.
        until: Timestamp,
        /// When the attempt runs out of time.
        attempt_until: Option<Timestamp>,
    },
    /// An operator.
    Parked,
}

/// An open task.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TaskRow {
    /// Whose it is.
    pub instance: InstanceKey,
    /// Birth of that instance.
    pub born: u64,
    /// Its name within the instance.
    pub task: TaskKey,
    /// The queue that workers poll.
    pub queue: Box<str>,
    /// Its token: that of the present holder, or the last one given.
    pub token: u64,
    /// Attempts begun.
    pub attempts: u32,
    /// The worker of the last lease.
    pub worker: Option<Box<str>>,
    /// What it waits for.
    pub state: TaskState,
    /// The order, encoded by the runtime.
    pub order: Box<[u8]>,
}

impl TaskRow {
    /// Returns the due rows that this state has.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let Some(task) = self.task.number() else { return Vec::new() };
        match self.state {
            TaskState::Ready { at, armed: true } => {
                vec![Slot::of(at, self.born, &Due::Retry { task })]
            }
            TaskState::Ready { armed: false, .. } | TaskState::Parked => Vec::new(),
            TaskState::Leased { until, attempt_until } => {
                let lease = Slot::of(until, self.born, &Due::Lease { task });
                let attempt =
                    attempt_until.map(|at| Slot::of(at, self.born, &Due::Attempt { task }));
                std::iter::once(lease).chain(attempt).collect()
            }
        }
    }

    const fn ready(&self) -> Option<i64> {
        match self.state {
            TaskState::Ready { at, .. } => Some(at.0),
            TaskState::Leased { .. } | TaskState::Parked => None,
        }
    }

    fn encode(&self) -> Result<Vec<u8>, Fault> {
        codec::encode(self).map_err(|error| Fault::frame(TABLE, self.task.version, &error))
    }
}

fn hash(body: &[u8], ready: Option<i64>) -> u128 {
    row_hash(&[body, &ready.unwrap_or(i64::MIN).to_le_bytes()])
}

/// Takes a row (born, version, n, tenant, queue, ready, body) apart and checks it.
fn checked(row: &Row<'_>) -> Result<(TaskRow, u128), Fault> {
    let (born, version, n): (u64, u64, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let name = || format!("{version}-{n} of instance {born}");
    let (tenant, queue): (String, String) = (row.get(3)?, row.get(4)?);
    let (ready, body): (Option<i64>, Vec<u8>) = (row.get(5)?, row.get(6)?);
    let task: TaskRow =
        codec::decode(&body).map_err(|error| Fault::frame(TABLE, name(), &error))?;
    let same = task.born == born
        && task.task == TaskKey { version, n }
        && task.instance.tenant.as_str() == tenant
        && *task.queue == *queue
        && task.ready() == ready;
    if same {
        Ok((task, hash(&body, ready)))
    } else {
        Err(Fault::row(TABLE, name(), "columns and body differ"))
    }
}

const SELECT: &str = "SELECT born, version, n, tenant, queue, ready, body FROM tasks";

/// Reads a task.
pub(crate) fn read(
    connection: &Connection,
    born: u64,
    task: TaskKey,
) -> Result<Option<TaskRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born, version, n, tenant, queue, ready, body FROM tasks WHERE born = ?1 AND version = ?2 AND n = ?3",
    )?;
    let mut cursor = read.query(params![born, task.version, task.n])?;
    Ok(cursor.next()?.map(checked).transpose()?.map(|(row, _)| row))
}

/// Reads the open tasks of an instance.
pub(crate) fn read_of(connection: &Connection, born: u64) -> Result<Vec<TaskRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born, version, n, tenant, queue, ready, body FROM tasks WHERE born = ?1 ORDER BY version, n",
    )?;
    collect(&mut read.query(params![born])?)
}

/// Reads tasks of a queue that may be leased at a time, the longest waiting first.
pub(crate) fn read_ready(
    connection: &Connection,
    tenant: &str,
    queue: &str,
    at: Timestamp,
    limit: u64,
) -> Result<Vec<TaskRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born, version, n, tenant, queue, ready, body FROM tasks INDEXED BY tasks_ready WHERE tenant = ?1 \
         AND queue = ?2 AND ready <= ?3 AND ready IS NOT NULL ORDER BY ready LIMIT ?4",
    )?;
    collect(&mut read.query(params![tenant, queue, at.0, limit])?)
}

/// Counts the tasks of a queue that may be leased at a time, up to a limit.
pub(crate) fn count_ready(
    connection: &Connection,
    tenant: &str,
    queue: &str,
    at: Timestamp,
    limit: u64,
) -> Result<u64, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_ready WHERE tenant = ?1 AND queue = ?2 \
         AND ready <= ?3 AND ready IS NOT NULL LIMIT ?4)",
    )?;
    Ok(read.query_row(params![tenant, queue, at.0, limit], |row| row.get(0))?)
}

/// Returns the first tenant by name after another one that has tasks which may be leased at some time.
pub(crate) fn tenant_after(connection: &Connection, after: &str) -> Result<Option<String>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT tenant FROM tasks INDEXED BY tasks_ready WHERE tenant > ?1 AND ready IS NOT NULL ORDER BY tenant LIMIT 1",
    )?;
    Ok(read.query_row(params![after], |row| row.get(0)).optional()?)
}

/// Returns the first queue behind another one (tenant, queue) with a task that may be leased at some time, and the earliest
/// such time: one probe of the index.
pub(crate) fn oldest_ready(
    connection: &Connection,
    (tenant, queue): (&str, &str),
) -> Result<Option<(String, String, i64)>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT tenant, queue, ready FROM tasks INDEXED BY tasks_ready \
         WHERE (tenant, queue) > (?1, ?2) AND ready IS NOT NULL ORDER BY tenant, queue, ready LIMIT 1",
    )?;
    let row =
        read.query_row(params![tenant, queue], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    Ok(row.optional()?)
}

/// Reads the open tasks of a tenant above a place, in order.
pub(crate) fn read_of_tenant(
    connection: &Connection,
    tenant: &str,
    after: (u64, u64, u32),
    limit: u64,
) -> Result<Vec<TaskRow>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born, version, n, tenant, queue, ready, body FROM tasks WHERE (born, version, n) > (?1, ?2, ?3) \
         AND tenant = ?4 ORDER BY born, version, n LIMIT ?5",
    )?;
    collect(&mut read.query(params![after.0, after.1, after.2, tenant, limit])?)
}

/// Reads every open task, in order.
pub(crate) fn read_all(connection: &Connection) -> Result<Vec<TaskRow>, Fault> {
    let mut read = connection.prepare_cached(&format!("{SELECT} ORDER BY born, version, n"))?;
    collect(&mut read.query([])?)
}

fn collect(cursor: &mut rusqlite::Rows<'_>) -> Result<Vec<TaskRow>, Fault> {
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push(checked(row)?.0);
    }
    Ok(rows)
}

/// Writes a task: a new one, or the next state of one that is there.
pub(crate) fn put(connection: &Connection, meta: &mut Meta, row: &TaskRow) -> Result<(), Fault> {
    remove(connection, meta, row.born, row.task)?;
    let body = row.encode()?;
    meta.sums.tasks.add(hash(&body, row.ready()));
    let mut write = connection.prepare_cached(
        "INSERT INTO tasks (born, version, n, tenant, queue, ready, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let tenant = row.instance.tenant.as_str();
    write.execute(params![
        row.born,
        row.task.version,
        row.task.n,
        tenant,
        &*row.queue,
        row.ready(),
        body
    ])?;
    Ok(())
}

/// Deletes a task, if it is there.
pub(crate) fn remove(
    connection: &Connection,
    meta: &mut Meta,
    born: u64,
    task: TaskKey,
) -> Result<(), Fault> {
    let mut write = connection.prepare_cached(
        "DELETE FROM tasks WHERE born = ?1 AND version = ?2 AND n = ?3 RETURNING ready, body",
    )?;
    let asked = params![born, task.version, task.n];
    let before: Option<(Option<i64>, Vec<u8>)> =
        write.query_row(asked, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    if let Some((ready, body)) = before {
        meta.sums.tasks.remove(hash(&body, ready));
    }
    Ok(())
}

/// Compares the table, and the index that polls read, with the sum.
pub(crate) fn verify(connection: &Connection, meta: &Meta) -> Result<(), Fault> {
    let mut read = connection.prepare_cached(SELECT)?;
    let mut cursor = read.query([])?;
    let (mut found, mut ready) = (Sum::default(), 0u64);
    while let Some(row) = cursor.next()? {
        let (task, hash) = checked(row)?;
        found.add(hash);
        ready += u64::from(task.ready().is_some());
    }
    if found != meta.sums.tasks {
        let what = format!("sum {found:?}, expected {:?}", meta.sums.tasks);
        return Err(Fault::row(TABLE, "(all)", what));
    }
    let mut count = connection.prepare_cached(
        "SELECT count(*) FROM tasks INDEXED BY tasks_ready WHERE ready IS NOT NULL",
    )?;
    let indexed: u64 = count.query_row([], |row| row.get(0))?;
    if indexed == ready {
        return Ok(());
    }
    Err(Fault::row("tasks_ready", "(all)", format!("{indexed} rows, expected {ready}")))
}
