//! The seam to ractor_cluster: its server, the streams that it is given, and what it tells of its sessions.
//!
//! A node's name there is its id on both sides of the `@`: two nodes whose names or ports happened to be equal would take
//! a session for one with themselves. The connection mode is isolated: transitive would dial plain TCP by itself.
//!
//! Deliberately absent: named actors. When a peer dies, ractor unregisters our own actor of the same name, so nothing
//! that can be called from afar has one.

use std::{net::Ipv4Addr, sync::Arc};

use ractor::{Actor as _, ActorRef, SpawnErr};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, IncomingEncryptionMode, NodeEventSubscription,
    NodeServer, NodeServerMessage,
    node::{NodeConnectionMode, NodeServerSessionInformation},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use statehouse_contract::NodeId;
use tokio::{io::DuplexStream, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use super::book::Book;
use crate::cookie::Cookie;

/// The largest message between two sessions; ractor_cluster's own limit, said here because every node must have the same.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Starts ractor_cluster's server, again if need be.
pub(super) struct Server {
    pub own: NodeId,
    pub cookie: Cookie,
    pub book: Arc<Book>,
}

impl Server {
    /// Starts the server and listens to what it says.
    ///
    /// # Errors
    /// When no port of 127.0.0.1 is free.
    pub(super) async fn spawn(
        &self,
    ) -> Result<(ActorRef<NodeServerMessage>, JoinHandle<()>), SpawnErr> {
        let name = self.own.to_string();
        let server = NodeServer::new(
            0,
            self.cookie.text().to_owned(),
            name.clone(),
            name,
            Some(IncomingEncryptionMode::Tls(closed_door())),
            Some(NodeConnectionMode::Isolated),
        );
        let server = server
            .with_listen_addr(Ipv4Addr::LOCALHOST.into())
            .with_max_inbound_frame_size(MESSAGE_BYTES_MAX);
        let (actor, running) = NodeServer::spawn(None, server, ()).await?;
        let subscription = Box::new(Events { book: Arc::clone(&self.book) });
        let subscribe =
            NodeServerMessage::SubscribeToEvents { id: "statehouse".to_owned(), subscription };
        actor.cast(subscribe).map_err(|error| SpawnErr::StartupFailed(Box::new(error)))?;
        Ok((actor, running))
    }
}

/// No certificate at all: the server's own listener cannot be switched off, so every handshake with it fails.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn closed_door() -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    TlsAcceptor::from(Arc::new(config))
}

/// The session's end of a link. Its label tells which link an event is about.
pub(super) struct Pipe {
    stream: DuplexStream,
    label: String,
}

impl Pipe {
    pub(super) fn new(stream: DuplexStream, peer: NodeId, serial: u64) -> Self {
        Self { stream, label: format!("{peer}#{serial}") }
    }
}

impl ClusterBidiStream for Pipe {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        (Box::new(read), Box::new(write))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

fn serial(session: &NodeServerSessionInformation) -> Option<(&str, u64)> {
    let (peer, serial) = session.peer_addr.rsplit_once('#')?;
    Some((peer, serial.parse().ok()?))
}

/// Writes what the server says into the book.
struct Events {
    book: Arc<Book>,
}

impl NodeEventSubscription for Events {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        if let Some((_, serial)) = serial(&session) {
            self.book.opened(serial);
        }
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        if let Some((_, serial)) = serial(&session) {
            self.book.closed(serial);
        }
    }

    fn node_session_authenticated(&self, _session: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        let Some((peer, serial)) = serial(&session) else { return };
        let name = session.peer_name.as_ref().map_or("", |name| name.name.as_str());
        if name == format!("{peer}@{peer}") {
            self.book.ready(serial);
        } else {
            warn!(peer, name, "a session was ended: its name is not that of the hello");
            session.actor.stop(None);
        }
    }
}
