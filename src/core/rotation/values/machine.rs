//! Decides the next step of one value, and what the result of a step means. Decides and commits, but never contacts a
//! target itself.

use std::sync::Arc;

use crate::api::reply::Reply;
use crate::api::secret::SecretText;
use crate::barrier::{BarrierError, MountId, Tx};
use crate::connect::{ConnectError, Connector, Credential, Live};
use crate::rotate::generate::{Generated, Generator};
use crate::rotate::labels::Labels;

use super::effect::{Answer, Effect, Ended, Kind};
use super::fields::{credential, field, place, write};
use super::record::{self, Candidate, Phase, ValueRow};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::Desk;
use crate::core::state::authorities;
use crate::core::state::snapshot::{Snapshot, Touch};

/// Attempts of one step before an operator has to act.
const MAX_ATTEMPTS: u32 = 12;
/// New values that a target may reject before an operator has to act.
const MAX_CANDIDATES: u32 = 3;
/// First and longest pause between attempts, in milliseconds.
const FIRST_PAUSE_MS: u64 = 1_000;
const MAX_PAUSE_MS: u64 = 10 * 60 * 1_000;
/// After a rotation was rolled back, the schedule waits at least this long, in milliseconds.
const AFTER_FAILURE_MS: u64 = 60 * 60 * 1_000;

/// What to do next with a value.
pub(super) enum Next {
    /// Nothing before this time. `u64::MAX` means until something happens.
    Wait(u64),
    /// Run a step at the target.
    Effect(Box<Effect>),
    /// The entry was changed. Check it again.
    Again,
}

/// Takes the next step of a value if it needs no target. Otherwise prepares the step.
pub(super) fn next(desk: &Desk, row: ValueRow, now_ms: u64) -> Result<Next, VaultError> {
    if row.paused {
        return Ok(Next::Wait(u64::MAX));
        // A pause longer than any allowed one was set before the clock was set back.
    }
    if row.not_before_ms > now_ms && row.not_before_ms - now_ms <= MAX_PAUSE_MS.max(AFTER_FAILURE_MS) {
        return Ok(Next::Wait(row.not_before_ms));
    }
    match row.phase {
        Phase::Idle | Phase::Promoted => {
            let grace_until = row.previous().map(|previous| previous.grace_until_ms);
            if row.phase == Phase::Promoted && grace_until.is_none_or(|until| until <= now_ms) {
                return match row.policy.target {
                    Some(_) => effect(desk, row, Kind::RevokeOld),
                    None => retire(desk, row, None).map(again),
                };
            }
            // The previous value is deliberately still valid, and a new rotation would end that early.
            let in_grace = row.phase == Phase::Promoted && row.policy.target.is_some();
            let window = row.policy.schedule.as_ref().and_then(|schedule| schedule.window);
            match row.next_ms {
                Some(next_ms) if next_ms <= now_ms && in_grace => Ok(Next::Wait(grace_until.unwrap_or(now_ms))),
                // The start was missed because of a stop or a failure, and the window is closed now.
                Some(next_ms) if next_ms <= now_ms && window.is_some_and(|window| !window.is_open(now_ms)) => {
                    Ok(Next::Wait(now_ms.saturating_add(60_000)))
                }
                Some(next_ms) if next_ms <= now_ms => {
                    let facts = facts(desk, &row, "is due")?;
                    match start(desk, &facts, &row, now_ms) {
                        // Nobody asked, so nobody sees the answer.
                        Err(VaultError::BadRequest(text)) => stuck(desk, row, text),
                        other => other.map(again),
                    }
                }
                due => Ok(Next::Wait(due.into_iter().chain(grace_until).min().unwrap_or(u64::MAX))),
            }
        }
        // After a kill in this state, a value that was printed but not stored is dropped on purpose. Another one is
        // generated.
        Phase::Generating => effect(desk, row, Kind::Generate),
        Phase::Staged => {
            // The intent is durable before the target gets the candidate.
            let row = advance(desk, row, |row, _| row.phase = Phase::Applying)?;
            effect(desk, row, Kind::Apply)
        }
        // After a kill in this state it is unknown whether the target has the candidate.
        Phase::Applying => effect(desk, row, Kind::Probe),
        Phase::Applied => effect(desk, row, Kind::Verify),
        Phase::Verified => promote(desk, row),
        Phase::RollingBack => effect(desk, row, Kind::Revert),
        Phase::NeedsOperator => Ok(Next::Wait(u64::MAX)),
    }
}

/// Reads the entry again after a commit, because the entry is authoritative and this copy is not.
fn again(_: ValueRow) -> Next {
    Next::Again
}

/// Handles the end of a step.
pub(super) fn ended(desk: &Desk, row: ValueRow, ended: Ended) -> Result<Next, VaultError> {
    if row.run != ended.id {
        return Ok(again(row));
    }
    match (row.phase, ended.kind, ended.result) {
        (Phase::Generating, Kind::Generate, Ok(Answer::Value(value))) => stage(desk, row, value),
        // Aborted in the meantime, so its output or error no longer matters.
        (phase, Kind::Generate, _) if phase != Phase::Generating => Ok(again(row)),
        (Phase::Applying, Kind::Apply, Ok(_)) => advance(desk, row, |row, _| row.phase = Phase::Applied).map(again),
        // Whatever the target answered, only a probe shows which value works.
        (Phase::Applying, Kind::Apply, Err(error)) => {
            let refused = matches!(error, ConnectError::Permanent(_));
            let row = advance(desk, row, move |row, now_ms| {
                row.refused = refused;
                failed(row, now_ms, &error);
            })?;
            if refused { effect(desk, row, Kind::Probe) } else { Ok(again(row)) }
        }
        (Phase::Applying, Kind::Probe, Ok(Answer::Live(live))) => probed(desk, row, live),
        (Phase::Applied, Kind::Verify, Ok(_)) => advance(desk, row, |row, _| row.phase = Phase::Verified).map(again),
        (Phase::Applied, Kind::Verify, Err(ConnectError::Permanent(text))) => advance(desk, row, move |row, _| {
            row.phase = Phase::RollingBack;
            row.error = Some(format!("the target rejected the new value in a test: {text}"));
        })
        .map(again),
        (Phase::RollingBack, Kind::Revert, Ok(_)) => advance(desk, row, |row, now_ms| {
            idle(row);
            row.next_ms = row.next_ms.map(|_| now_ms.saturating_add(AFTER_FAILURE_MS));
        })
        .map(again),
        (Phase::Promoted, Kind::RevokeOld, Ok(Answer::Revoked(note))) => retire(desk, row, note).map(again),
        (_, Kind::Generate | Kind::Probe | Kind::Revert | Kind::RevokeOld, Err(ConnectError::Permanent(text))) => {
            stuck(desk, row, text)
        }
        (_, _, Err(error)) => advance(desk, row, move |row, now_ms| failed(row, now_ms, &error)).map(again),
        // The step no longer belongs to the phase, because the rotation was aborted in the meantime.
        (_, _, Ok(_)) => Ok(again(row)),
    }
}

/// Handles the result of a probe: which value works at the target.
fn probed(desk: &Desk, row: ValueRow, live: Live) -> Result<Next, VaultError> {
    match live {
        Live::Staged => advance(desk, row, |row, _| row.phase = Phase::Applied).map(again),
        Live::Current if row.refused && row.candidates >= MAX_CANDIDATES => {
            let advice = "the target rejects every new value, and the current one still works: compare its password rules with the generator, then resume or abort";
            advance(desk, row, move |row, _| {
                row.phase = Phase::NeedsOperator;
                row.error = Some(format!("{advice} ({})", row.error.take().unwrap_or_default()));
            })
            .map(again)
        }
        Live::Current if row.refused && row.policy.generator.is_command() => advance(desk, row, |row, _| {
            (row.candidate, row.candidates) = (None, row.candidates.saturating_add(1));
            (row.refused, row.attempts, row.phase) = (false, 0, Phase::Generating);
        })
        .map(again),
        Live::Current if row.refused => {
            let fresh = candidate(desk, &row)?;
            advance(desk, row, move |row, _| {
                (row.candidate, row.candidates) = (Some(fresh), row.candidates.saturating_add(1));
                (row.refused, row.attempts, row.phase) = (false, 0, Phase::Staged);
            })
            .map(again)
        }
        // The database was set back, or no value works there. The candidate repairs both.
        Live::Previous | Live::Nothing if row.refused => advance(desk, row, move |row, _| {
            row.phase = Phase::NeedsOperator;
            row.error = Some(format!(
                "the current value does not work at the target, and it rejects the new one: {}; set the value there by hand, then resume",
                row.error.take().unwrap_or_default()
            ));
        })
        .map(again),
        Live::Current | Live::Previous | Live::Nothing => effect(desk, row, Kind::Apply),
    }
}

/// Counts a failure of a step and delays the next attempt.
fn failed(row: &mut ValueRow, now_ms: u64, error: &ConnectError) {
    row.attempts = row.attempts.saturating_add(1);
    row.error = Some(error.to_string());
    if row.attempts >= MAX_ATTEMPTS {
        row.phase = Phase::NeedsOperator;
        return;
    }
    let pause_ms = FIRST_PAUSE_MS.saturating_mul(1 << row.attempts.min(16).saturating_sub(1)).min(MAX_PAUSE_MS);
    row.not_before_ms = if row.refused { 0 } else { now_ms.saturating_add(pause_ms) };
}

fn idle(row: &mut ValueRow) {
    (row.phase, row.candidate, row.refused) = (Phase::Idle, None, false);
    (row.attempts, row.candidates, row.not_before_ms) = (0, 0, 0);
}

/// Starts a rotation. Without a target it also completes it in the same commit.
///
/// # Errors
/// [`VaultError::BadRequest`] while a rotation is running; the error of the commit. Nothing has changed then.
pub(super) fn start(desk: &Desk, facts: &Arc<Facts>, row: &ValueRow, now_ms: u64) -> Result<ValueRow, VaultError> {
    if !matches!(row.phase, Phase::Idle | Phase::Promoted) {
        return Err(VaultError::BadRequest(format!(
            "a rotation of this value is under way ({}): wait for it, or abort it",
            row.phase.as_str()
        )));
    }
    let run = crate::core::rotation::keys::record::fresh_id(&*desk.random, now_ms)?;
    if row.policy.generator.is_command() {
        // An external program: the intent is durable before it runs.
        let generate = move |row: &mut ValueRow, _| {
            idle(row);
            (row.run, row.candidates) = (run, 1);
            (row.phase, row.error) = (Phase::Generating, None);
        };
        return commit(desk, facts, row, generate, |_, _, _, _| Ok(()));
    }
    let candidate = candidate(desk, row)?;
    let stage = move |row: &mut ValueRow, _| {
        idle(row);
        (row.run, row.candidate, row.candidates) = (run, Some(candidate), 1);
        (row.phase, row.error) = (Phase::Staged, None);
    };
    if row.policy.target.is_some() {
        return commit(desk, facts, row, stage, |_, _, _, _| Ok(()));
    }
    commit(desk, facts, row, stage, make_current)
}

/// Stores the value that a command printed: as the candidate for the target, or without a target directly as the
/// current value.
fn stage(desk: &Desk, row: ValueRow, value: SecretText) -> Result<Next, VaultError> {
    let user = match login(desk, &row) {
        Ok(user) => user,
        Err(VaultError::BadRequest(text)) => return stuck(desk, row, text),
        Err(error) => return Err(error),
    };
    let fresh = move |row: &mut ValueRow, _| {
        row.candidate = Some(Candidate { user, value, public: None });
        (row.phase, row.attempts, row.error) = (Phase::Staged, 0, None);
    };
    if row.policy.target.is_some() {
        return advance(desk, row, fresh).map(again);
    }
    let facts = facts(desk, &row, "generating -> promoted")?;
    match commit(desk, &facts, &row, fresh, make_current) {
        Err(VaultError::BadRequest(text)) => stuck(desk, row, format!("the new value cannot be written: {text}")),
        other => other.map(again),
    }
}

/// Makes the candidate current.
fn promote(desk: &Desk, row: ValueRow) -> Result<Next, VaultError> {
    let facts = facts(desk, &row, "verified -> promoted")?;
    match commit(desk, &facts, &row, |_, _| (), make_current) {
        // The secret was deleted or is no longer an object. Only an operator can decide what to do.
        Err(VaultError::BadRequest(text)) => {
            stuck(desk, row, format!("the new value works at the target, but it cannot be written: {text}"))
        }
        other => other.map(again),
    }
}

/// Stops for an operator. `text` says why.
fn stuck(desk: &Desk, row: ValueRow, text: String) -> Result<Next, VaultError> {
    let change = move |row: &mut ValueRow, _| (row.phase, row.error) = (Phase::NeedsOperator, Some(text));
    advance(desk, row, change).map(again)
}

/// Writes the candidate as a new version of the secret and moves the labels, in the group of `tx`.
fn make_current(tx: &mut Tx<'_>, snapshot: &Snapshot, row: &mut ValueRow, now_ms: u64) -> Result<(), VaultError> {
    let (mount, relative) = place(snapshot, &row.path)?;
    let candidate = row.candidate.take().ok_or(VaultError::Internal)?;
    let mut fields = vec![(row.key.clone(), candidate.value)];
    if let Some(user_key) = row.policy.user_key.clone().filter(|_| !candidate.user.is_empty()) {
        fields.push((user_key, SecretText::new(candidate.user)));
    }
    if let Some(public) = candidate.public {
        fields.push((row.public_key(), SecretText::new(public)));
    }
    let known = row.labels.take();
    let (before, version) = write(tx, &mount, &relative, &fields, now_ms)?;
    // Removed for good after a rotation. A schedule must not bring it back, with this key alone.
    if before == 0 && known.is_some() {
        return Err(VaultError::BadRequest(
            "the secret was removed: write it again, then resume the rotation; or end it: strongroom rotation forget"
                .to_owned(),
        ));
    }
    let grace_until_ms = now_ms.saturating_add(row.policy.grace.0.saturating_mul(1_000));
    // Readers had the version that was current, no matter who wrote it.
    let mut labels = match known {
        // Otherwise they are of a secret that was removed: a new one counts from 1 again.
        Some(mut labels) if labels.newest() < version => {
            labels.follow(before);
            Some(labels)
        }
        _ => Labels::new(before).ok(),
    };
    match &mut labels {
        Some(labels) => drop(labels.promote(version, grace_until_ms).map_err(|_| VaultError::Internal)?),
        None => labels = Labels::new(version).ok(),
    }
    row.labels = labels;
    idle(row);
    (row.phase, row.rotated_ms, row.error) = (Phase::Promoted, now_ms, None);
    row.next_ms = ValueRow::due_after(&row.policy, &row.path, &row.key, now_ms);
    row.reminded.clear();
    Ok(())
}

/// Ends the grace period of the previous value. `note` says what its target left valid.
fn retire(desk: &Desk, row: ValueRow, note: Option<String>) -> Result<ValueRow, VaultError> {
    advance(desk, row, move |row, now_ms| {
        row.error = note;
        if let Some(labels) = &mut row.labels {
            labels.expire(now_ms);
        }
        (row.phase, row.attempts, row.not_before_ms) = (Phase::Idle, 0, 0);
    })
}

/// Rolls back, whatever the state of the rotation.
///
/// # Errors
/// [`VaultError::BadRequest`] when there is nothing to roll back.
pub(super) fn abort(desk: &Desk, facts: &Arc<Facts>, row: ValueRow) -> Result<ValueRow, VaultError> {
    match row.phase {
        Phase::Idle | Phase::Promoted => Err(VaultError::BadRequest(
            "no rotation is under way: to go back to the previous version, write its value again".to_owned(),
        )),
        _ if row.phase == Phase::Staged || row.awaits_value() => {
            let back = |row: &mut ValueRow, now_ms: u64| {
                idle(row);
                row.next_ms = row.next_ms.map(|next_ms| next_ms.max(now_ms.saturating_add(AFTER_FAILURE_MS)));
            };
            commit(desk, facts, &row, back, |_, _, _, _| Ok(()))
        }
        _ => commit(
            desk,
            facts,
            &row,
            |row, _| {
                (row.phase, row.attempts, row.not_before_ms, row.paused) = (Phase::RollingBack, 0, 0, false);
            },
            |_, _, _, _| Ok(()),
        ),
    }
}

/// Continues after an operator has acted. The target is asked again which value works.
pub(super) fn resume(desk: &Desk, facts: &Arc<Facts>, row: ValueRow) -> Result<ValueRow, VaultError> {
    commit(
        desk,
        facts,
        &row,
        |row, _| {
            (row.paused, row.attempts, row.not_before_ms, row.refused) = (false, 0, 0, false);
            if row.phase == Phase::NeedsOperator {
                row.phase = match &row.candidate {
                    Some(_) => Phase::Applying,
                    None if row.awaits_value() => Phase::Generating,
                    None => Phase::Promoted,
                };
            }
        },
        |_, _, _, _| Ok(()),
    )
}

/// Commits one transition that the vault makes by itself.
fn advance(
    desk: &Desk,
    row: ValueRow,
    change: impl FnOnce(&mut ValueRow, u64) + Send + 'static,
) -> Result<ValueRow, VaultError> {
    let facts = facts(desk, &row, &format!("continues from {}", row.phase.as_str()))?;
    commit(desk, &facts, &row, change, |_, _, _, _| Ok(()))
}

/// Changes the entry that `row` was read from, in one commit: first its own fields, then everything else that belongs
/// to the same group.
pub(super) fn commit(
    desk: &Desk,
    facts: &Arc<Facts>,
    row: &ValueRow,
    change: impl FnOnce(&mut ValueRow, u64) + Send + 'static,
    more: impl FnOnce(&mut Tx<'_>, &Snapshot, &mut ValueRow, u64) -> Result<(), VaultError> + Send + 'static,
) -> Result<ValueRow, VaultError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let (path, key, revision) = (row.path.clone(), row.key.clone(), row.revision);
    desk.decided(facts, move |tx, snapshot, now_ms| {
        let stored = record::find(&tx.view(MountId::ROTATION), &path, &key)?;
        let mut row = match stored {
            Some(stored) if stored.revision == revision => stored,
            Some(_) => return Err(VaultError::Unavailable("the rotation has changed in the meantime; try again")),
            None => return Err(VaultError::NotFound),
        };
        change(&mut row, now_ms);
        more(tx, snapshot, &mut row, now_ms)?;
        row.revision = row.revision.saturating_add(1);
        row.put(tx)?;
        let written = row.rotated_ms == now_ms && row.phase == Phase::Promoted;
        let touched = written.then(|| Touch::Secret(row.path.clone())).into_iter().collect();
        let _ = sender.send(row);
        Ok(Done::touching(Reply::none(), touched))
    })?;
    receiver.try_recv().map_err(|_| VaultError::Internal)
}

/// Facts of a transition.
fn facts(desk: &Desk, row: &ValueRow, what: &str) -> Result<Arc<Facts>, VaultError> {
    desk.by_vault(&format!("sys/strongroom/values/{}", row.path), format!("value {}: {what}", row.key))
}

/// Prepares a step at the target. If that is impossible, the value enters a state that says why.
fn effect(desk: &Desk, row: ValueRow, kind: Kind) -> Result<Next, VaultError> {
    match prepared(desk, &row, kind) {
        Ok(effect) => Ok(Next::Effect(Box::new(effect))),
        Err(Prepare::Vault(error)) => Err(error),
        Err(Prepare::Target(text)) => stuck(desk, row, text),
    }
}

enum Prepare {
    Vault(VaultError),
    Target(String),
}

impl From<VaultError> for Prepare {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

fn prepared(desk: &Desk, row: &ValueRow, kind: Kind) -> Result<Effect, Prepare> {
    let name = match (&row.policy.generator, kind) {
        (Generator::Command(command), Kind::Generate) => Some(&command.target),
        _ => row.policy.target.as_ref(),
    };
    let mut connector = connector(desk, name.map(String::as_str).unwrap_or_default())?;
    let stops = connector.stop_with(&desk.stopping);
    let (id, path, key) = (row.run.clone(), row.path.clone(), row.key.clone());
    if kind == Kind::Generate {
        // This step generates a value and gets none.
        return Ok(Effect { kind, connector, stops, id, path, key, staged: None, current: None, previous: None });
    }
    let snapshot = desk.snapshot.load_full();
    let (mount, relative) = place(&snapshot, &row.path)?;
    let view = desk.barrier.view(mount.id);
    let login = |version| credential(&view, &relative, version, row);
    let current = login(None)?;
    let previous = match row.previous() {
        Some(previous) => login(Some(previous.version))?,
        None => None,
    };
    Ok(Effect { kind, connector, stops, id, path, key, staged: row.staged(), current, previous })
}

/// Opens a target.
fn connector(desk: &Desk, name: &str) -> Result<Box<dyn Connector>, Prepare> {
    let missing = || {
        Prepare::Target(format!(
            "the configuration lists no target \"{name}\": add [targets.{name}] and restart the daemon, then resume"
        ))
    };
    let target = desk.settings.targets.get(name).ok_or_else(missing)?;
    let admin = match target.admin() {
        None => None,
        Some(admin) => {
            let snapshot = desk.snapshot.load_full();
            let (mount, relative) = place(&snapshot, &admin.path)?;
            let view = desk.barrier.view(mount.id);
            let read = |key: &str| field(&view, &relative, None, key);
            match (read(&admin.user_key)?, read(&admin.password_key)?) {
                (Some(user), Some(secret)) => Some(Credential { user: user.reveal().to_owned(), secret }),
                _ => None,
            }
        }
    };
    target.open(admin).map_err(|error| Prepare::Target(error.to_string()))
}

/// A new value according to the policy, with its login.
fn candidate(desk: &Desk, row: &ValueRow) -> Result<Candidate, VaultError> {
    let Generated { value, public, .. } = generated(desk, row)?;
    Ok(Candidate { user: login(desk, row)?, value, public })
}

/// The login for the next value; empty if there is none.
fn login(desk: &Desk, row: &ValueRow) -> Result<String, VaultError> {
    let Some(name) = &row.policy.target else { return Ok(String::new()) };
    let connector = connector(desk, name).map_err(|error| match error {
        Prepare::Vault(error) => error,
        Prepare::Target(text) => VaultError::BadRequest(text),
    })?;
    let snapshot = desk.snapshot.load_full();
    let (mount, relative) = place(&snapshot, &row.path)?;
    let current = credential(&desk.barrier.view(mount.id), &relative, None, row)?;
    let current = current.map(|current| current.user).filter(|user| !user.is_empty());
    connector.next_user(current.as_deref()).map_err(|error| VaultError::BadRequest(error.to_string()))
}

fn generated(desk: &Desk, row: &ValueRow) -> Result<Generated, VaultError> {
    if let Generator::Certificate(wanted) = &row.policy.generator {
        let authority = authorities::signing(&desk.barrier.view(MountId::CA), &desk.snapshot.load().authorities)?;
        let now_ms = desk.clock.now_ms();
        let bundle = authority
            .issue_server(&wanted.sans, now_ms, wanted.ttl.0)
            .map_err(|error| VaultError::BadRequest(format!("the certificate could not be created: {error}")))?;
        let (value, public) = (bundle.key_pem, format!("{}{}", bundle.cert_pem, authority.cert_pem()));
        return Ok(Generated { value, public: Some(public) });
    }
    row.policy.generator.generate(&*desk.random).map_err(|error| VaultError::BadRequest(error.to_string()))
}

impl From<BarrierError> for Prepare {
    fn from(error: BarrierError) -> Self {
        Self::Vault(error.into())
    }
}
