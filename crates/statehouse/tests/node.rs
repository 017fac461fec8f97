//! A node as a process: how it starts, what it leaves in its directory, how it ends.
//!
//! Each test has a directory and a free port of its own; a process ends with its handle.
//!
//! Deliberately absent: workflows. The README's transcript and the scenarios run those.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use expect_test::expect;
use statehouse_lab::{Launch, Server, free_address, http_get};

const READY: Duration = Duration::from_secs(60);
const ENDED: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(10);

/// The directory in which a test's processes run.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Server {
        self.start_with(arguments, &[])
    }

    fn start_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let launch = Launch {
            binary: env!("CARGO_BIN_EXE_statehouse").into(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            environment: variables.iter().map(pair).collect(),
            logs: self.path("lines"),
            address: None,
        };
        Server::start(launch, READY).unwrap()
    }

    fn dev(&self, more: &[&str]) -> Server {
        let data = self.path("data").display().to_string();
        let mut arguments = vec!["dev", "--listen", "127.0.0.1:0", "--data", &data];
        arguments.extend(more);
        self.start(&arguments)
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statehouse"));
        command.args(arguments).current_dir(self.0.path());
        for name in ["STATEHOUSE_TOKEN", "STATEHOUSE_SERVERS"] {
            command.env_remove(name);
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    fn ask(&self, server: &Server, arguments: &[&str]) -> (i32, String, String) {
        let token = self.path("data/dev-token").display().to_string();
        let url = server.url();
        let mut all = vec!["--servers", &url, "--token-file", &token];
        all.extend(arguments);
        self.run(&all)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn dev_lays_out_its_directory_and_ends_cleanly_on_sigterm() {
    let room = Room::new();
    let mut server = room.dev(&["--shards", "2"]);
    assert_eq!(mode(&room.path("data/dev-token")), 0o600);
    assert_eq!(mode(&room.path("data/node-1")), 0o700, "nobody else reads the log");
    for name in ["LOCK", "identity.json", "node.toml", "log.db", "state-0.db", "state-1.db"] {
        assert!(room.path("data/node-1").join(name).exists(), "{name}");
    }
    assert_eq!(room.text("data/nodes"), "1\n");
    assert_eq!(room.text("data/node-1/statehouse.pid"), format!("{}\n", server.pid()));
    assert_eq!(room.text("data/node-1/api-address"), format!("{}\n", server.url()));
    let (exit, status, _) = room.ask(&server, &["cluster", "status"]);
    assert_eq!(exit, 0);
    assert_eq!(status.lines().filter(|line| line.contains("leader")).count(), 2, "{status}");
    assert!(server.stop(ENDED).unwrap().success(), "it exits with 0");
    assert!(!room.path("data/node-1/statehouse.pid").exists());
    // The number of shards is the directory's; it need not be given again.
    drop(room.dev(&[]));
    let (exit, _, stderr) =
        room.run(&["dev", "--listen", "127.0.0.1:0", "--data", "data", "--shards", "3"]);
    assert_eq!(exit, 5, "{stderr}");
    assert!(stderr.contains("was made with 2 shards, not with 3"), "{stderr}");
}

#[test]
fn dev_shows_a_new_token_once_and_keeps_it() {
    let room = Room::new();
    let server = room.dev(&[]);
    let token = room.text("data/dev-token").trim().to_owned();
    assert!(room.text("lines/stdout.log").contains(&token));
    drop(server);
    fs::remove_file(room.path("lines/stdout.log")).unwrap();
    let server = room.dev(&[]);
    assert!(!room.text("lines/stdout.log").contains(&token));
    assert_eq!(room.text("data/dev-token").trim(), token);
    assert_eq!(room.ask(&server, &["instance", "list"]).0, 0);
    drop(server);
    let server = room.dev(&["--token", "chosen-by-hand"]);
    assert_eq!(room.text("data/dev-token"), "chosen-by-hand\n");
    assert_eq!(room.ask(&server, &["instance", "list"]).0, 0);
}

#[test]
fn a_token_that_is_set_takes_the_place_of_the_one_before() {
    let room = Room::new();
    let says = |server: &Server, token: &str| {
        fs::write(room.path("token"), token).unwrap();
        let file = room.path("token").display().to_string();
        room.run(&["--servers", &server.url(), "--token-file", &file, "instance", "list"]).0
    };
    let mut first = room.dev(&["--token", "first"]);
    assert_eq!((says(&first, "first"), says(&first, "second")), (0, 3));
    first.stop(ENDED).unwrap();
    let mut second = room.dev(&["--token", "second"]);
    assert_eq!((says(&second, "first"), says(&second, "second")), (3, 0));
    second.stop(ENDED).unwrap();
    // Killed after the file was written and before the key before was revoked.
    fs::write(room.path("data/dev-token"), "third").unwrap();
    let mut third = room.dev(&[]);
    assert_eq!((says(&third, "second"), says(&third, "third")), (3, 0));
    third.stop(ENDED).unwrap();
    let data = room.path("data").display().to_string();
    let dev = |token: &str| {
        room.run(&["dev", "--listen", "127.0.0.1:0", "--data", &data, "--token", token])
    };
    let (code, _, errors) = dev("first");
    assert!(code == 5 && errors.contains("choose a new --token"), "{code} {errors}");
    let (code, _, errors) = dev("a b");
    assert!(code == 2 && errors.contains("visible ASCII"), "{code} {errors}");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let room = Room::new();
    let server = room.dev(&[]);
    let (exit, stdout, stderr) = room.run(&["dev", "--listen", "127.0.0.1:0", "--data", "data"]);
    assert_eq!((exit, stdout.as_str()), (5, ""), "{stderr}");
    assert!(
        stderr.starts_with("error: locked: the data directory data/node-1 is in use"),
        "{stderr}"
    );
    assert!(stderr.contains(&format!("process {} runs on it", server.pid())), "{stderr}");
    assert_eq!(http_get(server.address(), "/readyz", ANSWER).unwrap().0, 200);
}

#[test]
fn an_address_in_use_is_named() {
    let room = Room::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (exit, _, stderr) = room.run(&["dev", "--listen", &address, "--data", "data"]);
    assert_eq!(exit, 5, "{stderr}");
    assert!(stderr.starts_with(&format!("error: address: cannot listen on {address}")), "{stderr}");
}

#[test]
fn serve_never_makes_a_cluster_by_itself() {
    let room = Room::new();
    fs::write(
        room.path("node.toml"),
        "[node]\ndata = \"data\"\nshards = 1\n[api]\nlisten = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let (exit, _, stderr) = room.run(&["serve", "--config", "node.toml"]);
    assert_eq!(exit, 3, "{stderr}");
    assert!(
        stderr.starts_with("error: not_initialised: ")
            && stderr.contains("`statehouse cluster init`"),
        "{stderr}"
    );
    let (exit, stdout, stderr) = room.run(&["cluster", "init", "--config", "node.toml"]);
    assert_eq!(exit, 0, "{stderr}");
    assert!(stdout.contains("with 1 shards"), "{stdout}");
    let (exit, stdout, stderr) = room.run(&["cluster", "init", "--config", "node.toml"]);
    assert_eq!(exit, 0, "{stderr}");
    assert!(stdout.contains("was made before"), "{stdout}");
    let token = room.path("data/admin-token");
    assert_eq!(mode(&token), 0o600);
    // The configuration's paths are relative to where the process runs.
    let data = room.path("data").display().to_string();
    let mut server = room.start(&[
        "serve",
        "--config",
        &room.path("node.toml").display().to_string(),
        "--data",
        &data,
    ]);
    let token = token.display().to_string();
    let url = server.url();
    let (exit, stdout, stderr) = room.run(&[
        "tenant",
        "key",
        "create",
        "--name",
        "bea",
        "--role",
        "caller,reader",
        "-o",
        "json",
        "--server",
        &url,
        "--token-file",
        &token,
    ]);
    assert_eq!(exit, 0, "{stderr}");
    let key: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    fs::write(room.path("bea"), key["token"].as_str().unwrap()).unwrap();
    let bea = |arguments: &[&str]| {
        let mut all = vec!["--server", url.as_str(), "--token-file", "bea"];
        all.extend(arguments);
        room.run(&all)
    };
    assert_eq!(bea(&["instance", "list"]).0, 0);
    let (exit, _, stderr) = bea(&["tenant", "list"]);
    assert_eq!(exit, 3, "{stderr}");
    assert!(stderr.starts_with("error: forbidden: "), "{stderr}");
    let (exit, _, stderr) = bea(&["instance", "get", "nobody"]);
    assert_eq!(exit, 4, "{stderr}");
    assert!(stderr.starts_with("error: unknown_instance: "), "{stderr}");
    assert!(server.stop(ENDED).unwrap().success());
}

#[test]
fn without_a_token_the_way_to_one_is_named() {
    let room = Room::new();
    let server = room.dev(&[]);
    let (exit, _, stderr) = room.run(&["instance", "list", "--server", &server.url()]);
    assert_eq!(exit, 3, "{stderr}");
    assert!(stderr.starts_with("error: unauthenticated: "), "{stderr}");
    assert!(stderr.contains("next: give a token: --token-file FILE"), "{stderr}");
}

#[test]
fn a_plain_node_off_loopback_is_refused() {
    let room = Room::new();
    let (exit, _, stderr) = room.run(&["dev", "--listen", "0.0.0.0:0", "--data", "data"]);
    assert_eq!(exit, 2, "{stderr}");
    assert!(stderr.contains("is not loopback"), "{stderr}");
    assert!(!room.path("data").exists(), "nothing was made");
}

#[test]
fn a_node_that_is_asked_to_stop_does_so_within_ten_seconds_even_with_an_open_watch() {
    let room = Room::new();
    let mut server = room.dev(&[]);
    let address = server.address().to_owned();
    let token = room.text("data/dev-token").trim().to_owned();
    let mut watch = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(
        &mut watch,
        format!("GET /v1/tenants/default/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut watch, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let begin = Instant::now();
    assert!(server.stop(ENDED).unwrap().success());
    assert!(begin.elapsed() < ENDED);
}

#[test]
fn a_server_that_is_down_costs_neither_a_command_nor_a_load_run_its_end() {
    let room = Room::new();
    let data = room.path("statehouse-data").display().to_string();
    let server = room.start(&["dev", "--listen", "127.0.0.1:0", "--data", &data]);
    let down = format!("http://{}", free_address().unwrap());
    // What a second node of the directory that was killed leaves behind.
    fs::create_dir(room.path("statehouse-data/node-2")).unwrap();
    fs::write(room.path("statehouse-data/node-2/api-address"), format!("{down}\n")).unwrap();
    let start = ["instance", "start", "approval", "--id", "a-1", "--input", "{\"amount\": 12}"];
    let (exit, _, stderr) = room.run(&start);
    assert_eq!(exit, 0, "{stderr}");
    let both = format!("{down},{}", server.url());
    let (exit, _, stderr) = room.run(&["instance", "get", "a-1", "--servers", &both]);
    assert_eq!(exit, 0, "{stderr}");
    let load = ["bench", "--count", "200", "--clients", "4", "--history", "h.jsonl", "-o", "json"];
    let (exit, stdout, stderr) = room.run(&[&load[..], &["--servers", &both]].concat());
    assert_eq!(exit, 0, "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&report["classes"]["ok"], &report["leader_changes"]), (&200.into(), &0.into()));
    assert!(report["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty()), "{report}");
    let notes = report["notes"].as_array().unwrap();
    assert!(
        notes.len() == 1
            && notes[0].as_str().unwrap().starts_with(&format!("{down} does not answer")),
        "{report}"
    );
    let (exit, verdict, stderr) = room.run(&["drill", "judge", "h.jsonl"]);
    assert_eq!(exit, 0, "{verdict}{stderr}");
    drop(server);
    let (exit, _, stderr) = room.run(&["instance", "get", "a-1", "--servers", &both]);
    assert_eq!(exit, 6, "{stderr}");
    assert!(stderr.contains(&both.replace(',', ", ")), "{stderr}");
}

#[test]
fn a_level_is_raised_for_every_shard_and_an_older_build_says_what_to_do() {
    let room = Room::new();
    let newer = [("STATEHOUSE_BUILD_LEVEL", "2")];
    let data = room.path("data").display().to_string();
    let dev = ["dev", "--listen", "127.0.0.1:0", "--data", &data, "--shards", "2"];
    let server = room.start_with(&dev, &newer);
    let ask = |arguments: &[&str]| {
        let (exit, stdout, stderr) = room.ask(&server, arguments);
        format!("exit {exit}\n{stdout}{stderr}")
    };
    expect![[r#"
        exit 3
        error: limit_exceeded: shard 1 stays at level 1: level 3 is beyond the builds of n1.1 (level 2); start newer ones there; then raise it again
          next: `statehouse cluster status` shows which level each node's build knows
    "#]].assert_eq(&ask(&["cluster", "raise", "3"]));
    expect![[r#"
        exit 0
        SHARD  LEVEL  OUTCOME
        1      2      raised
    "#]]
    .assert_eq(&ask(&["cluster", "raise", "2", "--shard", "1"]));
    expect![[r#"
        exit 0
        SHARD  LEVEL  OUTCOME
        1      2      had it already
        0      2      raised
    "#]]
    .assert_eq(&ask(&["cluster", "raise", "2"]));
    expect![[r#"
        exit 3
        error: invalid_request: there is no such shard
          next: `statehouse cluster status` shows which level each node's build knows
    "#]]
    .assert_eq(&ask(&["cluster", "raise", "2", "--shard", "7"]));
    expect![[r#"
        exit 2
        error: usage: invalid value '0' for '<LEVEL>': 0 is not in 1..=65535

        For more information, try '--help'.
    "#]]
    .assert_eq(&ask(&["cluster", "raise", "0"]));
    expect![[r#"
        exit 2
        error: usage: which shards there are is not known before the cluster was asked
          next: name one with --shard
    "#]]
    .assert_eq(&ask(&["cluster", "raise", "2", "--curl"]));
    drop(server);
    let (exit, stdout, stderr) = room.run(&dev);
    let stderr = stderr.replace(&data, "DATA");
    expect![[r#"
        exit 5
        error: level: DATA/node-1/state-0.db is at feature level 2, and this build knows levels up to 1
          next: start it with a build that knows level 2, as the other nodes run; nothing was changed
    "#]].assert_eq(&format!("exit {exit}\n{stdout}{stderr}"));
    // As the newer build it goes on.
    let server = room.start_with(&dev, &newer);
    assert_eq!(room.ask(&server, &["instance", "list"]).0, 0);
}
