//! However a path is written: what is decided and audited is what is done.

use proptest::prelude::*;
use serde_json::Value;

use super::support::Rig;
use crate::api::request::Operation;
use crate::core::pipeline::route::{Guard, Route};
use crate::core::routes::auth;
use crate::core::routes::sys::ROUTES;
use crate::core::{Caller, VaultError};

const EVERYTHING: &str = r#"["create", "read", "update", "patch", "delete", "list", "sudo"]"#;
/// No route takes it, so none does anything with a body.
const BODY: &str = r#"{"no-such-field":1}"#;

fn routes() -> Vec<&'static Route> {
    ROUTES.iter().chain(auth::ROUTES).collect()
}

fn filled(pattern: &str) -> String {
    pattern.replace('+', "some").replace('*', "some/name")
}

fn set_policy(rig: &Rig, text: &str) {
    let body = serde_json::json!({ "policy": text }).to_string();
    rig.write(&rig.operator(), "sys/policies/acl/probe", &body).expect("a policy");
}

/// What somebody is told, and what the audit log says of it.
fn asked(rig: &Rig, caller: &Caller, operation: Operation, path: &str) -> (String, Value) {
    let seen = rig.log_text().lines().count();
    let told = match rig.ask(caller, operation, path, BODY) {
        Ok(_) => "answered".to_owned(),
        Err(error) => format!("{} {error}", error.status()),
    };
    let log = rig.log_text();
    let lines = log.lines().skip(seen).map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let line = lines.filter(|line| line["decision"].is_string()).last().expect("audited");
    if rig.vault.is_sealed() {
        rig.unseal().expect("opens again");
    }
    (told, serde_json::json!([line["path"], line["decision"], line["rule"], line["policies"]]))
}

/// Allows everything below `sys/` and `auth/` but this path.
fn all_but(rig: &Rig, path: &str) {
    set_policy(
        rig,
        &format!(
            r#"path "sys/*" {{ capabilities = {EVERYTHING} }}
               path "auth/*" {{ capabilities = {EVERYTHING} }}
               path "{path}" {{ capabilities = ["deny"] }}"#
        ),
    );
}

#[test]
fn no_slash_gets_around_a_deny() {
    let rig = Rig::new();
    let caller = rig.admit("app/probe", "probe", r#"path "x" { capabilities = ["read"] }"#);
    for route in routes().into_iter().filter(|route| route.guard == Guard::Policy) {
        let path = filled(route.pattern);
        all_but(&rig, &path);
        for path in [path.clone(), format!("{path}/")] {
            let refused = rig.ask(&caller, route.operation, &path, BODY).err();
            assert!(matches!(refused, Some(VaultError::Forbidden)), "{:?} {path}: {refused:?}", route.operation);
        }
    }
}

#[test]
fn no_capital_gets_around_a_deny() {
    let rig = Rig::new();
    let caller = rig.admit("app/probe", "probe", r#"path "x" { capabilities = ["read"] }"#);
    rig.write(&rig.operator(), "sys/policies/acl/some", r#"{"policy":"path \"a\" { capabilities = [\"read\"] }"}"#)
        .expect("there is one");
    let named = || routes().into_iter().filter(|route| route.lower);
    assert_eq!(named().count(), 12);
    for route in named() {
        let path = filled(route.pattern);
        all_but(&rig, &path);
        for name in ["some", "SOME", "sOme", "Some/"] {
            let path = path.replace("some", name);
            let refused = rig.ask(&caller, route.operation, &path, BODY).err();
            assert!(matches!(refused, Some(VaultError::Forbidden)), "{:?} {path}: {refused:?}", route.operation);
        }
        let (_, line) = asked(&rig, &caller, route.operation, &path.replace("some", "SOME/"));
        assert_eq!(line[0], path.as_str());
    }
    // Names that are kept as they are stay two.
    let group = |name: &str| format!("sys/strongroom/groups/{name}");
    rig.write(&rig.operator(), &group("Web"), r#"{"policies":[]}"#).expect("made");
    assert!(matches!(rig.read(&rig.operator(), &group("web")), Err(VaultError::NotFound)));
}

#[test]
fn a_folder_is_never_taken_for_a_secret() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, "secret/data/some", r#"{"data":{"k":"v"}}"#).expect("written");
    let before = rig.read(&operator, "secret/metadata/some").expect("there");
    for endpoint in
        ["config", "data/some", "delete/some", "undelete/some", "destroy/some", "subkeys/some", "metadata/some"]
    {
        for operation in [Operation::Read, Operation::Write, Operation::Patch, Operation::Delete] {
            let path = format!("secret/{endpoint}/");
            match rig.ask(&operator, operation, &path, r#"{"versions":[1],"data":{"k":"w"}}"#) {
                Err(VaultError::NotFound | VaultError::NotFoundWith(_)) => {}
                other => panic!("{operation:?} {path}: {:?}", other.err()),
            }
        }
    }
    assert_eq!(rig.read(&operator, "secret/metadata/some").expect("there"), before);
}

/// Rules around a path: what is written for it, for what is above and below, and with wildcards.
fn rules(path: &str, picks: &[(usize, bool, usize)]) -> String {
    let above = path.rsplit_once('/').map_or(path, |(above, _)| above);
    let mut segments: Vec<&str> = path.split('/').collect();
    let mut text = String::new();
    for (shape, allow, at) in picks {
        let pattern = match shape {
            0 => path.to_owned(),
            1 => format!("{path}/"),
            2 => format!("{path}*"),
            3 => format!("{path}/*"),
            4 => format!("{above}/*"),
            5 => {
                let at = 1 + at % (segments.len() - 1);
                let kept = std::mem::replace(&mut segments[at], "+");
                let pattern = segments.join("/");
                segments[at] = kept;
                pattern
            }
            _ => "*".to_owned(),
        };
        let verbs = if *allow { EVERYTHING } else { r#"["deny"]"# };
        text.push_str(&format!("path \"{pattern}\" {{ capabilities = {verbs} }}\n"));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn with_and_without_slash_it_is_one_request(
        picks in prop::collection::vec((0..7_usize, any::<bool>(), 0..8_usize), 1..4),
        offset in 0..8_usize,
    ) {
        let rig = Rig::new();
        let caller = rig.admit("app/probe", "probe", r#"path "x" { capabilities = ["read"] }"#);
        for route in routes().into_iter().skip(offset).step_by(8) {
            let path = filled(route.pattern);
            set_policy(&rig, &rules(&path, &picks));
            let plain = asked(&rig, &caller, route.operation, &path);
            let slash = asked(&rig, &caller, route.operation, &format!("{path}/"));
            prop_assert_eq!(plain, slash, "{:?} {}", route.operation, path);
        }
    }
}
