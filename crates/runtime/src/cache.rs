//! Caches that can be forgotten at any time and can never answer with an old version as if it were new.
//!
//! A chart is named by the digest of its document: it never changes. A view of an instance is named by shard, generation,
//! birth, version and row digest, all read in the transaction that asks; so a cached value is found only while the row is
//! the very one from which it was made. A credential is kept for a short time only, so that a revoked key dies.
//!
//! Absent on purpose: time-outs as a substitute for names.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use statehouse_chart::Chart;
use statehouse_contract::{
    Credential, DefinitionName, Digest, ShardId, TenantId, Version, view::InstanceView,
};
use statehouse_store::entry::RowDigest;

/// Most charts in memory: each is some hundreds of kilobytes at worst.
const CHARTS_MAX: u64 = 512;
/// Most versions of definitions whose digests are in memory.
const DIGESTS_MAX: u64 = 10_000;
/// Most views in memory.
const VIEWS_MAX: u64 = 2_048;
/// Most credentials in memory.
const CREDENTIALS_MAX: u64 = 4_096;
/// How long a credential is believed without asking shard 0 again.
const CREDENTIAL_KEEP: Duration = Duration::from_millis(500);

/// The name of an instance's row at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowName {
    /// The shard.
    pub shard: ShardId,
    /// The generation of the shard's file.
    pub generation: u64,
    /// Birth and version.
    pub version: Version,
    /// The fingerprint of the row.
    pub digest: RowDigest,
}

/// The name of a version of a definition; what stands under it never changes.
pub(crate) type DefinitionKey = (TenantId, DefinitionName, u32);

/// The caches of a node.
#[derive(Debug)]
pub struct Caches {
    digests: Cache<DefinitionKey, Digest>,
    charts: Cache<Digest, Arc<Chart>>,
    views: Cache<RowName, Arc<InstanceView>>,
    credentials: Cache<Digest, Credential>,
}

impl Caches {
    /// Returns empty caches.
    #[must_use]
    pub fn new() -> Self {
        Self {
            digests: Cache::new(DIGESTS_MAX),
            charts: Cache::new(CHARTS_MAX),
            views: Cache::new(VIEWS_MAX),
            credentials: Cache::builder()
                .max_capacity(CREDENTIALS_MAX)
                .time_to_live(CREDENTIAL_KEEP)
                .build(),
        }
    }

    /// Returns the chart of a document, making it if need be. Concurrent callers make it once.
    ///
    /// # Errors
    /// Passes on what making it said.
    pub fn chart<E: Send + Sync + 'static>(
        &self,
        digest: Digest,
        make: impl FnOnce() -> Result<Chart, E>,
    ) -> Result<Arc<Chart>, Arc<E>> {
        self.charts.try_get_with(digest, || make().map(Arc::new))
    }

    /// Returns the digest of a version of a definition, reading it if need be. An unknown one is never kept.
    pub fn digest<E>(
        &self,
        key: DefinitionKey,
        read: impl FnOnce(&DefinitionKey) -> Result<Option<Digest>, E>,
    ) -> Result<Option<Digest>, E> {
        if let Some(known) = self.digests.get(&key) {
            return Ok(Some(known));
        }
        let found = read(&key)?;
        if let Some(digest) = found {
            self.digests.insert(key, digest);
        }
        Ok(found)
    }

    /// Returns the view of exactly this row, making it if need be.
    pub fn view<E>(
        &self,
        name: RowName,
        make: impl FnOnce() -> Result<InstanceView, E>,
    ) -> Result<Arc<InstanceView>, E> {
        if let Some(view) = self.views.get(&name) {
            return Ok(view);
        }
        let view = Arc::new(make()?);
        self.views.insert(name, Arc::clone(&view));
        Ok(view)
    }

    /// Returns the credential behind a hash, reading it if need be. An unknown key is never kept.
    pub fn credential<E>(
        &self,
        hash: Digest,
        read: impl FnOnce() -> Result<Option<Credential>, E>,
    ) -> Result<Option<Credential>, E> {
        if let Some(known) = self.credentials.get(&hash) {
            return Ok(Some(known));
        }
        let found = read()?;
        if let Some(credential) = &found {
            self.credentials.insert(hash, credential.clone());
        }
        Ok(found)
    }

    /// Forgets every credential: a key was revoked.
    pub fn forget_credentials(&self) {
        self.credentials.invalidate_all();
    }
}

impl Default for Caches {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use statehouse_contract::{DefinitionName, InstanceId, Json, TenantId};

    use super::*;

    fn view(version: u64) -> InstanceView {
        InstanceView {
            id: InstanceId::parse("i").unwrap(),
            definition: DefinitionName::parse("d").unwrap(),
            definition_version: 1,
            born: 7,
            version,
            configuration: Vec::new(),
            status: "running".to_owned(),
            tags: Vec::new(),
            context: Json::empty_object(),
            output: None,
            error: None,
            timers: Vec::new(),
            tasks: Vec::new(),
            postponed: Vec::new(),
            created_at: String::new(),
            updated_at: String::new(),
            position: 0,
            age_ms: 0,
        }
    }

    #[test]
    fn a_view_is_found_only_under_the_row_from_which_it_was_made() {
        let caches = Caches::new();
        let name = RowName {
            shard: ShardId(0),
            generation: 1,
            version: Version { born: 7, version: 1 },
            digest: RowDigest([1; 16]),
        };
        let ask = |name, version| {
            caches.view(name, || Ok::<_, ()>(view(version))).map(|view| view.version)
        };
        assert_eq!(ask(name, 1), Ok(1));
        assert_eq!(ask(name, 99), Ok(1), "the same row, the same view");
        let changed = [
            RowName { version: Version { born: 7, version: 2 }, ..name },
            RowName { version: Version { born: 8, version: 1 }, ..name },
            RowName { digest: RowDigest([2; 16]), ..name },
            RowName { generation: 2, ..name },
            RowName { shard: ShardId(1), ..name },
        ];
        for (n, other) in changed.into_iter().enumerate() {
            let fresh = 100 + n as u64;
            assert_eq!(ask(other, fresh), Ok(fresh), "{other:?}");
        }
    }

    #[test]
    fn a_failed_chart_and_an_unknown_key_are_not_kept() {
        let caches = Caches::new();
        assert!(caches.chart(Digest([1; 32]), || Err::<Chart, _>("broken")).is_err());
        let hash = Digest([2; 32]);
        assert_eq!(caches.credential(hash, || Ok::<_, ()>(None)), Ok(None));
        let tenant = TenantId::parse("t").unwrap();
        let known = Credential { tenant, id: "k".into(), name: "n".into(), roles: Vec::new() };
        let found = caches.credential(hash, || Ok::<_, ()>(Some(known.clone())));
        assert_eq!(found, Ok(Some(known.clone())));
        assert_eq!(caches.credential(hash, || Err("not asked")), Ok(Some(known)));
        caches.forget_credentials();
        assert_eq!(caches.credential(hash, || Err("asked")), Err("asked"));
    }
}
