//! Strangers at a cluster's ports: garbage, lengths of four gigabytes, silence, a wrong cookie.
//!
//! Whoever is not of the cluster is refused, said in a few lines and no more, and the cluster goes on serving.
//! Certificates have tests of their own where the connections are made.
//!
//! Absent on purpose: floods. What a port lets in at once is bounded and tried there as well.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, NODES},
    patience::PATIENCE,
    trial::Trial,
};

const CLIENTS: u32 = 4;
/// Strangers of each kind at each port.
const TRIES: usize = 10;
/// Lines that one node may write about all of them.
const LINES_MAX: usize = 40;

/// What a stranger says first.
fn words() -> Vec<Vec<u8>> {
    let noise: Vec<u8> =
        (0..4_096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = |head: &[u8]| [head, &[0xff; 64]].concat();
    vec![
        noise,
        long(&[0xff; 4]),
        long(&u32::MAX.to_le_bytes()),
        long(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"POST /v1/tenants/default/instances HTTP/1.1\r\ncontent-length: 4294967296\r\n\r\n{"
            .to_vec(),
    ]
}

/// The addresses at which a node listens: its API, its links, its log.
fn ports(cluster: &Cluster, node: u32) -> Vec<String> {
    let view = cluster.view(node).unwrap();
    let members = view["members"].as_array().unwrap();
    let own = members.iter().find(|member| member["node"] == view["node"]).unwrap();
    let address = |name: &str| own[name].as_str().unwrap().trim_start_matches("http://").to_owned();
    ["api", "links", "log"].map(address).into()
}

/// Reads until the other side hangs up.
fn shown_the_door(mut stream: TcpStream, what: &str) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = stream.read_to_end(&mut Vec::new());
    // A connection that is reset is as much of an end.
    let is_held = end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!is_held, "{:?} holds on to a stranger that said {what}", stream.peer_addr());
}

/// Says something; returns the connection as it was left.
fn visit(address: &str, words: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may be refused before it has said all.
    let _ = stream.write_all(words);
    stream
}

#[test]
fn garbage_at_every_port_is_refused_in_a_few_lines_while_the_cluster_serves() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(folder.path());
    let before: Vec<usize> = (1..=NODES).map(|node| cluster.lines(node).len()).collect();
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 50);
    let leads = cluster.agreed(&[1, 2, 3]);
    trial.fault("strangers");
    let mut staying = Vec::new();
    for node in 1..=NODES {
        for (at, address) in ports(&cluster, node).iter().enumerate() {
            for words in words() {
                for number in 0..TRIES {
                    let stream = visit(address, &words);
                    // One of each kind stays at the ports of nodes until it is shown the door.
                    if at > 0 && number == 0 {
                        staying.push((stream, format!("{} bytes", words.len())));
                    }
                }
            }
        }
        load.more(&cluster, 20);
    }
    staying.into_iter().for_each(|(stream, what)| shown_the_door(stream, &what));
    trial.healed("strangers");
    load.more(&cluster, 50);
    load.end_well();
    // On a busy machine a heartbeat may come late: that is told and no failure.
    let after = cluster.whole();
    if after != leads {
        println!("somebody lost its place: {leads:?}, then {after:?}");
    }
    for (node, before) in (1..=NODES).zip(before) {
        let lines = cluster.lines(node).split_off(before).into_iter();
        let lines: Vec<String> = lines.filter(|line| !line.contains(" INFO ")).collect();
        println!("node {node}:\n{}", lines.join("\n"));
        assert!(lines.iter().any(|line| line.contains("refused")), "node {node} says nothing");
        assert!(lines.len() <= LINES_MAX, "node {node} says it {} times", lines.len());
    }
    let demands = Demands { ok: 150, faults: 1, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}

#[test]
fn a_node_with_another_cookie_is_not_let_in_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 50);
    trial.fault("a wrong cookie");
    cluster.end(3);
    let cookie = folder.path().join("data/cookie");
    let right = fs::read(&cookie).unwrap();
    fs::write(&cookie, "a-cookie-of-another-cluster\n").unwrap();
    cluster.start(3);
    let refused = |cluster: &Cluster, node: u32| {
        cluster.lines(node).iter().filter(|line| line.contains("cookie")).count()
    };
    cluster.until("a member says why it refuses", || {
        match refused(&cluster, 1) + refused(&cluster, 2) {
            0 => Err("nothing was said".to_owned()),
            _ => Ok(()),
        }
    });
    load.more(&cluster, 200);
    let leads = cluster.agreed(&[1, 2]);
    assert!(leads.values().all(|lead| lead.node != 3), "{leads:?}");
    let told = refused(&cluster, 1) + refused(&cluster, 2);
    println!("{told} lines about the cookie");
    assert!(told <= LINES_MAX, "it is said {told} times");
    cluster.end(3);
    fs::write(&cookie, right).unwrap();
    cluster.start(3);
    trial.whole_after(&cluster, "a wrong cookie");
    load.more(&cluster, 50);
    let demands = Demands { ok: 300, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}

#[test]
fn whoever_says_nothing_is_shown_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(folder.path());
    let waiting: Vec<TcpStream> = (1..=NODES)
        .flat_map(|node| ports(&cluster, node).into_iter().skip(1))
        .map(|address| TcpStream::connect(address).unwrap())
        .collect();
    waiting.into_iter().for_each(|stream| shown_the_door(stream, "nothing"));
    let _ = cluster.whole();
}
