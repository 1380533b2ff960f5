//! The life of a certificate: enrolled, renewed, revoked, under one authority after the other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::api::enroll::{Certified, EnrollRequest, GraceRequest};
use crate::api::error::Reason;
use crate::api::request::Operation;
use crate::core::{Caller, Channel, Origin, VaultError};
use crate::enroll::{EnrollString, grace_message};
use crate::pki::{self, AuthorityId, peer};

use super::support::{DOMAIN, KEY_FILE, Rig, json, wait};

pub(super) const HOUR_MS: u64 = 3_600_000;

/// The connection of everybody who has no certificate.
pub(super) const CHANNEL: Channel =
    Channel { exporter: [9; 32], remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 4711) };

/// A key of a client, and a request for it.
pub(super) struct Key {
    pub pair: rcgen::KeyPair,
    pub csr: String,
}

impl Key {
    pub(super) fn new() -> Self {
        let pair = rcgen::KeyPair::generate().expect("a key");
        let csr = rcgen::CertificateParams::default().serialize_request(&pair).expect("a request");
        Self { csr: csr.pem().expect("PEM"), pair }
    }

    pub(super) fn body(&self) -> String {
        serde_json::json!({ "csr": self.csr }).to_string()
    }
}

/// The caller that TLS would make of a certificate.
pub(super) fn holder(rig: &Rig, pem: &str) -> Caller {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let found = peer::inspect(&der, DOMAIN).expect("one of ours");
    let trust = rig.vault.trust().borrow().clone();
    Caller {
        identity: std::sync::Arc::new(found.identity),
        origin: Origin::Vault(trust.signer_of(&der).unwrap_or(AuthorityId([0; 16]))),
        fingerprint: found.fingerprint,
        not_before_ms: found.not_before_ms,
        not_after_ms: found.not_after_ms,
        bundle: bundle(rig),
        ..rig.caller("nobody")
    }
}

/// The bundle that somebody up to date has.
pub(super) fn bundle(rig: &Rig) -> Option<[u8; 16]> {
    let reader = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let id = rig.read(&reader, "sys/strongroom/ca").expect("public")["id"].clone();
    AuthorityId::parse(id.as_str().expect("text")).map(|id| id.0)
}

pub(super) fn string(rig: &Rig, identity: &str, more: &str) -> EnrollString {
    let body = format!(r#"{{"addresses":["vault.example:8201"]{more}}}"#);
    let reply = rig.write(&rig.operator(), &format!("sys/strongroom/enrollments/{identity}"), &body).expect("made");
    EnrollString::parse(json(&reply)["string"].as_str().expect("text")).expect("legal")
}

pub(super) fn attempt(string: &EnrollString, key: &Key) -> EnrollRequest {
    let csr = pki::read_csr(&key.csr).expect("legal");
    let proof = string.proof_key().proof(&CHANNEL.exporter, &csr.der);
    EnrollRequest { id: *string.id(), csr: key.csr.clone(), proof }
}

pub(super) fn enroll(rig: &Rig, string: &EnrollString, key: &Key) -> Result<Certified, VaultError> {
    wait(rig.vault.enroll(attempt(string, key), CHANNEL))
}

/// What the holder of a certificate that has ended sends.
pub(super) fn late(certificate: &str, signer: &Key, next: &Key) -> GraceRequest {
    let csr = pki::read_csr(&next.csr).expect("legal");
    let message = grace_message(&CHANNEL.exporter, &csr.der);
    let proof = rcgen::SigningKey::sign(&signer.pair, &message).expect("signed");
    GraceRequest { certificate: certificate.to_owned(), csr: next.csr.clone(), proof, scheme: 0x0403 }
}

/// A registered identity with its first certificate.
pub(super) fn enrolled(rig: &Rig, identity: &str) -> (Key, Certified) {
    rig.admit(identity, "app", r#"path "secret/data/app/*" { capabilities = ["create", "update", "read"] }"#);
    let key = Key::new();
    let enrolled = enroll(rig, &string(rig, identity, ""), &key).expect("enrolled");
    (key, enrolled)
}

pub(super) fn works(rig: &Rig, caller: &Caller) -> bool {
    match rig.write(caller, "secret/data/app/x", r#"{"data":{"A":"1"}}"#) {
        Ok(_) => true,
        Err(VaultError::Forbidden | VaultError::NotAdmitted(_)) => false,
        Err(other) => panic!("unexpected: {other}"),
    }
}

pub(super) fn alarms(rig: &Rig) -> Vec<String> {
    let lines = rig.log().into_iter().filter(|line| line["kind"] == "alarm");
    lines.filter_map(|line| line["code"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_string_gives_one_key_the_stored_identity() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["create", "update"] }"#);
    let (string, key) = (string(&rig, "app/web", ""), Key::new());
    let got = enroll(&rig, &string, &key).expect("enrolled");
    assert_eq!(got.identity, "spiffe://example.org/app/web");
    assert_eq!(got.addresses, ["vault.example:8201"]);
    assert!(works(&rig, &holder(&rig, &got.certificate)));

    // The reply was lost: the same key gets the same certificate, for five minutes.
    assert_eq!(enroll(&rig, &string, &key).expect("again").certificate, got.certificate);
    rig.clock.advance(5 * 60_000 + 1);
    assert!(matches!(enroll(&rig, &string, &key), Err(VaultError::Forbidden)));
    // Somebody else has the string.
    assert!(alarms(&rig).is_empty());
    assert!(matches!(enroll(&rig, &string, &Key::new()), Err(VaultError::Forbidden)));
    assert_eq!(alarms(&rig), ["enrolment-string-used-again"]);

    let shown = rig.read(&operator, "sys/strongroom/enrollments").expect("listed");
    let id = shown["keys"][0].as_str().expect("an id");
    assert_eq!(shown["key_info"][id]["state"], "used");
    assert!(!rig.log_text().contains("sre1-"), "the string is not in the log");
    let issued: Vec<_> = rig.log().into_iter().filter(|line| line["kind"] == "issued").collect();
    assert_eq!(issued.len(), 1, "the note of the certificate");
}

#[test]
fn strings_that_are_refused() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let key = Key::new();
    let refused_over = |asked: EnrollRequest, channel: Channel| match wait(rig.vault.enroll(asked, channel)) {
        Err(VaultError::Forbidden | VaultError::NotAdmitted(_)) => {}
        other => panic!("expected a refusal, got {:?}", other.map(|enrolled| enrolled.identity)),
    };
    let refused = |asked: EnrollRequest| refused_over(asked, CHANNEL);
    let good = string(&rig, "app/web", "");
    refused_over(attempt(&good, &key), Channel { exporter: [1; 32], ..CHANNEL });
    refused(EnrollRequest { proof: [0; 32], ..attempt(&good, &key) });
    refused(EnrollRequest { csr: Key::new().csr, ..attempt(&good, &key) });
    refused(EnrollRequest { id: [0; 16], ..attempt(&good, &key) });
    let near = string(&rig, "app/web", r#","cidr":["198.51.100.0/24","2001:db8::/32"]"#);
    refused(attempt(&near, &key));
    let near_by = Channel { remote: SocketAddr::from(([198, 51, 100, 200], 1)), ..CHANNEL };
    wait(rig.vault.enroll(attempt(&near, &key), near_by)).expect("from the network");
    let short = string(&rig, "app/web", r#","ttl":"1m""#);
    rig.clock.advance(60_000);
    refused(attempt(&short, &key));
    let gone = string(&rig, "app/web", "");
    let listed = rig.read(&operator, "sys/strongroom/enrollments").expect("listed");
    for id in listed["keys"].as_array().expect("a list") {
        let path = format!("sys/strongroom/enrollments/{}", id.as_str().expect("text"));
        rig.ask(&operator, Operation::Delete, &path, "").expect("deleted");
    }
    refused(attempt(&gone, &key));
    let frozen = string(&rig, "app/web", "");
    rig.write(&operator, "sys/strongroom/disable/app/web", r#"{"reason":"test"}"#).expect("disabled");
    refused(attempt(&frozen, &key));
    let create = |path: &str, body: &str| rig.write(&operator, &format!("sys/strongroom/enrollments/{path}"), body);
    for (path, body) in [
        ("app/web", r#"{"addresses":["a:1"]}"#),
        ("app/unknown", r#"{"addresses":["a:1"]}"#),
        ("cert/app", r#"{"addresses":["a:1"]}"#),
        ("ops/olga", "{}"),
        ("ops/olga", r#"{"addresses":["a"]}"#),
        ("ops/olga", r#"{"addresses":["a:1"],"ttl":"8d"}"#),
        ("ops/olga", r#"{"addresses":["a:1"],"uses":0}"#),
        ("ops/olga", r#"{"addresses":["a:1"],"cidr":["everywhere"]}"#),
        ("ops/olga", r#"{"addresses":["a:1"],"cidr":["10.0.0.0/33"]}"#),
        ("ops/olga", r#"{"addresses":["a:1"],"names":["b"]}"#),
    ] {
        assert!(matches!(create(path, body), Err(error) if error.status() == 400), "{path} {body}");
    }
}

#[test]
fn a_renewal_ends_the_one_before_and_a_copy_freezes_the_identity() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    let next = Key::new();
    let renewed = json(&rig.write(&old, "sys/strongroom/renew", &next.body()).expect("renewed"));
    let again = json(&rig.write(&old, "sys/strongroom/renew", &next.body()).expect("the reply was lost"));
    assert_eq!(renewed["certificate"], again["certificate"]);
    let new = holder(&rig, renewed["certificate"].as_str().expect("PEM"));
    assert!(works(&rig, &new) && works(&rig, &old), "the old one is good until its end");
    let shown = rig.read(&operator, "sys/strongroom/identities/app/web").expect("there");
    assert_eq!(shown["certificates"].as_array().expect("a list").len(), 2);

    // Somebody kept the old certificate and its key.
    let told = |caller: &Caller, path: &str, body: &str| {
        let refused = rig.write(caller, path, body).err().expect("refused");
        match refused {
            VaultError::NotAdmitted(reason) => reason,
            other => panic!("{path}: {other}"),
        }
    };
    assert_eq!(told(&old, "sys/strongroom/renew", &Key::new().body()), Reason::Frozen);
    assert_eq!(alarms(&rig), ["renewed-certificate-used-to-renew"]);
    assert!(!works(&rig, &new) && !works(&rig, &old));
    // Both holders have proved a key, so they are told what happened, also when they ask what they may do.
    for caller in [&new, &old] {
        let asked = r#"{"paths":["secret/data/app/db"]}"#;
        assert_eq!(told(caller, "sys/capabilities-self", asked), Reason::Frozen);
        assert_eq!(told(caller, "secret/data/app/db", r#"{"data":{}}"#), Reason::Frozen);
    }
    let denied = rig.log().into_iter().rfind(|line| line["decision"] == "deny").expect("a line");
    assert_eq!((&denied["rule"], &denied["error"]), (&"identity-frozen".into(), &"denied".into()));
    let shown = rig.read(&operator, "sys/strongroom/identities/app/web").expect("there");
    assert_eq!(shown["disabled"], true);
    assert!(shown["reason"].as_str().expect("text").starts_with("frozen"));
    assert_eq!(shown["frozen"], true);
    // An operator who writes the same words freezes nothing.
    rig.write(&operator, "sys/strongroom/identities/app/other", r#"{"policies":[]}"#).expect("registered");
    let words = serde_json::json!({ "reason": shown["reason"] }).to_string();
    rig.write(&operator, "sys/strongroom/disable/app/other", &words).expect("disabled");
    let other = rig.read(&operator, "sys/strongroom/identities/app/other").expect("there");
    assert_eq!((&other["disabled"], &other["frozen"]), (&true.into(), &false.into()));
    assert_eq!(told(&rig.caller("app/other"), "secret/data/app/db", r#"{"data":{}}"#), Reason::Disabled);
    // Also after a restart.
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(!works(&rig, &new));
    rig.write(&operator, "sys/strongroom/revoke/app/web", "{}").expect("revoked");
    rig.write(&operator, "sys/strongroom/enable/app/web", "{}").expect("enabled");
    assert!(!works(&rig, &new) && !works(&rig, &old));
    let fresh = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled in the same second");
    assert!(works(&rig, &holder(&rig, &fresh.certificate)));
}

#[test]
fn a_removed_identity_leaves_no_certificate_behind() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    rig.write(&operator, "sys/strongroom/revoke/app/web", "{}").expect("revoked");
    rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/app/web", "").expect("removed");
    rig.write(&operator, "sys/strongroom/identities/app/web", r#"{"policies":["app"]}"#).expect("again");
    assert!(!works(&rig, &old), "the mark of the revocation went with the record");
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(!works(&rig, &old));
    let fresh = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled anew");
    assert!(works(&rig, &holder(&rig, &fresh.certificate)));
}

#[test]
fn renewing_is_for_ones_own_identity_only() {
    let rig = Rig::new();
    let (_, first) = enrolled(&rig, "app/web");
    let caller = holder(&rig, &first.certificate);
    let body = |more: &str| format!(r#"{{"csr":{}{more}}}"#, serde_json::to_string(&Key::new().csr).expect("text"));
    for more in [r#","identity":"ops/olga""#, r#","ttl":"10y""#] {
        assert!(matches!(rig.write(&caller, "sys/strongroom/renew", &body(more)), Err(VaultError::BadRequest(_))));
    }
    assert!(matches!(rig.write(&caller, "sys/strongroom/renew", r#"{"csr":"x"}"#), Err(VaultError::BadRequest(_))));
    let named = Key::new();
    let mut params = rcgen::CertificateParams::new(vec!["admin.example".to_owned()]).expect("names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&named.pair).expect("a request").pem().expect("PEM");
    let body = serde_json::json!({ "csr": csr }).to_string();
    let reply = json(&rig.write(&caller, "sys/strongroom/renew", &body).expect("what it asks for is ignored"));
    assert_eq!(*holder(&rig, reply["certificate"].as_str().expect("PEM")).identity, *caller.identity);
}

#[test]
fn revoking_is_in_force_with_its_answer_and_after_a_restart() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let (_, other) = enrolled(&rig, "app/other");
    let (one, other) = (holder(&rig, &first.certificate), holder(&rig, &other.certificate));
    let sessions = rig.vault.sessions();
    let mut idle = sessions.enter(std::sync::Arc::new(one.clone()), 9, 9).expect("room");
    let mut kept = sessions.enter(std::sync::Arc::new(other.clone()), 9, 9).expect("room");
    let shown = rig.read(&operator, "sys/strongroom/identities/app/web").expect("there");
    assert_eq!(shown["connections"], 1);
    let serial = shown["certificates"][0]["serial"].as_str().expect("text").to_owned();
    let body = serde_json::json!({ "certificate": serial, "reason": "stolen" }).to_string();
    rig.write(&operator, "sys/strongroom/revoke/app/web", &body).expect("revoked");
    assert!(!works(&rig, &one) && works(&rig, &other));
    let closed = |session: &mut crate::core::Session| {
        wait(async { tokio::time::timeout(std::time::Duration::ZERO, session.closed()).await.is_ok() })
    };
    assert!(closed(&mut idle) && !closed(&mut kept));
    assert!(!rig.vault.admits(&one) && rig.vault.admits(&other));
    let denied = rig.log().into_iter().rev().find(|line| line["decision"] == "deny").expect("a line");
    assert_eq!(denied["rule"], "certificate-revoked");
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(!works(&rig, &one) && works(&rig, &other));
    let refused = rig.write(&one, "sys/strongroom/renew", &Key::new().body()).err().expect("refused");
    assert!(matches!(refused, VaultError::NotAdmitted(Reason::Revoked)), "{refused}");
    // A policy that is missing is no such reason.
    let denied = rig.read(&other, "sys/mounts").expect_err("refused");
    assert!(matches!(denied, VaultError::Forbidden), "{denied}");
    let crl = rig.read(&other, "sys/strongroom/crl").expect("public")["crl"].as_str().expect("PEM").to_owned();
    let list = x509_parser::pem::parse_x509_pem(crl.as_bytes()).expect("PEM").1;
    let (_, list) = x509_parser::parse_x509_crl(&list.contents).expect("a list");
    let serials: Vec<String> = list.iter_revoked_certificates().map(|entry| format!("{:x}", entry.serial())).collect();
    assert_eq!(serials, [serial.trim_start_matches('0')]);
}

#[test]
fn an_expired_certificate_renews_only_where_that_is_allowed() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (key, first) = enrolled(&rig, "app/laptop");
    let attempt = |signer: &Key, next: &Key| late(&first.certificate, signer, next);
    let next = Key::new();
    let renew = |asked| wait(rig.vault.renew_expired(asked, CHANNEL));
    rig.clock.advance(30 * HOUR_MS);
    let operator = Caller { not_after_ms: u64::MAX, ..operator };
    assert!(!works(&rig, &holder(&rig, &first.certificate)), "expired");
    assert!(matches!(renew(attempt(&key, &next)), Err(VaultError::Forbidden)), "not allowed");
    rig.write(&operator, "sys/strongroom/identities/app/laptop", r#"{"grace":"3d"}"#).expect("allowed");
    assert!(matches!(renew(attempt(&Key::new(), &next)), Err(VaultError::Forbidden)), "another key");
    let other = Channel { exporter: [4; 32], ..CHANNEL };
    let replayed = wait(rig.vault.renew_expired(attempt(&key, &next), other));
    assert!(matches!(replayed, Err(VaultError::Forbidden)), "another connection");
    let fresh = renew(attempt(&key, &next)).expect("within three days");
    assert!(works(&rig, &holder(&rig, &fresh.certificate)));
    rig.clock.advance(70 * HOUR_MS);
    assert!(matches!(renew(attempt(&key, &Key::new())), Err(VaultError::Forbidden)), "too late");
    assert_eq!(alarms(&rig), ["certificate-renewed-after-its-end"], "the one that was given");
}

#[test]
fn groups_give_their_policies_to_registered_members() {
    let rig = Rig::new();
    let operator = rig.operator();
    let text = r#"path "secret/data/team/*" { capabilities = ["read", "create", "update"] }"#;
    let body = serde_json::json!({ "policy": text }).to_string();
    rig.write(&operator, "sys/policies/acl/team", &body).expect("taken");
    rig.write(&operator, "sys/strongroom/identities/ci/one", r#"{"policies":[]}"#).expect("registered");
    let (one, stranger) = (rig.caller("ci/one"), rig.caller("ci/two"));
    let may = |caller: &Caller| rig.write(caller, "secret/data/team/x", r#"{"data":{"A":"1"}}"#).is_ok();
    assert!(!may(&one));
    rig.write(&operator, "sys/strongroom/groups/team", r#"{"policies":["team"],"members":["ci/*"]}"#).expect("made");
    assert!(may(&one) && !may(&stranger));
    let shown = rig.read(&operator, "sys/strongroom/identities/ci/one").expect("there");
    assert_eq!(shown["groups"], serde_json::json!(["team"]));
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(may(&one));
    rig.ask(&operator, Operation::Delete, "sys/strongroom/groups/team", "").expect("deleted");
    assert!(!may(&one));
    for body in [r#"{"members":[]}"#, r#"{"policies":["root"]}"#, r#"{"policies":[],"members":["a//b"]}"#] {
        assert!(matches!(rig.write(&operator, "sys/strongroom/groups/g", body), Err(VaultError::BadRequest(_))));
    }
}

#[test]
fn the_last_administrator_cannot_be_disabled() {
    let rig = Rig::new();
    let operator = rig.operator();
    let refused = rig.write(&operator, "sys/strongroom/disable/ops/olga", "{}");
    assert!(matches!(refused, Err(VaultError::Because(Reason::LastAdministrator, _))));
    rig.read(&operator, "sys/mounts").expect("still in");
}

#[test]
fn a_lost_certificate_is_replaced_on_the_machine_with_what_opens_the_vault() {
    use crate::api::secret::SecretText;
    use crate::core::UnsealKey;

    let rig = Rig::new();
    let key = Key::new();
    let wrong = SecretText::from("not the passphrase");
    let rescue = |key_: &UnsealKey<'_>, identity: &str| rig.vault.rescue(key_, identity, &key.csr);
    assert!(matches!(rescue(&UnsealKey::Typed(&wrong), "ops/olga"), Err(VaultError::WrongKey)));
    assert!(matches!(rescue(&UnsealKey::KeyFile(KEY_FILE), "ops/olga"), Err(VaultError::TooMany { .. })));
    rig.clock.advance(1_000);
    assert!(matches!(
        rescue(&UnsealKey::KeyFile(KEY_FILE), "ops/nobody"),
        Err(VaultError::Because(Reason::NotRegistered, _))
    ));
    let reply = rescue(&UnsealKey::KeyFile(KEY_FILE), "ops/olga").expect("a certificate");
    rig.read(&holder(&rig, &reply.certificate), "sys/mounts").expect("in again");
    assert_eq!(alarms(&rig), ["certificate-issued-on-the-local-socket"]);
}

#[test]
fn a_clock_that_jumps_ten_years_admits_nobody_more() {
    const TEN_YEARS_MS: u64 = 3_652 * 24 * HOUR_MS;
    let rig = Rig::new();
    let operator = Caller { not_before_ms: 0, not_after_ms: u64::MAX, ..rig.operator() };
    let (key, first) = enrolled(&rig, "app/web");
    rig.write(&operator, "sys/strongroom/identities/app/web", r#"{"grace":"3d"}"#).expect("allowed");
    let (web, unused) = (holder(&rig, &first.certificate), string(&rig, "app/web", ""));
    let refused = |result: Result<Certified, VaultError>, what: &str| {
        assert!(matches!(result, Err(VaultError::Forbidden)), "{what}");
    };
    let grace = || wait(rig.vault.renew_expired(late(&first.certificate, &key, &Key::new()), CHANNEL));
    // Adding what is missing to 2^64 sets the clock back.
    let back = || rig.clock.advance(TEN_YEARS_MS.wrapping_neg());
    let nothing_goes = |when: &str| {
        assert!(!works(&rig, &web), "{when}: the certificate");
        refused(enroll(&rig, &unused, &Key::new()), when);
        refused(grace(), when);
        let renewed = rig.write(&web, "sys/strongroom/renew", &Key::new().body());
        assert!(matches!(renewed, Err(VaultError::Forbidden | VaultError::NotAdmitted(_))), "{when}: the renewal");
        rig.read(&operator, "sys/mounts").expect("the vault itself goes on");
    };
    rig.clock.advance(TEN_YEARS_MS);
    nothing_goes("ten years later");
    back();
    assert!(works(&rig, &web), "nothing was lost by the jump");
    let other = string(&rig, "app/web", r#","uses":2"#);
    rig.clock.advance(TEN_YEARS_MS);
    refused(enroll(&rig, &other, &Key::new()), "ten years later");
    back();
    enroll(&rig, &other, &Key::new()).expect("the string was not used up by refusals");
    back();
    nothing_goes("ten years earlier");

    // What is revoked by a clock that is wrong stays revoked when it is right again.
    rig.write(&operator, "sys/strongroom/revoke/app/web", "{}").expect("revoked");
    rig.clock.advance(TEN_YEARS_MS);
    assert!(!works(&rig, &web), "revoked while the clock was behind");
    assert!(alarms(&rig).is_empty());
    refused(enroll(&rig, &unused, &Key::new()), "the string was revoked, too");
    let fresh = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled anew");
    let fresh = holder(&rig, &fresh.certificate);
    assert!(works(&rig, &fresh));
    // Twice in one second, with an enrolment in between.
    for _ in 0..2 {
        rig.write(&operator, "sys/strongroom/revoke/app/web", "{}").expect("revoked");
        assert!(!works(&rig, &fresh));
        let next = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled");
        let next = holder(&rig, &next.certificate);
        rig.write(&operator, "sys/strongroom/revoke/app/web", "{}").expect("revoked");
        assert!(!works(&rig, &next), "issued in the second of the mark");
    }
}

#[test]
fn when_and_from_where_an_identity_was_seen_survives_a_restart() {
    const PATH: &str = "sys/strongroom/identities/app/web";
    let last = |rig: &Rig| {
        let shown = rig.read(&rig.operator(), PATH).expect("shown");
        (shown["last_seen"].as_str().expect("seen").to_owned(), shown["source"].as_str().expect("seen").to_owned())
    };
    let again = |rig: Rig, later_ms: u64| {
        let rig = rig.restart();
        rig.clock.advance(later_ms);
        rig.unseal().expect("opens");
        rig
    };
    let from = |rig: &Rig, address: &str| {
        let caller = Caller { remote: format!("{address}:4711"), ..rig.caller("app/web") };
        rig.read(&caller, "secret/data/app/x").err();
    };
    let rig = Rig::new();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    assert!(rig.read(&rig.operator(), PATH).expect("shown")["last_seen"].is_null());

    // The first sighting is written at once.
    from(&rig, "192.0.2.7");
    let first = last(&rig);
    assert_eq!(first.1, "192.0.2.7");
    rig.vault.note_sightings().expect("written");
    let rig = again(rig, 2 * HOUR_MS);
    assert_eq!(last(&rig), first);

    // Another address at once, the same one only when what is on record has become old.
    from(&rig, "2001:db8::7");
    let second = last(&rig);
    assert!(second.0 > first.0 && second.1 == "2001:db8::7", "{second:?}");
    rig.vault.note_sightings().expect("written");
    rig.clock.advance(HOUR_MS / 6);
    from(&rig, "2001:db8::7");
    assert!(last(&rig).0 > second.0);
    rig.vault.note_sightings().expect("nothing to write");
    let rig = again(rig, 3 * HOUR_MS);
    assert_eq!(last(&rig), second, "ten minutes are not worth a record");
    from(&rig, "2001:db8::7");
    let third = last(&rig);
    assert!(third.0 > second.0);
    rig.vault.note_sightings().expect("written");
    assert_eq!(last(&again(rig, 4 * HOUR_MS)), third);
}
