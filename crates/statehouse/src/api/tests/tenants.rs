//! Tenants and keys: a secret is seen once, an administrator has no data.

use expect_test::expect;
use statehouse_contract::{Command, Query, ShardId, Target};

use super::{Ask, Face, Fake, answers, token_hash};

#[tokio::test]
async fn a_key_is_shown_once_and_only_its_hash_goes_in() {
    let face = Face::new(Fake::new());
    let body = r#"{"name": "ci", "roles": ["caller", "approver:eu"]}"#;
    let seen = face.send(Ask::post("/v1/tenants/acme/keys", body)).await;
    assert_eq!(seen.status, 201);
    let token = seen.json()["token"].as_str().unwrap().to_owned();
    let envelope = face.fake.last_command();
    let Command::PutKey { id, hash, name, roles } = &envelope.command else { panic!() };
    assert_eq!((*hash, &**name, roles.len()), (token_hash(&token), "ci", 2));
    assert!(!format!("{envelope:?}").contains(&token));
    let again = face.send(Ask::post("/v1/tenants/acme/keys", body)).await;
    let repeated = face.fake.last_command();
    let Command::PutKey { id: same, .. } = &repeated.command else { panic!() };
    assert_eq!((id, envelope.fingerprint), (same, repeated.fingerprint));
    assert_ne!(again.json()["token"], token);
}

#[tokio::test]
async fn a_repeat_has_no_secret_to_show() {
    let face = Face::new(Fake::new().judging(|envelope| {
        let mut receipt = answers::accept(envelope)?;
        receipt.replayed = true;
        Ok(receipt)
    }));
    let body = r#"{"name": "ci", "roles": ["caller"]}"#;
    let seen = face.send(Ask::post("/v1/tenants/acme/keys", body)).await;
    expect![[r#"
        201
        content-type: application/json
        idempotency-replayed: true
        {"id":"k-1","name":"ci","position":17,"note":"the secret was shown once and is not kept; make another key if it is lost"}
    "#]].assert_eq(&seen.transcript());
}

#[tokio::test]
async fn an_administrator_may_name_any_tenant_but_sees_no_data_of_others() {
    let face = Face::new(Fake::new());
    let seen = face.send(Ask::get("/v1/tenants/other")).await;
    assert_eq!(seen.status, 200);
    let Query::Tenant { tenant } = face.fake.last_query() else { panic!() };
    assert_eq!(tenant.as_str(), "other");
    let quota = r#"{"commands_per_s": 5, "instances": null}"#;
    assert_eq!(face.send(Ask::post("/v1/tenants/other/quota", quota)).await.status, 200);
    let envelope = face.fake.last_command();
    assert!(matches!(&envelope.target, Target::Tenant(tenant) if tenant.as_str() == "other"));
    let Command::SetQuota(quota) = envelope.command else { panic!() };
    assert_eq!((quota.commands_per_s, quota.instances), (Some(5), None));
    let quota = r#"{"instances": 7}"#;
    let refused = face.send(Ask::post("/v1/tenants/other/quota", quota)).await.refusal();
    assert!(refused.starts_with("400 invalid_request: body member instances:"), "{refused}");
    let text = "404 unknown_tenant: there is no tenant of this name that the credential may use";
    for tenant in ["other", "missing", "NOT-A-NAME", "%ff"] {
        let seen = face.send(Ask::get(format!("/v1/tenants/{tenant}/instances"))).await;
        assert_eq!(seen.refusal(), text, "{tenant}");
    }
    assert_eq!(face.send(Ask::get("/v1/tenants/NOT-A-NAME")).await.refusal(), text);
}

#[tokio::test]
async fn an_administrator_of_another_tenant_than_the_first_rules_that_one_alone() {
    let face = Face::new(Fake::new());
    let ask = async |ask: Ask| {
        let seen = face.send(ask.token("other-admin")).await;
        (
            seen.status.as_u16(),
            if seen.status.is_success() { String::new() } else { seen.refusal() },
        )
    };
    let key = r#"{"name": "n", "roles": ["admin"]}"#;
    assert_eq!(ask(Ask::get("/v1/tenants/other")).await.0, 200);
    assert_eq!(ask(Ask::post("/v1/tenants/other/keys", key)).await.0, 201);
    let foreign = "404 unknown_tenant: there is no tenant of this name that the credential may use";
    for own in [Ask::get("/v1/tenants/acme"), Ask::post("/v1/tenants/acme/keys", key)] {
        assert_eq!(ask(own).await.1, foreign);
    }
    let quota = r#"{"commands_per_s": 5}"#;
    assert_eq!(ask(Ask::post("/v1/tenants/acme/quota", quota)).await.1, foreign);
    let home = "403 forbidden: this is for administrators of the tenant acme, who run the cluster";
    for governed in [
        Ask::post("/v1/tenants", r#"{"tenant": "more"}"#),
        Ask::get("/v1/tenants"),
        Ask::post("/v1/tenants/other/quota", quota),
        Ask::get("/v1/cluster/shards/0/dump"),
        Ask::get("/v1/cluster/shards/0/snapshot"),
    ] {
        assert_eq!(ask(governed).await.1, home);
    }
}

#[tokio::test]
async fn a_revoked_key_is_forgotten_at_once_here_and_soon_elsewhere() {
    let face = Face::new(Fake::new());
    let read = || Ask::get("/v1/tenants/acme/instances/a-1").token("acme-reader");
    assert_eq!(face.send(read()).await.status, 200);
    face.fake.keys.lock().unwrap().remove(&token_hash("acme-reader"));
    assert_eq!(face.send(read()).await.status, 200, "remembered for a moment");
    *face.clock.0.lock().unwrap() += 1_000;
    assert_eq!(face.send(read()).await.status, 401);

    let caller = || Ask::get("/v1/tenants/acme/instances/a-1").token("acme-caller");
    assert_eq!(face.send(caller()).await.status, 200);
    face.fake.keys.lock().unwrap().remove(&token_hash("acme-caller"));
    assert_eq!(face.send(Ask::post("/v1/tenants/acme/keys/k-1/revoke", "{}")).await.status, 200);
    assert!(matches!(face.fake.last_command().command, Command::RevokeKey { id } if &*id == "k-1"));
    assert_eq!(face.send(caller()).await.status, 401);
}

#[tokio::test]
async fn tenants_are_made_and_listed() {
    let face = Face::new(Fake::new());
    let seen = face.send(Ask::post("/v1/tenants", r#"{"tenant": "new-one"}"#)).await;
    assert_eq!(seen.status, 200);
    let envelope = face.fake.last_command();
    assert_eq!(envelope.target, Target::Cluster);
    assert!(
        matches!(envelope.command, Command::PutTenant { tenant } if tenant.as_str() == "new-one")
    );
    let seen = face.send(Ask::get("/v1/tenants")).await;
    assert_eq!(seen.json()["items"], serde_json::json!([{"tenant": "acme"}]));
    for (body, expected) in [
        (
            r#"{"tenant": "New"}"#,
            "400 invalid_request: body member tenant: tenant has 'N' at byte 0; allowed are a-z, 0-9 and -",
        ),
        (r#"{}"#, "400 invalid_request: the body lacks the member tenant: a text (its name)"),
    ] {
        assert_eq!(face.send(Ask::post("/v1/tenants", body)).await.refusal(), expected);
    }
    for body in [
        r#"{"name": "x", "roles": []}"#,
        r#"{"name": "", "roles": ["a"]}"#,
        r#"{"name": "x", "roles": ["a b"]}"#,
    ] {
        assert_eq!(face.send(Ask::post("/v1/tenants/acme/keys", body)).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_level_is_raised_at_the_shard_that_the_path_names() {
    let face = Face::new(Fake::new());
    let body = r#"{"level": 2, "reason": "all are new"}"#;
    assert_eq!(face.send(Ask::post("/v1/cluster/shards/3/raise", body)).await.status, 200);
    let envelope = face.fake.last_command();
    assert_eq!(envelope.target, Target::Shard(ShardId(3)));
    assert_eq!(envelope.reason.as_deref(), Some("all are new"));
    assert!(matches!(envelope.command, Command::RaiseFeature { level: 2 }));
}
