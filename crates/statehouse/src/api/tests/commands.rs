//! Commands: what goes into the house and how its stored answers come out.

use expect_test::{Expect, expect};
use statehouse_contract::{
    Command, Key, ReceiptKind, RejectionCode, Target, TraceContext, Verb, Version,
};

use super::{Ask, Face, Fake, answers};

const EVENT: &str = "/v1/tenants/acme/instances/a-1/events/approve";

async fn check(face: &Face, ask: Ask, expected: Expect) {
    expected.assert_eq(&face.send(ask).await.transcript());
}

#[tokio::test]
async fn a_start_answers_with_its_place_and_its_tag() {
    let face = Face::new(Fake::new());
    let body = r#"{"definition": "approval", "id": "a-1", "input": {"amount": 12}}"#;
    check(
        &face,
        Ask::post("/v1/tenants/acme/instances", body),
        expect![[r#"
        201
        content-type: application/json
        etag: "17.1"
        location: /v1/tenants/acme/instances/a-1
        {"version":1,"configuration":["waiting"],"position":17}
    "#]],
    )
    .await;
    let envelope = face.fake.last_command();
    assert!(
        matches!(&envelope.target, Target::Instance(key) if key.to_string() == "acme/a-1"),
        "{envelope:?}"
    );
    let Command::Start { definition, input } = &envelope.command else { panic!("{envelope:?}") };
    assert_eq!((definition.name.as_str(), definition.version), ("approval", None));
    assert_eq!(input.as_str(), r#"{"amount":12}"#);
    assert_eq!(
        (&*envelope.actor.name, envelope.attempt, envelope.remaining_ms),
        ("admin", 1, 10_000)
    );
}

#[tokio::test]
async fn a_start_without_an_id_meets_the_same_instance_again() {
    let face = Face::new(Fake::new());
    let start = |key: &str| {
        Ask::post("/v1/tenants/acme/instances", r#"{"definition": "approval"}"#)
            .header("idempotency-key", key)
    };
    let mut places = Vec::new();
    for key in ["k-1", "k-1", "k-2"] {
        let seen = face.send(start(key)).await;
        places.push(seen.header("location").unwrap().to_owned());
    }
    assert_eq!(places[0], "/v1/tenants/acme/instances/i-mphgespol7lgfzkq5qlvl5wekm");
    assert_eq!(places[0], places[1]);
    assert_ne!(places[0], places[2]);
}

#[tokio::test]
async fn how_long_a_start_waits_is_no_part_of_its_fingerprint() {
    let face = Face::new(Fake::new());
    let mut prints = Vec::new();
    for body in [
        r#"{"definition": "approval", "id": "a", "wait": "1ms"}"#,
        r#"{"id": "a", "definition": "approval"}"#,
        r#"{"id": "a", "definition": "approval", "input": {}}"#,
    ] {
        assert_eq!(face.send(Ask::post("/v1/tenants/acme/instances", body)).await.status, 201);
        prints.push(face.fake.last_command().fingerprint);
    }
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[0], prints[2]);
}

#[tokio::test]
async fn nothing_but_verb_event_and_body_is_part_of_a_fingerprint() {
    let face = Face::new(Fake::new());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let plain = || Ask::post(EVENT, r#"{"by": "me", "at": 1}"#);
    let same = [
        plain(),
        plain().header("if-match", "\"17.2\""),
        plain().header("x-correlation-id", "c-7"),
        plain().header("traceparent", parent),
        plain().header("x-statehouse-deadline-ms", "250"),
        Ask::post(EVENT, r#"{ "at": 1.0, "by": "me" }"#),
    ];
    let other = [
        Ask::post(EVENT, r#"{"by": "me", "at": 2}"#),
        Ask::post("/v1/tenants/acme/instances/a-1/events/reject", r#"{"by": "me", "at": 1}"#),
        Ask::post("/v1/tenants/acme/instances/a-1/pause", r#"{"reason": "because"}"#),
    ];
    let mut prints = Vec::new();
    for ask in same.into_iter().chain(other) {
        assert_eq!(face.send(ask).await.status, 200);
        prints.push(face.fake.last_command().fingerprint);
    }
    let (same, other) = prints.split_at(6);
    assert!(same.iter().all(|print| *print == same[0]), "{same:?}");
    let all: std::collections::BTreeSet<String> =
        other.iter().chain(&same[..1]).map(ToString::to_string).collect();
    assert_eq!(all.len(), 4, "{other:?}");
}

#[tokio::test]
async fn a_command_carries_every_header_into_its_envelope() {
    let face = Face::new(Fake::new());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ask = Ask::post(EVENT, r#"{"by": "me"}"#)
        .token("acme-caller")
        .header("if-match", "\"17.2\"")
        .header("x-correlation-id", "c-7")
        .header("traceparent", parent)
        .header("tracestate", "a=b")
        .header("x-statehouse-deadline-ms", "250")
        .header("x-statehouse-postpone-ms", "5000");
    check(
        &face,
        ask,
        expect![[r#"
        200
        content-type: application/json
        etag: "17.1"
        x-correlation-id: c-7
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
        {"version":1,"from":["waiting"],"to":["done"],"tasks":[],"timers":[],"position":17}
    "#]],
    )
    .await;
    let envelope = face.fake.last_command();
    assert_eq!(envelope.expected, Some(Version { born: 17, version: 2 }));
    assert_eq!(envelope.correlation.as_ref().unwrap().as_str(), "c-7");
    assert_eq!(Some(envelope.trace.clone()), TraceContext::parse(parent, Some("a=b")));
    assert_eq!(envelope.remaining_ms, 250);
    assert!(matches!(&envelope.key, Key::Client(text) if text.as_str() == "k-1"));
    let Command::Send { event, data, postpone_ms } = envelope.command else { panic!() };
    assert_eq!((&*event, data.as_str(), postpone_ms), ("approve", r#"{"by":"me"}"#, Some(5_000)));
}

#[tokio::test]
async fn an_empty_body_is_an_empty_payload() {
    let face = Face::new(Fake::new());
    assert_eq!(face.send(Ask::post(EVENT, "")).await.status, 200);
    let Command::Send { data, .. } = face.fake.last_command().command else { panic!() };
    assert_eq!(data.as_str(), "{}");
}

#[tokio::test]
async fn a_postponed_command_is_202_and_a_signal_200() {
    let face = Face::new(Fake::new().judging(|envelope| {
        let Command::Send { event, .. } = &envelope.command else { panic!("{envelope:?}") };
        let version = Some(Version { born: 17, version: 4 });
        Ok(match &**event {
            "later" => answers::receipt(
                ReceiptKind::Postponed,
                version,
                r#"{"postponed":true,"ticket":"t-1","version":4,"position":21}"#,
            ),
            _ => answers::receipt(
                ReceiptKind::Accepted,
                version,
                r#"{"outcome":"ignored","version":4,"position":22}"#,
            ),
        })
    }));
    let event = |name: &str| Ask::post(format!("/v1/tenants/acme/instances/a-1/events/{name}"), "");
    check(
        &face,
        event("later"),
        expect![[r#"
        202
        content-type: application/json
        etag: "17.4"
        {"postponed":true,"ticket":"t-1","version":4,"position":21}
    "#]],
    )
    .await;
    check(
        &face,
        event("hint"),
        expect![[r#"
        200
        content-type: application/json
        etag: "17.4"
        {"outcome":"ignored","version":4,"position":22}
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_stored_refusal_goes_out_byte_for_byte() {
    let stored = r#"{"type":"/errors/version_conflict","title":"x","status":412,"detail":"d","version":3,"configuration":["waiting"],"position":23}"#;
    let face = Face::new(Fake::new().judging(move |_| {
        let mut receipt = answers::receipt(
            ReceiptKind::Refused(RejectionCode::VersionConflict),
            Some(Version { born: 17, version: 3 }),
            stored,
        );
        receipt.replayed = true;
        Ok(receipt)
    }));
    let seen = face.send(Ask::post(EVENT, "{}").header("if-match", "17.2")).await;
    assert_eq!(seen.text(), stored);
    expect![[r#"
        412
        x-statehouse-error-source: instance
        content-type: application/problem+json
        etag: "17.3"
        idempotency-replayed: true
        {"type":"/errors/version_conflict","title":"x","status":412,"detail":"d","version":3,"configuration":["waiting"],"position":23}
    "#]].assert_eq(&seen.transcript());
}

#[tokio::test]
async fn a_stored_refusal_of_the_gateway_names_it_in_the_header_too() {
    let face = Face::new(Fake::new().judging(|_| {
        let body = r#"{"type":"/errors/already_exists","status":409,"source":"gateway"}"#;
        Ok(answers::receipt(ReceiptKind::Refused(RejectionCode::AlreadyExists), None, body))
    }));
    let seen = face.send(Ask::post("/v1/tenants", r#"{"tenant": "acme"}"#)).await;
    assert_eq!(
        (seen.status.as_u16(), seen.header("x-statehouse-error-source")),
        (409, Some("gateway"))
    );
}

#[tokio::test]
async fn each_verb_goes_in_with_its_reason() {
    let face = Face::new(Fake::new());
    for (name, verb) in [
        ("cancel", Verb::Cancel),
        ("terminate", Verb::Terminate),
        ("pause", Verb::Pause),
        ("resume", Verb::Resume),
        ("skip", Verb::Skip),
        ("retry", Verb::Retry { task: None }),
    ] {
        let path = format!("/v1/tenants/acme/instances/a-1/{name}");
        let ask = Ask::post(path, r#"{"reason": " stuck "}"#).token("acme-operator");
        assert_eq!(face.send(ask).await.status, 200, "{name}");
        let envelope = face.fake.last_command();
        assert_eq!(envelope.command, Command::Operate(verb));
        assert_eq!(envelope.reason.as_deref(), Some("stuck"));
        assert!(matches!(envelope.key, Key::Operator(_)));
    }
    let body = r#"{"reason": "x", "task": "0af-a-1-3-1"}"#;
    let seen = face.send(Ask::post("/v1/tenants/acme/instances/a-1/retry", body)).await;
    assert_eq!(seen.status, 200);
    let Command::Operate(Verb::Retry { task: Some(task) }) = face.fake.last_command().command
    else {
        panic!()
    };
    assert_eq!(task.to_string(), "0af-a-1-3-1");
}

#[tokio::test]
async fn a_dry_run_asks_and_submits_nothing() {
    let face = Face::new(Fake::new());
    let ask = Ask::post(format!("{EVENT}?dry_run=true"), "").without("idempotency-key");
    assert_eq!(face.send(ask).await.status, 200);
    let body = r#"{"definition": "approval", "id": "a-1"}"#;
    let ask = Ask::post("/v1/tenants/acme/instances?dry_run=true", body);
    let seen = face.send(ask.without("idempotency-key")).await;
    assert_eq!((seen.status.as_u16(), seen.header("location")), (200, None));
    assert!(face.fake.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_late_house_is_an_unknown_outcome() {
    struct Never;
    impl super::Backend for Never {
        fn lease(
            &self,
            envelope: super::CommandEnvelope,
            _: u64,
            _: super::KeyChoice,
        ) -> super::BoxFuture<'_, Result<super::Receipt, super::Rejection>> {
            self.submit(envelope)
        }

        fn submit(
            &self,
            _: statehouse_contract::CommandEnvelope,
        ) -> futures::future::BoxFuture<'_, Result<statehouse_contract::Receipt, super::Rejection>>
        {
            Box::pin(std::future::pending())
        }

        fn query(
            &self,
            query: super::Query,
        ) -> futures::future::BoxFuture<'_, Result<super::Answer, super::Rejection>> {
            let credential = Fake::new().keys.into_inner().unwrap().into_values().find(|held| {
                held.tenant.as_str() == "acme"
                    && held.roles.iter().any(|role| role.as_str() == "admin")
            });
            assert!(matches!(query, super::Query::Credential { .. }));
            Box::pin(async { Ok(super::Answer::Credential(credential)) })
        }

        fn hand_over(
            &self,
            _: super::ShardId,
            _: Option<super::NodeId>,
        ) -> futures::future::BoxFuture<'_, Result<super::NodeId, super::Rejection>> {
            Box::pin(std::future::pending())
        }

        fn copy(
            &self,
            _: super::ShardId,
        ) -> futures::future::BoxFuture<'_, Result<super::ShardCopy, super::Rejection>> {
            Box::pin(std::future::pending())
        }

        fn readiness(&self) -> super::Readiness {
            super::Readiness { ready: false, waiting_for: Vec::new(), apply_lag: 0 }
        }
    }
    let meters = super::Meters::start().unwrap();
    let clock = std::sync::Arc::new(super::Hand::default());
    let home = statehouse_contract::TenantId::parse("acme").unwrap();
    let state = super::ApiState::new(
        std::sync::Arc::new(Never),
        clock,
        "n1.1",
        home,
        &meters,
        crate::slo::Objectives::ANY,
    );
    let request = Ask::post(EVENT, "").header("x-statehouse-deadline-ms", "1").request();
    let response = tower::ServiceExt::oneshot(super::router(state), request).await.unwrap();
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_error_with_an_id_to_look_for() {
    let face = Face::new(Fake::new().judging(|_| panic!("a secret of the house")));
    let seen = face.send(Ask::post(EVENT, "")).await;
    assert!(seen.refusal().starts_with("500 internal: "), "{}", seen.text());
    assert!(!seen.text().contains("secret"), "{}", seen.text());
    let id = seen.header("x-correlation-id").unwrap();
    assert_eq!(seen.json()["correlation_id"], id);
    assert_eq!(face.send(Ask::get("/healthz")).await.status, 200);
}
