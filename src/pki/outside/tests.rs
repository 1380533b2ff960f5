//! Tests of outside certificates: what is read, what is refused, and which chain counts.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, ExtendedKeyUsagePurpose as Eku,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const OID: &[u64] = &[1, 3, 6, 1, 4, 1, 99999, 7];

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap()
}

fn client() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "web-1");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "shop");
    params.subject_alt_names = vec![
        SanType::DnsName("web.example.org".try_into().unwrap()),
        SanType::Rfc822Name("ops@example.org".try_into().unwrap()),
        SanType::URI("spiffe://other.example/web".try_into().unwrap()),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![Eku::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(vec![0xab, 0xcd]));
    params
}

fn signed(params: &CertificateParams, by: &CertifiedIssuer<'_, KeyPair>) -> Vec<u8> {
    params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().to_vec()
}

fn alone(params: &CertificateParams) -> Result<OutsideFacts, OutsideError> {
    OutsideFacts::read(&signed(params, &root("r")), &[])
}

#[test]
fn facts_are_read() {
    let mut params = client();
    let mut extension = CustomExtension::from_oid_content(OID, vec![0x0c, 2, b'o', b'k']);
    params.custom_extensions.push(extension.clone());
    extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![0x04, 1, 7]);
    params.custom_extensions.push(extension);
    let root = root("r");
    let der = signed(&params, &root);
    let facts = OutsideFacts::read(&der, &[b"junk"]).unwrap();
    assert_eq!(facts.common_name.as_deref(), Some("web-1"));
    assert_eq!(facts.organizational_units, ["shop"]);
    assert_eq!(facts.dns_names, ["web.example.org"]);
    assert_eq!(facts.email_names, ["ops@example.org"]);
    assert_eq!(facts.uris, ["spiffe://other.example/web"]);
    assert_eq!((facts.serial_number.as_str(), facts.serial_hex.as_str()), ("43981", "ab:cd"));
    let issuer = parse(root.der()).unwrap();
    let id = issuer.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(colons(id.0)),
        _ => None,
    });
    assert_eq!(Some(facts.authority_key_id), id);
    assert_eq!(facts.key, KeyKind::P256);
    let text = &facts.extensions["1.3.6.1.4.1.99999.7"];
    assert_eq!((text.text.as_str(), text.hex.as_str()), ("ok", "0c026f6b"));
    assert_eq!(facts.extensions["1.2.3"].text, "", "an octet string is no text");
    assert_eq!((facts.fingerprint, facts.chain.len()), (sha256(&[&der]), 1));
}

#[test]
fn only_plain_client_certificates_are_read() {
    let check = |change: &dyn Fn(&mut CertificateParams), want: Option<OutsideError>| {
        let mut params = client();
        change(&mut params);
        assert_eq!(alone(&params).err(), want);
    };
    check(&|_| {}, None);
    check(&|p| p.key_usages.clear(), None);
    check(&|p| p.extended_key_usages.clear(), None);
    check(&|p| p.extended_key_usages.push(Eku::ServerAuth), None);
    check(&|p| p.distinguished_name = rcgen::DistinguishedName::new(), None);
    check(&|p| p.extended_key_usages = vec![Eku::ServerAuth], Some(OutsideError::Usage));
    check(&|p| p.extended_key_usages = vec![Eku::Any], Some(OutsideError::Usage));
    check(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment], Some(OutsideError::Usage));
    check(&|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), Some(OutsideError::Authority));
    check(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), Some(OutsideError::Authority));
    check(&|p| p.is_ca = IsCa::ExplicitNoCa, None);
    check(&|p| p.distinguished_name.push(DnType::CommonName, "a\nb"), Some(OutsideError::Names));
    check(
        &|p| p.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap()); 65],
        Some(OutsideError::TooMuch),
    );
    check(&|p| p.serial_number = Some(SerialNumber::from(vec![0x7f; 22])), Some(OutsideError::Malformed));
    let odd = |critical| {
        let mut extension = CustomExtension::from_oid_content(OID, vec![5, 0]);
        extension.set_criticality(critical);
        move |p: &mut CertificateParams| p.custom_extensions.push(extension.clone())
    };
    check(&odd(true), Some(OutsideError::Critical));
    check(&odd(false), None);
    let long = OutsideFacts::read(&signed(&client(), &root("r")), &[b"".as_slice(); MAX_CHAIN + 1]);
    assert_eq!(long.err(), Some(OutsideError::TooMuch));
}

#[test]
fn weak_and_strange_keys_are_refused() {
    let with = |algorithm: &'static SignatureAlgorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        OutsideFacts::read(client().self_signed(&key).unwrap().der(), &[]).map(|facts| facts.key)
    };
    assert_eq!(with(&rcgen::PKCS_ECDSA_P384_SHA384), Ok(KeyKind::P384));
    assert_eq!(with(&rcgen::PKCS_ECDSA_P521_SHA512), Ok(KeyKind::P521));
    assert_eq!(with(&rcgen::PKCS_ED25519), Ok(KeyKind::Ed25519));
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let der = client().self_signed(&rsa).unwrap().der().to_vec();
    assert_eq!(OutsideFacts::read(&der, &[]).unwrap().key, KeyKind::Rsa(2048));
    // P-256 (…3.1.7) becomes prime192v1-like (…3.1.1), and the curve of no standard.
    let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let mut curve = signed(&client(), &root("r"));
    let at = curve.windows(10).position(|w| w == p256).unwrap() + 9;
    curve[at] = 1;
    assert_eq!(OutsideFacts::read(&curve, &[]).err(), Some(OutsideError::Key));
}

/// One DER value with a length in the two-byte form or shorter.
fn der_value(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (high, low) {
        (0, 0..0x80) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [vec![tag], length, content.to_vec()].concat()
}

#[test]
fn the_size_of_an_rsa_key_is_counted_in_bits() {
    for (bits, want) in [
        (1024, None),
        (2040, None),
        (2047, None),
        (2048, Some(KeyKind::Rsa(2048))),
        (3072, Some(KeyKind::Rsa(3072))),
        (8192, Some(KeyKind::Rsa(8192))),
        (8193, None),
    ] {
        let mut modulus = vec![0xff; usize::div_ceil(bits, 8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        if modulus[0] & 0x80 != 0 {
            modulus.insert(0, 0);
        }
        let key = der_value(0x30, &[der_value(2, &modulus), der_value(2, &[1, 0, 1])].concat());
        let oid = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let spki = der_value(0x30, &[der_value(0x30, &oid), der_value(3, &[vec![0], key].concat())].concat());
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        assert_eq!(key_kind(&spki).ok(), want, "{bits}");
    }
}

#[test]
fn authorities_are_told_from_clients() {
    let good = root("r");
    assert_eq!(OutsideAuthority::read(good.der()).unwrap().key, KeyKind::P256);
    assert_eq!(is_authority(good.der()), Some(true));
    let leaf = signed(&client(), &good);
    assert_eq!(OutsideAuthority::read(&leaf).err(), Some(OutsideError::NotAuthority));
    assert_eq!(is_authority(&leaf), Some(false));
    let mut params = authority("no signing");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(OutsideAuthority::read(der.der()).err(), Some(OutsideError::NotAuthority));
}

#[test]
fn the_chain_must_end_at_this_anchor() {
    let root_a = root("same name");
    let twin = root("same name");
    let between = CertifiedIssuer::signed_by(authority("between"), KeyPair::generate().unwrap(), &root_a).unwrap();
    let direct = OutsideFacts::read(&signed(&client(), &root_a), &[]).unwrap();
    assert!(issued_under(&direct, root_a.der(), NOW_MS));
    assert!(!issued_under(&direct, twin.der(), NOW_MS), "another key under the same name");
    assert!(!issued_under(&direct, between.der(), NOW_MS));

    let leaf = signed(&client(), &between);
    let whole = OutsideFacts::read(&leaf, &[between.der()]).unwrap();
    assert!(issued_under(&whole, root_a.der(), NOW_MS));
    assert!(issued_under(&whole, between.der(), NOW_MS), "an intermediate may be what a role trusts");
    assert!(!issued_under(&OutsideFacts::read(&leaf, &[]).unwrap(), root_a.der(), NOW_MS));
    // The client sends the root of its choice along: it proves nothing.
    let foreign = root("foreign");
    let own_root = OutsideFacts::read(&signed(&client(), &foreign), &[foreign.der(), root_a.der()]).unwrap();
    assert!(!issued_under(&own_root, root_a.der(), NOW_MS));
    assert!(!issued_under(&direct, b"junk", NOW_MS) && !issued_under(&direct, &direct.der, NOW_MS));
}

#[test]
fn dates_of_leaf_and_anchor_count() {
    let mut old = authority("old");
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let old = CertifiedIssuer::self_signed(old, KeyPair::generate().unwrap()).unwrap();
    let facts = OutsideFacts::read(&signed(&client(), &old), &[]).unwrap();
    assert!(!issued_under(&facts, old.der(), NOW_MS), "the anchor has ended");
    let then_ms = 1_590_000_000_000;
    assert!(issued_under(&facts, old.der(), then_ms));

    let good = root("r");
    let mut short = client();
    (short.not_before, short.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let facts = OutsideFacts::read(&signed(&short, &good), &[]).unwrap();
    assert!(!issued_under(&facts, good.der(), NOW_MS) && !facts.valid_at(NOW_MS));
    assert!(issued_under(&facts, good.der(), then_ms) && facts.valid_at(then_ms));
}

#[test]
fn a_damaged_signature_proves_nothing() {
    let good = root("r");
    let mut der = signed(&client(), &good);
    let at = der.windows(5).position(|w| w == b"web-1").unwrap();
    der[at] = b'x';
    let facts = OutsideFacts::read(&der, &[]).unwrap();
    assert_eq!(facts.common_name.as_deref(), Some("xeb-1"));
    assert!(!issued_under(&facts, good.der(), NOW_MS));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(at in 0..600_usize, byte: u8, junk: Vec<u8>) {
        let mut der = sample();
        let at = at % der.len();
        der[at] = byte;
        for bytes in [der.as_slice(), &der[..at], &junk] {
            if let Ok(facts) = OutsideFacts::read(bytes, &[&junk]) {
                prop_assert!(facts.extensions.len() <= MAX_ITEMS);
                let _ = issued_under(&facts, bytes, NOW_MS);
            }
            let _ = (OutsideAuthority::read(bytes), subject_and_key(bytes), is_authority(bytes));
        }
    }
}

fn sample() -> Vec<u8> {
    use std::sync::OnceLock;
    static DER: OnceLock<Vec<u8>> = OnceLock::new();
    DER.get_or_init(|| signed(&client(), &root("r"))).clone()
}
