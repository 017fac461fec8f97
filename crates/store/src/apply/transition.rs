//! An instance's births, moves and refusals.
//!
//! Everything is checked and planned first: the instance, its due work, its tasks, its outbox, the postponed commands that
//! are settled. What follows are writes that were seen to be possible.

use statehouse_contract::{
    KeyHash, ReceiptKind, Target, Version,
    mutant::{self, Mutant},
};

use super::{Batch, Judged, Place, Stop, Verdict, Written, placed};
use crate::{
    due,
    entry::{Entry, Expect, OutboxChange, Refused, Transitioned},
    fence::{self, Fence},
    history::{self, Record},
    instances::{self, Birth, Head, Next, Standing},
    lean::lean,
    outbox::{self, OutboxRow},
    sum::Sum,
};

/// What a transition will do beside its own row.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) due: due::Plan,
    pub(super) tasks: super::task::Plan,
    settled: Vec<u64>,
}

impl Batch<'_> {
    pub(super) fn transitioned(&mut self, place: Place, entry: &Entry, t: &Transitioned) -> Judged {
        let hint = match t.expect {
            Expect::Absent => None,
            Expect::At { version, .. } => Some(version.born),
        };
        let found = self.locate(&t.instance, hint)?;
        let key = t.key.as_ref().zip(t.receipt.as_ref()).map(|(key, receipt)| {
            (KeyHash::of(&Target::Instance(t.instance.clone()), key), receipt)
        });
        if mutant::is(Mutant::DedupeAcrossTenants)
            && let Some((hash, _)) = key
            && let Some(position) =
                history::find_named(self.connection, &t.instance.instance, hash)?
        {
            let mut receipt = history::receipt(self.connection, position, hash)?;
            receipt.replayed = true;
            return Ok(Verdict::Known(receipt));
        }
        if let Some((hash, receipt)) = key
            && let Some(known) = self.once(found.as_ref(), hash, receipt.fingerprint)?
        {
            return Ok(known);
        }
        if let Err(fence) = self.fence_transition(place, entry, t, found.as_ref())? {
            return Ok(fence.into());
        }
        let born = found.as_ref().map_or(place.position, |standing| standing.version.born);
        let plan = match self.plan(born, t)? {
            Ok(plan) => plan,
            Err(fence) => return Ok(fence.into()),
        };
        self.write_transition(place, entry, t, found, key.map(|(hash, _)| hash), plan)
    }

    fn fence_transition(
        &self,
        place: Place,
        entry: &Entry,
        t: &Transitioned,
        found: Option<&Standing>,
    ) -> Result<Result<(), Fence>, Stop> {
        let expected = match t.expect {
            Expect::Absent => 1,
            Expect::At { version, .. } => version.version + 1,
        };
        let cheap = fence::term(&entry.header, place.term)
            .and_then(|()| fence::bucket(t.bucket_epoch, &self.buckets.get(t.instance.bucket())));
        if cheap.is_err() {
            return Ok(cheap);
        }
        let stands = fence::expect(self.connection, t.expect, found)?;
        let steps =
            (expected == t.version).then_some(()).ok_or(Fence::Step { expected, found: t.version });
        Ok(stands.and(steps))
    }

    fn plan(&self, born: u64, t: &Transitioned) -> Result<Result<Plan, Fence>, Stop> {
        let mut plan = Plan::default();
        for change in &t.due {
            if let Err(missing) = plan.due.take(self.connection, born, change)? {
                return self.due_missing(&missing).map(Err);
            }
        }
        for change in &t.tasks {
            if let Err(fence) = self.plan_task(&mut plan, (&t.instance, born), change)? {
                return Ok(Err(fence));
            }
        }
        for change in &t.outbox {
            let (version, n, must_be_there) = match change {
                OutboxChange::Add { n, .. } => (t.version, *n, false),
                OutboxChange::Remove { version, n } => (*version, *n, true),
            };
            if outbox::has(self.connection, born, version, n)? != must_be_there {
                return Ok(Err(Fence::Outbox { version, n }));
            }
        }
        for (key, _) in &t.settled {
            let position = history::find(self.connection, born, *key)?;
            let row = position.map(|at| history::read(self.connection, at)).transpose()?.flatten();
            match row {
                Some(row) if history::is_waiting(&row) => plan.settled.push(row.record.position),
                Some(_) | None => return Ok(Err(Fence::Settled { key: *key })),
            }
        }
        Ok(Ok(plan))
    }

    fn write_transition(
        &mut self,
        place: Place,
        entry: &Entry,
        t: &Transitioned,
        found: Option<Standing>,
        key: Option<KeyHash>,
        plan: Plan,
    ) -> Judged {
        let has_answer = key.is_some();
        let key = key.filter(|_| t.receipt.as_ref().is_some_and(|stored| leaves_key(stored.kind)));
        let (version, digest) = self.write_instance(place, entry, t, found, key)?;
        plan.due.write(self.connection, &mut self.meta)?;
        self.write_tasks(plan.tasks, (&t.instance, version.born))?;
        self.write_outbox(version.born, t)?;
        for position in plan.settled {
            history::settle(self.connection, position, place.position)?;
        }
        let record = Record {
            position: place.position,
            born: version.born,
            version: Some(version),
            digest: Some(digest),
            entry: lean(entry),
        };
        let row = self.append(place, &record, key)?;
        let written = Written {
            receipt: t
                .receipt
                .as_ref()
                .filter(|_| has_answer)
                .map(|receipt| placed(receipt, place)),
            settled: t.settled.iter().map(|(key, stored)| (*key, placed(stored, place))).collect(),
            version: Some(version),
            digest: Some(digest),
            state: None,
        };
        Ok(Verdict::Written(written, row))
    }

    fn write_instance(
        &mut self,
        place: Place,
        entry: &Entry,
        t: &Transitioned,
        found: Option<Standing>,
        key: Option<KeyHash>,
    ) -> Result<(Version, crate::entry::RowDigest), Stop> {
        let at = entry.header.decided_at;
        let head = Head {
            definition: t.definition.clone(),
            configuration: t.to.clone(),
            tags: t.tags.clone(),
            updated_at: at,
        };
        let is_new = found.is_none();
        let before = found.as_ref().map(|standing| (standing.status, standing.digest));
        let (born, mut keys, birth) = match found {
            Some(standing) => (standing.version.born, standing.keys, standing.birth),
            None => {
                let birth = Birth { created_at: at, parent: t.parent.clone() };
                (place.position, Sum::default(), instances::encode(place.position, &birth)?)
            }
        };
        if let Some(key) = key {
            keys.add(u128::from_le_bytes(key.0));
        }
        let version = Version { born, version: t.version };
        let next = Next {
            key: &t.instance,
            version,
            status: t.status,
            position: place.position,
            birth: &birth,
            head: &head,
            snapshot: &t.snapshot,
            keys,
        };
        let digest = if is_new {
            self.name_instance(t, born)?;
            instances::insert(self.connection, &next)?
        } else {
            instances::update(self.connection, &next)?
        };
        if let Some((_, before)) = before {
            self.meta.sums.instances.remove(u128::from_le_bytes(before.0));
        }
        self.meta.sums.instances.add(u128::from_le_bytes(digest.0));
        self.meta.count(before.map(|(status, _)| status), Some(t.status));
        Ok((version, digest))
    }

    fn name_instance(&mut self, t: &Transitioned, born: u64) -> Result<(), Stop> {
        let bucket = t.instance.bucket();
        let mut row = self.buckets.get(bucket);
        let (tenant, instance) = (t.instance.tenant.as_str(), t.instance.instance.as_str());
        row.names.add(instances::name_hash(tenant, instance, born));
        self.buckets.put(self.connection, &mut self.meta, bucket, row)?;
        Ok(())
    }

    fn write_outbox(&mut self, born: u64, t: &Transitioned) -> Result<(), Stop> {
        for change in &t.outbox {
            match change {
                OutboxChange::Add { n, to, command } => {
                    let row = OutboxRow {
                        sender: t.instance.clone(),
                        born,
                        version: t.version,
                        n: *n,
                        to: to.clone(),
                        command: command.clone(),
                    };
                    outbox::insert(self.connection, &mut self.meta, &row)?;
                }
                OutboxChange::Remove { version, n } => {
                    outbox::remove(self.connection, &mut self.meta, (born, *version, *n))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, place: Place, entry: &Entry, refused: &Refused) -> Judged {
        let instance = match &refused.target {
            Target::Instance(key) => Some(key),
            Target::Tenant(_) | Target::Shard(_) | Target::Cluster => None,
        };
        let hint = match refused.expect {
            Some(Expect::At { version, .. }) => Some(version.born),
            Some(Expect::Absent) | None => None,
        };
        let found = instance.map(|key| self.locate(key, hint)).transpose()?.flatten();
        let key = KeyHash::of(&refused.target, &refused.key);
        if let Some(known) = self.once(found.as_ref(), key, refused.receipt.fingerprint)? {
            return Ok(known);
        }
        if let Err(fence) = fence::term(&entry.header, place.term) {
            return Ok(fence.into());
        }
        if let Some(instance) = instance {
            let bucket = self.buckets.get(instance.bucket());
            if let Err(fence) = fence::bucket(refused.bucket_epoch, &bucket) {
                return Ok(fence.into());
            }
        }
        if let Some(expect) = refused.expect
            && let Err(fence) = fence::expect(self.connection, expect, found.as_ref())?
        {
            return Ok(fence.into());
        }
        let key = Some(key).filter(|_| leaves_key(refused.receipt.kind));
        if let Some(key) = key {
            self.remember(found.as_ref().map(|s| (s.version.born, s.keys)), key)?;
        }
        let record = Record {
            position: place.position,
            born: found.as_ref().map_or(0, |standing| standing.version.born),
            version: found.as_ref().map(|standing| standing.version),
            digest: found.as_ref().map(|standing| standing.digest),
            entry: lean(entry),
        };
        let row = self.append(place, &record, key)?;
        let written = Written {
            receipt: Some(placed(&refused.receipt, place)),
            settled: Vec::new(),
            version: record.version,
            digest: record.digest,
            state: None,
        };
        debug_assert!(!matches!(refused.receipt.kind, ReceiptKind::Postponed));
        Ok(Verdict::Written(written, row))
    }
}

/// Whether the row of an answer can be found by its key. Always, but for a deliberate bug: only what was postponed can, because
/// an instance that cannot settle its own queue would be a fault of its own.
fn leaves_key(kind: ReceiptKind) -> bool {
    kind == ReceiptKind::Postponed || !mutant::is(Mutant::ReceiptsInCacheOnly)
}
