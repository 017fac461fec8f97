//! Raising a shard's feature level: who knows what goes in, the entry's answer comes out.

use super::*;

fn raise(level: u16) -> CommandEnvelope {
    let target = Target::Shard(ShardId(2));
    CommandEnvelope { target, ..envelope(Command::RaiseFeature { level }) }
}

/// A shard at level 1 on n1.1, which knows level 3, and on others.
fn on(others: &[(u32, Option<u16>)]) -> Rows {
    let builds = others.iter().map(|(number, known)| (node(*number, 1), *known));
    let builds = builds.chain([(node(1, 1), Some(3))]).collect();
    Rows { level: 1, builds, ..Rows::default() }
}

#[test]
fn a_level_that_every_member_knows_is_raised() {
    check_asked(
        &raise(2),
        &on(&[(2, Some(2)), (3, Some(7))]),
        &expect![[r#"changes rows: Accepted {"shard":2,"level":2,"raised":true}"#]],
    );
    check_asked(
        &raise(3),
        &on(&[]),
        &expect![[r#"changes rows: Accepted {"shard":2,"level":3,"raised":true}"#]],
    );
    let Body::FeatureRaised { level, .. } =
        decide(&raise(2), &on(&[]), circumstances()).unwrap().body
    else {
        panic!("another entry");
    };
    assert_eq!(level, 2);
}

#[test]
fn a_level_that_the_shard_has_or_is_above_changes_nothing_whoever_is_there() {
    for level in [1, 2] {
        check_asked(
            &raise(level),
            &Rows { level: 2, ..on(&[(2, None)]) },
            &expect![[r#"answer only: Accepted {"shard":2,"level":2,"raised":false}"#]],
        );
    }
}

#[test]
fn a_level_that_some_member_does_not_know_is_refused_and_the_members_are_named() {
    check_asked(
        &raise(3),
        &on(&[(2, Some(2)), (3, Some(1)), (4, Some(3))]),
        &expect![[
            r#"answer only: Refused(LimitExceeded) {"type":"/errors/limit_exceeded","title":"a limit was reached","status":409,"detail":"shard 2 stays at level 1: level 3 is beyond the builds of n2.1 (level 2), n3.1 (level 1); start newer ones there; then raise it again","instance":"/v1/cluster/shards/2","code":"limit_exceeded","source":"gateway","retryable":false,"advice":"after the instance has changed, send a new command with a new key"}"#
        ]],
    );
    check_asked(
        &raise(2),
        &on(&[(2, Some(2)), (3, None)]),
        &expect![[
            r#"answer only: Refused(LimitExceeded) {"type":"/errors/limit_exceeded","title":"a limit was reached","status":409,"detail":"shard 2 stays at level 1: nobody knows what the builds of n3.1 know while there is no connection; start them, or take them out of the cluster; then raise it again","instance":"/v1/cluster/shards/2","code":"limit_exceeded","source":"gateway","retryable":false,"advice":"after the instance has changed, send a new command with a new key"}"#
        ]],
    );
    check_asked(
        &raise(2),
        &on(&[(2, Some(1)), (3, None), (4, None)]),
        &expect![[
            r#"answer only: Refused(LimitExceeded) {"type":"/errors/limit_exceeded","title":"a limit was reached","status":409,"detail":"shard 2 stays at level 1: level 2 is beyond the builds of n2.1 (level 1); start newer ones there; nobody knows what the builds of n3.1, n4.1 know while there is no connection; start them, or take them out of the cluster; then raise it again","instance":"/v1/cluster/shards/2","code":"limit_exceeded","source":"gateway","retryable":false,"advice":"after the instance has changed, send a new command with a new key"}"#
        ]],
    );
}

#[test]
fn whoever_decides_must_know_the_level_itself() {
    check_asked(
        &raise(4),
        &on(&[(2, Some(9))]),
        &expect![[
            r#"answer only: Refused(LimitExceeded) {"type":"/errors/limit_exceeded","title":"a limit was reached","status":409,"detail":"shard 2 stays at level 1: level 4 is beyond the builds of n1.1 (level 3); start newer ones there; then raise it again","instance":"/v1/cluster/shards/2","code":"limit_exceeded","source":"gateway","retryable":false,"advice":"after the instance has changed, send a new command with a new key"}"#
        ]],
    );
    let alone = Rows { level: 1, ..Rows::default() };
    check_asked(
        &raise(4),
        &alone,
        &expect![[
            r#"answer only: Refused(LimitExceeded) {"type":"/errors/limit_exceeded","title":"a limit was reached","status":409,"detail":"shard 2 stays at level 1: level 4 is beyond the builds of n1.1 (level 3); start newer ones there; then raise it again","instance":"/v1/cluster/shards/2","code":"limit_exceeded","source":"gateway","retryable":false,"advice":"after the instance has changed, send a new command with a new key"}"#
        ]],
    );
    check_asked(
        &raise(0),
        &alone,
        &expect!["not written: invalid_request: feature levels are counted from 1"],
    );
}

#[test]
fn a_level_belongs_to_a_shard_and_a_shard_takes_nothing_else() {
    let at = |target, command| CommandEnvelope { target, ..envelope(command) };
    let rows = on(&[]);
    check_asked(
        &at(Target::Cluster, Command::RaiseFeature { level: 2 }),
        &rows,
        &expect![
            "not written: invalid_request: a feature level is raised in a shard's own log: name the shard"
        ],
    );
    check_asked(
        &at(Target::Shard(ShardId(0)), deploy(None, "a")),
        &rows,
        &expect!["not written: invalid_request: a shard takes its feature level alone"],
    );
}
