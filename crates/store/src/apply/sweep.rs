//! Sweeping: rows whose time of keeping is over go, by name.
//!
//! The leader has judged what is old; here nothing is judged but that a row is still what it was named as. What is not
//! there any more, or is not finished, is passed over: every replica passes over the same.

use statehouse_contract::InstanceKey;

use super::{Batch, Stop};
use crate::{
    due,
    entry::Swept,
    fence::Fence,
    history,
    instances::{self, Standing},
    outbox, tasks,
};

impl Batch<'_> {
    pub(super) fn swept(&mut self, swept: &Swept) -> Result<Result<(), Fence>, Stop> {
        for position in &swept.keys {
            self.forget_key(*position)?;
        }
        for position in &swept.loose {
            self.drop_loose(*position)?;
        }
        for (key, born) in &swept.instances {
            self.drop_instance(key, *born)?;
        }
        Ok(Ok(()))
    }

    /// Forgets the key of a row; the row stays.
    fn forget_key(&mut self, position: u64) -> Result<Option<u64>, Stop> {
        let Some((inst, key)) = history::key_at(self.connection, position)? else {
            return Ok(None);
        };
        let hash = u128::from_le_bytes(key.0);
        if inst == 0 {
            self.meta.sums.loose.remove(hash);
        } else if let Some(mut keys) = instances::keys(self.connection, inst)? {
            keys.remove(hash);
            instances::update_keys(self.connection, inst, keys)?;
        }
        history::forget(self.connection, position)?;
        Ok(Some(inst))
    }

    /// Deletes a receipt that belongs to no instance.
    fn drop_loose(&mut self, position: u64) -> Result<(), Stop> {
        if self.forget_key(position)? == Some(0) {
            history::delete(self.connection, position)?;
            self.meta.purged = self.meta.purged.max(position);
        }
        Ok(())
    }

    /// Deletes a finished instance with everything that is its own.
    fn drop_instance(&mut self, key: &InstanceKey, born: u64) -> Result<(), Stop> {
        let found: Option<Standing> = instances::standing(self.connection, key, born)?;
        let Some(standing) = found.filter(|found| found.status.is_finished()) else {
            return Ok(());
        };
        for position in history::positions(self.connection, born)? {
            history::delete(self.connection, position)?;
            self.meta.purged = self.meta.purged.max(position);
        }
        due::delete_of(self.connection, &mut self.meta, born)?;
        for task in tasks::read_of(self.connection, born)? {
            tasks::remove(self.connection, &mut self.meta, born, task.task)?;
        }
        for row in outbox::read_of(self.connection, born)? {
            outbox::remove(self.connection, &mut self.meta, (born, row.version, row.n))?;
        }
        instances::delete(self.connection, born)?;
        self.meta.sums.instances.remove(u128::from_le_bytes(standing.digest.0));
        self.meta.count(Some(standing.status), None);
        let bucket = key.bucket();
        let mut row = self.buckets.get(bucket);
        let (tenant, instance) = (key.tenant.as_str(), key.instance.as_str());
        row.names.remove(instances::name_hash(tenant, instance, born));
        self.buckets.put(self.connection, &mut self.meta, bucket, row)?;
        Ok(())
    }
}
