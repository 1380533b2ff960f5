//! TLS of the server: version 1.3 only, a certificate from every client that the [`Trust`] names, no resumption.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};

use super::verifier::{Proof, Verifier};
use super::{ServeError, chain};
use crate::client::tls_provider;
use crate::core::{Clock, SystemClock};
use crate::pki::{self, Anchor, Trust};

/// The certificates in use. They can be replaced while serving. Open connections keep theirs, but the trust at the end
/// of the handshake decides to whom a client's certificate belongs.
pub struct Tls {
    current: ArcSwap<Generation>,
    /// The parts of the next generation. Locked while one is built, so that no replacement is lost.
    parts: Mutex<Parts>,
}

#[derive(Clone)]
struct Parts {
    server: Arc<CertifiedKey>,
    /// Roots of an outside PKI that the server's certificate may lead to, DER.
    roots: Arc<[Vec<u8>]>,
    trust: Trust,
}

/// Settings for one handshake.
struct Generation {
    mutual: Arc<ServerConfig>,
    /// For clients that do not have a certificate yet.
    anonymous: Arc<ServerConfig>,
    verifier: Arc<Verifier>,
    /// The root of the chain that is shown to clients without a certificate, DER.
    anchor: Option<Vec<u8>>,
}

impl Tls {
    /// Takes the server's chain and key, PEM, and what is accepted from clients. Does not check the dates of the
    /// server's certificate: a vault whose certificate has expired must start, or it could not issue a new one.
    ///
    /// # Errors
    /// [`ServeError::Tls`] when they cannot be read or do not belong together.
    pub fn new(certificate_pem: &[u8], key_pem: &[u8], trust: &Trust) -> Result<Self, ServeError> {
        let parts =
            Parts { server: Arc::new(pair(certificate_pem, key_pem)?), roots: Arc::default(), trust: trust.clone() };
        Ok(Self { current: ArcSwap::from_pointee(Generation::new(&parts)?), parts: Mutex::new(parts) })
    }

    /// Presents a different server certificate from now on. After an error, the old one stays.
    ///
    /// # Errors
    /// As [`new`](Self::new); also when a certificate of the chain is not valid now.
    pub fn replace_server(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), ServeError> {
        let server = Arc::new(pair(certificate_pem, key_pem)?);
        chain::check_dates(&server.cert, SystemClock.now_ms())?;
        let mut parts = self.parts.lock();
        self.renew(&mut parts, |next| next.server = server)
    }

    /// Like [`new`](Self::new), for a server's chain of an outside PKI that leads to one of `roots` ([`server_roots`]).
    ///
    /// # Errors
    /// As [`new`](Self::new); also when there are roots and the chain leads to none of them.
    pub fn of_roots(
        certificate_pem: &[u8],
        key_pem: &[u8],
        roots: &[Vec<u8>],
        trust: &Trust,
    ) -> Result<Self, ServeError> {
        let server = Arc::new(pair(certificate_pem, key_pem)?);
        let parts = Parts { server, roots: roots.into(), trust: trust.clone() };
        parts.check()?;
        Ok(Self { current: ArcSwap::from_pointee(Generation::new(&parts)?), parts: Mutex::new(parts) })
    }

    /// Like [`replace_server`](Self::replace_server), for a chain that leads to one of `roots`.
    ///
    /// # Errors
    /// As [`replace_server`](Self::replace_server) and [`of_roots`](Self::of_roots).
    pub fn replace_server_of(
        &self,
        certificate_pem: &[u8],
        key_pem: &[u8],
        roots: &[Vec<u8>],
    ) -> Result<(), ServeError> {
        let server = Arc::new(pair(certificate_pem, key_pem)?);
        chain::check_dates(&server.cert, SystemClock.now_ms())?;
        let mut parts = self.parts.lock();
        let next = Parts { server, roots: roots.into(), trust: parts.trust.clone() };
        next.check()?;
        self.renew(&mut parts, |parts| *parts = next)
    }

    /// Returns the certificate (DER) of the root, or of the client authority, to which the chain leads that is shown to
    /// clients without a certificate. `None` when it leads to nothing that is known here.
    #[must_use]
    pub fn anchor(&self) -> Option<Vec<u8>> {
        self.current.load().anchor.clone()
    }

    /// Accepts different client certificates from now on. After an error, the old ones stay.
    ///
    /// # Errors
    /// [`ServeError::Tls`] when it has no authority of our own, or one cannot be used.
    pub fn replace_trust(&self, trust: &Trust) -> Result<(), ServeError> {
        let mut parts = self.parts.lock();
        self.renew(&mut parts, |next| next.trust = trust.clone())
    }

    fn renew(&self, parts: &mut Parts, change: impl FnOnce(&mut Parts)) -> Result<(), ServeError> {
        let mut next = parts.clone();
        change(&mut next);
        self.current.store(Arc::new(Generation::new(&next)?));
        *parts = next;
        Ok(())
    }

    /// For a connection with a client certificate.
    pub(super) fn mutual(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().mutual)
    }

    /// For a connection without a client certificate. The server's chain includes its authority or root, so that a
    /// client that knows only the fingerprint of that one can check the rest.
    pub(super) fn anonymous(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().anonymous)
    }

    /// Whether the client with this certificate (PEM, leaf first) is one of our own now. This proves nothing about its
    /// key.
    #[cfg(test)]
    pub(crate) fn accepts(&self, certificate_pem: &[u8]) -> bool {
        certificates(certificate_pem, "").is_ok_and(|chain| matches!(self.origin_of(&chain), Proof::Vault(_)))
    }

    /// Whose certificate `chain` is, by current trust.
    pub(super) fn origin_of(&self, chain: &[CertificateDer<'_>]) -> Proof {
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(SystemClock.now_ms()));
        self.current.load().verifier.origin_of(chain, now)
    }
}

impl Parts {
    /// # Errors
    /// There are roots, and the chain leads to none of them.
    fn check(&self) -> Result<(), ServeError> {
        let leads = || chain::meets(&self.server.cert, self.roots.iter().map(Vec::as_slice)).is_some();
        if self.roots.is_empty() || leads() {
            return Ok(());
        }
        Err(ServeError::Tls("the server certificate does not lead to a root of tls.ca"))
    }

    /// Returns the server's chain up to and including the root or the authority of ours that it leads to, and that one
    /// alone.
    fn anchored(&self) -> (Vec<CertificateDer<'static>>, Option<Vec<u8>>) {
        let mut shown = self.server.cert.clone();
        let anchors = self
            .roots
            .iter()
            .map(Vec::as_slice)
            .chain(self.trust.authorities.iter().map(|anchor| anchor.der.as_slice()));
        let Some((index, anchor)) = chain::meets(&shown, anchors) else { return (shown, None) };
        let key = pki::key_fingerprint(anchor);
        if !shown.iter().skip(index + 1).any(|der| pki::key_fingerprint(der) == key) {
            shown.truncate(index + 1);
            shown.push(CertificateDer::from(anchor.to_vec()));
        }
        (shown, Some(anchor.to_vec()))
    }
}

impl Generation {
    fn new(parts: &Parts) -> Result<Self, ServeError> {
        let provider = tls_provider();
        let verifier = Arc::new(Verifier::new(&parts.trust, provider)?);
        let (shown, anchor) = parts.anchored();
        let with_authority = CertifiedKey { cert: shown, ..CertifiedKey::clone(&parts.server) };
        let client = Arc::clone(&verifier);
        let mutual = builder()?.with_client_cert_verifier(client);
        let mutual = mutual.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&parts.server))));
        let anonymous = builder()?.with_no_client_auth();
        let anonymous = anonymous.with_cert_resolver(Arc::new(SingleCertAndKey::from(with_authority)));
        Ok(Self { mutual: finish(mutual), anonymous: finish(anonymous), verifier, anchor })
    }
}

fn builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, ServeError> {
    ServerConfig::builder_with_provider(tls_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| ServeError::Tls("TLS 1.3 is not available"))
}

fn finish(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Checks that a server certificate and a key, both PEM, belong together. The dates do not matter.
///
/// # Errors
/// [`ServeError::Tls`].
pub fn check_pair(certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), ServeError> {
    pair(certificate_pem, key_pem).map(drop)
}

fn pair(certificate_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, ServeError> {
    let found = certificates(certificate_pem, "the server certificate is not PEM")?;
    chain::check(&found)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| ServeError::Tls("the server key is not a PEM private key"))?;
    CertifiedKey::from_der(found, key, &tls_provider())
        .map_err(|_| ServeError::Tls("the server certificate and its key do not belong together"))
}

/// Reads the client authorities in a PEM file, as authorities of our own.
///
/// # Errors
/// [`ServeError::Tls`] when there is none.
pub fn trust_from_pem(client_ca_pem: &[u8]) -> Result<Trust, ServeError> {
    let found = certificates(client_ca_pem, "the client CA is not a PEM certificate")?;
    Ok(Trust { authorities: found.iter().map(|der| Anchor::new(der.to_vec())).collect(), ..Trust::default() })
}

/// Largest number of roots that the listener's certificate may lead to. A file with more is a list of everything that
/// some system trusts, and was not meant for this.
const MAX_ROOTS: usize = 8;

/// Returns what the certificate of a server of an outside PKI leads to, DER: the certificates in `ca_pem`, or else the
/// root at the end of its own chain. Empty when neither names one.
///
/// # Errors
/// [`ServeError::Tls`] when a file cannot be read, or `ca_pem` holds something that clients cannot use as a root.
pub fn server_roots(certificate_pem: Option<&[u8]>, ca_pem: Option<&[u8]>) -> Result<Vec<Vec<u8>>, ServeError> {
    let Some(ca_pem) = ca_pem else {
        let Some(chain) = certificate_pem else { return Ok(Vec::new()) };
        let chain = certificates(chain, "the server certificate is not PEM")?;
        let last = chain.last().filter(|last| matches!(chain::is_authority(last), Ok((true, true))));
        return Ok(last.iter().map(|der| der.to_vec()).collect());
    };
    let mut found = Vec::new();
    let mut usable = RootCertStore::empty();
    for der in certificates(ca_pem, "tls.ca is not a PEM certificate")? {
        let known = || ServeError::Tls("tls.ca holds a certificate that is not an authority's");
        let (is_authority, _) = chain::is_authority(&der).map_err(|_| known())?;
        // Clients parse it with the same library and would reject the whole bundle.
        if !is_authority || usable.add(der.clone()).is_err() {
            return Err(known());
        }
        let der = der.to_vec();
        if !found.contains(&der) {
            found.push(der);
        }
    }
    if found.len() > MAX_ROOTS {
        return Err(ServeError::Tls("tls.ca holds more than eight certificates: name those that clients need"));
    }
    Ok(found)
}

fn certificates(pem: &[u8], problem: &'static str) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ServeError::Tls(problem))?;
    if found.is_empty() { Err(ServeError::Tls(problem)) } else { Ok(found) }
}
