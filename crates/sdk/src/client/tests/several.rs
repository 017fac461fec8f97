//! The client with several servers: following leaders, leaving the dead, and keeping the key.
//!
//! Each server answers from its own list, so that what each was asked shows where the client went and when. Nothing
//! here measures time: where a wait would spoil the test, its advice does not fit into the budget and the call would
//! end.

use super::*;

const NO_LEADER: &str = r#"{"code":"no_leader","retryable":true,"retry_after_ms":1}"#;

fn led_by(leader: &Fake) -> Reply {
    let header: &'static str =
        Box::leak(format!("x-statehouse-leader: {}/\r\n", leader.address).into_boxed_str());
    Reply::Is(200, header, OK.to_owned())
}

fn ok(times: usize) -> impl Iterator<Item = Reply> {
    (0..times).map(|_| Reply::json(200, OK))
}

/// One attempt and no second round.
fn impatient(client: &Client) -> Client {
    client.with_budget(Budget { attempts_max: 1, ..client.budget })
}

#[tokio::test]
async fn a_hint_is_followed_by_the_next_request_about_the_instance_and_by_no_other() {
    let leader = Fake::start(ok(2)).await;
    let first = Fake::start([led_by(&leader)].into_iter().chain(ok(1))).await;
    let client = client(&[&first, &leader]);
    for _ in 0..3 {
        assert!(matches!(pay(&client).await, Outcome::Accepted(_)));
    }
    assert_eq!((first.asked().len(), leader.asked().len()), (1, 2));
    client.get("another", ReadAt::default()).await;
    assert_eq!((first.asked().len(), leader.asked().len()), (2, 2));
}

#[tokio::test]
async fn a_hint_to_an_address_that_nobody_gave_gets_no_connection_and_no_token() {
    let foreign = Fake::start(ok(9)).await;
    let second = Fake::start(ok(9)).await;
    let first = Fake::start((0..3).map(|_| led_by(&foreign))).await;
    let client = client(&[&first, &second]);
    for _ in 0..3 {
        assert!(matches!(pay(&client).await, Outcome::Accepted(_)));
    }
    assert_eq!((first.asked().len(), second.asked().len()), (3, 0));
    assert_eq!((foreign.connections(), foreign.asked().len()), (0, 0));
}

#[tokio::test]
async fn a_server_that_is_down_is_left_at_once_and_passed_over_afterwards() {
    let up = Fake::start(ok(2)).await;
    let servers = [nobody(), nobody(), up.address.clone()];
    let client = impatient(&Client::new(Options::new(servers)).unwrap());
    let Outcome::Accepted(response) = pay(&client).await else { panic!("not accepted") };
    assert_eq!((response.attempts, &response.server), (3, &up.address));
    let Outcome::Accepted(response) = pay(&client).await else { panic!("not accepted") };
    assert_eq!(response.attempts, 1);
}

#[tokio::test]
async fn when_every_server_is_down_each_is_tried_once_a_round() {
    let servers = [nobody(), nobody(), nobody()];
    let client = impatient(&Client::new(Options::new(servers.clone())).unwrap());
    let Outcome::Failed(failure) = pay(&client).await else { panic!("not failed") };
    assert_eq!((failure.attempts, failure.tried), (3, servers.to_vec()));
    let twice = client.with_budget(Budget { attempts_max: 2, ..client.budget });
    let Outcome::Failed(failure) = pay(&twice).await else { panic!("not failed") };
    assert_eq!((failure.attempts, failure.tried.len()), (6, 3));
}

#[tokio::test]
async fn servers_that_stay_away_end_a_call_sooner_than_servers_that_say_come_back() {
    let first = Fake::start((0..4).map(|_| Reply::json(503, NO_LEADER)).chain(ok(1))).await;
    let few = |client: Client| client.with_budget(Budget { unreached_max: 2, ..client.budget });
    let Outcome::Accepted(response) = pay(&few(client(&[&first]))).await else {
        panic!("not accepted")
    };
    assert_eq!(response.attempts, 5);
    let Outcome::Failed(failure) = pay(&few(Client::new(Options::new([nobody()])).unwrap())).await
    else {
        panic!("not failed")
    };
    assert_eq!(failure.attempts, 2);
}

#[tokio::test]
async fn a_leader_that_died_is_forgotten_and_the_next_one_asked_at_once() {
    let last = Fake::start([]).await;
    let first = Fake::start([led_by(&last)].into_iter().chain(ok(2))).await;
    let client = impatient(&client(&[&first, &last]));
    pay(&client).await;
    drop(last);
    for attempts in [2, 1] {
        let Outcome::Accepted(response) = pay(&client).await else { panic!("not accepted") };
        assert_eq!(response.attempts, attempts);
    }
    assert_eq!(first.asked().len(), 3);
}

#[tokio::test]
async fn when_the_leader_moves_the_advice_is_obeyed_and_another_server_asked_with_the_same_key() {
    let second = Fake::start([Reply::json(503, NO_LEADER)]).await;
    let first = Fake::start([led_by(&second)].into_iter().chain(ok(2))).await;
    let client = client(&[&first, &second]);
    pay(&client).await;
    let Outcome::Accepted(response) = pay(&client).await else { panic!("not accepted") };
    assert_eq!((response.attempts, &response.server), (2, &first.address));
    assert_eq!(keys(&first)[1..], keys(&second));
    pay(&client).await;
    assert_eq!((first.asked().len(), second.asked().len()), (3, 1), "it was forgotten");
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_at_another_server_with_the_same_key() {
    let second = Fake::start(ok(1)).await;
    let first = Fake::start([Reply::Cut]).await;
    let Outcome::Accepted(response) = pay(&client(&[&first, &second])).await else {
        panic!("not accepted")
    };
    assert_eq!((response.attempts, keys(&first)), (2, keys(&second)));
    assert_eq!(response.key, keys(&first).pop());
}

#[tokio::test]
async fn a_read_that_broke_goes_to_another_server_and_is_never_in_doubt() {
    let second = Fake::start([Reply::json(503, r#"{"code":"no_leader","retryable":false}"#)]).await;
    let first = Fake::start([Reply::Cut]).await;
    let outcome = client(&[&first, &second]).receipt("o-1", "k", None).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}

#[tokio::test]
async fn a_command_in_doubt_stays_in_doubt_whatever_other_servers_refuse() {
    let second = Fake::start((0..9).map(|_| Reply::json(503, NO_LEADER))).await;
    let first =
        Fake::start([Reply::Cut].into_iter().chain((0..9).map(|_| Reply::json(503, NO_LEADER))))
            .await;
    let outcome = pay(&client(&[&first, &second])).await;
    let Outcome::Unknown(unknown) = outcome else { panic!("{outcome:?}") };
    assert_eq!(unknown.attempts, 10);
    assert_eq!(unknown.tried, [first.address.clone(), second.address.clone()]);
    let mut all = keys(&first);
    all.extend(keys(&second));
    all.dedup();
    assert_eq!(all, [unknown.key.unwrap()]);
}

#[tokio::test]
async fn a_wait_past_the_deadline_is_not_begun_and_no_attempt_is_given_more_than_is_left() {
    let late = r#"{"code":"no_leader","retryable":true,"retry_after_ms":60000}"#;
    let second = Fake::start(ok(1)).await;
    let first = Fake::start([Reply::json(503, late)]).await;
    let client = client(&[&first, &second]);
    let total = Duration::from_millis(400);
    let budget =
        Budget { total, attempt: Duration::from_secs(9), attempts_max: 99, unreached_max: 99 };
    let outcome = pay(&client.with_budget(budget)).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 0));
    let told = first.asked()[0]
        .lines()
        .find_map(|line| line.strip_prefix("x-statehouse-deadline-ms: ")?.parse::<u128>().ok());
    assert!(told.is_some_and(|told| told <= total.as_millis()), "{told:?}");
}

#[tokio::test]
async fn a_watch_goes_on_at_another_server_behind_its_last_event() {
    let second = Fake::start([Reply::Stream("id: 2\ndata: two\n\n".to_owned())]).await;
    let first = Fake::start([
        Reply::Stream("id: 1\ndata: one\n\nid: 2\ndata: tw".to_owned()),
        Reply::json(410, r#"{"code":"compacted"}"#),
    ])
    .await;
    let client = client(&[&first, &second]);
    let mut watch = client.watch("o-1", None, Duration::from_secs(20));
    assert_eq!(watch.next().await.unwrap().data, "one");
    assert_eq!(watch.next().await.unwrap().data, "two");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    assert!(second.asked()[0].contains("last-event-id: 1\r\n"), "{}", second.asked()[0]);
    assert!(matches!(watch.next().await, Err(WatchError::Compacted)));
    assert!(first.asked()[1].contains("last-event-id: 2\r\n"), "{}", first.asked()[1]);
}

#[tokio::test]
async fn a_watch_and_a_dump_begin_at_a_server_that_is_up() {
    let up = Fake::start([
        Reply::Stream("id: 1\ndata: one\n\n".to_owned()),
        Reply::json(200, "{\"a\":1}\n"),
    ])
    .await;
    let servers = || Options::new([nobody(), up.address.clone()]);
    let mut watch = Client::new(servers()).unwrap().watch_tenant(None, Duration::from_secs(20));
    assert_eq!(watch.next().await.unwrap().data, "one");
    let mut lines = Client::new(servers()).unwrap().dump(0).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "{\"a\":1}");
}

#[tokio::test]
async fn a_server_that_hangs_is_passed_over_by_the_calls_that_follow() {
    let silent = Fake::start((0..9).map(|_| Reply::Hang)).await;
    let up = Fake::start(ok(9)).await;
    let client = client(&[&silent, &up]);
    assert!(matches!(pay(&client).await, Outcome::Accepted(_)));
    // Another instance, of which nothing is known yet, goes to the other server at once.
    for instance in ["a", "b", "c", "d"] {
        let read = client.get(instance, ReadAt::default()).await;
        assert!(matches!(read, Outcome::Accepted(_)), "{read:?}");
    }
    assert_eq!((silent.asked().len(), up.asked().len()), (1, 5));
}
