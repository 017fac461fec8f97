//! From a bearer token to a tenant: the only place where a tenant is granted.
//!
//! A token is known by its BLAKE3 hash alone; the secret is neither stored nor logged nor compared. Who
//! holds it is asked of shard 0 and remembered for a moment, so a revoked key dies within that moment (at
//! once on the node that took the revocation).
//!
//! Nothing here compares secrets byte by byte: a token is only hashed, and what an attacker could learn
//! from the time of a look-up is a prefix of a hash of 256 random bits.
//!
//! Invariant `TENANT`: a [`Grant`] is made by [`grant`] alone, after the path agreed with the credential.
//! A foreign tenant and a missing one get the same answer.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use axum::http::{HeaderMap, header};

use statehouse_contract::{
    Actor, Answer, Credential, Digest, Query, Rejection, RejectionCode, TenantId, Timestamp,
    id::base32,
};

use super::{
    ApiState,
    problem::misanswered,
    routes::{Access, Role, Route},
};

/// How long a credential is remembered.
const REMEMBERED_MS: i64 = 1_000;
/// How many credentials are remembered.
const REMEMBERED_MAX: usize = 4_096;
/// Characters of a new token after its prefix: 255 of its 256 random bits.
const TOKEN_CHARACTERS: usize = 51;
/// Longest token that is hashed.
const TOKEN_BYTES_MAX: usize = 512;

/// What a caller may act on: its tenant, or the one that an administrator named.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    holder: Holder,
    named: Option<TenantId>,
}

/// Who holds a credential, and the hash by which it is found again.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    hash: Digest,
    credential: Arc<Credential>,
}

impl Grant {
    /// Returns the tenant that the call is about.
    pub(super) fn tenant(&self) -> &TenantId {
        self.named.as_ref().unwrap_or(&self.holder.credential.tenant)
    }

    /// Returns the tenant to which the caller belongs.
    pub(super) fn home(&self) -> &TenantId {
        &self.holder.credential.tenant
    }

    /// Refuses a worker whose roles name other queues than this one.
    ///
    /// # Errors
    /// `forbidden`, with the queue.
    pub(super) fn may_work_on(&self, queue: &str) -> Result<(), Rejection> {
        let roles = &self.holder.credential.roles;
        let names_it =
            |held: &statehouse_contract::RoleName| match held.as_str().strip_prefix("worker:") {
                Some(named) => named == queue,
                None => matches!(held.as_str(), "worker" | "admin"),
            };
        if roles.iter().any(names_it) {
            return Ok(());
        }
        let detail = format!(
            "this credential may not work on queue {queue:?}; it takes the role worker or worker:{queue}"
        );
        Err(Rejection::gateway(RejectionCode::Forbidden, detail))
    }

    /// Returns who asks, for entries and guards.
    pub(super) fn actor(&self) -> Actor {
        let credential = &self.holder.credential;
        Actor { name: credential.name.clone(), roles: credential.roles.clone() }
    }
}

/// Returns what `PutKey` stores of a bearer token.
#[must_use]
pub(crate) fn token_hash(token: &str) -> Digest {
    Digest::of(token.as_bytes())
}

/// Makes a bearer token from 32 random bytes.
///
/// # Panics
/// When the system has no randomness: then nothing may be handed out.
#[must_use]
pub(crate) fn new_token() -> String {
    format!("sh_{}", base32(&random::<32>(), TOKEN_CHARACTERS))
}

/// Returns random bytes from the system.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// Credentials seen a moment ago.
#[derive(Default)]
pub(super) struct Remembered(RwLock<HashMap<Digest, (Timestamp, Arc<Credential>)>>);

impl Remembered {
    fn get(&self, hash: &Digest, now: Timestamp) -> Option<Arc<Credential>> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (until, credential) = held.get(hash)?;
        (now < *until).then(|| Arc::clone(credential))
    }

    fn put(&self, hash: Digest, now: Timestamp, credential: &Arc<Credential>) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= REMEMBERED_MAX {
            held.retain(|_, (until, _)| now < *until);
        }
        if held.len() < REMEMBERED_MAX {
            held.insert(hash, (now.after_ms(REMEMBERED_MS), Arc::clone(credential)));
        }
    }

    /// Forgets everybody: a key was revoked here.
    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Finds the holder of the request's credential.
pub(super) async fn holder(state: &ApiState, headers: &HeaderMap) -> Result<Holder, Rejection> {
    find(state, token_hash(bearer(headers)?)).await
}

async fn find(state: &ApiState, hash: Digest) -> Result<Holder, Rejection> {
    let now = state.clock().now();
    if let Some(credential) = state.remembered().get(&hash, now) {
        return Ok(Holder { hash, credential });
    }
    let answer = state.backend().query(Query::Credential { hash }).await?;
    let Answer::Credential(found) = answer else { return Err(misanswered("credential")) };
    let found = found.ok_or_else(|| unauthenticated("the bearer token is unknown or revoked"))?;
    let credential = Arc::new(found);
    state.remembered().put(hash, now, &credential);
    Ok(Holder { hash, credential })
}

/// Asks again whether what was granted still stands.
pub(super) async fn renew(
    state: &ApiState,
    route: &Route,
    granted: &Grant,
) -> Result<(), Rejection> {
    let holder = find(state, granted.holder.hash).await?;
    let tenant = route.names_tenant().then(|| granted.tenant().as_str());
    grant(route, holder, tenant, state.home()).map(|_| ())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values
        .next()
        .ok_or_else(|| unauthenticated("send the header Authorization: Bearer <token>"))?;
    if values.next().is_some() {
        return Err(unauthenticated("header Authorization comes more than once"));
    }
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX);
    token.ok_or_else(|| unauthenticated("header Authorization is not of the form Bearer <token>"))
}

fn unauthenticated(detail: &str) -> Rejection {
    Rejection::gateway(RejectionCode::Unauthenticated, detail)
}

/// Returns whether a credential has a role; `worker:<queue>` counts as `worker`.
fn has(credential: &Credential, role: Role) -> bool {
    credential.roles.iter().any(|held| {
        held.as_str() == role.name()
            || (role == Role::Worker && held.as_str().starts_with("worker:"))
    })
}

/// Decides whether a holder may call a route about a tenant, and grants it.
///
/// The tenant is compared before the role: a foreign one looks like a missing one to everybody.
pub(super) fn grant(
    route: &Route,
    holder: Holder,
    named: Option<&str>,
    home: &TenantId,
) -> Result<Grant, Rejection> {
    let credential = &*holder.credential;
    let is_home = credential.tenant == *home;
    let (roles, may_name_others) = match route.access {
        // Nobody asks for a grant there; if somebody does, nothing is granted.
        Access::Open => (&[][..], false),
        Access::Own(roles) => (roles, false),
        Access::Any(roles) | Access::Home(roles) => {
            (roles, is_home && has(credential, Role::Admin))
        }
    };
    let named = match named {
        Some(name) if name == credential.tenant.as_str() => None,
        Some(name) if may_name_others => Some(TenantId::parse(name).map_err(|_| unknown_tenant())?),
        Some(_) => return Err(unknown_tenant()),
        None => None,
    };
    if matches!(route.access, Access::Home(_)) && !is_home {
        let detail =
            format!("this is for administrators of the tenant {home}, who run the cluster");
        return Err(Rejection::gateway(RejectionCode::Forbidden, detail));
    }
    if roles.iter().any(|role| has(credential, *role)) {
        return Ok(Grant { holder, named });
    }
    let wanted: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    Err(Rejection::gateway(
        RejectionCode::Forbidden,
        format!(
            "this needs one of the roles {}; the credential has none of them",
            wanted.join(", ")
        ),
    ))
}

/// Returns the one answer for a tenant that is missing and for one that is another's.
pub(super) fn unknown_tenant() -> Rejection {
    Rejection::gateway(
        RejectionCode::UnknownTenant,
        "there is no tenant of this name that the credential may use",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(value: &[u8]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        bearer(&headers).map(str::to_owned).map_err(|rejection| rejection.to_string())
    }

    #[test]
    fn only_a_bearer_token_is_a_credential() {
        assert_eq!(read(b"Bearer abc"), Ok("abc".to_owned()));
        assert_eq!(read(b"bearer abc"), Ok("abc".to_owned()));
        let said =
            "unauthenticated: header Authorization is not of the form Bearer <token>".to_owned();
        for value in [&b"Basic abc"[..], b"Bearer", b"Bearer  ", b"abc", b"Bearer \xff", b""] {
            assert_eq!(read(value), Err(said.clone()), "{value:?}");
        }
    }

    #[test]
    fn a_token_is_long_and_never_the_same() {
        let (one, two) = (new_token(), new_token());
        assert_eq!((one.len(), &one[..3]), (54, "sh_"));
        assert_ne!(one, two);
    }
}
