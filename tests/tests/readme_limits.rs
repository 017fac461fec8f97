//! The README's limits are the code's limits.
//!
//! Deliberately absent: whether a limit is kept. Each has tests where it is kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use statehouse_contract::limits::{
    BODY_BYTES_MAX, CONTEXT_BYTES_MAX, DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, DEFINITION_BYTES_MAX,
    DRAIN_MS_MAX, ENTRY_BYTES_MAX, EXPRESSION_BYTES_MAX, INGRESS_PERMITS, INSTANCE_BYTES_MAX,
    INSTANCE_WAITING_MAX, KEY_BYTES_MAX, MICROSTEPS_MAX, PAGE_MAX, PAYLOAD_BYTES_MAX,
    POSTPONED_MAX, RECEIPT_KEEP_MS_MIN, SHARD_PERMITS, STATE_DEPTH_MAX, STATES_MAX, TASKS_MAX,
    TENANT_BYTES_MAX, TENANT_PERMITS, TIMERS_MAX, TRANSITIONS_MAX,
};
use statehouse_tests::binary::root;

fn bytes(count: usize) -> String {
    match count {
        _ if count >= 1 << 20 && count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        _ if count >= 1 << 11 && count.is_multiple_of(1 << 10) => format!("{} KiB", count >> 10),
        _ => format!("{} bytes", number(count as u64)),
    }
}

fn number(count: u64) -> String {
    match count / 1_000 {
        0 => count.to_string(),
        thousands => format!("{},{:03}", number(thousands), count % 1_000),
    }
}

fn seconds(ms: u64) -> String {
    format!("{} s", ms / 1_000)
}

#[test]
fn every_limit_in_the_readme_is_the_one_in_the_code() {
    let rows: [(&str, String); 22] = [
        ("`DEFINITION_BYTES_MAX`", bytes(DEFINITION_BYTES_MAX)),
        ("`STATES_MAX`", number(STATES_MAX as u64)),
        ("`STATE_DEPTH_MAX`", number(STATE_DEPTH_MAX as u64)),
        ("`TRANSITIONS_MAX`", number(TRANSITIONS_MAX as u64)),
        ("`EXPRESSION_BYTES_MAX`", bytes(EXPRESSION_BYTES_MAX)),
        ("`CONTEXT_BYTES_MAX`", bytes(CONTEXT_BYTES_MAX)),
        ("`PAYLOAD_BYTES_MAX`", bytes(PAYLOAD_BYTES_MAX)),
        ("`BODY_BYTES_MAX`", bytes(BODY_BYTES_MAX)),
        ("`ENTRY_BYTES_MAX`", bytes(ENTRY_BYTES_MAX)),
        ("`MICROSTEPS_MAX`", number(MICROSTEPS_MAX.into())),
        ("`POSTPONED_MAX`", number(POSTPONED_MAX.into())),
        ("`TIMERS_MAX`", number(TIMERS_MAX.into())),
        ("`TASKS_MAX`", number(TASKS_MAX.into())),
        ("`INSTANCE_WAITING_MAX`", number(INSTANCE_WAITING_MAX as u64)),
        (
            "`INGRESS_PERMITS`, `SHARD_PERMITS`, `TENANT_PERMITS`",
            [INGRESS_PERMITS, SHARD_PERMITS, TENANT_PERMITS]
                .map(|count| number(count as u64))
                .join(", "),
        ),
        ("`PAGE_MAX`", number(PAGE_MAX.into())),
        ("`TENANT_BYTES_MAX`", format!("{TENANT_BYTES_MAX} of `[a-z0-9-]`")),
        ("`INSTANCE_BYTES_MAX`", format!("{INSTANCE_BYTES_MAX} of `[A-Za-z0-9._-]`")),
        ("`KEY_BYTES_MAX`", format!("{KEY_BYTES_MAX} visible ASCII characters")),
        (
            "`DEADLINE_MS_DEFAULT`, `DEADLINE_MS_MAX`",
            format!("{}, at most {}", seconds(DEADLINE_MS_DEFAULT), seconds(DEADLINE_MS_MAX)),
        ),
        ("`RECEIPT_KEEP_MS_MIN`", format!("at least {} h", RECEIPT_KEEP_MS_MIN / 3_600_000)),
        ("`DRAIN_MS_MAX`", seconds(DRAIN_MS_MAX)),
    ];
    let page = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    let missing: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("| {value} | {name} |"))
        .filter(|end| !table.iter().any(|row| row.ends_with(end)))
        .collect();
    assert!(missing.is_empty(), "README.md lacks rows that end with {missing:#?}");
}
