//! Which shard owns a key: from the key to its bucket, fixed for ever, and from the bucket to its shard.
//!
//! A new cluster gives each of its shards a contiguous range of the 4,096 buckets. Commands that belong to no instance go
//! to shard 0, which is an ordinary shard that also holds definitions, tenants, keys and members.
//!
//! Absent on purpose: moving a bucket. The map becomes data in shard 0 then, and only this file changes.

use statehouse_contract::{Bucket, InstanceKey, ShardId, Target, limits::BUCKETS};

/// The shard that holds tenants, keys, definitions and members besides its own instances.
pub const REGISTRY: ShardId = ShardId(0);

/// Buckets to shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMap {
    shards: u32,
}

impl ShardMap {
    /// Returns the map of a new cluster of so many shards, at least one.
    #[must_use]
    pub const fn even(shards: u32) -> Self {
        Self { shards: if shards == 0 { 1 } else { shards } }
    }

    /// Returns the number of shards.
    #[must_use]
    pub const fn shards(self) -> u32 {
        self.shards
    }

    /// Returns how often buckets of a shard have moved since the cluster was founded: none moves yet.
    #[must_use]
    pub const fn epoch(self, _: ShardId) -> u32 {
        0
    }

    /// Returns the shard of a bucket.
    #[must_use]
    pub fn of_bucket(self, bucket: Bucket) -> ShardId {
        ShardId(u32::from(bucket.number()) * self.shards / u32::from(BUCKETS))
    }

    /// Returns the shard of an instance.
    #[must_use]
    pub fn of_instance(self, key: &InstanceKey) -> ShardId {
        self.of_bucket(key.bucket())
    }

    /// Returns the shard that decides about a target; nothing if there is no such shard.
    #[must_use]
    pub fn of_target(self, target: &Target) -> Option<ShardId> {
        match target {
            Target::Instance(key) => Some(self.of_instance(key)),
            Target::Tenant(_) | Target::Cluster => Some(REGISTRY),
            Target::Shard(shard) => (shard.0 < self.shards).then_some(*shard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_gets_one_range_and_ranges_differ_by_at_most_one_bucket() {
        for shards in [1, 2, 3, 4, 7, 64, 256] {
            let map = ShardMap::even(shards);
            let owners: Vec<u32> =
                (0..BUCKETS).map(|number| map.of_bucket(Bucket::new(number).unwrap()).0).collect();
            assert!(owners.is_sorted(), "{shards} shards");
            let sizes: Vec<usize> = (0..shards)
                .map(|shard| owners.iter().filter(|owner| **owner == shard).count())
                .collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= 1, "{shards} shards: {sizes:?}");
        }
    }

    #[test]
    fn what_belongs_to_no_instance_goes_to_shard_0() {
        let map = ShardMap::even(4);
        assert_eq!(map.of_target(&Target::Cluster), Some(REGISTRY));
        assert_eq!(map.of_target(&Target::Shard(ShardId(3))), Some(ShardId(3)));
        assert_eq!(map.of_target(&Target::Shard(ShardId(4))), None);
    }
}
