//! Certificates of outside PKIs that come once and never again: what the vault keeps of them.

use super::roles::{authority, client, for_ca, role, works};
use super::support::{DOMAIN, Rig};
use crate::core::{Caller, Origin, VaultError};

/// Callers whose certificates nobody has seen before.
const MANY: usize = 300;

/// A caller as `like`, called by another certificate.
fn another(like: &Caller, n: usize) -> Caller {
    let Origin::Outside(outside) = &like.origin else { panic!("an outsider") };
    let mut facts = outside.facts().clone();
    facts.fingerprint[..8].copy_from_slice(&n.to_be_bytes());
    let caller = Caller::outside(facts, DOMAIN, format!("192.0.2.1:{}", 1_024 + n)).expect("legal");
    Caller { request_id: like.request_id.clone(), ..caller }
}

#[test]
fn outsiders_leave_nothing_behind_but_their_lines_in_the_log() {
    let rig = Rig::new();
    let ca = authority("outside root");
    role(&rig, "web", &for_ca(&ca)).expect("written");
    let (web, db) = (client(&rig, &ca, "web-1"), client(&rig, &ca, "db-1"));
    assert!(works(&rig, &web) && !works(&rig, &db));
    rig.read(&rig.operator(), "secret/data/app/x").expect("read");
    rig.vault.note_sightings().expect("noted");
    let seen = |rig: &Rig| rig.vault.live().expect("open").sightings.len();
    let (records, known) = (rig.disk.records(), seen(&rig));
    assert!(known >= 1, "the operator");
    for n in 0..MANY {
        rig.read(&another(&web, n), "secret/data/app/x").expect("admitted");
        let refused = rig.read(&another(&db, MANY + n), "secret/data/app/x");
        assert!(matches!(refused, Err(VaultError::Forbidden)));
    }
    // Also in between, before those that are not registered would be forgotten.
    assert_eq!(seen(&rig), known);
    rig.vault.note_sightings().expect("noted");
    assert_eq!((rig.disk.records(), seen(&rig)), (records, known));
    let accounts = rig.vault.live().expect("open").accounts.totals().accounts;
    assert!((2 * MANY..=crate::limits::MAX_ACCOUNTS).contains(&accounts), "{accounts}: bounded where they are kept");

    // Each that logs in leaves a record with an end, and the end is where it goes.
    for n in 0..8 {
        rig.write(&another(&web, n), "auth/cert/login", "").expect("logged in");
    }
    assert_eq!(rig.disk.records(), records + 8);
    rig.clock.advance(33 * 86_400_000);
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    rig.write(&operator, "auth/token/tidy", "").expect("done");
    assert_eq!(rig.disk.records(), records);
}
