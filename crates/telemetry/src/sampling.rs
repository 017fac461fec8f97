//! Which commands are traced: decided once, at the door.
//!
//! A caller that brings a sampled `traceparent`, or asks for a trace by header, is traced; so is everything of a tenant or an
//! instance that an operator has named. Of the rest a share is drawn. Whatever was decided goes along with the trace.
//!
//! Absent on purpose: looking at how a command ended. What was not traced cannot be traced afterwards; its history can.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use statehouse_contract::{InstanceKey, TenantId};

/// What is traced.
#[derive(Clone, Debug, Default)]
pub struct Sampling {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The share in parts of 2^64.
    share: u64,
    is_on: bool,
    tenants: BTreeSet<String>,
    instances: BTreeSet<String>,
    drawn: AtomicU64,
}

/// What this process traces.
static HERE: OnceLock<Sampling> = OnceLock::new();

impl Sampling {
    /// Returns what this process traces; nothing until it was said.
    #[must_use]
    pub fn here() -> &'static Self {
        HERE.get_or_init(Self::default)
    }

    /// Says what this process traces. Once, before anything is served; returns whether it was the first word.
    pub fn install(self) -> bool {
        HERE.set(self).is_ok()
    }

    /// Traces a share of everything from 0 to 1, and all of the named tenants and instances (`tenant/instance`).
    #[must_use]
    pub fn of(
        share: f64,
        tenants: impl IntoIterator<Item = String>,
        instances: impl IntoIterator<Item = String>,
    ) -> Self {
        let share = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let inner = Inner {
            share,
            is_on: true,
            tenants: tenants.into_iter().collect(),
            instances: instances.into_iter().collect(),
            // Two nodes that start together draw differently.
            drawn: AtomicU64::new(u64::from(std::process::id()) << 32),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns whether anybody takes spans.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.is_on
    }

    /// Decides about a request: whether it is the first of a trace of its own that is sampled.
    #[must_use]
    pub fn draws(&self, tenant: Option<&TenantId>, instance: Option<&InstanceKey>) -> bool {
        if !self.inner.is_on {
            return false;
        }
        let is_named = tenant.is_some_and(|tenant| self.inner.tenants.contains(tenant.as_str()))
            || (!self.inner.instances.is_empty()
                && instance.is_some_and(|key| {
                    self.inner.instances.contains(&format!("{}/{}", key.tenant, key.instance))
                }));
        is_named || self.draw()
    }

    // Weyl's sequence through a mixer (splitmix64, Steele, Lea and Flood 2014): even, and needs no state but a count.
    fn draw(&self) -> bool {
        if self.inner.share == 0 {
            return false;
        }
        let mut z =
            self.inner.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) <= self.inner.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_as_large_as_it_says_and_what_is_named_is_whole() {
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let few = Sampling::of(0.01, ["acme".to_owned()], []);
        let drawn =
            |tenant: &TenantId| (0..10_000).filter(|_| few.draws(Some(tenant), None)).count();
        assert_eq!(drawn(&acme), 10_000);
        assert!((50..200).contains(&drawn(&other)), "{}", drawn(&other));
        assert!(!Sampling::default().draws(Some(&acme), None), "nobody takes spans");
        let none = Sampling::of(0.0, [], []);
        assert!((0..1_000).all(|_| !none.draws(Some(&acme), None)));
        let all = Sampling::of(1.0, [], []);
        assert!((0..1_000).all(|_| all.draws(None, None)));
    }
}
