//! A new root key with a new integrity set. After a compromised slot also a new term and a new audit key.
//!
//! One header holds all of it. The older integrity set is removed later, once the state and both slots of the anchor
//! use the newer one.

use std::sync::Arc;

use crate::api::reply::Reply;
use crate::barrier::{HeaderChange, MountId, TermStatus, Tx};
use crate::crypto::random::Random;
use crate::keys::{RootKey, Slot};

use super::record::{self, Kind, Progress, Run};
use super::sets;
use super::slots::{bad, find, guard, named, open, refused};
use super::terms;
use super::view;
use crate::core::certificates::succession::{World, replace_all};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::{Desk, Outcome};
use crate::core::rotation::orders::{Compromised, Key};

/// Creates a new root key and a new integrity set, and after a compromised slot also a new term and a new audit key.
pub(in crate::core::rotation) fn rekey(
    desk: &Desk,
    facts: &Arc<Facts>,
    keep: &[Key],
    drop_absent: bool,
    compromised: Option<Compromised>,
    deep: bool,
) -> Outcome {
    let slot = compromised.as_ref().map(|compromised| compromised.slot.as_str());
    match prepare_rekey(desk, keep, drop_absent, slot) {
        Ok(prepared) => {
            let csr = compromised.map(|compromised| compromised.csr);
            let result = commit_rekey(desk, facts, prepared, csr, deep);
            Outcome { result, audited: true }
        }
        Err(error) => Outcome::refused(error),
    }
}

struct Rekey {
    base: u64,
    slots: Vec<Slot>,
    root: RootKey,
    steps: Vec<(String, String)>,
}

fn prepare_rekey(desk: &Desk, keep: &[Key], drop_absent: bool, compromised: Option<&str>) -> Result<Rekey, VaultError> {
    if desk.barrier.integrity_sets() > 1 {
        return Err(VaultError::Unavailable("the previous root key change is still completing; try again"));
    }
    let header = desk.barrier.header();
    let gone = compromised.map(|slot| find(&header, slot)).transpose()?;
    let gone_id = gone.map(Slot::id);
    let root = RootKey::random(&header.vault_id, &*desk.random).map_err(|_| VaultError::Internal)?;
    // Every secret is tried before anything is written, so that a typo changes nothing.
    let (mut slots, mut steps, mut presented) = (Vec::new(), Vec::new(), Vec::new());
    for key in keep {
        let (slot, _) = open(&header, key)?;
        if Some(slot.id()) == gone_id {
            return bad("a secret of the compromised slot was given: give secrets of slots that stay");
        }
        presented.push((slot.id(), key));
    }
    if presented.is_empty() {
        return bad("field \"keep\" must have a secret of at least one slot that stays");
    }
    let mut absent = Vec::new();
    for slot in header.slots.iter().filter(|slot| Some(slot.id()) != gone_id) {
        let (vault, flags) = (&header.vault_id, header.flags);
        if let Some((_, key)) = presented.iter().find(|(id, _)| *id == slot.id()) {
            let again = slot.reseal(&key.secret.unlock(), &root, vault, flags, &*desk.random).map_err(refused)?;
            // Opened with its secret, not only written: a slot that does not open must not replace one that does.
            again.opens(&key.secret.unlock(), vault, flags).map_err(refused)?;
            slots.push(again);
            steps.push((named(slot), "resealed with its secret".to_owned()));
        } else if slot.reseals_absent() {
            slots.push(slot.reseal_absent(&root, vault, flags, &*desk.random).map_err(refused)?);
            steps.push((named(slot), "resealed to its public half; its holder was not needed".to_owned()));
        } else {
            absent.push(named(slot));
            steps.push((named(slot), "dropped: its secret was not given".to_owned()));
        }
    }
    if !absent.is_empty() && !drop_absent {
        return bad(format!(
            "no secret was given for {}: give them, or drop these slots with drop_absent",
            absent.join(", ") // A slot whose holder is absent would be lost, so the operator must say so explicitly.
        ));
    }
    if let Some(gone) = gone {
        steps.push((named(gone), "removed as compromised".to_owned()));
    }
    sets::settle_names(&header, &mut slots);
    guard(&slots)?;
    Ok(Rekey { base: header.seq, slots, root, steps })
}

fn commit_rekey(
    desk: &Desk,
    facts: &Arc<Facts>,
    prepared: Rekey,
    csr: Option<String>,
    deep: bool,
) -> Result<Reply, VaultError> {
    let random = Arc::clone(&desk.random);
    let before = desk.barrier.terms();
    let compromised = csr.is_some();
    let (snapshot, settings) = (Arc::clone(&desk.snapshot), Arc::clone(&desk.settings));
    let caller = facts.caller.clone();
    let reply = desk.alone_touching(facts, move |group, now_ms| {
        let Rekey { base, slots, root, steps } = prepared;
        let expected = slots.clone();
        let generation = group.generation();
        group.change_header(HeaderChange {
            base: Some(base),
            slots: Some(slots),
            root: Some(root.into_header_keys()),
            keyring: Some(Box::new(move |keyring, random| {
                keyring.add_integrity(random)?;
                if compromised {
                    keyring.add_term(random, now_ms, true)?;
                    keyring.add_audit(random)?;
                }
                Ok(())
            })),
            check: Some(Box::new(move |header| header.slots == expected)),
        })?;
        // The run is in the same commit as the header, except after a kill between the two, which the keeper completes.
        group.run(|tx| {
            let mut run = begin(tx, &*random, compromised, now_ms)?;
            for (step, result) in steps {
                run.note(step, result);
            }
            if compromised {
                note_ends(&mut run, &before, None);
                run.note(
                    "certificate authority",
                    "replaced; every certificate except the one in this reply is revoked: enrol hosts and operators again",
                );
                if deep {
                    run.values_before = Some(generation);
                }
            }
            run.put(tx)?;
            let Some(csr) = csr else { return Ok(Done::of(view::reply(&run)?)) };
            let snapshot = snapshot.load();
            let world = World { snapshot: &snapshot, settings: &settings, random: &random };
            let (certified, done) = replace_all(tx, &world, &caller, &csr, now_ms)?;
            Ok(Done { reply: view::reply_with(&run, certified)?, ..done })
        })
    })?;
    desk.follow_audit_key()?;
    Ok(reply)
}

/// Makes the entry of a new run. A running rotation of the data key continues inside it. A run that answers a
/// compromised slot keeps that kind, so that no term that it covers is ever without its run.
pub(super) fn begin(tx: &mut Tx<'_>, random: &dyn Random, compromised: bool, now_ms: u64) -> Result<Run, VaultError> {
    let open = terms::open_run(&record::all(&tx.view(MountId::ROTATION))?);
    let compromised = compromised || open.as_ref().is_some_and(|open| open.kind == Kind::Compromised);
    let kind = if compromised { Kind::Compromised } else { Kind::Rekey };
    let mut run = Run::new(random, kind, "root key".to_owned(), Progress::Settling, now_ms)?;
    if let Some(mut open) = open {
        (run.values_before, run.full_speed, run.terms) = (open.values_before, open.full_speed, open.terms.clone());
        open.note("end", format!("continues as {}", run.id));
        open.advance(Progress::Done, now_ms);
        open.put(tx)?;
    }
    run.note("root key and integrity set", "new");
    Ok(run)
}

/// Sets all older terms as the target of the run, and records what a compromised slot ends.
pub(super) fn note_ends(run: &mut Run, terms: &[TermStatus], active: Option<u32>) {
    terms::aim(run, terms, active);
    run.note("data key", "new term; everything under the older ones is being resealed");
    run.note("audit key", "new; the log names it, signed by the old one");
    run.note("tokens", "every token is revoked");
    run.full_speed = true;
}

/// Drops the older integrity set, once the state and both slots of the anchor use the newest.
pub(in crate::core) fn settle(desk: &Desk) -> Result<(), VaultError> {
    let facts = desk.by_vault("sys/strongroom/rekey", "dropping the old integrity set".to_owned())?;
    desk.alone(&facts, |group, now_ms| {
        group.change_header(HeaderChange {
            keyring: Some(Box::new(|keyring, _| {
                keyring.drop_old_integrity();
                Ok(())
            })),
            ..HeaderChange::default()
        })?;
        group.run(|tx| {
            let runs = record::all(&tx.view(MountId::ROTATION))?;
            match runs.into_iter().find(|run| run.state == Progress::Settling) {
                Some(run) => next_after_settling(run, now_ms).put(tx),
                None => Ok(()),
            }
        })?;
        Ok(Reply::none())
    })?;
    Ok(())
}

/// As [`settle`], when only the entry is missing.
pub(in crate::core) fn settled(desk: &Desk, run: Run) -> Result<(), VaultError> {
    let facts = desk.by_vault(&terms::path(&run), "the old integrity set is dropped".to_owned())?;
    desk.records(&facts, move |tx, now_ms| next_after_settling(run, now_ms).put(tx).map(|()| Reply::none()))?;
    Ok(())
}

fn next_after_settling(mut run: Run, now_ms: u64) -> Run {
    run.note("old integrity set", "dropped: an old header can no longer open state or anchor");
    run.advance(if run.terms.is_empty() { Progress::Done } else { Progress::Draining }, now_ms);
    run
}
