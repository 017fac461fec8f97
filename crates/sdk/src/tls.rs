//! Which certificates a client trusts.
//!
//! Plain `http` needs none, and then none are loaded: reading the platform's store costs a start about 20 ms. With
//! `https`, either the given authority alone is trusted (a cluster's own), or the platform's.
//!
//! The provider of the algorithms is chosen here once for the process; whoever installed one before keeps it.

use reqwest::{Certificate, ClientBuilder};

use crate::options::BuildError;

pub(crate) fn trust(
    builder: ClientBuilder,
    servers: &[String],
    authority_pem: Option<&[u8]>,
) -> Result<ClientBuilder, BuildError> {
    // An error says that a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let is_plain = servers.iter().all(|server| server.starts_with("http://"));
    match authority_pem {
        Some(pem) => {
            let certificates = Certificate::from_pem_bundle(pem).map_err(BuildError::Authority)?;
            Ok(builder.tls_certs_only(certificates))
        }
        None if is_plain => Ok(builder.tls_certs_only(Vec::<Certificate>::new())),
        None => Ok(builder),
    }
}
