//! The way by which the organs of a shard reach instances of any shard.
//!
//! An outbox delivers to other instances, a schedule starts them, a batch operates on them: all of that leaves the shard.
//! Whoever knows where a shard is led implements [`Carrier`]; `cluster`'s router does. Until it has, and after it has gone,
//! everything that is to leave waits.
//!
//! Absent on purpose: order and retries. Each organ keeps its own, by rows of its shard.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::future::BoxFuture;
use statehouse_contract::{Answer, CommandEnvelope, Query, Receipt, Rejection, RejectionCode};

/// Hands a command or a question of this node's organs to whoever answers it.
pub trait Carrier: Send + Sync + 'static {
    /// Hands a command in and waits for its definite answer, at most as long as the envelope says. The key's origin is
    /// taken as it is: only the system's own organs come here.
    fn submit(&self, envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>>;

    /// Asks a question.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>>;
}

/// The carrier of a node, once there is one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Carried {
    carrier: Arc<Mutex<Option<Weak<dyn Carrier>>>>,
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").finish_non_exhaustive()
    }
}

impl Carried {
    /// Names the carrier. It is not kept alive by that.
    pub fn by(&self, carrier: Weak<dyn Carrier>) {
        *self.carrier.lock().unwrap_or_else(PoisonError::into_inner) = Some(carrier);
    }

    /// Hands a command in.
    ///
    /// # Errors
    /// As whoever decides it says; `no_leader` while nothing is carried.
    pub async fn submit(&self, envelope: CommandEnvelope) -> Result<Receipt, Rejection> {
        self.now()?.submit(envelope).await
    }

    /// Asks a question.
    ///
    /// # Errors
    /// As whoever answers says; `no_leader` while nothing is carried.
    pub async fn query(&self, query: Query) -> Result<Answer, Rejection> {
        self.now()?.query(query).await
    }

    fn now(&self) -> Result<Arc<dyn Carrier>, Rejection> {
        let named = self.carrier.lock().unwrap_or_else(PoisonError::into_inner).clone();
        named.and_then(|weak| weak.upgrade()).ok_or_else(|| {
            let detail = "this node carries nothing to other shards now";
            Rejection::gateway(RejectionCode::NoLeader, detail).after_ms(100)
        })
    }
}
