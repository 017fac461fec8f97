//! The view: the questions that every upper floor may ask of a shard's rows.
//!
//! A view is cheap to clone and may be used from any thread; a question borrows one of a few read-only connections and is
//! one read transaction, so what it answers was true at one position. Whoever needs a fresh answer takes the log's index
//! and waits for apply first, then asks.
//!
//! What is answered was checked: rows by their digests and checksums, "there is none" by the proofs of `proof.rs`. A view
//! belongs to one generation of the file; after a snapshot was installed it answers [`StoreError::Replaced`].
//!
//! Deliberately absent: waiting, caching, and any question without a bound.

mod catalog_view;
mod history_view;
mod list;
mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use rusqlite::Connection;

use statehouse_contract::{InstanceKey, KeyHash, Receipt, ShardId, Target};

pub use history_view::HistoryPage;
pub(crate) use list::compare_table;
pub use list::{InstancePage, ListFilter};
pub use work::{DueCursor, DueItem, DueOwner, DuePage, SweepLimits, SweepPage};

use crate::{
    error::{Fault, StoreError},
    history,
    instances::{self, InstanceRow},
    meta::Meta,
    opening::connect,
    proof::Proofs,
    state_file::Shared,
};

/// The right to read one shard's rows.
#[derive(Clone, Debug)]
pub struct View {
    shared: Arc<Shared>,
    proofs: Arc<Proofs>,
    generation: u64,
}

/// The keys under which receipts of an instance stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The keys, ascending.
    pub hashes: Vec<KeyHash>,
    /// Whether these are all: the absence of any other is proven.
    pub is_complete: bool,
}

impl View {
    pub(crate) fn new(shared: &Arc<Shared>, proofs: &Arc<Proofs>) -> Self {
        let generation = shared.generation.load(Ordering::Acquire);
        Self { shared: shared.clone(), proofs: proofs.clone(), generation }
    }

    /// Returns the shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shared.shard
    }

    /// Returns the generation of the file: a cached value of another generation means nothing.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the last applied position, without touching the file.
    #[must_use]
    pub fn applied(&self) -> Option<u64> {
        self.shared.applied.load(Ordering::Acquire).checked_sub(1)
    }

    /// Returns where the rows stand.
    ///
    /// # Errors
    /// As every question: [`StoreError::Corrupt`] and its like, or [`StoreError::Replaced`].
    pub fn meta(&self) -> Result<Meta, StoreError> {
        self.ask("read the position", Meta::read)
    }

    /// Returns an instance with its snapshot; nothing if there is none, which is proven.
    ///
    /// # Errors
    /// As every question.
    pub fn instance(&self, key: &InstanceKey) -> Result<Option<InstanceRow>, StoreError> {
        self.ask("read an instance", |connection| self.find_instance(connection, key))
    }

    /// Returns an instance and where the rows stood, both at one position.
    ///
    /// # Errors
    /// As every question.
    pub fn instance_at(
        &self,
        key: &InstanceKey,
    ) -> Result<(Option<InstanceRow>, Meta), StoreError> {
        self.ask("read an instance", |connection| {
            Ok((self.find_instance(connection, key)?, Meta::read(connection)?))
        })
    }

    /// Returns the answer that is stored under a key; nothing if there is none, which is proven.
    ///
    /// # Errors
    /// As every question.
    pub fn receipt(&self, target: &Target, key: KeyHash) -> Result<Option<Receipt>, StoreError> {
        self.ask("read a receipt", |connection| {
            let born = match target {
                Target::Instance(instance) => self.find_born(connection, instance)?,
                Target::Tenant(_) | Target::Shard(_) | Target::Cluster => None,
            };
            for inst in born.into_iter().chain([0]) {
                if let Some(position) = history::find(connection, inst, key)? {
                    let receipt = history::receipt(connection, position, key)?;
                    return Ok(Some(Receipt { replayed: true, ..receipt }));
                }
            }
            if let (Some(born), Target::Instance(instance)) = (born, target) {
                // "No such key" counts only for the row that is really this instance's.
                self.find_instance(connection, instance)?;
                self.proofs.keys(connection, born)?;
            }
            Ok(None)
        })
    }

    /// Returns the keys under which receipts of an instance stand, at most `limit`; for an actor that wants to know by
    /// itself that a key is new. Receipts of commands that met no instance are not among them.
    ///
    /// # Errors
    /// As every question.
    pub fn keys(&self, key: &InstanceKey, limit: usize) -> Result<Keys, StoreError> {
        self.ask("read the keys of an instance", |connection| {
            // The row itself, not its index alone: a damaged index may lead to a birth that has no keys.
            let Some(row) = self.find_instance(connection, key)? else {
                return Ok(Keys { hashes: Vec::new(), is_complete: true });
            };
            let born = row.version.born;
            let expected = instances::keys(connection, born)?.unwrap_or_default();
            let mut hashes = history::keys(connection, born)?;
            crate::proof::compare_keys(connection, born, &hashes, expected)?;
            hashes.sort_unstable();
            let is_complete = hashes.len() <= limit;
            hashes.truncate(limit);
            Ok(Keys { hashes, is_complete })
        })
    }

    /// Returns the birth under which an instance's name is known, or proves that there is none.
    fn find_born(&self, connection: &Connection, key: &InstanceKey) -> Result<Option<u64>, Fault> {
        let born = instances::find(connection, key)?;
        if born.is_none() {
            self.proofs.names(connection, key.bucket())?;
        }
        Ok(born)
    }

    fn find_instance(
        &self,
        connection: &Connection,
        key: &InstanceKey,
    ) -> Result<Option<InstanceRow>, Fault> {
        let Some(born) = self.find_born(connection, key)? else { return Ok(None) };
        let row = instances::read(connection, born)?.filter(|row| row.key == *key);
        let gone =
            || Fault::row("names", key, format!("leads to {born}, where another row stands"));
        row.map(Some).ok_or_else(gone)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Checks that the file is still the one of this view.
    pub(crate) fn check_generation(&self) -> Result<(), StoreError> {
        let found = self.shared.generation.load(Ordering::Acquire);
        if found != self.generation {
            return Err(StoreError::Replaced { expected: self.generation, found });
        }
        if self.shared.is_closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed { path: self.shared.path.clone() });
        }
        Ok(())
    }

    /// Returns the first damage that any reader has met in this file: these rows are not to be believed any more.
    #[must_use]
    pub fn damage(&self) -> Option<StoreError> {
        let met = self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner);
        met.clone().map(|found| StoreError::Corrupt(Box::new(found)))
    }

    /// Asks one question in one read transaction. Damage is told to whoever asked, and kept.
    pub(crate) fn ask<T>(
        &self,
        doing: &'static str,
        question: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let answer = self.look(doing, question);
        if let Err(StoreError::Corrupt(found)) = &answer {
            let mut met = self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner);
            met.get_or_insert_with(|| (**found).clone());
        }
        answer
    }

    fn look<T>(
        &self,
        doing: &'static str,
        question: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut slot = self.slot();
        // Read under the slot's lock: an install first changes the generation and then takes every slot.
        self.check_generation()?;
        let at = |fault: Fault| fault.at(&self.shared.path, doing);
        let connection = match &mut *slot {
            Some(connection) => connection,
            empty => empty.insert(connect(&self.shared.path, false).map_err(at)?),
        };
        let transaction = connection.unchecked_transaction().map_err(|error| at(error.into()))?;
        let answer = question(&transaction).map_err(at)?;
        transaction.finish().map_err(|error| at(error.into()))?;
        Ok(answer)
    }

    /// Takes a free connection, or waits for the one that belongs to this thread's number.
    fn slot(&self) -> MutexGuard<'_, Option<Connection>> {
        let slots = &self.shared.readers;
        let free = slots.iter().find_map(|slot| slot.try_lock().ok());
        free.unwrap_or_else(|| {
            let mine = slots.get(turn() % slots.len()).expect("a remainder is below the length");
            lock(mine)
        })
    }
}

/// Locks a slot; a panic of an earlier question cannot leave a connection half used, it has rolled back.
pub(crate) fn lock(slot: &Mutex<Option<Connection>>) -> MutexGuard<'_, Option<Connection>> {
    slot.lock().unwrap_or_else(|poisoned| {
        slot.clear_poison();
        let mut inner = PoisonError::into_inner(poisoned);
        *inner = None;
        inner
    })
}

/// Returns another number at each call, to spread those who have to wait.
fn turn() -> usize {
    static TURN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    TURN.fetch_add(1, Ordering::Relaxed)
}
