//! What a batch takes, whom it draws, and how it counts.

use statehouse_contract::{DefinitionName, Verb};

use super::*;

fn spec(text: &str) -> Result<Spec, String> {
    Spec::read(text)
}

fn cancel() -> Batch {
    let spec = spec(r#"{"verb": "cancel", "reason": "r"}"#).unwrap();
    Batch { spec, state: State { began: 1_000, ..State::default() } }
}

fn migrate_some() -> Batch {
    let spec = spec(
        r#"{"verb": "migrate", "to": 2, "percent": 50, "filter": {"definition": "d"}, "reason": "r"}"#,
    );
    Batch { spec: spec.unwrap(), state: State { began: 1_000, ..State::default() } }
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
fn a_page_is_planned_told_and_counted_once_and_the_end_of_the_list_ends_it() {
    let mut batch = migrate_some();
    let all: Vec<InstanceId> =
        (0..40).map(|n| InstanceId::parse(&format!("i-{n}")).unwrap()).collect();
    let (drawn, not): (Vec<_>, Vec<_>) = all.iter().partition(|id| batch.spec.draws(id));
    let rows =
        [row(drawn[0].as_str(), 1, 0), row(drawn[1].as_str(), 2, 0), row(not[0].as_str(), 1, 0)];
    let page = batch.plan(&rows, Some("more".to_owned()));
    assert_eq!(page.telling, [drawn[0].clone()]);
    let mut stopped = batch.clone();
    stopped.stop("ann", Timestamp(1));
    assert!(!stopped.take(page.clone(), Timestamp(2)), "nobody is told any more");
    assert!(batch.take(page.clone(), Timestamp(2)));
    let counts = |batch: &Batch| {
        let state = &batch.state;
        (state.found, state.accepted, state.left, state.refused, state.not_drawn)
    };
    assert_eq!(counts(&batch), (2, 0, 1, 0, 1));
    assert_eq!(batch.state.cursor.as_deref(), Some("more"));
    assert!(!batch.take(page, Timestamp(2)), "it is being told");
    let other = batch.plan(&[], None);
    assert!(!batch.take(other, Timestamp(2)), "first those who are being told");
    let told = batch.state.telling.clone();
    let endings = vec![(told[0].clone(), Ending::Accepted { moved: Some("x -> y".to_owned()) })];
    // As after a crash: what is written down says who was to be told.
    let text = serde_json::to_string(&batch).unwrap();
    let mut batch = Batch::read(&text).unwrap();
    assert!(batch.take_in(&told, endings.clone(), Timestamp(3)));
    assert!(!batch.take_in(&told, endings, Timestamp(3)), "they are counted");
    assert_eq!(counts(&batch), (3, 1, 1, 0, 1));
    assert_eq!(batch.state.moves, [("x -> y".to_owned(), 1)].into());
    assert_eq!(batch.state.phase, Phase::Running);
    let last = batch.plan(&[], None);
    assert!(batch.take(last, Timestamp(3_000)));
    assert_eq!((batch.state.phase, batch.state.ended), (Phase::Done, Some(3_000)));
}

#[test]
fn a_last_page_ends_the_batch_when_it_has_been_told() {
    let mut batch = cancel();
    let page = batch.plan(&[row("a", 1, 0)], None);
    assert!(batch.take(page, Timestamp(2)));
    assert_eq!(batch.state.phase, Phase::Running);
    let (id, no) = ending("a", refused("no place"));
    assert!(batch.take_in(std::slice::from_ref(&id), vec![(id.clone(), no)], Timestamp(3)));
    let state = &batch.state;
    assert_eq!((state.phase, state.refused, state.ended), (Phase::Done, 1, Some(3)));
    assert_eq!(state.codes, [("not_handled".to_owned(), 1)].into());
    assert_eq!(state.examples[0].detail, "no place");
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
        batch.state.cursor = Some("more".to_owned());
        batch.take_in(&[], endings, Timestamp(9));
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
    batch.take_in(&[], endings, Timestamp(9));
    assert_eq!((batch.state.refused, batch.state.examples.len()), (200, BATCH_EXAMPLES_MAX));
}

#[test]
fn moves_are_counted_by_name_and_the_names_are_bounded() {
    let mut batch = cancel();
    let to = |n: u32| Ending::Accepted { moved: Some(format!("a -> b{}", n % 30)) };
    let endings = (0..90).map(|n| ending(&format!("i-{n}"), to(n))).collect();
    batch.take_in(&[], endings, Timestamp(9));
    let moves = &batch.state.moves;
    assert_eq!((moves.len(), moves["a -> b0"]), (BATCH_EXAMPLES_MAX + 1, 3));
    assert_eq!(moves["other"], 30);
}

#[test]
fn progress_on_a_batch_that_was_stopped_is_counted_and_it_stays_stopped() {
    let mut batch = cancel();
    batch.stop("ann", Timestamp(5));
    batch.take_in(&[], vec![ending("a", Ending::Accepted { moved: None })], Timestamp(6));
    assert_eq!((batch.state.phase, batch.state.accepted), (Phase::Stopped, 1));
    assert_eq!(batch.state.stopped.as_deref(), Some("ann stopped it"));
    assert_eq!(batch.state.ended, Some(5));
}

#[test]
fn what_is_said_fits_the_verb() {
    let of = |text: &str| spec(text).unwrap();
    let migrate =
        of(r#"{"verb": "migrate", "to": 2, "filter": {"definition": "d"}, "reason": "r"}"#);
    let a = InstanceId::parse("a").unwrap();
    assert_eq!(migrate.verb_for("b", &a), Some(Verb::Migrate { to: 2 }));
    assert!(migrate.is_done(&row("a", 2, 0)) && !migrate.is_done(&row("a", 1, 0)));
    let reset = of(r#"{"verb": "reset", "version": 3, "reason": "r"}"#);
    let instance = InstanceId::parse("a-again").unwrap();
    assert_eq!(reset.verb_for("again", &a), Some(Verb::Reset { version: 3, instance }));
    assert!(!migrate.is_nothing_to_do(RejectionCode::NotHandled), "one that has no place is news");
    assert!(migrate.is_nothing_to_do(RejectionCode::GuardRefused));
    assert!(cancel().spec.is_nothing_to_do(RejectionCode::InstanceFinished));
    assert!(!cancel().spec.is_nothing_to_do(RejectionCode::Internal));
    assert_eq!(cancel().spec.reason_in("b"), "batch b: r");
}
