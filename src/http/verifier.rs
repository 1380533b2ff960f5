//! Which client certificates TLS takes, and which of them are our own.
//!
//! rustls-webpki answers one question only: does this chain lead to one of these roots? With roots of outside PKIs in
//! the same store the answer would no longer say whose certificate it is, and such a root could mint names of our trust
//! domain. So every authority of our own has a verifier of its own, which never sees another root, and
//! [`Verifier::origin_of`] asks exactly those.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ServeError;
use crate::crypto::hash::sha256;
use crate::pki::peer::MAX_CERT_BYTES;
use crate::pki::{AuthorityId, Trust};

/// Most certificates of one chain that are looked at.
const MAX_CHAIN: usize = 8;

/// What a certificate chain has been proved to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The leaf was signed by this authority of our own.
    Own(AuthorityId),
    /// Everything else that TLS takes: the chain as it came, leaf first.
    Outside(Vec<CertificateDer<'static>>),
}

/// Takes what a [`Trust`] names, in its order: own authorities, single certificates, outside roots.
pub(super) struct Verifier {
    own: Vec<(AuthorityId, Arc<dyn ClientCertVerifier>)>,
    pinned: HashSet<[u8; 32]>,
    outside: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
    /// Leaves that a handshake has just proved to be ours, by SHA-256, until [`Verifier::origin_of`] asks: the signature
    /// need not be checked twice.
    proved: Mutex<HashMap<[u8; 32], AuthorityId>>,
}

/// Handshakes that may be between their proof and the question whose it was. When there are more, all is proved anew.
const MAX_PROVED: usize = 1024;

impl Verifier {
    /// # Errors
    /// [`ServeError::Tls`] when there is no own authority, or a root cannot be used.
    pub(super) fn new(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Self, ServeError> {
        if trust.own.is_empty() {
            return Err(ServeError::Tls("there is no client CA"));
        }
        let mut hints = Vec::new();
        let mut own = Vec::with_capacity(trust.own.len());
        for anchor in &trust.own {
            let verifier = roots([&anchor.der].into_iter(), &provider, "the client CA cannot be used", &mut hints)?;
            own.push((anchor.id, verifier));
        }
        let outside = if trust.outside.is_empty() {
            None
        } else {
            Some(roots(trust.outside.iter(), &provider, "a root of a cert role cannot be used", &mut hints)?)
        };
        let pinned: HashSet<_> = trust.pinned.iter().copied().collect();
        if !pinned.is_empty() {
            // A client may keep back a certificate that chains to none of the names it is told, and a single
            // certificate has no such name.
            hints.clear();
        }
        Ok(Self { own, pinned, outside, hints, provider, proved: Mutex::default() })
    }

    /// Whose certificate this is, proved under our own authorities alone. They sign leaves only, so whatever else is in
    /// the chain counts for nothing.
    pub(super) fn origin_of(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Proof {
        let proved = |leaf: &CertificateDer<'_>| self.proved.lock().remove(&sha256(&[leaf]));
        let found = chain.first().and_then(|leaf| proved(leaf).or_else(|| self.owner(leaf, now).ok()));
        found.map_or_else(
            || Proof::Outside(chain.iter().take(MAX_CHAIN).map(|der| der.clone().into_owned()).collect()),
            Proof::Own,
        )
    }

    /// # Errors
    /// Why none of the own authorities vouches for `leaf`; the most telling reason of all.
    fn owner(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<AuthorityId, Error> {
        let mut reason = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for (id, verifier) in &self.own {
            match verifier.verify_client_cert(leaf, &[], now) {
                Ok(_) => return Ok(*id),
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(other) => reason = other,
            }
        }
        Err(reason)
    }
}

/// A verifier for chains to these roots; their subjects are added to `hints`.
fn roots<'a>(
    ders: impl Iterator<Item = &'a Vec<u8>>,
    provider: &Arc<CryptoProvider>,
    problem: &'static str,
    hints: &mut Vec<DistinguishedName>,
) -> Result<Arc<dyn ClientCertVerifier>, ServeError> {
    let mut store = RootCertStore::empty();
    for der in ders {
        store.add(CertificateDer::from(der.as_slice())).map_err(|_| ServeError::Tls(problem))?;
    }
    hints.extend(store.subjects());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
    let verifier = verifier.build().map_err(|_| ServeError::Tls(problem))?;
    Ok(verifier)
}

/// # Errors
/// The certificate is not readable, or not valid at `now`.
fn check_dates(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |error| Error::InvalidCertificate(error);
    let (rest, parsed) = X509Certificate::from_der(leaf).map_err(|_| bad(CertificateError::BadEncoding))?;
    if !rest.is_empty() {
        return Err(bad(CertificateError::BadEncoding));
    }
    let now = i64::try_from(now.as_secs()).map_err(|_| bad(CertificateError::Expired))?;
    if now < parsed.validity().not_before.timestamp() {
        return Err(bad(CertificateError::NotValidYet));
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(bad(CertificateError::Expired));
    }
    Ok(())
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if leaf.len() > MAX_CERT_BYTES || intermediates.len() >= MAX_CHAIN {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        let reason = match self.owner(leaf, now) {
            Ok(id) => {
                let mut proved = self.proved.lock();
                if proved.len() >= MAX_PROVED {
                    proved.clear();
                }
                proved.insert(sha256(&[leaf]), id);
                return Ok(ClientCertVerified::assertion());
            }
            Err(reason) => reason,
        };
        if self.pinned.contains(&sha256(&[leaf])) {
            return check_dates(leaf, now).map(|()| ClientCertVerified::assertion());
        }
        match &self.outside {
            Some(outside) => outside.verify_client_cert(leaf, intermediates, now),
            None => Err(reason),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Version 1.2 is never negotiated.
        Err(Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}
