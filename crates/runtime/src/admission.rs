//! Admission: whether a shard takes work in now, and the permit that says so.
//!
//! The actors' mailboxes have no bound of their own, so nothing is sent to one without a permit. A permit is asked for and
//! given or refused at once; nobody waits for one. It rides in the message and is given back when the work's proposal is
//! applied, fenced or discarded, never by a caller's deadline.
//!
//! Three counts are kept under one short lock: the shard's, each tenant's and each instance's. Timers and the outbox may
//! use the whole of the shard's permits, clients all but the reserved share.
//!
//! Absent on purpose: rates; those are `quota.rs`. Waiting; a full house refuses.
//!
//! Invariant `BOUND`: the messages under way to a shard's instances are never more than its permits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use statehouse_contract::{
    InstanceKey, Rejection, RejectionCode, TenantId,
    invariant::InvariantId,
    limits::{INSTANCE_WAITING_MAX, SHARD_PERMITS, SHARD_PERMITS_RESERVED, TENANT_PERMITS},
};

/// For whom a permit is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Commands from outside.
    Client,
    /// Timers, the instance's own queue, completions, the outbox: work that was accepted already.
    Reserved,
}

/// How much a shard takes in at once.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// All permits.
    pub shard: usize,
    /// The part that clients cannot use.
    pub reserved: usize,
    /// Permits of one tenant's clients.
    pub tenant: usize,
    /// Commands that wait at one instance.
    pub instance: usize,
}

impl Capacity {
    /// Returns the values of `limits`.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            shard: SHARD_PERMITS,
            reserved: SHARD_PERMITS_RESERVED,
            tenant: TENANT_PERMITS,
            instance: INSTANCE_WAITING_MAX,
        }
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
struct Counts {
    used: usize,
    tenants: HashMap<TenantId, usize>,
    instances: HashMap<InstanceKey, usize>,
}

/// The admission of one shard. Lives as long as the node: permits outlast terms.
#[derive(Debug)]
pub struct Admission {
    capacity: Capacity,
    counts: Mutex<Counts>,
    is_draining: AtomicBool,
    emptied: tokio::sync::Notify,
}

/// The permit with which a command came in at the edge of this node. All its attempts share it.
pub type Admitted = Arc<tokio::sync::OwnedSemaphorePermit>;

/// The right to send one message to one instance. Given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    pool: Pool,
    key: InstanceKey,
}

impl Admission {
    /// Returns an empty house.
    #[must_use]
    pub fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            counts: Mutex::default(),
            is_draining: AtomicBool::new(false),
            emptied: tokio::sync::Notify::new(),
        })
    }

    /// Takes work for an instance in, or refuses it now.
    ///
    /// # Errors
    /// `draining` or `overloaded`: this request was certainly not done.
    pub fn admit(self: &Arc<Self>, key: &InstanceKey, pool: Pool) -> Result<Permit, Rejection> {
        if pool == Pool::Client && self.is_draining.load(Ordering::Acquire) {
            return Err(draining());
        }
        let mut counts = self.lock();
        let Counts { used, tenants, instances } = &mut *counts;
        let (shard_max, instance_max) = match pool {
            Pool::Client => (self.capacity.shard - self.capacity.reserved, self.capacity.instance),
            // Timers of one instance are bounded by its own limits; they never lose to its clients.
            Pool::Reserved => (self.capacity.shard, usize::MAX),
        };
        if *used >= shard_max {
            return Err(overloaded("the shard works on as many commands as it may"));
        }
        let waiting = instances.get(key).copied().unwrap_or(0);
        if waiting >= instance_max {
            return Err(overloaded("as many commands as may wait for this instance already"));
        }
        if pool == Pool::Client {
            let own = tenants.get(&key.tenant).copied().unwrap_or(0);
            if own >= self.capacity.tenant {
                return Err(overloaded("the shard works on as many of your commands as it may"));
            }
            match tenants.get_mut(&key.tenant) {
                Some(count) => *count += 1,
                None => drop(tenants.insert(key.tenant.clone(), 1)),
            }
        }
        *used += 1;
        match instances.get_mut(key) {
            Some(count) => *count += 1,
            None => drop(instances.insert(key.clone(), 1)),
        }
        Ok(Permit { admission: Arc::clone(self), pool, key: key.clone() })
    }

    /// Refuses clients from now on; what is under way goes on.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        if self.lock().used == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until no permit is out.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.used() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Returns how many permits are out.
    #[must_use]
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// Returns whether no message is under way to an instance.
    #[must_use]
    pub fn is_idle(&self, key: &InstanceKey) -> bool {
        !self.lock().instances.contains_key(key)
    }

    fn give_back(&self, permit: &Permit) {
        let mut counts = self.lock();
        let Counts { used, tenants, instances } = &mut *counts;
        statehouse_contract::invariant!(
            InvariantId::Bound,
            *used > 0,
            "a permit was given back twice"
        );
        *used -= 1;
        release(instances, &permit.key);
        if permit.pool == Pool::Client {
            release(tenants, &permit.key.tenant);
        }
        if *used == 0 && self.is_draining.load(Ordering::Acquire) {
            self.emptied.notify_waiters();
        }
    }

    // A panic while the lock is held leaves plain counts behind; they are still right.
    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.give_back(self);
    }
}

/// Returns the refusal of a node that is shutting down.
#[must_use]
pub fn draining() -> Rejection {
    Rejection::gateway(RejectionCode::Draining, "this node is shutting down; ask another one")
        .after_ms(500)
}

fn overloaded(detail: &str) -> Rejection {
    Rejection::gateway(RejectionCode::Overloaded, detail).after_ms(100)
}

#[cfg(test)]
mod tests {
    use statehouse_contract::InstanceId;

    use super::*;

    fn key(tenant: &str, instance: &str) -> InstanceKey {
        InstanceKey {
            tenant: TenantId::parse(tenant).unwrap(),
            instance: InstanceId::parse(instance).unwrap(),
        }
    }

    fn small() -> Arc<Admission> {
        Admission::new(Capacity { shard: 6, reserved: 2, tenant: 3, instance: 2 })
    }

    #[test]
    fn clients_cannot_use_the_reserved_share() {
        let house = small();
        let held: Vec<Permit> = ["a", "b", "c", "d"]
            .iter()
            .map(|tenant| house.admit(&key(tenant, "i"), Pool::Client).unwrap())
            .collect();
        let refused = house.admit(&key("e", "i"), Pool::Client).unwrap_err();
        assert_eq!(refused.code, RejectionCode::Overloaded);
        assert!(refused.retry_after_ms.is_some());
        let timers: Vec<Permit> =
            (0..2).map(|_| house.admit(&key("e", "i"), Pool::Reserved).unwrap()).collect();
        assert!(house.admit(&key("e", "i"), Pool::Reserved).is_err());
        drop((held, timers));
        assert_eq!(house.used(), 0);
    }

    #[test]
    fn one_tenant_and_one_instance_cannot_take_it_all() {
        let house = small();
        let first = house.admit(&key("a", "i"), Pool::Client).unwrap();
        let _second = house.admit(&key("a", "i"), Pool::Client).unwrap();
        assert!(house.admit(&key("a", "i"), Pool::Client).is_err(), "two wait at the instance");
        let _third = house.admit(&key("a", "j"), Pool::Client).unwrap();
        assert!(house.admit(&key("a", "k"), Pool::Client).is_err(), "three are the tenant's");
        assert!(house.admit(&key("b", "k"), Pool::Client).is_ok(), "a neighbour does not notice");
        drop(first);
        assert!(house.admit(&key("a", "k"), Pool::Client).is_ok());
    }

    #[test]
    fn permits_come_back_and_leave_no_rows_behind() {
        let house = small();
        drop(house.admit(&key("a", "i"), Pool::Client).unwrap());
        assert!(house.is_idle(&key("a", "i")));
        let counts = house.lock();
        assert!(counts.tenants.is_empty() && counts.instances.is_empty() && counts.used == 0);
    }

    #[test]
    fn a_draining_house_refuses_clients_and_lets_its_own_work_in() {
        let house = small();
        house.begin_drain();
        let refused = house.admit(&key("a", "i"), Pool::Client).unwrap_err();
        assert_eq!(refused.code, RejectionCode::Draining);
        assert!(house.admit(&key("a", "i"), Pool::Reserved).is_ok());
    }
}
