//! Tenants, API keys, quotas: the administrator's routes.
//!
//! The secret of a key is made here, shown once, and goes no further than its hash: the log never sees it.
//! A repeat of the command therefore cannot show it again; it says to make another key.
//!
//! Absent on purpose: taking a tenant away.

use axum::http::StatusCode;
use serde_json::Value;

use statehouse_contract::{
    Answer, Command, Digest, Key, Query, Quota, Receipt, ReceiptKind, Rejection, RoleName, Target,
    TenantId,
    id::base32,
    limits,
    view::{Page, PageEnd},
};

use super::{
    answer,
    auth::{new_token, token_hash},
    call::Call,
    canonical::fingerprint,
    fields::text,
    problem::{Outcome, invalid, json, misanswered},
};

/// Most roles of one key.
const ROLES_MAX: usize = 64;

pub(super) async fn submit(
    call: &Call,
    target: Target,
    command: Command,
    print: Digest,
) -> Result<Receipt, Rejection> {
    let mut envelope = call.envelope(target, command, Key::Operator(call.key()), print);
    // Tenants and keys have no version to compare.
    envelope.expected = None;
    envelope.reason = text(&call.members, "reason").map(Into::into);
    call.submit(envelope).await
}

/// Makes a tenant.
pub(super) async fn put_tenant(call: Call) -> Outcome {
    let tenant = text(&call.members, "tenant").unwrap_or_default();
    let tenant =
        TenantId::parse(tenant).map_err(|error| invalid(format!("body member tenant: {error}")))?;
    let print = fingerprint("put_tenant", "", &call.members);
    let receipt = submit(&call, Target::Cluster, Command::PutTenant { tenant }, print).await?;
    Ok(answer::receipt(&receipt))
}

/// Lists every tenant.
pub(super) async fn tenants(call: Call) -> Outcome {
    let Answer::Tenants(names) = call.ask(Query::Tenants, 0).await? else {
        return Err(misanswered("tenants"));
    };
    let items = names.into_iter().map(|tenant| serde_json::json!({"tenant": tenant})).collect();
    json(StatusCode::OK, &Page::<Value> { items, page: PageEnd::default() })
}

/// Tells a tenant's quota and keys, without secrets.
pub(super) async fn tenant(call: Call) -> Outcome {
    let query = Query::Tenant { tenant: call.tenant().clone() };
    let Answer::Tenant(view) = call.ask(query, 0).await? else {
        return Err(misanswered("tenant"));
    };
    json(StatusCode::OK, &*view)
}

/// Makes an API key and shows its secret, once.
pub(super) async fn put_key(call: Call) -> Outcome {
    let name = text(&call.members, "name").unwrap_or_default();
    if name.is_empty() || name.len() > limits::ACTOR_BYTES_MAX || name.chars().any(char::is_control)
    {
        return Err(invalid(format!(
            "body member name: 1 to {} bytes without control characters are allowed",
            limits::ACTOR_BYTES_MAX
        )));
    }
    let roles = roles(&call)?;
    let print = fingerprint("put_key", "", &call.members);
    let token = new_token();
    let key = call.key();
    let mut hash = blake3::Hasher::new();
    for part in [call.tenant().as_str(), key.as_str()] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    // The id follows from the idempotency key, so that a repeat names the same key.
    let id = format!("k-{}", base32(hash.finalize().as_bytes(), 16));
    let command =
        Command::PutKey { id: id.into(), hash: token_hash(&token), name: name.into(), roles };
    let target = Target::Tenant(call.tenant().clone());
    let mut envelope = call.envelope(target, command, Key::Operator(key), print);
    envelope.expected = None;
    let receipt = call.submit(envelope).await?;
    match (receipt.kind, receipt.replayed) {
        (ReceiptKind::Refused(_), _) => Ok(answer::receipt(&receipt)),
        (_, true) => {
            let note =
                "\"the secret was shown once and is not kept; make another key if it is lost\"";
            let body = answer::spliced(&receipt, "note", note);
            Ok(answer::with_body(&receipt, body))
        }
        (_, false) => {
            let body = answer::spliced(&receipt, "token", &format!("\"{token}\""));
            Ok(answer::with_body(&receipt, body))
        }
    }
}

fn roles(call: &Call) -> Result<Vec<RoleName>, Rejection> {
    let named = call.members.get("roles").and_then(Value::as_array);
    let named: Vec<&str> = named.into_iter().flatten().filter_map(Value::as_str).collect();
    if named.is_empty() || named.len() > ROLES_MAX {
        return Err(invalid(format!("body member roles: 1 to {ROLES_MAX} roles are allowed")));
    }
    let parse = |role: &str| {
        RoleName::parse(role).map_err(|error| invalid(format!("body member roles: {error}")))
    };
    named.into_iter().map(parse).collect()
}

/// Makes an API key useless.
pub(super) async fn revoke_key(call: Call) -> Outcome {
    let id = call.param("key");
    if id.is_empty() || id.len() > limits::NAME_BYTES_MAX {
        return Err(invalid(format!(
            "path, segment {{key}}: 1 to {} bytes are allowed",
            limits::NAME_BYTES_MAX
        )));
    }
    let print = fingerprint("revoke_key", id, &call.members);
    let target = Target::Tenant(call.tenant().clone());
    let receipt = submit(&call, target, Command::RevokeKey { id: id.into() }, print).await;
    // Even an unknown outcome may have been a revocation.
    call.state.remembered().clear();
    Ok(answer::receipt(&receipt?))
}

/// Sets what a tenant may use.
pub(super) async fn set_quota(call: Call) -> Outcome {
    let print = fingerprint("set_quota", "", &call.members);
    let target = Target::Tenant(call.tenant().clone());
    let number = |name: &str| call.members.get(name).and_then(Value::as_u64);
    let small = |name: &str| {
        number(name)
            .map(u32::try_from)
            .transpose()
            .map_err(|_| invalid(format!("body member {name}: at most {} is allowed", u32::MAX)))
    };
    // A bound that nobody keeps would be worse than none.
    if number("instances").is_some() {
        let detail = "body member instances: this release does not bound instances; leave it out";
        return Err(invalid(detail));
    }
    let quota = Quota {
        commands_per_s: small("commands_per_s")?,
        instances: None,
        refusals_per_s: small("refusals_per_s")?,
    };
    let receipt = submit(&call, target, Command::SetQuota(quota), print).await?;
    Ok(answer::receipt(&receipt))
}
