//! Tests of roles: what may be written, and whom they admit.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use super::*;
use crate::api::request::Body;
use crate::api::spiffe::SpiffeId;
use crate::auth::token::{Limits, login};
use crate::pki::outside::OutsideFacts;

const NOW_MS: u64 = 1_800_000_000_000;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Ca {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn client(common_name: Option<&str>, by: &Ca) -> OutsideFacts {
    let mut params = named(common_name.unwrap_or_default());
    if common_name.is_none() {
        params.distinguished_name = DistinguishedName::new();
    }
    params.distinguished_name.push(DnType::OrganizationalUnitName, "shop");
    params.subject_alt_names = vec![
        SanType::DnsName("web.example.org".try_into().unwrap()),
        SanType::Rfc822Name("ops@example.org".try_into().unwrap()),
        SanType::URI("spiffe://other.example/web".try_into().unwrap()),
    ];
    params.extended_key_usages = vec![Eku::ClientAuth];
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x0c, 2, b'o', b'k']),
        CustomExtension::from_oid_content(&[1, 2, 3, 5], vec![0x02, 1, 7]),
    ];
    let certificate = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap();
    OutsideFacts::read(certificate.der(), &[]).unwrap()
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn write(name: &str, body: &Value, existing: Option<&RoleRecord>, own: &[&[u8]]) -> Result<Role, RoleError> {
    let text = body.to_string();
    Role::from_body(name, &Body::of(&text), existing, own)
}

/// A role for `certificate` with one more field.
fn role(name: &str, certificate: &str, field: &str, value: Value) -> Role {
    let mut body = json!({ "certificate": certificate });
    body[field] = value;
    write(name, &body, None, &[]).unwrap()
}

fn admits(role: &Role, facts: &OutsideFacts) -> bool {
    let anchors = proved_anchors(facts, [role], None, NOW_MS);
    find(facts, &anchors, [role], None, NOW_MS).is_some()
}

#[test]
fn each_constraint_counts() {
    let ca = authority("outside");
    let (with_name, without) = (client(Some("web-1"), &ca), client(None, &ca));
    for (field, pattern, named, nameless) in [
        ("allowed_names", "web-*", true, false),
        ("allowed_names", "web.example.org", true, true),
        ("allowed_names", "ops@*", true, true),
        ("allowed_names", "spiffe://*", false, false),
        ("allowed_common_names", "web-1", true, false),
        ("allowed_common_names", "WEB-1", false, false),
        ("allowed_common_names", "web.example.org", false, false),
        ("allowed_common_names", "*", true, true),
        ("allowed_dns_sans", "*.example.org", true, true),
        ("allowed_dns_sans", "*.example.com", false, false),
        ("allowed_dns_sans", "web-1", false, false),
        ("allowed_email_sans", "*@example.org", true, true),
        ("allowed_email_sans", "web.example.org", false, false),
        ("allowed_uri_sans", "spiffe://other.example/*", true, true),
        ("allowed_uri_sans", "spiffe://example.org/*", false, false),
        ("allowed_organizational_units", "sh*", true, true),
        ("allowed_organizational_units", "bank", false, false),
        ("required_extensions", "1.2.3.4:o*", true, true),
        ("required_extensions", "1.2.3.4:no", false, false),
        ("required_extensions", "hex:1.2.3.5:0201*", true, true),
        ("required_extensions", "1.2.3.5:*7*", false, false),
        ("required_extensions", "1.2.3.6:*", false, false),
    ] {
        let role = role("r", &pem(ca.der()), field, json!([pattern]));
        assert_eq!((admits(&role, &with_name), admits(&role, &without)), (named, nameless), "{field} {pattern}");
    }
    // One of a list is enough; of required extensions, and of different lists, all are needed.
    assert!(admits(&role("r", &pem(ca.der()), "allowed_common_names", json!(["x", "web-1"])), &with_name));
    let both = role("r", &pem(ca.der()), "required_extensions", json!(["1.2.3.4:ok", "1.2.3.4:no"]));
    assert!(!admits(&both, &with_name));
    let body = json!({"certificate": pem(ca.der()), "allowed_common_names": "web-1", "allowed_dns_sans": "x"});
    assert!(!admits(&write("r", &body, None, &[]).unwrap(), &with_name));
}

#[test]
fn only_the_proved_authority_counts() {
    let (ca, twin) = (authority("outside"), authority("outside"));
    let facts = client(Some("web-1"), &ca);
    let right = role("right", &pem(ca.der()), "allowed_names", json!("*"));
    let wrong = role("wrong", &pem(twin.der()), "allowed_names", json!("*"));
    assert!(admits(&right, &facts) && !admits(&wrong, &facts), "same name, other key");
    let anchors = proved_anchors(&facts, [&wrong, &right], None, NOW_MS);
    assert_eq!(anchors, [ca.der().as_ref()]);
    assert_eq!(find(&facts, &anchors, [&wrong, &right], None, NOW_MS).map(|r| r.name.as_str()), Some("right"));
    assert!(find(&facts, &[], [&right], None, NOW_MS).is_none(), "nothing proved, nobody admitted");
    assert!(find(&facts, &anchors, [&right], None, facts.not_after_ms + 1).is_none());
    let two = role("two", &(pem(twin.der()) + &pem(ca.der())), "allowed_names", json!("*"));
    assert!(admits(&two, &facts));
}

#[test]
fn a_pinned_certificate_is_compared_as_a_whole() {
    let ca = authority("outside");
    let (facts, same_names) = (client(Some("web-1"), &ca), client(Some("web-1"), &ca));
    let pinned = write("pin", &json!({"certificate": pem(&facts.der)}), None, &[]).unwrap();
    assert!(admits(&pinned, &facts) && !admits(&pinned, &same_names));
    assert!(!admits(&role("pin", &pem(&facts.der), "allowed_common_names", json!("x")), &facts));
    assert!(find(&facts, &[], [&pinned], None, facts.not_after_ms + 1).is_none(), "the dates count too");
    assert!(find(&facts, &[], [&pinned], None, facts.not_before_ms - 1).is_none());
}

#[test]
fn order_is_vaults() {
    let ca = authority("outside");
    let facts = client(Some("web-1"), &ca);
    let by_ca = |name| role(name, &pem(ca.der()), "allowed_names", json!("*"));
    let roles = [by_ca("b"), by_ca("a"), write("z", &json!({"certificate": pem(&facts.der)}), None, &[]).unwrap()];
    let anchors = [ca.der().as_ref()];
    let pick = |roles: &[Role], wanted| find(&facts, &anchors, roles, wanted, NOW_MS).map(|role| role.name.clone());
    assert_eq!(pick(&roles, None).as_deref(), Some("z"));
    assert_eq!(pick(&roles[..2], None).as_deref(), Some("a"));
    assert_eq!(pick(&roles, Some("b")).as_deref(), Some("b"));
    assert_eq!(pick(&roles, Some("c")), None);
    assert!(proved_anchors(&facts, &roles, Some("z"), NOW_MS).is_empty());
}

#[test]
fn careless_roles_are_refused() {
    let ca = authority("outside");
    let facts = client(Some("web-1"), &ca);
    let (ca_pem, leaf_pem) = (pem(ca.der()), pem(&facts.der));
    let key = ca.key().serialize_pem();
    let many = ca_pem.repeat(MAX_CERTIFICATES + 1);
    let odd_section = format!("{ca_pem}-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n");
    let field = |name, why| RoleError::Field(FieldError::Must(name, why));
    for (body, want) in [
        (json!({"certificate": ca_pem}), RoleError::Unconstrained),
        (json!({"certificate": ca_pem, "allowed_names": []}), RoleError::Unconstrained),
        (json!({"certificate": ca_pem, "allowed_names": " , "}), RoleError::Unconstrained),
        (json!({"certificate": format!("{ca_pem}{leaf_pem}"), "allowed_names": "*"}), RoleError::Mixed),
        (json!({"certificate": format!("{leaf_pem}{leaf_pem}")}), RoleError::Mixed),
        (json!({"certificate": ""}), RoleError::Pem),
        (json!({"certificate": "hello"}), RoleError::Pem),
        (json!({"certificate": format!("{ca_pem}{key}"), "allowed_names": "*"}), RoleError::Pem),
        (json!({"certificate": odd_section, "allowed_names": "*"}), RoleError::Pem),
        (json!({"certificate": many, "allowed_names": "*"}), RoleError::Pem),
        (json!({"certificate": pem(b"junk")}), RoleError::Certificate(OutsideError::Malformed)),
        (json!({}), RoleError::Field(FieldError::Missing("certificate"))),
        (json!({"certificate": leaf_pem, "policies": ["ROOT "]}), RoleError::Name(NameError::Root)),
        (json!({"certificate": leaf_pem, "token_policies": "a,root"}), RoleError::Name(NameError::Root)),
        (json!({"certificate": leaf_pem, "token_policies": "a/b"}), RoleError::Name(NameError::Policy)),
        (json!({"certificate": leaf_pem, "ttl": 10, "token_max_ttl": 5}), RoleError::Lifetimes),
        (json!({"certificate": leaf_pem, "required_extensions": "1.2.3.4"}), RoleError::Extension),
        (json!({"certificate": leaf_pem, "required_extensions": "x:y"}), RoleError::Extension),
        (json!({"certificate": leaf_pem, "surprise": 1}), RoleError::Field(FieldError::Unknown(body::KNOWN))),
        (json!({"certificate": leaf_pem, "ttl": "soon"}), field("ttl", "a duration such as 60 or 1h")),
        (
            json!({"certificate": leaf_pem, "token_bound_cidrs": "10.0.0.1/8"}),
            field("token_bound_cidrs", "networks such as 10.0.0.0/8 or fd00::/8"),
        ),
    ] {
        assert_eq!(write("r", &body, None, &[]).err(), Some(want), "{want}");
    }
    for refused in
        [json!({"ocsp_enabled": true}), json!({"allowed_metadata_extensions": ["1.2"]}), json!({"token_type": "batch"})]
    {
        let mut body = json!({"certificate": leaf_pem});
        let (name, value) = refused.as_object().unwrap().iter().next().unwrap();
        body[name] = value.clone();
        let error = write("r", &body, None, &[]).err().unwrap();
        assert!(matches!(error, RoleError::Field(FieldError::Unsupported(..))), "{error}");
        assert!(error.to_string().contains(name.as_str()));
    }
    assert_eq!(
        write("a/b", &json!({"certificate": leaf_pem}), None, &[]).err(),
        Some(RoleError::Name(NameError::Role))
    );
}

#[test]
fn authorities_of_this_vault_are_refused() {
    let (own, outside) = (authority("ours"), authority("outside"));
    let body = |ca: &Ca| json!({"certificate": pem(ca.der()), "allowed_names": "*"});
    let own_der: &[u8] = own.der();
    assert_eq!(write("r", &body(&own), None, &[own_der]).err(), Some(RoleError::VaultAuthority));
    assert_eq!(
        write("r", &body(&authority("ours")), None, &[own_der]).err(),
        Some(RoleError::VaultAuthority),
        "same name"
    );
    let mut params = named("other");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let same_key = params.self_signed(own.key()).unwrap();
    let same_key = json!({"certificate": pem(same_key.der()), "allowed_names": "*"});
    assert_eq!(write("r", &same_key, None, &[own_der]).err(), Some(RoleError::VaultAuthority), "same key");
    let both = json!({"certificate": pem(outside.der()) + &pem(own_der), "allowed_names": "*"});
    assert_eq!(write("r", &both, None, &[own_der]).err(), Some(RoleError::VaultAuthority));
    assert!(write("r", &body(&outside), None, &[own_der]).is_ok());
}

#[test]
fn roles_are_kept_changed_and_shown() {
    let ca = authority("outside");
    let certificate = pem(ca.der());
    let body = json!({
        "certificate": certificate, "allowed_common_names": "a,b", "policies": "old", "token_policies": ["Web", "app"],
        "ttl": "1h", "token_max_ttl": 7200, "token_num_uses": 3, "token_bound_cidrs": ["10.0.0.0/8"],
        "token_no_default_policy": true, "token_period": "5m", "token_explicit_max_ttl": 9, "token_type": "service",
        "ocsp_enabled": false, "ocsp_max_retries": 0, "allowed_metadata_extensions": [],
    });
    let role = write("WEB", &body, None, &[]).unwrap();
    assert_eq!(RoleRecord::decode(&role.record.encode()), Ok(role.record.clone()));
    assert!(role.record.encode().starts_with(b"{\"v\":1,"));
    let newer = String::from_utf8(role.record.encode()).unwrap().replace("\"v\":1", "\"v\":2");
    assert_eq!(RoleRecord::decode(newer.as_bytes()), Err(RoleError::Record));
    let view = serde_json::to_value(role.view()).unwrap();
    for (field, want) in [
        ("certificate", json!(certificate)),
        ("display_name", json!("web")),
        ("allowed_common_names", json!(["a", "b"])),
        ("allowed_names", json!([])),
        ("token_policies", json!(["app", "web"])),
        ("policies", json!(["app", "web"])),
        ("token_ttl", json!(3600)),
        ("ttl", json!(3600)),
        ("token_max_ttl", json!(7200)),
        ("token_num_uses", json!(3)),
        ("token_bound_cidrs", json!(["10.0.0.0/8"])),
        ("token_no_default_policy", json!(true)),
        ("token_period", json!(300)),
        ("token_explicit_max_ttl", json!(9)),
        ("token_type", json!("default")),
        ("ocsp_enabled", json!(false)),
    ] {
        assert_eq!(view[field], want, "{field}");
    }
    let changed = write("web", &json!({"token_ttl": 60}), Some(&role.record), &[]).unwrap();
    assert_eq!(changed.record.token.ttl_s, 60);
    assert_eq!(changed.record.allowed_common_names, role.record.allowed_common_names);
    let bare = write("web", &json!({"allowed_common_names": []}), Some(&role.record), &[]);
    assert_eq!(bare.err(), Some(RoleError::Unconstrained), "the last constraint cannot be taken away");
    assert!(role.admits_from("10.1.1.1".parse().ok()) && !role.admits_from(None));
    assert_eq!(Role::load("web", RoleRecord::empty("x")).err(), Some(RoleError::Pem));
}

#[test]
fn a_login_gives_a_token_of_the_role() {
    let ca = authority("outside");
    let facts = client(Some("web-1"), &ca);
    let body = json!({"certificate": pem(ca.der()), "allowed_names": "web-*", "token_policies": "web", "token_ttl": "1h", "token_num_uses": 7});
    let role = write("shop", &body, None, &[]).unwrap();
    let identity = SpiffeId::new("example.org", "cert/x").unwrap();
    let record = login(&role, &facts, &identity, "a".repeat(24), &Limits::default(), NOW_MS).record;
    assert_eq!((record.policies.join(","), record.ttl_s, record.uses_left), ("default,web".to_owned(), 3600, Some(7)));
    assert_eq!((record.display_name.as_str(), record.path.as_str()), ("cert-shop", "auth/cert/login"));
    let keys: Vec<_> = record.meta.keys().map(String::as_str).collect();
    assert_eq!(keys, ["authority_key_id", "cert_name", "common_name", "serial_number", "subject_key_id"]);
    assert_eq!(record.meta["serial_number"], facts.serial_number);
    let peer = |fingerprint| crate::auth::token::Peer { identity: &identity, fingerprint, remote: None };
    let other = client(Some("web-1"), &ca);
    assert!(crate::auth::token::usable(&record, &peer(&facts.fingerprint), NOW_MS).is_ok());
    assert!(crate::auth::token::usable(&record, &peer(&other.fingerprint), NOW_MS).is_err(), "another certificate");
    assert!(role.still_gives(&record.policies) && !role.still_gives(&["web".to_owned()]));
}

#[test]
fn login_bodies() {
    let parse = |text: &str| LoginBody::parse(&Body::of(text));
    assert_eq!(parse("{}"), Ok(LoginBody { name: None }));
    assert_eq!(parse(r#"{"name":""}"#), Ok(LoginBody { name: None }));
    assert_eq!(parse(r#"{"name":"Web"}"#), Ok(LoginBody { name: Some("web".to_owned()) }));
    assert!(parse(r#"{"name":"a/b"}"#).is_err() && parse(r#"{"name":1}"#).is_err() && parse(r#"{"x":1}"#).is_err());
}

proptest! {
    #[test]
    fn reading_is_total(bytes: Vec<u8>, text in "\\PC{0,60}|-----BEGIN [A-Z ]{0,14}-----[A-Za-z0-9\n=]{0,40}(-----END [A-Z ]{0,14}-----)?") {
        let _ = RoleRecord::decode(&bytes);
        let refused = write("r", &json!({"certificate": text, "required_extensions": [text]}), None, &[]).is_err();
        prop_assert!(refused);
        let _ = find::split_extension(&text);
    }
}
