//! What an operator is told about a loss or damage before it is accepted, and what is kept at the edges.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::rotation::turn;
use super::salvage::{RULES, filled, inspect, node_key, salvage};
use super::*;
use crate::store::sidecar::SidecarError;

const OTHER: MountId = MountId([8; 16]);

/// Changes the last byte of a record: its head stays sound, and it does not open.
fn spoil(disk: &Disk, key: &[u8]) {
    disk.store.tamper(|records| *records.get_mut(key).unwrap().value.last_mut().unwrap() ^= 1);
}

/// Changes the head of a record, so that the sum over all heads fits no more.
fn spoil_head(disk: &Disk, key: &[u8]) {
    disk.store.tamper(|records| records.get_mut(key).unwrap().value[70] ^= 1);
}

fn entry_key(disk: &Disk, mount: MountId, name: &str) -> Vec<u8> {
    let (barrier, _) = disk.open().unwrap();
    barrier.view(mount).entry_key(name).as_bytes().to_vec()
}

#[test]
fn a_loss_is_described_before_it_is_accepted() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "a/b", b"one");
    let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
        keyring.add_audit(random)?;
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
    let (mark, records) = (barrier.mark(), barrier.record_count());
    drop(barrier);
    let disk = Disk { anchor: Arc::new(MemAnchor::with(None)), ..disk };
    for (opened, loss) in [
        (0, Loss::examine(disk.parts(7), &Unlock::KeyFile(SECRET)).unwrap()),
        (records, Loss::inspect(disk.parts(7), &Unlock::KeyFile(SECRET), RULES).unwrap()),
    ] {
        assert_eq!((loss.stored(), loss.next_epoch(), loss.last_ms()), ((mark.0, mark.2), 2, 20));
        assert_eq!(loss.records(), records);
        assert_eq!(loss.audit_head(), AuditHead { seq: 4, hash: [4; 32] });
        assert_eq!(loss.audit_keys().iter().map(|key| key.id).collect::<Vec<_>>(), [1, 2]);
        // Without its mount table, nothing below the mount is found.
        assert!(loss.opened() == 0 || loss.opened() == opened, "{} of {opened}", loss.opened());
    }
    let whole = filled();
    let (barrier, _) = whole.open().unwrap();
    assert_eq!(inspect(whole.parts(7)).opened(), barrier.record_count());
}

/// An anchor file that the system does not read until it is created again.
struct Unreadable {
    inner: MemAnchor,
    kind: io::ErrorKind,
    is_made: AtomicBool,
}

impl AnchorFile for Unreadable {
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError> {
        if self.is_made.load(Ordering::SeqCst) {
            return self.inner.read();
        }
        Err(SidecarError::Io { step: "reading the anchor", kind: self.kind })
    }

    fn create(&self) -> Result<(), SidecarError> {
        self.is_made.store(true, Ordering::SeqCst);
        self.inner.create()
    }

    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        self.inner.write_slot(slot, bytes)
    }
}

#[test]
fn an_anchor_that_cannot_be_read_is_a_loss_unless_only_rights_are_missing() {
    let disk = filled();
    let parts = |kind| {
        let anchor = Unreadable { inner: MemAnchor::new(), kind, is_made: false.into() };
        Parts { anchor: Arc::new(anchor), ..disk.parts(7) }
    };
    let denied = Loss::examine(parts(io::ErrorKind::PermissionDenied), &Unlock::KeyFile(SECRET)).map(|_| ());
    assert!(matches!(denied, Err(BarrierError::Sidecar(_))), "rights can be given");
    let loss = Loss::examine(parts(io::ErrorKind::InvalidData), &Unlock::KeyFile(SECRET)).unwrap();
    assert_eq!(loss.misfits(), [Misfit::AnchorUnreadable]);
    let barrier = loss.accept(|tx| tx.put_entry(MountId::MISC, "loss/2", b"note", 0), 30).unwrap();
    assert_eq!(barrier.mark().0, 2);
}

/// The header with the next integrity set was written, and the process ended before the store.
#[test]
fn a_loss_is_accepted_under_the_newest_integrity_set() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "a/b", b"one");
    let before = disk.copy();
    let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
        keyring.add_integrity(random)?;
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
    let lost = Disk { header: disk.header.clone(), anchor: Arc::new(MemAnchor::with(None)), ..before };
    let loss = Loss::examine(lost.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
    drop(loss.accept(|tx| tx.put_entry(MountId::MISC, "loss/2", b"note", 0), 30).unwrap());
    let (barrier, _) = lost.open().unwrap();
    assert_eq!((barrier.mark().0, barrier.integrity_sets()), (2, 2));
    assert_eq!(get(&barrier.view(MOUNT), "a/b").unwrap().unwrap(), b"one");
}

#[test]
fn damage_names_its_mounts_and_says_how_much_goes() {
    let disk = filled();
    spoil(&disk, &node_key(&disk, "a"));
    let loss = inspect(disk.parts(7));
    let damage = loss.damage().unwrap();
    assert_eq!((damage.named.name_of(MOUNT), damage.named.name_of(MountId::POLICIES)), (Some("secret/"), None));
    // The folder, two secrets below it and their three versions.
    assert_eq!((damage.bad.len(), damage.bad[0].behind, damage.removes()), (1, 5, 6));
    let mut leaving = 0;
    loss.leaving(|_, _| {
        leaving += 1;
        Ok::<_, BarrierError>(())
    })
    .unwrap();
    assert_eq!(leaving, 6);
}

#[test]
fn one_mount_that_cannot_be_found_any_more_is_enough_to_refuse() {
    let disk = filled();
    let (barrier, _) = disk.open().unwrap();
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::MOUNTS, "other/", &OTHER.0, 0)).unwrap();
    finish(group);
    drop(barrier);
    spoil(&disk, &entry_key(&disk, MountId::MOUNTS, "other/"));
    let refused = salvage(disk.parts(8)).map(|_| ());
    assert!(matches!(refused, Err(BarrierError::NotSalvageable(why)) if why.contains("the entry of a mount")));
}

#[test]
fn records_of_a_compromised_key_are_kept_only_with_the_proof() {
    let compromised = || {
        let disk = filled();
        let (barrier, _) = disk.open().unwrap();
        let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
            keyring.add_term(random, 30, true)?;
            Ok(())
        });
        turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
        disk
    };
    let disk = compromised();
    spoil(&disk, &node_key(&disk, "a/c"));
    assert_eq!(inspect(disk.parts(7)).damage().unwrap().keeps, Keeps::Rest);
    drop(salvage(disk.parts(8)).unwrap());
    let disk = compromised();
    spoil_head(&disk, &node_key(&disk, "a/c"));
    let refused = salvage(disk.parts(8)).map(|_| ());
    assert!(matches!(refused, Err(BarrierError::NotSalvageable(why)) if why.contains("compromised")));
}

#[test]
fn folders_whose_names_were_all_removed_go_too() {
    let disk = filled();
    let (barrier, _) = disk.open().unwrap();
    put(&barrier, "d/g/h", b"five");
    put(&barrier, "i/j", b"six");
    drop(barrier);
    let gone = [node_key(&disk, "d/e/f"), node_key(&disk, "d/g/h"), node_key(&disk, "i/j")];
    disk.store.tamper(|records| {
        for key in &gone {
            records.remove(key);
        }
    });
    drop(salvage(disk.parts(8)).unwrap());
    let (barrier, _) = disk.open().unwrap();
    for folder in ["d/e", "d/g", "d", "i"] {
        assert!(barrier.view(MOUNT).node(folder).unwrap().is_none(), "{folder}");
    }
    assert_eq!(get(&barrier.view(MOUNT), "a/b").unwrap().unwrap(), b"two");
}

#[test]
fn secrets_below_a_name_that_was_put_back_without_them_are_kept() {
    let (disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::MOUNTS, "secret/", &MOUNT.0, 0)).unwrap();
    group.run(|tx| tx.put_entry(MOUNT, "of the mount", b"kept", 0)).unwrap();
    finish(group);
    put(&barrier, "a", b"one");
    let before = disk.records();
    put(&barrier, "a/b", b"two");
    drop(barrier);
    let key = node_key(&disk, "a");
    disk.store.tamper(|records| drop(records.insert(key.clone(), before[&key].clone())));
    assert_eq!(inspect(disk.parts(7)).damage().unwrap().keeps, Keeps::Values);
    drop(salvage(disk.parts(8)).unwrap());
    let (barrier, _) = disk.open().unwrap();
    let view = barrier.view(MOUNT);
    assert_eq!(get(&view, "a").unwrap().unwrap(), b"one");
    assert_eq!(get(&view, "a/b").unwrap().unwrap(), b"two");
    assert!(view.children("").unwrap()[0].is_folder, "the folder counts them again");
    assert_eq!(view.entry("of the mount").unwrap().unwrap().value.reveal(), b"kept", "content of a mount is kept");
}
