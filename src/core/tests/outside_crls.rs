//! Revocation lists of outside PKIs: whom they make nobody, when, and which ones are taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Eku, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use serde_json::json;

use crate::api::error::Reason;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::barrier::{MountId, Tx};
use crate::core::certificates::automatic::perform;
use crate::core::commit::change::Done;
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::{ApprovalRules, Caller, Guarded, IdentityPattern, VaultError};
use crate::pki::outside::OutsideFacts;

use super::roles::{Ca, for_ca, role, works};
use super::support::{DOMAIN, Rig, json as body_of, wait};

fn named(name: &str, serial: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2026, 1, 1));
    params.serial_number = Some(SerialNumber::from(vec![serial]));
    params
}

/// An authority that may sign lists, under another one or by itself.
fn authority(name: &str, serial: u8, above: Option<&Ca>) -> Ca {
    let mut params = named(name, serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    match above {
        Some(above) => Ca::signed_by(params, key, above),
        None => CertifiedIssuer::self_signed(params, key),
    }
    .expect("an authority")
}

/// The caller that TLS would make of a certificate of `ca`, sent together with `above`.
fn client(rig: &Rig, ca: &Ca, name: &str, serial: u8, above: &[&Ca]) -> Caller {
    let mut params = named(name, serial);
    params.extended_key_usages = vec![Eku::ClientAuth];
    let certificate = params.signed_by(&KeyPair::generate().expect("a key"), ca).expect("signed");
    let above: Vec<&[u8]> = above.iter().map(|ca| &**ca.der()).collect();
    let facts = OutsideFacts::read(certificate.der(), &above).expect("a client's certificate");
    let caller = Caller::outside(facts, DOMAIN, "192.0.2.1:4711".to_owned()).expect("legal");
    Caller { request_id: rig.operator().request_id, ..caller }
}

/// A list of the first day of that month of 2025, good for one month.
fn list(ca: &Ca, month: u8, serials: &[u8]) -> String {
    let entry = |serial: &u8| RevokedCertParams {
        serial_number: SerialNumber::from(vec![*serial]),
        revocation_time: date_time_ymd(2025, 1, 2),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, month, 1),
        next_update: date_time_ymd(2025, month + 1, 1),
        crl_number: SerialNumber::from(vec![month]),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).expect("signed").pem().expect("PEM")
}

fn upload(rig: &Rig, name: &str, list: &str) -> Result<Vec<String>, VaultError> {
    let body = json!({ "crl": list }).to_string();
    rig.write(&rig.operator(), &format!("auth/cert/crls/{name}"), &body).map(|reply| reply.warnings)
}

fn remove(rig: &Rig, name: &str) {
    rig.ask(&rig.operator(), Operation::Delete, &format!("auth/cert/crls/{name}"), "").expect("deleted");
}

#[track_caller]
fn assert_bad<T>(result: Result<T, VaultError>, word: &str) {
    match result {
        Err(VaultError::BadRequest(text)) => assert!(text.contains(word), "{text}"),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("taken"),
    }
}

#[test]
fn a_listed_certificate_is_nobody_with_and_without_a_token() {
    let rig = Rig::new();
    let (ca, twin) = (authority("outside root", 1, None), authority("another root", 1, None));
    role(&rig, "web", &for_ca(&ca)).expect("written");
    role(&rig, "twin", &for_ca(&twin)).expect("written");
    let (five, six) = (client(&rig, &ca, "web-1", 5, &[]), client(&rig, &ca, "web-1", 6, &[]));
    let namesake = client(&rig, &twin, "web-1", 5, &[]);
    let login = rig.write(&five, "auth/cert/login", "").expect("logged in").auth.expect("a token");
    let login: serde_json::Value = serde_json::from_slice(&login).expect("JSON");
    let token = login["client_token"].as_str().expect("a text");
    let holder = Caller { token: Some(Arc::new(token.into())), ..five.clone() };
    assert!([&five, &six, &namesake, &holder].iter().all(|caller| works(&rig, caller)));

    assert_eq!(upload(&rig, "Root", &list(&ca, 6, &[5, 77])).expect("taken"), [""; 0]);
    assert!(!works(&rig, &five) && !works(&rig, &holder), "at once, on what was proved a moment ago");
    assert!(works(&rig, &six), "another number");
    assert!(works(&rig, &namesake), "the number of another issuer");
    for path in ["auth/cert/login", "auth/token/renew-self"] {
        assert!(matches!(rig.write(&holder, path, "{}"), Err(VaultError::NotAdmitted(Reason::Revoked))), "{path}");
    }
    let by_name = rig.write(&five, "auth/cert/login", r#"{"name":"web"}"#);
    assert!(matches!(by_name, Err(VaultError::NotAdmitted(Reason::Revoked))));
    let line = rig.log().into_iter().rev().find(|line| line["path"] == "auth/cert/login").expect("logged");
    assert_eq!(line["rule"], "certificate-on-revocation-list", "{line}");

    let shown = rig.read(&rig.operator(), "auth/cert/crls/root").expect("shown");
    let since = json!({ "revoked": "2025-01-02T00:00:00Z" });
    assert_eq!(shown["serials"], json!({ "5": since, "77": since }));
    assert_eq!((&shown["issuer"], &shown["number"]), (&json!("CN=outside root"), &json!("6")));
    assert_eq!((&shown["next_update"], &shown["overdue"]), (&json!("2025-07-01T00:00:00Z"), &json!(false)));
    assert_eq!((&shown["cdp"], &shown["count"]), (&json!(null), &json!(2)));
    let listed = rig.ask(&rig.operator(), Operation::List, "auth/cert/crls", "").expect("listed");
    assert_eq!(body_of(&listed)["keys"], json!(["root"]));
    let roles = rig.ask(&rig.operator(), Operation::List, "auth/cert/certs", "").expect("listed");
    assert_eq!(body_of(&roles)["keys"], json!(["twin", "web"]), "a list is no role");

    // It outlives the process, its date, and the role that it came in by.
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    assert!(!works(&rig, &five) && works(&rig, &six));
    rig.clock.advance(40 * 86_400_000);
    assert!(!works(&rig, &five) && works(&rig, &six), "overdue");
    let later = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    assert_eq!(rig.read(&later, "auth/cert/crls/root").expect("shown")["overdue"], true);
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    let operator = rig.operator();
    rig.ask(&operator, Operation::Delete, "auth/cert/certs/web", "").expect("deleted");
    role(&rig, "again", &for_ca(&ca)).expect("written");
    assert!(!works(&rig, &five) && works(&rig, &six));
    remove(&rig, "root");
    assert!(works(&rig, &five) && matches!(rig.read(&operator, "auth/cert/crls/root"), Err(VaultError::NotFound)));
}

#[test]
fn one_certificate_that_a_role_names_is_refused_too() {
    let rig = Rig::new();
    let ca = authority("outside root", 1, None);
    let five = client(&rig, &ca, "web-1", 5, &[]);
    let crate::core::Origin::Outside(outside) = &five.origin else { panic!("an outsider") };
    role(&rig, "pinned", &json!({ "certificate": pem(&outside.facts().der), "policies": "app" })).expect("written");
    role(&rig, "ca", &json!({ "certificate": ca.pem(), "allowed_names": "none", "policies": "app" })).expect("written");
    assert!(works(&rig, &five));
    upload(&rig, "root", &list(&ca, 6, &[5])).expect("taken");
    assert!(!works(&rig, &five));
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn nobody_is_proved_over_a_listed_intermediate() {
    let rig = Rig::new();
    let root = authority("outside root", 1, None);
    let (first, second) = (authority("first", 2, Some(&root)), authority("second", 3, Some(&root)));
    role(&rig, "web", &for_ca(&root)).expect("written");
    let under_first = client(&rig, &first, "web-1", 5, &[&first]);
    let under_second = client(&rig, &second, "web-1", 5, &[&second]);
    // What is sent along and not needed proves nothing, and takes nothing away.
    let cluttered = client(&rig, &second, "web-1", 6, &[&first, &second]);
    let direct = client(&rig, &root, "web-1", 7, &[&first]);
    for caller in [&under_first, &under_second, &cluttered, &direct] {
        assert!(works(&rig, caller));
    }
    upload(&rig, "root", &list(&root, 6, &[2])).expect("taken");
    assert!(!works(&rig, &under_first));
    for caller in [&under_second, &cluttered, &direct] {
        assert!(works(&rig, caller));
    }
    // Naming it in a role does not bring it back.
    let both = format!("{}{}", root.pem(), first.pem());
    let fields = json!({ "certificate": both, "allowed_common_names": "web-*", "policies": "app" });
    role(&rig, "both", &fields).expect("written");
    assert!(!works(&rig, &under_first) && !works(&rig, &client(&rig, &first, "web-1", 8, &[])));
    assert!(works(&rig, &under_second));
    // Its own list is taken all the same, now that a role names it: more lists only take away.
    upload(&rig, "first", &list(&first, 6, &[9])).expect("taken");
    remove(&rig, "root");
    assert!(works(&rig, &under_first) && !works(&rig, &client(&rig, &first, "web-1", 9, &[])));
}

#[test]
fn open_connections_of_the_listed_are_closed_and_no_others() {
    let rig = Rig::new();
    let root = authority("outside root", 1, None);
    let between = authority("between", 2, Some(&root));
    role(&rig, "web", &for_ca(&root)).expect("written");
    let callers = [
        (client(&rig, &root, "web-1", 5, &[]), true),
        (client(&rig, &between, "web-1", 5, &[&between]), true),
        (client(&rig, &root, "web-1", 6, &[]), false),
        // No role admits it, so there is nothing to keep it for.
        (client(&rig, &root, "db-1", 7, &[]), true),
        (rig.admit("app/own", "app", super::roles::APP), false),
    ];
    let enter = |caller: &Caller| rig.vault.sessions().enter(Arc::new(caller.clone()), 9, 9).expect("room");
    let mut open: Vec<_> = callers.iter().map(|(caller, ends)| (enter(caller), *ends)).collect();
    upload(&rig, "root", &list(&root, 6, &[2, 5])).expect("taken");
    for (session, ends) in &mut open {
        let closed = wait(async { tokio::time::timeout(Duration::from_millis(50), session.closed()).await.is_ok() });
        assert_eq!(closed, *ends, "{:?}", session.caller());
    }
}

#[test]
fn only_proved_and_newer_lists_are_taken() {
    let rig = Rig::new();
    let (ca, impostor) = (authority("outside root", 1, None), authority("outside root", 1, None));
    assert_bad(upload(&rig, "root", &list(&ca, 6, &[5])), "write the role");
    role(&rig, "web", &for_ca(&ca)).expect("written");
    assert_bad(upload(&rig, "root", &list(&impostor, 6, &[5])), "not signed");
    assert_bad(upload(&rig, "root", &list(&authority("x", 1, None), 6, &[5])), "write the role");
    let five = client(&rig, &ca, "web-1", 5, &[]);
    assert!(works(&rig, &five));
    let overdue = upload(&rig, "root", &list(&ca, 2, &[5])).expect("taken");
    assert!(overdue.len() == 1 && overdue[0].contains("has expired"), "{overdue:?}");
    assert!(!works(&rig, &five));
    // Two authorities of one name: each list is proved by the one that made it, and each counts.
    role(&rig, "second", &for_ca(&impostor)).expect("written");
    upload(&rig, "second", &list(&impostor, 6, &[6])).expect("taken");
    assert!(!works(&rig, &client(&rig, &ca, "web-1", 6, &[])));
    for other in [&impostor, &ca] {
        assert_bad(
            upload(&rig, if other.der() == ca.der() { "second" } else { "root" }, &list(other, 6, &[])),
            "another key",
        );
    }
    upload(&rig, "root", &list(&ca, 5, &[])).expect("newer");
    assert!(works(&rig, &five), "its issuer has taken it back");
    assert_bad(upload(&rig, "root", &list(&ca, 4, &[5])), "newer list");
    assert!(works(&rig, &five));

    let body = json!({ "url": "http://pki.example/crl", "crl": list(&ca, 6, &[]) }).to_string();
    assert_bad(rig.write(&rig.operator(), "auth/cert/crls/root", &body), "contacts no other server");
    assert_bad(upload(&rig, "root", "AAAA"), "malformed");
    assert_bad(upload(&rig, "-root", &list(&ca, 6, &[])), "list's name");
    assert_bad(rig.write(&rig.operator(), "auth/cert/crls/root", "{}"), "is required");
    let stranger = rig.admit("app/other", "app", super::roles::APP);
    assert!(matches!(rig.read(&stranger, "auth/cert/crls/root"), Err(VaultError::Forbidden)));
    let refused = rig.ask(&stranger, Operation::Delete, "auth/cert/crls/root", "");
    assert!(matches!(refused, Err(VaultError::Forbidden)));
    for n in 2..crate::core::state::outside_crls::MAX_LISTS {
        upload(&rig, &format!("l{n}"), &list(&ca, 6, &[])).expect("room");
    }
    assert_bad(upload(&rig, "more", &list(&ca, 6, &[])), "already 64");
    upload(&rig, "root", &list(&ca, 6, &[5])).expect("one that is there is replaced");
}

#[test]
fn taking_somebody_off_a_list_may_need_another_operator() {
    let mut rig = Rig::new();
    let ca = authority("outside root", 1, None);
    let admins = json!({ "certificate": ca.pem(), "allowed_common_names": "root-*", "policies": "admin" });
    role(&rig, "web", &for_ca(&ca)).expect("written");
    upload(&rig, "root", &list(&ca, 5, &[5])).expect("taken");
    remove(&rig, "root");
    role(&rig, "admins", &admins).expect("written");
    rig.vault.seal();
    rig.configure(|settings| {
        let approvers = vec![IdentityPattern::parse("ops/*", DOMAIN).expect("a pattern")];
        let rules = ApprovalRules::new(2, approvers, BTreeSet::from(Guarded::ALL), 3_600).expect("legal");
        settings.approvals = Some(rules.into());
    });
    rig.unseal().expect("unseals");
    let admin = client(&rig, &ca, "root-1", 5, &[]);
    let may = |rig: &Rig| rig.read(&admin, "sys/policies/acl/admin").is_ok();
    assert!(may(&rig));
    upload(&rig, "root", &list(&ca, 5, &[5])).expect("taking away does not wait");
    assert!(!may(&rig));
    let refused = rig.ask(&rig.operator(), Operation::Delete, "auth/cert/crls/root", "");
    assert!(matches!(refused, Err(VaultError::NeedsApproval { .. })));
    assert!(!may(&rig));
}

#[test]
fn a_list_that_cannot_be_read_lets_no_outsider_in() {
    let rig = Rig::new();
    let ca = authority("outside root", 1, None);
    role(&rig, "web", &for_ca(&ca)).expect("written");
    let (five, own) = (client(&rig, &ca, "web-1", 5, &[]), rig.admit("app/own", "app", super::roles::APP));
    let damage = |tx: &mut Tx<'_>, _: &Snapshot, _| {
        tx.put_entry(MountId::CERT_ROLES, "crl/root", b"\x02of a newer version", 0)?;
        Ok(((), Done::touching(Reply::none(), vec![Touch::List("root".to_owned())])))
    };
    perform(&rig.vault, "auth/cert/crls/root", "test", damage).expect("written");
    let rig = rig.restart();
    rig.unseal().expect("unseals all the same");
    assert!(!works(&rig, &five) && works(&rig, &own));
    assert!(matches!(rig.read(&rig.operator(), "auth/cert/crls/root"), Err(VaultError::Integrity)));
    assert_bad(upload(&rig, "root", &list(&ca, 6, &[])), "delete it first");
    remove(&rig, "root");
    assert!(works(&rig, &five));
}
