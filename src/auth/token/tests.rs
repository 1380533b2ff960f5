//! Tests of tokens: who may use them, how long they live, what they may make.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::request::Body;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::auth::cidr::Cidr;
use crate::crypto::random::SeededRandom;

const T0: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600;
const LIMITS: Limits = Limits { default_ttl_s: 10 * HOUR, max_ttl_s: 100 * HOUR };

fn web() -> SpiffeId {
    SpiffeId::new("example.org", "app/web").unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn body(text: &str) -> Result<CreateBody, TokenError> {
    CreateBody::parse(&Body::of(text))
}

fn made(text: &str, has: &[&str], sudo: bool, parent: Option<&TokenRecord>) -> Result<TokenRecord, TokenError> {
    let (identity, policies) = (web(), names(has));
    let creator = Creator { identity: &identity, policies: &policies, sudo, parent };
    create(&body(text)?, &creator, "a".repeat(24), &LIMITS, T0).map(|issued| issued.record)
}

fn token(text: &str) -> TokenRecord {
    made(text, &["default", "web"], true, None).unwrap()
}

#[test]
fn texts_and_accessors() {
    let random = SeededRandom::new(1);
    let (one, two) = (generate(&random).unwrap(), generate(&random).unwrap());
    assert_eq!(one.reveal().len(), 47);
    let id = TokenId::of(one.reveal()).unwrap();
    assert_eq!(TokenId::of(one.reveal()), Some(id));
    assert_ne!(TokenId::of(two.reveal()), Some(id));
    assert_eq!(id.hex().len(), 64);
    let handle = accessor(&random).unwrap();
    assert!(handle.len() == 24 && handle.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_ne!(accessor(&random).unwrap(), handle);
    let long = format!("{}A", one.reveal());
    for bad in [
        "",
        "hvs.",
        "root",
        &one.reveal()[..46],
        &long,
        &one.reveal().replace("hvs.", "hvb."),
        &format!("hvs.{}", "/".repeat(43)),
    ] {
        assert_eq!(TokenId::of(bad), None);
    }
}

#[test]
fn policies_of_children() {
    type Case<'a> = (&'a str, &'a [&'a str], bool, Result<&'a [&'a str], TokenError>);
    let cases: &[Case<'_>] = &[
        ("{}", &["default", "web"], false, Ok(&["default", "web"])),
        (r#"{"policies":[]}"#, &["web"], false, Ok(&["web"])),
        (r#"{"policies":["web"]}"#, &["default", "web", "ops"], false, Ok(&["default", "web"])),
        (r#"{"policies":["WEB "]}"#, &["default", "web"], false, Ok(&["default", "web"])),
        (r#"{"policies":"web","no_default_policy":true}"#, &["default", "web"], false, Ok(&["web"])),
        (r#"{"no_default_policy":true}"#, &["default", "web"], false, Ok(&["web"])),
        (r#"{"policies":["web"]}"#, &["web"], false, Ok(&["web"])),
        (r#"{"policies":["default"]}"#, &["web"], false, Err(TokenError::NotSubset)),
        (r#"{"policies":["ops"]}"#, &["default", "web"], false, Err(TokenError::NotSubset)),
        (r#"{"policies":["ops"]}"#, &["default", "web"], true, Ok(&["default", "ops"])),
        (r#"{"policies":["root"]}"#, &["default", "web"], true, Err(TokenError::Name(NameError::Root))),
        (r#"{"policies":[" Root"]}"#, &["default", "root"], true, Err(TokenError::Name(NameError::Root))),
        ("{}", &["root"], true, Err(TokenError::Name(NameError::Root))),
        (r#"{"period":"1h"}"#, &["web"], false, Err(TokenError::Periodic)),
    ];
    for (text, has, sudo, want) in cases {
        let got = made(text, has, *sudo, None).map(|record| record.policies);
        assert_eq!(got, want.map(names), "{text} {has:?}");
    }
}

#[test]
fn children_are_bound_as_their_parents() {
    let mut parent = token(r#"{"policies":["web"]}"#);
    parent.certificate = Some("00".repeat(32));
    parent.bound_cidrs = vec![Cidr::parse("10.0.0.0/8").unwrap()];
    let child = made("{}", &["default", "web"], false, Some(&parent)).unwrap();
    assert_eq!((&child.certificate, &child.bound_cidrs), (&parent.certificate, &parent.bound_cidrs));
    assert_eq!(child.parent.as_deref(), Some(parent.accessor.as_str()));
    assert!(!child.is_orphan() && parent.is_orphan());
    let orphan = r#"{"no_parent":true}"#;
    assert_eq!(made(orphan, &["web"], false, Some(&parent)).err(), Some(TokenError::Orphan));
    let orphan = made(orphan, &["web"], true, Some(&parent)).unwrap();
    assert!(orphan.is_orphan() && orphan.certificate == parent.certificate);
    parent.uses_left = Some(5);
    assert_eq!(made("{}", &["web"], true, Some(&parent)).err(), Some(TokenError::Restricted));
}

#[test]
fn lives_are_cut() {
    for (text, ttl_s) in [
        ("{}", 10 * HOUR),
        (r#"{"ttl":"1h"}"#, HOUR),
        (r#"{"lease":"2h"}"#, 2 * HOUR),
        (r#"{"ttl":"1000h"}"#, 100 * HOUR),
        (r#"{"ttl":"5h","explicit_max_ttl":"3h"}"#, 3 * HOUR),
        (r#"{"explicit_max_ttl":"3h"}"#, 3 * HOUR),
        (r#"{"ttl":"5h","period":"2h"}"#, 2 * HOUR),
        (r#"{"period":"1000h"}"#, 100 * HOUR),
    ] {
        let record = token(text);
        assert_eq!((record.ttl_s, record.expires_ms), (ttl_s, T0 + ttl_s * 1000), "{text}");
    }
    let (identity, policies) = (web(), names(&["web"]));
    let creator = Creator { identity: &identity, policies: &policies, sudo: false, parent: None };
    let issue = |text| create(&body(text).unwrap(), &creator, String::new(), &LIMITS, T0).unwrap().warnings.len();
    assert_eq!((issue("{}"), issue(r#"{"ttl":"1000h"}"#)), (0, 1));
}

#[test]
fn renewals() {
    let at = |hours: u64| T0 + hours * HOUR * 1000;
    // (made with, renewed after hours, by seconds) -> end in hours after the start
    for (text, after, increment, want) in [
        (r#"{"ttl":"10h"}"#, 5, 0, Ok(15)),
        (r#"{"ttl":"10h"}"#, 5, 2 * HOUR, Ok(7)),
        (r#"{"ttl":"10h"}"#, 9, 1000 * HOUR, Ok(100)),
        (r#"{"ttl":"10h"}"#, 10, 0, Err(TokenError::PastMax)),
        (r#"{"ttl":"10h","explicit_max_ttl":"12h"}"#, 5, 0, Ok(12)),
        (r#"{"ttl":"10h","renewable":false}"#, 5, 0, Err(TokenError::NotRenewable)),
        (r#"{"period":"10h"}"#, 9, HOUR, Ok(19)),
        (r#"{"period":"10h","explicit_max_ttl":"12h"}"#, 9, 0, Ok(12)),
    ] {
        let got = renew(&token(text), increment, &LIMITS, at(after)).map(|renewed| renewed.record.expires_ms);
        assert_eq!(got, want.map(at), "{text} {after} {increment}");
    }
    // A periodic token outlives every maximum as long as it is renewed; another does not.
    let (mut periodic, mut plain) = (token(r#"{"period":"10h"}"#), token(r#"{"ttl":"10h"}"#));
    for hour in (9..200).step_by(9) {
        periodic = renew(&periodic, 0, &LIMITS, at(hour)).unwrap().record;
        plain = renew(&plain, 0, &LIMITS, at(hour)).map_or(plain, |renewed| renewed.record);
    }
    assert_eq!((periodic.expires_ms, plain.expires_ms), (at(198 + 10), at(100)));
    plain.max_ttl_s = 50 * HOUR;
    plain.expires_ms = at(20);
    plain.renewed_ms = 0;
    assert_eq!(renew(&plain, 90 * HOUR, &LIMITS, at(5)).unwrap().record.expires_ms, at(50));
}

#[test]
fn a_clock_that_goes_back_gives_nothing() {
    let record = renew(&token(r#"{"ttl":"10h"}"#), 0, &LIMITS, T0 + 5 * HOUR * 1000).unwrap().record;
    let identity = web();
    let peer = Peer { identity: &identity, fingerprint: &[0; 32], remote: None };
    assert_eq!(usable(&record, &peer, record.renewed_ms - 60_000), Ok(()), "a small correction");
    assert_eq!(usable(&record, &peer, record.renewed_ms - 60_001), Err(Unusable::ClockBackwards));
    assert_eq!(ttl_s(&record, T0), 10 * HOUR, "not fifteen");
    let renewed = renew(&record, 0, &LIMITS, 0).unwrap().record;
    assert_eq!((renewed.expires_ms, renewed.renewed_ms), (record.expires_ms, record.renewed_ms));
}

#[test]
fn a_token_serves_one_holder() {
    let mut record = token(r#"{"ttl":"1h","num_uses":2}"#);
    let (identity, other) = (web(), SpiffeId::new("example.org", "app/web2").unwrap());
    let remote = |text: &str| Some(text.parse().unwrap());
    let peer = |identity, fingerprint, remote| Peer { identity, fingerprint, remote };
    let (a, b) = ([1; 32], [2; 32]);
    assert_eq!(usable(&record, &peer(&identity, &a, None), T0), Ok(()));
    assert_eq!(usable(&record, &peer(&other, &a, None), T0), Err(Unusable::OtherIdentity));
    record.certificate = Some("01".repeat(32));
    record.bound_cidrs = vec![Cidr::parse("10.0.0.0/8").unwrap()];
    assert_eq!(usable(&record, &peer(&identity, &a, remote("10.1.1.1")), T0), Ok(()));
    assert_eq!(usable(&record, &peer(&identity, &b, remote("10.1.1.1")), T0), Err(Unusable::OtherCertificate));
    assert_eq!(usable(&record, &peer(&identity, &a, remote("11.1.1.1")), T0), Err(Unusable::Network));
    assert_eq!(usable(&record, &peer(&identity, &a, None), T0), Err(Unusable::Network));
    let end = record.expires_ms;
    assert_eq!(usable(&record, &peer(&identity, &a, remote("10.1.1.1")), end - 1), Ok(()));
    assert_eq!(usable(&record, &peer(&identity, &a, remote("10.1.1.1")), end), Err(Unusable::Expired));
    assert_eq!((spend(&mut record), spend(&mut record)), (Ok(true), Ok(true)));
    assert_eq!(spend(&mut record), Err(Unusable::Spent));
    assert_eq!(usable(&record, &peer(&identity, &a, remote("10.1.1.1")), T0), Err(Unusable::Spent));
    record.uses_left = None;
    assert_eq!(spend(&mut record), Ok(false));
}

#[test]
fn families_die_together() {
    let tokens = [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", None), ("x", Some("y")), ("y", Some("x"))];
    assert_eq!(family("a", &tokens).into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(family("c", &tokens).len(), 1);
    assert_eq!(family("x", &tokens).len(), 2);
}

#[test]
fn replies_look_like_vaults() {
    let mut record = token(r#"{"policies":["web"],"ttl":"1h","meta":{"k":"v"},"display_name":"my app!","num_uses":3}"#);
    let secret = SecretText::from("hvs.x");
    let now = T0 + 1_500;
    let auth: Value = serde_json::from_slice(&auth_json(&record, Some(&secret), now)).unwrap();
    let want = json!({
        "client_token": "hvs.x", "accessor": record.accessor, "policies": ["default", "web"],
        "token_policies": ["default", "web"], "metadata": {"k": "v"}, "lease_duration": 3598, "renewable": true,
        "entity_id": "", "token_type": "service", "orphan": true, "mfa_requirement": null, "num_uses": 3,
    });
    assert_eq!(auth, want);
    let look =
        |record: &TokenRecord, text| -> Value { serde_json::from_slice(&lookup_json(record, text, now)).unwrap() };
    let mut want = json!({
        "id": "hvs.x", "accessor": record.accessor, "creation_time": T0 / 1000, "creation_ttl": 3600,
        "display_name": "token-my-app", "entity_id": "", "expire_time": "2027-01-15T09:00:00Z",
        "explicit_max_ttl": 0, "issue_time": "2027-01-15T08:00:00Z", "meta": {"k": "v"}, "num_uses": 3,
        "orphan": true, "path": "auth/token/create", "policies": ["default", "web"], "renewable": true,
        "ttl": 3598, "type": "service",
    });
    assert_eq!(look(&record, Some(&secret)), want);
    record.period_s = 60;
    record.renewed_ms = T0 + 1_000;
    record.bound_cidrs = vec![Cidr::parse("10.0.0.0/8").unwrap()];
    record.meta.clear();
    for (key, value) in [
        ("id", json!("")),
        ("period", json!(60)),
        ("last_renewal", json!("2027-01-15T08:00:01Z")),
        ("last_renewal_time", json!(T0 / 1000 + 1)),
        ("bound_cidrs", json!(["10.0.0.0/8"])),
        ("meta", Value::Null),
    ] {
        want[key] = value;
    }
    assert_eq!(look(&record, None), want);
}

#[test]
fn bodies() {
    let parse = Body::of;
    for (text, want) in [
        (r#"{"id":"hvs.mine"}"#, false),
        (r#"{"id":""}"#, true),
        (r#"{"type":"batch"}"#, false),
        (r#"{"type":"service"}"#, true),
        (r#"{"entity_alias":"x"}"#, false),
        (r#"{"num_uses":-1}"#, false),
        (r#"{"ttl":"-1h"}"#, false),
        (r#"{"meta":{"a":1}}"#, false),
        (r#"{"surprise":1}"#, false),
    ] {
        assert_eq!(body(text).is_ok(), want, "{text}");
    }
    assert_eq!(RenewBody::of_self(&parse(r#"{"increment":"1h"}"#)).map(|body| body.increment_s).ok(), Some(HOUR));
    assert_eq!(RenewBody::of_self(&parse("{}")).map(|body| body.increment_s).ok(), Some(0));
    assert!(RenewBody::of_token(&parse("{}")).is_err() && TokenBody::parse(&parse("{}")).is_err());
    let renew = RenewBody::of_token(&parse(r#"{"token":"hvs.x","increment":5}"#)).ok().unwrap();
    assert_eq!((renew.token.unwrap().reveal(), renew.increment_s), ("hvs.x", 5));
    assert_eq!(TokenBody::parse(&parse(r#"{"token":"hvs.x"}"#)).ok().unwrap().token.reveal(), "hvs.x");
    assert!(AccessorBody::parse(&parse(r#"{"accessor":"../x"}"#)).is_err());
    assert!(AccessorBody::parse(&parse(r#"{"accessor":"aaaaaaaaaaaaaaaaaaaaaaa1"}"#)).is_ok());
    assert!(RenewBody::of_accessor(&parse(r#"{"accessor":"aaaaaaaaaaaaaaaaaaaaaaa1"}"#)).is_ok());
}

#[test]
fn stored_form() {
    let record = token(r#"{"meta":{"k":"v"},"num_uses":1}"#);
    assert_eq!(TokenRecord::decode(&record.encode()), Ok(record.clone()));
    let text = String::from_utf8(record.encode()).unwrap();
    assert!(text.starts_with("{\"v\":1,"));
    for bad in [text.replace("\"v\":1", "\"v\":2"), text.replace("\"v\":1", "\"v\":1,\"extra\":0"), String::new()] {
        assert_eq!(TokenRecord::decode(bad.as_bytes()), Err(TokenError::Record));
    }
}

proptest! {
    #[test]
    fn lives_stay_within_bounds(
        ttl in 0..200_u64, explicit in 0..200_u64, period in 0..200_u64,
        steps in proptest::collection::vec((0..400_u64, 0..300_u64), 0..8),
    ) {
        let text = format!(r#"{{"ttl":"{ttl}h","explicit_max_ttl":"{explicit}h","period":"{period}h"}}"#);
        let mut record = token(&text);
        for (hour, increment) in steps {
            let now = T0.saturating_sub(HOUR * 1000) + hour * HOUR * 1000;
            if let Ok(renewed) = renew(&record, increment * HOUR, &LIMITS, now) {
                prop_assert!(renewed.record.renewed_ms >= record.renewed_ms);
                record = renewed.record;
            }
            if explicit > 0 {
                prop_assert!(record.expires_ms <= T0 + explicit * HOUR * 1000);
            }
            if period == 0 {
                prop_assert!(record.expires_ms <= T0 + LIMITS.max_ttl_s * 1000);
            } else {
                prop_assert!(record.expires_ms <= record.seen_ms() + period * HOUR * 1000);
            }
        }
    }

    #[test]
    fn children_never_gain(has in proptest::collection::vec("[a-e]|default|root", 0..5), wants in proptest::collection::vec("[a-eA-E ]{1,2}|default|root|Root", 0..4)) {
        let identity = web();
        let creator = Creator { identity: &identity, policies: &has, sudo: false, parent: None };
        let body = CreateBody { policies: (!wants.is_empty()).then_some(wants), ..CreateBody::default() };
        if let Ok(issued) = create(&body, &creator, String::new(), &LIMITS, T0) {
            prop_assert!(issued.record.policies.iter().all(|name| has.contains(name) && name != "root"));
        }
    }

    #[test]
    fn reading_is_total(bytes: Vec<u8>, text in "\\PC{0,60}|hvs\\.[A-Za-z0-9_-]{40,46}") {
        let _ = (TokenRecord::decode(&bytes), TokenId::of(&text));
    }
}
