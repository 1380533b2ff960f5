//! Which requests are of which class, whatever they are called, and what becomes of an approval that was used.

use std::collections::BTreeSet;

use super::approvals::{TTL_S, asked, bert, csr, rig, say, show};
use super::support::{KEY_FILE, at_once, json, request, wait};
use crate::api::request::Operation;
use crate::core::{ApprovalRules, Guarded, IdentityPattern, VaultError};

#[test]
fn a_compromised_slot_is_also_an_end_of_all_authorities() {
    let file = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY_FILE);
    let csr = serde_json::json!(csr());
    let keep = |more: &str| format!(r#"{{"keep":[{{"key_file":"{file}"}}]{more}}}"#);
    let compromised = keep(&format!(r#","compromised":"passphrase","csr":{csr}"#));
    // Which classes are guarded, and what is asked of whom: without and with a compromised slot.
    for (class, plain, lost) in [
        (Guarded::CaCompromise, None, Some("ca-compromise")),
        (Guarded::SlotRemove, Some("slot-remove"), Some("slot-remove")),
        (Guarded::Destroy, None, None),
    ] {
        let mut rig = rig();
        rig.vault.seal();
        rig.configure(|settings| {
            let approvers = vec![IdentityPattern::parse("ops/*", "example.org").expect("a pattern")];
            let classes = BTreeSet::from([class, Guarded::AdminPolicy]);
            settings.approvals = Some(ApprovalRules::new(2, approvers, classes, TTL_S).expect("legal").into());
        });
        rig.unseal().expect("unseals");
        let olga = rig.operator();
        for (body, want) in [(&keep(""), plain), (&compromised, lost)] {
            match (rig.write(&olga, "sys/strongroom/rekey", body), want) {
                (Err(VaultError::NeedsApproval { id, .. }), Some(want)) => {
                    assert_eq!(show(&rig, &id)["operation"], want);
                    say(&rig, &bert(&rig), &id, "approve").expect("approved");
                }
                (Err(VaultError::NeedsApproval { .. }), None) => panic!("{class:?} {body}: asked for nothing"),
                (answer, want) => assert!(want.is_none(), "{class:?}: not asked, done: {}", answer.is_ok()),
            }
        }
        if lost.is_some() {
            rig.write(&olga, "sys/strongroom/rekey", &compromised).expect("done once two agree");
        }
    }
}

#[test]
fn a_share_set_is_not_removed_by_one_who_confirms_the_next() {
    let rig = rig();
    let olga = rig.operator();
    let file = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY_FILE);
    let order = |verb: &str, body: serde_json::Value| {
        rig.ask(&olga, Operation::Write, &format!("sys/strongroom/slots/{verb}"), &body.to_string())
            .map(|reply| json(&reply))
    };
    let slots = || rig.read(&olga, "sys/strongroom/slots").expect("listed")["slots"].as_array().expect("a list").len();
    let set = serde_json::json!({ "type": "shares", "label": "board", "threshold": 2, "total": 2 });
    let old = order("add", serde_json::json!({ "unlock": { "key_file": file }, "new": set })).expect("added");
    // A new set is one way more to open the vault, and asks nobody.
    let new = serde_json::json!({ "type": "shares", "threshold": 2, "total": 2 });
    let begin = serde_json::json!({ "unlock": { "shares": old["shares"] }, "new": new, "confirm": false });
    let made = order("change", begin).expect("made");
    let before = slots();
    let confirm = serde_json::json!({ "unlock": { "shares": made["shares"] }, "confirm": true });
    let Err(VaultError::NeedsApproval { id, missing: 1 }) = order("change", confirm.clone()) else {
        panic!("one operator removed the share set of the others");
    };
    assert_eq!(show(&rig, &id)["operation"], "slot-remove");
    assert_eq!(slots(), before);
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    order("change", confirm).expect("done once two agree");
    assert_eq!((slots(), show(&rig, &id)["state"].as_str()), (before - 1, Some("used")));
}

/// Before, the approval was gone and nothing was done.
#[test]
fn a_caller_who_hangs_up_does_not_lose_the_approval_of_an_order() {
    let rig = rig();
    let olga = rig.operator();
    let file = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY_FILE);
    let body = format!(r#"{{"slot":"passphrase","unlock":{{"key_file":"{file}"}}}}"#);
    let id = asked(rig.write(&olga, "sys/strongroom/slots/remove", &body));
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    let slots = || {
        let listed = at_once(rig.vault.handle(&olga, request(Operation::Read, "sys/strongroom/slots", "")));
        json(&listed.expect("listed"))["slots"].as_array().map(Vec::len)
    };
    let before = slots();
    wait(async {
        let asking = rig.vault.handle(&olga, request(Operation::Write, "sys/strongroom/slots/remove", &body));
        // Dropped at its first wait: the committer has the approval in its queue.
        assert!(tokio::time::timeout(std::time::Duration::ZERO, asking).await.is_err());
        for _ in 0..400 {
            if slots() != before {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    assert_eq!((show(&rig, &id)["state"].as_str(), slots()), (Some("used"), before.map(|slots| slots - 1)));
}
