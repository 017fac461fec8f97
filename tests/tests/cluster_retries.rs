//! Commands that are sent again in a cluster: to a leader that was deposed and does not know, and through another node
//! after the answer was lost on its way to the client or between two nodes.
//!
//! A repeat with the same key gets the very bytes of the first answer, wherever it arrives, and changes nothing. Who was
//! told "not done" may believe it. The judge reads the history at the end of each test.
//!
//! Absent on purpose: load. Each command here is followed one by one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, NODES, others},
    node::Answer,
    trial::{Order, Trial},
};

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

/// Starts instances until there is one in each of so many places of a shard; returns their names.
fn started_in(
    cluster: &Cluster,
    trial: &Trial,
    shard: u32,
    prefix: &str,
    count: usize,
) -> Vec<String> {
    let names = (0..).map(|number| format!("{prefix}-{number}"));
    let names: Vec<String> =
        names.filter(|name| cluster.shard_of(1, name) == shard).take(count).collect();
    for name in &names {
        trial.done(cluster, 1, &Order::start(name));
    }
    names
}

#[test]
fn a_repeat_at_a_deposed_leader_gets_the_stored_answer_and_no_read_there_is_older_than_it_says() {
    const ROUNDS: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let names = started_in(&cluster, &trial, 1, "d", ROUNDS);
    let mut at_once = 0;
    for name in &names {
        let old = cluster.whole()[&1].node;
        trial.fault("SIGSTOP of a leader");
        cluster.stop(old);
        let new = cluster.agreed(&others(old))[&1].node;
        let order = Order::approve(name);
        let first = trial.done(&cluster, new, &order);
        assert!(!is_replayed(&first) && first.status == 200, "{first:?}");
        // They lie in its sockets when it wakes up and believes that it leads.
        let repeat = trial.send(&cluster, old, &order);
        let reads = ["linearizable", "leader", "stale"]
            .map(|how| (how, trial.send_read(&cluster, old, name, how)));
        let again = trial.send(&cluster, old, &order);
        cluster.go_on(old);
        for sent in [repeat, again] {
            let told = trial.answer(sent).expect("it has gone on");
            println!("{name} at node {old}: {} {}", told.status, told.body);
            match told.status {
                200 => {
                    assert_eq!(told.body, first.body);
                    assert!(is_replayed(&told), "{told:?}");
                    at_once += 1;
                }
                503 | 504 => {}
                _ => panic!("neither done nor open: {told:?}"),
            }
        }
        for (how, sent) in reads {
            let told = trial.answer(sent).expect("it has gone on");
            println!("{name} at node {old}, {how}: {} {}", told.status, told.head);
            if how == "linearizable" && told.status == 200 {
                assert_eq!(told.header("etag"), first.header("etag"), "{told:?}");
            }
        }
        let settled = trial.done(&cluster, old, &order);
        assert_eq!(settled.body, first.body);
        assert!(is_replayed(&settled), "{settled:?}");
        trial.healed("SIGSTOP of a leader");
    }
    assert!(at_once > 0, "no repeat was answered at the deposed leader");
    let demands = Demands {
        ok: 4 * ROUNDS as u64,
        retries: 3 * ROUNDS as u64,
        dedupe_hits: ROUNDS as u64,
        leader_changes: ROUNDS as u64,
        faults: ROUNDS as u64,
        ..Demands::LEAST
    };
    trial.judged(&cluster, &demands);
}

#[test]
fn an_answer_lost_after_the_commit_is_the_same_through_every_other_node() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let mut asked = 0;
    for shard in 0..4 {
        for name in started_in(&cluster, &trial, shard, "l", 3) {
            let entry = asked % NODES + 1;
            asked += 1;
            let order = Order::approve(&name);
            let path = format!("GET /v1/tenants/default/instances/{name}");
            let lost = trial.send(&cluster, entry, &order);
            cluster.until("the command is committed", || {
                let seen = cluster.ask(entry, &path, &[], "").map_err(|error| error.to_string())?;
                let is_done = seen.body.contains("cooling");
                if is_done { Ok(()) } else { Err(seen.body) }
            });
            // The connection ends with the answer in it.
            drop(lost);
            let mut told = others(entry).into_iter().chain([entry]).map(|node| {
                let answer = trial.done(&cluster, node, &order);
                assert!(is_replayed(&answer), "node {node}: {answer:?}");
                answer.body
            });
            let first = told.next().unwrap();
            assert!(told.all(|body| body == first), "{name}");
        }
    }
    let demands = Demands { ok: 48, unknown: 12, retries: 36, dedupe_hits: 36, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}

#[test]
fn a_forward_without_an_answer_ends_as_unknown_and_never_as_not_done() {
    const UNKNOWN_MIN: u32 = 3;
    const ROUNDS_MAX: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let names = started_in(&cluster, &trial, 1, "f", ROUNDS_MAX);
    let (mut unknown, mut refused) = ([0, 0], 0);
    for (round, name) in names.iter().enumerate() {
        if unknown.iter().all(|count| *count >= UNKNOWN_MIN) {
            break;
        }
        let leader = cluster.whole()[&1].node;
        let entry = others(leader)[round % 4 / 2];
        let order = Order::approve(name).within_ms(1_500);
        trial.fault("an entry node is cut off from the leader");
        // The way there is cut, or the way back: nothing leaves, or it is done and nobody says so.
        let is_there = round % 2 == 0;
        let (one, none) = ([leader], [0; 0]);
        let (to, from): (&[u32], &[u32]) = if is_there { (&one, &none) } else { (&none, &one) };
        cluster.cut(entry, to, from);
        let told = trial.command(&cluster, entry, &order).expect("the entry node runs");
        println!(
            "{name} through node {entry} to node {leader}, {}: {} {}",
            if is_there { "there" } else { "back" },
            told.status,
            told.field("code")
        );
        cluster.heal(entry);
        trial.healed("an entry node is cut off from the leader");
        match told.status {
            // Before the cut, or a hop around it.
            200 => {}
            504 => unknown[round % 2] += 1,
            // It says that nothing was done: nobody repeats it, so the judge will find it if it was.
            503 => {
                refused += 1;
                continue;
            }
            _ => panic!("{told:?}"),
        }
        let settled = trial.done(&cluster, entry, &order);
        if told.status == 200 {
            assert_eq!(settled.body, told.body);
        }
        let again = trial.done(&cluster, leader, &order);
        assert_eq!(settled.body, again.body);
        assert!(is_replayed(&again), "{again:?}");
    }
    println!("unknown {unknown:?}, refused {refused}");
    assert!(unknown.iter().all(|count| *count >= UNKNOWN_MIN), "{unknown:?}");
    let demands =
        Demands { ok: 24, unknown: 6, retries: 12, dedupe_hits: 6, faults: 6, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}
