//! Random charts, random triggers: what must hold whatever an author writes and whatever happens.
//!
//! A chart is grown from a few numbers, so that proptest can shrink it; a script is a list of numbers that pick among what
//! is possible at that moment. On a failure proptest prints the numbers, and they are all that is needed to see it again.
#![allow(clippy::unwrap_used, reason = "a test says what it does")]

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use statehouse_chart::{
    Call, Chart, Outcome, Snapshot, Source, Status, Trigger, Value, WorkError,
    configuration::StateSet, load::load, step,
};
use statehouse_contract::time::Timestamp;

const EVENTS: [&str; 5] = ["a", "b", "b.c", "b.d", "z"];
const GUARDS: [&str; 6] = [
    "context.n > 2",
    "context.n % 2 == 1",
    "has(event.data.on)",
    "active('s1')",
    "context.n / (context.n - 3) >= 0",
    "true",
];

/// A growing chart: numbers in, keywords out.
struct Grower<'n> {
    numbers: std::slice::Iter<'n, u8>,
    states: usize,
}

impl Grower<'_> {
    fn pick(&mut self, below: usize) -> usize {
        usize::from(*self.numbers.next().unwrap_or(&1)) % below
    }

    fn chart(&mut self) -> Json {
        let mut root = self.state(0);
        let fields = root.as_object_mut().unwrap();
        fields.insert("id".to_owned(), json!("root"));
        fields.insert("context".to_owned(), json!({"n": 0}));
        fields.insert("commands".to_owned(), json!({"a": {}, "b.c": {"deadline": "5s"}}));
        fields.insert("signals".to_owned(), json!({"b": {}, "b.d": {}, "z": {}}));
        fields.insert(
            "limits".to_owned(),
            json!({"microsteps": 20, "queue": 30, "postponed": 3, "timers": 20, "tasks": 12}),
        );
        root
    }

    fn state(&mut self, depth: usize) -> Json {
        let mut state = Map::new();
        let children = if depth == 0 {
            2 + self.pick(3)
        } else if depth < 4 {
            self.pick(4)
        } else {
            0
        };
        if children > 0 {
            let mut states = Map::new();
            for _ in 0..children {
                let key = format!("s{}", self.states);
                self.states += 1;
                let child = self.state(depth + 1);
                states.insert(key, child);
            }
            if self.pick(3) == 0 {
                let key = format!("h{}", self.states);
                self.states += 1;
                states.insert(
                    key,
                    json!({"type": "history", "history": (["shallow", "deep"][self.pick(2)])}),
                );
            }
            if self.pick(3) == 0 {
                state.insert("type".to_owned(), json!("parallel"));
            }
            state.insert("states".to_owned(), Json::Object(states));
        } else if depth > 1 && self.pick(5) == 0 {
            return json!({"type": "final", "output": {"n": "${context.n}"}});
        }
        self.fill(&mut state);
        Json::Object(state)
    }

    fn fill(&mut self, state: &mut Map<String, Json>) {
        let mut on = Map::new();
        for _ in 0..self.pick(4) {
            let event = ["a", "b", "b.c", "b.d", "z", "b.*", "*", "instance.cancel"][self.pick(8)];
            let transition = self.transition(true);
            on.insert(event.to_owned(), transition);
        }
        state.insert("on".to_owned(), Json::Object(on));
        if self.pick(3) == 0 {
            state.insert("postpone".to_owned(), json!([EVENTS[self.pick(5)]]));
        }
        if self.pick(3) == 0 {
            let delay = ["0s", "1s", "3s"][self.pick(3)];
            let transition = self.transition(false);
            state.insert("after".to_owned(), json!({delay: transition}));
        }
        if self.pick(5) == 0 {
            let transition = self.transition(false);
            state.insert("idle".to_owned(), json!({"2s": transition}));
        }
        if self.pick(5) == 0 {
            let mut transition = self.transition(false);
            // It moves on: an eventless loop would only ever show its limit.
            transition["guard"] =
                json!(["context.n == 1", "context.n == 4", "context.n % 2 == 1"][self.pick(3)]);
            transition["actions"] = json!([{"assign": {"n": "${context.n + 1}"}}]);
            state.insert("always".to_owned(), transition);
        }
        for keyword in ["entry", "exit"] {
            if self.pick(3) == 0 {
                let action = self.action();
                state.insert(keyword.to_owned(), json!([action]));
            }
        }
        if self.pick(3) == 0 {
            let invoke = self.invoke();
            state.insert("invoke".to_owned(), invoke);
        }
    }

    fn transition(&mut self, may_refuse: bool) -> Json {
        let mut transition = Map::new();
        if self.pick(3) == 0 {
            transition.insert("guard".to_owned(), json!(GUARDS[self.pick(GUARDS.len())]));
        }
        match self.pick(8) {
            0 if may_refuse => {
                transition.insert("reject".to_owned(), json!({"code": "no"}));
                return Json::Object(transition);
            }
            1 if may_refuse => {
                transition.insert("postpone".to_owned(), json!(true));
                return Json::Object(transition);
            }
            2 => {}
            _ => {
                // Any state that will exist in the end: resolved in `targets`.
                transition.insert("target".to_owned(), json!(self.pick(255)));
                transition.insert("reenter".to_owned(), json!(self.pick(4) == 0));
            }
        }
        let actions: Vec<Json> = (0..self.pick(3)).map(|_| self.action()).collect();
        transition.insert("actions".to_owned(), json!(actions));
        Json::Object(transition)
    }

    fn action(&mut self) -> Json {
        match self.pick(9) {
            0 | 1 => json!({"assign": {"n": "${context.n + 1}"}}),
            2 => json!({"raise": {"event": EVENTS[self.pick(5)], "data": {"on": true}}}),
            3 => {
                json!({"raise": {"event": EVENTS[self.pick(5)], "delay": (["0s", "1s"][self.pick(2)]), "id": "named"}})
            }
            4 => json!({"raise": {"event": EVENTS[self.pick(5)], "delay": "2s"}}),
            5 => json!({"cancel": "named"}),
            6 => json!({"reply": {"n": "${context.n}"}}),
            7 => {
                json!({"choose": [{"guard": GUARDS[self.pick(3)], "actions": [{"emit": {"event": "seen"}}]}, {"actions": [{"assign": {"n": 0}}]}]})
            }
            _ => json!({"emit": {"event": "seen", "data": {"n": "${context.n}"}}}),
        }
    }

    fn invoke(&mut self) -> Json {
        let id = format!("i{}", self.states);
        self.states += 1;
        let mut invoke = Map::new();
        invoke.insert("id".to_owned(), json!(id));
        invoke.insert(
            "src".to_owned(),
            json!(["task:t", "saga:compensate", "workflow:w"][self.pick(3)]),
        );
        invoke.insert("input".to_owned(), json!({"n": "${context.n}"}));
        let done = self.transition(false);
        invoke.insert("onDone".to_owned(), done);
        if self.pick(2) == 0 {
            let error = self.transition(false);
            invoke.insert("onError".to_owned(), error);
        }
        match self.pick(4) {
            0 => invoke.insert("compensate".to_owned(), json!({"src": "task:undo", "from": (["start", "success"][self.pick(2)]), "once": self.pick(2) == 0})),
            1 => invoke.insert("forEach".to_owned(), json!({"items": [1, 2, 3], "limit": 2})),
            _ => None,
        };
        Json::Object(invoke)
    }
}

/// Replaces the numbers that stand for targets by ids of states that exist.
fn targets(node: &mut Json, ids: &[String]) {
    match node {
        Json::Object(fields) => {
            if let Some(target) = fields.get_mut("target") {
                let number = target.as_u64().unwrap_or_default() as usize;
                *target = json!(format!("#{}", ids[number % ids.len()]));
            }
            for (_, field) in fields.iter_mut() {
                targets(field, ids);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| targets(item, ids)),
        _ => {}
    }
}

fn ids(node: &Json, found: &mut Vec<String>) {
    let Some(states) = node.get("states").and_then(Json::as_object) else { return };
    for (key, state) in states {
        found.push(key.clone());
        ids(state, found);
    }
}

fn grow(numbers: &[u8]) -> Json {
    let mut machine = Grower { numbers: numbers.iter(), states: 0 }.chart();
    let mut found = Vec::new();
    ids(&machine, &mut found);
    targets(&mut machine, &found);
    machine
}

fn compile(machine: &Json) -> Option<Chart> {
    let document = load(&machine.to_string()).unwrap();
    let (source, findings) = Source::parse(&document);
    let errors: Vec<_> = findings.iter().filter(|finding| finding.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{machine}");
    // A guard may ask for a state that this chart does not have.
    Chart::compile(&source.unwrap()).ok()
}

/// The laws of a legal configuration, read from the definition and not from the chart.
fn check_configuration(machine: &Json, chart: &Chart, active: &StateSet) {
    let is_active = |id: &str| chart.state(id).is_some_and(|state| active.contains(state));
    assert!(active.contains(0), "the root is active");
    check_below(machine, &is_active, true);
}

fn check_below(node: &Json, is_active: &impl Fn(&str) -> bool, parent_is_active: bool) {
    let Some(states) = node.get("states").and_then(Json::as_object) else { return };
    let regions: Vec<(&String, &Json)> =
        states.iter().filter(|(_, state)| state.get("type") != Some(&json!("history"))).collect();
    let active = regions.iter().filter(|(id, _)| is_active(id)).count();
    let is_parallel = node.get("type") == Some(&json!("parallel"));
    let expected = match (parent_is_active, is_parallel) {
        (false, _) => 0,
        (true, true) => regions.len(),
        (true, false) => 1,
    };
    assert_eq!(active, expected, "active children of a state with {:?}", states.keys());
    for (id, state) in states {
        let is_history = state.get("type") == Some(&json!("history"));
        assert!(!(is_history && is_active(id)), "a history state is active");
        check_below(state, is_active, is_active(id));
    }
}

fn trigger(number: u8, snapshot: &Snapshot, at: &mut i64) -> Trigger {
    let call = |name: &str| Call {
        name: name.to_owned(),
        data: Value::object([("on", Value::Bool(number.is_multiple_of(2)))]),
        actor: "ann".to_owned(),
    };
    let which = usize::from(number / 16);
    let work = (!snapshot.works.is_empty()).then(|| &snapshot.works[which % snapshot.works.len()]);
    let error = WorkError { code: "down".to_owned(), message: String::new(), attempts: 1 };
    match (number % 16, work) {
        (0, Some(work)) => Trigger::WorkDone { work: work.key, output: Value::Int(1) },
        (1, Some(work)) => Trigger::WorkFailed { work: work.key, error },
        (2, Some(work)) => Trigger::WorkStarted { work: work.key },
        (3, _) if !snapshot.releasing.is_empty() => {
            Trigger::WorkReleased { work: snapshot.releasing[0] }
        }
        (4, _) if number > 250 => Trigger::Cancel { actor: "ann".to_owned() },
        (4, _) if number > 200 => Trigger::Pause,
        (5, _) => Trigger::Resume,
        (6, _) => Trigger::Retry,
        (7, _) => Trigger::Skip,
        (8..=10, _) => {
            *at += 1_000;
            match snapshot.first_due(Timestamp(*at)) {
                Some(timer) => {
                    Trigger::Timer { id: timer.id.clone(), generation: timer.generation }
                }
                None => Trigger::Queue,
            }
        }
        (11 | 12, _) => {
            let ticket = format!("{at}-{number}");
            let call = call(["a", "b.c"][which % 2]);
            Trigger::Command { call, ticket, postpone_until: None }
        }
        _ => Trigger::Signal(call(["b", "b.d", "z"][which % 3])),
    }
}

fn play(machine: &Json, script: &[u8]) {
    let Some(chart) = compile(machine) else { return };
    let mut at = 0;
    let start =
        Trigger::Start { input: Value::empty(), actor: "ann".to_owned(), tenant: "t".to_owned() };
    let Ok(started) = step(&chart, &Snapshot::unborn(), &start, Timestamp(0)) else { return };
    let mut now = started.next;
    for number in script {
        check_snapshot(machine, &chart, &now);
        let next = if now.has_queued() { Trigger::Queue } else { trigger(*number, &now, &mut at) };
        let taken = step(&chart, &now, &next, Timestamp(at));
        let again = step(&chart, &now, &next, Timestamp(at));
        assert_eq!(taken, again, "stepping twice gives the same");
        let Ok(taken) = taken else { continue };
        if taken.is_transition(&now) {
            assert_eq!(taken.next.version, now.version + 1);
        } else {
            assert_eq!(taken.next, now, "{:?} changes nothing without a version", taken.outcome);
        }
        assert_eq!(taken.next.encode(), again.unwrap().next.encode());
        assert!(taken.outcome != Outcome::Faulted || taken.next.status == Status::Faulted);
        now = taken.next;
    }
    check_snapshot(machine, &chart, &now);
}

fn check_snapshot(machine: &Json, chart: &Chart, now: &Snapshot) {
    let bytes = now.encode();
    let read = Snapshot::decode(&bytes).unwrap();
    assert_eq!(&read, now, "decoding gives what was encoded");
    assert_eq!(read.encode(), bytes);
    if !now.configuration.is_empty() {
        check_configuration(machine, chart, &now.configuration);
    }
    let states = now.works.iter().filter_map(|work| work.state);
    assert!(
        states.into_iter().all(|state| now.configuration.contains(state)),
        "work belongs to an active state"
    );
    assert!(now.timers.len() <= 20 && now.works.len() <= 12 && now.postponed.len() <= 3);
    if now.status.is_finished() {
        assert!(
            now.timers.is_empty()
                && now.works.is_empty()
                && now.queue.is_empty()
                && now.postponed.is_empty()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_chart_keeps_its_laws_whatever_happens(
        numbers in proptest::collection::vec(any::<u8>(), 0..300),
        script in proptest::collection::vec(any::<u8>(), 0..150),
    ) {
        play(&grow(&numbers), &script);
    }

    #[test]
    fn a_value_survives_its_text_and_its_bytes(value in value()) {
        let text = value.to_text();
        prop_assert_eq!(&Value::parse(&text).unwrap(), &value);
        prop_assert_eq!(&Value::from_json(&value.to_json()), &value);
        let mut snapshot = Snapshot::unborn();
        snapshot.context = value;
        prop_assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
    }

    #[test]
    fn random_bytes_are_no_snapshot_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Snapshot::decode(&bytes);
        let mut cut = Snapshot::unborn().encode();
        cut.truncate(bytes.len());
        let _ = Snapshot::decode(&cut);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("JSON has no infinity", |number| number.is_finite())
            .prop_map(Value::Double),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::list),
            proptest::collection::vec((".{0,5}", inner), 0..5).prop_map(|fields| {
                let map = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
                Value::Map(std::sync::Arc::new(map))
            }),
        ]
    })
}
