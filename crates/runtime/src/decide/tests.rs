//! Decisions as transcripts: a script of plain commands goes in, what would be written comes out.
//!
//! The world below applies what `decide` drafts by the rules of apply that matter here: an entry stands at exactly the
//! version and digest that it expects, a row that is disarmed was there. It knows no files and no actors.

mod deadlines;
mod world;

use expect_test::expect;
use world::{World, check};

const DOOR: &str = r#"
format: statehouse/1
version: 1
id: door
initial: closed
endless: true
context: {count: 0}
schemas:
  context: {type: object, properties: {count: {type: integer}}, required: [count]}
commands:
  open: {schema: {type: object, properties: {by: {type: string}}}, deadline: 5m}
  close: {}
  lock: {role: warden}
  break: {}
  later: {}
signals:
  ping: {}
  noise: {}
states:
  closed:
    on:
      open: {target: opened, actions: [{assign: {count: '${context.count + 1}'}}, {reply: {count: '${context.count}'}}]}
      lock: {target: locked}
      ping: {actions: [{emit: {event: pong, data: {n: '${context.count}'}}}]}
      break: {reject: {code: too_strong, message: It does not break.}}
      later: {postpone: true}
  opened:
    after: {30s: closed}
    on:
      close: {target: closed}
      later: {actions: [{reply: {at: opened}}]}
  locked:
    on:
      open: {guard: 'context.count > 100', target: opened}
"#;

#[test]
fn a_start_makes_version_1_and_says_what_it_runs() {
    check(
        DOOR,
        "start {}\nstart {} key=other",
        &expect![[r#"
        > start {}
          1.1 start "start":  -> closed running key k1
          Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
        > start {} key=other
          refused Refused(AlreadyExists)
          {"type":"/errors/already_exists","title":"it exists already","status":409,"detail":"there is an instance i already","instance":"/v1/tenants/t/instances/i","code":"already_exists","source":"instance","retryable":false,"advice":"do not repeat it as it is","version":1,"configuration":["closed"]}
    "#]],
    );
}

#[test]
fn a_command_moves_replies_and_arms_its_timer() {
    check(
        DOOR,
        "start {}\nsend open {\"by\":\"me\"}\nadvance 29s\nfire\nadvance 1s\nfire",
        &expect![[r#"
        > start {}
          1.1 start "start":  -> closed running key k1
          Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
        > send open {"by":"me"}
          1.2 cmd "open": closed -> opened running key k2
          due: arm after.30s.opened at 30s
          Accepted {"version":2,"from":["closed"],"to":["opened"],"status":"running","reply":{"count":1},"tasks":[],"timers":[{"id":"after.30s.opened","due":"1970-01-01T00:00:30.000Z"}]}
        > advance 29s
          at 1970-01-01T00:00:29.000Z
        > fire
          nothing is due
        > advance 1s
          at 1970-01-01T00:00:30.000Z
        > fire
          1.3 timer "after.30s.opened": opened -> closed running timer after.30s.opened of 2
          due: disarm after.30s.opened at 30s
    "#]],
    );
}

#[test]
fn every_refusal_is_written_down_with_the_version_at_which_it_was_judged() {
    check(
        DOOR,
        "send open {}
         start {}
         send close {}
         send break {}
         send nonsense {}
         send open {\"by\":7}
         send lock {}
         send open {} if=1.7
         send lock {} role=warden
         send open {}",
        &expect![[r#"
            > send open {}
              refused Refused(UnknownInstance)
              {"type":"/errors/unknown_instance","title":"no such instance","status":404,"detail":"there is no instance i","instance":"/v1/tenants/t/instances/i","code":"unknown_instance","source":"instance","retryable":false,"advice":"do not repeat it as it is"}
            > start {}
              1.1 start "start":  -> closed running key k2
              Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
            > send close {}
              refused Refused(NotHandled)
              {"type":"/errors/not_handled","title":"no active state handles this event","status":409,"detail":"nothing that is active takes this event","instance":"/v1/tenants/t/instances/i","code":"not_handled","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":1,"configuration":["closed"],"accepts":["later","lock","open","ping"]}
            > send break {}
              refused Refused(Rejected)
              {"type":"/errors/rejected","title":"the workflow rejects this","status":409,"detail":"It does not break.","instance":"/v1/tenants/t/instances/i","code":"rejected","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":1,"configuration":["closed"],"reason":"too_strong"}
            > send nonsense {}
              refused Refused(UnknownEvent)
              {"type":"/errors/unknown_event","title":"the definition declares no such event","status":409,"detail":"the definition declares no such event","instance":"/v1/tenants/t/instances/i","code":"unknown_event","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":1,"configuration":["closed"],"accepts":["later","lock","open","ping"]}
            > send open {"by":7}
              refused Refused(InvalidPayload)
              {"type":"/errors/invalid_payload","title":"the payload does not fit its schema","status":422,"detail":"the payload does not fit its schema at /by: expected string, found integer","instance":"/v1/tenants/t/instances/i","code":"invalid_payload","source":"instance","retryable":false,"advice":"do not repeat it as it is","version":1,"configuration":["closed"],"violations":[{"pointer":"/by","message":"expected string, found integer"}]}
            > send lock {}
              refused Refused(Forbidden)
              {"type":"/errors/forbidden","title":"the credential does not allow this","status":403,"detail":"this takes the role `warden`","instance":"/v1/tenants/t/instances/i","code":"forbidden","source":"instance","retryable":false,"advice":"do not repeat it as it is","version":1,"configuration":["closed"]}
            > send open {} if=1.7
              refused Refused(VersionConflict)
              {"type":"/errors/version_conflict","title":"the instance is at another version","status":412,"detail":"expected version 1.7, found 1.1","instance":"/v1/tenants/t/instances/i","code":"version_conflict","source":"instance","retryable":false,"advice":"read the instance, then send a new command with a new key","version":1,"configuration":["closed"]}
            > send lock {} role=warden
              1.2 cmd "lock": closed -> locked running key k9
              Accepted {"version":2,"from":["closed"],"to":["locked"],"status":"running","tasks":[],"timers":[]}
            > send open {}
              refused Refused(GuardRefused)
              {"type":"/errors/guard_refused","title":"every guard said no","status":409,"detail":"every guard for this event said no","instance":"/v1/tenants/t/instances/i","code":"guard_refused","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":2,"configuration":["locked"],"accepts":["open"]}
        "#]],
    );
}

#[test]
fn a_postponed_command_is_settled_under_its_own_key() {
    check(
        DOOR,
        "start {}\nsend later {} key=k\nsend open {}\nqueue\nsend later {}",
        &expect![[r#"
        > start {}
          1.1 start "start":  -> closed running key k1
          Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
        > send later {} key=k
          1.2 cmd "later": closed -> closed running key k
          due: arm postponed at 60s
          Postponed {"postponed":true,"ticket":"687c6ac58cd6d1cae01444aa5c79eff0","version":2}
        > send open {}
          1.3 cmd "open": closed -> opened running key k3
          due: disarm postponed at 60s
          due: arm queue at 0s
          due: arm after.30s.opened at 30s
          Accepted {"version":3,"from":["closed"],"to":["opened"],"status":"running","reply":{"count":1},"tasks":[],"timers":[{"id":"after.30s.opened","due":"1970-01-01T00:00:30.000Z"}]}
        > queue
          1.4 queue "later": opened -> opened running retried
          due: disarm queue at 0s
          settles Accepted {"version":4,"from":["opened"],"to":["opened"],"status":"running","reply":{"at":"opened"},"tasks":[],"timers":[]}
        > send later {}
          1.5 cmd "later": opened -> opened running key k4
          Accepted {"version":5,"from":["opened"],"to":["opened"],"status":"running","reply":{"at":"opened"},"tasks":[],"timers":[]}
    "#]],
    );
}

#[test]
fn a_postponed_command_expires_at_its_deadline() {
    check(
        DOOR,
        "start {}\nsend later {} key=k\nadvance 60s\nfire",
        &expect![[r#"
        > start {}
          1.1 start "start":  -> closed running key k1
          Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
        > send later {} key=k
          1.2 cmd "later": closed -> closed running key k
          due: arm postponed at 60s
          Postponed {"postponed":true,"ticket":"687c6ac58cd6d1cae01444aa5c79eff0","version":2}
        > advance 60s
          at 1970-01-01T00:01:00.000Z
        > fire
          1.3 queue "later": closed -> closed running retried
          due: disarm postponed at 60s
          settles Refused(PostponeExpired) {"type":"/errors/postpone_expired","title":"postponed until its deadline","status":409,"detail":"the command stayed postponed until its deadline","instance":"/v1/tenants/t/instances/i","code":"postpone_expired","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":3,"configuration":["closed"]}
    "#]],
    );
}

#[test]
fn a_signal_is_always_answered_and_an_ignored_one_makes_no_version() {
    check(
        DOOR,
        "start {}\nsignal ping {}\nsignal noise {}\nsignal unheard {}\nsend ping {}\nsend noise {}",
        &expect![[r#"
            > start {}
              1.1 start "start":  -> closed running key k1
              Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
            > signal ping {}
              1.2 signal "ping": closed -> closed running key k2
              emits {"event":"pong","data":{"n":0}}
              Accepted {"outcome":"applied","version":2}
            > signal noise {}
              refused Accepted
              {"outcome":"ignored","version":2}
            > signal unheard {}
              refused Refused(UnknownEvent)
              {"type":"/errors/unknown_event","title":"the definition declares no such event","status":409,"detail":"the definition declares no such event","instance":"/v1/tenants/t/instances/i","code":"unknown_event","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":2,"configuration":["closed"],"accepts":["later","lock","open","ping"]}
            > send ping {}
              1.3 signal "ping": closed -> closed running key k5
              emits {"event":"pong","data":{"n":0}}
              Accepted {"outcome":"applied","version":3}
            > send noise {}
              refused Accepted
              {"outcome":"ignored","version":3}
        "#]],
    );
}

#[test]
fn pausing_holds_the_timer_rows_and_resuming_releases_them() {
    check(
        DOOR,
        "start {}
         send open {}
         operate pause
         advance 1m
         fire
         send close {}
         signal ping {}
         operate resume
         queue
         fire",
        &expect![[r#"
            > start {}
              1.1 start "start":  -> closed running key k1
              Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
            > send open {}
              1.2 cmd "open": closed -> opened running key k2
              due: arm after.30s.opened at 30s
              Accepted {"version":2,"from":["closed"],"to":["opened"],"status":"running","reply":{"count":1},"tasks":[],"timers":[{"id":"after.30s.opened","due":"1970-01-01T00:00:30.000Z"}]}
            > operate pause
              1.3 operator "pause": opened -> opened paused key k3
              due: hold after.30s.opened at 30s
              Accepted {"version":3,"from":["opened"],"to":["opened"],"status":"paused","tasks":[],"timers":[]}
            > advance 1m
              at 1970-01-01T00:01:00.000Z
            > fire
              nothing is due
            > send close {}
              refused Refused(InstancePaused)
              {"type":"/errors/instance_paused","title":"the instance is paused","status":409,"detail":"the instance is paused","instance":"/v1/tenants/t/instances/i","code":"instance_paused","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":3,"configuration":["opened"]}
            > signal ping {}
              1.4 signal "ping": opened -> opened paused key k5
              Accepted {"outcome":"held","version":4}
            > operate resume
              1.5 operator "resume": opened -> opened running key k6
              due: release after.30s.opened at 30s
              due: arm queue at 60s
              Accepted {"version":5,"from":["opened"],"to":["opened"],"status":"running","tasks":[],"timers":[]}
            > queue
              1.6 queue "ping": opened -> opened running
              due: disarm queue at 60s
            > fire
              1.7 timer "after.30s.opened": opened -> closed running timer after.30s.opened of 2
              due: disarm after.30s.opened at 30s
        "#]],
    );
}

#[test]
fn terminating_ends_everything_now() {
    check(
        DOOR,
        "start {}\nsend open {}\noperate terminate\nsend close {}\noperate cancel",
        &expect![[r#"
        > start {}
          1.1 start "start":  -> closed running key k1
          Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
        > send open {}
          1.2 cmd "open": closed -> opened running key k2
          due: arm after.30s.opened at 30s
          Accepted {"version":2,"from":["closed"],"to":["opened"],"status":"running","reply":{"count":1},"tasks":[],"timers":[{"id":"after.30s.opened","due":"1970-01-01T00:00:30.000Z"}]}
        > operate terminate
          1.3 operator "terminate": opened -> opened terminated key k3
          due: disarm after.30s.opened at 30s
          Accepted {"version":3,"from":["opened"],"to":["opened"],"status":"terminated","tasks":[],"timers":[]}
        > send close {}
          refused Refused(InstanceFinished)
          {"type":"/errors/instance_finished","title":"the instance has ended","status":409,"detail":"the instance has ended","instance":"/v1/tenants/t/instances/i","code":"instance_finished","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":3,"configuration":["opened"]}
        > operate cancel
          refused Refused(InstanceFinished)
          {"type":"/errors/instance_finished","title":"the instance has ended","status":409,"detail":"the instance has ended","instance":"/v1/tenants/t/instances/i","code":"instance_finished","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":3,"configuration":["opened"]}
    "#]],
    );
}

#[test]
fn a_migration_to_nowhere_is_written_down_and_a_lease_is_nothing_for_an_instance() {
    check(
        DOOR,
        "start {}\noperate migrate\nlease",
        &expect![[r#"
            > start {}
              1.1 start "start":  -> closed running key k1
              Created {"id":"i","definition":"door","definition_version":1,"digest":"688de1c8cd8ea0a1582cb58b143518078e457dee3327f931fafb4bd8530fc705","version":1,"from":[],"to":["closed"],"status":"running","tasks":[],"timers":[]}
            > operate migrate
              refused Refused(UnknownDefinition)
              {"type":"/errors/unknown_definition","title":"no such definition","status":404,"detail":"there is no version 2 of door","instance":"/v1/tenants/t/instances/i","code":"unknown_definition","source":"instance","retryable":false,"advice":"do not repeat it as it is","version":1,"configuration":["closed"]}
            > lease
              not written: invalid_request: a lease is given by the desk of a shard
        "#]],
    );
}

#[test]
fn a_stale_timer_proposes_nothing() {
    let mut world = World::new(DOOR);
    world.run("start {}");
    world.run("send open {}");
    let row = world.due_rows().remove(0);
    world.run("send close {}");
    world.run("advance 1h");
    assert_eq!(world.fire_row(&row), "nothing");
}

#[test]
fn time_never_goes_back_within_an_instance() {
    let mut world = World::new(DOOR);
    world.run("start {}");
    world.run("advance 1h");
    world.run("send open {}");
    world.run("advance -2h");
    world.run("send close {}");
    let times = world.decided();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn every_snapshot_that_leaves_work_pending_has_its_row() {
    // Whatever happens in whatever order: the rows are exactly those that the snapshot needs.
    let words = [
        "send open {}",
        "send close {}",
        "send later {}",
        "signal ping {}",
        "advance 10s",
        "fire",
        "queue",
        "operate pause",
        "operate resume",
        "send lock {} role=warden",
        "send break {}",
        "advance 1m",
    ];
    for seed in 0..200_u64 {
        let mut world = World::new(DOOR);
        world.run("start {}");
        let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for step in 0..40 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = words[(state >> 33) as usize % words.len()];
            world.run(word);
            assert_eq!(world.rows_needed(), world.due_rows(), "seed {seed}, step {step}: {word}");
        }
    }
}
