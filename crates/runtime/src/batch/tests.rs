//! What a batch takes, whom it draws, and how it counts.

use super::*;

fn spec(text: &str) -> Result<Spec, String> {
    Spec::read(text)
}

fn cancel() -> Batch {
    let spec = spec(r#"{"verb": "cancel", "reason": "r"}"#).unwrap();
    Batch { spec, state: State { began: 1_000, ..State::default() } }
}

fn row(id: &str, version: u32, created: i64) -> InstanceRow {
    InstanceRow {
        id: InstanceId::parse(id).unwrap(),
        definition: DefinitionName::parse("d").unwrap(),
        definition_version: version,
        version: 3,
        configuration: Vec::new(),
        status: "running".to_owned(),
        tags: Vec::new(),
        created_at: Timestamp(created).to_rfc3339(),
        updated_at: Timestamp(created).to_rfc3339(),
    }
}

fn ending(id: &str, ending: Ending) -> (InstanceId, Ending) {
    (InstanceId::parse(id).unwrap(), ending)
}

fn refused(detail: &str) -> Ending {
    Ending::Refused { code: RejectionCode::NotHandled, detail: detail.to_owned() }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let long = "x".repeat(2_000);
    let no = |text: &str| spec(text).unwrap_err();
    assert!(no(r#"{"verb": "explode", "reason": "r"}"#).contains("unknown variant `explode`"));
    assert!(no(r#"{"verb": "cancel"}"#).contains("missing field `reason`"));
    assert_eq!(
        no(r#"{"verb": "cancel", "reason": " "}"#),
        "/reason is empty; say why, for the audit"
    );
    assert!(
        no(&format!(r#"{{"verb": "cancel", "reason": "{long}"}}"#)).contains("/reason has 2000")
    );
    assert!(no(r#"{"verb": "cancel", "to": 2, "reason": "r"}"#).contains("only migrate takes /to"));
    assert!(no(r#"{"verb": "migrate", "to": 2, "reason": "r"}"#).contains("/filter/definition"));
    assert!(no(r#"{"verb": "reset", "reason": "r"}"#).contains("a reset takes /version"));
    assert!(no(r#"{"verb": "cancel", "rate": 0, "reason": "r"}"#).starts_with("/rate is 0"));
    assert!(
        no(r#"{"verb": "cancel", "percent": 101, "reason": "r"}"#).starts_with("/percent is 101")
    );
    assert!(
        no(r#"{"verb": "cancel", "filter": {"definition": "a b"}, "reason": "r"}"#)
            .starts_with("/filter/definition")
    );
    assert!(
        no(r#"{"verb": "cancel", "filter": {"version": 2}, "reason": "r"}"#)
            .starts_with("/filter/version stands without")
    );
    assert!(
        no(r#"{"verb": "cancel", "filter": {"colour": "red"}, "reason": "r"}"#)
            .contains("unknown field `colour`")
    );
}

#[test]
fn a_small_share_is_part_of_every_larger_one_and_has_about_its_size() {
    let share = |percent: u8| Spec { percent, ..cancel().spec };
    let ids: Vec<InstanceId> =
        (0..10_000).map(|n| InstanceId::parse(&format!("order-{n}")).unwrap()).collect();
    let drawn = |percent: u8| ids.iter().filter(|id| share(percent).draws(id)).count();
    assert!((800..1_200).contains(&drawn(10)), "{}", drawn(10));
    assert_eq!(drawn(100), ids.len());
    assert!(ids.iter().filter(|id| share(10).draws(id)).all(|id| share(35).draws(id)));
}

#[test]
fn later_instances_and_other_versions_are_not_its_business() {
    let mut batch = cancel();
    assert!(batch.concerns(&row("a", 1, 1_000)));
    assert!(!batch.concerns(&row("a", 1, 1_001)));
    batch.spec.filter.version = Some(2);
    assert!(!batch.concerns(&row("a", 1, 1_000)));
    assert!(batch.concerns(&row("a", 2, 1_000)));
}

#[test]
fn counts_and_cursor_move_together_and_the_end_of_the_list_ends_it() {
    let mut batch = cancel();
    let page = Page {
        endings: vec![
            ending("a", Ending::Accepted { moved: Some("x -> y".to_owned()) }),
            ending("b", Ending::Left { why: "nothing_to_do" }),
            ending("c", refused("no place")),
            ending("d", Ending::NotDrawn),
        ],
        next: Some("more".to_owned()),
    };
    batch.take_in(page, Timestamp(2_000));
    let state = &batch.state;
    assert_eq!(
        (state.found, state.accepted, state.left, state.refused, state.not_drawn),
        (4, 1, 1, 1, 1)
    );
    let codes = [("not_handled".to_owned(), 1), ("nothing_to_do".to_owned(), 1)];
    assert_eq!(state.codes, codes.into());
    assert_eq!(state.moves, [("x -> y".to_owned(), 1)].into());
    assert_eq!(state.examples[0].detail, "no place");
    assert_eq!((state.phase, state.cursor.as_deref()), (Phase::Running, Some("more")));
    batch.take_in(Page::default(), Timestamp(3_000));
    assert_eq!((batch.state.phase, batch.state.ended), (Phase::Done, Some(3_000)));
}

#[test]
fn the_first_refusal_stops_a_migration_and_no_dry_run() {
    let text = |more: &str| {
        format!(
            r#"{{"verb": "migrate", "to": 2, "filter": {{"definition": "d"}}, {more} "reason": "r"}}"#
        )
    };
    let stopped = |more: &str| {
        let mut batch = Batch { spec: spec(&text(more)).unwrap(), state: State::default() };
        let endings = vec![ending("a", refused("no place")), ending("b", refused("nor here"))];
        batch.take_in(Page { endings, next: Some("more".to_owned()) }, Timestamp(9));
        (batch.state.phase, batch.state.refused, batch.state.stopped)
    };
    let why = Some("a refused: not_handled: no place".to_owned());
    assert_eq!(stopped(""), (Phase::Stopped, 2, why));
    assert_eq!(stopped(r#""dry_run": true,"#), (Phase::Running, 2, None));
    assert_eq!(stopped(r#""stop_on_refusal": false,"#), (Phase::Running, 2, None));
}

#[test]
fn examples_are_bounded_and_counts_are_not() {
    let mut batch = cancel();
    let endings = (0..200).map(|n| ending(&format!("i-{n}"), refused("no"))).collect();
    batch.take_in(Page { endings, next: None }, Timestamp(9));
    assert_eq!((batch.state.refused, batch.state.examples.len()), (200, BATCH_EXAMPLES_MAX));
}

#[test]
fn moves_are_counted_by_name_and_the_names_are_bounded() {
    let mut batch = cancel();
    let to = |n: u32| Ending::Accepted { moved: Some(format!("a -> b{}", n % 30)) };
    let endings = (0..90).map(|n| ending(&format!("i-{n}"), to(n))).collect();
    batch.take_in(Page { endings, next: None }, Timestamp(9));
    let moves = &batch.state.moves;
    assert_eq!((moves.len(), moves["a -> b0"]), (BATCH_EXAMPLES_MAX + 1, 3));
    assert_eq!(moves["other"], 30);
}

#[test]
fn progress_on_a_batch_that_was_stopped_is_counted_and_it_stays_stopped() {
    let mut batch = cancel();
    batch.stop("ann", Timestamp(5));
    let page = Page {
        endings: vec![ending("a", Ending::Accepted { moved: None })],
        next: Some("more".to_owned()),
    };
    batch.take_in(page, Timestamp(6));
    assert_eq!((batch.state.phase, batch.state.accepted), (Phase::Stopped, 1));
    assert_eq!(batch.state.stopped.as_deref(), Some("ann stopped it"));
    assert_eq!(batch.state.ended, Some(5));
}

#[test]
fn what_is_said_fits_the_verb() {
    let of = |text: &str| spec(text).unwrap();
    let migrate =
        of(r#"{"verb": "migrate", "to": 2, "filter": {"definition": "d"}, "reason": "r"}"#);
    assert_eq!(migrate.verb_for("b", &row("a", 1, 0)), Some(Verb::Migrate { to: 2 }));
    assert_eq!(migrate.verb_for("b", &row("a", 2, 0)), None, "it is there already");
    let reset = of(r#"{"verb": "reset", "version": 3, "reason": "r"}"#);
    let instance = InstanceId::parse("a-again").unwrap();
    assert_eq!(
        reset.verb_for("again", &row("a", 1, 0)),
        Some(Verb::Reset { version: 3, instance })
    );
    assert!(!migrate.is_nothing_to_do(RejectionCode::NotHandled), "one that has no place is news");
    assert!(migrate.is_nothing_to_do(RejectionCode::GuardRefused));
    assert!(cancel().spec.is_nothing_to_do(RejectionCode::InstanceFinished));
    assert!(!cancel().spec.is_nothing_to_do(RejectionCode::Internal));
    assert_eq!(cancel().spec.reason_in("b"), "batch b: r");
}
