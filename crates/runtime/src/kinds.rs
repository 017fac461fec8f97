//! The kinds of tasks that a node runs itself, as its workers see them.
//!
//! What a kind does is given from outside, by whoever knows sockets; here is only the shape.
//!
//! Absent on purpose: the kinds.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use futures::future::BoxFuture;
use statehouse_contract::{InstanceKey, Json};

/// A task in the hands of a kind.
#[derive(Clone, Debug)]
pub struct Work {
    /// The instance that ordered it.
    pub instance: InstanceKey,
    /// The task's id.
    pub task: String,
    /// The input.
    pub input: serde_json::Value,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The same for every attempt.
    pub idempotency_key: String,
    /// The trace to which it belongs.
    pub traceparent: Option<String>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// A stable code.
    pub code: String,
    /// What a person reads.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
}

impl Failed {
    /// Returns a failure after which another attempt may help.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: true }
    }

    /// Returns a failure after which another attempt is in vain.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false }
    }
}

/// A kind of task that a node runs itself.
pub trait Kind: Send + Sync + 'static {
    /// Returns its name, as `src` says it.
    fn name(&self) -> &'static str;

    /// Returns how many of it one shard runs at once.
    fn at_once(&self) -> usize;

    /// Does a task. Dropped when its lease is over or the node stops.
    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>>;
}

/// The kinds of a node, once somebody has offered them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Kinds {
    kinds: Arc<RwLock<Vec<Arc<dyn Kind>>>>,
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter().map(|kind| kind.name())).finish()
    }
}

impl Kinds {
    /// Says what this node's workers can do from now on.
    pub fn offer(&self, kinds: Vec<Arc<dyn Kind>>) {
        *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds;
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Kind>> {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
