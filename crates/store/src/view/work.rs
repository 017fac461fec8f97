//! Work that waits: due rows, tasks, the outbox, and rows whose time of keeping is over.
//!
//! Every page is bounded and goes on from a cursor, so work that is refused is passed by and never read again from the
//! top. A page of due work gives each tenant a share, so one tenant's flood does not fill it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use statehouse_contract::{Due, InstanceKey, Key, TenantId, Timestamp};

use super::View;
use crate::{
    due::{self, DueRow, Slot},
    entry::{Body, Swept, TaskKey},
    error::{Fault, StoreError},
    history::{self, Placed},
    instances,
    outbox::{self, OutboxRow},
    tasks::{self, TaskRow},
};

/// Due rows that one page looks at, as a multiple of its size.
const LOOKED_AT_FACTOR: usize = 4;

/// Whose due work it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueOwner {
    /// An instance's.
    Instance {
        /// Which one.
        key: InstanceKey,
        /// Its birth.
        born: u64,
    },
    /// A tenant's: a schedule.
    Tenant(TenantId),
}

/// A piece of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    /// When it is due.
    pub at: Timestamp,
    /// Whose it is.
    pub owner: DueOwner,
    /// What it is.
    pub what: Due,
}

/// Where a page of due work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueCursor(Slot);

/// A page of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePage {
    /// The work, earliest first.
    pub items: Vec<DueItem>,
    /// From where to go on; nothing when the time was reached.
    pub next: Option<DueCursor>,
    /// Work that was passed over because its tenant's share was used up.
    pub passed_over: usize,
}

/// What is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepLimits {
    /// Shard time now.
    pub now: Timestamp,
    /// How long a receipt is kept unless its entry says longer, in milliseconds.
    pub receipt_keep_ms: u64,
    /// How long a finished instance is kept, in milliseconds.
    pub finished_keep_ms: u64,
}

/// Rows whose time of keeping is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepPage {
    /// What may go.
    pub swept: Swept,
    /// The position after which to look on for old receipts.
    pub next_position: u64,
    /// The birth after which to look on for old instances.
    pub next_born: u64,
    /// Whether the end was reached.
    pub is_end: bool,
}

impl View {
    /// Returns work that is due up to a time, from a place on: at most `limit`, of one tenant at most `share`.
    ///
    /// # Errors
    /// As every question.
    pub fn due(
        &self,
        until: Timestamp,
        after: Option<&DueCursor>,
        limit: usize,
        share: usize,
    ) -> Result<DuePage, StoreError> {
        self.ask("read due work", |connection| {
            let looked_at = limit.saturating_mul(LOOKED_AT_FACTOR);
            let rows = due::read_page(connection, after.map(|cursor| &cursor.0), until, looked_at)?;
            let is_cut = rows.len() == looked_at;
            let mut page = DuePage { items: Vec::new(), next: None, passed_over: 0 };
            let mut shares: BTreeMap<TenantId, usize> = BTreeMap::new();
            let mut last = None;
            for row in rows {
                if page.items.len() >= limit {
                    page.next = last.map(DueCursor);
                    return Ok(page);
                }
                last = Some(row.slot.clone());
                let item = item(connection, row)?;
                let used = shares.entry(tenant_of(&item.owner).clone()).or_default();
                if *used < share {
                    *used += 1;
                    page.items.push(item);
                } else {
                    page.passed_over += 1;
                }
            }
            page.next = last.filter(|_| is_cut).map(DueCursor);
            Ok(page)
        })
    }

    /// Returns the time of the earliest due work after a time that is not held.
    ///
    /// # Errors
    /// As every question.
    pub fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.ask("read due work", |connection| {
            let mut read = connection.prepare_cached(
                "SELECT at FROM due WHERE held = 0 AND at > ?1 ORDER BY at LIMIT 1",
            )?;
            Ok(read.query_row([after.0], |row| row.get(0)).optional()?.map(Timestamp))
        })
    }

    /// Returns tasks of a queue that may be leased at a time, the longest waiting first.
    ///
    /// # Errors
    /// As every question.
    pub fn ready_tasks(
        &self,
        tenant: &TenantId,
        queue: &str,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.ask("read ready tasks", |connection| {
            tasks::read_ready(connection, tenant.as_str(), queue, at, u64::from(limit))
        })
    }

    /// Counts the tasks of a queue that may be leased at a time, up to a limit: a probe of an index.
    ///
    /// # Errors
    /// As every question.
    pub fn count_ready(
        &self,
        tenant: &TenantId,
        queue: &str,
        at: Timestamp,
        limit: u64,
    ) -> Result<u64, StoreError> {
        self.ask("count ready tasks", |connection| {
            tasks::count_ready(connection, tenant.as_str(), queue, at, limit)
        })
    }

    /// Returns the first tenant by name after another one (or of all) that has tasks waiting for a worker.
    ///
    /// # Errors
    /// As every question.
    pub fn tenant_with_tasks(
        &self,
        after: Option<&TenantId>,
    ) -> Result<Option<TenantId>, StoreError> {
        self.ask("look for tenants with tasks", |connection| {
            let found = tasks::tenant_after(connection, after.map_or("", TenantId::as_str))?;
            let bad = |name: &String| Fault::row("tasks", name.clone(), "no name of a tenant");
            found.map(|name| TenantId::parse(&name).map_err(|_| bad(&name))).transpose()
        })
    }

    /// Returns the first queue behind another one with a task that may be leased at some time, and the earliest such time.
    ///
    /// # Errors
    /// As every question.
    pub fn oldest_ready(
        &self,
        after: Option<&(TenantId, Box<str>)>,
    ) -> Result<Option<(TenantId, Box<str>, Timestamp)>, StoreError> {
        self.ask("look for the oldest task of a queue", |connection| {
            let after = after.map_or(("", ""), |(tenant, queue)| (tenant.as_str(), &**queue));
            let found = tasks::oldest_ready(connection, after)?;
            let bad = |name: &String| Fault::row("tasks", name.clone(), "no name of a tenant");
            found
                .map(|(name, queue, ready)| {
                    let tenant = TenantId::parse(&name).map_err(|_| bad(&name))?;
                    Ok((tenant, queue.into(), Timestamp(ready)))
                })
                .transpose()
        })
    }

    /// Returns the open tasks of a tenant above a place (birth of the instance, version, number), in order.
    ///
    /// # Errors
    /// As every question.
    pub fn tasks_of_tenant(
        &self,
        tenant: &TenantId,
        after: (u64, u64, u32),
        limit: u64,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.ask("read a tenant's tasks", |connection| {
            tasks::read_of_tenant(connection, tenant.as_str(), after, limit)
        })
    }

    /// Returns an open task of an instance, by the instance's birth.
    ///
    /// # Errors
    /// As every question.
    pub fn task(&self, born: u64, task: TaskKey) -> Result<Option<TaskRow>, StoreError> {
        self.ask("read a task", |connection| tasks::read(connection, born, task))
    }

    /// Returns the open tasks of an instance, by its birth.
    ///
    /// # Errors
    /// As every question.
    pub fn tasks_of(&self, born: u64) -> Result<Vec<TaskRow>, StoreError> {
        self.ask("read an instance's tasks", |connection| tasks::read_of(connection, born))
    }

    /// Returns rows of the outbox above a place (birth of the sender, version, number), in order.
    ///
    /// # Errors
    /// As every question.
    pub fn outbox(&self, after: (u64, u64, u32), limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.ask("read the outbox", |connection| {
            outbox::read_after(connection, after, u64::from(limit))
        })
    }

    /// Returns rows whose time of keeping is over, looking at most at `limit` rows of history and of instances.
    ///
    /// Receipts of deliveries from another instance's outbox, and instances that hold such, are left alone: they go by
    /// the sender's watermark and never by time.
    ///
    /// # Errors
    /// As every question.
    pub fn sweepable(
        &self,
        limits: &SweepLimits,
        after_position: u64,
        after_born: u64,
        limit: u32,
    ) -> Result<SweepPage, StoreError> {
        self.ask("look for old rows", |connection| {
            let limit = u64::from(limit);
            let rows = history::read_after(connection, Some(after_position), limit)?;
            let born = finished_after(connection, after_born, limit)?;
            let mut page = SweepPage {
                swept: Swept { keys: Vec::new(), loose: Vec::new(), instances: Vec::new() },
                next_position: rows.last().map_or(after_position, |row| row.record.position),
                next_born: born.last().copied().unwrap_or(after_born),
                is_end: (rows.len() as u64) < limit && (born.len() as u64) < limit,
            };
            for placed in rows.iter().filter(|placed| is_old(placed, limits)) {
                let position = placed.record.position;
                match (placed.record.born, &placed.record.entry.body) {
                    (0, Body::Refused(_) | Body::TaskLeased(_)) => page.swept.loose.push(position),
                    _ if history::key_at(connection, position)?.is_some() => {
                        page.swept.keys.push(position);
                    }
                    _ => {}
                }
            }
            for born in born {
                if let Some(key) = old_instance(connection, born, limits)? {
                    page.swept.instances.push((key, born));
                }
            }
            Ok(page)
        })
    }
}

const fn tenant_of(owner: &DueOwner) -> &TenantId {
    match owner {
        DueOwner::Instance { key, .. } => &key.tenant,
        DueOwner::Tenant(tenant) => tenant,
    }
}

/// Names the owner of a due row.
fn item(connection: &Connection, row: DueRow) -> Result<DueItem, Fault> {
    let (at, born) = (row.slot.at, row.slot.born);
    let owner = match row.what.tenant {
        Some(tenant) => DueOwner::Tenant(tenant),
        None => {
            let gone = || Fault::row(due::TABLE, format!("{at} of {born}"), "no such instance");
            let found = instances::read(connection, born)?.ok_or_else(gone)?;
            DueOwner::Instance { key: found.key, born }
        }
    };
    Ok(DueItem { at, owner, what: row.what.due })
}

fn is_over(since: Timestamp, keep_ms: u64, now: Timestamp) -> bool {
    now.since_ms(since) >= i64::try_from(keep_ms).unwrap_or(i64::MAX)
}

/// Returns whether a row's receipt may be forgotten.
fn is_old(placed: &Placed, limits: &SweepLimits) -> bool {
    let keep_ms = placed.record.receipt_keep_ms().unwrap_or(0).max(limits.receipt_keep_ms);
    placed.record.receipt().is_some()
        && !history::is_waiting(placed)
        && !is_delivery(placed)
        && is_over(placed.record.at(), keep_ms, limits.now)
}

/// Returns whether a row answers another instance's outbox.
fn is_delivery(placed: &Placed) -> bool {
    let key = match &placed.record.entry.body {
        Body::Transitioned(t) => t.key.as_ref(),
        Body::Refused(refused) => Some(&refused.key),
        body => body.asked().map(|asked| &asked.key),
    };
    matches!(key, Some(Key::Outbox { .. }))
}

fn finished_after(connection: &Connection, after: u64, limit: u64) -> Result<Vec<u64>, Fault> {
    let mut read = connection.prepare_cached(
        "SELECT born FROM instances WHERE born > ?1 AND status >= 4 ORDER BY born LIMIT ?2",
    )?;
    let found = read.query_map(params![after, limit], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Returns the name of a finished instance that nobody waits for any more.
fn old_instance(
    connection: &Connection,
    born: u64,
    limits: &SweepLimits,
) -> Result<Option<InstanceKey>, Fault> {
    let Some(row) = instances::read(connection, born)? else { return Ok(None) };
    let is_quiet = row.status.is_finished()
        && is_over(row.updated_at, limits.finished_keep_ms, limits.now)
        && outbox::read_of(connection, born)?.is_empty()
        && tasks::read_of(connection, born)?.is_empty();
    if !is_quiet {
        return Ok(None);
    }
    for position in history::positions(connection, born)? {
        let placed = history::read(connection, position)?;
        let keeps = placed.is_some_and(|p| p.record.receipt().is_some() && !is_old(&p, limits));
        if keeps {
            return Ok(None);
        }
    }
    Ok(Some(row.key))
}
