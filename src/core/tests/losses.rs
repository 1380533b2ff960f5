//! Permanent notes of losses: what a salvage says when it cannot keep one.

use super::support::{Disk, KEY_FILE, Rig, START_MS};
use crate::api::sys::BadRecord;
use crate::audit::FileDevice;
use crate::barrier::MountId;
use crate::core::AuditOpener;
use crate::core::lifecycle::{damage, losses};
use crate::core::state::bad_records::lost_in;

/// Keys of all records that begin with `letter`, and the length of each record.
fn records(disk: &Disk, letter: u8) -> Vec<(Vec<u8>, usize)> {
    let mut found = Vec::new();
    disk.raw(|key, bytes| {
        if key.first() == Some(&letter) {
            found.push((key.to_vec(), bytes.len()));
        }
    });
    found
}

/// Changes the byte at `at` of one record.
fn flip(disk: &Disk, key: &[u8], at: usize) {
    disk.store.tamper(|records| records.get_mut(key).expect("it is there").value[at] ^= 1);
}

/// A vault in its second epoch, and the record of the note.
fn with_note() -> (Disk, (Vec<u8>, usize)) {
    let rig = Rig::new();
    rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"v"}}"#).expect("written");
    let disk = rig.end();
    let before = records(&disk, b'e');
    let mut examined = losses::examine(disk.ports(), None, Some(KEY_FILE), &|_, _| Ok(())).expect("sound");
    examined.declare_restored();
    let opener: AuditOpener = Box::new(FileDevice::opener_after_loss(disk.log_path()));
    examined.accept(&opener, START_MS + 2_000).expect("accepted");
    let mut notes = records(&disk, b'e');
    notes.retain(|(key, _)| !before.iter().any(|(other, _)| other == key));
    let note = notes.pop().expect("a note");
    assert!(notes.is_empty());
    (disk, note)
}

/// What a salvage would say.
fn lines(disk: &Disk) -> Vec<String> {
    damage::inspect(disk.ports(), None, Some(KEY_FILE), &|_, _| Ok(())).expect("header and state open").lines()
}

#[test]
fn a_salvage_does_not_drop_the_note_of_an_earlier_loss_silently() {
    let (disk, (note, length)) = with_note();
    flip(&disk, &note, length - 1);
    let said = lines(&disk);
    assert!(
        said.iter().any(|line| line == "permanent notes of earlier losses that are damaged and not kept: 1"),
        "{said:?}"
    );
    // Without the proof, a note may be missing without a trace. Every epoch but the first began with one.
    let (disk, _) = with_note();
    let behead = |disk: &Disk| flip(disk, &records(disk, b'v').pop().expect("a value").0, 70);
    behead(&disk);
    let said = lines(&disk);
    assert!(said.iter().any(|line| line == "permanent notes of earlier losses may be missing"), "{said:?}");
    let first = Rig::new();
    first.write(&first.operator(), "secret/data/x", r#"{"data":{"k":"v"}}"#).expect("written");
    let disk = first.end();
    behead(&disk);
    let said = lines(&disk);
    assert!(!said.is_empty() && !said.iter().any(|line| line.contains("permanent notes")), "{said:?}");
}

#[test]
fn a_list_of_lost_records_that_has_a_gap_says_so() {
    let rig = Rig::new();
    let live = rig.vault.live().expect("open");
    let record = |path: &str| BadRecord { what: "version".to_owned(), path: path.to_owned(), ..BadRecord::default() };
    let mut group = live.barrier.begin();
    for (number, path) in [(1, "b"), (2, "c")] {
        let part = serde_json::to_vec(&[record(path)]).expect("JSON");
        let key = format!("salvage/0000000002/{number:06}");
        group.run(|tx| tx.put_entry(MountId::MISC, &key, &part, 0)).expect("written");
    }
    let durable = group.store(live.barrier.audit_head(), START_MS).expect("stored");
    durable.anchor().expect("anchored");
    durable.publish();
    let lost = lost_in(&live.barrier.view(MountId::MISC), 2).expect("read");
    let said: Vec<(&str, &str)> = lost.iter().map(|bad| (bad.what.as_str(), bad.path.as_str())).collect();
    assert_eq!(said, [("list", ""), ("version", "b"), ("version", "c")]);
}
