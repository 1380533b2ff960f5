//! Revocation lists, as a verifier outside reads them.

use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::identities::{HOUR_MS, Key, bundle, enroll, enrolled, holder, string};
use super::support::{Rig, START_MS, json};
use crate::core::{Caller, VaultError};
use crate::pki::AuthorityId;

/// What one list says.
#[derive(Debug, PartialEq, Eq)]
struct Says {
    this_s: u64,
    next_s: u64,
    number: u64,
    /// Serial numbers without leading zeros, and since when, sorted.
    entries: Vec<(String, u64)>,
}

/// Reads a list and believes it only when the authority signed it.
fn read(list: &[u8], authority: &[u8]) -> Says {
    let (rest, list) = CertificateRevocationList::from_der(list).expect("a list");
    let (_, authority) = X509Certificate::from_der(authority).expect("a certificate");
    assert!(rest.is_empty());
    assert_eq!(list.issuer().as_raw(), authority.subject().as_raw());
    list.verify_signature(authority.public_key()).expect("signed by the authority");
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).expect("after 1970");
    let entry = |entry: &x509_parser::revocation_list::RevokedCertificate<'_>| {
        (format!("{:x}", entry.serial()), seconds(entry.revocation_date))
    };
    let mut entries: Vec<_> = list.iter_revoked_certificates().map(entry).collect();
    entries.sort();
    Says {
        this_s: seconds(list.last_update()),
        next_s: seconds(list.next_update().expect("there")),
        number: list.crl_number().expect("there").iter_u64_digits().next().expect("not zero"),
        entries,
    }
}

fn ders(pem: &str) -> Vec<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).map(|pem| pem.expect("PEM").contents).collect()
}

/// What clients trust, DER, the authority that signs first.
fn authorities(rig: &Rig, reader: &Caller) -> Vec<Vec<u8>> {
    ders(rig.read(reader, "sys/strongroom/ca").expect("public")["bundle"].as_str().expect("PEM"))
}

/// The lists that somebody with a certificate gets.
fn lists(rig: &Rig, reader: &Caller) -> Vec<Vec<u8>> {
    ders(rig.read(reader, "sys/strongroom/crl").expect("public")["crl"].as_str().expect("PEM"))
}

/// The serial number of an identity's newest certificate, as in [`Says`].
fn serial(rig: &Rig, identity: &str) -> String {
    let shown = rig.read(&rig.operator(), &format!("sys/strongroom/identities/{identity}")).expect("there");
    shown["certificates"][0]["serial"].as_str().expect("text").trim_start_matches('0').to_owned()
}

fn sorted<const N: usize>(mut entries: [(String, u64); N]) -> Vec<(String, u64)> {
    entries.sort();
    entries.to_vec()
}

#[test]
fn a_list_is_signed_dated_numbered_and_has_all_that_count_for_nothing() {
    let rig = Rig::new();
    let operator = rig.operator();
    let reader = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    for identity in ["app/fine", "app/named", "app/all", "app/disabled"] {
        enrolled(&rig, identity);
    }
    let [named, all, disabled] = ["app/named", "app/all", "app/disabled"].map(|identity| serial(&rig, identity));
    let now_s = |after_ms: u64| (START_MS + 1_000 + after_ms) / 1_000;
    let authority = &authorities(&rig, &reader)[0];
    let get = || {
        let lists = lists(&rig, &reader);
        assert_eq!(lists.len(), 1);
        read(&lists[0], authority)
    };
    let empty = get();
    assert_eq!((empty.this_s, empty.next_s, &*empty.entries), (now_s(0), now_s(HOUR_MS), &[][..]));

    let body = serde_json::json!({ "certificate": named, "reason": "stolen" }).to_string();
    rig.write(&operator, "sys/strongroom/revoke/app/named", &body).expect("revoked");
    rig.clock.advance(10_000);
    rig.write(&operator, "sys/strongroom/revoke/app/all", "{}").expect("revoked");
    rig.clock.advance(10_000);
    rig.write(&operator, "sys/strongroom/disable/app/disabled", r#"{"reason":"test"}"#).expect("disabled");
    let full = get();
    // The mark that ends all is the next whole second, as certificates are dated.
    let wanted = [(named.clone(), now_s(0)), (all.clone(), now_s(11_000)), (disabled.clone(), now_s(20_000))];
    assert_eq!((full.this_s, full.next_s, full.entries), (now_s(20_000), now_s(20_000 + HOUR_MS), sorted(wanted)));

    // Who is let in again leaves the list, and a new certificate of a revoked identity is not on it.
    rig.write(&operator, "sys/strongroom/enable/app/disabled", "{}").expect("enabled");
    rig.clock.advance(10_000);
    enroll(&rig, &string(&rig, "app/all", ""), &Key::new()).expect("enrolled anew");
    let less = get();
    assert_eq!(less.entries, sorted([(named, now_s(0)), (all, now_s(11_000))]));

    // The number grows, whatever the clock does.
    let again = get();
    rig.clock.advance(HOUR_MS.wrapping_neg());
    let back = get();
    let numbers = [empty.number, full.number, less.number, again.number, back.number];
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // What has ended needs no list.
    rig.clock.advance(30 * HOUR_MS);
    assert_eq!(get().entries, []);
}

#[test]
fn every_authority_that_is_accepted_has_a_list() {
    let rig = Rig::new();
    let operator = rig.operator();
    let reader = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    enrolled(&rig, "app/old");
    let old_serial = serial(&rig, "app/old");
    let ca = |path: &str, body: &str| rig.write(&operator, &format!("sys/strongroom/ca/{path}"), body);
    let old = AuthorityId::of(&authorities(&rig, &reader)[0]);
    let id = json(&ca("prepare", "{}").expect("prepared"))["id"].as_str().expect("text").to_owned();
    let new = AuthorityId::parse(&id).expect("an id");
    let missing = |id| matches!(rig.vault.revocation_list(Some(id)), Err(VaultError::NotFound));
    assert!(missing(new) && missing(AuthorityId([7; 16])), "not accepted, and not there");
    for step in ["trust", "activate"] {
        ca(&format!("{id}/{step}"), r#"{"force":true}"#).expect("forced");
    }
    enrolled(&rig, "app/new");
    let new_serial = serial(&rig, "app/new");
    let revoked_s = (START_MS + 1_000) / 1_000;
    for identity in ["app/old", "app/new"] {
        rig.write(&operator, &format!("sys/strongroom/revoke/{identity}"), "{}").expect("revoked");
    }
    let [new_der, old_der] = authorities(&rig, &reader).try_into().expect("two");
    let list = |id| rig.vault.revocation_list(id).expect("made");
    assert_eq!(read(&list(None), &new_der).entries, [(new_serial.clone(), revoked_s)]);
    assert_eq!(read(&list(Some(new)), &new_der).entries, [(new_serial, revoked_s)]);
    assert_eq!(read(&list(Some(old)), &old_der).entries, [(old_serial, revoked_s)], "of the retiring one");
    assert_eq!(lists(&rig, &reader).len(), 2);
    ca(&format!("{}/remove", old.hex()), r#"{"force":true}"#).expect("removed");
    assert!(missing(old), "its key is gone, and nothing of it is accepted");
    assert_eq!(lists(&rig, &holder_of_new(&rig)).len(), 1);
    rig.vault.seal();
    assert!(matches!(rig.vault.revocation_list(None), Err(VaultError::Sealed)));
}

/// Somebody with a certificate of the authority that signs.
fn holder_of_new(rig: &Rig) -> Caller {
    let enrolled = enroll(rig, &string(rig, "app/new", ""), &Key::new()).expect("enrolled");
    Caller { bundle: bundle(rig), ..holder(rig, &enrolled.certificate) }
}

#[test]
fn strangers_share_a_list_for_a_minute() {
    let rig = Rig::new();
    enrolled(&rig, "app/web");
    let get = || rig.vault.revocation_list(None).expect("made");
    let first = get();
    rig.write(&rig.operator(), "sys/strongroom/revoke/app/web", "{}").expect("revoked");
    rig.clock.advance(59_999);
    assert_eq!(get(), first, "signing once for each stranger");
    rig.clock.advance(1);
    let next = get();
    let authority = &authorities(&rig, &rig.operator())[0];
    assert_eq!((read(&first, authority).entries.len(), read(&next, authority).entries.len()), (0, 1));
    // A clock that goes back makes no list last.
    rig.clock.advance(HOUR_MS.wrapping_neg());
    assert_ne!(get(), next);
}
