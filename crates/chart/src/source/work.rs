//! The authored shapes of work: invokes, their retries and their compensations.
//!
//! These are the parts of a [`Source`](super::Source) that ask something of the world outside the chart. They say what is to
//! be done and how often it may be tried; who does it, and when, is no business of this crate.
//!
//! Deliberately absent: leases, workers, attempts. A retry policy is data that travels with the task.

use super::{Delay, Spot, Template, Text, Transition, Whole};

/// One invoke.
#[derive(Clone, Debug, PartialEq)]
pub struct Invoke {
    /// Where it stands.
    pub spot: Spot,
    /// `id`, or else the id of its state.
    pub id: Text,
    /// `src`, read.
    pub src: Src,
    /// `src` as written.
    pub src_said: Text,
    /// `input`.
    pub input: Option<Template>,
    /// `timeout` of one attempt.
    pub timeout: Option<Delay>,
    /// `heartbeat`: length of a lease.
    pub heartbeat: Option<Delay>,
    /// `retry`.
    pub retry: Option<RetryUse>,
    /// `queue`.
    pub queue: Option<Text>,
    /// `compensate`.
    pub compensate: Option<Compensate>,
    /// `onDone`.
    pub on_done: Vec<Transition>,
    /// `onError`; `None` = not written.
    pub on_error: Option<Vec<Transition>>,
    /// `forEach`.
    pub for_each: Option<ForEach>,
    /// `detached: true`: the child lives on when its parent leaves.
    pub detached: bool,
}

/// What an invoke starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Src {
    /// `task:<kind>`.
    Task(String),
    /// `workflow:<id>` or `workflow:<id>@<version>`.
    Workflow {
        /// The definition.
        definition: String,
        /// Its version, or the current one.
        version: Option<u64>,
    },
    /// `saga:compensate`.
    Saga,
    /// A kind that the platform itself runs, such as `http:`.
    BuiltIn {
        /// The scheme.
        scheme: String,
        /// What follows the colon.
        rest: String,
    },
    /// Not readable; a finding says why.
    Unknown(String),
}

/// `forEach` of an invoke.
#[derive(Clone, Debug, PartialEq)]
pub struct ForEach {
    /// Where it stands.
    pub spot: Spot,
    /// `items`: the list.
    pub items: Template,
    /// `as`: the item's name in `input`; `item` unless said otherwise.
    pub name: Text,
    /// `limit`: how many run at once.
    pub limit: Option<Whole>,
}

/// `compensate` of an invoke.
#[derive(Clone, Debug, PartialEq)]
pub enum Compensate {
    /// `none`: there is nothing to undo.
    None(Spot),
    /// The task that undoes it.
    By(Box<Undo>),
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    /// Where it stands.
    pub spot: Spot,
    /// `src`.
    pub src: Src,
    /// `src` as written.
    pub src_said: Text,
    /// `input`.
    pub input: Option<Template>,
    /// `from: start` instead of `success`.
    pub from_start: bool,
    /// `once: true`: keep the first of one invoke id.
    pub once: bool,
    /// `timeout` of one attempt.
    pub timeout: Option<Delay>,
    /// `heartbeat`.
    pub heartbeat: Option<Delay>,
    /// `retry`.
    pub retry: Option<RetryUse>,
}

/// A retry policy by name or in place.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryUse {
    /// One of `retries`.
    Ref(Text),
    /// Written in place.
    Inline(Retry),
}

/// A retry policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Where it stands.
    pub spot: Spot,
    /// `maxAttempts`.
    pub max_attempts: u32,
    /// `initialInterval`, in milliseconds.
    pub initial_interval_ms: u64,
    /// `backoff`: the factor between two intervals.
    pub backoff: f64,
    /// `maxInterval`, in milliseconds.
    pub max_interval_ms: u64,
    /// `nonRetryable`: codes, or prefixes such as `net.*`.
    pub non_retryable: Vec<Text>,
}
