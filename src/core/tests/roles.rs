//! Certificates of outside PKIs: which role makes somebody of them, and when that ends.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::{Value, json};

use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::core::{Caller, VaultError};
use crate::pki::outside::OutsideFacts;

use super::support::{DOMAIN, Rig, json as body_of};

pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) const APP: &str = r#"path "secret/data/app/*" { capabilities = ["create", "update", "read"] }"#;

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2026, 1, 1));
    params
}

pub(super) fn authority(name: &str) -> Ca {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
}

fn leaf(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.extended_key_usages = vec![Eku::ClientAuth];
    params
}

/// The caller that TLS would make of a certificate of `ca`.
pub(super) fn client(rig: &Rig, ca: &Ca, name: &str) -> Caller {
    of(rig, leaf(name), ca)
}

fn of(rig: &Rig, params: CertificateParams, ca: &Ca) -> Caller {
    let certificate = params.signed_by(&KeyPair::generate().expect("a key"), ca).expect("signed");
    caller(rig, certificate.der())
}

fn caller(rig: &Rig, der: &[u8]) -> Caller {
    let facts = OutsideFacts::read(der, &[]).expect("a client's certificate");
    let caller = Caller::outside(facts, DOMAIN, "192.0.2.1:4711".to_owned()).expect("legal");
    Caller { request_id: rig.operator().request_id, ..caller }
}

/// Writes a role for a CA, and the policy `app`.
pub(super) fn role(rig: &Rig, name: &str, fields: &Value) -> Result<Reply, VaultError> {
    rig.admit("app/registered", "app", APP);
    rig.write(&rig.operator(), &format!("auth/cert/certs/{name}"), &fields.to_string())
}

pub(super) fn for_ca(ca: &Ca) -> Value {
    json!({ "certificate": ca.pem(), "allowed_common_names": "web-*", "token_policies": "app" })
}

pub(super) fn works(rig: &Rig, caller: &Caller) -> bool {
    match rig.write(caller, "secret/data/app/x", r#"{"data":{"A":"1"}}"#) {
        Ok(_) => true,
        Err(VaultError::Forbidden | VaultError::NotAdmitted(_)) => false,
        Err(other) => panic!("unexpected: {other}"),
    }
}

#[test]
fn a_role_makes_somebody_of_a_certificate_without_a_login() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let (web, db) = (client(&rig, &ca, "web-1"), client(&rig, &ca, "db-1"));
    assert!(!works(&rig, &web), "no role yet");
    role(&rig, "web", &for_ca(&ca)).expect("written");
    assert!(works(&rig, &web));
    assert!(!works(&rig, &db), "the constraint is not met");
    assert!(!works(&rig, &client(&rig, &authority("outside root"), "web-1")), "another root of that name");
    let entry = rig.log().into_iter().rev().find(|line| line["path"] == "secret/data/app/x").expect("logged");
    assert!(entry["identity"].as_str().expect("text").starts_with("spiffe://example.org/cert/"), "{entry}");

    // What TLS shall take follows the roles, in the commit that changes them.
    assert_eq!(rig.vault.trust().borrow().outside, [ca.der().to_vec()]);
    let operator = rig.operator();
    let narrower = json!({ "allowed_common_names": "db-*" }).to_string();
    rig.write(&operator, "auth/cert/certs/web", &narrower).expect("changed");
    assert!(!works(&rig, &web) && works(&rig, &db));
    rig.ask(&operator, Operation::Delete, "auth/cert/certs/web", "").expect("deleted");
    assert!(!works(&rig, &db));
    assert!(rig.vault.trust().borrow().outside.is_empty());
}

#[test]
fn one_certificate_may_be_named_and_comes_before_its_authority() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let certificate = leaf("web-1").signed_by(&KeyPair::generate().expect("a key"), &ca).expect("signed");
    let web = caller(&rig, certificate.der());
    role(&rig, "a-ca", &json!({ "certificate": ca.pem(), "allowed_common_names": "*", "policies": "none" }))
        .expect("a");
    assert!(!works(&rig, &web));
    role(&rig, "z-leaf", &json!({ "certificate": certificate.pem(), "policies": "app" })).expect("written");
    assert!(works(&rig, &web));
    assert_eq!(rig.vault.trust().borrow().pinned, [web.fingerprint]);
    assert!(!works(&rig, &client(&rig, &ca, "web-1")), "the same name in another certificate");
}

#[test]
fn a_foreign_root_that_mints_our_names_gives_nothing_of_ours() {
    let rig = Rig::new();
    let ca = authority("outside root");
    role(&rig, "web", &json!({ "certificate": ca.pem(), "allowed_common_names": "web-*", "policies": "none" }))
        .expect("written");
    rig.admit("app/web", "app", APP);
    let mut params = leaf("web-1");
    params.subject_alt_names = vec![SanType::URI("spiffe://example.org/app/web".try_into().expect("legal"))];
    let minted = of(&rig, params, &ca);
    assert!(minted.identity.path().starts_with("cert/"));
    assert!(!works(&rig, &minted), "the role counts, not the name");
    // Nobody is registered in the folder of these names.
    let body = r#"{"policies":["app"]}"#;
    let refused = rig.write(&rig.operator(), &format!("sys/strongroom/identities/{}", minted.identity.path()), body);
    assert!(matches!(refused, Err(VaultError::BadRequest(_))));
    // A role for an authority of ours is refused, and so is a certificate of ours for such a caller.
    let ours = rig.vault.ca_pem().expect("open");
    let refused = role(&rig, "own", &json!({ "certificate": ours, "allowed_common_names": "*", "policies": "app" }));
    assert!(matches!(refused, Err(VaultError::BadRequest(text)) if text.contains("of this vault")));
    role(&rig, "admins", &json!({ "certificate": ca.pem(), "allowed_common_names": "root-*", "policies": "admin" }))
        .expect("written");
    let admin = client(&rig, &ca, "root-1");
    assert!(rig.read(&admin, "sys/policies/acl/admin").is_ok());
    for path in ["sys/strongroom/renew", "sys/strongroom/ca/compromise"] {
        let csr = KeyPair::generate()
            .and_then(|key| CertificateParams::default().serialize_request(&key))
            .and_then(|csr| csr.pem())
            .expect("a request");
        let refused = rig.write(&admin, path, &json!({ "csr": csr }).to_string());
        assert!(matches!(refused, Err(VaultError::BadRequest(_))), "{path}");
    }
}

#[test]
fn a_role_may_be_bound_to_a_network() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let mut fields = for_ca(&ca);
    fields["token_bound_cidrs"] = json!("192.0.2.0/24");
    role(&rig, "web", &fields).expect("written");
    let web = client(&rig, &ca, "web-1");
    assert!(works(&rig, &web));
    let elsewhere = client(&rig, &ca, "web-1");
    assert!(!works(&rig, &Caller { remote: "198.51.100.1:4711".to_owned(), ..elsewhere }));
}

#[test]
fn an_authority_counts_within_its_dates() {
    let rig = Rig::new();
    let ca = {
        let mut params = named("short");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_after = date_time_ymd(2025, 6, 16);
        Ca::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
    };
    role(&rig, "web", &for_ca(&ca)).expect("written");
    let web = client(&rig, &ca, "web-1");
    assert!(works(&rig, &web));
    rig.clock.advance(86_400_000);
    assert!(!works(&rig, &web), "the proof of a day ago is not taken for granted");
}

#[test]
fn roles_are_listed_shown_and_survive_a_restart() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let web = client(&rig, &ca, "web-1");
    let operator = rig.operator();
    let reply = role(&rig, "Web", &for_ca(&ca)).expect("written");
    assert!(reply.data.is_none() && reply.warnings.is_empty());
    let unknown = json!({ "certificate": ca.pem(), "allowed_dns_sans": "*", "policies": "nothing" });
    assert_eq!(role(&rig, "warned", &unknown).expect("written").warnings.len(), 1);
    let listed = rig.ask(&operator, Operation::List, "auth/cert/certs", "").expect("listed");
    assert_eq!(body_of(&listed)["keys"], json!(["warned", "web"]));
    let shown = rig.read(&operator, "auth/cert/certs/web").expect("shown");
    assert_eq!((&shown["display_name"], &shown["token_policies"]), (&json!("web"), &json!(["app"])));
    assert!(matches!(rig.read(&operator, "auth/cert/certs/other"), Err(VaultError::NotFound)));
    for bad in [
        json!({}),
        json!({ "certificate": ca.pem() }),
        json!({ "certificate": ca.pem(), "allowed_names": "*", "policies": "root" }),
        json!({ "certificate": ca.pem(), "allowed_names": "*", "unknown": 1 }),
    ] {
        assert!(matches!(role(&rig, "bad", &bad), Err(VaultError::BadRequest(_))), "{bad}");
    }
    // Only who may.
    let stranger = rig.admit("app/other", "app", APP);
    assert!(matches!(rig.read(&stranger, "auth/cert/certs/web"), Err(VaultError::Forbidden)));
    assert!(matches!(rig.write(&stranger, "auth/cert/certs/web", "{}"), Err(VaultError::Forbidden)));
    let methods = rig.read(&operator, "sys/auth").expect("shown");
    assert_eq!((&methods["cert/"]["type"], &methods["token/"]["type"]), (&json!("cert"), &json!("token")));

    let rig = rig.restart();
    rig.unseal().expect("unseals");
    assert_eq!(rig.vault.trust().borrow().outside.len(), 1);
    assert!(works(&rig, &web));
}
