//! Servers, with a shell script in the binary's place and a listener of the test in its socket's place.
//!
//! The script prints an address and waits; the listener answers `/readyz`. So what is tested is waiting, signals and
//! errors, and not the server.

use std::{io::BufRead as _, net::TcpListener, thread};

use super::*;

/// Answers `/readyz` on a port of its own until the test ends.
fn ready_server(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut line = String::new();
            let _ = io::BufReader::new(&stream).read_line(&mut line);
            let _ = stream.write_all(
                format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nno").as_bytes(),
            );
        }
    });
    address
}

fn launch(directory: &tempfile::TempDir, script: &str) -> Launch {
    Launch {
        binary: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: vec![("PLACE".to_owned(), ready_server(200))],
        logs: directory.path().join("logs"),
        address: None,
    }
}

const SERVER: &str =
    "echo \"API on http://$PLACE/ is up\"; trap 'exit 3' TERM; while :; do sleep 0.02; done";
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_server_is_started_killed_and_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch(&directory, SERVER);
    let place = launch.environment[0].1.clone();
    let mut process = Server::start(launch, LONG).unwrap();
    assert_eq!((process.address(), process.url()), (place.as_str(), format!("http://{place}")));
    let first = process.pid();
    process.kill().unwrap();
    assert!(!process.is_running());
    let mut process = process.restart(LONG).unwrap();
    assert!(process.is_running() && process.pid() != first);
    assert!(process.ready_after() > Duration::ZERO);
}

#[test]
fn a_server_that_is_asked_to_end_says_how_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Server::start(launch(&directory, SERVER), LONG).unwrap();
    process.pause().unwrap();
    assert!(matches!(process.stop(Duration::from_millis(50)), Err(ServerError::NotEnded(_))));
    process.resume().unwrap();
    assert_eq!(process.stop(LONG).unwrap().code(), Some(3));
}

#[test]
fn a_server_that_ends_at_once_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let error =
        Server::start(launch(&directory, "echo 'no such data' >&2; exit 2"), LONG).unwrap_err();
    assert!(
        matches!(&error, ServerError::Ended { errors, .. } if errors == "no such data"),
        "{error}"
    );
}

#[test]
fn a_server_that_is_never_ready_is_given_up_and_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut launch = launch(&directory, SERVER);
    launch.address = Some(ready_server(503));
    let error = Server::start(launch, Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("/readyz answers 503: no"), "{error}");
    let missing = Launch {
        binary: "/nonexistent".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        logs: directory.path().to_owned(),
        address: None,
    };
    assert!(matches!(Server::start(missing, LONG), Err(ServerError::Start { .. })));
}
