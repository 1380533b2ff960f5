//! Which client certificates are taken, and whose they are held to be.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use strongroom::http::{Limits, trust_from_pem};
use strongroom::pki::{Authority, Trust};

use crate::support::raw::{Raw, Reply, config};
use crate::support::server::{DOMAIN, Server, identity, now_ms, other_authority};

const ALICE: &str = "spiffe://example.org/ops/alice";

/// A certificate under construction; a good one of the first operator to begin with.
struct Mint {
    params: CertificateParams,
}

/// A leaf with its key, and whatever is sent along.
struct Minted {
    key: KeyPair,
    params: CertificateParams,
    chain: Vec<CertificateDer<'static>>,
}

impl Mint {
    fn good() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(ALICE.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid(&mut params, -600, 600);
        Self { params }
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut mint = Self::good();
        change(&mut mint.params);
        mint
    }

    fn names(names: &[&str]) -> Self {
        Self::with(|params| {
            params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        })
    }

    fn by(self, authority: &Authority) -> Minted {
        let key = KeyPair::try_from(authority.key_pkcs8().reveal()).unwrap();
        self.by_issuer(&Issuer::from_ca_cert_pem(authority.cert_pem(), key).unwrap(), &[])
    }

    fn by_issuer(self, issuer: &Issuer<'_, KeyPair>, above: &[CertificateDer<'static>]) -> Minted {
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![self.params.signed_by(&key, issuer).unwrap().der().clone()];
        chain.extend(above.iter().cloned());
        Minted { key, params: self.params, chain }
    }

    fn by_leaf(self, leaf: Minted) -> Minted {
        let above = leaf.chain.clone();
        self.by_issuer(&Issuer::new(leaf.params, leaf.key), &above)
    }

    fn by_itself(self) -> Minted {
        let key = KeyPair::generate().unwrap();
        let chain = vec![self.params.self_signed(&key).unwrap().der().clone()];
        Minted { key, params: self.params, chain }
    }
}

/// When it is valid, in seconds from now.
fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    let now = i64::try_from(now_ms() / 1000).unwrap();
    let at = |seconds: i64| Duration::from_secs(u64::try_from(now + seconds).unwrap());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + at(from);
    params.not_after = epoch + at(until);
}

/// Asks for something that only the operator may see.
fn ask(server: &Server, minted: &Minted) -> std::io::Result<Reply> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(minted.key.serialize_der().into())).unwrap();
    // Not checked to belong together: one of the tests is about that.
    let shown = SingleCertAndKey::from(CertifiedKey::new(minted.chain.clone(), key));
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let config = config.with_root_certificates(roots).with_client_cert_resolver(Arc::new(shown));
    Raw::with(server, Arc::new(config)).get("sys/strongroom/identities?list=true")
}

#[track_caller]
fn assert_served(server: &Server, minted: &Minted) {
    assert_eq!(ask(server, minted).unwrap().status, 200);
}

/// TLS itself says no.
#[track_caller]
fn assert_no_connection(server: &Server, minted: &Minted, what: &str) {
    let reply = ask(server, minted);
    assert!(reply.is_err(), "{what}: {reply:?}");
}

/// TLS takes the certificate, and its holder is nobody.
#[track_caller]
fn assert_nobody(server: &Server, minted: &Minted, what: &str) {
    let reply = ask(server, minted).unwrap();
    assert_eq!((reply.status, &*reply.body), (403, r#"{"errors":["permission denied"]}"#), "{what}");
}

fn der(authority: &Authority) -> Vec<u8> {
    CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap().to_vec()
}

fn server() -> (Server, Authority) {
    let authority = other_authority(DOMAIN);
    (Server::trusting(Limits::default(), &authority), authority)
}

#[test]
fn certificates_that_leave_a_doubt_are_refused() {
    let (server, authority) = server();
    assert_served(&server, &Mint::good().by(&authority));
    for names in [
        &[ALICE, "spiffe://example.org/ops/bob"][..],
        &["spiffe://example.org/ops/*"],
        &["spiffe://*/ops/alice"],
        &["spiffe://other.org/ops/alice"],
        &["SPIFFE://example.org/ops/alice"],
        &["spiffe://example.org/ops/%61lice"],
        &["https://example.org/ops/alice"],
        &[],
    ] {
        assert_nobody(&server, &Mint::names(names).by(&authority), &format!("{names:?}"));
    }
    let with_dns = Mint::with(|params| params.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap())));
    assert_nobody(&server, &with_dns.by(&authority), "a DNS name besides");
    let both = Mint::with(|params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth));
    assert_nobody(&server, &both.by(&authority), "a server's certificate as well");
    let none = Mint::with(|params| params.extended_key_usages.clear());
    assert_nobody(&server, &none.by(&authority), "no extended usage");

    let other = Mint::with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_no_connection(&server, &other.by(&authority), "a server's certificate");
    let future = Mint::with(|params| valid(params, 300, 600));
    assert_no_connection(&server, &future.by(&authority), "not valid yet");
    let expired = Mint::with(|params| valid(params, -600, -300));
    assert_no_connection(&server, &expired.by(&authority), "expired");
    let ca = Mint::with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_no_connection(&server, &ca.by(&authority), "an authority");
    let leaf = Mint::good().by(&authority);
    assert_no_connection(&server, &Mint::good().by_leaf(leaf), "signed by a leaf");
    let deeper = Mint::with(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    assert_no_connection(&server, &Mint::good().by_leaf(deeper.by(&authority)), "signed by an authority below ours");
    assert_no_connection(&server, &Mint::good().by_itself(), "signed by itself");
    assert_served(&server, &Mint::good().by(&authority));
}

#[test]
fn an_outside_root_that_mints_our_names_is_not_ours() {
    let (server, authority) = server();
    let outside = other_authority(DOMAIN);
    let trust = trust_from_pem(format!("{}{}", server.ca_pem, authority.cert_pem()).as_bytes()).unwrap();
    assert_no_connection(&server, &Mint::good().by(&outside), "before it is trusted");
    server.tls.replace_trust(&Trust { outside: vec![der(&outside)], ..trust.clone() }).unwrap();
    assert_nobody(&server, &Mint::good().by(&outside), "an outside root");
    assert_served(&server, &Mint::good().by(&authority));
    // Our own chain above a leaf of theirs proves nothing, and neither does theirs above one of ours.
    let mut mixed = Mint::good().by(&outside);
    mixed.chain.push(der(&authority).into());
    assert_nobody(&server, &mixed, "our authority sent along");
    let mut mixed = Mint::good().by(&authority);
    mixed.chain.push(der(&outside).into());
    assert_served(&server, &mixed);
    // The same root under the same subject as one of ours, which is told apart by the key alone.
    let impostor = impostor_of(&authority);
    let root: CertificateDer<'static> = impostor.chain[0].clone();
    server.tls.replace_trust(&Trust { outside: vec![root.to_vec()], ..trust.clone() }).unwrap();
    let issuer = Issuer::new(impostor.params, impostor.key);
    assert_nobody(&server, &Mint::good().by_issuer(&issuer, &[]), "an outside root with our subject");
    assert_served(&server, &Mint::good().by(&authority));
    server.tls.replace_trust(&trust).unwrap();
    assert_no_connection(&server, &Mint::good().by_issuer(&issuer, &[]), "after it was removed");
}

/// A root with the subject of `authority` and another key.
fn impostor_of(authority: &Authority) -> Minted {
    let key = KeyPair::try_from(authority.key_pkcs8().reveal()).unwrap();
    let copied = Issuer::from_ca_cert_pem(authority.cert_pem(), key).unwrap();
    // What the copied issuer signs carries its subject as issuer: read it back from there.
    let below = Mint::good().by_issuer(&copied, &[]);
    let (_, parsed) = x509_parser::parse_x509_certificate(&below.chain[0]).unwrap();
    let mut name = DistinguishedName::new();
    for attribute in parsed.issuer().iter_attributes() {
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.10" => rcgen::DnType::OrganizationName,
            "2.5.4.11" => rcgen::DnType::OrganizationalUnitName,
            "2.5.4.3" => rcgen::DnType::CommonName,
            other => panic!("an attribute that this test does not know: {other}"),
        };
        name.push(kind, attribute.as_str().unwrap());
    }
    let minted = Mint::with(|params| {
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages.clear();
    })
    .by_itself();
    let (_, root) = x509_parser::parse_x509_certificate(&minted.chain[0]).unwrap();
    assert_eq!(root.subject().as_raw(), parsed.issuer().as_raw());
    minted
}

#[test]
fn a_single_certificate_is_taken_within_its_dates_and_is_nobody() {
    let (server, authority) = server();
    let trust = trust_from_pem(format!("{}{}", server.ca_pem, authority.cert_pem()).as_bytes()).unwrap();
    let pin = |minted: &Minted| strongroom::crypto::hash::sha256(&[&minted.chain[0]]);
    let own = Mint::good().by_itself();
    let expired = Mint::with(|params| valid(params, -600, -300)).by_itself();
    let future = Mint::with(|params| valid(params, 300, 600)).by_itself();
    let pinned = [&own, &expired, &future].map(pin).to_vec();
    server.tls.replace_trust(&Trust { pinned, ..trust }).unwrap();
    assert_nobody(&server, &own, "a single certificate");
    assert_no_connection(&server, &expired, "expired");
    assert_no_connection(&server, &future, "not valid yet");
    assert_no_connection(&server, &Mint::good().by_itself(), "one that is not named");
    // The certificate without its key.
    let stolen = Minted { key: KeyPair::generate().unwrap(), params: own.params, chain: own.chain };
    assert_no_connection(&server, &stolen, "another key");
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let (server, authority) = server();
    assert!(server.tls.replace_trust(&Trust::default()).is_err());
    let broken = Trust { outside: vec![vec![1, 2, 3]], ..trust_from_pem(server.ca_pem.as_bytes()).unwrap() };
    assert!(server.tls.replace_trust(&broken).is_err());
    assert_served(&server, &Mint::good().by(&authority));
    // An authority that is taken back is taken back for the next connection.
    server.tls.replace_trust(&trust_from_pem(server.ca_pem.as_bytes()).unwrap()).unwrap();
    assert_no_connection(&server, &Mint::good().by(&authority), "an authority that is not trusted any more");
    let operator = config(&server, Some(&server.operator), &[&TLS13]);
    assert_eq!(Raw::with(&server, operator).get("sys/health").unwrap().status, 200);
}

#[test]
fn a_server_certificate_is_looked_at_before_it_is_shown() {
    let (server, authority) = server();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let now = now_ms();
    let fresh = server.vault.issue_server(&names, 3600).unwrap();
    let other = server.vault.issue_server(&names, 3600).unwrap();
    let client = authority.issue_client(&identity("ops/alice"), now, 3600).unwrap();
    let expired = authority.issue_server(&names, now - 7_200_000, 3600).unwrap();
    let future = authority.issue_server(&names, now + 7_200_000, 3600).unwrap();
    let replace = |cert: &str, key: &str| {
        server.tls.replace_server(cert.as_bytes(), key.as_bytes()).map_err(|error| error.to_string())
    };
    let broken_chain = format!("{}{}", fresh.cert_pem, authority.cert_pem());
    let wrong_order = format!("{}{}", server.ca_pem, fresh.cert_pem);
    for (cert, key, expected) in [
        (&*fresh.cert_pem, other.key_pem.reveal(), "do not belong together"),
        (&fresh.cert_pem[..200], fresh.key_pem.reveal(), "not PEM"),
        (&fresh.cert_pem, &fresh.key_pem.reveal()[..60], "not a PEM private key"),
        (&client.cert_pem, client.key_pem.reveal(), "not for servers"),
        (&expired.cert_pem, expired.key_pem.reveal(), "has expired"),
        (&future.cert_pem, future.key_pem.reveal(), "not valid yet"),
        (&broken_chain, fresh.key_pem.reveal(), "chain is out of order or incomplete"),
        (&wrong_order, fresh.key_pem.reveal(), "is an authority's"),
        ("", "", "not PEM"),
    ] {
        let error = replace(cert, key).unwrap_err();
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
    replace(&format!("{}{}", fresh.cert_pem, server.ca_pem), fresh.key_pem.reveal()).unwrap();
    let mut connection = Raw::connect(&server, &server.operator);
    assert_eq!(connection.get("sys/health").unwrap().status, 200);
    let shown = connection.0.conn.peer_certificates().unwrap();
    assert_eq!(shown[0], CertificateDer::from_pem_slice(fresh.cert_pem.as_bytes()).unwrap());
}
