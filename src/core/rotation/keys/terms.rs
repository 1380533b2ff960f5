//! Rotation of the data key: first a new term, then every record is re-encrypted with it, then the proof, then the old
//! key is destroyed.
//!
//! States: draining -> (deepening ->) proving -> drained -> done. Every transition is one commit together with the
//! run's entry. The remaining work is read from the records; the entry only says that it must be done. So a run that was
//! killed, even between header and entry, is found again at the next unseal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::api::reply::Reply;
use crate::barrier::{Census, Depth, Drained, HeaderChange, MountId, Resealed, Stale, TermStatus, Walk};
use crate::keys::TermState;

use super::record::{self, Kind, Progress, Proof, Run};
use super::{config, view};
use crate::core::commit::committer::GROUP_BYTES;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::{Desk, Outcome};
use crate::core::rotation::orders::TermOrder;

/// Records per commit at full speed.
const FULL_BATCH: usize = 2_048;
/// Records per commit when throttled. A write waits for at most one such commit.
const SMALL_BATCH: usize = 64;
/// Number of walks that may miss records before an operator has to act.
const MAX_PASSES: u32 = 3;
/// What the thread remembers between steps. Losing it does no harm.
#[derive(Default)]
pub(in crate::core) struct Background {
    run: Option<Run>,
    loaded: bool,
    walk: Option<Walk>,
    /// Found by the walk, but too large for the last commit.
    left: VecDeque<Stale>,
    /// From the proof to the destruction: one scan serves both.
    census: Option<Census>,
    passes: u32,
}

impl Background {
    /// Makes the next step read everything again.
    pub(in crate::core) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Executes an order.
pub(in crate::core) fn perform(
    desk: &Desk,
    background: &mut Background,
    facts: &Arc<Facts>,
    order: TermOrder,
) -> Outcome {
    background.forget();
    let result = match order {
        TermOrder::Rotate { deep, full_speed } => rotate(desk, facts, deep, full_speed),
        TermOrder::Pause(id) => change(desk, facts, id, |run, now_ms| {
            (run.paused, run.updated_ms) = (true, now_ms);
            Ok(())
        }),
        TermOrder::Resume { id, full_speed } => change(desk, facts, id, move |run, now_ms| {
            run.paused = false;
            run.full_speed = full_speed.unwrap_or(run.full_speed);
            if run.state == Progress::NeedsOperator {
                run.advance(Progress::Draining, now_ms);
            }
            Ok(())
        }),
        TermOrder::Abort(id) => change(desk, facts, id, |run, now_ms| {
            if run.kind == Kind::Compromised || run.state == Progress::Settling {
                return Err(VaultError::BadRequest(
                    "this rotation cannot be aborted: pause it, or let it finish".to_owned(),
                ));
            }
            run.advance(Progress::Aborted, now_ms);
            run.note("abort", "both terms stay in the keyring; the next rotation covers the older one too");
            Ok(())
        }),
    };
    Outcome { result, audited: true }
}

/// Changes an open run of this kind.
fn change(
    desk: &Desk,
    facts: &Arc<Facts>,
    id: String,
    edit: impl FnOnce(&mut Run, u64) -> Result<(), VaultError> + Send + 'static,
) -> Result<Reply, VaultError> {
    desk.records(facts, move |tx, now_ms| {
        let mut run = record::one(&tx.view(MountId::ROTATION), &id)?;
        if run.state.ended() {
            return Err(VaultError::BadRequest("this rotation has ended".to_owned()));
        }
        edit(&mut run, now_ms)?;
        run.put(tx)?;
        view::reply(&run)
    })
}

/// Creates a new term, and a run that covers all older terms. A running rotation continues with the new target.
fn rotate(desk: &Desk, facts: &Arc<Facts>, deep: bool, full_speed: bool) -> Result<Reply, VaultError> {
    let random = Arc::clone(&desk.random);
    let barrier = Arc::clone(&desk.barrier);
    desk.alone(facts, move |group, now_ms| {
        group.change_header(HeaderChange {
            keyring: Some(Box::new(move |keyring, random| {
                keyring.add_term(random, now_ms, false)?;
                Ok(())
            })),
            ..HeaderChange::default()
        })?;
        // These are the terms before the change: the new one is not active yet.
        let terms = barrier.terms();
        let generation = group.generation();
        group.run(|tx| {
            let mut run = match open_run(&record::all(&tx.view(MountId::ROTATION))?) {
                Some(run) => run,
                None => Run::new(&*random, Kind::DataKey, String::new(), Progress::Draining, now_ms)?,
            };
            aim(&mut run, &terms, None);
            run.full_speed |= full_speed;
            if deep {
                run.values_before = Some(generation);
            }
            run.advance(Progress::Draining, now_ms);
            run.put(tx)?;
            view::reply(&run)
        })
    })
}

/// Sets as the run's target all terms that are not destroyed, except the one that seals (`active`, or none of `terms`).
pub(in crate::core) fn aim(run: &mut Run, terms: &[TermStatus], active: Option<u32>) {
    let old = terms.iter().filter(|term| term.state != TermState::Destroyed && Some(term.term) != active);
    (run.terms, run.total) = (Vec::new(), run.done);
    for term in old {
        run.terms.push(term.term);
        run.total = run.total.saturating_add(term.live);
    }
    let names: Vec<String> = run.terms.iter().map(|term| format!("term {term}")).collect();
    run.target = names.join(", ");
}

/// The one run that this module works on.
pub(in crate::core) fn open_run(runs: &[Run]) -> Option<Run> {
    let mine = |run: &&Run| !run.state.ended() && matches!(run.kind, Kind::DataKey | Kind::Compromised | Kind::Rekey);
    runs.iter().rev().find(mine).cloned()
}

/// Performs one step in the background. Returns how long to wait before the next step, or `None` when there is nothing
/// to do.
///
/// # Errors
/// The error of the commit. The next step tries again.
pub(in crate::core) fn step(desk: &Desk, background: &mut Background) -> Result<Option<Duration>, VaultError> {
    if desk.barrier.integrity_sets() > 1 {
        background.forget();
        super::rekey::settle(desk)?;
        return Ok(Some(Duration::ZERO));
    }
    if !background.loaded {
        background.run = open_run(&record::all(&desk.barrier.view(MountId::ROTATION))?);
        background.loaded = true;
    }
    let Some(run) = background.run.clone() else {
        return adopt(desk, background);
    };
    if run.paused || run.state == Progress::NeedsOperator {
        // It remembers every change as long as it exists.
        background.census = None;
        return Ok(None);
    }
    let next = match run.state {
        Progress::Draining => reseal(desk, background, run, Depth::Records),
        Progress::Deepening => {
            let before = run.values_before.unwrap_or(0);
            reseal(desk, background, run, Depth::Values { before })
        }
        Progress::Proving => prove(desk, background, run),
        Progress::Drained => destroy(desk, background, run),
        // The integrity sets are settled, but the next entry was not written.
        Progress::Settling => {
            background.forget();
            super::rekey::settled(desk, run).map(|()| Duration::ZERO)
        }
        _ => return Ok(None),
    };
    next.map(Some).inspect_err(|_| background.forget())
}

/// Starts a run without an order: for a term whose header was written but not its entry, or when a rotation is due.
fn adopt(desk: &Desk, background: &mut Background) -> Result<Option<Duration>, VaultError> {
    let (terms, active) = (desk.barrier.terms(), desk.barrier.key_status());
    let older = |term: &&TermStatus| matches!(term.state, TermState::DecryptOnly | TermState::Compromised);
    let left = if terms.iter().any(|term| older(&term)) {
        let runs = record::all(&desk.barrier.view(MountId::ROTATION))?;
        let given_up = |term: u32| runs.iter().any(|run| run.state == Progress::Aborted && run.terms.contains(&term));
        terms.iter().filter(older).any(|term| !given_up(term.term))
    } else {
        // The usual case, checked once a second. Opens no entry.
        false
    };
    if left {
        let facts = desk.by_vault("sys/rotate", "data key: resuming an interrupted rotation".to_owned())?;
        let random = Arc::clone(&desk.random);
        background.forget();
        desk.records(&facts, move |tx, now_ms| {
            let mut run = Run::new(&*random, Kind::DataKey, String::new(), Progress::Draining, now_ms)?;
            aim(&mut run, &terms, Some(active.term));
            run.put(tx)?;
            Ok(Reply::none())
        })?;
        return Ok(Some(Duration::ZERO));
    }
    let config = config::read(&desk.barrier.view(MountId::ROTATION))?;
    let age_ms = desk.clock.now_ms().saturating_sub(active.created_ms);
    let aged = config.interval_s > 0 && age_ms >= config.interval_s.saturating_mul(1_000);
    if config.enabled && (aged || active.seals >= config.max_operations) {
        let why = if aged { "its age" } else { "its use" };
        let facts = desk.by_vault("sys/rotate", format!("data key: automatic, because of {why}"))?;
        background.forget();
        rotate(desk, &facts, false, false)?;
        return Ok(Some(Duration::ZERO));
    }
    Ok(None)
}

/// Re-encrypts the next batch, or ends the walk.
fn reseal(desk: &Desk, background: &mut Background, mut run: Run, depth: Depth) -> Result<Duration, VaultError> {
    let batch = if run.full_speed { FULL_BATCH } else { SMALL_BATCH };
    let walk = background.walk.get_or_insert_with(|| Walk::new(depth, desk.mounts()));
    let mut found = std::mem::take(&mut background.left);
    if found.is_empty() {
        found = walk.next(&desk.barrier, batch)?.into();
    }
    if found.is_empty() {
        return walked(desk, background, run, depth);
    }
    let count = found.len();
    let facts = desk.by_vault(&path(&run), format!("{}: up to {count} records of {}", state_name(&run), run.target))?;
    let own = run.clone();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    desk.records(&facts, move |tx, now_ms| {
        let mut run = own;
        let mut done = 0u64;
        // Limited by number and by bytes: a thousand values may take a gibibyte.
        while let Some(stale) = found.front() {
            let Resealed { records, complete } = tx.reseal(stale, GROUP_BYTES)?;
            done = done.saturating_add(records);
            if !complete {
                break;
            }
            found.pop_front();
        }
        run.done = run.done.saturating_add(done);
        run.total = run.total.max(run.done);
        run.updated_ms = now_ms;
        run.put(tx)?;
        let _ = sender.send((done, found));
        Ok(Reply::none())
    })?;
    // The commit may have rejected some records as too large for one group. They come first next time.
    let (done, left) = receiver.try_recv().unwrap_or_default();
    run.done = run.done.saturating_add(done);
    run.total = run.total.max(run.done);
    let full_speed = run.full_speed;
    background.run = Some(run);
    let passed = u64::try_from(count.saturating_sub(left.len())).unwrap_or(u64::MAX).max(done);
    background.left = left;
    // Throttled by the number of records done, so that a walk over unchanged records is slowed down too.
    let pause_us = passed.saturating_mul(1_000_000) / desk.settings.rewrap_per_second.max(1);
    Ok(if full_speed { Duration::ZERO } else { Duration::from_micros(pause_us) })
}

/// Called when the walk has ended. Checks whether any record is left.
fn walked(desk: &Desk, background: &mut Background, mut run: Run, depth: Depth) -> Result<Duration, VaultError> {
    background.walk = None;
    let left: u64 = live(desk, &run);
    let state = match depth {
        Depth::Records if left > 0 => {
            background.passes += 1;
            if background.passes < MAX_PASSES {
                return Ok(Duration::from_millis(50));
            }
            run.advance(Progress::NeedsOperator, desk.clock.now_ms());
            run.error =
                Some(format!("{left} records belong to no existing mount: check the store, then resume the rotation"));
            return write(desk, background, run);
        }
        Depth::Records if run.values_before.is_some() => Progress::Deepening,
        _ => Progress::Proving,
    };
    run.advance(state, desk.clock.now_ms());
    write(desk, background, run)
}

fn live(desk: &Desk, run: &Run) -> u64 {
    desk.barrier.terms().iter().filter(|term| run.terms.contains(&term.term)).map(|term| term.live).sum()
}

/// Opens every record in several steps, then scans the whole store once. Writers continue meanwhile. The commit only has
/// to compare the few records that have changed since.
fn prove(desk: &Desk, background: &mut Background, run: Run) -> Result<Duration, VaultError> {
    let walk = background.walk.get_or_insert_with(|| Walk::new(Depth::Check, desk.mounts()));
    if walk.advance(&desk.barrier)? {
        return Ok(Duration::ZERO);
    }
    let opened = walk.seen();
    background.walk = None;
    let facts = desk.by_vault(&path(&run), format!("proving that no record uses {}", run.target))?;
    let mut census = desk.barrier.census()?;
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    desk.alone(&facts, move |group, now_ms| {
        let mut run = run;
        run.proofs.clear();
        for Drained { term, generation, records } in group.prove_drained(&mut census, &run.terms)? {
            run.proofs.push(Proof { term, generation, records, opened });
        }
        run.advance(Progress::Drained, now_ms);
        group.run(|tx| run.put(tx))?;
        let _ = sender.send(census);
        Ok(Reply::none())
    })?;
    background.forget();
    background.census = receiver.try_recv().ok();
    Ok(Duration::ZERO)
}

/// Writes the proof to the audit log with a signed checkpoint, then destroys the old keys.
fn destroy(desk: &Desk, background: &mut Background, run: Run) -> Result<Duration, VaultError> {
    for Proof { term, generation, records, opened } in &run.proofs {
        let text =
            format!("proof: term {term} drained at generation {generation}, {records} compared, {opened} opened");
        let facts = desk.by_vault(&path(&run), text)?;
        let run = run.clone();
        desk.records(&facts, move |tx, _| run.put(tx).map(|()| Reply::none()))?;
    }
    desk.checkpoint()?;
    let facts = desk.by_vault(&path(&run), format!("destroying {}", run.target))?;
    // The proof must come from this process. Nothing may depend on what an earlier process saw.
    let mut census = match background.census.take() {
        Some(census) => census,
        None => desk.barrier.census()?,
    };
    census.catch_up(&desk.barrier)?;
    desk.alone(&facts, move |group, now_ms| {
        let mut run = run;
        let terms = run.terms.clone();
        // Checked again, at the generation of the destruction itself.
        group.prove_drained(&mut census, &terms)?;
        group.change_header(HeaderChange {
            keyring: Some(Box::new(move |keyring, _| {
                for term in &terms {
                    keyring.destroy_term(*term);
                }
                Ok(())
            })),
            ..HeaderChange::default()
        })?;
        run.note("destroy", format!("the keys of {} are gone from header and memory", run.target));
        run.advance(Progress::Done, now_ms);
        group.run(|tx| run.put(tx))?;
        Ok(Reply::none())
    })?;
    background.forget();
    Ok(Duration::ZERO)
}

/// Writes a transition of the run.
fn write(desk: &Desk, background: &mut Background, run: Run) -> Result<Duration, VaultError> {
    let facts = desk.by_vault(&path(&run), format!("{} is {}", run.target, state_name(&run)))?;
    let entry = run.clone();
    desk.records(&facts, move |tx, _| entry.put(tx).map(|()| Reply::none()))?;
    background.run = Some(run);
    Ok(Duration::ZERO)
}

/// API path that shows a run.
pub(in crate::core) fn path(run: &Run) -> String {
    format!("sys/strongroom/rotations/{}", run.id)
}

fn state_name(run: &Run) -> String {
    serde_json::to_string(&run.state).unwrap_or_default().trim_matches('"').to_owned()
}
