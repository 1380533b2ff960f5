//! Tests of the authority: what it issues passes rustls, and nothing else is read as an identity.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose as Eku, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, RsaKeySize, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::peer::{PeerError, inspect};
use super::*;
use crate::api::spiffe::SpiffeId;
use crate::crypto::random::SystemRandom;

const NOW_MS: u64 = 1_800_000_000_000;
const DAY_S: u64 = 86_400;
const DOMAIN: &str = "example.org";

fn authority() -> Authority {
    Authority::create(DOMAIN, Arc::new(SystemRandom), NOW_MS, AUTHORITY_LIFE_S).unwrap()
}

fn web() -> SpiffeId {
    SpiffeId::new(DOMAIN, "app/web").unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn roots(ca_pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(der(ca_pem)).unwrap();
    Arc::new(roots)
}

fn client_ok(ca_pem: &str, leaf: &CertificateDer<'_>, at_ms: u64) -> Result<(), rustls::Error> {
    WebPkiClientVerifier::builder_with_provider(roots(ca_pem), Arc::new(default_provider()))
        .build()
        .unwrap()
        .verify_client_cert(leaf, &[], UnixTime::since_unix_epoch(Duration::from_millis(at_ms)))
        .map(|_| ())
}

fn server_ok(ca_pem: &str, leaf: &CertificateDer<'_>, name: &str) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS));
    WebPkiServerVerifier::builder_with_provider(roots(ca_pem), Arc::new(default_provider()))
        .build()
        .unwrap()
        .verify_server_cert(leaf, &[], &name, &[], now)
        .map(|_| ())
}

#[test]
fn a_client_leaf_passes_tls_and_names_its_identity() {
    let ca = authority();
    let bundle = ca.issue_client(&web(), NOW_MS, DAY_S).unwrap();
    let leaf = der(&bundle.cert_pem);
    client_ok(ca.cert_pem(), &leaf, NOW_MS).unwrap();
    client_ok(ca.cert_pem(), &leaf, NOW_MS - BACKDATE_MS).unwrap();
    assert!(client_ok(ca.cert_pem(), &leaf, NOW_MS - BACKDATE_MS - 1000).is_err());
    assert!(client_ok(ca.cert_pem(), &leaf, NOW_MS + DAY_S * 1000 + 1000).is_err());
    assert!(server_ok(ca.cert_pem(), &leaf, "example.org").is_err());
    assert!(client_ok(authority().cert_pem(), &leaf, NOW_MS).is_err(), "another authority's");

    let peer = inspect(&leaf, DOMAIN).unwrap();
    assert_eq!(peer.identity.uri(), "spiffe://example.org/app/web");
    assert_eq!(peer.not_before_ms, NOW_MS - BACKDATE_MS);
    assert_eq!(peer.not_after_ms, NOW_MS + DAY_S * 1000);
    assert_eq!(peer.fingerprint, crate::crypto::hash::sha256(&[&leaf]));
    assert_eq!(peer.serial.len(), 20);
    assert_eq!(inspect(&leaf, "example.com"), Err(PeerError::ForeignDomain));
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(parsed.subject().iter().count(), 0, "no common name to be misread");
    assert!(bundle.key_pem.reveal().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let key = KeyPair::from_pem(bundle.key_pem.reveal()).unwrap();
    assert_eq!(key.public_key_raw(), parsed.public_key().subject_public_key.data.as_ref());
    let other = der(&ca.issue_client(&web(), NOW_MS, DAY_S).unwrap().cert_pem);
    assert_ne!(inspect(&other, DOMAIN).unwrap().serial, peer.serial);
}

#[test]
fn a_server_leaf_is_for_its_names_and_never_for_a_client() {
    let ca = authority();
    let names = ["Vault.example.org", "10.0.0.7", "::1"].map(str::to_owned);
    let leaf = der(&ca.issue_server(&names, NOW_MS, SERVER_LIFE_S).unwrap().cert_pem);
    for name in ["vault.example.org", "10.0.0.7", "::1"] {
        server_ok(ca.cert_pem(), &leaf, name).unwrap();
    }
    assert!(server_ok(ca.cert_pem(), &leaf, "other.example.org").is_err());
    assert!(client_ok(ca.cert_pem(), &leaf, NOW_MS).is_err());
    assert_eq!(inspect(&leaf, DOMAIN), Err(PeerError::Usage));
    for bad in ["", "*.example.org", "a..b", "-a", "a_b", "a b", "é.org", "a/b"] {
        let result = ca.issue_server(&[bad.to_owned()], NOW_MS, DAY_S);
        assert_eq!(result.err(), Some(PkiError::ServerName), "{bad:?}");
    }
    assert_eq!(ca.issue_server(&[], NOW_MS, DAY_S).err(), Some(PkiError::ServerName));
}

#[test]
fn life_ends_with_the_authority() {
    let ca = Authority::create(DOMAIN, Arc::new(SystemRandom), NOW_MS, DAY_S).unwrap();
    let leaf = der(&ca.issue_client(&web(), NOW_MS, 10 * DAY_S).unwrap().cert_pem);
    assert_eq!(inspect(&leaf, DOMAIN).unwrap().not_after_ms, NOW_MS + DAY_S * 1000);
    let late = NOW_MS + 2 * DAY_S * 1000;
    for (now_ms, life_s) in [(NOW_MS, 0), (late, DAY_S), (NOW_MS, u64::MAX)] {
        let result = ca.issue_client(&web(), now_ms, life_s);
        assert_eq!(result.err(), Some(PkiError::Life), "{now_ms} {life_s}");
    }
    let foreign = SpiffeId::new("example.com", "app/web").unwrap();
    assert_eq!(ca.issue_client(&foreign, NOW_MS, DAY_S).err(), Some(PkiError::ForeignIdentity));
    for domain in ["", "Example.org", "a/b", "a b", "*"] {
        let made = Authority::create(domain, Arc::new(SystemRandom), NOW_MS, DAY_S);
        assert_eq!(made.err(), Some(PkiError::TrustDomain), "{domain:?}");
    }
}

#[test]
fn an_authority_is_loaded_only_with_its_own_key() {
    let (ca, other) = (authority(), authority());
    let loaded = Authority::from_parts(ca.cert_pem(), &ca.key_pkcs8()).unwrap();
    assert_eq!(loaded.trust_domain(), DOMAIN);
    assert_eq!(loaded.not_after_ms(), ca.not_after_ms());
    let leaf = der(&loaded.issue_client(&web(), NOW_MS, DAY_S).unwrap().cert_pem);
    client_ok(ca.cert_pem(), &leaf, NOW_MS).unwrap();
    assert!(matches!(Authority::from_parts(ca.cert_pem(), &other.key_pkcs8()).err(), Some(PkiError::Damaged(_))));
    let leaf_pem = ca.issue_client(&web(), NOW_MS, DAY_S).unwrap().cert_pem;
    assert!(matches!(Authority::from_parts(&leaf_pem, &ca.key_pkcs8()).err(), Some(PkiError::Damaged(_))));
}

/// What a hostile or careless authority key could sign; only the first is an identity.
#[test]
fn leaves_that_leave_room_for_a_second_opinion_are_refused() {
    type Change = fn(&mut CertificateParams);
    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }
    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }
    let table: &[(&str, Change, Result<(), PeerError>)] = &[
        ("as issued", |_| {}, Ok(())),
        ("two URIs", |p| p.subject_alt_names.push(uri("spiffe://example.org/admin")), Err(PeerError::Names)),
        ("the same URI twice", |p| p.subject_alt_names.push(uri("spiffe://example.org/a")), Err(PeerError::Names)),
        ("a DNS name too", |p| p.subject_alt_names.push(dns("a.org")), Err(PeerError::Names)),
        ("no URI", |p| p.subject_alt_names = vec![dns("a.org")], Err(PeerError::Names)),
        ("no name", |p| p.subject_alt_names.clear(), Err(PeerError::Names)),
        ("foreign domain", |p| p.subject_alt_names = vec![uri("spiffe://evil.org/a")], Err(PeerError::ForeignDomain)),
        ("not spiffe", |p| p.subject_alt_names = vec![uri("https://example.org/a")], Err(PeerError::Identity)),
        ("no path", |p| p.subject_alt_names = vec![uri("spiffe://example.org")], Err(PeerError::Identity)),
        ("wildcard", |p| p.subject_alt_names = vec![uri("spiffe://example.org/*")], Err(PeerError::Identity)),
        ("dots", |p| p.subject_alt_names = vec![uri("spiffe://example.org/a/../b")], Err(PeerError::Identity)),
        ("an authority", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), Err(PeerError::Authority)),
        ("may sign", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), Err(PeerError::Authority)),
        ("no key usage", |p| p.key_usages.clear(), Err(PeerError::Usage)),
        ("no extended usage", |p| p.extended_key_usages.clear(), Err(PeerError::Usage)),
        ("server only", |p| p.extended_key_usages = vec![Eku::ServerAuth], Err(PeerError::Usage)),
        ("both roles", |p| p.extended_key_usages.push(Eku::ServerAuth), Err(PeerError::Usage)),
        ("any role", |p| p.extended_key_usages.push(Eku::Any), Err(PeerError::Usage)),
    ];
    let (ca, pair) = (authority(), KeyPair::generate().unwrap());
    for (what, change, expected) in table {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri("spiffe://example.org/a")];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![Eku::ClientAuth];
        change(&mut params);
        let leaf = params.signed_by(&pair, &ca.issuer).unwrap();
        assert_eq!(&inspect(leaf.der(), DOMAIN).map(|_| ()), expected, "{what}");
    }
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    let ca = authority();
    let pair = KeyPair::generate().unwrap();
    let mut wishes = CertificateParams::new(vec!["vault.example.org".to_owned()]).unwrap();
    wishes.subject_alt_names.push(SanType::URI("spiffe://example.org/admin".try_into().unwrap()));
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let csr = wishes.serialize_request(&pair).unwrap();
    let leaf = der(&ca.sign_csr(&csr.pem().unwrap(), &web(), NOW_MS, DAY_S).unwrap());
    client_ok(ca.cert_pem(), &leaf, NOW_MS).unwrap();
    assert_eq!(inspect(&leaf, DOMAIN).unwrap().identity, web());
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(parsed.public_key().subject_public_key.data.as_ref(), pair.public_key_raw());
    assert_eq!(parsed.subject().iter().count(), 0);

    // The last byte belongs to the signature.
    let mut forged = csr.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let text = pem_of("CERTIFICATE REQUEST", &forged);
    let refused = ca.sign_csr(&text, &web(), NOW_MS, DAY_S).err();
    assert_eq!(refused, Some(PkiError::Request("signature does not match its key")));
    let huge = format!("{}{}", csr.pem().unwrap(), " ".repeat(MAX_CSR_BYTES));
    assert_eq!(ca.sign_csr(&huge, &web(), NOW_MS, DAY_S).err(), Some(PkiError::Request("too large")));
    assert!(matches!(ca.sign_csr("", &web(), NOW_MS, DAY_S).err(), Some(PkiError::Request(_))));
    let foreign = SpiffeId::new("example.com", "a").unwrap();
    assert_eq!(ca.sign_csr(&csr.pem().unwrap(), &foreign, NOW_MS, DAY_S).err(), Some(PkiError::ForeignIdentity));
}

#[test]
fn weak_keys_are_refused() {
    let ca = authority();
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let ec = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let table = [
        ("P-256", ec(&rcgen::PKCS_ECDSA_P256_SHA256), true),
        ("P-384", ec(&rcgen::PKCS_ECDSA_P384_SHA384), true),
        ("Ed25519", ec(&rcgen::PKCS_ED25519), true),
        ("RSA-3072", rsa(RsaKeySize::_3072), true),
        ("RSA-2048", rsa(RsaKeySize::_2048), false),
        ("P-521", ec(&rcgen::PKCS_ECDSA_P521_SHA512), false),
    ];
    for (what, pair, good) in table {
        let csr = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        match ca.sign_csr(&csr, &web(), NOW_MS, DAY_S) {
            Ok(pem) => {
                assert!(good, "{what}");
                client_ok(ca.cert_pem(), &der(&pem), NOW_MS).unwrap();
            }
            Err(error) => {
                assert!(!good, "{what}: {error}");
                assert_eq!(error, PkiError::WeakKey, "{what}");
            }
        }
    }
}

/// rustls-webpki refuses every URI below an authority with a URI name constraint, even one that permits it: the
/// reason why the authority carries none. If this fails after an upgrade, the constraint can be added.
#[test]
fn a_uri_name_constraint_would_lock_everyone_out() {
    let mut constraint = vec![0x30, 0x11, 0xa0, 0x0f, 0x30, 0x0d, 0x86, 0x0b];
    constraint.extend_from_slice(DOMAIN.as_bytes());
    let constraint = CustomExtension::from_oid_content(&[2, 5, 29, 30], constraint);
    for (extensions, accepted) in [(vec![], true), (vec![constraint], false)] {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.custom_extensions = extensions;
        let ca = params.self_signed(&pair).unwrap();
        let issuer = Issuer::from_params(&params, &pair);
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI("spiffe://example.org/a".try_into().unwrap())];
        leaf.extended_key_usages = vec![Eku::ClientAuth];
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        assert_eq!(client_ok(&ca.pem(), leaf.der(), NOW_MS).is_ok(), accepted);
    }
}

fn pem_of(kind: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn sample() -> &'static [u8] {
    static LEAF: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    LEAF.get_or_init(|| der(&authority().issue_client(&web(), NOW_MS, DAY_S).unwrap().cert_pem).to_vec())
}

#[test]
fn a_truncated_or_extended_leaf_is_refused() {
    let leaf = sample();
    for len in 0..leaf.len() {
        assert_eq!(inspect(&leaf[..len], DOMAIN).err(), Some(PeerError::Malformed), "{len}");
    }
    let mut longer = leaf.to_vec();
    longer.push(0);
    assert_eq!(inspect(&longer, DOMAIN).err(), Some(PeerError::Malformed));
}

proptest! {
    #[test]
    fn mutated_leaves_never_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut leaf = sample().to_vec();
        let at = at.index(leaf.len());
        leaf[at] = byte;
        let _ = inspect(&leaf, DOMAIN);
        let _ = inspect(&leaf[..cut.index(leaf.len())], DOMAIN);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = inspect(&bytes, DOMAIN);
        static CA: std::sync::OnceLock<Authority> = std::sync::OnceLock::new();
        let ca = CA.get_or_init(authority);
        let refused = ca.sign_csr(&pem_of("CERTIFICATE REQUEST", &bytes), &web(), NOW_MS, DAY_S).is_err();
        prop_assert!(refused);
    }
}
