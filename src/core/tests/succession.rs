//! Who holds up the way from one authority to the next, and for how long.

use crate::api::error::Reason;
use crate::barrier::MountId;
use crate::core::state::authorities::{self, Authorities};
use crate::core::{Caller, Clock, VaultError};
use crate::pki::AuthorityId;

use super::identities::{CHANNEL, HOUR_MS, Key, alarms, enroll, enrolled, holder, late, string, works};
use super::support::{Rig, json, wait};

const DAY_MS: u64 = 24 * HOUR_MS;

/// The operator whose certificate does not end, at the bundle of today.
fn operator(rig: &Rig) -> Caller {
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let bundle = rig.read(&operator, "sys/strongroom/ca").expect("public")["id"].clone();
    let bundle = AuthorityId::parse(bundle.as_str().expect("text")).map(|id| id.0);
    Caller { bundle, ..operator }
}

fn step(rig: &Rig, path: &str) -> Result<serde_json::Value, VaultError> {
    rig.write(&operator(rig), &format!("sys/strongroom/ca/{path}"), "{}").map(|reply| json(&reply))
}

/// What a step says when it is held up.
#[track_caller]
fn held_up(rig: &Rig, path: &str) -> String {
    match step(rig, path) {
        Err(VaultError::Because(Reason::ForceNeeded | Reason::EnrolmentsOpen, text)) if text.contains("\"force\"") => {
            text
        }
        other => panic!("expected to be held up, got {other:?}"),
    }
}

fn stragglers(rig: &Rig) -> serde_json::Value {
    rig.read(&operator(rig), "sys/strongroom/ca/stragglers").expect("shown")["identities"].clone()
}

/// A client whose certificate lives for thirty days.
fn long_lived(rig: &Rig, identity: &str) -> Caller {
    let body = r#"{"policies":["app"],"certificate_ttl":"30d"}"#;
    rig.write(&operator(rig), &format!("sys/strongroom/identities/{identity}"), body).expect("registered");
    holder(rig, &enroll(rig, &string(rig, identity, ""), &Key::new()).expect("enrolled").certificate)
}

#[test]
fn who_was_not_seen_for_seven_days_holds_nothing_up() {
    let rig = Rig::new();
    enrolled(&rig, "app/first");
    let [quiet, busy, new, off] = ["app/quiet", "app/busy", "app/new", "app/off"].map(|name| long_lived(&rig, name));
    let seen_ms = rig.clock.now_ms();
    for caller in [&quiet, &busy, &off] {
        assert!(works(&rig, caller));
    }
    let next = step(&rig, "prepare").expect("prepared")["id"].as_str().expect("text").to_owned();
    let trust = format!("{next}/trust");
    // The certificates of the operator and of the first have ended by then.
    rig.clock.advance(7 * DAY_MS - 1_000);
    rig.read(&operator(&rig), "sys/mounts").expect("the operator has today's bundle");
    let busy = Caller { bundle: busy.bundle, ..busy };
    assert!(works(&rig, &busy), "seen now, with the bundle of then");
    rig.write(&operator(&rig), "sys/strongroom/disable/app/off", r#"{"reason":"away"}"#).expect("disabled");
    assert_eq!(stragglers(&rig), serde_json::json!(["app/busy", "app/new", "app/quiet"]));
    assert!(held_up(&rig, &trust).contains("app/quiet"));

    rig.clock.advance(1_000);
    assert_eq!(rig.clock.now_ms(), seen_ms + 7 * DAY_MS);
    assert_eq!(stragglers(&rig), serde_json::json!(["app/busy", "app/new"]), "seven days without a word");
    let said = held_up(&rig, &trust);
    assert!(said.contains("app/busy") && said.contains("app/new") && !said.contains("app/quiet"), "{said}");
    // What is known of them survives a restart.
    rig.vault.note_sightings().expect("written");
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert_eq!(stragglers(&rig), serde_json::json!(["app/busy", "app/new"]));

    // Who comes back counts again, until it has learned of the authority.
    assert!(works(&rig, &quiet));
    assert_eq!(stragglers(&rig), serde_json::json!(["app/busy", "app/new", "app/quiet"]));
    for caller in [&quiet, &busy, &new] {
        rig.clock.advance(2_000);
        assert!(works(&rig, &Caller { bundle: operator(&rig).bundle, ..caller.clone() }));
    }
    step(&rig, &trust).expect("all who count have it");
    step(&rig, &format!("{next}/activate")).expect("all who count have it");
}

#[test]
fn an_authority_goes_unforced_when_its_last_certificate_is_renewed_revoked_or_at_its_end() {
    let rig = Rig::new();
    let first = rig.read(&operator(&rig), "sys/strongroom/ca").expect("public")["authorities"][0]["id"].clone();
    let remove = format!("{}/remove", first.as_str().expect("text"));
    let (_, day) = enrolled(&rig, "app/day");
    let day = holder(&rig, &day.certificate);
    let [renews, revoked, gone] = ["app/renews", "app/revoked", "app/gone"].map(|name| long_lived(&rig, name));
    let next = step(&rig, "prepare").expect("prepared")["id"].as_str().expect("text").to_owned();
    for caller in [&day, &renews, &revoked, &gone] {
        assert!(works(&rig, &Caller { bundle: operator(&rig).bundle, ..caller.clone() }));
    }
    rig.read(&operator(&rig), "sys/mounts").expect("seen");
    step(&rig, &format!("{next}/trust")).expect("everybody has it");
    step(&rig, &format!("{next}/activate")).expect("everybody has it");
    let names = |said: &str| {
        let all = ["app/day", "app/gone", "app/renews", "app/revoked", "ops/olga", "server"];
        all.into_iter().filter(|name| said.contains(name)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&held_up(&rig, &remove)), "app/day app/gone app/renews app/revoked ops/olga server");
    rig.vault.issue_server(&["localhost".to_owned()], 3_600).expect("issued");
    assert_eq!(names(&held_up(&rig, &remove)), "app/day app/gone app/renews app/revoked ops/olga");
    rig.write(&renews, "sys/strongroom/renew", &Key::new().body()).expect("renewed");
    assert_eq!(names(&held_up(&rig, &remove)), "app/day app/gone app/revoked ops/olga");
    rig.write(&operator(&rig), "sys/strongroom/revoke/app/revoked", "{}").expect("revoked");
    assert_eq!(names(&held_up(&rig, &remove)), "app/day app/gone ops/olga");
    rig.ask(&operator(&rig), crate::api::request::Operation::Delete, "sys/strongroom/identities/app/gone", "")
        .expect("gone");
    assert_eq!(names(&held_up(&rig, &remove)), "app/day ops/olga");
    rig.clock.advance(DAY_MS - 2_000);
    assert!(names(&held_up(&rig, &remove)).starts_with("app/day"));
    rig.clock.advance(2_000);
    step(&rig, &remove).expect("nobody is left");
    let all = rig.read(&operator(&rig), "sys/strongroom/ca").expect("public")["authorities"].clone();
    let states: Vec<_> = all.as_array().expect("a list").iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["removed", "active"]);
}

/// Whether anything could be signed with the authority: its key is on record.
fn could_sign(rig: &Rig, id: &str) -> bool {
    let live = rig.vault.live().expect("open");
    let view = live.barrier.view(MountId::CA);
    let key = view.entries().expect("readable").iter().any(|name| name.contains("key") && name.contains(id));
    let known = Authorities::load(&view).expect("readable");
    let facts = known.get(AuthorityId::parse(id).expect("an id")).expect("on record");
    assert_eq!(authorities::with_key(&view, facts).is_ok(), key);
    key
}

#[test]
fn the_key_of_an_authority_that_has_ended_is_destroyed_and_its_certificates_are_void() {
    for end in ["revoke", "remove"] {
        let rig = Rig::new();
        let first = rig.read(&operator(&rig), "sys/strongroom/ca").expect("public")["authorities"][0]["id"].clone();
        let first = first.as_str().expect("text").to_owned();
        let (key, web) = enrolled(&rig, "app/web");
        rig.write(&operator(&rig), "sys/strongroom/identities/app/web", r#"{"grace":"3d"}"#).expect("allowed");
        let (pem, web) = (web.certificate.clone(), holder(&rig, &web.certificate));
        let next = step(&rig, "prepare").expect("prepared")["id"].as_str().expect("text").to_owned();
        let force = |path: String| {
            rig.write(&operator(&rig), &format!("sys/strongroom/ca/{path}"), r#"{"force":true}"#).map(|_| ())
        };
        force(format!("{next}/trust")).expect("trusted");
        assert!(matches!(force(format!("{first}/{end}")), Err(VaultError::BadRequest(_))), "it signs");
        force(format!("{next}/activate")).expect("active");
        assert!(works(&rig, &web) && could_sign(&rig, &first));
        force(format!("{first}/{end}")).expect("done");
        for restarted in [false, true] {
            if restarted {
                rig.vault.seal();
                rig.unseal().expect("opens");
            }
            assert!(!could_sign(&rig, &first) && could_sign(&rig, &next), "{end}");
            assert!(!works(&rig, &web), "{end}");
            assert!(matches!(
                rig.write(&web, "sys/strongroom/renew", &Key::new().body()),
                Err(VaultError::NotAdmitted(_))
            ));
            let late = wait(rig.vault.renew_expired(late(&pem, &key, &Key::new()), CHANNEL));
            assert!(matches!(late, Err(VaultError::Forbidden)), "{end}");
            for verb in ["trust", "activate", "taint", "remove", "revoke"] {
                assert!(matches!(force(format!("{first}/{verb}")), Err(VaultError::BadRequest(_))), "{end}, {verb}");
            }
            let trusted =
                rig.vault.trust().borrow().authorities.iter().map(|anchor| anchor.id.hex()).collect::<Vec<_>>();
            assert_eq!(trusted, std::slice::from_ref(&next), "what the listener accepts");
        }
        let marked = alarms(&rig).iter().filter(|code| *code == "authority-revoked").count();
        assert_eq!(marked, usize::from(end == "revoke"));
    }
}
