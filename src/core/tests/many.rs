//! What one change costs does not depend on how many identities, certificates and strings there are. What is counted is the
//! records that are read from the store, and what is still in memory afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::support::*;
use crate::api::request::Operation;
use crate::core::state::snapshot::Touch;
use crate::core::{ApprovalRules, Guarded, IdentityPattern, Settings, VaultError};

const MANY: u64 = 120;
/// A change reads a few records, whatever there is.
const FEW: u64 = 40;

fn with_addresses(settings: &mut Settings) {
    settings.enroll_addresses = vec!["vault.example:8443".to_owned()];
}

/// A vault with many identities that have a string each.
fn populated() -> Rig {
    let mut rig = Rig::sealed(Disk::new());
    rig.disk.initialise().expect("initialises");
    rig.configure(with_addresses);
    rig.unseal().expect("unseals");
    let operator = rig.operator();
    for n in 0..MANY {
        rig.write(&operator, &format!("sys/strongroom/identities/app/n{n}"), r#"{"policies":["app"]}"#).expect("taken");
        rig.write(&operator, &format!("sys/strongroom/enrollments/app/n{n}"), r#"{"ttl":"1h"}"#).expect("taken");
    }
    rig
}

/// Records that an order reads.
fn reads(rig: &Rig, order: impl FnOnce()) -> u64 {
    let before = rig.spy.reads();
    order();
    rig.spy.reads() - before
}

#[test]
fn a_change_of_one_identity_reads_nothing_of_the_others() {
    let rig = populated();
    let operator = rig.operator();
    let policy = r#"path "sys/strongroom/*" { capabilities = ["create", "update", "delete", "sudo"] }"#;
    let registrar = rig.admit("ops/registrar", "registrar", policy);
    let write = |caller, path: &str, body: &str| {
        rig.write(caller, path, body).unwrap_or_else(|error| panic!("{path}: {error:?}"));
    };
    // Whoever may register others and give no rights: that somebody else can is looked up, and remembered.
    write(&registrar, "sys/strongroom/identities/app/first", r#"{"policies":["app"]}"#);
    for (caller, path, body) in [
        (&operator, "sys/strongroom/identities/app/new", r#"{"policies":["app"]}"#),
        (&registrar, "sys/strongroom/identities/app/other", r#"{"policies":["app"]}"#),
        (&operator, "sys/strongroom/identities/app/n3", r#"{"policies":["app","more"]}"#),
        (&operator, "sys/strongroom/enrollments/app/n4", r#"{"ttl":"1h"}"#),
        (&operator, "sys/strongroom/revoke/app/n5", "{}"),
        (&registrar, "sys/strongroom/disable/app/n6", "{}"),
    ] {
        let read = reads(&rig, || write(caller, path, body));
        assert!(read <= FEW, "{path}: {read} records");
    }
    let read = reads(&rig, || {
        rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/app/n7", "").expect("removed");
    });
    assert!(read <= FEW, "removal: {read} records");
}

#[test]
fn a_guarded_change_of_one_identity_reads_nothing_of_the_others() {
    let mut rig = populated();
    rig.vault.seal();
    rig.configure(|settings| {
        let approvers = vec![IdentityPattern::parse("ops/*", "example.org").expect("a pattern")];
        let rules = ApprovalRules::new(2, approvers, BTreeSet::from(Guarded::ALL), 3_600).expect("legal");
        settings.approvals = Some(rules.into());
    });
    rig.unseal().expect("unseals");
    let operator = rig.operator();
    for (path, body) in [
        ("sys/strongroom/identities/app/new", r#"{"policies":["app"]}"#),
        ("sys/strongroom/identities/app/n3", r#"{"policies":["app","more"]}"#),
        ("sys/strongroom/revoke/app/n5", "{}"),
        ("sys/strongroom/disable/app/n6", "{}"),
    ] {
        let read = reads(&rig, || drop(rig.write(&operator, path, body).expect("done")));
        assert!(read <= FEW, "{path}: {read} records");
    }
    // What makes an administrator is still found.
    let refused = rig.write(&operator, "sys/strongroom/identities/app/n7", r#"{"policies":["admin"]}"#);
    assert!(matches!(refused, Err(VaultError::NeedsApproval { .. })), "{:?}", refused.map(drop));
}

#[test]
fn strings_end_with_their_identity_also_those_of_the_same_moment() {
    let rig = populated();
    let operator = rig.operator();
    let strings = |rig: &Rig| {
        let listed = rig.ask(&operator, Operation::List, "sys/strongroom/enrollments", "").expect("listed");
        let listed = json(&listed);
        let all = listed["key_info"].as_object().expect("strings").values();
        all.map(|shown| shown["identity"].as_str().expect("a path").to_owned()).collect::<Vec<_>>()
    };
    rig.write(&operator, "sys/strongroom/enrollments/app/n8", r#"{"ttl":"1h"}"#).expect("taken");
    rig.write(&operator, "sys/strongroom/revoke/app/n8", "{}").expect("revoked");
    rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/app/n9", "").expect("removed");
    let left = strings(&rig);
    assert!(!left.contains(&"app/n8".to_owned()) && !left.contains(&"app/n9".to_owned()));
    assert_eq!(left.len(), usize::try_from(MANY).expect("small") - 2);
    // The index says the same after a start.
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    rig.write(&operator, "sys/strongroom/revoke/app/n10", "{}").expect("revoked");
    assert_eq!(strings(&rig).len(), usize::try_from(MANY).expect("small") - 3);
}

#[test]
fn compiled_policies_stay_until_what_they_are_made_from_changes() {
    let rig = Rig::new();
    let operator = rig.operator();
    let policy = |path: &str| format!(r#"path "{path}" {{ capabilities = ["read"] }}"#);
    let (a, b) = (rig.admit("app/a", "a", &policy("secret/data/a")), rig.admit("app/b", "b", &policy("secret/data/b")));
    let compiled =
        |caller: &crate::core::Caller| rig.vault.live().expect("open").snapshot.load().registered(&caller.identity);
    let (was_a, was_b) = (compiled(&a), compiled(&b));
    let kept = |what: &str, a_kept: bool, b_kept: bool| {
        assert_eq!(Arc::ptr_eq(&was_a, &compiled(&a)), a_kept, "a after {what}");
        assert_eq!(Arc::ptr_eq(&was_b, &compiled(&b)), b_kept, "b after {what}");
    };
    rig.write(&operator, "sys/strongroom/identities/app/c", r#"{"policies":["a"]}"#).expect("taken");
    kept("another identity was registered", true, true);
    rig.write(&operator, "sys/policies/acl/c", &serde_json::json!({"policy": policy("secret/data/c")}).to_string())
        .expect("taken");
    kept("a policy that neither has was written", true, true);
    rig.write(&operator, "sys/strongroom/groups/g", r#"{"policies":["c"],"members":["app/x/*"]}"#).expect("taken");
    kept("a group that neither is in was written", true, true);
    rig.write(&operator, "sys/policies/acl/a", &serde_json::json!({"policy": policy("secret/data/other")}).to_string())
        .expect("taken");
    kept("the policy of one was changed", false, true);
    assert!(rig.read(&a, "secret/data/a").is_err());
    rig.write(&operator, "sys/strongroom/groups/g", r#"{"members":["app/b"]}"#).expect("taken");
    kept("the other was put into a group", false, false);
}

#[test]
fn a_start_opens_each_record_once() {
    let rig = populated().restart();
    let read = reads(&rig, || rig.unseal().expect("unseals"));
    // An identity and a string each, and what else a vault has.
    assert!(read < 2 * MANY + FEW, "{read} records");
}

#[test]
fn a_group_of_changes_reads_what_they_share_once() {
    let rig = Rig::new();
    let operator = rig.operator();
    for n in 0..20 {
        let group = format!("sys/strongroom/groups/g{n}");
        rig.write(&operator, &group, r#"{"policies":["app"],"members":["app/*"]}"#).expect("taken");
        let limit = format!(r#"{{"rate":5,"path":"secret/p{n}"}}"#);
        rig.write(&operator, &format!("sys/quotas/rate-limit/l{n}"), &limit).expect("taken");
    }
    let live = rig.vault.live().expect("open");
    let after = |touched: &[Touch]| {
        reads(&rig, || {
            live.snapshot.load().after(&live.barrier, touched).expect("read back");
        })
    };
    let kinds = [Touch::Authorities, Touch::Groups, Touch::Roles, Touch::Limits, Touch::Tokens];
    let one = after(&kinds);
    assert!(one >= 40, "{one}");
    // As many as one group may hold.
    let many: Vec<Touch> = kinds.iter().cycle().take(256).cloned().collect();
    assert_eq!(after(&many), one, "each is read for every change of the group");
}
