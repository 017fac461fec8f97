//! The face on a real socket: bounded clients, HTTP/2, the drain.

use std::{future::Future, time::Duration};

use statehouse_contract::{Answer, Query};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::{super::serve, Face, Fake, answers};

struct Served {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    end: JoinHandle<std::io::Result<()>>,
}

async fn served(fake: Fake) -> Served {
    let face = Face::new(fake);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let end = tokio::spawn(serve(listener, None, face.state, shutdown, async {}));
    Served { address, stop, end }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("in time")
}

async fn talk(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_is_answered_over_a_socket() {
    let served = served(Fake::new()).await;
    let answer =
        talk(served.address, b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("{\"alive\":true}"), "{answer}");
    served.stop.send(()).unwrap();
    in_time(served.end).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_body_of_ten_mebibytes_gets_its_413_and_not_a_reset() {
    let served = served(Fake::new()).await;
    let head = b"POST /v1/tenants/acme/instances/a/events/x HTTP/1.1\r\nhost: a\r\n\
        authorization: Bearer acme-admin\r\nidempotency-key: k\r\nconnection: close\r\n\
        content-length: 10485760\r\n\r\n";
    let request = [&head[..], &vec![b' '; 10 * 1024 * 1024]].concat();
    let answer = talk(served.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body_bytes_max, 1048576 bytes"), "{answer}");
}

#[tokio::test]
async fn garbage_on_the_wire_is_answered_with_its_status() {
    let served = served(Fake::new()).await;
    for garbage in
        [&b"\x00\xff\x00\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nb ad: \x01\r\n\r\n"]
    {
        let answer = talk(served.address, garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let huge = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(80 * 1024));
    let answer = talk(served.address, huge.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let far = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(80 * 1024));
    let answer = talk(served.address, far.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn the_drain_ends_watches_and_answers_what_was_let_in() {
    let fake = Fake::new().telling(|query| match query {
        Query::Changes { .. } => Ok(Answer::Changes(answers::changes(Vec::new(), "v1:0"))),
        other => answers::answer(other),
    });
    let served = served(fake).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = b"GET /v1/tenants/acme/watch HTTP/1.1\r\nhost: a\r\n\
        authorization: Bearer acme-reader\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut first = [0; 12];
    in_time(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    served.stop.send(()).unwrap();
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).await.unwrap();
    in_time(served.end).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn who_has_come_in_before_the_drain_gets_an_answer() {
    use std::io::{Read as _, Write as _};
    let served = served(Fake::new()).await;
    // Let it serve, so that what follows comes while it listens.
    talk(served.address, b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    // Nothing else runs while these connect: the system has taken them, the server has not.
    let clients = (0..20).map(|_| {
        let mut stream = std::net::TcpStream::connect(served.address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        stream
    });
    let clients: Vec<_> = clients.collect();
    served.stop.send(()).unwrap();
    in_time(served.end).await.unwrap().unwrap();
    for mut stream in clients {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
