//! TLS for the API: a certificate and its key from files, or nothing.
//!
//! HTTP/2 and HTTP/1.1 are offered by name (ALPN). The provider of the algorithms is aws-lc-rs, given by hand, so that
//! nothing depends on what the process has installed.
//!
//! Deliberately absent: client certificates (a token says who asks) and reloading (a change is a restart).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    },
};

/// Why the API cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file is missing, or has no PEM section of its kind.
    #[error("cannot read the {what} in {}: {source}", path.display())]
    File {
        /// What should stand there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file with certificates has none.
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// The key is not that of the certificate, or either is of no use.
    #[error("the certificate in {} cannot be used with its key: {source}", path.display())]
    Pair {
        /// The file with the certificate.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// Names the file.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let unread = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { what, path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(unread("certificate", certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(unread("private key", key))?;
    let unfit = |source| TlsError::Pair { path: certificate.to_owned(), source };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) =
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_certificate_needs_its_own_key_and_every_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "one");
        let (_, other) = pair(folder.path(), "two");
        assert!(acceptor(&certificate, &key).is_ok());
        let said = |certificate: &Path, key: &Path| match acceptor(certificate, key) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        let missing = folder.path().join("missing.pem");
        assert!(said(&missing, &key).contains("cannot read the certificate in"));
        assert!(said(&certificate, &missing).contains("missing.pem"));
        assert!(said(&certificate, &certificate).contains("cannot read the private key in"));
        assert!(said(&key, &key).contains("there is no certificate in"));
        assert!(said(&certificate, &other).contains("one.pem cannot be used with its key"));
    }
}
