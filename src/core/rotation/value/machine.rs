//! What comes next for one value, and what a step's end means. Decides and commits; never talks to a target itself.

use std::sync::Arc;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::api::json::{Limits, Object};
use crate::api::path::Path;
use crate::api::secret::SecretText;
use crate::barrier::{BarrierError, MountId, Tx, View};
use crate::connect::{ConnectError, Credential, Live};
use crate::engine::{self, Operation, ReplyStatus};
use crate::rotate::generate::{Generated, Generator};
use crate::rotate::labels::Labels;

use super::super::super::authorities;
use super::super::super::committer::Done;
use super::super::super::error::VaultError;
use super::super::super::facts::Facts;
use super::super::super::mount::Mount;
use super::super::super::request::Reply;
use super::super::super::snapshot::{Snapshot, Touch};
use super::super::keeper::Desk;
use super::effect::{Answer, Effect, Ended, Kind};
use super::record::{self, Candidate, Phase, ValueRow};

/// Tries of one step before somebody has to look.
const MAX_ATTEMPTS: u32 = 12;
/// Candidates that a target may refuse before somebody has to look.
const MAX_CANDIDATES: u32 = 3;
/// First and longest pause between tries.
const FIRST_PAUSE_MS: u64 = 1_000;
const MAX_PAUSE_MS: u64 = 10 * 60 * 1_000;
/// After a rotation that was rolled back, the schedule waits at least this long.
const AFTER_FAILURE_MS: u64 = 60 * 60 * 1_000;

/// What to do next with a value.
pub(super) enum Next {
    /// Nothing before this time; `u64::MAX` for "until something happens".
    Wait(u64),
    /// Talk to the target.
    Effect(Box<Effect>),
    /// The entry was changed: look again.
    Again,
}

/// Looks at a value and takes the next step that needs no target; for others, prepares it.
pub(super) fn next(desk: &Desk, row: ValueRow, now_ms: u64) -> Result<Next, VaultError> {
    if row.paused {
        return Ok(Next::Wait(u64::MAX));
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
                    None => retire(desk, row).map(again),
                };
            }
            // A target's value before is still valid on purpose: starting would take it away.
            let in_grace = row.phase == Phase::Promoted && row.policy.target.is_some();
            let window = row.policy.schedule.as_ref().and_then(|schedule| schedule.window);
            match row.next_ms {
                Some(next_ms) if next_ms <= now_ms && in_grace => Ok(Next::Wait(grace_until.unwrap_or(now_ms))),
                // Missed, by a stop or a failure, and now outside the hours that were given.
                Some(next_ms) if next_ms <= now_ms && window.is_some_and(|window| !window.is_open(now_ms)) => {
                    Ok(Next::Wait(now_ms.saturating_add(60_000)))
                }
                Some(next_ms) if next_ms <= now_ms => {
                    let facts = facts(desk, &row, "is due")?;
                    start(desk, &facts, row, now_ms).map(again)
                }
                due => Ok(Next::Wait(due.into_iter().chain(grace_until).min().unwrap_or(u64::MAX))),
            }
        }
        Phase::Staged => {
            // The intent is durable before the target hears of the candidate.
            let row = advance(desk, row, |row, _| row.phase = Phase::Applying)?;
            effect(desk, row, Kind::Apply)
        }
        // Found like this, nobody knows whether the candidate arrived.
        Phase::Applying => effect(desk, row, Kind::Probe),
        Phase::Applied => effect(desk, row, Kind::Verify),
        Phase::Verified => promote(desk, row).map(again),
        Phase::RollingBack => effect(desk, row, Kind::Revert),
        Phase::NeedsOperator => Ok(Next::Wait(u64::MAX)),
    }
}

/// What was committed is read again: the entry is the truth, not this copy of it.
fn again(_: ValueRow) -> Next {
    Next::Again
}

/// What the end of a step means.
pub(super) fn ended(desk: &Desk, row: ValueRow, ended: Ended) -> Result<Next, VaultError> {
    if row.run != ended.id {
        return Ok(again(row));
    }
    match (row.phase, ended.kind, ended.result) {
        (Phase::Applying, Kind::Apply, Ok(_)) => advance(desk, row, |row, _| row.phase = Phase::Applied).map(again),
        // Whatever the target said, only a probe tells what is true there.
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
            row.error = Some(format!("the new value was refused when it was tried: {text}"));
        })
        .map(again),
        (Phase::RollingBack, Kind::Revert, Ok(_)) => advance(desk, row, |row, now_ms| {
            idle(row);
            row.next_ms = row.next_ms.map(|_| now_ms.saturating_add(AFTER_FAILURE_MS));
        })
        .map(again),
        (Phase::Promoted, Kind::RevokeOld, Ok(_)) => retire(desk, row).map(again),
        (_, Kind::Probe | Kind::Revert | Kind::RevokeOld, Err(ConnectError::Permanent(text))) => {
            advance(desk, row, move |row, _| {
                row.phase = Phase::NeedsOperator;
                row.error = Some(text);
            })
            .map(again)
        }
        (_, _, Err(error)) => advance(desk, row, move |row, now_ms| failed(row, now_ms, &error)).map(again),
        // A step that does not belong to the phase any more (it was aborted meanwhile).
        (_, _, Ok(_)) => Ok(again(row)),
    }
}

/// The target was asked which value works.
fn probed(desk: &Desk, row: ValueRow, live: Live) -> Result<Next, VaultError> {
    match live {
        Live::Staged => advance(desk, row, |row, _| row.phase = Phase::Applied).map(again),
        Live::Current if row.refused && row.candidates >= MAX_CANDIDATES => {
            let advice = "the target refuses every new value, the current one works: compare its password rules with the generator, then resume or abort";
            advance(desk, row, move |row, _| {
                row.phase = Phase::NeedsOperator;
                row.error = Some(format!("{advice} ({})", row.error.take().unwrap_or_default()));
            })
            .map(again)
        }
        Live::Current if row.refused => {
            let fresh = candidate(desk, &row)?;
            advance(desk, row, move |row, _| {
                (row.candidate, row.candidates) = (Some(fresh), row.candidates.saturating_add(1));
                (row.refused, row.attempts, row.phase) = (false, 0, Phase::Staged);
            })
            .map(again)
        }
        // The database is older than it was, or nothing works there: the candidate mends either.
        Live::Previous | Live::Nothing if row.refused => advance(desk, row, move |row, _| {
            row.phase = Phase::NeedsOperator;
            row.error = Some(format!(
                "the current value does not work at the target and it refuses the new one: {}; set the value there by hand, then resume",
                row.error.take().unwrap_or_default()
            ));
        })
        .map(again),
        Live::Current | Live::Previous | Live::Nothing => effect(desk, row, Kind::Apply),
    }
}

/// Counts a failure of a step and puts the next try off.
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

/// Begins a rotation. Without a target it is also its end: one commit.
///
/// # Errors
/// [`VaultError::BadRequest`] while one is under way; those of the commit. Nothing has changed then.
pub(super) fn start(desk: &Desk, facts: &Arc<Facts>, row: ValueRow, now_ms: u64) -> Result<ValueRow, VaultError> {
    if !matches!(row.phase, Phase::Idle | Phase::Promoted) {
        return Err(VaultError::BadRequest(format!(
            "a rotation of this value is under way ({}): wait for it, or abort it",
            row.phase.as_str()
        )));
    }
    let mut id = [0; 8];
    desk.random.fill(&mut id).map_err(|_| VaultError::Internal)?;
    let run = format!("{now_ms:013}-{}", super::super::super::mount::hex(&id));
    let candidate = candidate(desk, &row)?;
    let stage = move |row: &mut ValueRow, _| {
        idle(row);
        (row.run, row.candidate, row.candidates) = (run, Some(candidate), 1);
        (row.phase, row.error) = (Phase::Staged, None);
    };
    if row.policy.target.is_some() {
        return commit(desk, facts, &row, stage, |_, _, _, _| Ok(()));
    }
    commit(desk, facts, &row, stage, make_current)
}

/// Makes the candidate current.
fn promote(desk: &Desk, row: ValueRow) -> Result<ValueRow, VaultError> {
    let facts = facts(desk, &row, "verified -> promoted")?;
    match commit(desk, &facts, &row, |_, _| (), make_current) {
        // The secret was deleted, or is no object any more: only somebody can tell what is meant.
        Err(VaultError::BadRequest(text)) => advance(desk, row, move |row, _| {
            row.phase = Phase::NeedsOperator;
            row.error = Some(format!("the new value works at the target and cannot be written: {text}"));
        }),
        other => other,
    }
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
    let (before, version) = write(tx, &mount, &relative, &fields, now_ms)?;
    let grace_until_ms = now_ms.saturating_add(row.policy.grace.0.saturating_mul(1_000));
    // What readers had is the version that was current, whoever wrote it.
    let mut labels = match row.labels.take() {
        Some(mut labels) => {
            labels.follow(before);
            Some(labels)
        }
        None => Labels::new(before).ok(),
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

/// Ends the grace of the value before.
fn retire(desk: &Desk, row: ValueRow) -> Result<ValueRow, VaultError> {
    advance(desk, row, |row, now_ms| {
        if let Some(labels) = &mut row.labels {
            labels.expire(now_ms);
        }
        (row.phase, row.attempts, row.not_before_ms) = (Phase::Idle, 0, 0);
    })
}

/// Goes back, from wherever a rotation is.
///
/// # Errors
/// [`VaultError::BadRequest`] when there is nothing to go back from.
pub(super) fn abort(desk: &Desk, facts: &Arc<Facts>, row: ValueRow) -> Result<ValueRow, VaultError> {
    match row.phase {
        Phase::Idle | Phase::Promoted => Err(VaultError::BadRequest(
            "no rotation is under way: to go back to the version before, write its value again".to_owned(),
        )),
        Phase::Staged => commit(desk, facts, &row, |row, _| idle(row), |_, _, _, _| Ok(())),
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

/// Goes on after somebody has looked: the target is asked again what works.
pub(super) fn resume(desk: &Desk, facts: &Arc<Facts>, row: ValueRow) -> Result<ValueRow, VaultError> {
    commit(
        desk,
        facts,
        &row,
        |row, _| {
            (row.paused, row.attempts, row.not_before_ms, row.refused) = (false, 0, 0, false);
            if row.phase == Phase::NeedsOperator {
                row.phase = if row.candidate.is_some() { Phase::Applying } else { Phase::Promoted };
            }
        },
        |_, _, _, _| Ok(()),
    )
}

/// One transition that the vault makes by itself.
fn advance(
    desk: &Desk,
    row: ValueRow,
    change: impl FnOnce(&mut ValueRow, u64) + Send + 'static,
) -> Result<ValueRow, VaultError> {
    let facts = facts(desk, &row, &format!("goes on from {}", row.phase.as_str()))?;
    commit(desk, &facts, &row, change, |_, _, _, _| Ok(()))
}

/// Changes the entry that `row` was read from, in one commit: first its own fields, then what else belongs to the same
/// group.
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
            Some(_) => return Err(VaultError::Unavailable("the rotation went on meanwhile, look again")),
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
    desk.own(&format!("sys/strongroom/values/{}", row.path), format!("value {}: {what}", row.key))
}

/// Prepares a step at the target; what makes it impossible ends in a named state.
fn effect(desk: &Desk, row: ValueRow, kind: Kind) -> Result<Next, VaultError> {
    match prepared(desk, &row, kind) {
        Ok(effect) => Ok(Next::Effect(Box::new(effect))),
        Err(Prepare::Vault(error)) => Err(error),
        Err(Prepare::Target(text)) => advance(desk, row, move |row, _| {
            row.phase = Phase::NeedsOperator;
            row.error = Some(text);
        })
        .map(again),
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
    let connector = connector(desk, row)?;
    let snapshot = desk.snapshot.load_full();
    let (mount, relative) = place(&snapshot, &row.path)?;
    let view = desk.barrier.view(mount.id);
    let login = |version| credential(&view, &relative, version, row);
    let current = login(None)?;
    let previous = match row.previous() {
        Some(previous) => login(Some(previous.version))?,
        None => None,
    };
    Ok(Effect {
        kind,
        connector,
        id: row.run.clone(),
        path: row.path.clone(),
        key: row.key.clone(),
        staged: row.staged(),
        current,
        previous,
    })
}

/// Opens the target of a value.
fn connector(desk: &Desk, row: &ValueRow) -> Result<Box<dyn crate::connect::Connector>, Prepare> {
    let name = row.policy.target.as_deref().unwrap_or_default();
    let missing = || {
        Prepare::Target(format!(
            "the configuration lists no target \"{name}\": add [targets.{name}] and restart the daemon, then resume"
        ))
    };
    let target = desk.settings.targets.get(name).ok_or_else(missing)?;
    let admin = match target.admin() {
        None => None,
        Some(place) => {
            let snapshot = desk.snapshot.load_full();
            let (mount, relative) = self::place(&snapshot, &place.path)?;
            let view = desk.barrier.view(mount.id);
            let read = |key: &str| field(&view, &relative, None, key);
            match (read(&place.user_key)?, read(&place.password_key)?) {
                (Some(user), Some(secret)) => Some(Credential { user: user.reveal().to_owned(), secret }),
                _ => None,
            }
        }
    };
    target.open(admin).map_err(|error| Prepare::Target(error.to_string()))
}

/// Login and value of one version; the current one without a number.
fn credential(
    view: &View<'_>,
    relative: &Path,
    version: Option<u64>,
    row: &ValueRow,
) -> Result<Option<Credential>, VaultError> {
    let user = match &row.policy.user_key {
        Some(key) => field(view, relative, version, key)?.map(|text| text.reveal().to_owned()).unwrap_or_default(),
        None => String::new(),
    };
    Ok(field(view, relative, version, &row.key)?.map(|secret| Credential { user, secret }))
}

/// One key of one version of a secret; `None` when it is not there or no text.
fn field(view: &View<'_>, relative: &Path, version: Option<u64>, key: &str) -> Result<Option<SecretText>, VaultError> {
    let Some(node) = view.node(relative.as_str())? else { return Ok(None) };
    let Some(meta) = node.meta.as_ref() else { return Ok(None) };
    let number = version.unwrap_or(meta.current);
    if meta.versions.iter().any(|version| version.version == number && version.deleted_ms != 0) {
        return Ok(None);
    }
    let Some(value) = view.value(relative.as_str(), &node, number)? else { return Ok(None) };
    let object = Object::parse(value.reveal()).map_err(|_| VaultError::Integrity)?;
    Ok(object.get(key).and_then(|raw: &RawValue| serde_json::from_str(raw.get()).ok()))
}

/// A value that the policy asks for, and the login that it is for.
fn candidate(desk: &Desk, row: &ValueRow) -> Result<Candidate, VaultError> {
    let Generated { value, public, .. } = generated(desk, row)?;
    let user = match row.policy.target {
        None => String::new(),
        Some(_) => {
            let connector = connector(desk, row).map_err(|error| match error {
                Prepare::Vault(error) => error,
                Prepare::Target(text) => VaultError::BadRequest(text),
            })?;
            let snapshot = desk.snapshot.load_full();
            let (mount, relative) = place(&snapshot, &row.path)?;
            let current = credential(&desk.barrier.view(mount.id), &relative, None, row)?;
            let current = current.map(|current| current.user).filter(|user| !user.is_empty());
            connector.next_user(current.as_deref()).map_err(|error| VaultError::BadRequest(error.to_string()))?
        }
    };
    Ok(Candidate { user, value, public })
}

fn generated(desk: &Desk, row: &ValueRow) -> Result<Generated, VaultError> {
    if let Generator::Certificate(wanted) = &row.policy.generator {
        let authority = authorities::signing(&desk.barrier.view(MountId::CA), &desk.snapshot.load().authorities)?;
        let now_ms = desk.clock.now_ms();
        let bundle = authority
            .issue_server(&wanted.sans, now_ms, wanted.ttl.0)
            .map_err(|error| VaultError::BadRequest(format!("the certificate could not be made: {error}")))?;
        let (value, public) = (bundle.key_pem, format!("{}{}", bundle.cert_pem, authority.cert_pem()));
        return Ok(Generated { value, public: Some(public), entropy_bits: 128 });
    }
    row.policy.generator.generate(&*desk.random).map_err(|error| VaultError::BadRequest(error.to_string()))
}

/// Mount and path below it of a secret's full path.
pub(super) fn place(snapshot: &Snapshot, full: &str) -> Result<(Arc<Mount>, Path), VaultError> {
    let unknown = || VaultError::BadRequest(format!("{full} is no path of a mounted secrets engine"));
    let path = Path::parse(full).map_err(|_| unknown())?;
    let (mount, relative) = snapshot.mounts.route(&path).ok_or_else(unknown)?;
    Ok((Arc::clone(mount), relative))
}

/// Replaces some keys of a secret by a new version, made from the current one; makes the secret if there is none. Returns
/// the number of the version before, 0 if there was none, and of the new one.
fn write(
    tx: &mut Tx<'_>,
    mount: &Mount,
    relative: &Path,
    fields: &[(String, SecretText)],
    now_ms: u64,
) -> Result<(u64, u64), VaultError> {
    let node = tx.secret(mount.id, relative.as_str())?;
    let current = node.as_ref().and_then(|node| node.meta.as_ref()).map_or(0, |meta| meta.current);
    let mut body = Zeroizing::new(Vec::with_capacity(256));
    body.extend_from_slice(format!("{{\"options\":{{\"cas\":{current}}},\"data\":{{").as_bytes());
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        quote(&mut body, name)?;
        body.push(b':');
        quote(&mut body, value.reveal())?;
    }
    body.extend_from_slice(b"}}");
    let operation = if current == 0 { Operation::Write } else { Operation::Patch };
    let path = Path::parse(&format!("data/{}", relative.as_str())).map_err(|_| VaultError::Internal)?;
    let body = engine::Body::from_json(body, &Limits::default()).map_err(|_| VaultError::Internal)?;
    let reply =
        mount.engine.write(tx, mount.id, &engine::Request { operation, path, body, if_none_match: None }, now_ms)?;
    if reply.status == ReplyStatus::NotFoundWithBody {
        return Err(VaultError::BadRequest(
            "the current version is deleted: undelete it or write a new one".to_owned(),
        ));
    }
    let data = reply.data.ok_or(VaultError::Internal)?;
    let object = Object::parse(&data).map_err(|_| VaultError::Internal)?;
    let version = object.get("version").and_then(|raw| serde_json::from_str(raw.get()).ok());
    Ok((current, version.ok_or(VaultError::Internal)?))
}

fn quote(out: &mut Vec<u8>, text: &str) -> Result<(), VaultError> {
    serde_json::to_writer(out, text).map_err(|_| VaultError::Internal)
}

impl From<BarrierError> for Prepare {
    fn from(error: BarrierError) -> Self {
        Self::Vault(error.into())
    }
}
