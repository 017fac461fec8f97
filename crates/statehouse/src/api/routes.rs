//! What a row of the route table says.
//!
//! One table ([`super::table`]) makes the router, the roles, the checks of parameters and body members, the
//! metric labels and `/openapi.json`. So they cannot disagree, and a route without a row does not exist.
//!
//! Absent on purpose: regular expressions, optional segments, anything that needs to be tried: a path and a
//! method lead to one row or to none.

use futures::future::BoxFuture;

use statehouse_contract::Operation;
use statehouse_telemetry::Tag;

use super::{call::Call, problem::Outcome};

/// What answers a call.
pub(super) type Handler = fn(Call) -> BoxFuture<'static, Outcome>;

/// How a route may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Reads.
    Get,
    /// Changes, or asks with a body.
    Post,
    /// Sets.
    Put,
    /// Takes away.
    Delete,
}

impl Method {
    /// Returns the method's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A role of `contract.md`, section 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads everything of its tenant.
    Reader,
    /// Starts instances and sends events; reads instances.
    Caller,
    /// Operator verbs; reads instances and the cluster.
    Operator,
    /// Deploys and chooses definitions; reads them.
    Deployer,
    /// Leases tasks and reports on them. `worker:<queue>` limits it to a queue.
    Worker,
    /// Everything of its tenant with its keys; in the first tenant also tenants, keys, quotas and the cluster of all.
    Admin,
}

impl Role {
    /// Returns the word on a credential.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::Deployer => "deployer",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
}

/// Who may call a route, and on whose things. Nothing else opens a door: deny by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody, without a credential.
    Open,
    /// A holder of one of the roles, on its own tenant only.
    Own(&'static [Role]),
    /// A holder of one of the roles, on its own tenant or on none, and an administrator of the first tenant on any:
    /// administration, no data.
    Any(&'static [Role]),
    /// A holder of one of the roles in the first tenant, where the operators of the cluster are at home: what no tenant
    /// may do for itself.
    Home(&'static [Role]),
}

/// Which bounded pool a request takes its permit from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    /// None: the question whether we are alive has to be answered under any load.
    Free,
    /// Work.
    Ingress,
    /// Waiting for something to happen: long polls and watches hold no permit of the first pool.
    Waiting,
}

/// What kind of value a parameter or member takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A position that Statehouse gave out; empty means none.
    Position,
    /// A non-negative integer.
    Number,
    /// `true` or `false`.
    Flag,
    /// A duration such as `30s` or `500ms`.
    Duration,
    /// A JSON object.
    Object,
    /// A list of texts.
    Texts,
    /// Any JSON value.
    Any,
}

impl Kind {
    /// Returns the kind in words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Position => "a position that Statehouse gave out",
            Self::Number => "a non-negative integer",
            Self::Flag => "true or false",
            Self::Duration => "a duration such as 30s or 500ms",
            Self::Object => "an object",
            Self::Texts => "a list of texts",
            Self::Any => "any JSON value",
        }
    }
}

/// A query parameter or a member of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Whether it has to be there.
    pub(super) needed: bool,
    /// What it means.
    pub(super) about: &'static str,
}

/// Returns a field that may be left out.
pub(super) const fn may(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, needed: false, about }
}

/// Returns a field that has to be there.
pub(super) const fn must(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, needed: true, about }
}

/// What a request's body is.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyShape {
    /// Not read.
    None,
    /// A JSON object with these members and no others; empty means `{}`.
    Members(&'static [Field]),
    /// An event's payload: any JSON object; empty means `{}`.
    Payload,
    /// A definition in YAML or JSON.
    Definition,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// How it is called.
    pub(super) method: Method,
    /// The template of its path, in axum's notation.
    pub(super) path: &'static str,
    /// Its name: metric label and OpenAPI's `operationId`.
    pub(super) name: &'static str,
    /// What it does, in one sentence.
    pub(super) about: &'static str,
    /// Who may call it.
    pub(super) access: Access,
    /// What kind of work it is.
    pub(super) operation: Operation,
    /// Where its permit comes from.
    pub(super) pool: Pool,
    /// Its query parameters.
    pub(super) query: &'static [Field],
    /// Its body.
    pub(super) body: BodyShape,
    /// Whether an idempotency key has to come with it.
    pub(super) keyed: bool,
    /// Its good answers: status, and the name of the answer's schema.
    pub(super) answers: &'static [(u16, &'static str)],
    /// What answers it.
    pub(super) handler: Handler,
}

impl Route {
    /// Returns whether a call is judged at an instance's version (`If-Match`).
    pub(super) fn takes_version(&self) -> bool {
        self.method != Method::Get && self.path.contains("/instances/{id}/")
    }

    /// Returns whether its answers are about one instance.
    pub(super) fn is_about_an_instance(&self) -> bool {
        self.path.contains("/instances/{id}") || self.name == "start"
    }

    /// Returns a route that reads, with nothing special about it.
    pub(super) const fn new(
        method: Method,
        path: &'static str,
        name: &'static str,
        access: Access,
        handler: Handler,
    ) -> Self {
        Self {
            method,
            path,
            name,
            about: "",
            access,
            operation: Operation::Read,
            pool: Pool::Ingress,
            query: &[],
            body: BodyShape::None,
            keyed: false,
            answers: &[],
            handler,
        }
    }

    /// Says what it does and how it answers.
    pub(super) const fn says(
        mut self,
        about: &'static str,
        answers: &'static [(u16, &'static str)],
    ) -> Self {
        self.about = about;
        self.answers = answers;
        self
    }

    /// Makes it a change of a kind.
    pub(super) const fn does(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }

    /// Gives it query parameters.
    pub(super) const fn asks(mut self, query: &'static [Field]) -> Self {
        self.query = query;
        self
    }

    /// Gives it a body.
    pub(super) const fn takes(mut self, body: BodyShape) -> Self {
        self.body = body;
        self
    }

    /// Makes an idempotency key necessary.
    pub(super) const fn keyed(mut self) -> Self {
        self.keyed = true;
        self
    }

    /// Takes its permit elsewhere.
    pub(super) const fn from(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Returns whether its path names a tenant.
    pub(super) fn names_tenant(&self) -> bool {
        self.path.contains("{t}")
    }
}

/// A route as a metric label: the table is a closed list.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteTag(pub(super) &'static str);

impl Tag for RouteTag {
    const KEY: &'static str = "route";

    fn value(self) -> &'static str {
        self.0
    }
}
