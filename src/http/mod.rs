//! The only place that knows axum, hyper and rustls on the server side.
//!
//! [`serve`] turns a TCP listener into Vault's v1 protocol over mutual TLS 1.3. The accept loop is our own
//! (`listener.rs`), so that every limit of time, size and number is set here. The core decides what a peer may do. This
//! module only reports who the peer is and what it requests.

pub(crate) mod admin;
mod browser;
mod chain;
mod connection;
pub mod enroll;
mod error;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod identity;
mod limits;
mod listener;
mod pace;
mod reply;
mod request;
mod routes;
mod source;
mod status;
mod tls;
mod verifier;

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::core::Vault;

pub use error::ServeError;
pub use limits::Limits;
pub use tls::{Tls, check_pair, server_roots, trust_from_pem};

/// Configuration of the server.
#[cfg(any(test, feature = "testing"))]
pub struct ServerConfig {
    /// Bound listener.
    pub listener: TcpListener,
    /// Server certificate chain, PEM.
    pub certificate_pem: Vec<u8>,
    /// Its private key, PEM.
    pub key_pem: Zeroizing<Vec<u8>>,
    /// Authorities of client certificates, PEM.
    pub client_ca_pem: Vec<u8>,
    /// The only trust domain whose identities are accepted.
    pub trust_domain: String,
    /// Limits.
    pub limits: Limits,
}

/// Checks that certificate, key and authorities can be used for serving and belong together. `roots` are the result of
/// [`server_roots`].
///
/// # Errors
/// [`ServeError::Tls`] with the first thing that does not hold.
pub fn check_tls(
    certificate_pem: &[u8],
    key_pem: &Zeroizing<Vec<u8>>,
    roots: &[Vec<u8>],
    client_ca_pem: &[u8],
) -> Result<(), ServeError> {
    Tls::of_roots(certificate_pem, key_pem, roots, &trust_from_pem(client_ca_pem)?).map(drop)
}

/// Serves until `shutdown` turns true (or its sender is gone), then finishes requests in work for at most
/// [`Limits::drain`].
///
/// # Errors
/// [`ServeError::Tls`] when the certificates cannot be used; [`ServeError::Listener`] when the listener cannot be used.
#[cfg(any(test, feature = "testing"))]
pub async fn serve(config: ServerConfig, vault: Arc<Vault>, shutdown: watch::Receiver<bool>) -> Result<(), ServeError> {
    let trust = trust_from_pem(&config.client_ca_pem)?;
    let tls = Arc::new(Tls::new(&config.certificate_pem, &config.key_pem, &trust)?);
    serve_with(config.listener, tls, config.trust_domain, config.limits, vault, shutdown).await
}

/// Like [`serve`], with certificates that the caller can replace while serving ([`Tls::replace_server`],
/// [`Tls::replace_trust`]).
///
/// # Errors
/// [`ServeError::Listener`] when the listener cannot be used.
pub async fn serve_with(
    listener: TcpListener,
    tls: Arc<Tls>,
    trust_domain: String,
    limits: Limits,
    vault: Arc<Vault>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let app = Arc::new(routes::App { vault, limits });
    listener::run(listener, tls, trust_domain, app, shutdown).await
}
