//! Unsealing, and the limit on guessing.
//!
//! Only one attempt runs at a time. Key derivation is expensive by design, so parallel attempts could exhaust the
//! memory of a sealed node. After a failure the same opener must wait, twice as long each time, up to a minute. Only
//! the identities of the configuration may try at all, so nobody else can delay them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::api::spiffe::SpiffeId;
use crate::api::sys::SealStatus;
use crate::audit::{AuditError, AuditHead, AuditKeys, Broker, Ended, LogKey, Note};
use crate::barrier::{Barrier, BarrierError, MountId, Report};
use crate::keys::HeaderError;
use crate::limits::Accounts;

use super::losses;
use super::secret::secret;
use super::status;
use crate::core::approvals::voices;
use crate::core::caller::Opener;
use crate::core::commit::committer::{Bench, Committer};
use crate::core::commit::outcomes::{self, Outcome};
use crate::core::error::VaultError;
use crate::core::live::crl_cache::Revocations;
use crate::core::live::damage::Damage;
use crate::core::live::rollbacks::Rollbacks;
use crate::core::live::shares::Shares;
use crate::core::live::sightings::Sightings;
use crate::core::live::verifier::Verifier;
use crate::core::request::UnsealKey;
use crate::core::rotation::orders::Secret;
use crate::core::rotation::{Debt, Desk, Keeper, Rotator};
use crate::core::state::snapshot::Snapshot;
use crate::core::vault::{Live, Vault};
use crate::core::{AuditOpener, Settings};

/// Error after a fatal fault.
const RESTARTING: &str = "the state on disk is unknown: the vault is restarting";

/// Checks whether `opener` may try a secret at all. Attempts without that right are noted after the next unseal.
fn may_try(vault: &Vault, opener: Opener<'_>) -> Result<(), VaultError> {
    let Opener::Remote(caller) = opener else { return Ok(()) };
    let named = vault.settings.unseal_identities.iter().any(|pattern| pattern.matches(&caller.identity));
    if named && caller.not_after_ms > vault.ports.clock.now_ms() {
        return Ok(());
    }
    tracing::warn!(opener = opener.key(), "unseal attempt rejected: the caller is not in unseal.identities");
    vault.gate.lock().refused = true;
    Err(VaultError::Forbidden)
}

/// Forgets the shares entered so far, for callers that may enter some.
pub(in crate::core) fn reset(vault: &Vault, opener: Opener<'_>) -> Result<(), VaultError> {
    may_try(vault, opener)?;
    if let Opener::Remote(caller) = opener
        && !vault.admits(caller)
    {
        return Err(VaultError::Forbidden);
    }
    *vault.shares.lock() = Shares::default();
    Ok(())
}

pub(in crate::core) fn unseal(
    vault: &Vault,
    opener: Opener<'_>,
    key: &UnsealKey<'_>,
) -> Result<SealStatus, VaultError> {
    may_try(vault, opener)?;
    // A second attempt is rejected, not queued, so that waiting attempts cannot occupy a thread each.
    let Some(_attempt) = vault.attempt.try_lock() else { return Err(VaultError::TooMany { retry_after_s: 1 }) };
    if !vault.is_sealed() {
        return Ok(status::seal_status(vault));
    }
    // Checked after the line above, because a fatal fault marks the process as dead before it seals.
    if vault.dead.load(Ordering::SeqCst) {
        return Err(VaultError::Unavailable(RESTARTING));
    }
    if !status::initialised(vault) {
        return Err(VaultError::NotInitialised);
    }
    vault.gate.lock().check(opener.key(), vault.ports.clock.now_ms())?;
    let secret = match secret(vault, key)? {
        Some(secret) => secret,
        // A correct share, but not enough of them yet.
        None => return Ok(status::seal_status(vault)),
    };
    // Taken, so that what is rejected while this attempt runs is noted after the next unseal.
    let refused = std::mem::take(&mut vault.gate.lock().refused);
    match open(vault, opener, secret, refused) {
        Ok(live) => {
            vault.gate.lock().succeeded(opener.key());
            vault.live.store(Some(Arc::new(live)));
            // Connections opened while sealed were not checked for revocations.
            vault.sessions.review(|caller| vault.admits(caller));
            Ok(status::seal_status(vault))
        }
        Err(Unopened { error, why }) => {
            let mut gate = vault.gate.lock();
            gate.refused |= refused;
            if matches!(error, VaultError::WrongKey) {
                tracing::warn!(opener = opener.key(), "unseal attempt failed");
                gate.refused = true;
                // Counted from the end of the attempt, so that a slow derivation does not use up the delay.
                gate.failed(opener.key(), vault.ports.clock.now_ms());
            }
            Err(told(opener, error, why))
        }
    }
}

/// Why a vault does not open.
struct Unopened {
    error: VaultError,
    /// The reason in the words of `docs/operations.md`. `None` means that one of the vault's own records is damaged.
    why: Option<String>,
}

impl From<VaultError> for Unopened {
    fn from(error: VaultError) -> Self {
        Self { error, why: None }
    }
}

/// Reason when the records of all secrets may be intact, but one that every start reads is not.
const OWN_RECORD: &str = "a record that every start reads is damaged (an identity, a policy, a certificate, an authority, a limit, \
     a token or another one of the vault's own). Stop the daemon and find it: strongroomd storage verify. Then restore the data \
     folder from a backup, or remove the record: strongroomd storage salvage";

/// What the opener is told. An opener at the machine may read the log and gets the whole reason; over the network, only
/// a pointer to the log.
fn told(opener: Opener<'_>, error: VaultError, why: Option<String>) -> VaultError {
    let code = error.error_code();
    let of_files = match &error {
        VaultError::Integrity | VaultError::AuditUnavailable => true,
        VaultError::Unavailable(_) => why.is_some(),
        _ => false,
    };
    if !of_files {
        return error;
    }
    if why.is_none() && matches!(error, VaultError::Integrity) {
        tracing::error!("unseal failed: {OWN_RECORD}");
    }
    let own = matches!(error, VaultError::Integrity).then(|| OWN_RECORD.to_owned());
    let why = why.or(own).unwrap_or_else(|| error.to_string());
    VaultError::DidNotOpen { code, why: matches!(opener, Opener::Local).then_some(why) }
}

/// Opens everything that a serving vault needs. After an error all of it is dropped, including every key.
fn open(vault: &Vault, opener: Opener<'_>, secret: Secret, refused: bool) -> Result<Live, Unopened> {
    let now_ms = vault.ports.clock.now_ms();
    let (barrier, report) =
        Barrier::unseal(vault.ports.parts(), &secret.unlock(), now_ms).map_err(|error| unopened(&error))?;
    tracing::info!(
        generation = report.generation,
        records = report.records,
        header_repaired = report.header_repaired,
        header_rolled_forward = report.header_rolled_forward,
        anchor_behind = report.anchor_behind,
        anchor_torn = report.anchor_torn,
        "vault opened"
    );
    let barrier = Arc::new(barrier);
    let (audit, damaged) = open_audit(&vault.ports.audit, &vault.settings, &barrier, now_ms)
        .map_err(|NoLog { error, why }| Unopened { error, why })?;
    let audit = Arc::new(audit);
    let identity = match opener {
        Opener::Local => None,
        Opener::Remote(caller) => Some(&*caller.identity),
    };
    // The log must accept these entries before anything is served: they record what happened while it could not be
    // written.
    alarm(&barrier, &audit, &report, refused, now_ms)?;
    audit.note(now_ms, &Note::Unsealed { identity }).map_err(|_| VaultError::AuditUnavailable)?;
    let losses = losses::load(&barrier.view(MountId::MISC))?;
    let salvaged = losses::remind(&losses, &barrier, &audit, now_ms)?;
    let damage = Arc::new(Damage::at_start(&barrier, &audit, damaged && !salvaged, now_ms)?);
    vault.listening.load(&barrier.view(MountId::CA))?;
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::load(&barrier, &vault.listening)?));
    let sightings = Arc::new(Sightings::load(&barrier.view(MountId::SIGHTINGS))?);
    vault.publish_trust(&snapshot.load());
    warn_of_approvals(&vault.settings, &snapshot.load());
    vault.feed.reset(barrier.mark().2);
    let committer = committer(vault, &barrier, &audit, &snapshot)?;
    let desk = || Desk {
        barrier: Arc::clone(&barrier),
        audit: Arc::clone(&audit),
        snapshot: Arc::clone(&snapshot),
        committer: Arc::clone(&committer),
        clock: Arc::clone(&vault.ports.clock),
        random: Arc::clone(&vault.ports.random),
        settings: Arc::clone(&vault.settings),
        stopping: Arc::default(),
    };
    // Completed before anybody is served: nothing that a compromised slot could open may work for one more request. If
    // this fails, for example on a full disk, an alarm says so and the keeper keeps trying, because a vault that cannot
    // be opened helps nobody.
    let mut debt = Debt::default();
    if !debt.settle(&desk())? && vault.dead.load(Ordering::SeqCst) {
        return Err(VaultError::Unavailable(RESTARTING).into());
    }
    let keeper = Keeper::spawn(desk(), debt)?;
    let rotator = Rotator::spawn(desk())?;
    if matches!(secret, Secret::Passphrase(_) | Secret::Both { .. }) {
        // Only now is the secret of a slot at hand that an older version may have made cheaper than the others.
        keeper.raise_cost(&vault.ports, &vault.settings, secret)?;
    }
    let (accounts, revocations) = (Accounts::default(), Revocations::default());
    let closing = Arc::default();
    let verifier = Verifier::new(&barrier, &vault.ports.clock, &closing, &damage);
    Ok(Live {
        closing,
        barrier,
        audit,
        snapshot,
        sightings,
        revocations,
        accounts,
        committer,
        keeper,
        rotator,
        verifier,
        rollbacks: Rollbacks::default(),
        damage,
        losses,
    })
}

/// Starts the one thread that writes. After each change it tells the listener what to accept, and closes the connections
/// that are no longer admitted.
fn committer(
    vault: &Vault,
    barrier: &Arc<Barrier>,
    audit: &Arc<Broker>,
    snapshot: &Arc<ArcSwap<Snapshot>>,
) -> Result<Arc<Committer>, VaultError> {
    Ok(Arc::new(Committer::spawn(Bench {
        barrier: Arc::clone(barrier),
        audit: Arc::clone(audit),
        snapshot: Arc::clone(snapshot),
        clock: Arc::clone(&vault.ports.clock),
        feed: Arc::clone(&vault.feed),
        on_change: {
            let (vault, settings) = (Weak::clone(&vault.me), Arc::clone(&vault.settings));
            Box::new(move |snapshot, restricts| {
                let Some(vault) = vault.upgrade() else { return };
                vault.publish_trust(snapshot);
                if restricts {
                    let now_ms = vault.ports.clock.now_ms();
                    let closed = vault.sessions.review(|caller| snapshot.keeps(&settings, caller, now_ms));
                    tracing::info!(closed, "closed connections that are no longer admitted");
                }
            })
        },
        on_fatal: {
            let vault = Weak::clone(&vault.me);
            Box::new(move |why| {
                if let Some(vault) = vault.upgrade() {
                    vault.fatal(why);
                }
            })
        },
    })?))
}

/// Writes what the start found, and what was tried while sealed, to the audit log and to the daemon's log.
fn alarm(barrier: &Barrier, audit: &Broker, report: &Report, refused: bool, now_ms: u64) -> Result<(), VaultError> {
    let behind = report.anchor_behind > 1;
    let raise = |code: &'static str| {
        audit.note(now_ms, &Note::Alarm { request: None, code }).map_err(|_| VaultError::AuditUnavailable)
    };
    if behind {
        tracing::error!(
            generations = report.anchor_behind,
            "the anchor was behind the store: somebody restored an older anchor, or its disk lost writes"
        );
        raise("anchor-behind")?;
    }
    if report.anchor_damaged {
        tracing::error!(
            "a slot of the anchor was damaged, and no crash explains it: a newer generation may be missing"
        );
        raise("anchor-damaged")?;
    }
    if refused {
        raise("unseal-attempts-refused")?;
    }
    // Reported and durable. The slots of the anchor may now hold consecutive generations again, so the next start does
    // not repeat the alarm.
    if behind { barrier.roll(now_ms).map_err(|error| failed_open(&error)) } else { Ok(()) }
}

/// Warns when the configuration requires more operators than there are. Then no guarded operation is possible, and only
/// somebody who can edit the file can change that.
fn warn_of_approvals(settings: &Settings, snapshot: &Snapshot) {
    let Some(rules) = settings.approvals.as_deref() else { return };
    let Some(agree) = voices::too_few(rules, settings, snapshot) else { return };
    let required = rules.required();
    tracing::warn!(
        "approvals.required is {required}, and {agree} registered and enabled identities can approve: nobody can ever \
         approve anything, nor add an approver. Remove [approvals] from the configuration and restart; register at least \
         {required} identities that match approvals.approvers, with a policy that has update on \
         sys/strongroom/approvals/*; then put it back"
    );
}

/// As [`failed_open`], with the reason.
fn unopened(error: &BarrierError) -> Unopened {
    Unopened { error: failed_open(error), why: Some(error.to_string()) }
}

/// What the caller is told about a failed unseal. A wrong secret and a missing slot look the same.
fn failed_open(error: &BarrierError) -> VaultError {
    if let BarrierError::Header(HeaderError::WrongSecret | HeaderError::NoSlotOfType) = error {
        return VaultError::WrongKey;
    }
    tracing::error!(%error, "unseal failed");
    VaultError::from_barrier(error)
}

/// Matches the audit log with the state, and notes the outcome of requests that had no reply when the process ended.
/// Those up to the audit head in the state record are part of a durable group. Later ones never happened. Also returns
/// whether the log ends with records known to be damaged.
pub(super) fn open_audit(
    opener: &AuditOpener,
    settings: &Settings,
    barrier: &Barrier,
    now_ms: u64,
) -> Result<(Broker, bool), NoLog> {
    let unavailable = |error: AuditError| {
        tracing::error!(%error, "the audit log could not be opened");
        NoLog { error: VaultError::AuditUnavailable, why: Some(error.to_string()) }
    };
    let head = barrier.audit_head();
    let expected = AuditHead { seq: head.seq, hash: head.hash };
    let mut keys = AuditKeys::none();
    let (mut log_keys, mut active) = (Vec::new(), None);
    for key in barrier.audit_keys() {
        keys.add(key.id, &key.mac);
        active = Some(key.id);
        log_keys.push(LogKey { id: key.id, mac: key.mac, sign: key.sign });
    }
    let (device, mut resume) = opener(&keys, expected, now_ms).map_err(unavailable)?;
    let kept = kept_outcomes(barrier)?;
    if resume.given_up {
        // Only the lost log could say how these requests ended. The first line of the new log names them, so that a kill
        // before their ends are written changes nothing.
        resume.pending = kept.iter().map(|outcome| outcome.request).collect();
    }
    // The log continues with the key that it ended with. A newer key is named there before it is used.
    let last = resume.last_key().or(active);
    let (remarked, damaged) = (resume.remarked.clone(), resume.damage);
    let at = log_keys.iter().position(|key| Some(key.id) == last).ok_or(NoLog::from(VaultError::AuditUnavailable))?;
    let current = log_keys.swap_remove(at);
    let broker = Broker::open(device, current, resume)
        .map_err(unavailable)?
        .with_path_mode(settings.audit_paths)
        .with_sync_mode(settings.audit_sync);
    if let Some(newer) = log_keys.into_iter().find(|key| Some(key.id) == active) {
        broker.switch_key(now_ms, newer).map_err(unavailable)?;
    }
    settle((barrier, &kept), &broker, &remarked, expected.seq, now_ms)?;
    Ok((broker, damaged))
}

/// Why the audit log could not be opened.
pub(super) struct NoLog {
    pub error: VaultError,
    why: Option<String>,
}

impl From<VaultError> for NoLog {
    fn from(error: VaultError) -> Self {
        Self { error, why: None }
    }
}

/// What the state record keeps for the audit log.
fn kept_outcomes(barrier: &Barrier) -> Result<Vec<Outcome>, VaultError> {
    outcomes::decode(&barrier.audit_outcomes()).map_err(|error| {
        tracing::error!(%error, "the outcomes in the state record cannot be read");
        VaultError::Integrity
    })
}

/// Writes how requests without a reply entry ended. Before each of them it writes the notes about it that the log does
/// not have yet. If this is killed, the next unseal continues.
fn settle(
    (barrier, kept): (&Barrier, &[Outcome]),
    broker: &Broker,
    remarked: &BTreeMap<u64, usize>,
    stored_to: u64,
    now_ms: u64,
) -> Result<(), VaultError> {
    let generation = barrier.mark().2;
    for request in broker.pending() {
        let outcome = kept.iter().find(|outcome| outcome.request == request);
        let ended = match outcome {
            _ if request > stored_to => Ended::Absent,
            Some(outcome) if outcome.refused => Ended::Refused,
            _ => Ended::Committed,
        };
        let shown = remarked.get(&request).copied().unwrap_or(0);
        let remarks = outcome.into_iter().flat_map(|outcome| outcome.remarks.iter().skip(shown));
        let mut notes: Vec<Note<'_>> = remarks.map(|remark| remark.note(request)).collect();
        notes.push(Note::Unfinished { request, ended, generation });
        broker.notes(now_ms, &notes).map_err(|error| {
            tracing::error!(%error, "the outcomes of interrupted requests could not be written to the audit log");
            VaultError::AuditUnavailable
        })?;
    }
    Ok(())
}

/// Takes the vault out of service and waits until nobody can write an audit line or read a record any more. A later
/// unseal continues with the same files.
pub(in crate::core) fn close(vault: &Vault, by: Option<&SpiffeId>) {
    let _attempt = vault.attempt.lock();
    let Some(live) = vault.live.swap(None) else { return };
    live.closing.store(true, Ordering::SeqCst);
    vault.feed.close();
    // These stop first, because they may be waiting for a commit.
    live.rotator.stop();
    live.keeper.stop();
    live.committer.stop();
    live.verifier.join();
    // Readers hold the `Arc` only in synchronous code, so this ends within the time of one read.
    while Arc::strong_count(&live) > 1 {
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
    note_seal(&live, vault.ports.clock.now_ms(), by);
}

/// Writes the last entries before sealing: who sealed the vault, and a checkpoint over everything, because the file may
/// be moved before the next start. The vault seals even if they cannot be written.
fn note_seal(live: &Live, now_ms: u64, by: Option<&SpiffeId>) {
    let told = live.damage.tell(now_ms);
    let noted = told.and_then(|()| live.audit.note(now_ms, &Note::Sealed { identity: by }));
    if let Err(error) = noted.and_then(|()| live.audit.checkpoint(now_ms)) {
        tracing::error!(%error, "the seal note could not be written to the audit log");
    }
}
