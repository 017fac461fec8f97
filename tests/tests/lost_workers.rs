//! Workers that are lost in the middle of a task: killed, or stopped for longer than their lease and back again.
//!
//! The workers are real processes, `worker run` with a small program each. What one of them began another one ends; what the
//! first one still says about it is refused, whatever it believes.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use statehouse_tests::{binary::binary, patience::until, stage::Stage};

/// One task, whose lease lasts two seconds and which may be tried three times.
const JOB: &str = r#"
format: statehouse/1
id: job
version: 1
initial: going
tasks: {dig: {output: {type: object, required: [by], properties: {by: {type: string}}}}}
retries: {thrice: {maxAttempts: 3, initialInterval: 50ms, backoff: 1, maxInterval: 50ms}}
schemas: {context: {type: object, properties: {by: {type: string}}}}
states:
  going:
    invoke: {id: dig, src: "task:dig", heartbeat: 2s, retry: thrice, onDone: {target: done, actions: [{assign: {by: "${event.output.by}"}}]}, onError: failed}
  done: {type: final, output: {by: "${context.by}"}}
  failed: {type: final, error: {code: failed, message: "nobody could"}}
"#;

/// Says that it has begun, waits until it may go on, and says who it is.
const PROGRAM: &str = r#"touch "$0/begun-$1-$STATEHOUSE_INSTANCE"; while [ ! -e "$0/go-$1" ]; do sleep 0.05; done; printf '{"by": "%s"}' "$1""#;

struct House {
    stage: Stage,
    signs: PathBuf,
}

/// A worker that is ended with its test.
struct Hand(Child);

impl Drop for Hand {
    fn drop(&mut self) {
        self.signal("CONT");
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hand {
    /// Sends a signal to the worker alone; its program goes on.
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
        assert!(done.is_ok(), "{done:?}");
    }
}

impl House {
    fn open(folder: &Path) -> Self {
        let signs = folder.join("signs");
        fs::create_dir(&signs).unwrap();
        let house = Self { stage: Stage::open(&folder.join("node")).unwrap(), signs };
        let told = house.stage.ask("POST /v1/tenants/default/definitions", "deploy", JOB);
        assert_eq!(told.status, 201, "{told:?}");
        house
    }

    fn start(&self, id: &str) {
        let body = json!({"definition": "job", "id": id}).to_string();
        assert_eq!(self.stage.ask("POST /v1/tenants/default/instances", id, &body).status, 201);
    }

    fn hand(&self, name: &str) -> Hand {
        let mut command = Command::new(binary());
        command.args(["--servers", self.stage.server.address(), "--token-file"]);
        command.arg(self.stage.data().join("dev-token"));
        command.args([
            "worker", "run", "--queue", "dig", "--worker", name, "--exec", "sh", "-c", PROGRAM,
        ]);
        command.arg(&self.signs).arg(name).stdout(Stdio::null()).stderr(Stdio::null());
        Hand(command.spawn().unwrap())
    }

    fn let_go(&self, name: &str) {
        fs::write(self.signs.join(format!("go-{name}")), "").unwrap();
    }

    fn until_begun(&self, name: &str, instance: &str) {
        let sign = self.signs.join(format!("begun-{name}-{instance}"));
        let is_there = || if sign.exists() { Ok(()) } else { Err(format!("no {sign:?}")) };
        until(&format!("{name} begins with {instance}"), is_there);
    }

    fn until_done(&self, id: &str) -> (Value, Value) {
        until(&format!("{id} is done"), || {
            let told = self.stage.read(id);
            if told.field("status") == "done" {
                return Ok((told.field("output"), told.field("version")));
            }
            Err(told.body)
        })
    }
}

#[test]
fn another_worker_ends_what_a_killed_one_began() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path());
    house.start("i");
    let mut first = house.hand("first");
    house.until_begun("first", "i");
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    house.let_go("second");
    let _second = house.hand("second");
    assert_eq!(house.until_done("i"), (json!({"by": "second"}), json!(2)));
}

#[test]
fn what_a_worker_says_that_was_stopped_past_its_lease_is_refused_and_it_goes_on_with_the_next_task()
{
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path());
    house.start("i");
    let first = house.hand("first");
    house.until_begun("first", "i");
    first.signal("STOP");
    house.let_go("second");
    let second = house.hand("second");
    let ended = house.until_done("i");
    assert_eq!(ended, (json!({"by": "second"}), json!(2)));
    drop(second);
    // The first one wakes, hears its program say that all is well, and reports a task that is not its own any more.
    house.let_go("first");
    first.signal("CONT");
    house.start("j");
    assert_eq!(house.until_done("j").0, json!({"by": "first"}));
    assert_eq!(house.until_done("i"), ended, "what it said of the other one changed nothing");
    let history = house.stage.ask("GET /v1/tenants/default/instances/i/history", "", "");
    assert_eq!(history.field("items").as_array().unwrap().len(), 2, "{history:?}");
}
