//! What every answer says beside its body: who leads the instance, and in which conversation it stands.
//!
//! Absent on purpose: who leads really. That is the house's knowledge; here it says what it is told to say.

use statehouse_contract::{Rejection, RejectionCode};

use super::{
    super::{openapi::document, table::ROUTES},
    Ask, Face, Fake,
};

const LEADER: &str = "http://127.0.0.1:7402";
const INSTANCE: &str = "/v1/tenants/acme/instances/a-1";

fn follower(fake: Fake) -> Face {
    Face::new(Fake { leader: Some(LEADER), ..fake })
}

/// One request for each route about an instance.
fn about_an_instance() -> Vec<Ask> {
    let mut list = vec![
        Ask::post("/v1/tenants/acme/instances", r#"{"definition": "approval", "id": "a-1"}"#),
        Ask::post("/v1/tenants/acme/instances", r#"{"definition": "approval"}"#),
        Ask::post("/v1/tenants/acme/instances?dry_run=true", r#"{"definition": "approval"}"#),
        Ask::get(INSTANCE),
        Ask::post(format!("{INSTANCE}/events/approve?dry_run=true"), ""),
        Ask::post(format!("{INSTANCE}/events/approve"), ""),
        Ask::post(format!("{INSTANCE}/cancel"), r#"{"reason": "wrong"}"#),
        Ask::post(format!("{INSTANCE}/retry"), r#"{"reason": "again"}"#),
    ];
    let reads = ["history", "explain", "receipts/k-1", "watch?wait=1ms", "watch"];
    list.extend(reads.map(|rest| Ask::get(format!("{INSTANCE}/{rest}"))));
    list
}

#[tokio::test]
async fn every_answer_about_an_instance_names_the_node_that_leads_it() {
    let face = follower(Fake::new());
    for ask in about_an_instance() {
        let path = ask.path.clone();
        let response =
            tower::ServiceExt::oneshot(face.router.clone(), ask.request()).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        let leader = response.headers().get("x-statehouse-leader").map(|value| value.as_bytes());
        assert_eq!(leader, Some(LEADER.as_bytes()), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_names_it_too() {
    for code in
        [RejectionCode::NoLeader, RejectionCode::NotHandled, RejectionCode::DeadlineExceeded]
    {
        let refuse = move || Err(Rejection::gateway(code, "no"));
        let face = follower(
            Fake::new()
                .judging(move |_| refuse())
                .telling(move |_| Err(Rejection::gateway(code, "no"))),
        );
        for ask in about_an_instance() {
            let path = ask.path.clone();
            let seen = face.send(ask).await;
            assert_eq!(seen.status.as_u16(), code.status(), "{path}");
            assert_eq!(seen.header("x-statehouse-leader"), Some(LEADER), "{path}");
        }
    }
}

#[tokio::test]
async fn an_answer_about_no_instance_names_none_and_neither_does_one_to_a_stranger() {
    let face = follower(Fake::new());
    let cases = [
        Ask::get("/v1/tenants/acme/instances"),
        Ask::get("/v1/tenants/acme/definitions"),
        Ask::get("/v1/tenants/acme/watch?wait=1ms"),
        Ask::get("/v1/cluster"),
        Ask::get("/healthz"),
        Ask::get(INSTANCE).token("nobody"),
        Ask::get("/v1/tenants/other/instances/a-1"),
    ];
    for ask in cases {
        let path = ask.path.clone();
        assert_eq!(face.send(ask).await.header("x-statehouse-leader"), None, "{path}");
    }
    let alone = Face::new(Fake::new());
    assert_eq!(alone.send(Ask::get(INSTANCE)).await.header("x-statehouse-leader"), None);
}

#[tokio::test]
async fn an_answer_stands_in_the_callers_conversation_or_in_one_of_our_own() {
    let face = Face::new(Fake::new());
    let sent = face.send(Ask::get(INSTANCE).header("x-correlation-id", "c-7")).await;
    assert_eq!(sent.header("x-correlation-id"), Some("c-7"));
    let mut own = Vec::new();
    for path in [INSTANCE, INSTANCE, "/nowhere", "/healthz", "/v1/tenants/acme/instances/a%2Fb"] {
        let seen = face.send(Ask::get(path)).await;
        let id = seen.header("x-correlation-id").unwrap().to_owned();
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{path}: {id}");
        assert!(!seen.text().contains(&id), "{path}: bodies follow from what was sent");
        own.push(id);
    }
    own.sort();
    own.dedup();
    assert_eq!(own.len(), 5);
    face.send(Ask::post(format!("{INSTANCE}/events/approve"), "")).await;
    assert_eq!(face.fake.last_command().correlation, None);
}

#[test]
fn the_contract_tells_which_answers_name_a_leader() {
    let document = document();
    for route in ROUTES {
        let place = &document["paths"][route.path][route.method.name().to_ascii_lowercase()];
        let (_, answer) = place["responses"].as_object().unwrap().iter().next().unwrap();
        let headers = &answer["headers"];
        assert!(headers["X-Correlation-Id"].is_object(), "{}", route.name);
        assert_eq!(
            headers["X-Statehouse-Leader"].is_object(),
            route.path.contains("/instances/{id}") || route.name == "start",
            "{}",
            route.name
        );
    }
}
