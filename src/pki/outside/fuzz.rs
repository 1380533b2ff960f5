//! What must hold for revocation lists, whatever the bytes (feature `testing`). An input counts as a list and as edits to a
//! genuine one.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519, RevocationReason, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::list::{MAX_LIST_ENTRIES, serial};
use super::{CertificateName, MAX_LIST_BYTES, RevocationList, decimal, signed_by};
use crate::testing::alter::alter;

/// A PKCS#8 wrapping of an Ed25519 seed (RFC 8410, 7), so that every run has the same bytes.
const KEY: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

struct Genuine {
    authority: Vec<u8>,
    lists: Vec<Vec<u8>>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let key = PrivatePkcs8KeyDer::from([KEY.as_slice(), &[7; 32]].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).expect("a seed is a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "outside root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    let authority = CertifiedIssuer::self_signed(params, key).expect("the parameters are complete");
    let serials: [&[&[u8]]; 3] = [&[], &[&[5]], &[&[0x7f, 1], &[0xff], &[1; 19], &[5]]];
    Genuine {
        authority: authority.der().to_vec(),
        lists: serials.iter().map(|serials| list(&authority, serials)).collect(),
    }
});

/// A list of certificates with these serial numbers.
pub(super) fn list(by: &CertifiedIssuer<'_, KeyPair>, serials: &[&[u8]]) -> Vec<u8> {
    let entry = |serial: &&[u8]| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date_time_ymd(2025, 1, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: Some(date_time_ymd(2024, 1, 1)),
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 2, 1),
        next_update: date_time_ymd(2025, 3, 1),
        crl_number: SerialNumber::from_slice(&[1, 0]),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(by).expect("the parameters are complete").der().to_vec()
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    GENUINE.lists.iter().cloned().chain([GENUINE.authority.clone(), vec![0, 80, 4, 1], vec![0, 1, 3, 0x82]]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let accepted = judged(data);
    if let Some(name) = CertificateName::of(data) {
        assert!(name.issuer.len() <= data.len());
    }
    let genuine = &GENUINE.lists[data.len() % GENUINE.lists.len()];
    let altered = alter(genuine, data);
    judged(&altered);
    let proved = signed_by(&altered, &GENUINE.authority).is_ok();
    assert_eq!(proved, altered == *genuine, "the signature stands for these bytes and no others");
    accepted
}

fn judged(der: &[u8]) -> bool {
    let Ok(list) = RevocationList::read(der) else { return false };
    assert_eq!(RevocationList::read(der).as_ref(), Ok(&list), "reading is stable");
    assert!(der.len() <= MAX_LIST_BYTES && list.entries().len() <= MAX_LIST_ENTRIES);
    // An entry is a sequence of a number and a date: more than 16 bytes.
    assert!(list.entries().len() * 16 <= der.len() && list.issuer.len() <= der.len(), "memory is bounded by the input");
    assert!(list.entries().windows(2).all(|pair| pair[0].serial < pair[1].serial), "sorted, each once");
    assert!(list.entries().iter().all(|entry| list.names(&entry.serial)));
    for entry in list.entries() {
        let digits = decimal(&entry.serial);
        assert!(!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()));
    }
    assert!(!list.issuer_text.chars().any(char::is_control));
    let longer = [der, &[0]].concat();
    assert!(RevocationList::read(&longer).is_err(), "nothing may follow a list");
    assert!(der.split_last().is_none_or(|(_, cut)| RevocationList::read(cut).is_err()), "nothing may be cut off");
    // Where the general reader of X.509 takes the list, too, it finds the same in it.
    if let Ok((rest, theirs)) = CertificateRevocationList::from_der(der) {
        let mut serials: Vec<_> =
            theirs.iter_revoked_certificates().filter_map(|entry| serial(entry.raw_serial())).collect();
        serials.sort_unstable();
        serials.dedup();
        assert!(rest.is_empty() && list.entries().iter().map(|entry| entry.serial).eq(serials), "the same numbers");
        let updated = u64::try_from(theirs.last_update().timestamp()).unwrap_or(0);
        assert_eq!(list.this_update_s, updated);
        // That reader cuts a name short where it cannot go on.
        assert!(list.issuer.starts_with(theirs.issuer().as_raw()));
    }
    true
}
