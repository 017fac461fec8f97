//! Children and signals: what an instance sends to others, and what comes back.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering},
};

use futures::future::BoxFuture;
use statehouse_contract::{
    Answer, Command, CommandEnvelope, DefinitionName, DefinitionRef, Json, Query, Receipt,
    Rejection, RejectionCode, Target, Verb,
};

use super::fixture::{Fixture, envelope, key};
use crate::{Carrier, Door, Seat, reading::resolve, reject};

/// Waits for a child; leaving cancels it.
const PARENT: &str = r#"
format: statehouse/1
version: 1
id: parent
initial: waiting
commands: {leave: {}}
schemas: {context: {type: object, required: [got], properties: {got: {type: integer}}}}
context: {got: 0}
states:
  waiting:
    on: {leave: left}
    invoke: {id: kid, src: "workflow:child", input: {n: 20}, onDone: {target: done, actions: [{assign: {got: "${event.output.twice}"}}]}, onError: failed}
  left: {type: final}
  done: {type: final, output: {got: "${context.got}"}}
  failed: {type: final, error: {code: child_failed, message: "the child failed"}}
"#;

/// Doubles its input when it is told to, and tells its parent on the way.
const CHILD: &str = r#"
format: statehouse/1
version: 1
id: child
initial: resting
commands: {go: {}, fail: {}}
schemas: {input: {type: object, required: [n], properties: {n: {type: integer}}}, context: {type: object, required: [n], properties: {n: {type: integer}}}}
context: {n: "${input.n}"}
states:
  resting:
    on: {go: doubled, fail: broken}
  doubled: {type: final, output: {twice: "${context.n * 2}"}}
  broken: {type: final, error: {code: no_luck, message: "bad luck"}}
"#;

/// Starts a child of a definition that nobody has deployed.
const LONELY: &str = r#"
format: statehouse/1
version: 1
id: lonely
initial: waiting
schemas: {context: {type: object, required: [why], properties: {why: {type: string}}}}
context: {why: ""}
states:
  waiting: {invoke: {id: kid, src: "workflow:nobody@7", onDone: done, onError: {target: told, actions: [{assign: {why: "${event.error.code}"}}]}}}
  done: {type: final}
  told: {type: final, output: {why: "${context.why}"}}
"#;

/// Sends three signals to another instance, in order.
const SENDER: &str = r#"
format: statehouse/1
version: 1
id: sender
initial: ready
commands: {send: {}}
states:
  ready:
    on:
      send: {target: sent, actions: [{sendTo: {workflow: "${'l-1'}", event: note, data: {n: 1}}}, {sendTo: {workflow: "${'l-1'}", event: note, data: {n: 2}}}, {sendTo: {workflow: "${'l-1'}", event: note, data: {n: 3}}}]}
  sent: {type: final}
"#;

const LISTENER: &str = r#"
format: statehouse/1
version: 1
id: listener
initial: listening
endless: true
commands: {stop: {}}
signals: {note: {schema: {type: object, required: [n], properties: {n: {type: integer}}}}}
schemas: {context: {type: object, required: [heard], properties: {heard: {type: array, items: {type: integer}}}}}
context: {heard: []}
states:
  listening:
    on:
      note: {actions: [{assign: {heard: "${context.heard + [event.data.n]}"}}]}
      stop: stopped
  stopped: {type: final}
"#;

/// Carries to the one shard of the fixture; the first answers may be lost.
struct Local {
    seat: Weak<Seat>,
    lose: AtomicU32,
    carried: AtomicU32,
}

impl Carrier for Local {
    fn submit(&self, mut envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        Box::pin(async move {
            self.carried.fetch_add(1, Ordering::SeqCst);
            let Some(seat) = self.seat.upgrade() else { return Err(reject::unknown()) };
            let Target::Instance(key) = envelope.target.clone() else { panic!("an instance") };
            if let Command::StartChild { definition, .. } = &mut envelope.command {
                *definition = resolve(&seat, &key.tenant, definition).await?;
            }
            let answer = Door::new(seat).deliver(&key, envelope).await;
            if self.lose.load(Ordering::SeqCst) > 0 {
                self.lose.fetch_sub(1, Ordering::SeqCst);
                return Err(reject::unknown());
            }
            answer
        })
    }

    fn query(&self, _: Query) -> BoxFuture<'_, Result<Answer, Rejection>> {
        Box::pin(async { Err(Rejection::gateway(RejectionCode::InvalidRequest, "no questions")) })
    }
}

struct House {
    fixture: Fixture,
    local: Arc<Local>,
}

fn carry(fixture: &Fixture, lose: u32) -> Arc<Local> {
    let local = Arc::new(Local {
        seat: Arc::downgrade(fixture.seat()),
        lose: AtomicU32::new(lose),
        carried: AtomicU32::new(0),
    });
    let carrier: Weak<dyn Carrier> = Arc::<Local>::downgrade(&local);
    fixture.host.carried().by(carrier);
    local
}

async fn house(definitions: &[&str], lose: u32) -> House {
    let fixture = Fixture::new().await;
    for (n, text) in definitions.iter().enumerate() {
        fixture.deploy_as(text, &format!("deploy-{n}")).await;
    }
    let local = carry(&fixture, lose);
    House { fixture, local }
}

impl House {
    async fn born(&self, definition: &str, instance: &str) -> Receipt {
        let key = key(instance);
        let name = DefinitionName::parse(definition).unwrap();
        let wanted = DefinitionRef { name, version: None, digest: None };
        let definition = resolve(self.fixture.seat(), &key.tenant, &wanted).await.unwrap();
        let command = Command::Start { definition, input: Json::empty_object() };
        self.fixture.door().deliver(&key, envelope(&key, "start", command)).await.unwrap()
    }

    async fn child_of(&self, definition: &str) -> String {
        let filter = statehouse_contract::InstanceFilter {
            definition: Some(DefinitionName::parse(definition).unwrap()),
            all: true,
            ..statehouse_contract::InstanceFilter::of(super::fixture::tenant())
        };
        let found = self.fixture.seat().list(&filter, None, 10).await.unwrap().0;
        found.first().map(|row| row.id.to_string()).unwrap_or_default()
    }

    async fn state(&self, instance: &str) -> String {
        let view = self.fixture.read(instance).await;
        format!("{} {}", view.status, view.configuration.join(","))
    }

    async fn until(&self, instance: &str, state: &str) {
        let is_there = async |_: &Fixture| self.state(instance).await == state;
        self.fixture.until(state, is_there).await;
    }

    async fn kid(&self) -> String {
        let is_born = async |_: &Fixture| !self.child_of("child").await.is_empty();
        self.fixture.until("the child is born", is_born).await;
        self.child_of("child").await
    }

    async fn is_empty(&self) {
        let is_empty =
            async |f: &Fixture| f.seat().log().view().outbox((0, 0, 0), 10).unwrap().is_empty();
        self.fixture.until("everything has left", is_empty).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_childs_output_is_its_parents_event() {
    let house = house(&[PARENT, CHILD], 0).await;
    house.born("parent", "p-1").await;
    let kid = house.kid().await;
    assert!(kid.starts_with("c-"), "{kid}");
    house.fixture.send(&kid, "go", "k").await.unwrap();
    house.until("p-1", "done done").await;
    assert_eq!(house.fixture.read("p-1").await.output.unwrap().as_str(), r#"{"got":40}"#);
    house.is_empty().await;
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_fails_is_its_parents_error() {
    let house = house(&[PARENT, CHILD], 0).await;
    house.born("parent", "p-1").await;
    let kid = house.kid().await;
    house.fixture.send(&kid, "fail", "k").await.unwrap();
    house.until("p-1", "failed failed").await;
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_leaves_cancels_its_child() {
    let house = house(&[PARENT, CHILD], 0).await;
    house.born("parent", "p-1").await;
    // At once: the start may not have left yet, and the cancel leaves behind it.
    house.fixture.send("p-1", "leave", "k").await.unwrap();
    house.is_empty().await;
    let kid = house.child_of("child").await;
    assert_eq!(house.state(&kid).await.split(' ').next(), Some("cancelled"));
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_answer_is_lost_is_repeated_and_applied_once() {
    let house = house(&[PARENT, CHILD, SENDER, LISTENER], 3).await;
    house.born("listener", "l-1").await;
    house.born("sender", "s-1").await;
    house.fixture.send("s-1", "send", "k").await.unwrap();
    house.is_empty().await;
    let heard = house.fixture.read("l-1").await.context;
    assert_eq!(heard.as_str(), r#"{"heard":[1,2,3]}"#, "once each, in order");
    assert!(house.local.carried.load(Ordering::SeqCst) >= 6);
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_not_left_when_the_leader_stopped_leaves_under_the_next_one() {
    let House { fixture, local } = house(&[SENDER, LISTENER], u32::MAX).await;
    let house = House { fixture, local };
    house.born("listener", "l-1").await;
    house.born("sender", "s-1").await;
    house.fixture.send("s-1", "send", "k").await.unwrap();
    let fixture = house.fixture.restart().await;
    let local = carry(&fixture, 0);
    let house = House { fixture, local };
    house.fixture.seat().hints().outbox.give(crate::message::OutboxMessage::Look);
    house.is_empty().await;
    assert_eq!(house.fixture.read("l-1").await.context.as_str(), r#"{"heard":[1,2,3]}"#);
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_nobody_is_refused_and_one_to_a_finished_instance_ignored_and_neither_is_sent_again()
 {
    let house = house(&[SENDER, LISTENER], 0).await;
    house.born("sender", "s-1").await;
    house.fixture.send("s-1", "send", "k").await.unwrap();
    house.is_empty().await;
    assert_eq!(house.fixture.host.metrics().undeliverable.load(Ordering::Relaxed), 3);
    house.born("listener", "l-1").await;
    house.fixture.send("l-1", "stop", "k").await.unwrap();
    house.born("sender", "s-2").await;
    house.fixture.send("s-2", "send", "k").await.unwrap();
    house.is_empty().await;
    // A signal that nothing takes is ignored, which is an answer: it is not sent again.
    assert_eq!(house.fixture.host.metrics().undeliverable.load(Ordering::Relaxed), 3);
    assert_eq!(house.fixture.read("l-1").await.version, 2);
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_cannot_be_started_is_an_error_of_its_parent() {
    let house = house(&[LONELY], 0).await;
    house.born("lonely", "p-1").await;
    house.until("p-1", "done told").await;
    let output = house.fixture.read("p-1").await.output.unwrap();
    assert_eq!(output.as_str(), r#"{"why":"unknown_definition"}"#);
    house.is_empty().await;
    house.fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_child_is_told_and_a_terminated_parent_hears_nothing_more() {
    let house = house(&[PARENT, CHILD], 0).await;
    house.born("parent", "p-1").await;
    let kid = house.kid().await;
    house.fixture.operate(&kid, Verb::Terminate).await.unwrap();
    house.until("p-1", "failed failed").await;
    house.is_empty().await;
    house.fixture.rebuilds_all().await;
}
