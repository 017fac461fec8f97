//! Who is turned away at the door, and that the node behind it goes on.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use statehouse_contract::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::child::{self, Child, Spec};
use crate::{
    LinkSecurity,
    peers::hello::{self, Hello, HelloError, Verdict},
    security::server_name,
    socket::Wire,
    testing::{Authority, Files},
};

const ONE: NodeId = NodeId { number: 1, incarnation: 1 };
const TWO: NodeId = NodeId { number: 2, incarnation: 1 };

fn hello() -> Hello {
    Hello::new([1; 16], ONE, TWO)
}

/// Dials node 2 and says hello.
async fn greet(
    security: LinkSecurity,
    address: SocketAddr,
    hello: Hello,
) -> Result<crate::socket::Socket, HelloError> {
    let wire = Wire::new(security, Arc::default(), Arc::default());
    let mut socket = wire.dial(&address.to_string(), 2).await.unwrap();
    hello::offer(&mut socket, hello).await?;
    Ok(socket)
}

async fn refused(security: LinkSecurity, address: SocketAddr, words: Hello, wanted: Verdict) {
    match greet(security, address, words).await {
        Err(HelloError::RefusedThere(verdict)) => assert_eq!(verdict, wanted),
        other => panic!("{wanted:?} was expected: {other:?}"),
    }
}

/// Dials with certificates of one's own choice, which `MutualTls` would refuse to load; returns whether a byte came back.
async fn knock(address: SocketAddr, trusted: &Path, shown: Option<&Files>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(server_name(2), tcp).await.unwrap();
    // Under TLS 1.3 the refusal comes with the first read.
    let _ = stream.write_all(b"hello").await;
    stream.read_u8().await.is_ok()
}

/// Writes bytes and waits until the node closes the connection; returns whether it answered anything.
fn throw(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    tcp.write_all(bytes).unwrap();
    let mut heard = Vec::new();
    match tcp.read_to_end(&mut heard) {
        Ok(_) => !heard.is_empty(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            !heard.is_empty()
        }
    }
}

/// Node 1 comes after all strangers, and is welcome.
fn serves(two: Child, spec: &Spec) -> Child {
    let mut nodes = [Child::start(spec), two];
    let known = child::known(&nodes);
    for node in &mut nodes {
        node.tell(&known);
    }
    nodes[0].until("state n2.1 Up");
    nodes[1].until("state n1.1 Up");
    nodes[0].tell("call word");
    nodes[0].until("answers n2.1:word");
    let [_, two] = nodes;
    two
}

fn lines(two: &Child, part: &str) -> usize {
    two.seen().iter().filter(|line| line.contains(part)).count()
}

#[tokio::test]
async fn without_the_right_certificate_nobody_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let [one, _, three] = [1, 2, 3].map(|number| ours.node(folder.path(), number));
    let files = |number| Some(ours.node(folder.path(), number).into());
    let mut two = Child::start(&Spec { files: files(2), ..Spec::plain(2) });
    two.tell(&format!("known 1.1=127.0.0.1:1 2.1={} 3.1=127.0.0.1:1", two.address));
    two.until("known");
    let at = two.address;

    assert!(!knock(at, &one.authority, None).await, "no certificate");
    let foreign = theirs.named(folder.path(), "node-1");
    assert!(!knock(at, &one.authority, Some(&foreign)).await, "a foreign authority");
    // TLS answers plain text with an alert, and that is all.
    throw(at, b"GET / HTTP/1.1\r\n\r\n");
    refused(three.security(), at, hello(), Verdict::WrongName).await;
    let old = Hello { own: NodeId { number: 1, incarnation: 7 }, ..hello() };
    refused(ours.node(folder.path(), 1).security(), at, old, Verdict::UnknownNode).await;

    let two = serves(two, &Spec { files: files(1), ..Spec::plain(1) });
    // Three failed handshakes and two refused hellos, of one address and within a minute.
    assert_eq!(lines(&two, "kind=\"handshake\""), 1, "{:#?}", two.seen());
    assert_eq!(lines(&two, "kind=\"hello\""), 1, "{:#?}", two.seen());
}

#[tokio::test]
async fn garbage_and_foreign_words_are_refused_before_anything_hears_them() {
    let mut two = Child::start(&Spec::plain(2));
    two.tell(&format!("known 1.1=127.0.0.1:1 2.1={} 3.1=127.0.0.1:1", two.address));
    two.until("known");
    let at = two.address;

    assert!(!throw(at, b"GET / HTTP/1.1\r\n\r\n"));
    assert!(!throw(at, &[0xff; 1_000]));
    // What a node server of another build would say: a length of four gibibytes.
    assert!(!throw(at, &(u64::from(u32::MAX)).to_be_bytes()));
    // Too short, and then silent: the deadline ends it.
    assert!(!throw(at, b"STHSLINK and then"));

    let plain = || LinkSecurity::Plain;
    let node = |number, incarnation| NodeId { number, incarnation };
    for (words, wanted) in [
        (Hello { cluster: [2; 16], ..hello() }, Verdict::ForeignCluster),
        (Hello { own: node(1, 2), ..hello() }, Verdict::UnknownNode),
        (Hello { expected: node(2, 2), ..hello() }, Verdict::NotMe),
        (Hello { own: node(3, 1), ..hello() }, Verdict::WrongDirection),
        (Hello { versions: (2, 9), ..hello() }, Verdict::Version),
    ] {
        refused(plain(), at, words, wanted).await;
    }

    // A good hello, and then a frame of four gibibytes.
    let mut socket = greet(plain(), at, hello()).await.unwrap();
    socket.write_all(&[1, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    two.until_part("kind=\"frame\"");

    let two = serves(two, &Spec::plain(1));
    assert_eq!(lines(&two, "kind=\"hello\""), 1, "{:#?}", two.seen());
}
