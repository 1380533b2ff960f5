//! Idle connections: whatever takes access away closes them before it answers, and nobody else's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::api::error::Reason;
use crate::api::request::Operation;
use crate::core::{Caller, Session, VaultError};

use super::identities::{Key, enrolled, holder};
use super::roles::{authority, client, for_ca, role, works};
use super::support::{Rig, json as body_of, wait};

fn idle(rig: &Rig, caller: &Caller) -> Session {
    rig.vault.sessions().enter(Arc::new(caller.clone()), 9, 9).expect("room")
}

fn is_closed(session: &mut Session) -> bool {
    wait(async { tokio::time::timeout(Duration::ZERO, session.closed()).await.is_ok() })
}

/// Takes access away in one way, and looks at an idle connection of who loses it and of somebody else.
#[track_caller]
fn closes(what: &str, take: impl FnOnce(&Rig, &Caller)) {
    let rig = Rig::new();
    let (_, gone) = enrolled(&rig, "app/gone");
    let gone = holder(&rig, &gone.certificate);
    let (mut open, mut other) = (idle(&rig, &gone), idle(&rig, &rig.operator()));
    take(&rig, &gone);
    assert!(is_closed(&mut open), "{what}: still open");
    assert!(!is_closed(&mut other), "{what}: somebody else's is closed");
}

fn order(rig: &Rig, path: &str, body: &str) {
    rig.write(&rig.operator(), &format!("sys/strongroom/{path}"), body).expect("done");
}

#[test]
fn whatever_ends_an_identity_or_a_certificate_closes_its_connections() {
    closes("disable", |rig, _| order(rig, "disable/app/gone", "{}"));
    closes("revoke all", |rig, _| order(rig, "revoke/app/gone", "{}"));
    closes("revoke one", |rig, gone| {
        let certificate = crate::api::hex::hex(&gone.fingerprint);
        order(rig, "revoke/app/gone", &json!({ "certificate": certificate }).to_string());
    });
    closes("remove", |rig, _| {
        let path = "sys/strongroom/identities/app/gone";
        rig.ask(&rig.operator(), Operation::Delete, path, "").expect("removed");
    });
    closes("freeze", |rig, gone| {
        let renew = || rig.write(gone, "sys/strongroom/renew", &Key::new().body());
        renew().expect("renewed");
        assert!(matches!(renew(), Err(VaultError::NotAdmitted(Reason::Frozen))), "with another key");
    });
}

#[test]
fn the_end_of_an_authority_closes_the_connections_of_its_certificates() {
    let successor = |rig: &Rig| {
        let id = body_of(&rig.write(&rig.operator(), "sys/strongroom/ca/prepare", "{}").expect("prepared"));
        let id = id["id"].as_str().expect("text").to_owned();
        for verb in ["trust", "activate"] {
            order(rig, &format!("ca/{id}/{verb}"), r#"{"force":true}"#);
        }
    };
    for verb in ["remove", "revoke"] {
        closes(verb, |rig, gone| {
            let crate::core::Origin::Vault(old) = gone.origin else { panic!("a certificate of ours") };
            successor(rig);
            order(rig, &format!("ca/{}/{verb}", old.hex()), r#"{"force":true}"#);
        });
    }
    closes("compromise", |rig, _| order(rig, "ca/compromise", &Key::new().body()));
}

#[test]
fn the_end_of_a_role_closes_the_connections_that_had_no_other() {
    let rig = Rig::new();
    let ca = authority("outside root");
    let (web, db) = (client(&rig, &ca, "web-1"), client(&rig, &ca, "db-1"));
    role(&rig, "web", &for_ca(&ca)).expect("written");
    role(&rig, "db", &json!({ "certificate": ca.pem(), "allowed_common_names": "db-*", "policies": "app" }))
        .expect("written");
    assert!(works(&rig, &web) && works(&rig, &db));
    let (mut web, mut db, mut own) = (idle(&rig, &web), idle(&rig, &db), idle(&rig, &rig.operator()));
    role(&rig, "db", &json!({ "allowed_common_names": "d*" })).expect("wider");
    assert!(!is_closed(&mut web) && !is_closed(&mut db));
    rig.ask(&rig.operator(), Operation::Delete, "auth/cert/certs/web", "").expect("deleted");
    assert!(is_closed(&mut web) && !is_closed(&mut db), "deleted");
    role(&rig, "db", &json!({ "allowed_common_names": "db-2" })).expect("narrower");
    assert!(is_closed(&mut db) && !is_closed(&mut own), "narrowed");
}

#[test]
fn what_was_connected_to_a_sealed_vault_is_looked_at_when_it_opens() {
    let rig = Rig::new();
    let (_, gone) = enrolled(&rig, "app/gone");
    let gone = holder(&rig, &gone.certificate);
    order(&rig, "disable/app/gone", "{}");
    rig.vault.seal();
    assert!(rig.vault.admits(&gone), "a sealed vault knows nothing against anybody");
    let (mut open, mut other) = (idle(&rig, &gone), idle(&rig, &rig.operator()));
    rig.unseal().expect("opens");
    assert!(is_closed(&mut open) && !is_closed(&mut other));
}
