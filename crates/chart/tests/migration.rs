//! Moving an instance: to another version of its definition, and into a life of its own.
//!
//! Each test writes two versions of a small definition, brings an instance of the first one somewhere, and moves it; the
//! text says what it keeps, what begins anew, and why another one has no place.
//!
//! Deliberately absent: what a deployed version may say; the validator has its own tests.
#![allow(clippy::unwrap_used, reason = "a test says what it does")]

mod told;

use expect_test::expect;
use told::{check, check_all};

const LETTER: &str = r#"{"id": "d", "version": 1, "commands": {"go": {}},
    "context": {"pages": 3},
    "states": {
        "writing": {
            "entry": [{"emit": {"event": "began"}}],
            "after": {"1h": "sent", "10s": {"actions": [{"emit": {"event": "nagged"}}]}},
            "invoke": {"id": "spell", "src": "task:spell", "onDone": "sent"},
            "on": {"go": "sent"}},
        "sent": {"type": "final", "output": "${context}"}}}"#;

#[test]
fn a_renamed_state_keeps_its_due_times_and_its_work_and_runs_no_entry_actions() {
    let new = LETTER
        .replace("\"version\": 1", r#""version": 2, "migrations": [{"from": 1, "states": {"writing": "drafting"},
            "when": "context.pages > 1 && active('writing')", "context": {"sheets": "${context.pages * 2}"}}]"#)
        .replace("\"writing\": {", "\"drafting\": {")
        .replace("\"pages\": 3", "\"sheets\": 3");
    check_all(
        &[LETTER, &new],
        "at 5000
         move
         at 10000
         timer after.10s.drafting
         send go",
        expect![[r#"
            start: accepted v1 [writing] running
              StartTimer { id: "after.1h.writing", due: Timestamp(3600000), generation: 1, number: 0 }
              StartTimer { id: "after.10s.writing", due: Timestamp(10000), generation: 1, number: 1 }
              Emit { event: "began", data: {} }
              task 1-0 task:spell queue spell input {} timeout None lease None attempts 1 report false
            move: accepted v2 [drafting] running
            timer after.10s.drafting: accepted v3 [drafting] running
              CancelTimer { id: "after.10s.drafting", generation: 1 }
              Emit { event: "nagged", data: {} }
            send go: accepted v4 [sent] done
              CancelTimer { id: "after.1h.drafting", generation: 1 }
              CancelTask { work: WorkKey { version: 1, number: 0 }, report_release: false }
              TellParent(Done { output: {"sheets":6} })
        "#]],
    );
}

#[test]
fn what_only_the_new_version_has_begins_now_and_what_is_over_stays_over() {
    let new = LETTER
        .replace("\"version\": 1", r#""version": 2, "migrations": [{"from": 1}]"#)
        .replace("\"10s\": {", r#""20s": {"actions": [{"emit": {"event": "late"}}]}, "10s": {"#)
        .replace(r#""src": "task:spell""#, r#""src": "task:spell2""#)
        .replace("\"onDone\": \"sent\"}", r#""onDone": "sent"}, "tags": ["new"]"#);
    check_all(
        &[LETTER, &new],
        "at 10000
         timer after.10s.writing
         at 12000
         move
         done task:spell2",
        expect![[r#"
            start: accepted v1 [writing] running
              StartTimer { id: "after.1h.writing", due: Timestamp(3600000), generation: 1, number: 0 }
              StartTimer { id: "after.10s.writing", due: Timestamp(10000), generation: 1, number: 1 }
              Emit { event: "began", data: {} }
              task 1-0 task:spell queue spell input {} timeout None lease None attempts 1 report false
            timer after.10s.writing: accepted v2 [writing] running
              CancelTimer { id: "after.10s.writing", generation: 1 }
              Emit { event: "nagged", data: {} }
            move: accepted v3 [writing] running
              StartTimer { id: "after.20s.writing", due: Timestamp(32000), generation: 3, number: 2 }
              CancelTask { work: WorkKey { version: 1, number: 0 }, report_release: false }
              task 3-0 task:spell2 queue spell2 input {} timeout None lease None attempts 1 report false
            done task:spell2: accepted v4 [sent] done
              CancelTimer { id: "after.1h.writing", generation: 1 }
              CancelTimer { id: "after.20s.writing", generation: 3 }
              CloseTask { work: WorkKey { version: 3, number: 0 } }
              TellParent(Done { output: {"pages":3} })
        "#]],
    );
}

#[test]
fn a_region_that_is_new_is_entered_and_one_that_is_final_now_ends_the_instance() {
    let old = r#"{"id": "d", "version": 1, "states": {"a": {}, "z": {"type": "final"}}, "endless": true}"#;
    let regions = r#"{"id": "d", "version": 2, "migrations": [{"from": 1, "states": {"a": "left"}}],
        "states": {"both": {"type": "parallel", "states": {
            "left": {"entry": [{"emit": {"event": "left"}}]},
            "right": {"entry": [{"emit": {"event": "right"}}, {"raise": {"event": "x"}}],
                "states": {"r1": {"on": {"x": "r2"}}, "r2": {"after": {"1m": "r1"}}}}}}}}"#;
    let over = r#"{"id": "d", "version": 3, "migrations": [{"from": 2, "states": {"left": "z", "r2": "z"}}],
        "states": {"a": {"on": {"q": "z"}}, "z": {"type": "final", "output": "done"}}}"#;
    check_all(
        &[old, regions, over],
        "move
         at 500
         move",
        expect![[r#"
            start: accepted v1 [a] running
            move: accepted v2 [left r2] running
              StartTimer { id: "after.1m.r2", due: Timestamp(60000), generation: 2, number: 0 }
              Emit { event: "right", data: {} }
            move: accepted v3 [z] done
              CancelTimer { id: "after.1m.r2", generation: 2 }
              TellParent(Done { output: "done" })
        "#]],
    );
}

#[test]
fn one_without_a_place_is_refused_with_the_reason_and_stays_as_it_is() {
    let old = r#"{"id": "d", "version": 1, "commands": {"go": {}}, "context": {"n": 0}, "states": {
        "p": {"type": "parallel", "states": {"x": {}, "y": {}}, "on": {"go": "end"}}, "end": {"type": "final"}}}"#;
    let two = |migrations: &str| {
        format!(
            r#"{{"id": "d", "version": 2, {migrations} "schemas": {{"context": {{"type": "object",
                "properties": {{"n": {{"type": "integer"}}, "m": {{"type": "integer"}}}}, "required": ["n", "m"]}}}},
                "context": {{"n": 1, "m": 2}}, "states": {{"x": {{}}, "z": {{"type": "final"}}}}}}"#
        )
    };
    let refused = [
        (
            "",
            expect![[r#"
            start: accepted v1 [x y] running
            move: refused not_handled: version 2 says in `migrations` nothing about version 1; go through a version that does; accepts go
        "#]],
        ),
        (
            r#""migrations": [{"from": 1, "when": "context.n > 0"}],"#,
            expect![[r#"
            start: accepted v1 [x y] running
            move: refused guard_refused: every guard for this event said no; accepts go
        "#]],
        ),
        (
            r#""migrations": [{"from": 1, "when": "context.gone > 0"}],"#,
            expect![[r#"
            start: accepted v1 [x y] running
            move: refused evaluation_error: evaluating `context.gone > 0` at /migrations/0/when failed: there is no field `gone`; accepts go
        "#]],
        ),
        (
            r#""migrations": [{"from": 1}],"#,
            expect![[r#"
            start: accepted v1 [x y] running
            move: refused not_handled: its context does not fit the new schema at ``: the field `m` is missing; say the new context in `migrations`; accepts go
        "#]],
        ),
        (
            r#""migrations": [{"from": 1, "context": {"n": 1, "m": 2}}],"#,
            expect![[r#"
            start: accepted v1 [x y] running
            move: refused not_handled: `y` has no place in version 2: its migration names none; accepts go
        "#]],
        ),
        (
            r#""migrations": [{"from": 1, "context": {"n": 1, "m": 2}, "states": {"y": "z"}}],"#,
            expect![[r#"
                start: accepted v1 [x y] running
                move: refused not_handled: its active states cannot be active together in version 2: `d` would have two active children; accepts go
            "#]],
        ),
        (
            r#""migrations": [{"from": 1, "context": {"n": 1}, "states": {"y": "x"}}],"#,
            expect![[r#"
            start: accepted v1 [x y] running
            move: refused evaluation_error: evaluating /migrations/0/context failed: the value does not fit its schema at ``; accepts go
        "#]],
        ),
        (
            r#""migrations": [{"from": 1, "context": {"n": 1, "m": 2}, "states": {"y": "x"}}],"#,
            expect![[r#"
                start: accepted v1 [x y] running
                move: accepted v2 [x] running
            "#]],
        ),
    ];
    for (migrations, expected) in refused {
        check_all(&[old, &two(migrations)], "move", expected);
    }
    check_all(
        &[old, &two("")],
        "send go\nmove",
        expect![[r#"
        start: accepted v1 [x y] running
        send go: accepted v2 [end] done
          TellParent(Done { output: null })
        move: refused instance_finished: the instance has ended; accepts 
    "#]],
    );
}

const SAGA: &str = r#"{"id": "d", "version": 1, "commands": {"on": {}}, "states": {
    "book": {"invoke": {"src": "task:book", "compensate": {"src": "task:unbook"}, "onDone": "pay"}},
    "pay": {"invoke": {"src": "task:pay", "compensate": {"src": "task:refund", "from": "start"}, "onDone": "end", "onError": "undo"},
        "on": {"on": "undo"}},
    "undo": {"invoke": {"src": "saga:compensate", "onDone": "end"}},
    "end": {"type": "final"}}}"#;

#[test]
fn a_saga_is_carried_over_and_undone_by_the_new_version() {
    let new = SAGA.replace(
        "\"version\": 1",
        r#""version": 2, "migrations": [{"from": 1}], "description": "the same again""#,
    );
    let script = "done task:book
         started task:pay
         move
         send on
         released task:pay
         done task:refund
         done task:unbook";
    check_all(
        &[SAGA, &new],
        script,
        expect![[r#"
        start: accepted v1 [book] running
          task 1-0 task:book queue book input {} timeout None lease None attempts 1 report false
        done task:book: accepted v2 [pay] running
          CloseTask { work: WorkKey { version: 1, number: 0 } }
          task 2-0 task:pay queue pay input {} timeout None lease None attempts 1 report true
        started task:pay: accepted v3 [pay] running
        move: accepted v4 [pay] running
        send on: accepted v5 [undo] compensating
          CancelTask { work: WorkKey { version: 2, number: 0 }, report_release: true }
        released task:pay: accepted v6 [undo] compensating
          task 6-0 task:refund queue refund input {} timeout None lease None attempts 1 report false
        done task:refund: accepted v7 [undo] compensating
          CloseTask { work: WorkKey { version: 6, number: 0 } }
          task 7-0 task:unbook queue unbook input {} timeout None lease None attempts 1 report false
        done task:unbook: accepted v8 [end] done
          CloseTask { work: WorkKey { version: 7, number: 0 } }
          TellParent(Done { output: null })
    "#]],
    );
    // In the middle of the undoing, too.
    let script = "done task:book
         failed task:pay no
         move
         done task:refund
         done task:unbook";
    check_all(
        &[SAGA, &new],
        script,
        expect![[r#"
        start: accepted v1 [book] running
          task 1-0 task:book queue book input {} timeout None lease None attempts 1 report false
        done task:book: accepted v2 [pay] running
          CloseTask { work: WorkKey { version: 1, number: 0 } }
          task 2-0 task:pay queue pay input {} timeout None lease None attempts 1 report true
        failed task:pay no: accepted v3 [undo] compensating
          CloseTask { work: WorkKey { version: 2, number: 0 } }
          task 3-0 task:refund queue refund input {} timeout None lease None attempts 1 report false
        move: accepted v4 [undo] compensating
        done task:refund: accepted v5 [undo] compensating
          CloseTask { work: WorkKey { version: 3, number: 0 } }
          task 5-0 task:unbook queue unbook input {} timeout None lease None attempts 1 report false
        done task:unbook: accepted v6 [end] done
          CloseTask { work: WorkKey { version: 5, number: 0 } }
          TellParent(Done { output: null })
    "#]],
    );
    let without = new.replace(r#""compensate": {"src": "task:unbook"}, "#, "");
    check_all(
        &[SAGA, &without],
        "done task:book\nmove",
        expect![[r#"
        start: accepted v1 [book] running
          task 1-0 task:book queue book input {} timeout None lease None attempts 1 report false
        done task:book: accepted v2 [pay] running
          CloseTask { work: WorkKey { version: 1, number: 0 } }
          task 2-0 task:pay queue pay input {} timeout None lease None attempts 1 report true
        move: refused not_handled: `book` has done work that version 2 could not undo: it has no such invoke with `compensate`; accepts on
    "#]],
    );
}

#[test]
fn what_is_held_stays_held_and_is_taken_up_in_the_new_version() {
    let new = LETTER
        .replace("\"version\": 1", r#""version": 2, "migrations": [{"from": 1, "states": {"writing": "box"}}]"#)
        .replace(
            "\"writing\": {",
            r#""box": {"states": {"in": {"entry": [{"raise": {"event": "x"}}], "on": {"x": "out"}}, "out": {"after": {"5s": "in"}}}},
               "writing": {"#,
        );
    check_all(
        &[LETTER, &new],
        "pause
         move
         resume
         queue
         queue",
        expect![[r#"
            start: accepted v1 [writing] running
              StartTimer { id: "after.1h.writing", due: Timestamp(3600000), generation: 1, number: 0 }
              StartTimer { id: "after.10s.writing", due: Timestamp(10000), generation: 1, number: 1 }
              Emit { event: "began", data: {} }
              task 1-0 task:spell queue spell input {} timeout None lease None attempts 1 report false
            pause: accepted v2 [writing] paused
              HoldTimers
            move: accepted v3 [in] paused
              CancelTimer { id: "after.1h.writing", generation: 1 }
              CancelTimer { id: "after.10s.writing", generation: 1 }
              CancelTask { work: WorkKey { version: 1, number: 0 }, report_release: false }
            resume: accepted v4 [in] running
              ReleaseTimers
              RunQueue
            queue: accepted v5 [out] running
              StartTimer { id: "after.5s.out", due: Timestamp(5000), generation: 5, number: 2 }
            queue: refused stale: no such timer or task is open; accepts 
        "#]],
    );
}

#[test]
fn history_is_carried_where_its_states_are() {
    let one = r#"{"id": "d", "version": 1, "commands": {"go": {}, "back": {}}, "endless": true, "states": {
        "work": {"states": {"a": {"on": {"go": "b"}}, "b": {}, "h": {"type": "history"}}, "on": {"back": "out"}},
        "out": {"on": {"back": "work.h"}}}}"#;
    let two = one
        .replace(
            "\"version\": 1",
            r#""version": 2, "migrations": [{"from": 1, "states": {"b": "c"}}]"#,
        )
        .replace("\"b\": {}", "\"c\": {}")
        .replace("\"go\": \"b\"", "\"go\": \"c\"");
    check_all(
        &[one, &two],
        "send go\nsend back\nmove\nsend back",
        expect![[r#"
        start: accepted v1 [a] running
        send go: accepted v2 [b] running
        send back: accepted v3 [out] running
        move: accepted v4 [out] running
        send back: accepted v5 [c] running
    "#]],
    );
}

#[test]
fn a_reset_begins_where_another_one_stood_with_addresses_of_its_own() {
    check(
        SAGA,
        "done task:book
         started task:pay
         at 5000
         reset
         failed task:pay no
         done task:refund
         done task:unbook",
        expect![[r#"
            start: accepted v1 [book] running
              task 1-0 task:book queue book input {} timeout None lease None attempts 1 report false
            done task:book: accepted v2 [pay] running
              CloseTask { work: WorkKey { version: 1, number: 0 } }
              task 2-0 task:pay queue pay input {} timeout None lease None attempts 1 report true
            started task:pay: accepted v3 [pay] running
            reset: accepted v1 [pay] running
              task 1-1 task:pay queue pay input {} timeout None lease None attempts 1 report false
            failed task:pay no: accepted v2 [undo] compensating
              CloseTask { work: WorkKey { version: 1, number: 1 } }
              task 2-0 task:refund queue refund input {} timeout None lease None attempts 1 report false
            done task:refund: accepted v3 [undo] compensating
              CloseTask { work: WorkKey { version: 2, number: 0 } }
              task 3-0 task:unbook queue unbook input {} timeout None lease None attempts 1 report false
            done task:unbook: accepted v4 [end] done
              CloseTask { work: WorkKey { version: 3, number: 0 } }
              TellParent(Done { output: null })
        "#]],
    );
    check(
        LETTER,
        "at 4000
         send go
         reset",
        expect![[r#"
            start: accepted v1 [writing] running
              StartTimer { id: "after.1h.writing", due: Timestamp(3600000), generation: 1, number: 0 }
              StartTimer { id: "after.10s.writing", due: Timestamp(10000), generation: 1, number: 1 }
              Emit { event: "began", data: {} }
              task 1-0 task:spell queue spell input {} timeout None lease None attempts 1 report false
            send go: accepted v2 [sent] done
              CancelTimer { id: "after.1h.writing", generation: 1 }
              CancelTimer { id: "after.10s.writing", generation: 1 }
              CancelTask { work: WorkKey { version: 1, number: 0 }, report_release: false }
              TellParent(Done { output: {"pages":3} })
            reset: refused not_handled: the instance has ended at that version; take an earlier one; accepts 
        "#]],
    );
    check(
        LETTER,
        "at 4000
         pause
         at 11000
         timer after.10s.writing
         done task:spell
         at 100000
         reset
         resume
         queue
         queue",
        expect![[r#"
            start: accepted v1 [writing] running
              StartTimer { id: "after.1h.writing", due: Timestamp(3600000), generation: 1, number: 0 }
              StartTimer { id: "after.10s.writing", due: Timestamp(10000), generation: 1, number: 1 }
              Emit { event: "began", data: {} }
              task 1-0 task:spell queue spell input {} timeout None lease None attempts 1 report false
            pause: accepted v2 [writing] paused
              HoldTimers
            timer after.10s.writing: refused stale: no such timer or task is open; accepts 
            done task:spell: held v3 [writing] paused
              CloseTask { work: WorkKey { version: 1, number: 0 } }
            reset: accepted v1 [writing] paused
              StartTimer { id: "after.1h.writing", due: Timestamp(3689000), generation: 1, number: 0 }
              StartTimer { id: "after.10s.writing", due: Timestamp(99000), generation: 1, number: 1 }
              HoldTimers
            resume: accepted v2 [writing] running
              ReleaseTimers
              RunQueue
            queue: accepted v3 [sent] done
              CancelTimer { id: "after.1h.writing", generation: 1 }
              CancelTimer { id: "after.10s.writing", generation: 1 }
              TellParent(Done { output: {"pages":3} })
            queue: refused stale: no such timer or task is open; accepts 
        "#]],
    );
}

#[test]
fn a_reset_leaves_the_callers_of_the_other_one_behind() {
    check(
        r#"{"id": "d", "commands": {"go": {}, "later": {}}, "endless": true, "states": {
            "a": {"postpone": ["later"], "on": {"go": "b"}}, "b": {"on": {"later": "a"}}}}"#,
        "send later
         reset
         send go",
        expect![[r#"
            start: accepted v1 [a] running
            send later: postponed v2 [a] running
              StartPostpone { ticket: "t-later", due: Timestamp(60000) }
            reset: accepted v1 [a] running
            send go: accepted v2 [b] running
        "#]],
    );
}
