//! What rows of the route table have in common: who may call, which fields, which answers.
//!
//! Absent on purpose: what only one row has; that stands in the row.

use super::routes::{
    Access::{self, Any, Home, Own},
    BodyShape, Field, Kind, Role, may, must,
};

/// Who reads instances.
pub(super) const READ: Access = Own(&[Role::Reader, Role::Caller, Role::Operator, Role::Admin]);
/// Who starts and sends.
pub(super) const CALL: Access = Own(&[Role::Caller, Role::Admin]);
/// Who operates.
pub(super) const OPERATE: Access = Own(&[Role::Operator, Role::Admin]);
/// Who reads definitions.
pub(super) const STUDY: Access =
    Own(&[Role::Reader, Role::Caller, Role::Operator, Role::Deployer, Role::Admin]);
/// Who deploys.
pub(super) const DEPLOY: Access = Own(&[Role::Deployer, Role::Admin]);
/// Who works.
pub(super) const WORK: Access = Own(&[Role::Worker, Role::Admin]);
/// Who administers a tenant.
pub(super) const ADMINISTER: Access = Any(&[Role::Admin]);
/// Who runs the cluster and sets what each tenant may use.
pub(super) const GOVERN: Access = Home(&[Role::Admin]);
/// Who looks at the cluster.
pub(super) const OVERSEE: Access = Any(&[Role::Operator, Role::Admin]);

pub(super) const DRY_RUN: Field = may("dry_run", Kind::Flag, "only tell what would happen");
pub(super) const LIMIT: Field = may("limit", Kind::Number, "most rows, up to page_max");
pub(super) const TOKEN: Field = must("token", Kind::Number, "the lease's token");
pub(super) const REASON: Field = must("reason", Kind::Text, "why, for the audit");

pub(super) const FILTER: &[Field] = &[
    may("state", Kind::Text, "the id of an active state"),
    may("definition", Kind::Text, "the definition's name"),
    may("status", Kind::Text, "one status"),
    may("tag", Kind::Text, "a tag of an active state"),
    may("all", Kind::Flag, "finished instances too"),
    LIMIT,
    may("cursor", Kind::Text, "where the page before ended"),
    COMPLETE,
];
pub(super) const COMPLETE: Field =
    may("complete", Kind::Flag, "503 instead of leaving a shard out");
pub(super) const AFTER: Field = may("after", Kind::Position, "only changes after this cursor");
pub(super) const WAIT: Field = may("wait", Kind::Duration, "one long poll instead of a stream");
pub(super) const REASONED: BodyShape = BodyShape::Members(&[REASON]);
pub(super) const RECEIPT: &[(u16, &str)] = &[(200, "Receipt")];
pub(super) const CHANGED: &[(u16, &str)] = &[(200, "Acknowledgement"), (201, "Acknowledgement")];
pub(super) const BATCHED: &[(u16, &str)] = &[(200, "Batched"), (201, "Batched")];
pub(super) const SCHEDULED: &[(u16, &str)] = &[(200, "Scheduled"), (201, "Scheduled")];

pub(super) const READ_FIELDS: &[Field] = &[
    may("consistency", Kind::Text, "linearizable (default), leader or stale"),
    may("min_version", Kind::Number, "wait until the copy has reached this version"),
];
