//! Plays a script and tells what came of it, as text: one line a word, then what left the instance.
//!
//! `move` goes to the next definition by its migrations, `reset` begins a new instance where this one stands.
//!
//! Deliberately absent: judging; whoever plays compares the text.

use std::fmt::Write as _;

use expect_test::Expect;
use statehouse_chart::{
    Call, Chart, Effect, Refusal, Snapshot, Source, Step, TaskOrder, Trigger, Value, WorkError,
    WorkKey, adopt, load::load, migrate, step,
};
use statehouse_contract::time::Timestamp;

/// Plays a script against one definition.
#[track_caller]
#[allow(dead_code, reason = "each test file uses its own part of this one")]
pub(crate) fn check(definition: &str, script: &str, expected: Expect) {
    check_all(&[definition], script, expected);
}

/// Plays a script, one word and its arguments a line, and tells outcome, effects and answers.
#[track_caller]
pub(crate) fn check_all(definitions: &[&str], script: &str, expected: Expect) {
    let charts: Vec<Chart> = definitions.iter().map(|definition| chart(definition)).collect();
    let mut own = 0;
    let mut now = Snapshot::unborn();
    let mut at = Timestamp(0);
    let mut told = String::new();
    for line in std::iter::once("start")
        .chain(script.lines().map(str::trim).filter(|line| !line.is_empty()))
    {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let taken = match word {
            "at" => {
                at = Timestamp(rest.parse().unwrap());
                continue;
            }
            "move" => migrate(&charts[own], &charts[own + 1], &now, at),
            "reset" => adopt(&charts[own], &now, at),
            _ => step(&charts[own], &now, &trigger(word, rest, &now), at),
        };
        own += usize::from(word == "move" && taken.is_ok());
        tell(&charts[own], line, &taken, &mut told);
        if let Ok(taken) = taken {
            now = taken.next;
        }
    }
    expected.assert_eq(&told);
}

fn tell(chart: &Chart, line: &str, taken: &Result<Step, Refusal>, told: &mut String) {
    let taken = match taken {
        Ok(taken) => taken,
        Err(no) => {
            writeln!(told, "{line}: refused {no}; accepts {}", no.accepts.join(" ")).unwrap();
            return;
        }
    };
    let outcome = taken.outcome.name();
    let states = chart.leaves(&taken.next.configuration).join(" ");
    let (version, status) = (taken.next.version, taken.next.status.name());
    writeln!(told, "{line}: {outcome} v{version} [{states}] {status}").unwrap();
    if let Some(reply) = &taken.reply {
        writeln!(told, "  reply {reply}").unwrap();
    }
    for effect in &taken.effects {
        writeln!(told, "  {}", text(effect)).unwrap();
    }
    for settled in &taken.settled {
        let answer =
            settled.answer.as_ref().map(|reply| format!("{reply:?}")).map_err(|kind| kind.code());
        writeln!(told, "  settled {}: {answer:?}", settled.ticket).unwrap();
    }
}

/// Compiles a definition that has nothing wrong with it.
pub(crate) fn chart(definition: &str) -> Chart {
    let document = load(definition).unwrap_or_else(|findings| panic!("{findings:?}"));
    let (source, findings) = Source::parse(&document);
    assert!(findings.is_empty(), "{findings:?}");
    Chart::compile(&source.unwrap()).unwrap_or_else(|findings| panic!("{findings:?}"))
}

fn trigger(word: &str, rest: &str, now: &Snapshot) -> Trigger {
    let (name, data) = rest.split_once(' ').unwrap_or((rest, "{}"));
    let call = || Call {
        name: name.to_owned(),
        data: Value::parse(data).unwrap(),
        actor: "ann".to_owned(),
    };
    let gone = WorkKey { version: 99, number: 0 };
    let work = || {
        let open = now.works.iter().find(|work| work.src == name).map(|work| work.key);
        open.or_else(|| now.releasing.first().copied()).unwrap_or(gone)
    };
    match word {
        "start" => Trigger::Start {
            input: Value::empty(),
            actor: "ann".to_owned(),
            tenant: "acme".to_owned(),
        },
        "send" => {
            Trigger::Command { call: call(), ticket: format!("t-{name}"), postpone_until: None }
        }
        "signal" => Trigger::Signal(call()),
        "timer" => {
            let own = now.timers.iter().find(|timer| timer.id == name);
            Trigger::Timer {
                id: name.to_owned(),
                generation: own.map_or(0, |timer| timer.generation),
            }
        }
        "queue" => Trigger::Queue,
        "expire" => Trigger::PostponeExpired { ticket: name.to_owned() },
        "started" => Trigger::WorkStarted { work: work() },
        "done" => Trigger::WorkDone { work: work(), output: Value::parse(data).unwrap() },
        "failed" => Trigger::WorkFailed {
            work: work(),
            error: WorkError { code: data.to_owned(), message: String::new(), attempts: 2 },
        },
        "released" => Trigger::WorkReleased { work: work() },
        "cancel" => Trigger::Cancel { actor: "ann".to_owned() },
        "terminate" => Trigger::Terminate { actor: "ann".to_owned() },
        "pause" => Trigger::Pause,
        "resume" => Trigger::Resume,
        "retry" => Trigger::Retry,
        "skip" => Trigger::Skip,
        other => panic!("no such word: {other}"),
    }
}

fn text(effect: &Effect) -> String {
    match effect {
        Effect::ScheduleTask(TaskOrder {
            work,
            src,
            queue,
            input,
            timeout_ms,
            heartbeat_ms,
            retry,
            report_start,
            ..
        }) => {
            let attempts = retry.max_attempts;
            format!(
                "task {work} {src} queue {queue} input {input} timeout {timeout_ms:?} lease {heartbeat_ms:?} \
                 attempts {attempts} report {report_start}"
            )
        }
        Effect::StartChild(order) => {
            let version = order.definition_version;
            format!(
                "child {} {} version {version:?} input {}",
                order.work, order.definition, order.input
            )
        }
        other => format!("{other:?}"),
    }
}
