//! Decides which client certificates TLS accepts, and which of them are our own.
//!
//! rustls-webpki answers only one question: does this chain lead to one of these roots? With roots of outside PKIs in
//! the same store, the answer would no longer tell whose certificate it is, and such a root could mint names of our
//! trust domain. So every authority of our own has a separate verifier that never sees another root, and
//! [`Verifier::origin_of`] uses exactly those.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
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
use crate::pki::peer::{self, MAX_CERT_BYTES};
use crate::pki::{AuthorityId, Trust};

/// Largest number of certificates in one chain.
const MAX_CHAIN: usize = 8;

/// What a certificate chain was proved to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// This authority of our own signed the leaf.
    Vault(AuthorityId),
    /// Everything else that TLS accepts: the chain as it was received, leaf first.
    Outside(Vec<CertificateDer<'static>>),
}

/// Accepts what a [`Trust`] names, in its order: own authorities, single certificates, outside roots.
pub(super) struct Verifier {
    authorities: Vec<(AuthorityId, Arc<dyn ClientCertVerifier>)>,
    pinned: HashSet<[u8; 32]>,
    outside: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
    /// Leaves that were proved to be ours, by SHA-256. The authorities of a verifier never change, so the proof stays
    /// valid, except for the dates. This saves one signature when a machine returns with its certificate. Revocation is
    /// checked elsewhere, at every request.
    proved: RwLock<HashMap<[u8; 32], Proved>>,
}

/// Number of leaves that are remembered, about 80 bytes each. When there are more, all are forgotten.
const MAX_PROVED: usize = 4096;

/// A leaf of one of our own authorities.
#[derive(Clone, Copy)]
struct Proved {
    authority: AuthorityId,
    not_before_ms: u64,
    not_after_ms: u64,
}

impl Verifier {
    /// Creates a verifier.
    ///
    /// # Errors
    /// [`ServeError::Tls`] when there is no authority of our own, or a root cannot be used.
    pub(super) fn new(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Self, ServeError> {
        if trust.authorities.is_empty() {
            return Err(ServeError::Tls("there is no client CA"));
        }
        let mut hints = Vec::new();
        let mut authorities = Vec::with_capacity(trust.authorities.len());
        for anchor in &trust.authorities {
            let verifier = roots([&anchor.der].into_iter(), &provider, "the client CA cannot be used", &mut hints)?;
            authorities.push((anchor.id, verifier));
        }
        let outside = if trust.outside.is_empty() {
            None
        } else {
            Some(roots(trust.outside.iter(), &provider, "a root of a cert role cannot be used", &mut hints)?)
        };
        let pinned: HashSet<_> = trust.pinned.iter().copied().collect();
        if !pinned.is_empty() {
            // A client may withhold a certificate that chains to none of the names that it is sent, and a single
            // certificate has no such name.
            hints.clear();
        }
        Ok(Self { authorities, pinned, outside, hints, provider, proved: RwLock::default() })
    }

    /// Tells whose certificate this is, proved with our own authorities alone. They sign only leaves, so anything else
    /// in the chain is ignored.
    pub(super) fn origin_of(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Proof {
        let found = chain.first().and_then(|leaf| self.authority_of(leaf, now).ok());
        found.map_or_else(
            || {
                let (leaf, above) = chain.split_at(chain.len().min(1));
                let above = few_of_a_name(above).into_iter().take(MAX_CHAIN.saturating_sub(1));
                Proof::Outside(leaf.iter().cloned().chain(above).map(CertificateDer::into_owned).collect())
            },
            Proof::Vault,
        )
    }

    /// Like [`owner`](Self::owner), but uses a remembered proof if there is one.
    ///
    /// # Errors
    /// As [`owner`](Self::owner).
    fn authority_of(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<AuthorityId, Error> {
        let digest = sha256(&[leaf]);
        let now_ms = now.as_secs().saturating_mul(1000);
        let found = self.proved.read().get(&digest).copied();
        // A leaf outside its dates goes to `owner`, which returns that error.
        if let Some(found) = found.filter(|found| (found.not_before_ms..=found.not_after_ms).contains(&now_ms)) {
            return Ok(found.authority);
        }
        let authority = self.owner(leaf, now)?;
        if let Ok(facts) = peer::facts(leaf) {
            let mut proved = self.proved.write();
            if proved.len() >= MAX_PROVED {
                proved.clear();
            }
            let (not_before_ms, not_after_ms) = (facts.not_before_ms, facts.not_after_ms);
            proved.insert(digest, Proved { authority, not_before_ms, not_after_ms });
        }
        Ok(authority)
    }

    /// Finds the authority of our own that signed `leaf`.
    ///
    /// # Errors
    /// The most specific reason why none did.
    fn owner(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<AuthorityId, Error> {
        let mut reason = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for (id, verifier) in &self.authorities {
            match verifier.verify_client_cert(leaf, &[], now) {
                Ok(_) => return Ok(*id),
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(other) => reason = other,
            }
        }
        Err(reason)
    }
}

/// Creates a verifier for chains to these roots, and adds their subjects to `hints`.
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

/// Keeps at most two certificates of each name, as many as an authority has that two others have signed. The library
/// tries every path from one name to the next. Anybody can make seven certificates with the same name, and that makes
/// thousands of paths before anything is proved.
fn few_of_a_name<'a>(certificates: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    let mut names: HashMap<Vec<u8>, usize> = HashMap::new();
    let few = certificates.iter().filter(|der| {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
        let seen = names.entry(parsed.subject().as_raw().to_vec()).or_default();
        *seen += 1;
        *seen <= 2
    });
    few.cloned().collect()
}

/// Checks the dates of a certificate.
///
/// # Errors
/// It cannot be parsed, or is not valid at `now`.
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
        let reason = match self.authority_of(leaf, now) {
            Ok(_) => return Ok(ClientCertVerified::assertion()),
            Err(reason) => reason,
        };
        if self.pinned.contains(&sha256(&[leaf])) {
            return check_dates(leaf, now).map(|()| ClientCertVerified::assertion());
        }
        match &self.outside {
            Some(outside) => outside.verify_client_cert(leaf, &few_of_a_name(intermediates), now),
            None => Err(reason),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.2 is never negotiated.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject as _;

    use super::*;
    use crate::api::spiffe::SpiffeId;
    use crate::client::tls_provider;
    use crate::crypto::random::SystemRandom;
    use crate::pki::{Anchor, Authority};

    const START_MS: u64 = 1_800_000_000_000;

    fn at(ms: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(ms))
    }

    fn authority(life_s: u64) -> Authority {
        Authority::create("example.org", Arc::new(SystemRandom), START_MS, life_s).expect("made")
    }

    fn leaf(authority: &Authority, life_s: u64) -> CertificateDer<'static> {
        let web = SpiffeId::new("example.org", "app/web").expect("legal");
        let bundle = authority.issue_client(&web, START_MS, life_s).expect("issued");
        CertificateDer::from_pem_slice(bundle.cert_pem.as_bytes()).expect("PEM")
    }

    fn verifier(authorities: &[&Authority]) -> Verifier {
        let anchor = |authority: &&Authority| {
            Anchor::new(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).expect("PEM").to_vec())
        };
        let trust = Trust { authorities: authorities.iter().map(anchor).collect(), ..Trust::default() };
        Verifier::new(&trust, tls_provider()).expect("usable")
    }

    #[test]
    fn what_is_remembered_ends_with_its_dates_and_with_its_authorities() {
        let (ours, others) = (authority(86_400), authority(86_400));
        let (leaf, foreign) = (leaf(&ours, 60), leaf(&others, 60));
        let verifier = verifier(&[&ours]);
        let takes = |leaf: &CertificateDer<'_>, ms| verifier.verify_client_cert(leaf, &[], at(ms)).is_ok();
        assert!(!takes(&leaf, START_MS + 61_000), "first seen after its end");
        for _ in 0..2 {
            assert!(takes(&leaf, START_MS) && takes(&leaf, START_MS + 60_000));
            assert!(!takes(&leaf, START_MS + 61_000) && !takes(&leaf, START_MS - 301_000), "its dates");
            assert!(!takes(&foreign, START_MS));
        }
        assert!(matches!(verifier.origin_of(std::slice::from_ref(&leaf), at(START_MS)), Proof::Vault(_)));
        assert!(matches!(verifier.origin_of(std::slice::from_ref(&leaf), at(START_MS + 61_000)), Proof::Outside(_)));
        assert!(matches!(verifier.origin_of(&[foreign], at(START_MS)), Proof::Outside(_)));
        let mut changed = leaf.to_vec();
        *changed.last_mut().expect("not empty") ^= 1;
        assert!(!takes(&CertificateDer::from(changed), START_MS), "another signature is another certificate");
    }

    /// A client's certificate and as many authorities' as it may send along, of which each could have signed every other
    /// one by its name.
    fn tangle(count: usize) -> (CertificateDer<'static>, Vec<CertificateDer<'static>>) {
        use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params
        };
        let authority = || {
            let mut params = params("everybody's");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params, KeyPair::generate().expect("a key"))
        };
        let all: Vec<_> = (0..count).map(|_| authority()).collect();
        let between = all.iter().map(|(params, key)| params.self_signed(key).expect("signed").der().clone()).collect();
        let mut leaf = params("leaf");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (above, key) = authority();
        let signed = leaf.signed_by(&KeyPair::generate().expect("a key"), &Issuer::from_params(&above, &key));
        (signed.expect("signed").der().clone(), between)
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // measures real work
    fn a_chain_that_leads_everywhere_is_given_up_soon() {
        let (ours, root) = (authority(86_400), authority(86_400));
        let der = |authority: &Authority| {
            CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).expect("PEM").to_vec()
        };
        let trust = Trust { authorities: vec![Anchor::new(der(&ours))], outside: vec![der(&root)], ..Trust::default() };
        let verifier = Verifier::new(&trust, tls_provider()).expect("usable");
        let (leaf, between) = tangle(MAX_CHAIN - 1);
        let begun = std::time::Instant::now();
        assert!(verifier.verify_client_cert(&leaf, &between, at(START_MS)).is_err());
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        // What would be proved by itself is proved among others, and two of one name are enough for a cross certificate.
        assert_eq!(few_of_a_name(&between).len(), 2);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let ours = authority(86_400);
        let verifier = verifier(&[&ours]);
        let some = Proved { authority: AuthorityId([0; 16]), not_before_ms: 0, not_after_ms: 0 };
        let digest = |n: usize| sha256(&[&n.to_be_bytes()]);
        verifier.proved.write().extend((0..MAX_PROVED).map(|n| (digest(n), some)));
        assert!(verifier.authority_of(&leaf(&ours, 60), at(START_MS)).is_ok());
        assert_eq!(verifier.proved.read().len(), 1);
    }
}
