//! How long a postponed command waits, and how long a key may be repeated.

use super::world::World;

const KEEPER: &str = r#"
format: statehouse/1
version: 1
id: keeper
initial: closed
endless: true
commands:
  plain: {}
  patient: {deadline: 5m}
states:
  closed:
    on:
      plain: {postpone: true}
      patient: {postpone: true}
"#;

#[test]
fn a_postponed_command_waits_as_long_as_it_says_or_its_definition_or_a_minute() {
    for (command, expected) in [
        ("send plain {}", "arm postponed at 60s"),
        ("send patient {}", "arm postponed at 300s"),
        ("send plain {} within=90s", "arm postponed at 90s"),
        ("send patient {} within=90s", "arm postponed at 90s"),
    ] {
        let mut world = World::new(KEEPER);
        world.run("start {}");
        let said = world.run(command);
        assert!(said.contains(expected), "{command}: {said}");
    }
}

#[test]
fn a_key_that_is_older_than_any_receipt_is_never_run_and_not_written_down() {
    let mut world = World::new(KEEPER);
    world.run("start {}");
    // It was made in February 2022, as it says itself.
    let command = "send plain {} key=017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
    world.run("advance 457200h");
    let said = world.run(command);
    assert!(said.starts_with("  not written: key_expired"), "{said}");
    let mut young = World::new(KEEPER);
    young.run("start {}");
    young.run("advance 457100h");
    let said = young.run(command);
    assert!(said.contains("Postponed"), "{said}");
}
