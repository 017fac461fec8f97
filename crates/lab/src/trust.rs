//! Whom a load run trusts where servers speak TLS: the authority it was given, and nobody else.
//!
//! A connection is made for HTTP/1.1 alone, which is what the load tool speaks. The provider of the algorithms is
//! aws-lc-rs, given by hand, so that nothing depends on what the process has installed.
//!
//! Deliberately absent: the platform's certificates, and a client's own. A server under load is one's own.

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// An authority that vouches for servers.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust(…)")
    }
}

impl Trust {
    /// Reads certificates in PEM form.
    ///
    /// # Errors
    /// There are none, or one is of no use.
    pub(crate) fn new(pem: &[u8]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(io::Error::other("there is no certificate in PEM form"));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Makes sure that the server at `host:port` is who it should be.
    pub(crate) async fn shake_hands(
        &self,
        address: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    };

    use super::*;
    use crate::http::Connection;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// Answers every request on every connection; returns its port and its certificate.
    async fn server() -> (u16, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 256];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
                    stream.write_all(answer).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        });
        (port, made.cert.pem())
    }

    #[tokio::test]
    async fn a_server_with_the_right_papers_is_asked_again_and_again() {
        let (port, pem) = server().await;
        let trust = Trust::new(pem.as_bytes()).unwrap();
        let mut connection =
            Connection::open_tls(&format!("localhost:{port}"), &trust).await.unwrap();
        for _ in 0..3 {
            assert_eq!(connection.exchange(REQUEST).await.unwrap(), 200);
            assert_eq!(connection.body(), b"hi");
        }
    }

    #[tokio::test]
    async fn a_server_with_another_name_or_authority_is_sent_nothing() {
        let (port, pem) = server().await;
        let own = Trust::new(pem.as_bytes()).unwrap();
        let (_, other) = server().await;
        let other = Trust::new(other.as_bytes()).unwrap();
        for (address, trust) in [("127.0.0.1", own), ("localhost", other)] {
            let refused = Connection::open_tls(&format!("{address}:{port}"), &trust).await;
            assert!(refused.unwrap_err().is_unsent(), "{address}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(Trust::new(b"").is_err());
        assert!(
            Trust::new(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").is_err()
        );
    }
}
