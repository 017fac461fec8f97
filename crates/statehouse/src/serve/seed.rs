//! What a new cluster begins with: a tenant, a key for it, and in `dev` a sample definition.
//!
//! All of it goes through the same door as any other command, with keys of its own, so that doing it again
//! after a crash changes nothing.
//!
//! Deliberately absent: a way in that needs no key. Whoever can write to the directory makes the first one.

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use statehouse_contract::{
    Actor, Answer, Command, CommandEnvelope, DefinitionName, Digest, Json, Key, KeyText, Query,
    Receipt, ReceiptKind, Rejection, RejectionCode, RoleName, Target, TenantId, TraceContext,
    limits,
};

use super::House;
use crate::{
    api::{Backend as _, token_hash},
    cli::exit::{Exit, Failure},
};

/// The first tenant.
pub(crate) const TENANT: &str = "default";

/// The definition that `dev` loads.
pub(crate) const SAMPLE: &str = include_str!("../../../../config/definitions/approval.yaml");

/// Everything that a holder may do, and the role that one of the worked examples asks for.
const ROLES: [&str; 7] =
    ["reader", "caller", "operator", "deployer", "worker", "admin", "approver"];

/// How long the first commands wait for the other nodes: a majority of them may be starting too.
const MAJORITY_WAIT_MAX: Duration = Duration::from_secs(60);
const MAJORITY_PAUSE: Duration = Duration::from_millis(100);

/// Makes what a development cluster begins with, as soon as there is a majority: the tenant, the key of the token in a
/// file, and the sample definition.
pub(crate) async fn development(house: &House, token_file: &Path) -> Result<(), Failure> {
    let token = std::fs::read_to_string(token_file);
    let token = token.map_err(|error| Failure::file("read the token in", token_file, &error))?;
    let begin = Instant::now();
    loop {
        let made = async {
            tenant_with_key(house, token.trim(), "dev").await?;
            revoke_others(house, token.trim(), "dev").await?;
            sample(house).await.map(|_| ())
        };
        match made.await {
            Err(failure)
                if failure.exit == Exit::Unavailable && begin.elapsed() < MAJORITY_WAIT_MAX =>
            {
                tokio::time::sleep(MAJORITY_PAUSE).await;
            }
            end => return end,
        }
    }
}

/// Makes the first tenant and a key with every role, unless the key is there already.
pub(crate) async fn tenant_with_key(
    house: &House,
    token: &str,
    holder: &str,
) -> Result<(), Failure> {
    let hash = token_hash(token);
    let known = house
        .query(Query::Credential { hash })
        .await
        .map_err(|no| failed("look for the key", &no))?;
    if matches!(known, Answer::Credential(Some(_))) {
        return Ok(());
    }
    let make = Command::PutTenant { tenant: tenant() };
    let made = house.submit(envelope(Target::Cluster, make, "seed-tenant")?).await;
    unless_there("make the tenant", made)?;
    let id = id(token, holder);
    let roles = ROLES.iter().filter_map(|role| RoleName::parse(role).ok()).collect();
    let put = Command::PutKey { id: id.as_str().into(), hash, name: holder.into(), roles };
    let key = format!("seed-key-{id}");
    let made = house.submit(envelope(Target::Tenant(tenant()), put, &key)?).await;
    unless_there("make the key", made)?;
    // The key was made by whoever leads shard 0; this node's own copy follows a moment later, and this read waits for it.
    house.query(Query::Tenants).await.map_err(|no| failed("look for the tenant", &no))?;
    let found = house
        .query(Query::Credential { hash })
        .await
        .map_err(|no| failed("look for the key", &no))?;
    if matches!(found, Answer::Credential(Some(_))) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Conflict,
        "token_revoked",
        "another token took the place of this one before, and a key that was revoked stays so"
            .to_owned(),
        "choose a new --token",
    ))
}

/// Revokes every key of a holder but that of a token: a token that is set takes the place of the one before.
pub(crate) async fn revoke_others(house: &House, token: &str, holder: &str) -> Result<(), Failure> {
    let question = Query::Tenant { tenant: tenant() };
    let answer = house.query(question).await.map_err(|no| failed("look for other keys", &no))?;
    let Answer::Tenant(view) = answer else { return Ok(()) };
    let own = id(token, holder);
    let others = view.keys.iter().filter(|key| {
        let is_seeded = key.name == holder && key.id.starts_with(&format!("{holder}-"));
        is_seeded && !key.revoked && key.id != own
    });
    for other in others {
        let revoke = Command::RevokeKey { id: other.id.as_str().into() };
        let key = format!("seed-revoke-{}", other.id);
        let done = house.submit(envelope(Target::Tenant(tenant()), revoke, &key)?).await;
        unless_there("revoke the key before", done)?;
    }
    Ok(())
}

fn id(token: &str, holder: &str) -> String {
    let digits: String = token_hash(token).to_string().chars().take(8).collect();
    format!("{holder}-{digits}")
}

/// Deploys the sample definition unless a version of it is there; returns its name.
pub(crate) async fn sample(house: &House) -> Result<String, Failure> {
    let broken = |why: &str| Failure::broken(format!("the embedded sample definition {why}"));
    let document = statehouse_chart::load::load(SAMPLE).map_err(|_| broken("does not load"))?;
    let canonical = document.canonical();
    let id = document.node("/id").and_then(|node| node.as_text()).unwrap_or_default();
    let name = DefinitionName::parse(id).map_err(|error| broken(&error.to_string()))?;
    let question = Query::Definition { tenant: tenant(), name: name.clone(), version: None };
    match house.query(question).await {
        Ok(_) => return Ok(name.to_string()),
        Err(no) if no.code == RejectionCode::UnknownDefinition => {}
        Err(no) => return Err(failed("look for the sample definition", &no)),
    }
    let version = document
        .node("/version")
        .and_then(|node| node.as_integer())
        .and_then(|n| u32::try_from(n).ok());
    let digest = Digest::of(canonical.as_bytes());
    let key = format!("seed-sample-{digest}");
    let deploy = Command::Deploy {
        name: name.clone(),
        version,
        digest,
        document: Json::from_trusted(canonical),
    };
    let deployed = house.submit(envelope(Target::Tenant(tenant()), deploy, &key)?).await;
    unless_there("deploy the sample definition", deployed)?;
    Ok(name.to_string())
}

/// Longest token that a person may choose.
const TOKEN_BYTES_MAX: usize = 256;

/// Checks a token that a person has chosen.
pub(crate) fn token_text(text: &str) -> Result<String, String> {
    let is_fit = (1..=TOKEN_BYTES_MAX).contains(&text.len());
    if is_fit && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("a token is 1 to {TOKEN_BYTES_MAX} visible ASCII characters without spaces"))
}

/// Reads a token that a file holds already; nothing where there is no file, or an empty one.
///
/// # Errors
/// It holds no token, or others than its owner can read it. The file is left as it is.
pub(crate) fn kept_secret(path: &Path) -> Result<Option<String>, Failure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file("read the token in", path, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() {
        return Ok(None);
    }
    let unfit = |why: String, next: &str| {
        let reason = format!("{} is there, and {why}; nothing was changed", path.display());
        Err(Failure::new(Exit::Conflict, "token_file", reason, next))
    };
    let token = match token_text(text.trim()) {
        Ok(token) => token,
        Err(why) => return unfit(why, "choose another --admin-token-file, or remove this one"),
    };
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
    let mode = mode.map_err(|error| Failure::file("look at", path, &error))?;
    if mode & 0o077 != 0 {
        let next =
            "chmod 600 it if its token is to be the admin's, or choose another --admin-token-file";
        return unfit(format!("others can read it (mode {:o})", mode & 0o777), next);
    }
    Ok(Some(token))
}

/// Writes a token to a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, token: &str) -> Result<(), Failure> {
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // An older file keeps its mode when it is opened.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(format!("{token}\n").as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| Failure::file("write the token to", path, &error))
}

/// Returns the first tenant, in which the operators of the cluster are at home.
pub(crate) fn tenant() -> TenantId {
    TenantId::parse(TENANT).expect("the constant is a tenant's name")
}

fn envelope(target: Target, command: Command, key: &str) -> Result<CommandEnvelope, Failure> {
    let key = KeyText::parse(key).map_err(|error| Failure::broken(error.to_string()))?;
    Ok(CommandEnvelope {
        fingerprint: Digest::of(key.as_str().as_bytes()),
        key: Key::Operator(key),
        target,
        command,
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: limits::DEADLINE_MS_DEFAULT,
        expected: None,
        actor: Actor::system(),
        reason: Some("first start".into()),
        attempt: 1,
    })
}

// What is there already needs not be made again. A refusal that was stored is a receipt.
fn unless_there(what: &str, answer: Result<Receipt, Rejection>) -> Result<(), Failure> {
    match answer {
        Err(no) if no.code != RejectionCode::AlreadyExists => Err(failed(what, &no)),
        Ok(Receipt { kind: ReceiptKind::Refused(code), body, .. })
            if code != RejectionCode::AlreadyExists =>
        {
            Err(Failure::problem(code.status(), body.to_value()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn failed(what: &str, no: &Rejection) -> Failure {
    Failure::new(
        Exit::of_class(no.code.class()),
        no.code.code(),
        format!("cannot {what}: {}", no.detail),
        no.code.advice().text(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_that_is_there_is_taken_or_refused_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin-token");
        assert_eq!(kept_secret(&path).unwrap(), None);
        write_secret(&path, "abc").unwrap();
        assert_eq!(kept_secret(&path).unwrap().as_deref(), Some("abc"));
        for bytes in [&b"two words"[..], b"two\nlines", b"\xff\xfe"] {
            std::fs::write(&path, bytes).unwrap();
            let no = kept_secret(&path).unwrap_err().to_string();
            assert!(no.contains("visible ASCII") && no.contains("nothing was changed"), "{no}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::write(&path, "abc").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let no = kept_secret(&path).unwrap_err().to_string();
        assert!(no.contains("mode 644") && no.contains("chmod 600"), "{no}");
    }
}
