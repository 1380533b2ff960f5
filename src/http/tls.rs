//! TLS of the server: version 1.3 only, a certificate of our authority from every client, no resumption.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::ServeError;
use crate::client::tls_provider;

/// Certificates in use; can be exchanged while serving. Open connections keep what they began with.
pub struct Tls(ArcSwap<ServerConfig>);

impl Tls {
    /// Certificates from PEM: the server's chain and key, the authorities of clients.
    ///
    /// # Errors
    /// [`ServeError::Tls`] when they cannot be read or do not belong together.
    pub fn new(certificate_pem: &[u8], key_pem: &[u8], client_ca_pem: &[u8]) -> Result<Self, ServeError> {
        Ok(Self(ArcSwap::from_pointee(server_config(certificate_pem, key_pem, client_ca_pem)?)))
    }

    /// Uses other certificates for connections from now on. After an error the old ones stay in use.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn replace(&self, certificate_pem: &[u8], key_pem: &[u8], client_ca_pem: &[u8]) -> Result<(), ServeError> {
        self.0.store(Arc::new(server_config(certificate_pem, key_pem, client_ca_pem)?));
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

fn server_config(certificate_pem: &[u8], key_pem: &[u8], client_ca_pem: &[u8]) -> Result<ServerConfig, ServeError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(client_ca_pem, "the client CA is not a PEM certificate")? {
        roots.add(root).map_err(|_| ServeError::Tls("the client CA cannot be used"))?;
    }
    let chain = certificates(certificate_pem, "the server certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| ServeError::Tls("the server key is not a PEM private key"))?;
    let provider = tls_provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|_| ServeError::Tls("the client CA cannot be used"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| ServeError::Tls("TLS 1.3 is not available"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|_| ServeError::Tls("the server certificate and its key do not belong together"))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8], problem: &'static str) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ServeError::Tls(problem))?;
    if found.is_empty() { Err(ServeError::Tls(problem)) } else { Ok(found) }
}
