//! Which header, state and anchor belong together, to the unit, and what the operator is told when they do not.

use super::rotation::{destroy, new_term, rewrap, turn};
use super::*;
use crate::barrier::anchor;
use crate::barrier::error::STATE_OLDER;
use crate::barrier::lifecycle::heads::stamp_of;
use crate::barrier::names::StoreKey;
use crate::barrier::state::StateRecord;
use crate::crypto::envelope::{self, Context, HEAD_LEN, Kind, Suite};
use crate::keys::Keyring;

/// A header made from `bytes` as the next one, after a change.
fn next_after(bytes: &[u8], change: impl FnOnce(&mut Header, &mut Keyring)) -> Vec<u8> {
    let mut opened = Header::parse(bytes).unwrap().open(&Unlock::KeyFile(SECRET), WeakKdf::Refuse).unwrap();
    change(&mut opened.header, &mut opened.keyring);
    opened.header.encode_next(opened.root.header_keys(), &opened.keyring, &SeededRandom::new(70)).unwrap()
}

fn header_of(disk: &Disk) -> Vec<u8> {
    disk.header.read().unwrap()[0].clone().unwrap()
}

/// `disk` with both copies of another header.
fn under(disk: &Disk, header: &[u8]) -> Disk {
    Disk { header: Arc::new(MemHeader::with([Some(header.to_vec()), Some(header.to_vec())])), ..disk.copy() }
}

/// A vault of generation 2 whose header has been changed once, and the header before the change.
fn changed_once() -> (Disk, Vec<u8>) {
    let (disk, barrier) = Disk::new();
    let first = header_of(&disk);
    turn(&barrier, new_term());
    (disk, first)
}

fn turn_again(barrier: &Barrier) {
    turn(barrier, HeaderChange::default());
}

fn refusal_to_accept(disk: &Disk) -> BarrierError {
    Loss::examine(disk.parts(7), &Unlock::KeyFile(SECRET)).map(|_| ()).expect_err("this loss must not be accepted")
}

#[test]
fn another_header_of_the_number_is_no_interrupted_loss_even_if_its_floor_is_the_state() {
    let (disk, first) = changed_once();
    let twin = next_after(&first, |header, keyring| {
        (header.floor_epoch, header.floor_generation) = (1, 2);
        keyring.add_term(&SeededRandom::new(8), 30, false).unwrap();
    });
    let disk = under(&disk, &twin);
    assert!(matches!(disk.error(), BarrierError::HeaderOther("another header of the same number")));
    // Which of the two headers was acknowledged, nobody knows: a removed passphrase could work again with this one.
    assert!(matches!(refusal_to_accept(&disk), BarrierError::HeaderOther("another header of the same number")));
}

#[test]
fn a_destroyed_key_is_named_only_if_the_state_needs_it_and_the_header_is_newer() {
    let (disk, barrier) = Disk::new();
    let first = header_of(&disk);
    put(&barrier, "x", b"1");
    turn(&barrier, new_term());
    let needed = disk.copy();
    rewrap(&barrier, 50);
    let drained = disk.copy();
    turn(&barrier, destroy(1));
    turn_again(&barrier);
    let with_header = |older: &Disk| under(older, &header_of(&disk)).error();
    let error = with_header(&needed);
    assert!(matches!(error, BarrierError::TermDestroyed(1)), "records are under it: {error}");
    let error = with_header(&drained);
    assert!(matches!(error, BarrierError::HeaderOther(STATE_OLDER)), "no record was under it any more: {error}");
    // A header of the same number cannot explain what is gone from the store.
    let twin = next_after(&first, |_, keyring| {
        keyring.add_term(&SeededRandom::new(8), 30, false).unwrap();
        keyring.destroy_term(1);
    });
    let error = under(&needed, &twin).error();
    assert!(matches!(error, BarrierError::HeaderOther("another header of the same number")), "{error}");
}

#[test]
fn a_header_of_another_epoch_or_incarnation_is_never_rolled_forward() {
    let (disk, _) = changed_once();
    let current = header_of(&disk);
    let changes: [fn(&mut Header, &mut Keyring); 2] =
        [|header, _| header.incarnation = [9; 16], |header, _| header.epoch = 2];
    for change in changes {
        let error = under(&disk, &next_after(&current, change)).error();
        assert!(matches!(error, BarrierError::HeaderOther("another epoch")), "{error}");
    }
}

#[test]
fn the_floor_of_a_header_is_the_oldest_state_that_it_accepts() {
    let (disk, _) = changed_once();
    let current = header_of(&disk);
    let floor = |epoch, generation| {
        next_after(&current, move |header, _| (header.floor_epoch, header.floor_generation) = (epoch, generation))
    };
    assert_eq!(under(&disk, &floor(1, 2)).open().unwrap().1.generation, 3);
    assert!(matches!(under(&disk, &floor(1, 3)).error(), BarrierError::BelowFloor));
}

#[test]
fn the_copy_that_opens_tells_more_than_the_one_that_does_not() {
    const OTHER: &[u8] = &[9; 40];
    let (disk, barrier) = Disk::new();
    let first = header_of(&disk);
    let root = RootKey::random(&barrier.vault_id(), &SeededRandom::new(7)).unwrap();
    let header = barrier.header();
    let secret = NewSlot { label: "new", secret: Unlock::KeyFile(OTHER), params: crate::crypto::password::WRITE_FLOOR };
    let bound = (&header.vault_id, header.flags, Suite::Aes256Gcm);
    let slot = Slot::seal(&secret, 1, bound, &root, &SeededRandom::new(8), WeakKdf::Refuse).unwrap();
    turn(
        &barrier,
        HeaderChange { slots: Some(vec![slot]), root: Some(root.into_header_keys()), ..HeaderChange::default() },
    );
    let newer = header_of(&disk);
    // The secret opens only the older copy, and that one is older than the state.
    let disk = Disk { header: Arc::new(MemHeader::with([Some(newer), Some(first)])), ..disk };
    assert!(matches!(disk.error(), BarrierError::HeaderOther("the header is older than the state")));
}

#[test]
fn a_start_leaves_a_state_that_names_its_header() {
    let (disk, _) = changed_once();
    let next = next_after(&header_of(&disk), |_, _| {});
    // Killed after both copies were written, and before the store.
    let cut = under(&disk, &next);
    let (_, report) = cut.open().unwrap();
    assert!(report.header_rolled_forward && !report.header_repaired);
    assert_eq!(report.generation, 3);
    let (_, report) = cut.open().unwrap();
    assert_eq!((report.header_rolled_forward, report.generation), (false, 3), "there is nothing left to complete");
}

#[test]
fn the_slot_of_an_epoch_in_service_that_stands_in_both_places_is_an_alarm() {
    let (disk, barrier) = Disk::new();
    drop(barrier);
    let lost = Disk { anchor: Arc::new(MemAnchor::with(None)), ..disk.copy() };
    let loss = Loss::examine(lost.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
    let barrier = loss.accept(|tx| tx.put_entry(MountId::MISC, "loss/2", b"note", 0), 30).unwrap();
    put(&barrier, "x", b"1");
    let old = lost.copy();
    put(&barrier, "x", b"newer");
    // Rolled back by one generation, with the older slot copied over the newest one.
    let anchor = lost.anchor.read().unwrap().unwrap();
    let (even, odd) = anchor.split_at(anchor.len() / 2);
    let kept = if barrier.mark().2.is_multiple_of(2) { odd } else { even };
    let rolled = Disk { anchor: Arc::new(MemAnchor::with(Some([kept, kept].concat()))), ..old };
    assert!(rolled.open().unwrap().1.anchor_damaged);
    // In an epoch that began with no loss, its first state stands in one place only.
    let (disk, barrier) = Disk::new();
    let old = disk.copy();
    put(&barrier, "x", b"1");
    let anchor = disk.anchor.read().unwrap().unwrap();
    let odd = &anchor[anchor.len() / 2..];
    let rolled = Disk { anchor: Arc::new(MemAnchor::with(Some([odd, odd].concat()))), ..old };
    assert!(rolled.open().unwrap().1.anchor_damaged);
}

#[test]
fn a_settled_anchor_needs_the_newest_integrity_set_only() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
        keyring.add_integrity(random)?;
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
    let unreadable_slot = || {
        let mut keyring = barrier.ring.load().keyring.duplicate();
        keyring.drop_old_integrity();
        let file = disk.anchor.read().unwrap().unwrap();
        anchor::read(&file, &barrier.vault_id(), &keyring).torn
    };
    assert!(unreadable_slot(), "one slot is still tagged with the older set");
    barrier.settle_anchor(40).unwrap();
    assert!(!unreadable_slot());
    let settled = barrier.mark();
    barrier.settle_anchor(41).unwrap();
    assert_eq!(barrier.mark(), settled, "nothing is left to write");
}

/// The state is sealed with the right keys, and its sum is right: only a defect of a program can write it.
#[test]
fn a_state_whose_counts_are_not_those_of_the_records_is_refused() {
    type Miscount = fn(&mut StateRecord);
    let miscounts: [Miscount; 3] = [
        |state| state.record_count += 1,
        |state| state.terms[0].live -= 1,
        |state| (state.terms[0].live, state.terms[0].seals) = (9, 9),
    ];
    for miscount in miscounts {
        let (disk, barrier) = Disk::new();
        put(&barrier, "x", b"1");
        miscount(&mut barrier.writer.lock().state);
        barrier.roll(20).unwrap();
        let error = disk.error();
        assert!(matches!(error, BarrierError::SetHash("its counts differ")), "{error}");
    }
}

#[test]
fn a_record_at_a_place_that_is_not_its_own_is_named_at_the_start() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    let ring = barrier.ring.load();
    let state = barrier.writer.lock().state.clone();
    let records = disk.records();
    let of = |letter: u8| records.iter().find(|(key, _)| key[0] == letter).unwrap();
    let check = |key: &[u8], head: &[u8], header: &Header, generation| {
        let state = StateRecord { generation, ..state.clone() };
        stamp_of(key, head, header, &ring.keyring, &state).map(|found| found.is_some())
    };
    let misplaced = Err("a record that does not fit its place");
    let ((node, stored), (value, content)) = (of(b'd'), of(b'v'));
    let mut strict = ring.header.clone();
    strict.min_suite = Suite::ChaCha20Poly1305;
    let now = state.generation;
    for (key, record) in [(node, stored), (value, content)] {
        assert_eq!(check(key, &record.value, &ring.header, now), Ok(true));
        assert_eq!(check(key, &record.value, &strict, now), misplaced, "sealed with less than the header demands");
        assert_eq!(check(key, &record.value, &ring.header, now - 1), misplaced, "newer than the state");
    }
    let as_entry = [b"e", &node[1..]].concat();
    assert_eq!(check(&as_entry, &stored.value, &ring.header, now), misplaced, "of another kind");
    let mut second = value.clone();
    second[24] += 1;
    assert_eq!(check(&second, &content.value, &ring.header, now), misplaced, "of another version");
    assert_eq!(check(node, &stored.value[..HEAD_LEN], &ring.header, now), Err("a record outside the format"));
}

/// Seals the state of `barrier` again, with another head.
fn reseal_state(disk: &Disk, barrier: &Barrier, suite: Suite, generation: u64) {
    let (ring, state) = (barrier.ring.load(), barrier.writer.lock().state.clone());
    let (set, place) = (ring.keyring.newest_integrity(), StoreKey::state());
    let (kind, vault_id, store_key) = (Kind::State, barrier.vault.as_bytes(), place.as_bytes());
    let context =
        Context { suite, kind, term: set.id, version: generation, generation, vault_id, store_key, path: &[] };
    let random = SeededRandom::new(6);
    let record = envelope::seal(&set.state, &context, &ring.hedge, &random, state.encode().reveal()).unwrap();
    disk.store.tamper(|records| records.get_mut(store_key).unwrap().value = record);
}

#[test]
fn a_state_whose_head_is_not_that_of_its_body_or_below_the_suite_of_the_header_is_refused() {
    let disk = Disk { store: Arc::default(), header: Arc::default(), anchor: Arc::default() };
    let slot = NewSlot { label: "file", secret: Unlock::KeyFile(SECRET), params: crate::crypto::password::WRITE_FLOOR };
    let made = Header::create(VaultId([3; 16]), &[slot], &SeededRandom::new(1), 5, Suite::ChaCha20Poly1305);
    let (bytes, opened) = made.unwrap();
    assert_eq!(opened.header.min_suite, Suite::Aes256Gcm);
    let barrier = Barrier::create(disk.parts(2), &bytes, opened, 5).unwrap();
    put(&barrier, "x", b"1");
    let strict = next_after(&header_of(&disk), |header, _| header.min_suite = Suite::ChaCha20Poly1305);
    for header in [&header_of(&disk), &strict] {
        let opened = under(&disk, header).open().unwrap().0;
        assert_eq!(get(&opened.view(MOUNT), "x").unwrap().unwrap(), b"1");
    }
    let now = barrier.mark().2;
    reseal_state(&disk, &barrier, Suite::Aes256Gcm, now);
    assert!(matches!(under(&disk, &strict).error(), BarrierError::StateDamaged("its head differs from its body")));
    reseal_state(&disk, &barrier, Suite::ChaCha20Poly1305, now + 1);
    assert!(matches!(disk.error(), BarrierError::StateDamaged("its head differs from its body")));
}

#[test]
fn only_an_older_store_is_said_to_be_acceptable() {
    let way_out = "strongroomd storage accept-loss";
    assert!(BarrierError::HeaderOther(STATE_OLDER).to_string().ends_with(way_out));
    let other = BarrierError::HeaderOther("the header is older than the state").to_string();
    assert!(other.ends_with("the header is older than the state"), "{other}");
}
