//! Schedules as they run: what is due is started, once, and a restart or a jump of the clock loses and repeats nothing.

use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use statehouse_contract::{
    Answer, Command, CommandEnvelope, InstanceFilter, Json, Query, Receipt, Rejection,
    RejectionCode, Target,
};

use super::fixture::{Fixture, envelope, key, tenant};
use crate::{Carrier, Door, Seat, reading::resolve, reject};

/// Rests until it is told to stop.
const RUNS: &str = r#"
format: statehouse/1
version: 1
id: runs
initial: running
commands: {stop: {}}
states:
  running: {on: {stop: stopped}}
  stopped: {type: final}
"#;

struct Local(Weak<Seat>);

impl Carrier for Local {
    fn submit(&self, mut envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        Box::pin(async move {
            let Some(seat) = self.0.upgrade() else { return Err(reject::unknown()) };
            let Target::Instance(key) = envelope.target.clone() else { panic!("an instance") };
            if let Command::Start { definition, .. } = &mut envelope.command {
                *definition = resolve(&seat, &key.tenant, definition).await?;
            }
            Door::new(seat).deliver(&key, envelope).await
        })
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>> {
        Box::pin(async move {
            let Some(seat) = self.0.upgrade() else { return Err(reject::unknown()) };
            match query {
                Query::Instance { key, consistency, .. } => {
                    let view = seat.instance(&key, consistency, None, 5_000).await?;
                    Ok(Answer::Instance(Box::new(view)))
                }
                _ => Err(Rejection::gateway(RejectionCode::InvalidRequest, "another question")),
            }
        })
    }
}

struct House {
    fixture: Fixture,
    _local: Arc<Local>,
}

fn carried(fixture: Fixture) -> House {
    let local = Arc::new(Local(Arc::downgrade(fixture.seat())));
    let carrier: Weak<dyn Carrier> = Arc::<Local>::downgrade(&local);
    fixture.host.carried().by(carrier);
    House { fixture, _local: local }
}

async fn house() -> House {
    let fixture = Fixture::new().await;
    fixture.deploy_as(RUNS, "deploy-runs").await;
    carried(fixture)
}

impl House {
    async fn put(&self, name: &str, spec: &str, key: &str) {
        let document = Json::parse(spec.as_bytes()).unwrap();
        let command = Command::PutSchedule { name: name.into(), document };
        self.fixture.register(key, command).await.unwrap();
    }

    async fn instances(&self) -> Vec<String> {
        let filter = InstanceFilter { all: true, ..InstanceFilter::of(tenant()) };
        let found = self.fixture.seat().list(&filter, None, 100).await.unwrap().0;
        found.iter().map(|row| format!("{} {}", row.id, row.status)).collect()
    }

    async fn told(&self, name: &str) -> serde_json::Value {
        self.fixture.seat().schedule(&tenant(), name).await.unwrap().to_value()
    }

    async fn until(&self, what: &str, count: usize) {
        let there = async |_: &Fixture| self.instances().await.len() == count;
        self.fixture.until(what, there).await;
    }
}

fn minutely(more: &str) -> String {
    format!(r#"{{"definition": "runs", "every": "1m"{more}}}"#)
}

// The fixture's clock begins at 1,000,000 ms: 40 s into a minute.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_started_once_and_the_next_time_is_written_down() {
    let house = house().await;
    house.put("m", &minutely(r#", "overlap": "queue""#), "k").await;
    assert!(house.instances().await.is_empty());
    house.fixture.clock.advance(20_000);
    house.until("the first one runs", 1).await;
    assert_eq!(house.instances().await, ["m-19700101T001700Z running"]);
    let house = carried(house.fixture.restart().await);
    // Behind one that runs, the next one waits, and starts when it has ended.
    house.fixture.clock.advance(60_000);
    let waits = async |_: &Fixture| house.told("m").await["state"]["pending"][0].is_string();
    house.fixture.until("the second one waits", waits).await;
    assert_eq!(house.instances().await.len(), 1);
    house.fixture.send("m-19700101T001700Z", "stop", "k-stop").await.unwrap();
    house.until("the second one runs", 2).await;
    // It runs a moment before that is written down.
    let second =
        async |_: &Fixture| house.told("m").await["state"]["last_instance"] == "m-19700101T001800Z";
    house.fixture.until("the second one is written down", second).await;
    assert_eq!(house.told("m").await["next"], "1970-01-01T00:19:00.000Z");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_behind_one_that_runs_is_left_out_or_takes_its_place() {
    let house = house().await;
    house.put("skips", &minutely(""), "k1").await;
    house.put("cancels", &minutely(r#", "overlap": "cancel_other""#), "k2").await;
    house.fixture.clock.advance(20_000);
    house.until("both run", 2).await;
    house.fixture.clock.advance(60_000);
    let left_out = async |_: &Fixture| house.told("skips").await["state"]["skipped"] == 1;
    house.fixture.until("one is left out", left_out).await;
    let replaced = async |_: &Fixture| {
        house.told("cancels").await["state"]["last_instance"] == "cancels-19700101T001800Z"
    };
    house.fixture.until("one takes its place", replaced).await;
    let mut all = house.instances().await;
    all.sort();
    assert_eq!(
        all,
        [
            "cancels-19700101T001700Z cancelled",
            "cancels-19700101T001800Z running",
            "skips-19700101T001700Z running",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_jump_of_an_hour_the_last_start_is_made_up_for_and_back_again_nothing_is_repeated()
{
    let house = house().await;
    house.put("m", &minutely(r#", "overlap": "queue", "catch_up": "last""#), "k").await;
    house.fixture.clock.advance(3_600_000);
    house.until("the last one", 1).await;
    let told = house.told("m").await;
    assert_eq!(told["state"]["skipped"], 59);
    house.fixture.clock.advance(-3_600_000);
    // The instance is there a moment before the schedule's row says so.
    let is_told = async |_: &Fixture| house.told("m").await["state"]["last_instance"].is_string();
    house.fixture.until("the schedule names it", is_told).await;
    let stop = house.told("m").await["state"]["last_instance"].as_str().unwrap().to_owned();
    house.fixture.send(&stop, "stop", "k-stop").await.unwrap();
    // Under the next reign time goes on from what was applied: no minute comes twice.
    let house = carried(house.fixture.restart().await);
    assert_eq!(house.instances().await.len(), 1);
    house.fixture.clock.advance(60_000);
    house.until("the next one", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_refused_is_told_and_the_schedule_goes_on() {
    let house = house().await;
    house.put("m", r#"{"definition": "nobody", "every": "1m"}"#, "k").await;
    house.fixture.clock.advance(20_000);
    let refused = async |_: &Fixture| house.told("m").await["state"]["refused"] == 1;
    house.fixture.until("it is refused", refused).await;
    let told = house.told("m").await;
    assert!(told["state"]["last_error"].as_str().unwrap().contains("unknown_definition"));
    house.put("m", &minutely(""), "k2").await;
    house.fixture.clock.advance(60_000);
    house.until("the next one runs", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_schedule_starts_nothing_and_a_backfill_makes_up_for_a_time() {
    let house = house().await;
    house.put("m", &minutely(r#", "overlap": "queue""#), "k").await;
    let hold = Command::PauseSchedule { name: "m".into(), paused: true };
    house.fixture.register("hold", hold).await.unwrap();
    house.fixture.clock.advance(600_000);
    assert_eq!(house.told("m").await["next"], serde_json::Value::Null);
    let (from, until) =
        (statehouse_contract::Timestamp(1_020_000), statehouse_contract::Timestamp(1_081_000));
    let backfill = Command::BackfillSchedule { name: "m".into(), from, until };
    house.fixture.register("backfill", backfill).await.unwrap();
    house.until("the first of both", 1).await;
    house.fixture.send("m-19700101T001700Z", "stop", "k-stop").await.unwrap();
    house.until("the second of both", 2).await;
    let far = statehouse_contract::Timestamp(1_000_000_000);
    let much = Command::BackfillSchedule { name: "m".into(), from, until: far };
    let target = Target::Tenant(tenant());
    let asked = CommandEnvelope { target, ..envelope(&key("x"), "much", much) };
    let no = house.fixture.door().register(asked).await.unwrap();
    assert!(no.body.as_str().contains("schedule_pending_max"), "{}", no.body.as_str());
    house.fixture.register("gone", Command::RemoveSchedule { name: "m".into() }).await.unwrap();
    assert!(house.fixture.seat().schedule(&tenant(), "m").await.is_err());
}
