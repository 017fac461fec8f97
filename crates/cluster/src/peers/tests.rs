//! Nodes as processes: this test binary runs itself again, once for each node, because groups and the registry are
//! one for each process. The nodes say on their standard output what happens to them.

mod child;
mod strangers;

use std::{fs, path::Path};

use rustix::process::Signal;

use self::child::{Child, Spec};
use crate::testing::Authority;

/// Starts nodes 1 to `count`, each knowing all others, and waits until every link is up.
fn cluster(count: u32, spec: impl Fn(u32) -> Spec) -> Vec<Child> {
    let mut nodes: Vec<_> = (1..=count).map(|number| Child::start(&spec(number))).collect();
    let known = child::known(&nodes);
    for node in &mut nodes {
        node.tell(&known);
    }
    for (at, node) in nodes.iter_mut().enumerate() {
        let others = (1..=count).filter(|peer| *peer as usize != at + 1);
        node.until_all(others.map(|peer| format!("state n{peer}.1 Up")).collect());
    }
    nodes
}

fn plain(number: u32) -> Spec {
    Spec::plain(number)
}

#[test]
fn an_actor_is_found_through_its_group_and_called_from_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let mut nodes = cluster(3, |number| Spec {
        files: Some(ours.node(folder.path(), number).into()),
        ..plain(number)
    });
    nodes[0].tell("call word");
    nodes[0].until("answers n2.1:word n3.1:word");
    nodes[2].tell("call back");
    nodes[2].until("answers n1.1:back n2.1:back");
}

#[test]
fn a_stopped_process_is_noticed_and_so_is_its_return() {
    let mut nodes = cluster(2, plain);
    nodes[1].signal(Signal::STOP);
    nodes[0].until("state n2.1 Suspect");
    nodes[0].until("state n2.1 Down");
    nodes[1].signal(Signal::CONT);
    nodes[0].until("state n2.1 Up");
    nodes[0].tell("call again");
    nodes[0].until("answers n2.1:again");
}

#[test]
fn a_killed_process_is_noticed_whoever_dialled() {
    let mut nodes = cluster(3, plain);
    nodes[1].signal(Signal::KILL);
    nodes[0].until("state n2.1 Down");
    nodes[2].until("state n2.1 Down");
    nodes[0].tell("call word");
    nodes[0].until("answers n3.1:word");
}

#[test]
fn a_node_that_says_goodbye_is_down_and_may_come_back_as_another_incarnation() {
    let mut nodes = cluster(2, plain);
    nodes[1].tell("stop");
    nodes[0].until("state n2.1 Down");
    nodes[1] = Child::start(&Spec { own: (2, 2), ..plain(2) });
    let known = child::known(&nodes);
    nodes[1].tell(&known);
    nodes[0].tell(&known);
    nodes[0].until("state n2.2 Up");
    nodes[1].until("state n1.1 Up");
}

#[test]
fn a_node_that_is_known_no_more_is_disconnected() {
    let mut nodes = cluster(3, plain);
    let known = child::known(&nodes[..2]);
    nodes[0].tell(&known);
    nodes[2].until("state n1.1 Down");
    nodes[0].tell("call word");
    nodes[0].until("answers n2.1:word");
}

fn put(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn a_cut_in_one_direction_is_noticed_on_both_sides_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.json");
    let spec = |number: u32| Spec {
        faults: (number == 1).then(|| faults.display().to_string()),
        ..plain(number)
    };
    let mut nodes = cluster(3, spec);
    for cut in [r#"{"to": {"2": "cut"}}"#, r#"{"from": {"2": "cut"}}"#] {
        put(&faults, cut);
        nodes[0].until("state n2.1 Down");
        nodes[1].until("state n1.1 Down");
        fs::remove_file(&faults).unwrap();
        nodes[0].until("state n2.1 Up");
        nodes[1].until("state n1.1 Up");
    }
    nodes[0].tell("call word");
    nodes[0].until("answers n2.1:word n3.1:word");
}

#[test]
fn a_broken_server_is_started_again_with_its_links() {
    let mut nodes = cluster(2, plain);
    for (broken, peer) in [(0, "n2.1"), (1, "n1.1")] {
        nodes[broken].tell("break");
        nodes[broken].until_part("the server of the node links ended");
        nodes[broken].until(&format!("state {peer} Up"));
        nodes[broken].tell("call word");
        nodes[broken].until(&format!("answers {peer}:word"));
    }
}

#[test]
fn a_wrong_cookie_joins_nothing_and_disturbs_nobody() {
    let mut nodes = cluster(2, plain);
    let wrong = Spec { cookie: "the-wrong-cookie-of-16".to_owned(), ..plain(3) };
    nodes.push(Child::start(&wrong));
    let known = child::known(&nodes);
    for node in &mut nodes {
        node.tell(&known);
    }
    nodes[2].until_part("the cookie must be the same on every node");
    nodes[0].until_part("the cookie must be the same on every node");
    assert!(nodes[2].seen().iter().all(|line| !line.ends_with(" Up")), "{:?}", nodes[2].seen());
    nodes[0].tell("call word");
    nodes[0].until("answers n2.1:word");
    for node in &nodes {
        assert!(!node.seen().iter().any(|line| line.contains("cookie-of-16")), "a cookie was told");
    }
}
