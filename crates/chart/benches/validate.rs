//! What a refusal costs: large definitions within their limits, each the worst of its kind.
//!
//! Run with `cargo bench -p statehouse-chart --bench validate`. Whatever a client sends is answered within 50 ms of CPU.
//!
//! Deliberately absent: texts beyond a limit; they are refused before anything is built from them.
#![allow(missing_docs, reason = "a benchmark has no callers")]

use divan::{Bencher, black_box};
use statehouse_chart::validate::validate_bytes;

fn main() {
    divan::main();
}

fn many(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// A parallel state whose regions have these moves each.
fn regions(count: usize, commands: usize, target: &str) -> String {
    let names = many(commands, |c| format!("c{c}: {{}}, "));
    let region = |n: usize| {
        let target = target.replace('N', &n.to_string());
        let moves = many(commands, |c| format!("c{c}: {{target: '{target}', reenter: true}}, "));
        format!("      r{n}: {{on: {{{moves}}}}}\n")
    };
    let regions = many(count, region);
    format!(
        "format: statehouse/1\nid: t\ncommands: {{{names}}}\nstates:\n  p:\n    type: parallel\n    onDone: e\n    states:\n{regions}  e: {{type: final}}\n"
    )
}

/// Many states that postpone many commands each.
fn postponed() -> String {
    let commands = many(400, |n| format!("c{n}: {{}}, "));
    let states = many(490, |n| {
        let names = many(39, |k| format!("c{}, ", (n + k + 1) % 400));
        format!("  s{n}: {{postpone: [{names}], on: {{c{}: s{}}}}}\n", n % 400, (n + 1) % 490)
    });
    format!("format: statehouse/1\nid: t\ncommands: {{{commands}}}\nstates:\n{states}")
}

#[divan::bench]
fn regions_that_start_all_again(bencher: Bencher<'_, '_>) {
    let text = regions(240, 8, "#p");
    bencher.bench_local(|| validate_bytes(black_box(text.as_bytes())));
}

#[divan::bench]
fn regions_that_start_themselves_again(bencher: Bencher<'_, '_>) {
    let text = regions(490, 4, "rN");
    bencher.bench_local(|| validate_bytes(black_box(text.as_bytes())));
}

#[divan::bench]
fn states_that_postpone_much(bencher: Bencher<'_, '_>) {
    let text = postponed();
    bencher.bench_local(|| validate_bytes(black_box(text.as_bytes())));
}
