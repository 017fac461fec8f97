//! The command line as a script meets it: what is printed where, and with which exit code.
//!
//! Every test runs the real binary in a directory of its own. Nothing here needs a server; `node.rs` starts one.
//!
//! Deliberately absent: what a definition means. The chart's own tests say that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use expect_test::{Expect, expect};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A directory to run in.
struct Room(tempfile::TempDir);

/// What a run left behind.
struct Ran {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statehouse"));
        command.args(arguments).current_dir(self.0.path());
        for name in ["STATEHOUSE_TOKEN", "STATEHOUSE_SERVERS"] {
            command.env_remove(name);
        }
        let Output { status, stdout, stderr } =
            command.envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(&self.0.path().display().to_string(), "ROOM")
                .replace(&repository().display().to_string(), "REPOSITORY")
        };
        Ran { exit: status.code().unwrap_or(-1), stdout: text(&stdout), stderr: text(&stderr) }
    }

    fn check(&self, arguments: &[&str], exit: i32, expected: Expect) {
        let ran = self.run(arguments);
        expected.assert_eq(&format!("{}{}", ran.stdout, ran.stderr));
        assert_eq!(ran.exit, exit, "{arguments:?}");
    }
}

#[test]
fn the_carried_definitions_have_no_errors() {
    let folder = repository().join("config/definitions");
    for name in ["approval", "order-fulfilment", "tenant-rollout", "maintenance-drill"] {
        let file = folder.join(format!("{name}.yaml"));
        let ran = Room::new().run(&["definition", "check", &file.display().to_string()]);
        assert_eq!(ran.exit, 0, "{}", ran.stdout);
        assert!(ran.stdout.contains(&format!(": {name}: 0 errors, ")), "{}", ran.stdout);
    }
}

#[test]
fn the_sample_has_no_warnings_either() {
    let file = repository().join("config/definitions/approval.yaml");
    Room::new().check(
        &["definition", "check", &file.display().to_string()],
        0,
        expect![[r#"
            REPOSITORY/config/definitions/approval.yaml: approval: 0 errors, 0 warnings, 0 remarks
        "#]],
    );
}

#[test]
fn a_check_names_file_line_and_column_of_everything_and_exits_with_3() {
    let room = Room::new();
    room.file(
        "good.yaml",
        "format: statehouse/1\nid: good\ninitial: a\nstates:\n  a: {type: final}\n",
    );
    room.file("bad.yaml", "format: statehouse/1\nid: bad\ninitial: a\nstates:\n  a: {type: final}\n  b: {colour: red}\n");
    let ran = room.run(&["definition", "check", "good.yaml", "bad.yaml"]);
    assert_eq!(ran.exit, 3);
    assert!(ran.stdout.contains("good.yaml: good: 0 errors"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("bad.yaml:6:7: error unknown-keyword /states/b/colour"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("\n    advice: "), "{}", ran.stdout);
    let json = room.run(&["definition", "check", "bad.yaml", "-o", "json"]);
    let reports: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let findings = reports.pointer("/0/findings").and_then(|list| list.as_array()).unwrap();
    let codes: Vec<&str> = findings.iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(codes.contains(&"unreachable-state"), "one error hides no other: {codes:?}");
    let finding = findings.iter().find(|one| one["code"] == "unknown-keyword").unwrap();
    assert_eq!((&finding["line"], &finding["column"]), (&6.into(), &7.into()));
}

#[test]
fn text_that_is_no_yaml_is_named_with_its_place() {
    let room = Room::new();
    room.file("broken.yaml", "id: x\nstates: [\n");
    let ran = room.run(&["definition", "check", "broken.yaml"]);
    assert_eq!(ran.exit, 3);
    assert!(
        ran.stdout.starts_with("broken.yaml:2:9: error malformed /states/0: "),
        "{}",
        ran.stdout
    );
    let ran = room.run(&["definition", "check", "nowhere.yaml"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.starts_with("error: file: cannot read nowhere.yaml"), "{}", ran.stderr);
}

#[test]
fn the_carried_conformance_cases_pass() {
    for folder in ["own", "scion"] {
        let folder = repository().join("crates/chart/tests/cases").join(folder);
        let ran = Room::new().run(&["definition", "conform", &folder.display().to_string()]);
        assert_eq!(ran.exit, 0, "{}", ran.stdout);
        assert!(ran.stdout.ends_with(" passed, 0 failed\n"), "{}", ran.stdout);
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    }
}

#[test]
fn a_failing_case_is_one_line_and_the_count_stands_alone() {
    let room = Room::new();
    let case = |expected: &str| {
        format!(
            r##"{{"name": "n", "source": "s", "machine": {{"id": "m", "initial": "a", "states": {{"a": {{"on": {{"go": "b"}}}}, "b": {{}}}}}},
            "initialConfiguration": ["a"], "steps": [{{"event": "go", "nextConfiguration": ["{expected}"]}}]}}"##
        )
    };
    room.file("README.md", "not a case");
    room.file("NOTICE", "not a case");
    room.file("1-good.json", &case("b"));
    room.file("2-bad.json", &case("a"));
    room.file("3-broken.json", "{");
    let ran = room.run(&["definition", "conform", "."]);
    assert_eq!(ran.exit, 3);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    assert!(
        lines[0].starts_with("2-bad.json: ") && lines[1].starts_with("3-broken.json: "),
        "{}",
        ran.stdout
    );
    assert_eq!(lines[2], "1 passed, 2 failed");
    assert_eq!(
        Room::new().run(&["definition", "conform", "."]).exit,
        2,
        "an empty folder proves nothing"
    );
}

#[test]
fn a_definition_is_tried_in_virtual_time() {
    let file = repository().join("config/definitions/approval.yaml");
    Room::new().check(
        &[
            "definition",
            "simulate",
            &file.display().to_string(),
            "--input",
            r#"{"amount": 20000}"#,
            "--as",
            "ann",
            "send approve",
            "as ben",
            "send approve",
            "send approve",
            "as cleo",
            "send approve",
            "advance 30s",
        ],
        0,
        expect![[r#"
            +0s       start: accepted [waiting] timers=after.7d.waiting
            +0s       send approve: rejected code=self_approval message=Above 1000 somebody else has to approve. timers=after.7d.waiting
            +0s       send approve: accepted [waiting] reply={"missing":1} timers=after.7d.waiting
            +0s       send approve: rejected code=same_approver message=Above 10000 a second person has to approve. timers=after.7d.waiting
            +0s       send approve: accepted [cooling] reply={"missing":0} timers=after.30s.cooling
            +30s      timer after.30s.cooling: accepted [approved] status=done output={"approved":true,"approvers":["ben","cleo"],"why":""}
        "#]],
    );
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what_would_be_right() {
    let room = Room::new();
    let wrong: [(&[&str], &str); 9] = [
        (&["instance", "gett", "a"], "unrecognized subcommand 'gett'"),
        (
            &["instance", "get", "a/b"],
            "instance id has '/' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -",
        ),
        (&["instance", "start"], "<DEFINITION>"),
        (&["instance", "start", "x", "--input", "{"], "--input is not JSON"),
        (&["instance", "send", "x", "y", "--data", "[1]"], "--data is not a JSON object"),
        (&["instance", "pause", "x"], "--reason"),
        (&["instance", "terminate", "x", "--reason", "r"], "add --yes"),
        (&["instance", "get", "x", "--timeout", "soon"], "such as 10s"),
        (&["dev", "--nodes", "10"], "10 is not in 1..=9"),
    ];
    for (arguments, said) in wrong {
        let ran = room.run(arguments);
        assert_eq!((ran.exit, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{arguments:?} says {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: usage: "), "{arguments:?} says {}", ran.stderr);
    }
}

#[test]
fn without_a_server_the_exit_code_is_6_and_nothing_was_done() {
    let room = Room::new();
    // A port that was free a moment ago; nothing of ours listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("http://127.0.0.1:{port}");
    let ran =
        room.run(&["instance", "send", "a-1", "approve", "--key", "k-1", "--server", &server]);
    assert_eq!(ran.exit, 6);
    let stderr = ran.stderr.replace(&port.to_string(), "PORT");
    assert!(stderr.starts_with("error: unreachable: nothing was done"), "{stderr}");
    assert!(
        stderr.contains("\n  repeat it with --key k-1: the same key never acts twice\n"),
        "{stderr}"
    );
    assert!(stderr.ends_with("\n  next: is a server running at http://127.0.0.1:PORT? `statehouse dev` starts one; --servers names another\n"), "{stderr}");
    let ran = room.run(&["bench", "--timeout", "1s", "--servers", &server]);
    assert_eq!(ran.exit, 6, "{}", ran.stderr);
    let ran = room.run(&["health", "--ready", "-o", "json", "--servers", &server]);
    assert_eq!(ran.exit, 6);
    let failure: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((&failure["code"], &failure["exit"]), (&"unreachable".into(), &6.into()));
}

#[test]
fn every_verb_that_names_a_key_takes_one() {
    let room = Room::new();
    let verbs: [&[&str]; 8] = [
        &["cluster", "remove", "n2.1", "--reason", "r"],
        &["cluster", "drain", "n2.1", "--reason", "r"],
        &["tenant", "create", "acme"],
        &["tenant", "quota"],
        &["tenant", "key", "create", "--name", "n", "--role", "reader"],
        &["tenant", "key", "revoke", "k-1"],
        &["definition", "set-current", "order", "2"],
        &["instance", "send", "a", "pay"],
    ];
    for verb in verbs {
        let ran = room.run(&[verb, &["--key", "k-7", "--curl"]].concat());
        assert_eq!(ran.exit, 0, "{verb:?}: {}", ran.stderr);
        assert!(ran.stdout.to_lowercase().contains("idempotency-key: k-7"), "{}", ran.stdout);
    }
    // Offering a shard twice is as good as once: there is no key, and none is named.
    let ran = room.run(&["cluster", "transfer", "0", "--curl"]);
    assert!(!ran.stdout.to_lowercase().contains("idempotency-key"), "{}", ran.stdout);
}

#[test]
fn curl_shows_the_request_and_never_the_token() {
    let room = Room::new();
    room.file("token", "secret-1\n");
    room.check(
        &["instance", "send", "a-1", "approve", "--data", "{\"note\": \"it's fine\"}", "--key", "k-1", "--if-match", "7.2", "--curl", "--token-file", "token"],
        0,
        expect![[r#"
            curl -sS -X POST 'http://127.0.0.1:7400/v1/tenants/default/instances/a-1/events/approve' -H "Authorization: Bearer $(cat token)" -H 'Idempotency-Key: k-1' -H 'If-Match: "7.2"' -H 'Content-Type: application/json' --data-binary '{"note":"it'\''s fine"}'
        "#]],
    );
    let ran = room
        .run_with(&["instance", "list", "--all", "--curl"], &[("STATEHOUSE_TOKEN", "secret-2")]);
    assert_eq!(
        ran.stdout,
        "curl -sS 'http://127.0.0.1:7400/v1/tenants/default/instances?all=true' -H \"Authorization: Bearer $STATEHOUSE_TOKEN\"\n"
    );
}

#[test]
fn a_configuration_says_where_each_value_comes_from() {
    let room = Room::new();
    room.file("node.toml", "[node]\ndata = \"./here\"\n");
    let ran = room.run_with(
        &["config", "print", "--origin", "--config", "node.toml"],
        &[("STATEHOUSE__NODE__SHARDS", "8")],
    );
    expect![[r#"
        api.behind_proxy = false               # default
        api.drain_ms = 7500                    # default
        api.listen = "127.0.0.1:7400"          # default
        builtin.http_allow = ""                # default
        builtin.webhooks = ""                  # default
        cluster.insecure_loopback = false      # default
        cluster.profile = "local"              # default
        cluster.snapshot_every = 100000        # default
        node.data = "./here"                   # node.toml
        node.number = 1                        # default
        node.shards = 8                        # variable STATEHOUSE__NODE__SHARDS
        slo.availability_per_million = 999000  # default
        slo.latency_ms = 100                   # default
        slo.latency_per_million = 990000       # default
        slo.minimum = 100                      # default
        slo.timers_per_million = 990000        # default
        telemetry.environment = ""             # default
        telemetry.format = "auto"              # default
        telemetry.level = "info"               # default
        telemetry.otlp = ""                    # default
        telemetry.service = ""                 # default
        telemetry.split_services = false       # default
        telemetry.trace_instances = ""         # default
        telemetry.trace_per_million = 10000    # default
        telemetry.trace_tenants = ""           # default
    "#]]
    .assert_eq(&ran.stdout);
    room.file("wrong.toml", "[api]\nlissen = \"127.0.0.1:1\"\n");
    room.check(
        &["config", "check", "--config", "wrong.toml"],
        2,
        expect![[r#"
            error: invalid_configuration: unknown key `api.lissen` in wrong.toml; did you mean `api.listen`?
              next: `statehouse config print` lists every key
        "#]],
    );
}

#[test]
fn what_is_printed_can_be_read_back_as_a_configuration() {
    let room = Room::new();
    let printed = room.run(&["config", "print"]).stdout;
    room.file("node.toml", &printed);
    assert_eq!(room.run(&["config", "print", "--config", "node.toml"]).stdout, printed);
}

#[test]
fn a_history_that_proves_nothing_is_no_valid_one() {
    let room = Room::new();
    room.file("empty.jsonl", "");
    let ran = room.run(&["drill", "judge", "empty.jsonl"]);
    assert_eq!(ran.exit, 3);
    assert!(ran.stdout.starts_with("UNDECIDED\n"), "{}", ran.stdout);
    let ran = room.run(&["drill", "judge", "empty.jsonl", "-o", "json"]);
    let verdict: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(verdict["verdict"], "undecided");
}

#[test]
fn completions_name_the_nouns() {
    let ran = Room::new().run(&["completions", "bash"]);
    assert_eq!(ran.exit, 0);
    for noun in ["definition", "instance", "tenant", "cluster", "bench", "drill"] {
        assert!(ran.stdout.contains(noun), "{noun}");
    }
}

#[test]
fn a_build_level_that_is_none_stops_every_command() {
    let room = Room::new();
    for verb in [&["config", "print"][..], &["dev"], &["cluster", "status"]] {
        let ran = room.run_with(verb, &[("STATEHOUSE_BUILD_LEVEL", "newest")]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (2, ""), "{verb:?}: {}", ran.stderr);
        let said = "error: usage: STATEHOUSE_BUILD_LEVEL is \"newest\", which is no feature level\n  next: set it to a \
                    whole number from 1 to 65535, or unset it\n";
        assert_eq!(ran.stderr, said, "{verb:?}");
    }
}

// The tests have a binary with deliberate bugs, unless they are built for release: that one must take none.
#[test]
fn a_deliberate_bug_that_is_none_stops_every_command() {
    let room = Room::new();
    for verb in [&["config", "print"][..], &["dev"], &["serve"]] {
        let ran = room.run_with(verb, &[("STATEHOUSE_MUTANT", "timer-late")]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (2, ""), "{verb:?}: {}", ran.stderr);
        let said =
            ran.stderr.strip_prefix("error: usage: STATEHOUSE_MUTANT is \"timer-late\", ").unwrap();
        if cfg!(debug_assertions) {
            let known = "which is no deliberate bug\n  next: unset it, or set it to one of refusal-without-log, ";
            assert!(said.starts_with(known) && said.contains(", timer-early, "), "{said}");
        } else {
            assert!(said.starts_with("and this build has no deliberate bugs"), "{said}");
        }
    }
}

#[test]
fn only_a_build_for_tests_takes_a_deliberate_bug() {
    let ran = Room::new().run_with(&["config", "print"], &[("STATEHOUSE_MUTANT", "timer-early")]);
    let expected = if cfg!(debug_assertions) { 0 } else { 2 };
    assert_eq!(ran.exit, expected, "{}", ran.stderr);
}
