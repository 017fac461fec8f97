//! Queues: workers that race, ten thousand tasks at once, and nobody for an hour.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use super::{PARKS, fixture, outcome};
use crate::{queue_watch_actor::QueueWatchState, reign::Reign};

/// Many tasks at once.
const MANY: &str = r#"
format: statehouse/1
version: 1
id: many
initial: going
schemas: {input: {type: object, required: [items], properties: {items: {type: array, items: {type: integer}}}}, context: {type: object, required: [items], properties: {items: {type: array, items: {type: integer}}}}}
context: {items: "${input.items}"}
states:
  going: {invoke: {id: go, src: "task:many", forEach: {items: "${context.items}", as: item}, onDone: gone, onError: gone}}
  gone: {type: final}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_race_never_get_the_same_task_and_instances_take_turns() {
    let fixture = fixture(&[MANY]).await;
    fixture.born("many", "a", r#"{"items": [1, 2, 3, 4, 5, 6, 7, 8]}"#).await;
    fixture.born("many", "b", r#"{"items": [1, 2]}"#).await;
    let first = fixture.leases("many", 4, "turns").await;
    let owners: Vec<&str> = first.iter().map(|lease| lease.id.instance.as_str()).collect();
    assert_eq!(owners, ["a", "b", "a", "b"]);
    let names: Vec<String> = (0..8).map(|n| format!("race-{n}")).collect();
    let racing = names.iter().map(|name| fixture.leases("many", 2, name));
    let won = futures::future::join_all(racing).await;
    let all: Vec<String> = won.iter().flatten().chain(&first).map(|l| l.id.to_string()).collect();
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (10, 10));
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tasks_that_are_due_at_once_are_each_given_to_one_worker_and_done() {
    const INSTANCES: usize = 400;
    const ITEMS: usize = 25;
    const WORKERS: usize = 8;
    let fixture = fixture(&[MANY]).await;
    let items: Vec<usize> = (0..ITEMS).collect();
    let input = serde_json::json!({ "items": items }).to_string();
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("i-{n}")).collect();
    for some in names.chunks(50) {
        futures::future::join_all(some.iter().map(|id| fixture.born("many", id, &input))).await;
    }
    let work = async |worker: usize| {
        let mut done: Vec<String> = Vec::new();
        for round in 0.. {
            let leases = fixture.leases("many", 64, &format!("w-{worker}-{round}")).await;
            if leases.is_empty() {
                return done;
            }
            for lease in &leases {
                let told = fixture.complete(lease, "{}").await.unwrap();
                assert_eq!(outcome(&told), "done", "{}", lease.id);
            }
            done.extend(leases.iter().map(|lease| lease.id.to_string()));
        }
        done
    };
    let done = futures::future::join_all((0..WORKERS).map(work)).await.concat();
    let different: BTreeSet<&String> = done.iter().collect();
    assert_eq!((done.len(), different.len()), (INSTANCES * ITEMS, INSTANCES * ITEMS));
    for id in &names {
        assert_eq!(fixture.states(id).await, "done gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_nobody_serves_for_an_hour_is_news_once_costs_nothing_and_loses_nothing() {
    let fixture = fixture(&[PARKS]).await;
    for n in 0..20 {
        fixture.born("parks", &format!("i-{n}"), "{}").await;
    }
    let term = fixture.seat().log().numbers().term;
    let reign = Arc::new(Reign::new(Arc::clone(fixture.seat()), term));
    let late = || fixture.host.metrics().late_queues.load(Ordering::Relaxed);
    let mut watch = QueueWatchState::new(reign);
    watch.look().unwrap();
    assert_eq!(late(), 0);
    let applied = fixture.seat().log().view().applied();
    fixture.clock.advance(3_600_000);
    fixture.poke();
    for _ in 0..3 {
        watch.look().unwrap();
        assert_eq!(late(), 1, "one queue, however many tasks wait in it");
    }
    assert_eq!(fixture.seat().log().view().applied(), applied, "to wait writes nothing");
    assert_eq!(fixture.task_state("i-0").await, "ready");
    let leases = fixture.leases("go", 20, "l").await;
    assert_eq!(leases.len(), 20, "all of them are still there");
    for lease in &leases {
        assert_eq!(outcome(&fixture.complete(lease, "{}").await.unwrap()), "done");
    }
    watch.look().unwrap();
    assert_eq!(late(), 0);
    fixture.rebuilds_all().await;
}
