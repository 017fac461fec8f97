//! Reading applied rows for those who decide: the instance, its receipts, its chart, what is due.
//!
//! Each call is one read transaction. A reader that meets an exchanged file says so, and whoever asked ends and starts
//! anew; a reader that meets damage says that too, and nobody gets an answer from it.
//!
//! Absent on purpose: answers to questions; those are `questions.rs`.

mod registry;

use std::sync::Arc;

use statehouse_chart::{Chart, Snapshot, Source, load};
use statehouse_contract::{
    Consistency, DefinitionRef, Digest, Due, InstanceKey, Json, KeyHash, Receipt, Rejection,
    RejectionCode, Target, TenantId, Timestamp, TraceContext,
    limits::{DUE_BATCH_MAX, FINISHED_KEEP_MS, RECEIPT_KEEP_MS_MIN},
};
use statehouse_store::{
    Body, DefinitionRow, DueCursor, DueOwner, Entry, Header, InstanceRow, StoreError, SweepLimits,
    SweepPage, View,
    entry::{Authority, DefinitionAdded, Pin},
};

use crate::{
    decide::Standing,
    known_keys::{KEYS_MAX, KnownKeys},
    reign::{Proposed, Reign},
    reject,
    seat::Seat,
};

pub use registry::members_in;

/// Why rows could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The file was exchanged: begin anew.
    #[error("the rows were exchanged by a snapshot")]
    Replaced,
    /// The rows are damaged, or the disk says no.
    #[error("{0}")]
    Unreadable(String),
}

impl From<StoreError> for RowsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Replaced { .. } => Self::Replaced,
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// An instance as its rows tell it.
#[derive(Debug)]
pub struct Loaded {
    /// The instance; nothing if there is none.
    pub standing: Option<Standing>,
    /// The epoch of its bucket.
    pub bucket_epoch: u32,
    /// The keys under which it has receipts.
    pub keys: KnownKeys,
}

/// A row of the due table.
#[derive(Clone, Debug)]
pub struct DueFound {
    /// Whose it is.
    pub key: InstanceKey,
    /// When it is due.
    pub at: Timestamp,
    /// What it is.
    pub what: Due,
}

/// A page of due work.
#[derive(Debug)]
pub struct DueNow {
    /// What is due, earliest first.
    pub rows: Vec<DueFound>,
    /// From where to go on, if there is more.
    pub next: Option<DueCursor>,
}

impl Reign {
    fn view(&self) -> View {
        self.seat().log().view()
    }

    /// Reads an instance.
    ///
    /// # Errors
    /// As every reading.
    pub fn load(&self, key: &InstanceKey) -> Result<Loaded, RowsError> {
        let view = self.view();
        let bucket_epoch = view.bucket(key.bucket())?.epoch;
        let Some(row) = view.instance(key)? else {
            return Ok(Loaded { standing: None, bucket_epoch, keys: KnownKeys::nothing_read() });
        };
        let keys = view.keys(key, KEYS_MAX)?;
        let keys = KnownKeys::read(keys.hashes, keys.is_complete);
        let mut standing = standing(row)?;
        if has_tasks(&standing.snapshot) {
            standing.tasks = view.tasks_of(standing.version.born)?;
        }
        Ok(Loaded { standing: Some(standing), bucket_epoch, keys })
    }

    /// Reads the open tasks of an instance as they stand now: leases move them without their instance.
    ///
    /// # Errors
    /// As every reading.
    pub fn refresh_tasks(&self, standing: &mut Standing) -> Result<(), RowsError> {
        standing.tasks = match has_tasks(&standing.snapshot) {
            true => self.view().tasks_of(standing.version.born)?,
            false => Vec::new(),
        };
        Ok(())
    }

    /// Reads the receipt under a key of an instance.
    ///
    /// # Errors
    /// As every reading.
    pub fn receipt(&self, key: &InstanceKey, hash: KeyHash) -> Result<Option<Receipt>, RowsError> {
        Ok(self.view().receipt(&Target::Instance(key.clone()), hash)?)
    }

    /// Returns the chart to which an instance is pinned.
    ///
    /// # Errors
    /// As every reading; a document that does not compile is damage.
    pub fn chart_of(&self, tenant: &TenantId, pin: &Pin) -> Result<Arc<Chart>, RowsError> {
        chart_in(self.seat(), &self.view(), tenant, pin)
    }

    /// Returns the chart that a start asks for, with its document in this shard; nothing if there is none.
    ///
    /// # Errors
    /// A rejection that is certain: nothing was proposed for this command.
    pub async fn chart_to_start(
        &self,
        tenant: &TenantId,
        definition: &DefinitionRef,
    ) -> Result<Option<Arc<Chart>>, Rejection> {
        let (Some(version), Some(digest)) = (definition.version, definition.digest) else {
            return Ok(None);
        };
        let pin = Pin { name: definition.name.clone(), version, digest };
        let name = (tenant.clone(), pin.name.clone(), version);
        if !self.seat().holds(&name) {
            let here = self.view().definition(tenant, &pin.name, Some(version));
            if here.map_err(|error| unreadable(&error.into()))?.is_none() {
                self.copy_definition(tenant, &pin).await?;
            }
            self.seat().now_holds(name);
        }
        match self.chart_of(tenant, &pin) {
            Ok(chart) => Ok(Some(chart)),
            Err(why) => Err(unreadable(&why)),
        }
    }

    /// Returns another version of the definition to which an instance is pinned, with its document in this shard; nothing if
    /// there is none.
    ///
    /// # Errors
    /// As [`Self::chart_to_start`].
    pub async fn other_version(
        &self,
        tenant: &TenantId,
        pin: &Pin,
        version: u32,
    ) -> Result<Option<(Pin, Arc<Chart>)>, Rejection> {
        let asked = DefinitionRef { name: pin.name.clone(), version: Some(version), digest: None };
        let found = resolve(self.seat(), tenant, &asked).await?;
        let chart = self.chart_to_start(tenant, &found).await?;
        let pin = found.digest.map(|digest| Pin { name: found.name, version, digest });
        Ok(pin.zip(chart))
    }

    /// Copies a definition from shard 0 into this shard's log, so that a new leader needs no other shard to think.
    async fn copy_definition(&self, tenant: &TenantId, pin: &Pin) -> Result<(), Rejection> {
        let found = self.seat().registry().view().definition(tenant, &pin.name, Some(pin.version));
        let row: Option<DefinitionRow> = found.map_err(|error| unreadable(&error.into()))?;
        let Some(row) = row.filter(|row| row.digest == pin.digest) else {
            let detail = "the definition is not known on this node yet";
            return Err(Rejection::gateway(RejectionCode::Behind, detail).after_ms(50));
        };
        let added = DefinitionAdded {
            tenant: tenant.clone(),
            name: row.name,
            version: row.version,
            digest: row.digest,
            document: row.document,
            authority: Authority::Copy,
            asked: None,
        };
        let entry =
            Entry { header: self.system_header(), body: Body::DefinitionAdded(Box::new(added)) };
        match self.propose(entry).await {
            Proposed::Applied(_) | Proposed::Known(_) => Ok(()),
            Proposed::Refused(no) => Err(*no),
            // The start itself was not proposed, whatever became of the copy.
            Proposed::Fenced | Proposed::KeyReused | Proposed::Unknown => {
                Err(reject::not_proposed_here())
            }
        }
    }

    /// Returns the circumstances of what the system does by itself.
    pub(crate) fn system_header(&self) -> Header {
        Header {
            decided_term: self.term,
            decided_by: self.node(),
            decided_at: self.decide_at(Timestamp(0)),
            actor: statehouse_contract::Actor::system(),
            reason: None,
            trace: statehouse_contract::TraceContext::default(),
            correlation: None,
        }
    }

    /// Returns the trace of an instance's move to a version, if it was traced.
    #[must_use]
    pub fn trace_at(&self, key: &InstanceKey, version: u64) -> Option<TraceContext> {
        let page = self.view().history(key, version.checked_sub(1)?, 1).ok()??;
        let trace = page.rows.into_iter().next()?.record.entry.header.trace;
        trace.is_some().then_some(trace)
    }

    /// Reads what is due now.
    ///
    /// # Errors
    /// As every reading.
    pub fn due(&self, until: Timestamp, after: Option<&DueCursor>) -> Result<DueNow, RowsError> {
        let page = self.view().due(until, after, DUE_BATCH_MAX, DUE_BATCH_MAX / 2)?;
        let rows = page.items.into_iter().filter_map(|item| match item.owner {
            DueOwner::Instance { key, .. } => Some(DueFound { key, at: item.at, what: item.what }),
            // Schedules have an organ of their own, in a later release.
            DueOwner::Tenant(_) => None,
        });
        Ok(DueNow { rows: rows.collect(), next: page.next })
    }

    /// Returns when something is due next, after a time.
    ///
    /// # Errors
    /// As every reading.
    pub fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, RowsError> {
        Ok(self.view().next_due(after)?)
    }

    /// Starts the shard's time from what is applied, for a new reign.
    ///
    /// # Errors
    /// As every reading.
    pub fn read_time(&self) -> Result<(), RowsError> {
        self.begin_time(self.seat().rows_time()?);
        Ok(())
    }

    /// Reads rows whose time of keeping is over.
    ///
    /// # Errors
    /// As every reading.
    pub fn sweepable(&self, after: (u64, u64), limit: u32) -> Result<SweepPage, RowsError> {
        let limits = SweepLimits {
            now: self.now(),
            receipt_keep_ms: RECEIPT_KEEP_MS_MIN,
            finished_keep_ms: FINISHED_KEEP_MS,
        };
        Ok(self.view().sweepable(&limits, after.0, after.1, limit)?)
    }
}

/// Finds the version and digest that a start takes: the named version, or the current one of shard 0.
///
/// # Errors
/// A rejection that is certain.
pub async fn resolve(
    seat: &Seat,
    tenant: &TenantId,
    definition: &DefinitionRef,
) -> Result<DefinitionRef, Rejection> {
    let view = seat.registry().view();
    let read = |error: StoreError| unreadable(&error.into());
    if definition.version.is_none() {
        let began = seat.registry().begin_read(Consistency::Linearizable).await;
        began.map_err(|why| reject::from_read(&why))?;
    }
    let version = match definition.version {
        Some(version) => Some(version),
        None => current_version(&view, tenant, definition).map_err(read)?,
    };
    let look = |version: u32| {
        let key = (tenant.clone(), definition.name.clone(), version);
        seat.ground().caches.digest(key, |(tenant, name, version)| {
            let row = view.definition(tenant, name, Some(*version))?;
            Ok::<_, StoreError>(row.map(|row| row.digest))
        })
    };
    let mut digest = version.map(look).transpose().map_err(read)?.flatten();
    if digest.is_none() && definition.version.is_some() {
        // Deployed a moment ago through another node, perhaps: only a copy that is up to date may say that there is none.
        let began = seat.registry().begin_read(Consistency::Linearizable).await;
        began.map_err(|why| reject::from_read(&why))?;
        digest = version.map(look).transpose().map_err(read)?.flatten();
    }
    let version = version.filter(|_| digest.is_some()).or(definition.version);
    Ok(DefinitionRef { name: definition.name.clone(), version, digest })
}

/// Returns the version that new instances take: the chosen one, or the latest while none was chosen.
pub(crate) fn current_version(
    view: &View,
    tenant: &TenantId,
    definition: &DefinitionRef,
) -> Result<Option<u32>, StoreError> {
    if let Some(chosen) = view.current(tenant, &definition.name)? {
        return Ok(Some(chosen));
    }
    let latest = view.latest_definition(tenant, &definition.name)?;
    Ok((latest > 0).then_some(latest))
}

/// Returns the compiled chart of a definition in a shard's rows.
pub(crate) fn chart_in(
    seat: &Seat,
    view: &View,
    tenant: &TenantId,
    pin: &Pin,
) -> Result<Arc<Chart>, RowsError> {
    let made = seat.ground().caches.chart(pin.digest, || {
        let row = view.definition(tenant, &pin.name, Some(pin.version)).map_err(RowsError::from)?;
        let row = row.filter(|row| row.digest == pin.digest).ok_or_else(|| {
            RowsError::Unreadable(format!("no document of {} version {}", pin.name, pin.version))
        })?;
        compile(&row.document, pin.digest)
    });
    made.map_err(|why| (*why).clone())
}

/// Compiles a stored document.
fn compile(document: &Json, digest: Digest) -> Result<Chart, RowsError> {
    let bad = |what: String| RowsError::Unreadable(format!("document {digest}: {what}"));
    let loaded = load::load(document.as_str())
        .map_err(|findings| bad(format!("{} findings when it was loaded", findings.len())))?;
    let (source, findings) = Source::parse(&loaded);
    let source = source.ok_or_else(|| bad(format!("{} findings in its shape", findings.len())))?;
    Chart::compile(&source)
        .map_err(|findings| bad(format!("{} findings when it was compiled", findings.len())))
}

/// Returns whether an instance may have rows of tasks.
fn has_tasks(snapshot: &Snapshot) -> bool {
    !snapshot.works.is_empty() || !snapshot.releasing.is_empty()
}

/// Turns a row into what decisions are made upon.
pub(crate) fn standing(row: InstanceRow) -> Result<Standing, RowsError> {
    let snapshot = Snapshot::decode(&row.snapshot)
        .map_err(|error| RowsError::Unreadable(format!("snapshot of {}: {error}", row.key)))?;
    Ok(Standing {
        version: row.version,
        digest: row.digest,
        pin: row.definition,
        snapshot,
        parent: row.parent,
        tasks: Vec::new(),
    })
}

/// Returns the answer of a node that cannot read its rows.
pub(crate) fn unreadable(why: &RowsError) -> Rejection {
    match why {
        RowsError::Replaced => reject::not_proposed_here(),
        RowsError::Unreadable(what) => {
            tracing::error!(%what, "rows cannot be read");
            let detail = "the rows of this shard cannot be read on this node";
            Rejection::gateway(RejectionCode::Internal, detail)
        }
    }
}
