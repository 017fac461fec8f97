//! Definitions over HTTP: both languages, all findings, nothing stored that has errors.

use expect_test::expect;
use statehouse_contract::{Command, Digest, Query};

use super::{Ask, Face, Fake};

const PATH: &str = "/v1/tenants/acme/definitions";

const YAML: &str = "\
format: statehouse/1
id: approval
version: 1
initial: waiting
commands:
  approve: {}
states:
  waiting:
    on:
      approve: done
  done:
    type: final
";

const JSON: &str = r#"{"format": "statehouse/1", "id": "approval", "version": 1, "initial": "waiting",
 "commands": {"approve": {}},
 "states": {"waiting": {"on": {"approve": "done"}}, "done": {"type": "final"}}}"#;

fn deploy(body: &str) -> Ask {
    Ask::post(PATH, body).token("acme-deployer")
}

#[tokio::test]
async fn yaml_and_json_are_the_same_definition() {
    let face = Face::new(Fake::new());
    let mut commands = Vec::new();
    for (body, media) in
        [(YAML, "application/yaml"), (JSON, "application/json"), (JSON, "text/plain")]
    {
        let seen = face.send(deploy(body).header("content-type", media)).await;
        assert_eq!(seen.status, 201, "{}", seen.text());
        let envelope = face.fake.last_command();
        commands.push((envelope.command, envelope.fingerprint));
    }
    assert_eq!(commands[0], commands[1]);
    assert_eq!(commands[0], commands[2]);
    let Command::Deploy { name, version, digest, document } = &commands[0].0 else { panic!() };
    assert_eq!((name.as_str(), *version), ("approval", Some(1)));
    assert_eq!(*digest, Digest::of(document.as_str().as_bytes()));
    assert!(document.as_str().starts_with(r#"{"format":"statehouse/1","id":"approval""#));
}

#[tokio::test]
async fn what_was_stored_is_told_with_its_findings() {
    let face = Face::new(Fake::new());
    let seen = face.send(deploy(YAML).without("idempotency-key")).await;
    expect![[r#"
        201
        content-type: application/json
        {"name":"approval","version":1,"digest":"00","position":17,"findings":[{"code":"rests-without-deadline","severity":"warning","pointer":"/states/waiting","line":8,"column":3,"message":"an instance can stay in `waiting` for ever: no task and no timer here or around","advice":"add `after`, or `endless: true` if that is meant"}]}
    "#]]
    .assert_eq(&seen.transcript());
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let face = Face::new(Fake::new());
    let seen = face.send(Ask { path: format!("{PATH}?dry_run=true"), ..deploy(YAML) }).await;
    assert_eq!((seen.status.as_u16(), seen.json()["dry_run"].clone()), (200, true.into()));
    assert_eq!(seen.json()["digest"].as_str().unwrap().len(), 64);
    assert!(face.fake.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn errors_come_all_at_once_with_line_and_column() {
    let face = Face::new(Fake::new());
    let bomb = "[".repeat(200_000);
    let big = format!("{YAML}description: {}\n", "x".repeat(256 * 1024));
    let table = [
        ("malformed YAML", "id: a\n  initial: b\n".to_owned()),
        ("malformed JSON", "{\"id\": \"a\",\n \"initial\" \"b\"}".to_owned()),
        ("duplicate key", format!("{YAML}id: again\n")),
        ("alias", format!("{YAML}meta: &a {{}}\ncontext: *a\n")),
        ("YAML 1.1", YAML.replace("    on:", "    true:")),
        ("depth bomb", bomb),
        ("no object", "- a\n".to_owned()),
        ("empty", String::new()),
        ("bad name", YAML.replace("id: approval", "id: my approval")),
        ("version 0", YAML.replace("version: 1", "version: 0")),
        ("too large", big),
    ];
    let mut text = String::new();
    for (what, body) in table {
        let seen = face.send(deploy(&body)).await;
        text.push_str(&format!("{what} -> {}\n", seen.refusal()));
        let problem = seen.json();
        for finding in problem["findings"].as_array().into_iter().flatten() {
            let member = |name: &str| finding[name].to_string();
            text.push_str(&format!(
                "    {}:{} {}\n",
                member("line"),
                member("column"),
                member("code")
            ));
        }
    }
    assert!(face.fake.commands.lock().unwrap().is_empty());
    expect![[r#"
        malformed YAML -> 422 invalid_definition: 1 error; the first at line 2, column 10: not YAML or JSON: mapping values are not allowed in this context
            2:10 "malformed"
        malformed JSON -> 422 invalid_definition: 1 error; the first at line 2, column 12: not YAML or JSON: invalid trailing content after double-quoted scalar
            2:12 "malformed"
        duplicate key -> 422 invalid_definition: 1 error; the first at line 13, column 1: the key `id` stands twice in this object
            8:3 "rests-without-deadline"
            13:1 "duplicate-key"
        alias -> 422 invalid_definition: 2 errors; the first at line 13, column 10: an anchor is not allowed in a definition
            8:3 "rests-without-deadline"
            13:10 "alias"
            14:10 "alias"
        YAML 1.1 -> 422 invalid_definition: 1 error; the first at line 9, column 5: the key `true` is not a text
            9:5 "non-string-key"
        depth bomb -> 422 invalid_definition: 1 error; the first at line 1, column 65: lists and objects are nested deeper than document_depth_max, 64
            1:65 "nesting-too-deep"
        no object -> 422 invalid_definition: 1 error; the first at line 1, column 1: a definition must be an object, not a list
            1:1 "wrong-shape"
        empty -> 422 invalid_definition: 1 error; the first at line 1, column 1: the document is empty
            1:1 "malformed"
        bad name -> 422 invalid_definition: 2 errors; the first at line 2, column 5: definition name has ' ' at byte 2; allowed are A-Z, a-z, 0-9, _ and -
            2:5 "bad-name"
            2:5 "bad-name"
            8:3 "rests-without-deadline"
        version 0 -> 422 invalid_definition: 1 error; the first at line 3, column 10: `version` must be an integer of at least 1, not 0
            3:10 "wrong-shape"
            8:3 "rests-without-deadline"
        too large -> 413 payload_too_large: the body is larger than definition_bytes_max, 262144 bytes
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn reads_and_the_choice_of_a_version_go_through() {
    let face = Face::new(Fake::new());
    for (path, expected) in [("", None), ("/approval", None), ("/approval/versions/3", Some(3))] {
        let seen = face.send(Ask::get(format!("{PATH}{path}")).token("acme-reader")).await;
        assert_eq!(seen.status, 200, "{path}");
        if let Query::Definition { version, .. } = face.fake.last_query() {
            assert_eq!(version, expected, "{path}");
        }
    }
    let seen = face.send(Ask::get(format!("{PATH}/approval/versions"))).await;
    assert_eq!(seen.json()["versions"][0]["version"], 1);
    let seen = face.send(Ask::get(format!("{PATH}/nothing/versions"))).await;
    assert_eq!(seen.refusal(), "404 unknown_definition: there is no definition nothing");
    let put = Ask {
        body: br#"{"version": 2}"#.to_vec(),
        ..Ask::new("PUT", format!("{PATH}/approval/current"))
    };
    assert_eq!(face.send(put.token("acme-deployer").without("idempotency-key")).await.status, 200);
    let Command::SetCurrent { name, version } = face.fake.last_command().command else { panic!() };
    assert_eq!((name.as_str(), version), ("approval", 2));
}
