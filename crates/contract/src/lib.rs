//! The words that every Statehouse process agrees on.
//!
//! Identities, the command envelope, questions, answers, rejections, limits, time, the frame codec.
//! Everything here crosses a process, a disk or a release, so a change of an existing field is a
//! decision with a page in `runbooks/decisions/`.
//!
//! Read `envelope` first, then `command`, `receipt` and `rejection`: that is what Statehouse promises.
//!
//! Absent on purpose: async, IO, framework types, and anything that decides. This crate knows no other
//! crate of ours.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod build;
pub mod codec;
pub mod command;
pub mod envelope;
pub mod id;
pub mod invariant;
pub mod json;
pub mod limits;
pub mod member;
pub mod mutant;
pub mod outcome;
pub mod query;
pub mod receipt;
pub mod rejection;
pub mod task;
pub mod time;
pub mod trace;
pub mod view;

pub use build::Build;
pub use command::{ChildEnding, Command, DefinitionRef, Due, ParentRef, Quota, Verb};
pub use envelope::{Actor, CommandEnvelope, Key, KeyHash, Target};
pub use id::{
    Bucket, CorrelationId, DefinitionName, Digest, IdError, InstanceId, InstanceKey, KeyText,
    NodeId, RoleName, ShardId, TenantId, Version,
};
pub use json::Json;
pub use member::{MemberDocument, Members, Standing};
pub use mutant::Mutant;
pub use outcome::{Operation, OutcomeClass};
pub use query::{Consistency, InstanceFilter, Query, TaskFilter, WatchScope};
pub use receipt::{Receipt, ReceiptKind, StoredReceipt};
pub use rejection::{Advice, ErrorSource, Rejection, RejectionCode, Violation};
pub use task::TaskId;
pub use time::{Clock, Timestamp};
pub use trace::TraceContext;
pub use view::{Answer, Credential};
