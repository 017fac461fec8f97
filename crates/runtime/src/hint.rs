//! A hint to an organ of a led shard: there may be something to do.
//!
//! It may be lost and it may come for nothing; the organ reads its rows and looks by itself every now and then.
//!
//! Invariant `BOUND`: at most one look is queued at a time.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use ractor::{ActorRef, Message};

/// A hint to an actor that hears messages of this type.
#[derive(Debug)]
pub(crate) struct Hint<M> {
    is_queued: AtomicBool,
    actor: Mutex<Option<ActorRef<M>>>,
}

impl<M> Default for Hint<M> {
    fn default() -> Self {
        Self { is_queued: AtomicBool::new(false), actor: Mutex::new(None) }
    }
}

impl<M: Message> Hint<M> {
    /// Asks the actor to look, unless it was asked already.
    pub(crate) fn give(&self, look: M) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(actor) = actor.as_ref() {
            let _ = actor.send_message(look);
        }
    }

    /// Says who hears it from now on.
    pub(crate) fn heard_by(&self, actor: ActorRef<M>) {
        *self.actor.lock().unwrap_or_else(PoisonError::into_inner) = Some(actor);
        self.is_queued.store(false, Ordering::Release);
    }

    /// Says that the actor looks now: what comes from here on asks for another look.
    pub(crate) fn taken(&self) {
        self.is_queued.store(false, Ordering::Release);
    }
}
