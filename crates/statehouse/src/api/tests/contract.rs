//! `/openapi.json` against the router and against real answers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{openapi::document, table::ROUTES},
    Ask, Face, Fake,
};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

fn filled(path: &str) -> String {
    path.replace("{t}", "acme")
        .split('/')
        .map(|segment| match segment {
            "{n}" | "{s}" => "1",
            "{code}" => "internal",
            other if other.starts_with('{') => "a",
            other => other,
        })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn the_document_and_the_router_name_the_same_routes() {
    let face = Face::new(Fake::new());
    let document = document();
    let mut written = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            written.insert((path.clone(), method.to_ascii_uppercase()));
        }
        // What the router says about this path, with a method that no path takes.
        let seen = face.send(Ask::new("PATCH", filled(path))).await;
        assert_eq!(seen.status, 405, "{path}");
        let allowed: BTreeSet<&str> =
            seen.header("allow").unwrap().split(',').filter(|method| *method != "HEAD").collect();
        let named: BTreeSet<&str> = METHODS
            .into_iter()
            .filter(|method| methods.get(method.to_ascii_lowercase()).is_some())
            .collect();
        assert_eq!(allowed, named, "{path}");
    }
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), route.method.name().to_owned()))
        .collect();
    assert_eq!(written, served);
    assert_eq!(served.len(), ROUTES.len(), "a row stands there twice");
}

#[tokio::test]
async fn names_are_unique_and_every_reference_leads_somewhere() {
    let face = Face::new(Fake::new());
    let seen = face.send(Ask::get("/openapi.json").without("authorization")).await;
    let document = seen.json();
    assert_eq!(document["openapi"], "3.1.0");
    let names: BTreeSet<&str> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(names.len(), ROUTES.len());
    assert!(ROUTES.iter().all(|route| !route.about.is_empty()));
    let text = document.to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

/// Says how a value differs from its schema; nothing when it fits.
fn misfit(document: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return misfit(document, target, value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(|allowed| allowed == kind),
        allowed => allowed == kind,
    };
    if !fits {
        return Some(format!("{place} is {kind}"));
    }
    if let Value::Array(items) = value {
        return items.iter().find_map(|item| misfit(document, &schema["items"], item, place));
    }
    let (Value::Object(members), Value::Object(properties)) = (value, &schema["properties"]) else {
        return None;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            return Some(format!("{place} lacks {name}"));
        }
    }
    members.iter().find_map(|(name, member)| match properties.get(name) {
        Some(property) => misfit(document, property, member, &format!("{place}/{name}")),
        None if schema["additionalProperties"] == true => None,
        None => Some(format!("{place}/{name} is not written down")),
    })
}

#[tokio::test]
async fn real_answers_fit_their_schemas() {
    let face = Face::new(Fake::new());
    let document = document();
    let tenant = "/v1/tenants/acme";
    let table = [
        (Ask::get(format!("{tenant}/instances/a-1")), "Instance"),
        (Ask::get(format!("{tenant}/instances")), "InstancePage"),
        (Ask::get(format!("{tenant}/instances/a-1/history")), "TransitionPage"),
        (Ask::get(format!("{tenant}/instances/a-1/watch?wait=1ms")), "Changes"),
        (Ask::get(format!("{tenant}/instances/a-1/receipts/k")), "Postponed"),
        (Ask::post(format!("{tenant}/instances/a-1/events/x"), ""), "Receipt"),
        (Ask::get(format!("{tenant}/definitions")), "DefinitionPage"),
        (Ask::get(format!("{tenant}/definitions/a/versions/1")), "Definition"),
        (Ask::get(tenant), "Tenant"),
        (Ask::get("/v1/tenants"), "TenantPage"),
        (Ask::post(format!("{tenant}/keys"), r#"{"name": "n", "roles": ["r"]}"#), "NewKey"),
        (Ask::post(format!("{tenant}/quota"), "{}"), "Acknowledgement"),
        (Ask::get("/v1/cluster"), "Cluster"),
        (Ask::get("/healthz"), "Alive"),
        (Ask::get("/readyz"), "Readiness"),
        (Ask::get("/openapi.json"), "OpenApi"),
        (Ask::get(format!("{tenant}/instances/a%2Fb")), "Problem"),
        (Ask::post(format!("{tenant}/definitions"), "id: [\n"), "Problem"),
    ];
    for (ask, name) in table {
        let path = ask.path.clone();
        let answer = face.send(ask).await.json();
        let schema = document.pointer(&format!("/components/schemas/{name}")).unwrap();
        assert_eq!(misfit(&document, schema, &answer, name), None, "{path}: {answer}");
    }
}
