//! Key slots: one encoding, bounded costs, and no altered slot opens. Its label alone is not the slot's own to protect.

use std::sync::LazyLock;

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::envelope::Suite;
use crate::crypto::password::OPEN_FLOOR;
use crate::crypto::random::SeededRandom;
use crate::keys::slot::{LAST_TYPE, MAX_LABEL, type_name};
use crate::keys::{NewSlot, RootKey, Share, Slot, Unlock, VaultId, WeakKdf};
use crate::testing::alter::alter;

const VAULT: VaultId = VaultId([3; 16]);
const FILE: &[u8] = &[0x5a; 48];
const CODE: &[u8; 20] = &[0xc3; 20];

/// One slot of each type, and the shares of the one that has any.
struct Genuine {
    root: RootKey,
    shares: Vec<Share>,
    slots: Vec<Slot>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let random = SeededRandom::new(7);
    let root = RootKey::random(&VAULT, &random).expect("the seeded source does not fail");
    let shares = Share::create(&VAULT, 2, 3, &random).expect("two of three are possible");
    let secrets = [
        Unlock::KeyFile(FILE),
        Unlock::Recovery(CODE),
        Unlock::Shares(&shares),
        Unlock::Passphrase(b"correct horse"),
        Unlock::Hybrid(b"correct horse"),
    ];
    let made = |(id, secret)| {
        let new = NewSlot { label: "one", secret, params: OPEN_FLOOR };
        Slot::seal(&new, id, (&VAULT, 0, Suite::Aes256Gcm), &root, &random, WeakKdf::Allow)
            .expect("the slot is within every limit")
    };
    let slots = (1..).zip(secrets).map(made).collect();
    Genuine { root, shares, slots }
});

fn encoded(slot: &Slot) -> Vec<u8> {
    let mut out = Writer::new();
    slot.encode(&mut out);
    out.into_public()
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    GENUINE.slots.iter().map(encoded).chain([vec![0, 9, 3, b'x'], vec![0, 60, 4, 1], vec![0, 1, 4, 1]]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let accepted = judged(data);
    for slot in &GENUINE.slots {
        assert!(judged(&encoded(slot)), "a genuine slot parses");
        judged(&alter(&encoded(slot), data));
    }
    accepted
}

/// Whether a slot stands at the front; asserts that only a genuine one opens.
fn judged(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(slot) = Slot::parse(&mut reader) else { return false };
    let read = bytes.len() - reader.remaining();
    assert_eq!(Some(encoded(&slot).as_slice()), bytes.get(..read), "one slot has one encoding");
    assert!((1..=LAST_TYPE).contains(&slot.slot_type()) && slot.label().len() <= MAX_LABEL);
    assert_eq!(slot.type_name(), type_name(slot.slot_type()));
    assert!(slot.admit(WeakKdf::Allow, None).is_ok(), "no cost above the ceilings is taken in");
    // Without a passphrase: a forged slot would cost what the forger wants.
    for secret in [Unlock::KeyFile(FILE), Unlock::Recovery(CODE), Unlock::Shares(&GENUINE.shares)] {
        let mut genuine = GENUINE.slots.iter().filter(|slot| slot.slot_type() == secret.slot_type());
        let same = genuine.any(|genuine| genuine.labelled(slot.label()) == slot);
        let opened = slot.opens(&secret, &VAULT, 0);
        assert_eq!(opened.is_ok(), same, "only a genuine slot opens");
        assert!(opened.is_err() || slot.opens(&secret, &VAULT, 1).is_err(), "the flags of the header are bound");
        assert!(opened.is_err() || slot.opens(&secret, &VaultId([4; 16]), 0).is_err(), "the vault is bound");
        if let Ok(root) = opened {
            assert!(root.vrk().ct_eq(GENUINE.root.vrk()), "it is the root key of this vault");
        }
    }
    true
}
