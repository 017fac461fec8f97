//! Every route with every role: who gets in, who does not, and nobody without a row.

use expect_test::expect;

use super::{
    super::{
        routes::{Access, Route},
        table::ROUTES,
    },
    Ask, Face, Fake,
};

const ROLES: [&str; 7] = ["reader", "caller", "operator", "deployer", "worker", "admin", "manager"];

/// A request that meets a row, with a body that its row takes.
fn ask(route: &Route, tenant: &str) -> Ask {
    let path = route.path.replace("{t}", tenant);
    let path: Vec<&str> = path
        .split('/')
        .map(|segment| match segment {
            "{n}" | "{s}" => "1",
            "{code}" => "internal",
            "{name}" => "approval",
            other if other.starts_with('{') => "a",
            other => other,
        })
        .collect();
    let body = match route.name {
        "start" => r#"{"definition": "d"}"#,
        "set_current" => r#"{"version": 1}"#,
        "put_tenant" => r#"{"tenant": "t"}"#,
        "put_key" => r#"{"name": "n", "roles": ["reader"]}"#,
        "deploy" => {
            "format: statehouse/1\nid: d\nversion: 1\ninitial: a\nstates:\n  a: {type: final}\n"
        }
        "put_schedule" => r#"{"name": "s", "definition": "d", "every": "1m"}"#,
        "pause_schedule" | "resume_schedule" => r#"{"reason": "x"}"#,
        "backfill_schedule" => {
            r#"{"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "reason": "x"}"#
        }
        "migrate" => r#"{"to": 2, "reason": "x"}"#,
        "reset" => r#"{"version": 1, "instance": "i", "reason": "x"}"#,
        "put_batch" => r#"{"name": "b", "verb": "cancel", "reason": "x"}"#,
        "stop_batch" => r#"{"reason": "x"}"#,
        "lease_tasks" => r#"{"queues": ["q"], "worker": "w"}"#,
        "heartbeat_task" | "complete_task" => r#"{"token": 1}"#,
        "fail_task" => r#"{"token": 1, "code": "c"}"#,
        "cancel" | "terminate" | "pause" | "resume" | "retry" | "skip" => r#"{"reason": "x"}"#,
        _ => "",
    };
    let query = if route.name.starts_with("watch") { "?wait=1ms" } else { "" };
    let ask = Ask::new(route.method.name(), path.join("/") + query);
    Ask { body: body.into(), ..ask }
}

#[tokio::test]
async fn each_role_opens_its_routes_and_no_others() {
    let face = Face::new(Fake::new());
    let mut table = String::new();
    for route in ROUTES {
        let mut row = String::new();
        for role in ROLES {
            let status =
                face.send(ask(route, "acme").token(&format!("acme-{role}"))).await.status.as_u16();
            row.push_str(match status {
                401 => panic!("{} {role}: the token is known", route.name),
                403 => ".",
                // Not in this release, but let in.
                200..=299 | 400 => "x",
                other => panic!("{} {role}: {other}", route.name),
            });
        }
        table.push_str(&format!("{row} {} {}\n", route.method.name(), route.path));
    }
    table.insert_str(0, &format!("{}\n", ROLES.map(|role| &role[..1]).concat()));
    expect![[r#"
        rcodwam
        ...x.x. POST /v1/tenants/{t}/definitions
        xxxx.x. GET /v1/tenants/{t}/definitions
        xxxx.x. GET /v1/tenants/{t}/definitions/{name}
        xxxx.x. GET /v1/tenants/{t}/definitions/{name}/versions
        xxxx.x. GET /v1/tenants/{t}/definitions/{name}/versions/{n}
        ...x.x. PUT /v1/tenants/{t}/definitions/{name}/current
        .x...x. POST /v1/tenants/{t}/instances
        xxx..x. GET /v1/tenants/{t}/instances
        xxx..x. POST /v1/tenants/{t}/instances/search
        xxx..x. GET /v1/tenants/{t}/instances/search
        xxx..x. GET /v1/tenants/{t}/instances/{id}
        .x...x. POST /v1/tenants/{t}/instances/{id}/events/{event}
        xxx..x. GET /v1/tenants/{t}/instances/{id}/explain
        xxx..x. GET /v1/tenants/{t}/instances/{id}/history
        xxx..x. GET /v1/tenants/{t}/instances/{id}/watch
        xxx..x. GET /v1/tenants/{t}/watch
        xxx..x. GET /v1/tenants/{t}/instances/{id}/receipts/{key}
        ..x..x. POST /v1/tenants/{t}/instances/{id}/cancel
        ..x..x. POST /v1/tenants/{t}/instances/{id}/terminate
        ..x..x. POST /v1/tenants/{t}/instances/{id}/pause
        ..x..x. POST /v1/tenants/{t}/instances/{id}/resume
        ..x..x. POST /v1/tenants/{t}/instances/{id}/retry
        ..x..x. POST /v1/tenants/{t}/instances/{id}/skip
        ..x..x. POST /v1/tenants/{t}/instances/{id}/migrate
        ..x..x. POST /v1/tenants/{t}/instances/{id}/reset
        ....xx. POST /v1/tenants/{t}/tasks/lease
        ....xx. POST /v1/tenants/{t}/tasks/{id}/heartbeat
        ....xx. POST /v1/tenants/{t}/tasks/{id}/complete
        ....xx. POST /v1/tenants/{t}/tasks/{id}/fail
        xxx..x. GET /v1/tenants/{t}/tasks
        xxx..x. GET /v1/tenants/{t}/queues
        ..x..x. POST /v1/tenants/{t}/schedules
        xxx..x. GET /v1/tenants/{t}/schedules
        xxx..x. GET /v1/tenants/{t}/schedules/{name}
        ..x..x. DELETE /v1/tenants/{t}/schedules/{name}
        ..x..x. POST /v1/tenants/{t}/schedules/{name}/pause
        ..x..x. POST /v1/tenants/{t}/schedules/{name}/resume
        ..x..x. POST /v1/tenants/{t}/schedules/{name}/backfill
        ..x..x. POST /v1/tenants/{t}/batches
        xxx..x. GET /v1/tenants/{t}/batches
        xxx..x. GET /v1/tenants/{t}/batches/{name}
        ..x..x. POST /v1/tenants/{t}/batches/{name}/stop
        ..x..x. DELETE /v1/tenants/{t}/batches/{name}
        .....x. POST /v1/tenants
        .....x. GET /v1/tenants
        .....x. GET /v1/tenants/{t}
        .....x. POST /v1/tenants/{t}/keys
        .....x. POST /v1/tenants/{t}/keys/{key}/revoke
        .....x. POST /v1/tenants/{t}/quota
        ..x..x. GET /v1/cluster
        .....x. DELETE /v1/cluster/nodes/{n}
        .....x. POST /v1/cluster/nodes/{n}/drain
        .....x. POST /v1/cluster/shards/{s}/transfer
        .....x. POST /v1/cluster/shards/{s}/raise
        .....x. GET /v1/cluster/shards/{s}/dump
        .....x. GET /v1/cluster/shards/{s}/snapshot
        ..x..x. GET /v1/slo
        xxxxxxx GET /healthz
        xxxxxxx GET /readyz
        xxxxxxx GET /metrics
        xxxxxxx GET /openapi.json
        xxxxxxx GET /errors/{code}
    "#]]
    .assert_eq(&table);
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_but_through_the_open_doors() {
    let face = Face::new(Fake::new());
    let mut open = Vec::new();
    for route in ROUTES {
        let seen = face.send(ask(route, "acme").without("authorization")).await;
        match route.access {
            Access::Open => open.push(route.path),
            Access::Own(_) | Access::Any(_) | Access::Home(_) => {
                assert_eq!(seen.status, 401, "{}", route.path);
                assert_eq!(seen.header("www-authenticate"), Some("Bearer"));
            }
        }
    }
    assert_eq!(open, ["/healthz", "/readyz", "/metrics", "/openapi.json", "/errors/{code}"]);
}

#[tokio::test]
async fn a_foreign_tenant_is_answered_like_a_missing_one_on_every_route() {
    let face = Face::new(Fake::new());
    for route in ROUTES.iter().filter(|route| route.names_tenant()) {
        for role in ROLES {
            let token = format!("acme-{role}");
            let foreign = face.send(ask(route, "other").token(&token)).await;
            if matches!(route.access, Access::Any(_) | Access::Home(_)) && role == "admin" {
                assert!(foreign.status.is_success(), "{} {role}", route.path);
                continue;
            }
            let missing = face.send(ask(route, "nobody").token(&token)).await;
            assert_eq!(foreign.status, 404, "{} {role}", route.path);
            let strip = |text: &str, name: &str| text.replace(&format!("/tenants/{name}"), "");
            assert_eq!(strip(foreign.text(), "other"), strip(missing.text(), "nobody"));
        }
    }
    assert!(face.fake.queries.lock().unwrap().iter().all(|query| {
        !format!("{query:?}").contains("other")
            || matches!(query, statehouse_contract::Query::Tenant { .. })
    }));
}
