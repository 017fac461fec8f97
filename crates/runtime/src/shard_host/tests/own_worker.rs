//! The node's own worker: kinds that the test gives it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use statehouse_contract::{Command, DefinitionName, DefinitionRef, Json, Verb};
use tokio::sync::Notify;

use super::fixture::{Fixture, envelope, key};
use crate::{Failed, Kind, Work, reading::resolve};

const ECHOES: &str = r#"
format: statehouse/1
version: 1
id: echoes
initial: asking
schemas: {context: {type: object, required: [said], properties: {said: {type: string}}}}
context: {said: ""}
retries: {some: {maxAttempts: 3, initialInterval: 100ms, maxInterval: 100ms}}
states:
  asking: {invoke: {id: ask, src: echo, input: {say: hello}, retry: some, onDone: {target: done, actions: [{assign: {said: "${event.output.say}"}}]}, onError: {target: done, actions: [{assign: {said: "${event.error.code}"}}]}}}
  done: {type: final, output: {said: "${context.said}"}}
"#;

/// Does as it is told: answers, panics, or waits to be let go.
struct Puppet {
    does: fn(usize, &Work) -> Result<Json, Failed>,
    hold: Option<Arc<Notify>>,
    calls: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
    at_once: usize,
}

impl Kind for Puppet {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(work.instance.to_string());
        let (does, hold) = (self.does, self.hold.clone());
        Box::pin(async move {
            if let Some(hold) = hold {
                hold.notified().await;
            }
            does(call, &work)
        })
    }
}

fn echo(_: usize, work: &Work) -> Result<Json, Failed> {
    Ok(Json::from_value(&work.input))
}

async fn offered(puppet: Puppet) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.deploy_as(ECHOES, "deploy-echoes").await;
    fixture.host.kinds().offer(vec![Arc::new(puppet)]);
    fixture
}

fn puppet(does: fn(usize, &Work) -> Result<Json, Failed>) -> Puppet {
    Puppet { does, hold: None, calls: Arc::default(), seen: Arc::default(), at_once: 8 }
}

impl Fixture {
    async fn echoes(&self, instance: &str) {
        let key = key(instance);
        let name = DefinitionName::parse("echoes").unwrap();
        let wanted = DefinitionRef { name, version: None, digest: None };
        let definition = resolve(self.seat(), &key.tenant, &wanted).await.unwrap();
        let command = Command::Start { definition, input: Json::empty_object() };
        self.door().deliver(&key, envelope(&key, "start", command)).await.unwrap();
    }

    async fn said(&self, instance: &str, what: &str) {
        let is_said = async |f: &Fixture| {
            let output = f.read(instance).await.output;
            output.is_some_and(|output| output.as_str() == format!(r#"{{"said":"{what}"}}"#))
        };
        self.until(what, is_said).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_built_in_kind_needs_no_worker_from_outside() {
    let fixture = offered(puppet(echo)).await;
    fixture.echoes("a").await;
    fixture.said("a", "hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_panics_costs_an_attempt_and_the_next_one_may_do() {
    let fixture = offered(puppet(|call, work| {
        assert_ne!(call, 0, "the first attempt breaks (by the test)");
        echo(call, work)
    }))
    .await;
    fixture.echoes("a").await;
    let waits =
        async |f: &Fixture| f.read("a").await.tasks.iter().any(|task| task.state == "waiting");
    fixture.until("the first attempt has failed", waits).await;
    let error = fixture.read("a").await.tasks[0].error.clone().unwrap();
    assert!(error.as_str().contains("worker_panic"), "{}", error.as_str());
    fixture.clock.advance(1_000);
    fixture.said("a", "hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_for_good_is_the_instances_error() {
    let fixture = offered(puppet(|_, _| Err(Failed::fatal("no_way", "it cannot be")))).await;
    fixture.echoes("a").await;
    fixture.said("a", "no_way").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_kind_no_more_run_at_once_than_it_allows() {
    let hold = Arc::new(Notify::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let held = Puppet {
        hold: Some(Arc::clone(&hold)),
        calls: Arc::clone(&calls),
        at_once: 2,
        ..puppet(echo)
    };
    let fixture = offered(held).await;
    for n in 0..5 {
        fixture.echoes(&format!("i-{n}")).await;
    }
    for done in 0..5 {
        let full = async |_: &Fixture| calls.load(Ordering::SeqCst) == 5.min(done + 2);
        fixture.until("as many run as may", full).await;
        hold.notify_one();
    }
    fixture.said("i-4", "hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_was_cancelled_is_dropped() {
    let hold = Arc::new(Notify::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let held = Puppet { hold: Some(hold), calls: Arc::clone(&calls), at_once: 1, ..puppet(echo) };
    let fixture = offered(held).await;
    fixture.echoes("a").await;
    let runs = async |_: &Fixture| calls.load(Ordering::SeqCst) == 1;
    fixture.until("it runs", runs).await;
    fixture.operate("a", Verb::Terminate).await.unwrap();
    assert!(fixture.read("a").await.tasks.is_empty());
}
