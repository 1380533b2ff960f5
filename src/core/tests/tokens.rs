//! Tokens: what they take away, what they cannot give, and what ends them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::reply::{Reply, ReplyStatus};
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::barrier::MountId;
use crate::core::{Caller, Clock, VaultError};

use super::roles::{APP, authority, client, for_ca, role, works};
use super::support::{Rig, json as body_of};

const OTHER: &str = r#"path "secret/data/other/*" { capabilities = ["create", "update", "read"] }"#;
pub(super) const MAKER: &str = r#"
path "secret/data/app/*" { capabilities = ["create", "update", "read"] }
path "auth/token/create" { capabilities = ["update"] }"#;

fn auth(reply: &Reply) -> Value {
    serde_json::from_slice(reply.auth.as_ref().expect("a token in the reply")).expect("JSON")
}

fn text(auth: &Value) -> String {
    auth["client_token"].as_str().expect("a text").to_owned()
}

pub(super) fn with(caller: &Caller, token: &str) -> Caller {
    Caller { token: Some(Arc::new(SecretText::from(token))), ..caller.clone() }
}

fn login(rig: &Rig, caller: &Caller) -> String {
    text(&auth(&rig.write(caller, "auth/cert/login", "").expect("logged in")))
}

pub(super) fn create(rig: &Rig, caller: &Caller, fields: &Value) -> String {
    text(&auth(&rig.write(caller, "auth/token/create", &fields.to_string()).expect("made")))
}

fn own(rig: &Rig, caller: &Caller) -> Result<Value, VaultError> {
    rig.read(caller, "auth/token/lookup-self")
}

#[track_caller]
fn assert_forbidden<T>(result: Result<T, VaultError>) {
    match result {
        Err(VaultError::Forbidden | VaultError::NotAdmitted(_)) => {}
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("allowed"),
    }
}

#[track_caller]
fn assert_bad<T>(result: Result<T, VaultError>) {
    assert!(matches!(result, Err(VaultError::BadRequest(_))));
}

#[test]
fn an_outside_certificate_logs_in() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let mut fields = for_ca(&ca);
    fields["token_ttl"] = json!("1h");
    role(&rig, "web", &fields).expect("written");
    let web = client(&rig, &ca, "web-1");
    let given = auth(&rig.write(&web, "auth/cert/login", r#"{"name":"WEB"}"#).expect("logged in"));
    assert_eq!(given["policies"], json!(["app", "default"]));
    assert_eq!((&given["lease_duration"], &given["renewable"]), (&json!(3600), &json!(true)));
    assert_eq!((&given["metadata"]["cert_name"], &given["metadata"]["common_name"]), (&json!("web"), &json!("web-1")));
    let token = text(&given);
    assert!(token.starts_with("hvs."));
    let holder = with(&web, &token);
    assert!(works(&rig, &holder));
    let shown = own(&rig, &holder).expect("shown");
    assert_eq!((shown["id"].as_str(), &shown["type"]), (Some(&*token), &json!("service")));
    assert_eq!((&shown["ttl"], &shown["path"]), (&json!(3600), &json!("auth/cert/login")));
    assert_eq!((&shown["orphan"], &shown["display_name"]), (&json!(true), &json!("cert-web")));
    // The text is nowhere but with the client.
    assert!(!rig.log_text().contains(&token));
    let line = rig.log().into_iter().rev().find(|line| line["path"] == "auth/token/lookup-self").expect("logged");
    let accessor = shown["accessor"].as_str().expect("a text");
    assert!(line["rule"].as_str().expect("a text").ends_with(&format!("token:{accessor}")), "{line}");

    // Bound to this very certificate, and to the role.
    assert_forbidden(own(&rig, &with(&client(&rig, &ca, "web-1"), &token)));
    assert_bad(rig.write(&web, "auth/cert/login", r#"{"name":"other"}"#));
    assert_forbidden(rig.write(&client(&rig, &ca, "db-1"), "auth/cert/login", ""));
    rig.ask(&rig.operator(), Operation::Delete, "auth/cert/certs/web", "").expect("deleted");
    assert_forbidden(own(&rig, &holder));
}

#[test]
fn a_token_of_a_named_role_has_the_policies_of_that_role() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let none = json!({ "certificate": ca.pem(), "allowed_common_names": "*", "policies": "none" });
    role(&rig, "a-first", &none).expect("written");
    role(&rig, "web", &for_ca(&ca)).expect("written");
    let web = client(&rig, &ca, "web-1");
    assert!(!works(&rig, &web), "without a name the first role counts");
    let token = text(&auth(&rig.write(&web, "auth/cert/login", r#"{"name":"web"}"#).expect("logged in")));
    assert!(works(&rig, &with(&web, &token)));
    // The role gives less from now on, and the token with it.
    rig.write(&rig.operator(), "auth/cert/certs/web", r#"{"token_policies":"none"}"#).expect("changed");
    assert!(!works(&rig, &with(&web, &token)));
    assert_bad(rig.write(&with(&web, &token), "auth/token/renew-self", "{}"));
    // And nobody has it when the role is gone.
    rig.ask(&rig.operator(), Operation::Delete, "auth/cert/certs/web", "").expect("deleted");
    assert_forbidden(own(&rig, &with(&web, &token)));
}

#[test]
fn an_identity_of_our_own_logs_in_without_a_role() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "app", APP);
    // A token from before is not in the way.
    let token = login(&rig, &with(&web, "hvs.old"));
    let shown = own(&rig, &with(&web, &token)).expect("shown");
    assert_eq!(shown["policies"], json!(["app", "default"]));
    assert_eq!(shown["meta"]["identity"], "spiffe://example.org/app/web");
    assert!(works(&rig, &with(&web, &token)) && works(&rig, &with(&web, "")));
    assert_forbidden(rig.write(&rig.caller("app/nobody"), "auth/cert/login", ""));
    assert_bad(rig.write(&web, "auth/cert/login", r#"{"name":"web"}"#));
    // A later certificate of the same identity may use it, another identity may not.
    assert!(works(&rig, &Caller { fingerprint: [2; 32], ..with(&web, &token) }));
    let other = rig.admit("app/other", "app", APP);
    for caller in [&other, &rig.operator(), &rig.caller("app/nobody")] {
        assert_forbidden(own(&rig, &with(caller, &token)));
        assert_forbidden(rig.read(&with(caller, &token), "secret/data/app/x"));
        assert_forbidden(rig.read(&with(caller, &token), "sys/strongroom/identities/app/web"));
    }
    assert_forbidden(rig.read(&with(&other, &token), "sys/internal/ui/mounts"));
    for bad in ["x", "hvs.", &format!("{token}x"), &format!("hvs.{}", "A".repeat(43))] {
        assert_forbidden(own(&rig, &with(&web, bad)));
    }
    assert_bad(own(&rig, &web));
}

#[test]
fn a_token_only_takes_away() {
    let rig = Rig::new();
    let operator = rig.operator();
    for (name, policy) in
        [("other", OTHER), ("maker", MAKER), ("deny", r#"path "secret/data/app/prod" { capabilities = ["deny"] }"#)]
    {
        let body = json!({ "policy": policy }).to_string();
        rig.write(&operator, &format!("sys/policies/acl/{name}"), &body).expect("written");
    }
    let identity = "sys/strongroom/identities/app/web";
    rig.write(&operator, identity, r#"{"policies":["maker","other","deny"]}"#).expect("written");
    let web = rig.caller("app/web");
    let token = create(&rig, &web, &json!({ "policies": ["maker"], "no_default_policy": true }));
    let holder = with(&web, &token);
    assert_eq!(own(&rig, &holder).expect("shown")["policies"], json!(["maker"]));
    assert!(works(&rig, &holder));
    assert_forbidden(rig.write(&holder, "secret/data/other/x", r#"{"data":{}}"#));
    assert!(rig.write(&web, "secret/data/other/x", r#"{"data":{}}"#).is_ok());
    // A policy that takes away counts although the token does not have it.
    assert_forbidden(rig.write(&holder, "secret/data/app/prod", r#"{"data":{}}"#));
    let ask = r#"{"paths":["secret/data/app/x","secret/data/app/prod","secret/data/other/x"]}"#;
    assert_forbidden(rig.write(&holder, "sys/capabilities-self", ask));
    let all = create(&rig, &web, &json!({ "policies": "maker" }));
    let may = body_of(&rig.write(&with(&web, &all), "sys/capabilities-self", ask).expect("default has it"));
    assert_eq!(may["secret/data/app/x"], json!(["create", "read", "update"]));
    assert_eq!((&may["secret/data/app/prod"], &may["secret/data/other/x"]), (&json!(["deny"]), &json!(["deny"])));
    // No more than the creator has, whatever it may do; neither out of a token.
    for (caller, policies) in [(&web, "admin"), (&operator, "maker"), (&holder, "other"), (&holder, "root")] {
        assert_bad(rig.write(caller, "auth/token/create", &json!({ "policies": policies }).to_string()));
    }
    assert_bad(rig.write(&web, "auth/token/create", r#"{"period":"1h"}"#));
    assert_bad(rig.write(&holder, "auth/token/create", r#"{"no_parent":true}"#));
    assert_forbidden(rig.write(&web, "auth/token/create-orphan", "{}"));
    // The identity has less from now on.
    rig.write(&operator, identity, r#"{"policies":["other"]}"#).expect("written");
    assert!(!works(&rig, &holder));
    assert_forbidden(rig.write(&holder, "secret/data/other/x", r#"{"data":{}}"#));
    // A policy that is written anew counts as it stands now.
    rig.write(&operator, identity, r#"{"policies":["maker"]}"#).expect("written");
    assert!(works(&rig, &holder));
    rig.write(&operator, "sys/policies/acl/maker", &json!({ "policy": OTHER }).to_string()).expect("written");
    assert!(!works(&rig, &holder));
}

#[test]
fn a_family_ends_together() {
    let rig = Rig::new();
    let operator = rig.operator();
    let web = rig.admit("app/web", "maker", MAKER);
    let root = create(&rig, &web, &json!({}));
    let child = create(&rig, &with(&web, &root), &json!({ "ttl": "2h", "meta": { "a": "b" } }));
    let grandchild = create(&rig, &with(&web, &child), &json!({}));
    let apart = create(&rig, &web, &json!({}));
    let shown = own(&rig, &with(&web, &child)).expect("shown");
    assert_eq!((&shown["orphan"], &shown["ttl"], &shown["meta"]["a"]), (&json!(false), &json!(7200), &json!("b")));
    let listed = rig.ask(&operator, Operation::List, "auth/token/accessors", "").expect("listed");
    assert_eq!(body_of(&listed)["keys"].as_array().expect("a list").len(), 4);
    assert_forbidden(rig.ask(&web, Operation::List, "auth/token/accessors", ""));

    // By others: by text and by accessor.
    let found =
        body_of(&rig.write(&operator, "auth/token/lookup", &json!({ "token": child }).to_string()).expect("it"));
    assert_eq!(found["id"], json!(child));
    let by_accessor = json!({ "accessor": found["accessor"] }).to_string();
    let found = body_of(&rig.write(&operator, "auth/token/lookup-accessor", &by_accessor).expect("found"));
    assert_eq!((&found["id"], &found["ttl"]), (&json!(""), &json!(7200)));
    assert_forbidden(rig.write(&web, "auth/token/lookup", &json!({ "token": child }).to_string()));
    assert_forbidden(rig.write(&operator, "auth/token/lookup", r#"{"token":"hvs.x"}"#));
    let nobody = json!({ "accessor": "A".repeat(24) }).to_string();
    assert_bad(rig.write(&operator, "auth/token/lookup-accessor", &nobody));
    assert_bad(rig.write(&operator, "auth/token/revoke-accessor", &nobody));
    assert!(rig.write(&operator, "auth/token/revoke", r#"{"token":"hvs.x"}"#).is_ok());

    rig.write(&operator, "auth/token/revoke-accessor", &by_accessor).expect("revoked");
    assert_forbidden(own(&rig, &with(&web, &child)));
    assert_forbidden(own(&rig, &with(&web, &grandchild)));
    assert!(works(&rig, &with(&web, &root)));
    let child = create(&rig, &with(&web, &root), &json!({}));
    rig.write(&with(&web, &root), "auth/token/revoke-self", "").expect("revoked");
    assert_forbidden(own(&rig, &with(&web, &child)));
    assert!(works(&rig, &with(&web, &apart)));
}

#[test]
fn children_may_live_on_as_orphans() {
    let rig = Rig::new();
    let operator = rig.operator();
    let web = rig.admit("app/web", "maker", MAKER);
    let root = create(&rig, &web, &json!({}));
    let middle = create(&rig, &with(&web, &root), &json!({}));
    let child = create(&rig, &with(&web, &middle), &json!({ "ttl": "2h" }));
    let grandchild = create(&rig, &with(&web, &child), &json!({}));
    let sibling = create(&rig, &with(&web, &root), &json!({}));
    let body = json!({ "token": middle }).to_string();
    let path = "auth/token/revoke-orphan";
    assert_forbidden(rig.write(&with(&web, &middle), path, &body));
    let updater = rig.admit("ops/updater", "updater", r#"path "auth/token/*" { capabilities = ["update"] }"#);
    assert_forbidden(rig.write(&updater, path, &body));
    assert!(rig.write(&operator, path, &body).expect("revoked").data.is_none());
    assert_forbidden(own(&rig, &with(&web, &middle)));
    let shown = own(&rig, &with(&web, &child)).expect("alive");
    assert_eq!((&shown["orphan"], &shown["ttl"]), (&json!(true), &json!(7200)));
    let below = own(&rig, &with(&web, &grandchild)).expect("alive");
    assert_eq!(below["orphan"], json!(false), "it still has a parent");
    rig.write(&with(&web, &child), "auth/token/renew-self", "{}").expect("renewed");
    for gone in [body.as_str(), r#"{"token":"hvs.x"}"#] {
        assert_bad(rig.write(&operator, path, gone));
    }
    assert_bad(rig.write(&operator, path, "{}"));

    // It is nobody's child any more, also after a restart, and it is still somebody's parent.
    rig.write(&with(&web, &root), "auth/token/revoke-self", "").expect("revoked");
    assert_forbidden(own(&rig, &with(&web, &sibling)));
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    assert!(works(&rig, &with(&web, &child)) && works(&rig, &with(&web, &grandchild)));
    rig.write(&with(&web, &child), "auth/token/revoke-self", "").expect("revoked");
    assert_forbidden(own(&rig, &with(&web, &grandchild)));
}

#[test]
fn an_orphan_out_of_a_login_is_renewed_as_a_child_is() {
    let rig = Rig::new();
    let ca = authority("outside root");
    rig.admit("app/maker", "maker", MAKER);
    let fields = json!({ "certificate": ca.pem(), "allowed_common_names": "*", "policies": ["maker", "app"] });
    role(&rig, "web", &fields).expect("written");
    let web = client(&rig, &ca, "web-1");
    let token = login(&rig, &web);
    let child = create(&rig, &with(&web, &token), &json!({ "policies": ["maker"] }));
    let renew = |rig: &Rig| rig.write(&with(&web, &child), "auth/token/renew-self", "{}");
    renew(&rig).expect("it has fewer policies by right");
    let body = json!({ "token": token }).to_string();
    rig.write(&rig.operator(), "auth/token/revoke-orphan", &body).expect("revoked");
    renew(&rig).expect("still");
    // Its role counts for it all the same.
    rig.ask(&rig.operator(), Operation::Delete, "auth/cert/certs/web", "").expect("deleted");
    assert_forbidden(renew(&rig));
}

#[test]
fn tidying_removes_what_has_ended_and_nothing_else() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "maker", MAKER);
    let operator = rig.operator();
    let before = rig.disk.records();
    let kept = create(&rig, &web, &json!({ "ttl": "10h" }));
    for _ in 0..12 {
        let short = create(&rig, &web, &json!({ "ttl": "10m" }));
        create(&rig, &with(&web, &short), &json!({ "ttl": "10h" }));
    }
    let below = create(&rig, &with(&web, &kept), &json!({ "ttl": "10h" }));
    assert_eq!(rig.disk.records(), before + 26);
    let tidy = |caller: &Caller| rig.write(caller, "auth/token/tidy", "");
    tidy(&operator).expect("done");
    assert_eq!(rig.disk.records(), before + 26, "all are alive");
    rig.clock.advance(600_000);
    assert_forbidden(tidy(&web));
    let reply = tidy(&operator).expect("done");
    assert_eq!((reply.status, reply.data.is_none(), reply.warnings.len()), (ReplyStatus::Accepted, true, 0));
    assert_eq!(rig.disk.records(), before + 2, "and with those that ended, what they had made");
    assert!(works(&rig, &with(&web, &kept)) && works(&rig, &with(&web, &below)));
    let line = rig.log().into_iter().rev().find(|line| line["type"] == "reply" && line["status"] == 202);
    assert!(line.is_some(), "logged as it was answered");
}

#[test]
fn a_token_ends_with_its_parent_also_when_that_expires() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "maker", MAKER);
    let root = create(&rig, &web, &json!({ "ttl": "10m" }));
    let child = create(&rig, &with(&web, &root), &json!({ "ttl": "10h" }));
    assert!(works(&rig, &with(&web, &child)));
    rig.clock.advance(600_000);
    assert_forbidden(own(&rig, &with(&web, &root)));
    assert_forbidden(own(&rig, &with(&web, &child)));
    // What has ended is removed along with the next token.
    rig.clock.advance(10 * 3_600_000);
    create(&rig, &web, &json!({}));
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    let listed = rig.ask(&rig.operator(), Operation::List, "auth/token/accessors", "").expect("listed");
    assert_eq!(body_of(&listed)["keys"].as_array().expect("a list").len(), 1);
    assert!(!works(&rig, &with(&web, &child)));
}

#[test]
fn tokens_are_renewed() {
    let rig = Rig::new();
    let operator = rig.operator();
    let web = rig.admit("app/web", "maker", MAKER);
    let token = create(&rig, &web, &json!({ "ttl": "1h", "explicit_max_ttl": "3h" }));
    rig.clock.advance(1_800_000);
    let renewed =
        auth(&rig.write(&with(&web, &token), "auth/token/renew-self", r#"{"increment":"2h"}"#).expect("renewed"));
    assert_eq!((&renewed["lease_duration"], text(&renewed)), (&json!(7200), token.clone()));
    let body = json!({ "token": token, "increment": 60 }).to_string();
    assert_forbidden(rig.write(&web, "auth/token/renew", &body));
    let renewed = auth(&rig.write(&operator, "auth/token/renew", &body).expect("renewed"));
    assert_eq!(renewed["lease_duration"], json!(60));
    let body = json!({ "accessor": renewed["accessor"], "increment": "9h" }).to_string();
    let reply = rig.write(&operator, "auth/token/renew-accessor", &body).expect("renewed");
    assert_eq!((&auth(&reply)["lease_duration"], reply.warnings.len()), (&json!(9000), 1));
    assert_eq!(auth(&reply)["client_token"], json!(""));
    assert_bad(rig.write(&web, "auth/token/renew-self", "{}"));
    rig.clock.advance(9_000_000);
    assert_forbidden(rig.write(&with(&web, &token), "auth/token/renew-self", "{}"));
    assert_forbidden(rig.write(&operator, "auth/token/renew", &json!({ "token": token }).to_string()));
    let stiff = create(&rig, &web, &json!({ "renewable": false }));
    assert_bad(rig.write(&with(&web, &stiff), "auth/token/renew-self", "{}"));
}

#[test]
fn uses_are_counted_before_the_answer() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "maker", MAKER);
    rig.write(&web, "secret/data/app/x", r#"{"data":{"A":"1"}}"#).expect("written");
    let token = create(&rig, &web, &json!({ "num_uses": 4 }));
    let holder = with(&web, &token);
    assert!(rig.read(&holder, "secret/data/app/x").is_ok());
    assert_eq!(own(&rig, &holder).expect("shown")["num_uses"], json!(2));
    assert_bad(rig.write(&holder, "auth/token/create", "{}"));
    // The last use is for a write, which is decided twice; a restart forgets nothing.
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    assert!(works(&rig, &holder));
    assert!(!works(&rig, &holder));
    assert_forbidden(rig.read(&holder, "secret/data/app/x"));
    let listed = rig.ask(&rig.operator(), Operation::List, "auth/token/accessors", "").expect("listed");
    assert_eq!(body_of(&listed)["keys"], json!([]));
    // A use is not given when it cannot be made durable.
    let token = create(&rig, &web, &json!({ "num_uses": 1 }));
    rig.spy.fail(super::support::Fault::Full);
    assert!(matches!(rig.read(&with(&web, &token), "secret/data/app/x"), Err(VaultError::Full)));
    rig.spy.fail(super::support::Fault::None);
    assert!(rig.read(&with(&web, &token), "secret/data/app/x").is_ok());
    // A refused request counts, too.
    let token = create(&rig, &web, &json!({ "num_uses": 1 }));
    assert_forbidden(rig.read(&with(&web, &token), "secret/data/other/x"));
    assert_forbidden(rig.read(&with(&web, &token), "secret/data/app/x"));
}

#[test]
fn what_ends_an_identity_ends_its_tokens() {
    let rig = Rig::new();
    let operator = rig.operator();
    let web = rig.admit("app/web", "app", APP);
    let token = login(&rig, &web);
    let holder = with(&web, &token);
    rig.write(&operator, "sys/strongroom/disable/app/web", "").expect("disabled");
    assert_forbidden(own(&rig, &holder));
    rig.write(&operator, "sys/strongroom/enable/app/web", "").expect("enabled");
    assert!(works(&rig, &holder));
    // Neither comes back with a later certificate, nor with the same name.
    rig.write(&operator, "sys/strongroom/revoke/app/web", "").expect("revoked");
    let later = rig.clock.now_ms() + 3_600_000;
    let renewed = Caller { not_before_ms: later, ..web.clone() };
    rig.clock.advance(7_200_000);
    assert!(works(&rig, &renewed));
    assert_forbidden(own(&rig, &with(&renewed, &token)));
    let token = login(&rig, &renewed);
    rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/app/web", "").expect("deleted");
    assert_forbidden(own(&rig, &with(&renewed, &token)));
    rig.admit("app/web", "app", APP);
    assert!(works(&rig, &renewed));
    assert_forbidden(own(&rig, &with(&renewed, &token)));
}

#[test]
fn a_compromise_ends_every_token() {
    let rig = Rig::new();
    let operator = rig.operator();
    let web = rig.admit("app/web", "app", APP);
    let token = login(&rig, &web);
    let csr = rcgen::KeyPair::generate()
        .and_then(|key| rcgen::CertificateParams::default().serialize_request(&key))
        .and_then(|csr| csr.pem())
        .expect("a request");
    let body = json!({ "csr": csr }).to_string();
    rig.write(&operator, "sys/strongroom/ca/compromise", &body).expect("done");
    assert_forbidden(own(&rig, &with(&web, &token)));
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    assert_forbidden(own(&rig, &with(&web, &token)));
}

#[test]
fn a_compromised_slot_ends_every_token() {
    use base64::Engine as _;
    let rig = Rig::new();
    let web = rig.admit("app/web", "app", APP);
    let token = login(&rig, &web);
    let csr = crate::pki::request(crate::pki::KeyType::P256).expect("a key").csr_pem;
    let file = base64::engine::general_purpose::STANDARD.encode(super::support::KEY_FILE);
    let body = json!({ "keep": [{ "key_file": file }], "compromised": "passphrase", "csr": csr }).to_string();
    rig.write(&rig.operator(), "sys/strongroom/rekey", &body).expect("begun");
    assert_forbidden(own(&rig, &with(&web, &token)));
}

#[test]
fn tokens_survive_a_restart() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "app", APP);
    let token = login(&rig, &web);
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    assert!(works(&rig, &with(&web, &token)));
    assert_eq!(own(&rig, &with(&web, &token)).expect("shown")["path"], json!("auth/cert/login"));
}

/// Whoever reads the store, even with its keys, finds no token that he could show.
#[test]
fn no_record_holds_the_text_of_a_token() {
    let rig = Rig::new();
    let ca = authority("outside root");
    role(&rig, "web", &for_ca(&ca)).expect("written");
    let web = client(&rig, &ca, "web-1");
    let maker = rig.admit("app/maker", "maker", MAKER);
    rig.write(&maker, "secret/data/app/known", r#"{"data":{"k":"known-value"}}"#).expect("written");
    let made = create(&rig, &maker, &json!({ "policies": ["maker"], "ttl": "1h" }));
    let texts = [login(&rig, &web), create(&rig, &with(&maker, &made), &json!({ "policies": ["maker"] })), made];
    assert!(own(&rig, &with(&maker, &texts[2])).is_ok());

    let records = opened(&rig);
    let holds = |text: &str| records.iter().filter(|record| find(record, text.as_bytes())).count();
    assert_eq!(holds("known-value"), 1, "what is stored as it is would be seen");
    assert_eq!(holds("auth/token/create"), 3, "the records of the two made tokens, and the policy");
    let mut files = vec![rig.log_text().into_bytes()];
    rig.disk.raw(|key, value| files.push([key, value].concat()));
    for text in &texts {
        let (kind, random) = text.split_once('.').expect("a kind and the rest");
        assert!(kind == "hvs" && random.len() >= 24, "{kind}");
        assert_eq!(holds(random), 0, "a record of the store");
        assert!(!files.iter().any(|file| find(file, random.as_bytes())), "the log or a record as it lies on the disk");
    }
}

fn find(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Every record of the store but the one of its state, with its name, decrypted.
fn opened(rig: &Rig) -> Vec<Vec<u8>> {
    let live = rig.vault.live().expect("open");
    let mut found = Vec::new();
    for mount in MountId::builtins().chain(live.snapshot.load().mounts.ids()) {
        let view = live.barrier.view(mount);
        for name in view.entries().expect("sound") {
            let entry = view.entry(&name).expect("sound").expect("listed");
            found.push([name.as_bytes(), b" ", entry.value.reveal()].concat());
        }
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for child in view.children(&folder).expect("sound") {
                let path = if folder.is_empty() { child.name } else { format!("{folder}/{}", child.name) };
                let node = view.node(&path).expect("sound").expect("listed");
                for version in node.meta.iter().flat_map(|meta| &meta.versions) {
                    let value = view.value(&path, &node, version.version).expect("sound").expect("listed");
                    found.push(value.reveal().to_vec());
                }
                found.push(format!("{path} {:?}", node.meta.as_ref().map(|meta| &meta.custom)).into_bytes());
                folders.push(path);
            }
        }
    }
    assert_eq!(found.len() + 1, rig.disk.records(), "every record was opened");
    found
}
