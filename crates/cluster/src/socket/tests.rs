//! Who gets in, who does not, and what a line does that stands still.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};

use crate::{
    faults::{Fault, FaultPlan},
    testing::Authority,
};

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn wire(security: LinkSecurity) -> Arc<Wire> {
    Arc::new(Wire::new(security, Arc::default(), Arc::default()))
}

/// Node 1 dials node 2 and both say a word; returns what each made of it.
async fn meet(
    dialer: &Wire,
    acceptor: &Wire,
) -> (Result<Socket, LinkError>, Result<Socket, LinkError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taking = async { acceptor.accept(listener.accept().await.unwrap().0).await };
    tokio::join!(dialer.dial(&address, 2), taking)
}

/// Two nodes of one authority, who show their certificates.
fn certified(folder: &Path) -> (Arc<Wire>, Arc<Wire>) {
    let ours = Authority::new("ours");
    (wire(ours.node(folder, 1).security()), wire(ours.node(folder, 2).security()))
}

/// Two nodes who speak plain text.
fn plain() -> (Arc<Wire>, Arc<Wire>) {
    (wire(LinkSecurity::Plain), wire(LinkSecurity::Plain))
}

/// Node 1 dials node 2 and both let each other in; returns the ends of the dialer and of the acceptor.
async fn join(dialer: &Wire, acceptor: &Wire) -> (Socket, Socket) {
    let (dialled, accepted) = meet(dialer, acceptor).await;
    (dialled.unwrap(), accepted.unwrap())
}

async fn pass(from: &mut Socket, to: &mut Socket) {
    from.write_all(b"word").await.unwrap();
    from.flush().await.unwrap();
    let mut heard = [0; 4];
    timeout(SOON, to.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"word");
}

#[tokio::test]
async fn two_nodes_of_one_authority_know_each_other_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = certified(folder.path());
    let (mut dialled, mut accepted) = join(&one, &two).await;
    pass(&mut dialled, &mut accepted).await;
    pass(&mut accepted, &mut dialled).await;
    assert!(dialled.proves(2) && !dialled.proves(1));
    assert!(accepted.proves(1) && !accepted.proves(2));
    // Below TLS: a handshake is more than eight bytes.
    assert!(one.traffic().bytes_out() > 100 && two.traffic().bytes_in() > 100);
    assert_eq!(one.traffic().bytes_out(), two.traffic().bytes_in());
}

#[tokio::test]
async fn a_foreign_authority_is_refused_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let foreign = wire(theirs.node(folder.path(), 1).security());
    let two = wire(ours.node(folder.path(), 2).security());
    let (dialled, accepted) = meet(&foreign, &two).await;
    assert!(matches!(dialled, Err(LinkError::Handshake { .. })), "{dialled:?}");
    assert!(matches!(accepted, Err(LinkError::Handshake { .. })), "{accepted:?}");
}

#[tokio::test]
async fn a_dialer_does_not_take_node_three_for_node_two() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let one = wire(ours.node(folder.path(), 1).security());
    let wrong = wire(ours.node(folder.path(), 3).security());
    let (dialled, _) = meet(&one, &wrong).await;
    let Err(LinkError::Handshake { reason, .. }) = dialled else { panic!("{dialled:?}") };
    assert!(reason.contains("not valid for name"), "{reason}");
}

#[tokio::test]
async fn plain_text_and_no_certificate_are_refused_where_certificates_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let two = wire(Authority::new("ours").node(folder.path(), 2).security());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taking = async { two.accept(listener.accept().await.unwrap().0).await };
    let talking = async {
        let mut socket = wire(LinkSecurity::Plain).dial(&address, 2).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    };
    let (taken, ()) = tokio::join!(taking, talking);
    assert!(matches!(taken, Err(LinkError::Handshake { .. })), "{taken:?}");
}

#[tokio::test]
async fn a_dial_says_whether_it_was_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let one = wire(LinkSecurity::Plain);
    let refused = one.dial(&address, 2).await.unwrap_err();
    assert!(matches!(refused, LinkError::Refused { .. }), "{refused}");
    let nowhere = one.dial("no such host:1", 2).await.unwrap_err();
    assert!(matches!(nowhere, LinkError::Unreachable { .. }), "{nowhere}");
}

#[tokio::test]
async fn only_so_many_strangers_stand_at_the_door() {
    let (one, two) = plain();
    let mut inside = Vec::new();
    for _ in 0..STRANGERS_MAX {
        inside.push(meet(&one, &two).await.1.unwrap());
    }
    let late = meet(&one, &two).await.1.unwrap_err();
    assert!(matches!(late, LinkError::Crowded { .. }), "{late}");
    // Whoever said who it is makes room.
    inside[0].set_peer(1);
    assert!(meet(&one, &two).await.1.is_ok());
}

#[tokio::test]
async fn silence_and_a_full_line_end_with_the_name_of_their_limit() {
    let (one, two) = plain();
    let (mut dialled, mut accepted) = join(&one, &two).await;
    let limits = Limits { read_idle: Duration::from_millis(50), write: Duration::from_millis(50) };
    accepted.set_limits(limits);
    dialled.set_limits(limits);
    let silent = timeout(SOON, accepted.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    assert!(silent.to_string().contains("read idle limit"), "{silent}");
    let block = vec![0; 1024 * 1024];
    let full = timeout(SOON, async {
        loop {
            if let Err(error) = dialled.write_all(&block).await {
                return error;
            }
        }
    });
    let full = full.await.unwrap();
    assert!(full.to_string().contains("write limit"), "{full}");
}

#[tokio::test]
async fn a_cut_stalls_one_direction_until_it_is_healed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = certified(folder.path());
    let (mut dialled, mut accepted) = join(&one, &two).await;
    let patient = Limits { read_idle: SOON, write: SOON };
    dialled.set_limits(patient);
    accepted.set_limits(patient);

    let plan = FaultPlan { to: [(2, Fault::Cut)].into(), ..FaultPlan::default() };
    one.faults.set(plan);
    // The other direction goes on.
    pass(&mut accepted, &mut dialled).await;
    let healed = AtomicBool::new(false);
    let heal = async {
        sleep(Duration::from_millis(100)).await;
        healed.store(true, Ordering::SeqCst);
        one.faults.set(FaultPlan::default());
    };
    let through = async {
        pass(&mut dialled, &mut accepted).await;
        assert!(healed.load(Ordering::SeqCst), "the word came through the cut");
    };
    tokio::join!(heal, through);
}

#[tokio::test(start_paused = true)]
async fn a_dial_into_a_cut_ends_at_its_deadline() {
    let one = wire(LinkSecurity::Plain);
    one.faults.set(FaultPlan { from: [(2, Fault::Cut)].into(), ..FaultPlan::default() });
    let late = one.dial("127.0.0.1:1", 2).await.unwrap_err();
    assert!(matches!(late, LinkError::Timeout { what: "the connection", .. }), "{late}");
}

#[tokio::test]
async fn a_delayed_direction_keeps_its_order() {
    let (one, two) = plain();
    let (mut dialled, mut accepted) = join(&one, &two).await;
    accepted.set_peer(1);
    two.faults.set(FaultPlan { from: [(1, Fault::DelayMs(20))].into(), ..FaultPlan::default() });
    one.faults.set(FaultPlan { to: [(2, Fault::DelayMs(20))].into(), ..FaultPlan::default() });
    let began = std::time::Instant::now();
    for byte in 0..5_u8 {
        dialled.write_u8(byte).await.unwrap();
        assert_eq!(timeout(SOON, accepted.read_u8()).await.unwrap().unwrap(), byte);
    }
    // A delay is a lower bound, so no slow machine can break this.
    assert!(began.elapsed() >= Duration::from_millis(5 * (20 + 20)));
}
