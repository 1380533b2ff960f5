//! Tests of revocation lists: what is read, what is refused by name, and whose signature counts.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SignatureAlgorithm,
};

use super::*;
use crate::pki::outside::fuzz::list;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, usages: &[KeyUsagePurpose], algorithm: &'static SignatureAlgorithm) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    Ca::self_signed(params, KeyPair::generate_for(algorithm).unwrap()).unwrap()
}

fn root(name: &str) -> Ca {
    authority(name, &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign], &rcgen::PKCS_ECDSA_P256_SHA256)
}

fn number(bytes: &[u8]) -> Serial {
    serial(bytes).unwrap()
}

#[test]
fn a_list_is_read() {
    let ca = root("outside root");
    let der = list(&ca, &[&[0x7f, 1], &[0xff], &[5], &[5]]);
    let read = RevocationList::read(&der).unwrap();
    assert_eq!((read.number.as_deref(), &*read.issuer_text), (Some("256"), "CN=outside root"));
    assert_eq!((read.this_update_s, read.next_update_s), (1_738_368_000, Some(1_740_787_200)));
    assert_eq!(read.entries().len(), 3, "each once");
    assert!(read.entries().iter().all(|entry| entry.since_s == 1_735_689_600));
    assert!([&[5][..], &[0, 0xff], &[0x7f, 1]].iter().all(|serial| read.names(&number(serial))));
    assert!(!read.names(&number(&[6])) && !read.names(&number(&[1, 0x7f])));
    assert_eq!(decimal(&number(&[0x7f, 1])), "32513");
    let name = CertificateName::of(ca.der()).unwrap();
    assert_eq!(name.issuer, read.issuer, "as in the certificates of that issuer");
    assert!(RevocationList::read(&list(&ca, &[])).unwrap().entries().is_empty());
}

#[test]
fn only_its_issuer_signs_a_list() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let both = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (ca, other) = (authority("r", &both, algorithm), authority("r", &both, algorithm));
        let mut der = list(&ca, &[&[5]]);
        assert_eq!(signed_by(&der, ca.der()), Ok(()));
        assert_eq!(signed_by(&der, other.der()), Err(ListError::Signature));
        let flipped = der.len() - 100;
        der[flipped] ^= 1;
        assert!(signed_by(&der, ca.der()).is_err());
    }
    // The same key, in a certificate that is not for lists, and in one that is no authority's.
    let key = KeyPair::generate().unwrap();
    let (pem, mut params) = (key.serialize_pem(), CertificateParams::default());
    let ca = {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca::self_signed(params.clone(), key).unwrap()
    };
    let der = list(&ca, &[&[5]]);
    assert_eq!(signed_by(&der, ca.der()), Ok(()), "no key usage allows everything");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let silent = params.self_signed(&KeyPair::from_pem(&pem).unwrap()).unwrap();
    assert_eq!(signed_by(&der, silent.der()), Err(ListError::Usage));
    (params.is_ca, params.key_usages) = (IsCa::NoCa, Vec::new());
    let leaf = params.self_signed(&KeyPair::from_pem(&pem).unwrap()).unwrap();
    assert_eq!(signed_by(&der, leaf.der()), Err(ListError::Signature));
}

/// One value of DER.
fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut der = vec![tag];
    match content.len() {
        short @ 0..=0x7f => der.push(u8::try_from(short).unwrap()),
        long => {
            let digits = long.to_be_bytes();
            let digits = &digits[digits.iter().position(|digit| *digit != 0).unwrap()..];
            der.push(0x80 | u8::try_from(digits.len()).unwrap());
            der.extend_from_slice(digits);
        }
    }
    der.extend(content);
    der
}

fn extension(oid: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let flag = if critical { value(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    value(SEQUENCE, &[&value(OID, &[oid]), &flag, &value(OCTETS, &[content])])
}

fn entry(serial: &[u8], extensions: &[u8]) -> Vec<u8> {
    let date = value(0x17, &[b"250101000000Z"]);
    let extensions = if extensions.is_empty() { Vec::new() } else { value(SEQUENCE, &[extensions]) };
    value(SEQUENCE, &[&value(INTEGER, &[serial]), &date, &extensions])
}

/// A list that nobody signed.
fn built(entries: &[u8], extensions: &[u8]) -> Vec<u8> {
    let algorithm = value(SEQUENCE, &[&value(OID, &[&[0x2b, 0x65, 0x70]])]);
    let cn = value(SEQUENCE, &[&value(OID, &[&[0x55, 4, 3]]), &value(0x0c, &[b"r"])]);
    let issuer = value(SEQUENCE, &[&value(0x31, &[&cn])]);
    let revoked = if entries.is_empty() { Vec::new() } else { value(SEQUENCE, &[entries]) };
    let extensions = if extensions.is_empty() { Vec::new() } else { value(0xa0, &[&value(SEQUENCE, &[extensions])]) };
    let date = value(0x17, &[b"250101000000Z"]);
    let content = value(SEQUENCE, &[&value(INTEGER, &[&[1]]), &algorithm, &issuer, &date, &revoked, &extensions]);
    value(SEQUENCE, &[&content, &algorithm, &value(BITS, &[&[0], &[7; 64]])])
}

const fn id_ce(number: u8) -> [u8; 3] {
    [0x55, 0x1d, number]
}

#[test]
fn what_needs_another_list_is_refused_by_name() {
    let good = RevocationList::read(&built(&entry(&[5], &[]), &[])).unwrap();
    assert!(good.names(&number(&[5])) && good.next_update_s.is_none() && good.number.is_none());
    let whole = |oid: &[u8], critical, content: &[u8]| {
        RevocationList::read(&built(&entry(&[5], &[]), &extension(oid, critical, content))).map(drop)
    };
    let point = |fields: &[u8]| whole(&id_ce(DISTRIBUTION_POINT), true, &value(SEQUENCE, &[fields]));
    for critical in [true, false] {
        assert_eq!(whole(&id_ce(DELTA), critical, &value(INTEGER, &[&[1]])), Err(ListError::Delta));
    }
    assert_eq!(point(&[0x84, 1, 0xff]), Err(ListError::Indirect));
    assert_eq!(point(&[0x84, 1, 1]), Err(ListError::Indirect));
    assert_eq!(point(&[0x85, 1, 0xff]), Err(ListError::Attributes));
    assert_eq!(point(&[0x81, 1, 0xff]), Ok(()), "a list of some certificates says nothing wrong about them");
    assert_eq!(point(&[0x84, 1, 0]), Ok(()));
    assert_eq!(point(&[0x86, 0]), Err(ListError::Malformed));
    assert_eq!(whole(&[0x2a, 3], true, &[]), Err(ListError::Critical));
    assert_eq!(whole(&[0x2a, 3], false, &[]), Ok(()));

    let one = |oid: &[u8], critical| {
        RevocationList::read(&built(&entry(&[5], &extension(oid, critical, &[])), &[])).map(drop)
    };
    assert_eq!(one(&id_ce(CERTIFICATE_ISSUER), false), Err(ListError::Indirect));
    assert_eq!((one(&[0x2a, 3], true), one(&[0x2a, 3], false)), (Err(ListError::Critical), Ok(())));
    assert_eq!(one(&id_ce(REASON), true), Ok(()));
}

#[test]
fn sizes_are_bounded() {
    let entries: Vec<u8> = (0..=u16::MAX / 2).flat_map(|n| entry(&n.to_be_bytes(), &[])).collect();
    // Short numbers, so that the number of entries is what is looked at.
    let full = built(&entries, &[]);
    assert!(full.len() <= MAX_LIST_BYTES, "{}", full.len());
    assert_eq!(RevocationList::read(&full).unwrap().entries().len(), MAX_LIST_ENTRIES);
    let more = [entries, entry(&[0x7f, 0xff, 0xff], &[])].concat();
    assert_eq!(RevocationList::read(&built(&more, &[])).err(), Some(ListError::TooMany));
    assert_eq!(RevocationList::read(&vec![0x30; MAX_LIST_BYTES + 1]).err(), Some(ListError::TooLong));
    assert_eq!((serial(&[1; 20]).is_some(), serial(&[1; 21]).is_some(), serial(&[])), (true, false, None));
    let twice = [extension(&id_ce(REASON), false, &[]), extension(&id_ce(REASON), false, &[])].concat();
    assert_eq!(RevocationList::read(&built(&entry(&[5], &twice), &[])).err(), Some(ListError::Malformed));
    let mut trailing = built(&[], &[]);
    trailing.push(0);
    assert_eq!(RevocationList::read(&trailing).err(), Some(ListError::Malformed));
}

proptest! {
    #[test]
    fn reading_is_total(bytes: Vec<u8>) {
        let _ = RevocationList::read(&bytes);
        let _ = CertificateName::of(&bytes);
        prop_assert!(signed_by(&bytes, &bytes).is_err());
    }

    /// A list with some bytes changed is read or refused, and never proved.
    #[test]
    fn damage_is_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4), cut in 0..40_usize) {
        static CA: std::sync::OnceLock<Ca> = std::sync::OnceLock::new();
        let ca = CA.get_or_init(|| root("r"));
        let good = list(ca, &[&[5], &[1, 2, 3]]);
        let mut der = good.clone();
        for (at, by) in changes {
            let at = at.index(der.len());
            der[at] ^= by;
        }
        der.truncate(der.len() - cut);
        let _ = RevocationList::read(&der);
        prop_assert!(der == good || signed_by(&der, ca.der()).is_err());
    }

    /// What another writer of the format put in is what is found.
    #[test]
    fn numbers_survive(serials in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..20)) {
        static CA: std::sync::OnceLock<Ca> = std::sync::OnceLock::new();
        let ca = CA.get_or_init(|| root("r"));
        let slices: Vec<&[u8]> = serials.iter().map(Vec::as_slice).collect();
        let read = RevocationList::read(&list(ca, &slices)).unwrap();
        prop_assert!(serials.iter().all(|wanted| read.names(&number(wanted))));
        prop_assert!(read.entries().is_sorted());
    }
}
