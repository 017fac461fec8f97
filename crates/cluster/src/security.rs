//! Who may speak on a link between nodes: everybody on loopback, or whoever proves a name by certificate.
//!
//! One authority signs every node's certificate, and the certificate of node K carries the DNS name `node-K`. The dialer
//! checks it against the number that it dials, the acceptor against the number in the hello. TLS 1.3 only, both sides show
//! a certificate, no other authority is trusted, and the provider of the algorithms is given by hand.
//!
//! Deliberately absent: session resumption (a resumed session would outlive its certificate), revocation lists (a lost key
//! means a new authority) and reloading (a change is a restart). The cookie is no security; it only names the cluster.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject as _},
    server::{ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How the links between nodes are secured.
#[derive(Clone, Debug)]
pub enum LinkSecurity {
    /// Plain text and no proof of anything: loopback only, and only where somebody said so.
    Plain,
    /// Both sides show a certificate of the same authority.
    Mutual(MutualTls),
}

impl LinkSecurity {
    /// Checks that the own certificate carries the name of this node, so that a mix-up is told at the start.
    ///
    /// # Errors
    /// Names the file and the name that it lacks.
    pub fn check_own(&self, number: u32) -> Result<(), SecurityError> {
        match self {
            Self::Plain => Ok(()),
            Self::Mutual(tls) if carries_name(&tls.own, number) => Ok(()),
            Self::Mutual(tls) => {
                Err(SecurityError::Name { path: tls.certificate.clone(), name: node_name(number) })
            }
        }
    }
}

/// A node's certificate and key, and the authority that it trusts.
#[derive(Clone)]
pub struct MutualTls {
    pub(crate) connector: TlsConnector,
    pub(crate) acceptor: TlsAcceptor,
    own: CertificateDer<'static>,
    certificate: PathBuf,
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutualTls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why the links cannot be secured.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file is missing, or has no PEM section of its kind.
    #[error(
        "cannot read the {what} in {path}; `statehouse cluster certs` makes one, and the file must be PEM"
    )]
    File {
        /// What should stand there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file with certificates has none.
    #[error("there is no certificate in {path}; is it the file with the key?")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key is not that of the certificate, or a file is of no use.
    #[error("{path} cannot be used for TLS between nodes; give a certificate with its own key")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The authority does not vouch for the certificate.
    #[error(
        "the authority in {authority} does not vouch for the certificate in {certificate}; \
         have it signed by that authority, or give every node the other one"
    )]
    Untrusted {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the authority.
        authority: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The authority cannot be asked.
    #[error("the authority in {path} cannot be trusted as it stands; give a CA certificate")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate is another node's.
    #[error(
        "the certificate in {path} does not carry the DNS name {name}; give this node its own certificate"
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The name that it should carry.
        name: String,
    },
}

impl MutualTls {
    /// Reads the authority, the own certificate (with what stands between it and the authority) and its key.
    ///
    /// # Errors
    /// Names the file, and what to do about it.
    pub fn load(
        authority: &Path,
        certificate: &Path,
        private_key: &Path,
    ) -> Result<Self, SecurityError> {
        let mut roots = RootCertStore::empty();
        for root in certificates("certificate of the authority", authority)? {
            roots.add(root).map_err(|source| SecurityError::Authority {
                path: authority.to_owned(),
                source: source.into(),
            })?;
        }
        let chain = certificates("certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_file(private_key).map_err(|source| {
            SecurityError::File { what: "private key", path: private_key.to_owned(), source }
        })?;
        let unusable = |source| SecurityError::Unusable { path: certificate.to_owned(), source };

        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|source| SecurityError::Authority {
            path: authority.to_owned(),
            source: source.into(),
        })?;
        let own = chain.first().expect("a file without a certificate was refused above").clone();
        verifier.verify_client_cert(&own, &chain[1..], UnixTime::now()).map_err(|source| {
            SecurityError::Untrusted {
                certificate: certificate.to_owned(),
                authority: authority.to_owned(),
                source,
            }
        })?;

        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?;
        client.resumption = Resumption::disabled();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            own,
            certificate: certificate.to_owned(),
        })
    }
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| SecurityError::File { what, path: path.to_owned(), source })?;
    match chain.is_empty() {
        true => Err(SecurityError::NoCertificate { path: path.to_owned() }),
        false => Ok(chain),
    }
}

fn node_name(number: u32) -> String {
    format!("node-{number}")
}

/// The name under which a dialer asks for the node of this number.
pub(crate) fn server_name(number: u32) -> ServerName<'static> {
    ServerName::try_from(node_name(number)).expect("letters, a hyphen and digits are a DNS name")
}

/// Returns whether a certificate that was verified before carries the name of this node.
pub(crate) fn carries_name(certificate: &CertificateDer<'_>, number: u32) -> bool {
    ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, &server_name(number)))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use crate::testing::Authority;

    use super::*;

    fn said(result: Result<MutualTls, SecurityError>) -> String {
        match result {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_pair_of_the_authority_is_taken_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let one = ours.node(folder.path(), 1);
        let two = ours.node(folder.path(), 2);
        let foreign = theirs.node(folder.path(), 1);
        let load = MutualTls::load;
        assert!(load(&one.authority, &one.certificate, &one.key).is_ok());
        let mixed = said(load(&one.authority, &one.certificate, &two.key));
        assert!(mixed.contains("cannot be used for TLS between nodes"), "{mixed}");
        let untrusted = said(load(&one.authority, &foreign.certificate, &foreign.key));
        assert!(untrusted.contains("does not vouch for the certificate"), "{untrusted}");
        let missing = folder.path().join("missing.pem");
        assert!(said(load(&missing, &one.certificate, &one.key)).contains("missing.pem"));
        assert!(said(load(&one.authority, &missing, &one.key)).contains("read the certificate in"));
        assert!(said(load(&one.authority, &one.certificate, &missing)).contains("private key in"));
        let swapped = said(load(&one.authority, &one.key, &one.certificate));
        assert!(swapped.contains("is it the file with the key?"), "{swapped}");
    }

    #[test]
    fn a_certificate_names_exactly_one_node() {
        let folder = tempfile::tempdir().unwrap();
        let files = Authority::new("ours").node(folder.path(), 11);
        let tls = MutualTls::load(&files.authority, &files.certificate, &files.key).unwrap();
        assert!(!format!("{tls:?}").contains("connector"));
        let security = LinkSecurity::Mutual(tls);
        assert!(security.check_own(11).is_ok());
        for other in [1, 2, 110] {
            let no = security.check_own(other).unwrap_err().to_string();
            assert!(no.contains(&format!("does not carry the DNS name node-{other};")), "{no}");
        }
    }
}
