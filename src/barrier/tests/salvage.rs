//! What is kept of a damaged store, what is not, and every point at which a salvage can be interrupted.

use super::loss::cut_parts;
use super::*;
use crate::barrier::names::StoreKey;

const NOTES: MountId = MountId::MISC;
pub(super) const RULES: Rules = Rules {
    mount_of: |_, value| value.try_into().ok().map(MountId),
    carries: |mount, _| mount == MountId::MOUNTS || mount == NOTES,
    gives_rights: |mount| mount == MountId::POLICIES,
};

/// Two secrets of one folder, one of them with two versions, a folder in a folder, and a policy.
pub(super) fn filled() -> Disk {
    let (disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::MOUNTS, "secret/", &MOUNT.0, 0)).unwrap();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "p", b"policy", 0)).unwrap();
    finish(group);
    for (path, value) in [("a/b", "one"), ("a/b", "two"), ("a/c", "three"), ("d/e/f", "four")] {
        put(&barrier, path, value.as_bytes());
    }
    disk
}

pub(super) fn inspect(parts: Parts) -> Loss {
    Loss::inspect(parts, &Unlock::KeyFile(SECRET), RULES).unwrap()
}

pub(super) fn salvage(parts: Parts) -> Result<Barrier, BarrierError> {
    inspect(parts).accept(|tx| tx.put_entry(NOTES, "loss/2", b"salvaged", 0), 30)
}

/// What can be read: the secrets' current values, and the policy.
fn readable(barrier: &Barrier) -> Vec<String> {
    let view = barrier.view(MOUNT);
    let mut found: Vec<String> = ["a/b", "a/c", "d/e/f"]
        .into_iter()
        .filter_map(|path| get(&view, path).unwrap())
        .map(|value| String::from_utf8(value).unwrap())
        .collect();
    found.extend(barrier.view(MountId::POLICIES).entry("p").unwrap().map(|_| "policy".to_owned()));
    found
}

/// Checks that every record of the salvaged vault opens, in a new epoch with its note.
fn sound(disk: &Disk) -> Vec<String> {
    let (barrier, _) = disk.open().unwrap();
    assert!(barrier.mark().0 >= 2);
    assert_eq!(barrier.view(NOTES).entry("loss/2").unwrap().unwrap().value.reveal(), b"salvaged");
    drop(barrier);
    let loss = inspect(disk.parts(7));
    assert!(loss.damage().is_none() && loss.misfits().is_empty());
    let (barrier, _) = disk.open().unwrap();
    put(&barrier, "later/on", b"5");
    readable(&barrier)
}

/// Each record of the vault except the state, with its kind.
fn victims(disk: &Disk) -> Vec<(Vec<u8>, char)> {
    let keys = disk.records().into_keys().filter(|key| key[0] != b's');
    keys.map(|key| (key.clone(), char::from(key[0]))).collect()
}

/// The mount's entry, which is the only one in the mount table.
fn mount_entry(disk: &Disk) -> Vec<u8> {
    let (barrier, _) = disk.open().unwrap();
    let (first, last) = StoreKey::entries_of(&barrier.names.root(&MountId::MOUNTS));
    let published = barrier.published.read();
    let (key, _) = published.index.range(first..=last).next().unwrap();
    key.as_bytes().to_vec()
}

/// All secrets would be lost with the entry of their mount.
fn refused(disk: &Disk) {
    let (records, header) = (disk.records(), disk.header.read().unwrap());
    assert!(matches!(salvage(disk.parts(8)), Err(BarrierError::NotSalvageable(_))));
    assert!(disk.records() == records && disk.header.read().unwrap() == header, "something was written");
}

/// The key of the node at `path`, and the id of its mount's root.
pub(super) fn node_key(disk: &Disk, path: &str) -> Vec<u8> {
    let (barrier, _) = disk.open().unwrap();
    barrier.view(MOUNT).locate(path).unwrap().0.as_bytes().to_vec()
}

#[test]
fn rows_that_were_added_take_nothing_along_and_come_to_an_end() {
    let disk = filled();
    let (folder, secret) = (node_key(&disk, "a"), node_key(&disk, "a/b"));
    let (root, inner) = (&folder[1..17], &secret[17..33]);
    let copied = disk.records()[&secret].clone();
    disk.store.tamper(|records| {
        // One names an intact secret in another place; the others name each other.
        records.insert([b"d".as_slice(), root, inner].concat(), copied.clone());
        records.insert([b"d".as_slice(), root, root].concat(), copied.clone());
        records.insert([b"d".as_slice(), root, &[7; 16]].concat(), copied.clone());
        records.insert([b"d".as_slice(), &[7; 16], &[7; 16]].concat(), copied);
    });
    let loss = inspect(disk.parts(7));
    let damage = loss.damage().unwrap();
    assert_eq!(damage.bad.iter().map(|bad| 1 + bad.behind).sum::<u64>(), 4, "{:?}", damage.bad);
    drop(loss);
    drop(salvage(disk.parts(8)).unwrap());
    assert_eq!(sound(&disk), ["two", "three", "four"]);
}

#[test]
fn rows_elsewhere_that_name_a_sound_node_are_strays() {
    let disk = filled();
    let secret = node_key(&disk, "a/b");
    let copied = disk.records()[&secret].clone();
    disk.store.tamper(|records| {
        for place in [[8; 16], [9; 16]] {
            records.insert([b"d".as_slice(), &place, &secret[17..33]].concat(), copied.clone());
        }
    });
    assert_eq!(inspect(disk.parts(7)).damage().unwrap().bad.len(), 2);
    drop(salvage(disk.parts(8)).unwrap());
    assert_eq!(sound(&disk), ["two", "three", "four"]);
}

/// Somebody who was evicted may still know the term, and can seal records of their own under it. Only the sum over all heads
/// tells these apart.
#[test]
fn records_of_a_compromised_term_are_kept_only_if_the_sum_proves_them() {
    let evicted = || {
        let disk = filled();
        let (barrier, _) = disk.open().unwrap();
        let mut group = barrier.begin();
        let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
            keyring.add_term(random, 30, true)?;
            Ok(())
        });
        group.change_header(HeaderChange { keyring: Some(edit), ..HeaderChange::default() }).unwrap();
        finish(group);
        drop(barrier);
        disk
    };
    let victim = |disk: &Disk| victims(disk).into_iter().rfind(|(_, letter)| *letter == 'v').unwrap().0;
    // One head is altered: nothing proves the others.
    let disk = evicted();
    let key = victim(&disk);
    disk.store.tamper(|records| records.get_mut(&key).unwrap().value[70] ^= 1);
    assert_eq!(inspect(disk.parts(7)).damage().unwrap().keeps, Keeps::Values);
    refused(&disk);
    // The same damage behind its head.
    let disk = evicted();
    disk.store.tamper(|records| *records.get_mut(&key).unwrap().value.last_mut().unwrap() ^= 1);
    drop(salvage(disk.parts(8)).unwrap());
    assert!(sound(&disk).contains(&"policy".to_owned()));
}

#[test]
fn a_sound_store_has_no_damage() {
    let disk = filled();
    let loss = inspect(disk.parts(7));
    assert!(loss.damage().is_none() && loss.misfits().is_empty());
}

#[test]
fn one_record_that_rots_behind_its_head_is_all_that_is_lost() {
    let all = ["two", "three", "four", "policy"];
    for (key, letter) in victims(&filled()) {
        let disk = filled();
        disk.store.tamper(|records| {
            let value = &mut records.get_mut(&key).unwrap().value;
            let last = value.len() - 1;
            value[last] ^= 1;
        });
        let loss = inspect(disk.parts(7));
        let damage = loss.damage().expect("found");
        let bad = &damage.bad[0];
        assert!(damage.proved && bad.key == key, "{bad:?}");
        assert!(damage.bad.len() == 1 || bad.mount == Some(MountId::MOUNTS), "{:?}", damage.bad);
        let mut moved = Vec::new();
        loss.leaving(|key, bytes| {
            moved.push((key.to_vec(), bytes.map(<[u8]>::to_vec)));
            Ok::<(), ()>(())
        })
        .unwrap();
        let rotten = disk.records()[&key].value.clone();
        assert!(moved.contains(&(key.clone(), Some(rotten))), "its bytes are kept");
        let rights = bad.mount == Some(MountId::POLICIES);
        assert_eq!(damage.keeps, if rights { Keeps::Values } else { Keeps::Rest });
        if bad.mount == Some(MountId::MOUNTS) {
            refused(&disk);
            continue;
        }
        let (part, path, behind) = (bad.part, bad.path.clone(), bad.behind);
        drop(loss);
        drop(salvage(disk.parts(8)).unwrap());
        let left = sound(&disk);
        let lost: Vec<&str> = all.into_iter().filter(|value| !left.contains(&(*value).to_owned())).collect();
        match (letter, part) {
            ('e', Part::Entry) if rights => assert_eq!(lost, ["policy"]),
            ('v', Part::Version(version)) => {
                let (barrier, _) = disk.open().unwrap();
                let node = barrier.view(MOUNT).node(&path).unwrap().unwrap();
                let meta = node.meta.unwrap();
                let listed = meta.versions.iter().find(|listed| listed.version == version).unwrap();
                assert!(listed.destroyed, "{meta:?}");
                assert!(lost.len() <= 1, "{lost:?}");
            }
            ('d', Part::Name) => assert!(!lost.is_empty() && behind > 0, "{lost:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn without_the_proof_only_values_are_kept() {
    let mount = mount_entry(&filled());
    for (key, letter) in victims(&filled()) {
        for removed in [true, false] {
            let disk = filled();
            disk.store.tamper(|records| {
                if removed {
                    records.remove(&key);
                } else {
                    records.get_mut(&key).unwrap().value[70] ^= 1;
                }
            });
            assert!(matches!(disk.error(), BarrierError::SetHash(_)));
            let loss = inspect(disk.parts(7));
            let damage = loss.damage().expect("found");
            assert!(!damage.proved && damage.keeps == Keeps::Values);
            drop(loss);
            if key == mount {
                refused(&disk);
                continue;
            }
            drop(salvage(disk.parts(8)).unwrap());
            let left = sound(&disk);
            assert!(!left.contains(&"policy".to_owned()), "nothing that gives rights is kept");
            assert!(letter == 'e' || !left.is_empty(), "{letter}: {left:?}");
        }
    }
}

#[test]
fn a_record_that_was_put_back_is_found_and_the_rest_is_proved() {
    let disk = filled();
    let before = disk.records();
    let (barrier, _) = disk.open().unwrap();
    let mut group = barrier.begin();
    group.run(|tx| tx.remove_secret(MOUNT, "a/c")).unwrap();
    finish(group);
    drop(barrier);
    let after = disk.records();
    let (key, old) = before.iter().find(|(key, _)| key[0] == b'v' && !after.contains_key(*key)).unwrap();
    disk.store.tamper(|records| drop(records.insert(key.clone(), old.clone())));
    assert!(matches!(disk.error(), BarrierError::SetHash(_)));
    let loss = inspect(disk.parts(7));
    let damage = loss.damage().unwrap();
    assert!(damage.proved && damage.keeps == Keeps::Rest);
    assert_eq!((damage.bad.len(), &damage.bad[0].key), (1, key));
    drop(loss);
    drop(salvage(disk.parts(8)).unwrap());
    assert_eq!(sound(&disk), ["two", "four", "policy"]);
}

#[test]
fn foreign_keys_leave_and_nothing_else_is_lost() {
    let disk = filled();
    let any = disk.records().into_values().next().unwrap();
    disk.store.tamper(|records| {
        records.insert(b"x".to_vec(), any.clone());
        // Longer than any key that may be written.
        records.insert(vec![b'x'; 1_025], any.clone());
        records.insert(b"dshort".to_vec(), any);
    });
    assert!(matches!(disk.error(), BarrierError::SetHash(_)));
    drop(salvage(disk.parts(8)).unwrap());
    assert_eq!(sound(&disk), ["two", "three", "four", "policy"]);
    assert!(!disk.records().contains_key(b"x".as_slice()) && !disk.records().contains_key(b"dshort".as_slice()));
}

#[test]
fn a_folder_whose_last_name_is_lost_goes_with_it() {
    let disk = filled();
    let deepest = {
        let (barrier, _) = disk.open().unwrap();
        barrier.view(MOUNT).locate("d/e/f").unwrap().0.as_bytes().to_vec()
    };
    disk.store.tamper(|records| *records.get_mut(&deepest).unwrap().value.last_mut().unwrap() ^= 1);
    drop(salvage(disk.parts(8)).unwrap());
    assert_eq!(sound(&disk), ["two", "three", "policy"]);
    let (barrier, _) = disk.open().unwrap();
    assert!(barrier.view(MOUNT).node("d").unwrap().is_none() && barrier.view(MOUNT).node("d/e").unwrap().is_none());
}

#[test]
fn header_and_state_cannot_be_salvaged() {
    let disk = filled();
    let state = disk.records().into_keys().find(|key| key[0] == b's').unwrap();
    disk.store.tamper(|records| *records.get_mut(&state).unwrap().value.last_mut().unwrap() ^= 1);
    let refused = Loss::inspect(disk.parts(7), &Unlock::KeyFile(SECRET), RULES);
    assert!(matches!(refused, Err(BarrierError::StateDamaged(_))));
}

/// Interrupts the salvage at every step, and the second attempt at every step again.
#[test]
fn cut_at_any_step_it_is_as_before_or_finished() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [(Harm, usize); 2] = [(|value| *value.last_mut().unwrap() ^= 1, 4), (|value| value[70] ^= 1, 3)];
    for (harm, left) in harms {
        let damaged = || {
            let disk = filled();
            let key = victims(&disk).into_iter().rfind(|(_, letter)| *letter == 'v').unwrap().0;
            disk.store.tamper(|records| harm(&mut records.get_mut(&key).unwrap().value));
            disk
        };
        // Finished, or damaged as before: refused, or open with the damage behind a head.
        let finished = |disk: &Disk| match disk.open() {
            Ok((barrier, _)) => barrier.view(NOTES).entry("loss/2").unwrap().is_some(),
            Err(BarrierError::SetHash(_) | BarrierError::Unfinished) => false,
            Err(error) => panic!("{error}"),
        };
        let (mut done, mut undone) = (0, 0);
        for first in 0..6 {
            for second in 0..6 {
                let disk = damaged();
                let _ = salvage(cut_parts(&disk, first, 7));
                let after_one = finished(&disk.copy());
                if !after_one {
                    let _ = salvage(cut_parts(&disk, second, 8));
                }
                if after_one || finished(&disk.copy()) {
                    done += 1;
                } else {
                    undone += 1;
                    drop(salvage(disk.parts(9)).unwrap());
                }
                assert!(sound(&disk).len() >= left - 1, "{first} {second}");
            }
        }
        assert!(done > 0 && undone > 0, "{done} {undone}");
    }
}
