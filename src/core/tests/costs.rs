//! What a guess at a passphrase costs, whichever slot is tried.

use base64::Engine as _;
use serde_json::{Value, json};

use super::support::*;
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::core::{UnsealKey, VaultError};
use crate::crypto::password::Params;

const OTHER: &str = "another good passphrase";

fn order(rig: &Rig, path: &str, body: &Value) -> Result<Value, VaultError> {
    rig.ask(&rig.operator(), Operation::Write, path, &body.to_string()).map(|reply| json(&reply))
}

fn by_file() -> Value {
    json!({ "key_file": base64::engine::general_purpose::STANDARD.encode(KEY_FILE) })
}

/// Adds a slot with the passphrase [`OTHER`].
fn add(rig: &Rig, label: &str, kind: &str) -> Result<Value, VaultError> {
    let new = json!({ "type": kind, "label": label, "passphrase": OTHER });
    let added = order(rig, "sys/strongroom/slots/add", &json!({ "unlock": by_file(), "new": new }))?;
    Ok(added["slot"].clone())
}

/// Memory in MiB, and passes.
fn cost(slot: &Value) -> (u64, u64) {
    let number = |name: &str| slot[name].as_u64().expect("a cost");
    (number("memory_mib"), number("passes"))
}

/// The slot `label`, once the orders given so far are done: the keeper executes one after the other.
fn slot(rig: &Rig, label: &str) -> Value {
    order(rig, "sys/strongroom/slots/test", &json!({ "unlock": by_file() })).expect("opens");
    let list = rig.read(&rig.operator(), "sys/strongroom/slots").expect("listed");
    let slots = list["slots"].as_array().expect("a list");
    slots.iter().find(|slot| slot["label"] == label).expect("there").clone()
}

fn unseal(rig: &Rig, passphrase: &str) {
    rig.unseal_with(&UnsealKey::Passphrase(&SecretText::new(passphrase.to_owned()))).expect("opens");
}

fn kdf(mib: u32, t: u32) -> Option<Params> {
    Some(Params { m_kib: mib * 1024, t, p: 1 })
}

#[test]
fn a_new_passphrase_costs_as_much_to_guess_as_the_dearest_one() {
    let mut rig = Rig::new().restart();
    // As if `init` had measured it on this machine.
    rig.configure(|settings| settings.kdf = kdf(66, 4));
    rig.unseal().expect("opens");
    assert_eq!(cost(&add(&rig, "dear", "passphrase").expect("added")), (66, 4));
    // Nothing is configured, and the first slot is cheaper.
    let rig = rig.restart();
    rig.unseal().expect("opens");
    for kind in ["passphrase", "hybrid"] {
        assert_eq!(cost(&add(&rig, &format!("new {kind}"), kind).expect("added")), (66, 4), "{kind}");
    }
    // A changed one as well.
    let unlock = json!({ "passphrase": PASSPHRASE, "slot": "passphrase" });
    let new = json!({ "type": "passphrase", "passphrase": "yet another passphrase" });
    let body = json!({ "unlock": unlock, "new": new });
    let changed = order(&rig, "sys/strongroom/slots/change", &body).expect("changed")["slot"].clone();
    assert_eq!((cost(&changed), &changed["label"]), ((66, 4), &"passphrase".into()));
}

#[test]
fn a_passphrase_slot_below_the_configured_cost_is_raised_at_unseal() {
    let mut rig = Rig::new().restart();
    rig.configure(|settings| settings.kdf = kdf(65, 3));
    unseal(&rig, PASSPHRASE);
    assert_eq!(cost(&slot(&rig, "passphrase")), (65, 3));
    let rig = rig.restart();
    unseal(&rig, PASSPHRASE);
}

#[test]
fn a_passphrase_slot_below_the_dearest_one_is_raised_at_unseal() {
    let mut rig = Rig::new().restart();
    rig.configure(|settings| settings.kdf = kdf(65, 4));
    rig.unseal().expect("opens");
    add(&rig, "dear", "passphrase").expect("added");
    assert_eq!(cost(&slot(&rig, "passphrase")), (64, 3), "its passphrase was not at hand");
    // Nothing is configured. The passphrase of the dear slot says nothing about the other one.
    let rig = rig.restart();
    unseal(&rig, OTHER);
    assert_eq!((cost(&slot(&rig, "passphrase")), cost(&slot(&rig, "dear"))), ((64, 3), (65, 4)));
    let rig = rig.restart();
    unseal(&rig, PASSPHRASE);
    assert_eq!((cost(&slot(&rig, "passphrase")), cost(&slot(&rig, "dear"))), ((65, 4), (65, 4)));
    let rig = rig.restart();
    unseal(&rig, PASSPHRASE);
}

#[test]
fn a_hybrid_slot_that_is_raised_stays_hybrid() {
    let rig = Rig::new();
    add(&rig, "remote", "hybrid").expect("added");
    let mut rig = rig.restart();
    rig.configure(|settings| settings.kdf = kdf(65, 3));
    unseal(&rig, OTHER);
    let raised = slot(&rig, "remote");
    assert_eq!((cost(&raised), &raised["type"]), ((65, 3), &"hybrid".into()));
    assert_eq!(raised["survives_rekey"], true);
    // Its holder is absent, and can still open the vault afterwards.
    let keep = json!([by_file(), { "passphrase": PASSPHRASE }]);
    order(&rig, "sys/strongroom/rekey", &json!({ "keep": keep })).expect("begins");
    assert_eq!(cost(&slot(&rig, "remote")), (65, 3));
    let rig = rig.restart();
    unseal(&rig, OTHER);
}

#[test]
fn the_first_passphrase_is_measured_on_the_steady_clock_with_a_quarter_of_the_memory() {
    let rig = Rig::new();
    order(&rig, "sys/strongroom/slots/remove", &json!({ "unlock": by_file(), "slot": "passphrase" })).expect("removed");
    let mut rig = rig.restart();
    rig.configure(|settings| settings.memory = Some(280 << 20));
    rig.unseal().expect("opens");
    // As if each derivation took 800 ms. The clock that can be set stands still.
    rig.clock.tick(800);
    let (memory_mib, passes) = cost(&add(&rig, "first", "passphrase").expect("added"));
    assert_eq!(memory_mib, 70);
    assert!(passes > 3, "{passes}: more of them make up for it");
}

#[test]
fn no_derivation_takes_more_than_half_of_the_memory() {
    let mut rig = Rig::new().restart();
    rig.configure(|settings| (settings.kdf, settings.memory) = (kdf(101, 3), Some(200 << 20)));
    // Not raised, because nobody would be told why the daemon ended.
    unseal(&rig, PASSPHRASE);
    assert_eq!(cost(&slot(&rig, "passphrase")), (64, 3));
    let refused = add(&rig, "new", "passphrase").expect_err("too much");
    assert!(matches!(&refused, VaultError::BadRequest(why) if why.contains("takes 101 MiB")), "{refused}");
    // What nobody can guess costs nothing.
    let new = json!({ "type": "recovery-code", "label": "safe" });
    order(&rig, "sys/strongroom/slots/add", &json!({ "unlock": by_file(), "new": new })).expect("added");
    // Exactly half is allowed.
    let mut rig = rig.restart();
    rig.configure(|settings| (settings.kdf, settings.memory) = (kdf(100, 3), Some(200 << 20)));
    unseal(&rig, PASSPHRASE);
    assert_eq!(cost(&slot(&rig, "passphrase")), (100, 3));
}

#[test]
fn a_passphrase_can_be_changed_wherever_it_opens_the_vault() {
    let mut rig = Rig::new().restart();
    rig.configure(|settings| settings.kdf = kdf(100, 3));
    unseal(&rig, PASSPHRASE);
    assert_eq!(cost(&slot(&rig, "passphrase")), (100, 3));
    // A smaller host. The passphrase has leaked.
    let mut rig = rig.restart();
    rig.configure(|settings| settings.memory = Some(150 << 20));
    unseal(&rig, PASSPHRASE);
    let unlock = json!({ "passphrase": PASSPHRASE });
    let new = json!({ "type": "passphrase", "passphrase": OTHER });
    let changed =
        order(&rig, "sys/strongroom/slots/change", &json!({ "unlock": unlock, "new": new })).expect("changed");
    assert_eq!(cost(&changed["slot"]), (100, 3));
}
