//! The audit: what must hold, asked of every row.
//!
//! Everything else in this crate proves what it reads when it reads it. The audit reads everything, in one read
//! transaction, and says all that is wrong instead of stopping at the first. It is for operators, tests, and the end of
//! every drill.
//!
//! The laws: every row is what was written; every set fits its sum (nothing missing, nothing too much); the versions of an
//! instance run from 1 to its own without a gap (`ORDER`, `FENCE`); every key of an instance leads to a receipt (`ONCE`);
//! work that a task or a schedule waits for has its due row, and a due row its owner (`TIMER`, `LEASE`).

use rusqlite::{Connection, params};

use statehouse_contract::{Bucket, Due, limits};

use crate::{
    buckets::Buckets,
    catalog::{self, DocumentRow, Kind},
    due::{self, Presence, Slot},
    entry::{Body, TaskKey},
    error::{Fault, StoreError},
    history::{self, Placed},
    instances,
    meta::Meta,
    outbox, proof, tasks,
    view::{View, compare_table},
};

/// Something that should not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// The table.
    pub table: String,
    /// The row.
    pub row: String,
    /// What is wrong.
    pub what: String,
}

/// Rows that are read in one go.
const PAGE: u64 = 1_000;

struct Audit<'a> {
    connection: &'a Connection,
    findings: Vec<AuditFinding>,
}

impl View {
    /// Reads every row and says all that is wrong. Takes long; nothing found is an empty list.
    ///
    /// # Errors
    /// Only what keeps the audit from being made.
    pub fn audit(&self) -> Result<Vec<AuditFinding>, StoreError> {
        self.ask("audit", |connection| audit(connection, &Meta::read(connection)?))
    }
}

/// Reads every row of a file; the caller has one read transaction, or a file that nobody writes.
pub(crate) fn audit(connection: &Connection, meta: &Meta) -> Result<Vec<AuditFinding>, Fault> {
    let mut audit = Audit { connection, findings: Vec::new() };
    audit.sums(meta);
    audit.instances(meta);
    audit.history();
    audit.work();
    Ok(audit.findings)
}

impl Audit<'_> {
    fn say(&mut self, fault: Fault) {
        let (table, row, what) = match fault {
            Fault::Row { table, row, what } => (table.to_owned(), row, what),
            Fault::Sqlite(error) => ("(any)".to_owned(), String::new(), error.to_string()),
        };
        self.findings.push(AuditFinding { table, row, what });
    }

    fn holds(&mut self, outcome: Result<(), Fault>) {
        if let Err(fault) = outcome {
            self.say(fault);
        }
    }

    fn sums(&mut self, meta: &Meta) {
        let connection = self.connection;
        self.holds(catalog::verify(connection, meta));
        self.holds(due::verify(connection, meta));
        self.holds(tasks::verify(connection, meta));
        self.holds(outbox::verify(connection, meta));
        self.holds(compare_table(connection));
        match Buckets::load(connection, meta) {
            Err(fault) => self.say(fault),
            Ok(buckets) => {
                for bucket in (0..limits::BUCKETS).filter_map(Bucket::new) {
                    let names = buckets.get(bucket).names;
                    self.holds(proof::compare_names(connection, bucket, names));
                }
            }
        }
    }

    /// Reads all births; a page of rows at a time would hold the snapshots of all.
    fn births(&mut self) -> Vec<u64> {
        let read = || -> Result<Vec<u64>, Fault> {
            let mut read =
                self.connection.prepare("SELECT born FROM instances NOT INDEXED ORDER BY born")?;
            let found = read.query_map([], |row| row.get(0))?;
            Ok(found.collect::<Result<_, _>>()?)
        };
        read().unwrap_or_else(|fault| {
            self.say(fault);
            Vec::new()
        })
    }

    fn instances(&mut self, meta: &Meta) {
        let mut counts = [0u64; 8];
        for born in self.births() {
            match self.instance(born) {
                Err(fault) => self.say(fault),
                Ok(status) => {
                    if let Some(count) = counts.get_mut(usize::from(status)) {
                        *count += 1;
                    }
                }
            }
        }
        if counts != meta.instances {
            let what = format!("counts {counts:?}, expected {:?}", meta.instances);
            self.say(Fault::row(instances::TABLE, "(all)", what));
        }
    }

    fn instance(&self, born: u64) -> Result<u8, Fault> {
        let connection = self.connection;
        let bad = |what: String| Fault::row(instances::TABLE, born, what);
        let row = instances::read(connection, born)?.ok_or_else(|| bad("is gone".to_owned()))?;
        if instances::find(connection, &row.key)? != Some(born) {
            return Err(Fault::row("names", &row.key, format!("does not lead to {born}")));
        }
        let keys = instances::keys(connection, born)?.unwrap_or_default();
        proof::compare_keys(connection, born, &history::keys(connection, born)?, keys)?;
        let mut version = 0;
        for position in history::positions(connection, born)? {
            let gone =
                || Fault::row(history::TABLE, position, "the key index names it, it is not there");
            let placed = history::read(connection, position)?.ok_or_else(gone)?;
            let made = placed.record.version.map(|made| made.version);
            if let Body::Transitioned(_) = placed.record.entry.body {
                version += 1;
                if made != Some(version) {
                    return Err(bad(format!(
                        "version {version} is missing, {made:?} at {position}"
                    )));
                }
            }
        }
        if version != row.version.version {
            return Err(bad(format!(
                "has {version} transitions at version {}",
                row.version.version
            )));
        }
        Ok(row.status.number())
    }

    fn history(&mut self) {
        let mut after = None;
        loop {
            let rows = match history::read_after(self.connection, after, PAGE) {
                Ok(rows) => rows,
                Err(fault) => return self.say(fault),
            };
            for placed in &rows {
                let outcome = self.record(placed);
                self.holds(outcome);
            }
            match rows.last() {
                None => return,
                Some(last) => after = Some(last.record.position),
            }
        }
    }

    fn record(&self, placed: &Placed) -> Result<(), Fault> {
        let Placed { record, settled, .. } = placed;
        let bad = |what: String| Fault::row(history::TABLE, record.position, what);
        let is_instances = matches!(record.entry.body, Body::Transitioned(_));
        if is_instances && instances::keys(self.connection, record.born)?.is_none() {
            return Err(bad(format!("belongs to instance {}, which is not there", record.born)));
        }
        if let (Some(_), Some((key, _))) = (settled, record.receipt()) {
            history::receipt(self.connection, record.position, key)?;
        }
        let mut indexed = self.connection.prepare_cached(
            "SELECT 1 FROM history INDEXED BY history_key WHERE inst = ?1 AND pos = ?2",
        )?;
        if indexed.exists(params![record.born, record.position])? {
            return Ok(());
        }
        Err(bad("is not in the key index".to_owned()))
    }

    fn work(&mut self) {
        let tasks = tasks::read_all(self.connection);
        let tasks = tasks.unwrap_or_else(|fault| {
            self.say(fault);
            Vec::new()
        });
        for task in tasks {
            let name = format!("{}-{} of instance {}", task.task.version, task.task.n, task.born);
            for slot in task.slots() {
                let outcome = self.has_row(&slot, tasks::TABLE, &name);
                self.holds(outcome);
            }
        }
        match due::read_all(self.connection) {
            Err(fault) => self.say(fault),
            Ok((rows, _)) => {
                for row in rows {
                    let outcome = self.owner(&row);
                    self.holds(outcome);
                }
            }
        }
    }

    fn has_row(&self, slot: &Slot, table: &'static str, name: &str) -> Result<(), Fault> {
        match due::presence(self.connection, slot)? {
            Presence::Ready => Ok(()),
            found @ (Presence::Absent | Presence::Held) => {
                Err(Fault::row(table, name, format!("its due row at {} is {found:?}", slot.at)))
            }
        }
    }

    fn owner(&self, row: &due::DueRow) -> Result<(), Fault> {
        let (at, born) = (row.slot.at, row.slot.born);
        let bad = |what: &str| Fault::row(due::TABLE, format!("{at} of instance {born}"), what);
        match (&row.what.due, &row.what.tenant) {
            (Due::Schedule { name }, Some(tenant)) => {
                let name = catalog::Name::new(Kind::Schedule, tenant.as_str(), name);
                let found: Option<DocumentRow> = catalog::get(self.connection, name)?;
                if found.and_then(|schedule| schedule.next) == Some(at) {
                    return Ok(());
                }
                Err(bad("no schedule waits for it"))
            }
            (Due::Lease { task } | Due::Attempt { task } | Due::Retry { task }, None) => {
                let task = tasks::read(self.connection, born, TaskKey::from_number(*task))?;
                if task.is_some_and(|task| task.slots().contains(&row.slot)) {
                    return Ok(());
                }
                Err(bad("no task waits for it"))
            }
            (Due::Timer { .. } | Due::Queue | Due::PostponeDeadline { .. }, None) => {
                instances::keys(self.connection, born)?
                    .map(|_| ())
                    .ok_or_else(|| bad("no such instance"))
            }
            (
                Due::Schedule { .. }
                | Due::Lease { .. }
                | Due::Attempt { .. }
                | Due::Retry { .. }
                | Due::Timer { .. }
                | Due::Queue
                | Due::PostponeDeadline { .. },
                _,
            ) => Err(bad("has the wrong kind of owner")),
        }
    }
}
