//! What a step costs: the time that an instance's actor spends between two proposals.
//!
//! Run with `cargo bench -p statehouse-chart`. The budgets stand in the README's performance page; a figure without the
//! machine and the build says nothing.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark has no callers")]

use divan::{Bencher, black_box};
use statehouse_chart::{
    Call, Chart, Snapshot, Source, Trigger, Value, WorkError,
    guard::{Evaluate, Names, Program, Scope, StateNames, on_big_stack},
    load::load,
    source::Spot,
    step,
};
use statehouse_contract::time::Timestamp;

const ORDER: &str = r#"{
  "id": "order", "version": 1,
  "schemas": {
    "context": {"type": "object", "required": ["orderId", "amount", "paid", "lines"], "properties": {
      "orderId": {"type": "string"}, "amount": {"type": "integer"}, "paid": {"type": "integer"},
      "lines": {"type": "array", "maxItems": 100, "items": {"type": "object", "properties": {
        "sku": {"type": "string"}, "quantity": {"type": "integer"}}}}}}},
  "commands": {"pay": {"schema": {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}},
    "cancel": {}, "ship": {}},
  "context": {"orderId": "${input.orderId}", "amount": "${input.amount}", "paid": 0, "lines": "${input.lines}"},
  "initial": "open",
  "states": {
    "open": {
      "after": {"30m": "expired"},
      "on": {
        "cancel": "cancelled",
        "pay": [
          {"guard": "context.paid + event.data.amount >= context.amount", "target": "paid",
           "actions": [{"assign": {"paid": "${context.paid + event.data.amount}"}}]},
          {"guard": "event.data.amount > 0", "actions": [{"assign": {"paid": "${context.paid + event.data.amount}"}},
            {"reply": {"open": "${context.amount - context.paid}"}}]}]}},
    "paid": {"on": {"ship": "shipped"}, "invoke": {"src": "task:pack", "input": {"lines": "${context.lines}"}, "onDone": "shipped", "onError": "cancelled"}},
    "shipped": {"type": "final"}, "expired": {"type": "final"}, "cancelled": {"type": "final"}
  }
}"#;

fn main() {
    divan::main();
}

fn chart() -> Chart {
    let (source, _) = Source::parse(&load(ORDER).unwrap());
    Chart::compile(&source.unwrap()).unwrap()
}

fn input() -> Value {
    let line = |number: i64| {
        Value::object([
            ("sku", Value::from(format!("article-{number}"))),
            ("quantity", Value::Int(number)),
        ])
    };
    Value::object([
        ("orderId", Value::text("order-0000001")),
        ("amount", Value::Int(1_000_000)),
        ("lines", Value::list((1..16).map(line).collect())),
    ])
}

fn start() -> Trigger {
    Trigger::Start { input: input(), actor: "ann".to_owned(), tenant: "acme".to_owned() }
}

fn open(chart: &Chart) -> Snapshot {
    step(chart, &Snapshot::unborn(), &start(), Timestamp(0)).unwrap().next
}

fn pay(amount: i64) -> Trigger {
    let call = Call {
        name: "pay".to_owned(),
        data: Value::object([("amount", Value::Int(amount))]),
        actor: "ann".to_owned(),
    };
    Trigger::Command { call, ticket: "k".to_owned(), postpone_until: None }
}

/// Context and payload of about 0.7 KB.
#[divan::bench]
fn start_an_order(bencher: Bencher) {
    let (chart, start) = (chart(), start());
    bencher.bench(|| step(&chart, &Snapshot::unborn(), black_box(&start), Timestamp(0)).unwrap());
}

/// Two guards, one assign, one reply; no state changes.
#[divan::bench]
fn pay_a_part(bencher: Bencher) {
    let (chart, pay) = (chart(), pay(7));
    let now = open(&chart);
    bencher.bench(|| step(&chart, &now, black_box(&pay), Timestamp(1)).unwrap());
}

/// One guard, one assign, a state change, a timer cancelled, a task started.
#[divan::bench]
fn pay_all(bencher: Bencher) {
    let (chart, pay) = (chart(), pay(1_000_000));
    let now = open(&chart);
    bencher.bench(|| step(&chart, &now, black_box(&pay), Timestamp(1)).unwrap());
}

#[divan::bench]
fn refuse_a_command(bencher: Bencher) {
    let (chart, pay) = (chart(), pay(0));
    let now = open(&chart);
    bencher.bench(|| step(&chart, &now, black_box(&pay), Timestamp(1)).unwrap_err());
}

#[divan::bench]
fn a_task_fails(bencher: Bencher) {
    let chart = chart();
    let now = step(&chart, &open(&chart), &pay(1_000_000), Timestamp(1)).unwrap().next;
    let error = WorkError { code: "down".to_owned(), message: String::new(), attempts: 3 };
    let failed = Trigger::WorkFailed { work: now.works[0].key, error };
    bencher.bench(|| step(&chart, &now, black_box(&failed), Timestamp(2)).unwrap());
}

#[divan::bench]
fn encode_a_snapshot(bencher: Bencher) {
    let now = open(&chart());
    bencher.bench(|| black_box(&now).encode());
}

#[divan::bench]
fn decode_a_snapshot(bencher: Bencher) {
    let bytes = open(&chart()).encode();
    bencher.bench(|| Snapshot::decode(black_box(&bytes)).unwrap());
}

#[divan::bench]
fn evaluate_a_guard(bencher: Bencher) {
    evaluate(
        bencher,
        "context.paid + event.data.amount >= context.amount && event.data.amount > 0",
    );
}

#[divan::bench]
fn evaluate_a_comprehension(bencher: Bencher) {
    evaluate(
        bencher,
        "context.lines.filter(l, l.quantity > 3).all(l, l.sku.startsWith('article'))",
    );
}

fn evaluate(bencher: Bencher, text: &str) {
    let names = StateNames::default();
    let place = statehouse_chart::finding::Place::START;
    let spot = Spot { pointer: String::new(), place };
    let program =
        on_big_stack(|| Program::compile(text, &spot, Names { states: &names, item: None }))
            .unwrap();
    let now = open(&chart());
    let event = Value::object([("data", Value::object([("amount", Value::Int(7))]))]);
    let scope = Scope {
        context: &now.context,
        event: Some(&event),
        input: None,
        item: None,
        now: Timestamp(0),
        active: &now.configuration,
        states: &names,
    };
    bencher.bench_local(|| program.evaluate(black_box(&scope)).unwrap());
}

#[divan::bench]
fn compile_a_definition(bencher: Bencher) {
    let (source, _) = Source::parse(&load(ORDER).unwrap());
    let source = source.unwrap();
    bencher.bench(|| Chart::compile(black_box(&source)).unwrap());
}
