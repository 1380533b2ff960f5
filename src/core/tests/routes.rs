//! Every route, with everybody.

use super::support::{Rig, json};
use crate::api::error::Reason;
use crate::api::request::Operation;
use crate::core::VaultError;
use crate::core::pipeline::route::Guard;
use crate::core::routes::sys::ROUTES;

/// A path for a pattern.
fn path_of(pattern: &str) -> String {
    pattern.replace('+', "some").replace('*', "some/name")
}

#[test]
fn every_route_refuses_everybody_it_was_not_given_to() {
    let rig = Rig::new();
    let nothing = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let stranger = rig.caller("app/unknown");
    let mut expired = rig.operator();
    expired.not_after_ms = 1;
    for route in ROUTES {
        let path = path_of(route.pattern);
        for (who, caller) in [("app", &nothing), ("stranger", &stranger), ("expired", &expired)] {
            let lines = rig.log().len();
            let answer = rig.ask(caller, route.operation, &path, "");
            assert!(rig.log().len() > lines, "{who} {path}: not audited");
            if route.guard == Guard::Open {
                match answer {
                    Err(VaultError::Preflight(_)) if who != "expired" => assert!(path.ends_with("some/name")),
                    Err(VaultError::NotAdmitted(_)) if who == "expired" => assert!(path.ends_with("some/name")),
                    // What the vault is trusted by is for everybody.
                    Ok(reply) if path.starts_with("sys/strongroom/c") => assert!(reply.data.is_some()),
                    Ok(reply) => {
                        let shown = json(&reply)["secret"].as_object().expect("a map").len();
                        assert_eq!(shown, usize::from(who == "app"), "{who} {path}");
                    }
                    Err(other) => panic!("{who} {path}: {other}"),
                }
            } else if ["sys/capabilities-self", "sys/strongroom/events", "sys/strongroom/renew"]
                .contains(&path.as_str())
                && who == "app"
            {
                // `default` grants it, or it is everybody's own; the empty body is what is wrong.
                assert!(matches!(answer, Err(VaultError::BadRequest(_))));
            } else {
                let refused = answer.err().unwrap_or_else(|| panic!("{who} {path}: answered"));
                let wanted = match who {
                    "expired" => matches!(refused, VaultError::NotAdmitted(Reason::CertificateExpired)),
                    _ => matches!(refused, VaultError::Forbidden),
                };
                assert!(wanted, "{who} {path}: {refused}");
            }
        }
        let answer = rig.ask(&rig.operator(), route.operation, &path, "");
        assert!(!matches!(answer, Err(VaultError::Forbidden)), "operator {path}");
        if rig.vault.is_sealed() {
            rig.unseal().expect("opens again");
        }
        rig.vault.seal();
        let answer = rig.ask(&rig.operator(), route.operation, &path, "");
        assert!(matches!(answer, Err(VaultError::Sealed)), "sealed {path}");
        rig.unseal().expect("opens again");
    }
}

#[test]
fn sudo_routes_need_sudo() {
    let rig = Rig::new();
    let all = r#"path "sys/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#;
    let almost = rig.admit("ops/almost", "almost", all);
    for route in ROUTES.iter().filter(|route| route.sudo) {
        let refused = rig.ask(&almost, route.operation, &path_of(route.pattern), "").err();
        assert!(matches!(refused, Some(VaultError::Forbidden)), "{}", route.pattern);
    }
    rig.read(&almost, "sys/mounts").expect("needs no sudo");
}

#[test]
fn policies_are_kept_byte_for_byte() {
    let rig = Rig::new();
    let operator = rig.operator();
    let text = "# a comment\npath \"secret/data/a\" {\n  capabilities = [\"read\"]\n}\n";
    let body = serde_json::json!({ "policy": text }).to_string();
    let reply = rig.write(&operator, "sys/policies/acl/Web", &body).expect("taken");
    assert!(reply.data.is_none());
    assert_eq!(reply.warnings, ["policy name was converted to lower case"]);
    let shown = rig.read(&operator, "sys/policies/acl/web").expect("there");
    assert_eq!(shown, serde_json::json!({ "name": "web", "policy": text }));
    let shown = rig.read(&operator, "sys/policy/web").expect("there");
    assert_eq!(shown, serde_json::json!({ "name": "web", "rules": text }));
    let listed = rig.ask(&operator, Operation::List, "sys/policies/acl", "").expect("listed");
    assert!(listed.lists_keys);
    assert_eq!(json(&listed)["keys"], serde_json::json!(["admin", "default", "web"]));
    assert_eq!(rig.read(&operator, "sys/policy").expect("listed")["policies"], json(&listed)["keys"]);
    rig.ask(&operator, Operation::Delete, "sys/policies/acl/web", "").expect("deleted");
    rig.ask(&operator, Operation::Delete, "sys/policies/acl/web", "").expect("deleting nothing is no error");
    assert!(matches!(rig.read(&operator, "sys/policies/acl/web"), Err(VaultError::NotFound)));
}

#[test]
fn policies_that_are_refused() {
    let rig = Rig::new();
    let operator = rig.operator();
    let refuse = |operation, path: &str, body: &str, want: &str| match rig.ask(&operator, operation, path, body) {
        Err(VaultError::BadRequest(text)) => assert!(text.contains(want), "{path}: {text}"),
        other => panic!("{path}: expected a refusal, got {:?}", other.err()),
    };
    let good = r#"{"policy":"path \"a\" { capabilities = [\"read\"] }"}"#;
    refuse(Operation::Write, "sys/policies/acl/x", r#"{"policy":"path \"a\" {\n oops\n}"}"#, "3:1");
    refuse(Operation::Write, "sys/policies/acl/x", r#"{"policy":""}"#, "not supplied");
    refuse(Operation::Write, "sys/policies/acl/x", "", "not supplied");
    refuse(Operation::Write, "sys/policies/acl/x", r#"{"policy":7}"#, "policy");
    refuse(Operation::Write, "sys/policies/acl/x", r#"{"polcy":"x"}"#, "unknown field");
    refuse(Operation::Write, "sys/policies/acl/root", good, "root");
    refuse(Operation::Write, "sys/policies/acl/ROOT", good, "root");
    refuse(Operation::Write, "sys/policy/Root", good, "root");
    refuse(Operation::Delete, "sys/policies/acl/default", "", "default");
    refuse(Operation::Delete, "sys/policy/DEFAULT", "", "default");
    rig.write(&operator, "sys/policy/old", r#"{"rules":"path \"a\" { capabilities = [\"read\"] }"}"#)
        .expect("the old field name");
}

#[test]
fn identities_carry_policies() {
    let rig = Rig::new();
    let operator = rig.operator();
    let path = "sys/strongroom/identities/app/web";
    let reply = rig.write(&operator, path, r#"{"policies":["Web","web","default"]}"#).expect("taken");
    assert_eq!(reply.warnings.len(), 2, "{:?}", reply.warnings);
    let shown = rig.read(&operator, path).expect("there");
    assert_eq!(shown["policies"], serde_json::json!(["web"]));
    let keys = |path: &str| json(&rig.ask(&operator, Operation::List, path, "").expect("listed"))["keys"].clone();
    assert_eq!(keys("sys/strongroom/identities"), serde_json::json!(["app/", "ops/"]));
    assert_eq!(keys("sys/strongroom/identities/app"), serde_json::json!(["web"]));
    for body in ["", r#"{"policies":"a/b"}"#, r#"{"policies":[7]}"#, r#"{"policies":["root"]}"#, r#"{"policy":["x"]}"#]
    {
        assert!(matches!(rig.write(&operator, path, body), Err(VaultError::BadRequest(_))), "{body}");
    }
    rig.ask(&operator, Operation::Delete, path, "").expect("deleted");
    assert!(matches!(rig.read(&operator, path), Err(VaultError::NotFound)));
}

#[test]
fn mounts_and_preflight() {
    let rig = Rig::new();
    let operator = rig.operator();
    let app = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let table = rig.read(&operator, "sys/mounts").expect("shown");
    assert_eq!(table["secret/"]["type"], "kv");
    assert_eq!(table["secret/"]["options"]["version"], "2");
    assert_eq!(rig.read(&operator, "sys/mounts/secret").expect("shown"), table["secret/"]);
    assert!(matches!(rig.read(&operator, "sys/mounts/none"), Err(VaultError::BadRequest(_))));
    for path in ["secret", "secret/data/app/x", "secret/anything"] {
        let shown = rig.read(&app, &format!("sys/internal/ui/mounts/{path}")).expect("any capability will do");
        assert_eq!((&shown["path"], &shown["type"]), (&"secret/".into(), &"kv".into()), "{path}");
    }
    let refused = |caller, path: &str| rig.read(caller, &format!("sys/internal/ui/mounts/{path}")).err();
    for (caller, path) in [(&app, "nowhere/x"), (&rig.caller("app/unknown"), "secret/data/app/x")] {
        let error = refused(caller, path).expect("refused");
        let text = format!(
            "preflight capability check returned 403, please ensure client's policies grant access to path \"{path}/\""
        );
        assert_eq!((error.status(), error.to_string()), (403, text));
    }
    let methods = rig.read(&operator, "sys/auth").expect("shown");
    assert_eq!(methods.as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(rig.read(&operator, "sys/audit").expect("shown")["list/"]["type"], "file");
}

#[test]
fn capabilities_of_the_caller() {
    let rig = Rig::new();
    let app = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read", "update"] }"#);
    let ask = |body: &str| rig.write(&app, "sys/capabilities-self", body).map(|reply| json(&reply));
    let one = ask(r#"{"path":"secret/data/app/x"}"#).expect("answered");
    assert_eq!(one["capabilities"], one["secret/data/app/x"]);
    assert_eq!(one["capabilities"].as_array().map(Vec::len), Some(2));
    let two = ask(r#"{"paths":["secret/data/app/x","secret/data/no"]}"#).expect("answered");
    assert_eq!(two["secret/data/no"], serde_json::json!(["deny"]));
    assert!(two.get("capabilities").is_none());
    // One path that nobody can ask for is no reason to leave the others unanswered.
    let three = ask(r#"{"paths":["a//b","/secret/data/app/x","../x"]}"#).expect("answered");
    assert_eq!((&three["a//b"], &three["../x"]), (&serde_json::json!(["deny"]), &serde_json::json!(["deny"])));
    assert_eq!(three["/secret/data/app/x"], one["capabilities"]);
    assert_eq!(ask(r#"{"path":"%2e%2e"}"#).expect("answered")["capabilities"], serde_json::json!(["deny"]));
}

#[test]
fn certificates_are_issued_for_identities_of_this_domain() {
    let rig = Rig::new();
    let operator = rig.operator();
    let path = "sys/strongroom/certificates";
    let key = rcgen::KeyPair::generate().expect("a key");
    let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("a request").pem().expect("PEM");
    let body =
        |identity: &str, ttl: &str| serde_json::json!({ "identity": identity, "csr": csr, "ttl": ttl }).to_string();
    let reply = json(&rig.write(&operator, path, &body("app/web", "1h")).expect("issued"));
    assert!(reply["certificate"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----")));
    assert_eq!(reply["ca"], rig.vault.ca_pem().expect("open"));
    let log = rig.log();
    let note = log.iter().find(|line| line["kind"] == "issued").expect("a note");
    assert_eq!(note["identity"], "spiffe://example.org/app/web");
    for (identity, ttl) in
        [("spiffe://elsewhere.org/app/web", "1h"), ("a//b", "1h"), ("app/web", "0"), ("app/web", "99999h")]
    {
        let refused = rig.write(&operator, path, &body(identity, ttl)).err();
        assert!(matches!(refused, Some(VaultError::BadRequest(_))), "{identity} {ttl}: {refused:?}");
    }
    let refused = rig.write(&operator, path, r#"{"identity":"app/web","csr":"nonsense"}"#).err();
    assert!(matches!(refused, Some(VaultError::BadRequest(_))), "{refused:?}");
}

#[test]
fn what_verifying_the_audit_log_needs() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, "secret/data/x", r#"{"data":{"k":"v"}}"#).expect("written");
    let head = rig.read(&operator, "sys/strongroom/audit-head").expect("shown");
    let seq = head["seq"].as_u64().expect("a number");
    assert!(rig.log().iter().any(|line| line["seq"] == seq && line["hash"] == head["hash"]));
    let key = rig.read(&operator, "sys/strongroom/audit-key").expect("shown");
    assert_eq!(key["key"].as_str().map(str::len), Some(64));
    let status = rig.read(&operator, "sys/key-status").expect("shown");
    assert_eq!(status["term"], 1);
    assert!(status["encryptions"].as_u64().is_some_and(|seals| seals > 0));
}
