//! Definitions: check them, store them, list them, choose one.
//!
//! A document is read, checked in full and fingerprinted here; the house stores what was authored. Findings
//! are not part of the stored answer: they follow from the document, so they are made again and added.
//!
//! Checking is work for a processor: it runs off the executor, few at a time.
//!
//! Absent on purpose: "same version, other content". Only the shard that holds definitions can judge it.

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::Value;

use statehouse_chart::Finding;
use statehouse_contract::{
    Answer, Command, DefinitionName, Digest, Json, Key, Query, ReceiptKind, Rejection,
    RejectionCode, Target,
    view::{DefinitionRow, Page, PageEnd},
};

use super::{
    answer,
    call::Call,
    canonical::fingerprint,
    check::{self, Checked},
    problem::{Outcome, internal, invalid, json, misanswered},
};

/// Checks a document and stores it, or only checks it.
pub(super) async fn deploy(call: Call) -> Outcome {
    let checked = checked(&call).await?;
    if call.query.flag("dry_run") {
        let Checked { name, version, digest, findings, .. } = checked;
        let answer = serde_json::json!({
            "name": name, "version": version, "digest": digest, "findings": findings, "dry_run": true,
        });
        return json(StatusCode::OK, &answer);
    }
    let Checked { name, version, digest, document, findings } = checked;
    let command = Command::Deploy { name, version, digest, document };
    let target = Target::Tenant(call.tenant().clone());
    // The digest keeps the order of keys, which has a meaning in a definition; JCS would not.
    let print = Digest::of(format!("deploy\0{digest}").as_bytes());
    let envelope = call.envelope(target, command, Key::Client(call.key()), print);
    let receipt = call.submit(envelope).await?;
    match receipt.kind {
        ReceiptKind::Refused(_) => Ok(answer::receipt(&receipt)),
        ReceiptKind::Created | ReceiptKind::Accepted | ReceiptKind::Postponed => {
            let findings = serde_json::to_string(&findings).map_err(|_| internal())?;
            let body = answer::spliced(&receipt, "findings", &findings);
            Ok(answer::with_body(&receipt, body))
        }
    }
}

async fn checked(call: &Call) -> Result<Checked, Rejection> {
    let bytes: Bytes = call.raw.clone();
    let older = off_the_executor(call, move || check::earlier(&bytes)).await?;
    let mut documents = Vec::new();
    if let Some((name, versions)) = older {
        for version in versions {
            let (tenant, name) = (call.tenant().clone(), name.clone());
            let query = Query::Definition { tenant, name, version: Some(version) };
            match call.ask(query, 0).await {
                Ok(Answer::Definition(view)) => documents.push(view.document),
                // The validator says that it is not there, at the place that names it.
                Err(no) if no.code == RejectionCode::UnknownDefinition => {}
                Err(no) => return Err(no),
                Ok(_) => return Err(misanswered("definition")),
            }
        }
    }
    let bytes: Bytes = call.raw.clone();
    off_the_executor(call, move || check::check(&bytes, &documents))
        .await?
        .map_err(|findings| refused(&findings))
}

/// Runs work for a processor where it blocks nobody, few pieces at a time.
async fn off_the_executor<T: Send + 'static>(
    call: &Call,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Rejection> {
    let permit = call.state.checking().acquire().await.map_err(|_| internal())?;
    let result = tokio::task::spawn_blocking(work).await;
    drop(permit);
    result.map_err(|error| {
        tracing::error!(%error, "a definition's check did not come to its end");
        internal()
    })
}

fn refused(findings: &[Finding]) -> Rejection {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let first = findings.iter().find(|finding| finding.is_error());
    let detail = match first {
        Some(first) => format!(
            "{errors} error{}; the first at line {}, column {}: {}",
            if errors == 1 { "" } else { "s" },
            first.place.line,
            first.place.column,
            first.message
        ),
        None => "the definition was refused".to_owned(),
    };
    let list = serde_json::to_value(findings).unwrap_or_default();
    let mut rejection = Rejection::gateway(RejectionCode::InvalidDefinition, detail);
    rejection.extensions.push(("findings".into(), Json::from_value(&list)));
    rejection
}

/// Lists a tenant's definitions.
pub(super) async fn list(call: Call) -> Outcome {
    let items = rows(&call).await?;
    json(StatusCode::OK, &Page { items, page: PageEnd::default() })
}

/// Lists the versions of one.
pub(super) async fn versions(call: Call) -> Outcome {
    let name = name(&call)?;
    match rows(&call).await?.into_iter().find(|row| row.name == name) {
        Some(row) => json(StatusCode::OK, &row),
        None => Err(Rejection::gateway(
            RejectionCode::UnknownDefinition,
            format!("there is no definition {name}"),
        )),
    }
}

async fn rows(call: &Call) -> Result<Vec<DefinitionRow>, Rejection> {
    let query = Query::Definitions { tenant: call.tenant().clone() };
    let Answer::Definitions(rows) = call.ask(query, 0).await? else {
        return Err(misanswered("definitions"));
    };
    Ok(rows)
}

/// Gives one definition: the version that new instances take.
pub(super) async fn current(call: Call) -> Outcome {
    one(&call, None).await
}

/// Gives one version of a definition.
pub(super) async fn version(call: Call) -> Outcome {
    let version = call.number("n")?;
    one(&call, Some(version)).await
}

async fn one(call: &Call, version: Option<u32>) -> Outcome {
    let (tenant, name) = (call.tenant().clone(), name(call)?);
    let query = Query::Definition { tenant, name, version };
    let Answer::Definition(view) = call.ask(query, 0).await? else {
        return Err(misanswered("definition"));
    };
    json(StatusCode::OK, &*view)
}

/// Chooses the version that new instances take.
pub(super) async fn set_current(call: Call) -> Outcome {
    let name = name(&call)?;
    let version = call.members.get("version").and_then(Value::as_u64).unwrap_or_default();
    let version = u32::try_from(version)
        .map_err(|_| invalid("body member version: versions are numbers below 4294967296"))?;
    let print = fingerprint("set_current", name.as_str(), &call.members);
    let target = Target::Tenant(call.tenant().clone());
    let command = Command::SetCurrent { name, version };
    let envelope = call.envelope(target, command, Key::Client(call.key()), print);
    Ok(answer::receipt(&call.submit(envelope).await?))
}

fn name(call: &Call) -> Result<DefinitionName, Rejection> {
    DefinitionName::parse(call.param("name"))
        .map_err(|error| invalid(format!("path, segment {{name}}: {error}")))
}
