//! `statehouse tenant …`: tenants, their API keys and quotas. Needs the role `admin`.
//!
//! `--tenant` says whose keys and quota; `create` names the new tenant itself. The secret of a key is in one
//! answer only, the one that made it: a repeat of the same request does not show it again.
//!
//! Deliberately absent: deleting a tenant.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use statehouse_sdk::{Body, Request, escape};

use super::{
    again::Again,
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a tenant.
    Create {
        /// Its name: 1 to 64 of a-z, 0-9 and -.
        #[arg(value_parser = super::tenant_id)]
        name: String,
        #[command(flatten)]
        again: Again,
    },
    /// List tenants.
    List,
    /// Show the tenant's quota and keys.
    Show,
    /// Make, revoke and list the tenant's API keys.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Set the tenant's limits; a limit that is left out is none.
    Quota(Quota),
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Make a key and print its token, once.
    Create {
        /// Name of its holder; stands in history and guards.
        #[arg(long)]
        name: String,
        /// What it may do, separated by commas: reader, caller, operator, deployer, admin, or a role of a definition.
        #[arg(long = "role", alias = "roles", value_delimiter = ',', required = true)]
        roles: Vec<String>,
        #[command(flatten)]
        again: Again,
    },
    /// Make a key useless.
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
        #[command(flatten)]
        again: Again,
    },
    /// List keys, without their tokens.
    List,
}

/// `tenant quota`.
#[derive(Debug, Args)]
pub(crate) struct Quota {
    /// Commands a second that the tenant may send to one node.
    #[arg(long, value_name = "N")]
    commands_per_s: Option<u32>,
    /// Logged refusals a second.
    #[arg(long, value_name = "N")]
    refusals_per_s: Option<u32>,
    #[command(flatten)]
    again: Again,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    let output = session.output;
    match verb {
        Verb::Create { name, again } => {
            let body = Body::Json(json!({"tenant": name}));
            let request = again.on(Request::post("/v1/tenants", body));
            session.show(&request, |_| format!("tenant {name} is there")).await
        }
        Verb::List => {
            let table = |body: &Value| {
                let row = |item: &Value| [text(item, "tenant")];
                output.table(["tenant"], items(body, "items").iter().map(row).collect())
            };
            session.show(&Request::get("/v1/tenants"), table).await
        }
        Verb::Show => {
            let table = |body: &Value| {
                let quota = body.get("quota").unwrap_or(&Value::Null);
                let pairs = [
                    ("tenant", text(body, "tenant")),
                    ("commands/s", text(quota, "commands_per_s")),
                    ("refusals/s", text(quota, "refusals_per_s")),
                ];
                format!("{}\n\n{}", output.pairs(&pairs), keys(session, body))
            };
            session.show(&Request::get(session.path("")), table).await
        }
        Verb::Key(verb) => key(verb, session).await,
        Verb::Quota(quota) => {
            let body = json!({
                "commands_per_s": quota.commands_per_s,
                "refusals_per_s": quota.refusals_per_s,
            });
            let request = Request::post(session.path("/quota"), Body::Json(body));
            let request = quota.again.on(request);
            session.show(&request, |_| format!("the quota of {} is set", session.tenant)).await
        }
    }
}

async fn key(verb: KeyVerb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        KeyVerb::Create { name, roles, again } => {
            let body = Body::Json(json!({"name": name, "roles": roles}));
            let request = again.on(Request::post(session.path("/keys"), body));
            let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
            if reply.body.get("token").is_none() {
                return Err(secret_is_lost(&text(&reply.body, "id")));
            }
            session.output.show(&reply.body, |body| token(session, body))?;
            Ok(Exit::Ok)
        }
        KeyVerb::Revoke { id, again } => {
            let path = session.path(&format!("/keys/{}/revoke", escape(&id)));
            let request = again.on(Request::post(path, Body::Json(json!({}))));
            session.show(&request, |_| format!("key {id} is revoked")).await
        }
        KeyVerb::List => {
            session.show(&Request::get(session.path("")), |body| keys(session, body)).await
        }
    }
}

/// The key is there, and the one answer that had its secret did not arrive.
fn secret_is_lost(id: &str) -> Failure {
    let what =
        format!("key {id} was made by an earlier attempt, and its token was in that answer alone");
    let next = format!("revoke it (`statehouse tenant key revoke {id}`) and make another one");
    Failure::new(Exit::Conflict, "token_lost", what, next)
}

fn token(session: &Session, body: &Value) -> String {
    session.output.pairs(&[
        ("key", text(body, "id")),
        ("roles", text(body, "roles")),
        ("token", text(body, "token")),
        ("note", "keep it: it is not shown again".to_owned()),
    ])
}

fn keys(session: &Session, body: &Value) -> String {
    let row = |item: &Value| {
        let state = if item.get("revoked").and_then(Value::as_bool) == Some(true) {
            "revoked"
        } else {
            "valid"
        };
        [text(item, "id"), text(item, "name"), text(item, "roles"), state.to_owned()]
    };
    session
        .output
        .table(["key", "name", "roles", "state"], items(body, "keys").iter().map(row).collect())
}
