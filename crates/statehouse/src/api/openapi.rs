//! `/openapi.json`: the contract, written from the route table.
//!
//! The table that makes the router makes this document too, so a route cannot be missing here, nor a
//! parameter, nor a role. A test asks the router anyway, both ways.
//!
//! Absent on purpose: derive macros over the answers. The answers' types live below this crate and know no
//! OpenAPI; their schemas stand in `schemas.rs`, and a test holds real answers against them.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use statehouse_contract::RejectionCode;

use super::{
    routes::{Access, BodyShape, Field, Kind, Method, Route},
    schemas,
    table::ROUTES,
};

/// Returns the document as text, made once.
pub(super) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| document().to_string())
}

/// Returns the document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.name().to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Statehouse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Durable workflows: statecharts as data, commands with receipts.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "tags": [tag(route)],
        "parameters": parameters(route),
        "responses": responses(route),
    });
    let members = operation.as_object_mut().expect("made as an object above");
    match route.access {
        Access::Open => members.insert("security".to_owned(), json!([])),
        Access::Own(roles) | Access::Any(roles) | Access::Home(roles) => {
            let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            members.insert("x-roles".to_owned(), json!(names));
            members.insert("security".to_owned(), json!([{"bearer": []}]))
        }
    };
    if let Some(body) = body(route.body) {
        members.insert("requestBody".to_owned(), body);
    }
    operation
}

fn tag(route: &Route) -> &'static str {
    let rest = route.path.strip_prefix("/v1/tenants/{t}/").unwrap_or(route.path);
    match rest.split('/').find(|part| !part.is_empty() && *part != "v1").unwrap_or_default() {
        "definitions" => "definitions",
        "instances" | "watch" => "instances",
        "tasks" => "tasks",
        "schedules" => "schedules",
        "batches" => "batches",
        "tenants" | "keys" | "quota" => "tenants",
        "cluster" => "cluster",
        _ => "node",
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut list = Vec::new();
    for segment in route.path.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let (kind, about) = path_parameter(name);
            list.push(json!({
                "name": name, "in": "path", "required": true,
                "description": about, "schema": schema(kind),
            }));
        }
    }
    for field in route.query {
        list.push(json!({
            "name": field.name, "in": "query", "required": field.needed,
            "description": field.about, "schema": schema(field.kind),
        }));
    }
    if route.access == Access::Open {
        return list;
    }
    let mut header = |name: &str, needed: bool, kind: Kind, about: &str| {
        list.push(json!({
            "name": name, "in": "header", "required": needed,
            "description": about, "schema": schema(kind),
        }));
    };
    if !matches!(route.body, BodyShape::None) {
        header(
            "Idempotency-Key",
            route.keyed,
            Kind::Text,
            "new for every command and the same for its repeats: 1 to 128 visible ASCII characters",
        );
    }
    if route.takes_version() {
        header("If-Match", false, Kind::Text, "the version to be judged at, as ETag gives it");
    }
    if matches!(route.body, BodyShape::Payload) {
        header(
            "X-Statehouse-Postpone-Ms",
            false,
            Kind::Number,
            "how long a command may stay postponed",
        );
    }
    header("X-Correlation-Id", false, Kind::Text, "the conversation");
    header(
        "X-Statehouse-Deadline-Ms",
        false,
        Kind::Number,
        "how long the caller waits, 1 to 60000",
    );
    header("traceparent", false, Kind::Text, "W3C Trace Context");
    list
}

fn path_parameter(name: &str) -> (Kind, &'static str) {
    match name {
        "t" => (Kind::Text, "the tenant: 1 to 64 of a-z, 0-9 and -"),
        "id" => (Kind::Text, "the instance or task: 1 to 128 of A-Z, a-z, 0-9, . _ and -"),
        "name" => (Kind::Text, "the definition's, schedule's or batch's name"),
        "n" => (Kind::Number, "the number"),
        "s" => (Kind::Number, "the shard"),
        "event" => (Kind::Text, "the event's name"),
        "key" => (Kind::Text, "the idempotency key, or the API key's id"),
        "code" => (Kind::Text, "the rejection's code"),
        _ => (Kind::Text, ""),
    }
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Position => json!({"type": "string"}),
        Kind::Number => json!({"type": "integer", "minimum": 0}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Duration => json!({"type": "string", "pattern": "^[0-9]+(ms|s|m)$"}),
        Kind::Object => json!({"type": "object"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Any => json!({}),
    }
}

fn body(shape: BodyShape) -> Option<Value> {
    match shape {
        BodyShape::None => None,
        BodyShape::Members(fields) => Some(json!({
            "required": fields.iter().any(|field| field.needed),
            "content": {"application/json": {"schema": members(fields)}},
        })),
        BodyShape::Payload => Some(json!({
            "required": false,
            "description": "the event's payload, as its schema in the definition wants it",
            "content": {"application/json": {"schema": {"type": "object"}}},
        })),
        BodyShape::Definition => Some(json!({
            "required": true,
            "description": "the definition document",
            "content": {
                "application/yaml": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            },
        })),
    }
}

fn members(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut property = schema(field.kind);
        if let Some(object) = property.as_object_mut() {
            object.insert("description".to_owned(), field.about.into());
        }
        properties.insert(field.name.to_owned(), property);
    }
    let required: Vec<&str> =
        fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn responses(route: &Route) -> Value {
    let mut list = Map::new();
    let headers = headers(route);
    for (status, name) in route.answers {
        let about = schemas::about(name);
        list.insert(
            status.to_string(),
            json!({"description": about, "headers": headers, "content": content(name)}),
        );
    }
    for status in rejections(route) {
        let codes: Vec<String> = RejectionCode::ALL
            .iter()
            .filter(|code| code.status() == status)
            .map(|code| format!("`{}`", code.code()))
            .collect();
        let about = format!("A rejection: {}.", codes.join(", "));
        list.insert(status.to_string(), problem(&about, &headers));
    }
    list.insert(
        "default".to_owned(),
        problem("Another rejection; `type` leads to the page of its code.", &headers),
    );
    Value::Object(list)
}

/// Returns the headers that an answer of a route has whatever it says.
fn headers(route: &Route) -> Value {
    let header = |about: &str| json!({"description": about, "schema": schema(Kind::Text)});
    let mut list = Map::new();
    list.insert(
        "X-Correlation-Id".to_owned(),
        header("the conversation: the one that was sent, else one of our own"),
    );
    list.insert("X-Statehouse-Node".to_owned(), header("the node that answered"));
    if route.is_about_an_instance() {
        list.insert(
            "X-Statehouse-Leader".to_owned(),
            header(
                "the base URL of the node that leads the instance, when another one answered; asking there saves a hop",
            ),
        );
    }
    if route.name == "shard_snapshot" {
        for (name, about) in super::copy::HEADERS {
            list.insert(name.as_str().to_owned(), header(about));
        }
    }
    Value::Object(list)
}

fn problem(about: &str, headers: &Value) -> Value {
    json!({
        "description": about,
        "headers": headers,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

/// Returns the statuses with which a route may refuse.
fn rejections(route: &Route) -> Vec<u16> {
    if route.access == Access::Open {
        return Vec::new();
    }
    let is_change = route.method != Method::Get;
    let is_cursor = |field: &Field| field.kind == Kind::Position || field.name == "cursor";
    let takes_cursor = route.query.iter().any(is_cursor);
    let rows = [
        (true, &[400, 401, 403, 404, 429, 500, 503, 504][..]),
        (!matches!(route.body, BodyShape::None), &[413, 422]),
        (is_change, &[409]),
        (route.takes_version(), &[412]),
        (is_change || takes_cursor, &[410]),
    ];
    rows.iter().filter(|(may, _)| *may).flat_map(|(_, statuses)| statuses.iter().copied()).collect()
}

fn content(name: &str) -> Value {
    let schema = json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    match name {
        "Text" => json!({"text/plain": schema}),
        "Page" => json!({"text/markdown": schema}),
        "ShardCopy" => json!({"application/octet-stream": schema}),
        "HistoryLine" => json!({"application/x-ndjson": schema}),
        "Changes" => json!({
            "application/json": schema,
            "text/event-stream": {"schema": {"$ref": "#/components/schemas/Text"}},
        }),
        _ => json!({"application/json": schema}),
    }
}
