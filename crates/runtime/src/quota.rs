//! Quotas: what a tenant may use a second, as token buckets.
//!
//! A bucket holds one second's worth of tokens, so a tenant may send a second's commands at once and then goes on at its
//! rate. Only tenants with a quota have a bucket; the others are bounded by permits alone.
//!
//! Absent on purpose: where quotas come from (shard 0) and permits (`admission.rs`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock},
    time::Instant,
};

use statehouse_contract::{Quota, Rejection, RejectionCode, TenantId};

/// A rate with a burst of one second. Counts thousandths of a token, so that nothing is rounded.
#[derive(Debug)]
pub struct Bucket {
    per_s: u64,
    millitokens: u64,
    filled_ms: u64,
}

const TOKEN: u64 = 1_000;

impl Bucket {
    /// Returns a full bucket.
    #[must_use]
    pub fn new(per_s: u32, now_ms: u64) -> Self {
        let per_s = u64::from(per_s);
        Self { per_s, millitokens: per_s * TOKEN, filled_ms: now_ms }
    }

    /// Takes a token, or says after how many milliseconds there will be one.
    ///
    /// # Errors
    /// The milliseconds to wait.
    pub fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        // A token a second is a thousandth of one a millisecond.
        let gained = now_ms.saturating_sub(self.filled_ms).saturating_mul(self.per_s);
        self.filled_ms = self.filled_ms.max(now_ms);
        self.millitokens = self.millitokens.saturating_add(gained).min(self.per_s * TOKEN);
        if self.millitokens >= TOKEN {
            self.millitokens -= TOKEN;
            return Ok(());
        }
        if self.per_s == 0 {
            return Err(60_000);
        }
        Err((TOKEN - self.millitokens).div_ceil(self.per_s))
    }
}

#[derive(Debug)]
struct Rates {
    commands: Option<Mutex<Bucket>>,
    refusals: Option<Mutex<Bucket>>,
}

/// The quotas of every tenant that has one.
#[derive(Debug)]
pub struct Quotas {
    began: Instant,
    rates: RwLock<HashMap<TenantId, Rates>>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A command.
    Command,
    /// A refusal that is written down.
    Refusal,
}

impl Quotas {
    /// Returns a book without a quota.
    #[must_use]
    pub fn new() -> Self {
        Self { began: Instant::now(), rates: RwLock::default() }
    }

    /// Sets what a tenant may use; its buckets are full again.
    pub fn set(&self, tenant: &TenantId, quota: &Quota) {
        let now_ms = self.now_ms();
        let bucket = |rate: Option<u32>| rate.map(|per_s| Mutex::new(Bucket::new(per_s, now_ms)));
        let rates = Rates {
            commands: bucket(quota.commands_per_s),
            refusals: bucket(quota.refusals_per_s),
        };
        let mut book = self.rates.write().unwrap_or_else(PoisonError::into_inner);
        if rates.commands.is_none() && rates.refusals.is_none() {
            book.remove(tenant);
        } else {
            book.insert(tenant.clone(), rates);
        }
    }

    /// Counts one against a tenant's quota.
    ///
    /// # Errors
    /// `quota_exceeded` with the delay after which there is room again.
    pub fn take(&self, tenant: &TenantId, counted: Counted) -> Result<(), Rejection> {
        let book = self.rates.read().unwrap_or_else(PoisonError::into_inner);
        let Some(rates) = book.get(tenant) else { return Ok(()) };
        let (bucket, what) = match counted {
            Counted::Command => (&rates.commands, "commands"),
            Counted::Refusal => (&rates.refusals, "refused commands"),
        };
        let Some(bucket) = bucket else { return Ok(()) };
        let now_ms = self.now_ms();
        let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now_ms);
        taken.map_err(|wait_ms| {
            let detail = format!("the tenant's quota of {what} a second is used up");
            Rejection::gateway(RejectionCode::QuotaExceeded, detail).after_ms(wait_ms.max(1))
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_its_rate() {
        let mut bucket = Bucket::new(2, 0);
        assert_eq!([bucket.take(0), bucket.take(0), bucket.take(0)], [Ok(()), Ok(()), Err(500)]);
        assert_eq!(bucket.take(499), Err(1));
        assert_eq!(bucket.take(500), Ok(()));
        assert_eq!([bucket.take(9_000), bucket.take(9_000)], [Ok(()), Ok(())]);
        assert_eq!(bucket.take(9_000), Err(500), "no more than a second is saved up");
    }

    #[test]
    fn a_quota_of_nothing_lets_none_through() {
        let mut bucket = Bucket::new(0, 0);
        assert_eq!([bucket.take(0), bucket.take(9_000)], [Err(60_000), Err(60_000)]);
    }

    #[test]
    fn only_the_tenant_with_the_quota_is_held_back() {
        let quotas = Quotas::new();
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let quota = Quota { commands_per_s: Some(1), instances: None, refusals_per_s: None };
        quotas.set(&acme, &quota);
        assert!(quotas.take(&acme, Counted::Command).is_ok());
        let refused = quotas.take(&acme, Counted::Command).unwrap_err();
        assert_eq!(refused.code, RejectionCode::QuotaExceeded);
        assert!(refused.retry_after_ms.is_some_and(|ms| (1..=1_000).contains(&ms)));
        assert!(quotas.take(&acme, Counted::Refusal).is_ok());
        assert!(quotas.take(&other, Counted::Command).is_ok());
        quotas.set(&acme, &Quota { commands_per_s: None, instances: None, refusals_per_s: None });
        assert!(quotas.take(&acme, Counted::Command).is_ok());
    }
}
