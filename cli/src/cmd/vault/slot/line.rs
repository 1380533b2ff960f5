//! A key slot as one line of a list.

use strongroom::api::rotation::SlotInfo;

/// One slot of the list.
pub fn line(slot: &SlotInfo) -> String {
    let mut text = format!("{:<3} {:<20} {:<20}", slot.id, slot.label, slot.kind);
    if let (Some(memory), Some(passes)) = (slot.memory_mib, slot.passes) {
        text.push_str(&format!(" argon2id {memory} MiB, {passes} passes"));
    }
    if let (Some(threshold), Some(total)) = (slot.threshold, slot.total) {
        let set = slot.set.as_deref().unwrap_or_default();
        text.push_str(&format!(" {threshold} of {total} shares, set {set}"));
    }
    if slot.recovery {
        text.push_str(" for recovery");
    }
    if let Some(old) = slot.replaces {
        let next = format!(
            " NEW SHARES NOT CONFIRMED, slot {old} still opens the vault: strongroom slot change --slot {}",
            slot.id
        );
        text.push_str(&next);
    }
    if slot.survives_rekey {
        text.push_str(" kept by rekey without its holder");
    }
    text.trim_end().to_owned()
}
