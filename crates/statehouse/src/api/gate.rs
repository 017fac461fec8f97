//! The gate: what every request passes before a handler sees it, and every answer after.
//!
//! In this order: permit, credential, tenant, role, headers, query, key, body. A refusal for lack of room comes
//! before anything is read or hashed, so it costs next to nothing. Afterwards every answer, a "no" and a
//! caught panic too, gets the same headers and is counted once.
//!
//! Here it is decided, once, whether a request is traced (`sampling.rs` of telemetry); only then is a span made. Counters
//! carry what has to be known of every request.
//!
//! The permit of a request ends with the request. The permits that bound work, which outlives a caller who
//! has gone, are the shard's (`contract.md`, section 15).

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    extract::{FromRequestParts as _, RawPathParams, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures::FutureExt as _;
use serde_json::Map;
use tokio::sync::OwnedSemaphorePermit;

use statehouse_contract::{
    CorrelationId, InstanceId, InstanceKey, OutcomeClass, Rejection, RejectionCode, TenantId,
};
use statehouse_telemetry::{Leg, Sampling, Span, carry_all};

use super::{
    ApiState, answer, auth, body,
    call::Call,
    fields::{Fields, check_members},
    head::{CORRELATION, Head, TRACEPARENT},
    json,
    problem::{self, Outcome, invalid},
    routes::{Access, BodyShape, Method, Pool, Route, RouteTag},
};

/// After how long a refused caller may come back.
const COME_BACK_MS: u64 = 250;

/// Answers a request that met a row of the table.
pub(super) async fn enter(state: ApiState, route: &'static Route, request: Request) -> Response {
    let begun = Instant::now();
    let (mut parts, body) = request.into_parts();
    let path: Arc<str> = parts.uri.path().into();
    let (mut head, headers_read) = Head::read(&parts.headers);
    let span = traced(route, &head, &path);
    head.trace = span.context().clone();
    let about = Arc::new(OnceLock::new());
    let answered = async {
        let permit = admit(&state, route.pool)?;
        let grant = authorize(&state, route, &mut parts).await?;
        headers_read?;
        check_version(route, &head)?;
        let params = params(&mut parts).await?;
        let query = Fields::of_query(parts.uri.query(), route.query)?;
        check_key(route, &head, &query)?;
        let raw = body::read(route.body, &parts.headers, body).await?;
        let (members, raw) = parsed(route.body, raw)?;
        let call = Call {
            state: state.clone(),
            route,
            path: Arc::clone(&path),
            head: head.clone(),
            about: Arc::clone(&about),
            grant,
            params,
            query,
            members,
            raw,
            _permit: permit,
        };
        (route.handler)(call).await
    };
    let answered = carry_all(&head.trace, head.correlation.as_ref(), answered);
    let outcome = AssertUnwindSafe(answered).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| Err(caught(route, &*panic)));
    let mut response = finish(&state, route, head, &path, (outcome, &span), begun);
    lead(&state, about.get(), &mut response);
    response
}

/// Opens the span of a request: under the caller's, or as the first one of a trace that was drawn or asked for.
fn traced(route: &Route, head: &Head, path: &str) -> Span {
    let leg = Leg::Ingress { method: route.method.name(), route: route.path };
    let span = if head.trace.is_some() {
        Span::open(leg, &head.trace)
    } else {
        let named = || route.names_tenant().then(|| path.split('/').nth(3)).flatten();
        let tenant = named().and_then(|name| TenantId::parse(name).ok());
        let instance = tenant.as_ref().and_then(|tenant| {
            let id = path.split_once("/instances/").map(|(_, rest)| rest)?;
            let instance = InstanceId::parse(id.split('/').next()?).ok()?;
            Some(InstanceKey { tenant: tenant.clone(), instance })
        });
        let sampling = Sampling::here();
        let is_drawn = sampling.is_on()
            && route.access != Access::Open
            && (head.wants_trace || sampling.draws(tenant.as_ref(), instance.as_ref()));
        Span::root(leg, is_drawn)
    };
    span.set("http.request.method", route.method.name());
    span.set("http.route", route.path);
    span.set_with("url.path", || path.to_owned());
    if let Some(correlation) = &head.correlation {
        span.set_with("statehouse.correlation", || correlation.as_str().to_owned());
    }
    span
}

/// A condition that nobody judges must not look as if it had held.
fn check_version(route: &Route, head: &Head) -> Result<(), Rejection> {
    if head.expected.is_none() || route.method == Method::Get || route.takes_version() {
        return Ok(());
    }
    Err(invalid("header If-Match: there is no version here to be judged at; leave it out"))
}

/// Answers a request that met no row: an unknown path, or a known one with another method.
pub(super) fn stray(
    state: &ApiState,
    request: &Request,
    rejection: &Rejection,
    status: StatusCode,
) -> Response {
    let (head, _) = Head::read(request.headers());
    state.metrics().requests.record(0.0, (RouteTag("none"), rejection.code.class()));
    let mut response = problem::with_status(rejection, status, request.uri().path(), &head);
    dress(state, &head, &mut response);
    response
}

fn admit(state: &ApiState, pool: Pool) -> Result<Option<OwnedSemaphorePermit>, Rejection> {
    let (semaphore, limit) = match pool {
        Pool::Free => return Ok(None),
        Pool::Ingress => (state.ingress(), "ingress_permits"),
        Pool::Waiting => (state.waiting(), "watches_max"),
    };
    if state.draining().is_cancelled() {
        let no = Rejection::gateway(RejectionCode::Draining, "this node is shutting down");
        return Err(no.after_ms(COME_BACK_MS));
    }
    match Arc::clone(semaphore).try_acquire_owned() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) => Err(Rejection::gateway(
            RejectionCode::Overloaded,
            format!("every one of this node's {limit} is taken; nothing was done"),
        )
        .after_ms(COME_BACK_MS)),
    }
}

async fn authorize(
    state: &ApiState,
    route: &Route,
    parts: &mut Parts,
) -> Result<Option<auth::Grant>, Rejection> {
    if route.access == Access::Open {
        return Ok(None);
    }
    let holder = auth::holder(state, &parts.headers).await?;
    let named = if route.names_tenant() { named_tenant(parts).await } else { None };
    auth::grant(route, holder, named.as_deref(), state.home()).map(Some)
}

/// Returns the tenant that the path names. Another segment that is not UTF-8 must not hide it.
async fn named_tenant(parts: &mut Parts) -> Option<Box<str>> {
    match params(parts).await {
        Ok(params) => params.into_iter().find(|(name, _)| **name == *"t").map(|(_, value)| value),
        Err(_) => parts.uri.path().split('/').nth(3).map(Into::into),
    }
}

async fn params(parts: &mut Parts) -> Result<Vec<(Box<str>, Box<str>)>, Rejection> {
    let raw = RawPathParams::from_request_parts(parts, &()).await;
    let raw = raw.map_err(|_| invalid("the path is not percent-encoded UTF-8"))?;
    Ok(raw.iter().map(|(name, value)| (name.into(), value.into())).collect())
}

fn check_key(route: &Route, head: &Head, query: &Fields) -> Result<(), Rejection> {
    if route.keyed && head.key.is_none() && !query.flag("dry_run") {
        return Err(invalid(
            "send the header Idempotency-Key: 1 to 128 visible ASCII characters, new for every command \
             and the same for its repeats",
        ));
    }
    Ok(())
}

fn parsed(
    shape: BodyShape,
    raw: Bytes,
) -> Result<(Map<String, serde_json::Value>, Bytes), Rejection> {
    match shape {
        BodyShape::None | BodyShape::Definition => Ok((Map::new(), raw)),
        BodyShape::Payload => Ok((json::object(&raw)?, Bytes::new())),
        BodyShape::Members(allowed) => {
            let members = json::object(&raw)?;
            check_members(&members, allowed)?;
            Ok((members, Bytes::new()))
        }
    }
}

fn caught(route: &Route, panic: &(dyn Any + Send)) -> Rejection {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without text");
    tracing::error!(route = route.name, panic = text, "a handler panicked");
    problem::internal()
}

fn finish(
    state: &ApiState,
    route: &Route,
    mut head: Head,
    path: &str,
    (outcome, span): (Outcome, &Span),
    begun: Instant,
) -> Response {
    let (mut response, class) = match outcome {
        Ok(reply) => (reply.response, reply.class),
        Err(rejection) => {
            if rejection.code == RejectionCode::Internal {
                mark(state, &mut head);
                tracing::error!(
                    route = route.name,
                    correlation = head.correlation.as_ref().map(CorrelationId::as_str),
                    detail = &*rejection.detail,
                    "a request ended with an internal error"
                );
            }
            (problem::response(&rejection, path, &head), rejection.code.class())
        }
    };
    dress(state, &head, &mut response);
    span.set("http.response.status_code", i64::from(response.status().as_u16()));
    span.set("statehouse.outcome", class.name());
    if class == OutcomeClass::Failed {
        span.fail("the request ended with an error of ours");
    }
    let metrics = state.metrics();
    let seconds = begun.elapsed().as_secs_f64();
    metrics.requests.record(seconds, (RouteTag(route.name), class));
    state.slo().answered(route.operation, class, seconds);
    metrics.commands.add(1, (route.operation, class));
    if response.headers().contains_key(answer::REPLAYED) {
        metrics.replays.add(1, (route.operation,));
    }
    response
}

/// Names the node that leads the instance of an answer, whatever the answer says, if that is another one.
///
/// Only a caller that was let in gets this far: a stranger learns no address.
fn lead(state: &ApiState, about: Option<&InstanceKey>, response: &mut Response) {
    if let Some(leader) = about.and_then(|key| state.backend().leader_of(key))
        && let Ok(value) = HeaderValue::from_str(&leader)
    {
        response.headers_mut().insert(answer::LEADER, value);
    }
}

/// Gives a body that an operator has to look at a correlation id, when the caller gave none.
fn mark(state: &ApiState, head: &mut Head) {
    if head.correlation.is_none() {
        head.correlation = CorrelationId::parse(&own_id(state)).ok();
    }
}

/// Returns a correlation id of our own, a UUIDv7.
fn own_id(state: &ApiState) -> String {
    let now = u64::try_from(state.clock().now().0).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(now, &auth::random()).into_uuid().to_string()
}

/// Puts the headers on that every answer has.
///
/// A correlation id of our own stands here alone. In the envelope it would become part of stored refusals, and a
/// refusal's bytes follow from what the caller sent.
fn dress(state: &ApiState, head: &Head, response: &mut Response) {
    const ALWAYS: [(HeaderName, &str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    let headers: &mut HeaderMap = response.headers_mut();
    headers.reserve(ALWAYS.len() + 4);
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(answer::NODE, state.node().clone());
    let correlation = match &head.correlation {
        Some(id) => HeaderValue::from_str(id.as_str()),
        None => HeaderValue::try_from(own_id(state)),
    };
    if let Ok(value) = correlation {
        headers.insert(CORRELATION, value);
    }
    if head.trace.is_some()
        && let Ok(value) = HeaderValue::from_str(&head.trace.to_string())
    {
        headers.insert(TRACEPARENT, value);
    }
}
