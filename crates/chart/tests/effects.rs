//! What a step asks for: rows, work, messages and answers, as text.
//!
//! The conformance cases look at what an instance becomes; these look at what leaves it. Data in, text out: one function
//! touches the chart, and a change of any effect shows as a difference here.
#![allow(clippy::unwrap_used, reason = "a test says what it does")]

mod told;

use expect_test::expect;
use statehouse_chart::{Chart, Snapshot, SnapshotError, Trigger, Value, explain, step};
use statehouse_contract::time::Timestamp;
use told::{chart, check};

#[test]
fn timers_have_rows_with_generations_and_a_restart_is_a_new_one() {
    check(
        r#"{"id": "d", "commands": {"go": {}, "touch": {}}, "states": {
            "a": {"after": {"1h": "b"}, "idle": {"10s": "b"}, "on": {"touch": {"actions": [{"raise": {"event": "x", "delay": "5s", "id": "n"}}]}, "go": "b"}},
            "b": {"type": "final"}}}"#,
        "send touch
         at 4000
         send touch
         timer idle.10s.a
         at 14000
         timer idle.10s.a",
        expect![[r#"
            start: accepted v1 [a] running
              StartTimer { id: "after.1h.a", due: Timestamp(3600000), generation: 1, number: 0 }
              StartTimer { id: "idle.10s.a", due: Timestamp(10000), generation: 1, number: 1 }
            send touch: accepted v2 [a] running
              CancelTimer { id: "idle.10s.a", generation: 1 }
              StartTimer { id: "raise.n", due: Timestamp(5000), generation: 2, number: 2 }
              StartTimer { id: "idle.10s.a", due: Timestamp(10000), generation: 2, number: 3 }
            send touch: accepted v3 [a] running
              CancelTimer { id: "raise.n", generation: 2 }
              CancelTimer { id: "idle.10s.a", generation: 2 }
              StartTimer { id: "raise.n", due: Timestamp(9000), generation: 3, number: 4 }
              StartTimer { id: "idle.10s.a", due: Timestamp(14000), generation: 3, number: 5 }
            timer idle.10s.a: refused stale: no such timer or task is open; accepts 
            timer idle.10s.a: accepted v4 [b] done
              CancelTimer { id: "after.1h.a", generation: 1 }
              CancelTimer { id: "raise.n", generation: 3 }
              CancelTimer { id: "idle.10s.a", generation: 3 }
              TellParent(Done { output: null })
        "#]],
    );
}

#[test]
fn work_is_ordered_with_everything_that_its_runner_needs() {
    check(
        r#"{"id": "d", "signals": {"stop": {}}, "tasks": {"pay": {"queue": "money"}},
            "retries": {"often": {"maxAttempts": 5, "nonRetryable": ["net.*"]}},
            "states": {
            "a": {"invoke": [
                {"id": "p", "src": "task:pay", "input": {"n": "${1 + 1}"}, "timeout": "30s", "heartbeat": "5s", "retry": "often", "compensate": {"src": "task:refund", "from": "start", "timeout": "1m"}, "onError": "b"},
                {"id": "w", "src": "workflow:other@3", "input": {"x": 1}},
                {"id": "v", "src": "workflow:other", "detached": true},
                {"id": "q", "src": "http", "queue": "web"}], "on": {"stop": "b"}},
            "b": {"invoke": {"id": "u", "src": "saga:compensate", "onDone": "c", "onError": "b"}}, "c": {"type": "final"}}}"#,
        "started task:pay
         signal stop
         released task:pay
         done task:refund
         done task:refund",
        expect![[r#"
            start: accepted v1 [a] running
              task 1-0 task:pay queue money input {"n":2} timeout Some(30000) lease Some(5000) attempts 5 report true
              child 1-1 other version Some(3) input {"x":1}
              child 1-2 other version None input {}
              task 1-3 http queue web input {} timeout None lease None attempts 1 report false
            started task:pay: accepted v2 [a] running
            signal stop: accepted v3 [b] compensating
              CancelTask { work: WorkKey { version: 1, number: 0 }, report_release: true }
              CancelChild { work: WorkKey { version: 1, number: 1 } }
              CancelTask { work: WorkKey { version: 1, number: 3 }, report_release: false }
            released task:pay: accepted v4 [b] compensating
              task 4-0 task:refund queue refund input {} timeout Some(60000) lease None attempts 1 report false
            done task:refund: accepted v5 [c] done
              CloseTask { work: WorkKey { version: 4, number: 0 } }
              TellParent(Done { output: null })
            done task:refund: refused stale: no such timer or task is open; accepts 
        "#]],
    );
}

#[test]
fn messages_leave_in_the_order_of_the_actions() {
    check(
        r#"{"id": "d", "commands": {"go": {}}, "states": {
            "a": {"on": {"go": {"target": "b", "actions": [
                {"emit": {"event": "e", "data": {"at": "${now}"}}}, {"sendTo": {"workflow": "i-2", "event": "hi"}},
                {"sendParent": {"event": "up", "data": [1]}}, {"log": "done"}, {"reply": {"by": "${event.actor}"}}]}}},
            "b": {"type": "final", "error": {"code": "bad", "message": "It went wrong."}}}}"#,
        "at 1500
         send go
         send go
         signal go",
        expect![[r#"
            start: accepted v1 [a] running
            send go: accepted v2 [b] failed
              reply {"by":"ann"}
              Emit { event: "e", data: {"at":"1970-01-01T00:00:01.500Z"} }
              Send { instance: "i-2", event: "hi", data: {} }
              SendParent { event: "up", data: [1] }
              Log { value: "done" }
              TellParent(Failed { code: "bad", message: "It went wrong." })
            send go: refused instance_finished: the instance has ended; accepts 
            signal go: refused unknown_event: the definition declares no such event; accepts 
        "#]],
    );
}

#[test]
fn postponed_commands_have_deadlines_and_are_settled() {
    check(
        r#"{"id": "d", "commands": {"x": {"deadline": "5s"}, "y": {}, "go": {}}, "states": {
            "a": {"postpone": ["x", "y"], "on": {"go": "b"}},
            "b": {"on": {"x": {"actions": [{"reply": 1}]}, "go": "a"}}}}"#,
        "send x
         send y
         expire t-x
         send go
         queue
         queue
         send go
         send y
         at 60000
         expire t-y",
        expect![[r#"
            start: accepted v1 [a] running
            send x: postponed v2 [a] running
              StartPostpone { ticket: "t-x", due: Timestamp(5000) }
            send y: postponed v3 [a] running
              StartPostpone { ticket: "t-y", due: Timestamp(60000) }
            expire t-x: refused stale: no such timer or task is open; accepts 
            send go: accepted v4 [b] running
              RunQueue
            queue: accepted v5 [b] running
              EndPostpone { ticket: "t-x" }
              RunQueue
              settled t-x: Ok("Some(1)")
            queue: settled v6 [b] running
              EndPostpone { ticket: "t-y" }
              settled t-y: Err("not_handled")
            send go: accepted v7 [a] running
            send y: postponed v8 [a] running
              StartPostpone { ticket: "t-y", due: Timestamp(60000) }
            expire t-y: settled v9 [a] running
              EndPostpone { ticket: "t-y" }
              settled t-y: Err("postpone_expired")
        "#]],
    );
}

#[test]
fn operators_hold_release_and_end() {
    check(
        r#"{"id": "d", "commands": {"go": {}}, "context": {"n": 0}, "states": {
            "a": {"after": {"1h": "b"}, "exit": [{"emit": {"event": "left"}}], "invoke": {"src": "task:t", "compensate": {"src": "task:undo"}, "onDone": "a"},
                  "on": {"go": {"actions": [{"assign": {"n": "${1 / context.n}"}}]}}}, "b": {}}}"#,
        "pause
         pause
         send go
         resume
         send go
         send nothing
         retry
         done task:t
         cancel
         done task:undo
         cancel",
        expect![[r#"
            start: accepted v1 [a] running
              StartTimer { id: "after.1h.a", due: Timestamp(3600000), generation: 1, number: 0 }
              task 1-0 task:t queue t input {} timeout None lease None attempts 1 report false
            pause: accepted v2 [a] paused
              HoldTimers
            pause: refused not_handled: the instance's status does not allow this; accepts go
            send go: refused instance_paused: the instance is paused; accepts go
            resume: accepted v3 [a] running
              ReleaseTimers
            send go: refused evaluation_error: evaluating `1 / context.n` at /states/a/on/go/actions/0/assign/n failed: division by zero; accepts go
            send nothing: refused unknown_event: the definition declares no such event; accepts go
            retry: refused not_handled: the instance's status does not allow this; accepts go
            done task:t: accepted v4 [a] running
              CloseTask { work: WorkKey { version: 1, number: 0 } }
            cancel: accepted v5 [] compensating
              CancelTimer { id: "after.1h.a", generation: 1 }
              Emit { event: "left", data: {} }
              task 5-0 task:undo queue undo input {} timeout None lease None attempts 1 report false
            done task:undo: accepted v6 [] cancelled
              CloseTask { work: WorkKey { version: 5, number: 0 } }
              TellParent(Failed { code: "cancelled", message: "the child was cancelled" })
            cancel: refused instance_finished: the instance has ended; accepts 
        "#]],
    );
    check(
        r#"{"id": "d", "states": {"a": {"after": {"1h": "b"}}, "b": {}}}"#,
        "terminate
         pause",
        expect![[r#"
            start: accepted v1 [a] running
              StartTimer { id: "after.1h.a", due: Timestamp(3600000), generation: 1, number: 0 }
            terminate: accepted v2 [a] terminated
              CancelTimer { id: "after.1h.a", generation: 1 }
              TellParent(Failed { code: "terminated", message: "the child was terminated" })
            pause: refused instance_finished: the instance has ended; accepts 
        "#]],
    );
}

#[test]
fn what_is_not_open_or_not_due_is_stale_and_a_payload_is_judged() {
    check(
        r#"{"id": "d", "commands": {"pay": {"schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}},
            "states": {"a": {"after": {"1h": "b"}, "on": {"pay": {"guard": "event.data.n > 1", "target": "b"}}}, "b": {}}}"#,
        "timer after.1h.a
         timer after.2h.a
         queue
         send pay
         send pay {\"n\":1}
         send done.state.a
         signal pay {\"n\":1}",
        expect![[r#"
            start: accepted v1 [a] running
              StartTimer { id: "after.1h.a", due: Timestamp(3600000), generation: 1, number: 0 }
            timer after.1h.a: refused stale: no such timer or task is open; accepts 
            timer after.2h.a: refused stale: no such timer or task is open; accepts 
            queue: refused stale: no such timer or task is open; accepts 
            send pay: refused invalid_payload: the payload does not fit its schema: the field `n` is missing; accepts pay
            send pay {"n":1}: refused guard_refused: every guard for this event said no; accepts pay
            send done.state.a: refused unknown_event: the definition declares no such event; accepts pay
            signal pay {"n":1}: refused unknown_event: the definition declares no such event; accepts pay
        "#]],
    );
}

#[test]
fn a_start_is_refused_whole() {
    let chart = chart(
        r#"{"id": "d", "schemas": {"input": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}},
            "context": {"n": "${10 / input.n}"}, "states": {"a": {}}}"#,
    );
    let start = |input: &str| {
        let input = Value::parse(input).unwrap();
        let trigger = Trigger::Start { input, actor: String::new(), tenant: String::new() };
        step(&chart, &Snapshot::unborn(), &trigger, Timestamp(5)).map_or_else(
            |refusal| refusal.to_string(),
            |taken| format!("v{} {}", taken.next.version, taken.next.context),
        )
    };
    expect![[r#"
        invalid_payload: the payload does not fit its schema: the field `n` is missing
        evaluation_error: evaluating `10 / input.n` at /context/n failed: division by zero
        v1 {"n":2}"#]]
    .assert_eq(&[start("{}"), start("{\"n\":0}"), start("{\"n\":5}")].join("\n"));
}

#[test]
fn candidates_are_explained_with_their_guards_and_without_secrets() {
    let chart = chart(
        r#"{"id": "d", "commands": {"go": {"role": "operator"}, "idle": {}}, "schemas": {"context": {"type": "object", "properties": {
                "n": {"type": "integer"}, "pin": {"type": "string", "x-secret": true}}}},
            "context": {"n": 3, "pin": "1234"}, "states": {"o": {"on": {"go": "p"}, "states": {"a": {"on": {"go": [
                {"guard": "context.n > 5 && context.pin != ''", "target": "b"},
                {"guard": "event.data.force", "reject": {"code": "no"}},
                {"guard": "context.missing == 1", "target": "b"}]}}, "b": {}}}, "p": {}}}"#,
    );
    let start =
        Trigger::Start { input: Value::empty(), actor: String::new(), tenant: String::new() };
    let now = step(&chart, &Snapshot::unborn(), &start, Timestamp(0)).unwrap().next;
    let explained = serde_json::to_string_pretty(&explain(&chart, &now, Timestamp(0))).unwrap();
    expect![[r#"
        [
          {
            "event": "go",
            "kind": "command",
            "role": "operator",
            "candidates": [
              {
                "state": "a",
                "descriptor": "go",
                "place": "/states/o/states/a/on/go/0",
                "does": "moves",
                "targets": [
                  "b"
                ],
                "guard": {
                  "text": "context.n > 5 && context.pin != ''",
                  "inputs": {
                    "context.n": 3,
                    "context.pin": "***"
                  },
                  "says": "false"
                }
              },
              {
                "state": "a",
                "descriptor": "go",
                "place": "/states/o/states/a/on/go/1",
                "does": "rejects",
                "code": "no",
                "guard": {
                  "text": "event.data.force",
                  "inputs": {},
                  "says": "depends on the event"
                }
              },
              {
                "state": "a",
                "descriptor": "go",
                "place": "/states/o/states/a/on/go/2",
                "does": "moves",
                "targets": [
                  "b"
                ],
                "guard": {
                  "text": "context.missing == 1",
                  "inputs": {
                    "context.missing": null
                  },
                  "says": "error",
                  "error": "there is no field `missing`"
                }
              },
              {
                "state": "o",
                "descriptor": "go",
                "place": "/states/o/on/go",
                "does": "moves",
                "targets": [
                  "p"
                ]
              }
            ]
          }
        ]"#]]
    .assert_eq(&explained);
}

#[test]
fn bytes_that_are_no_snapshot_are_told_apart() {
    let good = Snapshot::unborn().encode();
    let mut newer = good.clone();
    newer[1] = 9;
    let mut longer = good.clone();
    longer.push(0);
    let told = |bytes: &[u8]| {
        Snapshot::decode(bytes).map_or_else(|error| error.to_string(), |_| "a snapshot".to_owned())
    };
    assert_eq!(told(&good), "a snapshot");
    assert_eq!(told(&[1]), "the snapshot has no schema number");
    assert_eq!(told(&newer), "snapshot schema 9 is unknown to this build, which reads up to 1");
    assert_eq!(told(&good[..good.len() - 1]), "the snapshot's body does not read");
    assert_eq!(told(&longer), "the snapshot's body does not read");
    assert!(matches!(Snapshot::decode(&[1]), Err(SnapshotError::NoSchema)));
}

#[test]
fn a_chart_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Chart>();
    shared::<Snapshot>();
    shared::<Trigger>();
}

#[test]
fn the_digest_is_of_the_document_with_its_key_order() {
    let digest = |text: &str| chart(text).digest();
    let yaml = digest("id: d\nstates: {a: {}, b: {}}\n");
    assert_eq!(yaml, digest(r#"{"id": "d", "states": {"a": {}, "b": {}}}"#));
    assert_ne!(yaml, digest(r#"{"id": "d", "states": {"b": {}, "a": {}}}"#));
}

#[test]
fn a_timers_event_says_how_late_it_fires() {
    check(
        r#"
format: statehouse/1
version: 1
id: late
initial: waiting
schemas: {context: {type: object, required: [late], properties: {late: {type: integer}}}}
context: {late: 0}
states:
  waiting:
    after: {1s: {target: told, actions: [{assign: {late: "${event.lateMs}"}}]}}
  told: {type: final, output: {late: "${context.late}"}}
"#,
        "at 4500
         timer after.1s.waiting",
        expect![[r#"
            start: accepted v1 [waiting] running
              StartTimer { id: "after.1s.waiting", due: Timestamp(1000), generation: 1, number: 0 }
            timer after.1s.waiting: accepted v2 [told] done
              CancelTimer { id: "after.1s.waiting", generation: 1 }
              TellParent(Done { output: {"late":3500} })
        "#]],
    );
}
