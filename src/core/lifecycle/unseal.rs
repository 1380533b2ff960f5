//! From sealed to serving, and the brake on guessing.
//!
//! One attempt at a time: key derivation is expensive by design, and parallel attempts would be a way to exhaust the
//! memory of a sealed node. After a failure the same opener waits, twice as long each time, up to a minute. Only the
//! identities of the configuration may try at all, so nobody else can hold them up.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::SealStatus;
use crate::audit::{AuditHead, AuditKeys, Broker, LogKey, Note};
use crate::barrier::{Barrier, BarrierError, MountId};
use crate::crypto::recovery::{self, RecoveryCode};
use crate::crypto::secret::SecretBytes;
use crate::keys::{HeaderError, share};
use crate::limits::Accounts;

use super::shares::Shares;
use crate::core::caller::Opener;
use crate::core::certificates::revocations::Revocations;
use crate::core::commit::committer::{Bench, Committer};
use crate::core::decide::approvals;
use crate::core::error::VaultError;
use crate::core::live::sightings::Sightings;
use crate::core::request::UnsealKey;
use crate::core::rotation::keys::slots::Secret;
use crate::core::rotation::{Desk, Keeper, Rotator};
use crate::core::routes::sys;
use crate::core::state::snapshot::Snapshot;
use crate::core::{Live, Settings, Vault, normalised};

/// First delay after a failure; doubles with each further one.
const FIRST_DELAY_MS: u64 = 1_000;
/// Longest delay.
const MAX_DELAY_MS: u64 = 60_000;
/// Openers whose failures are remembered. They are all configured identities, so more than this is not expected; the
/// one that may try soonest is forgotten first.
const MAX_REMEMBERED: usize = 256;

/// Failed attempts.
#[derive(Default)]
pub(in crate::core) struct Gate {
    by_opener: HashMap<String, Failures>,
    /// Some attempt was refused or failed since the last unseal. While sealed there is no key to audit with, so the
    /// fact is noted after the next success.
    refused: bool,
}

struct Failures {
    count: u32,
    not_before_ms: u64,
}

impl Gate {
    /// # Errors
    /// [`VaultError::TooMany`] while `key` has to wait.
    pub(in crate::core) fn check(&self, key: &str, now_ms: u64) -> Result<(), VaultError> {
        match self.by_opener.get(key) {
            // Nobody is made to wait for longer than the longest delay: more is left only when the clock was set back, and
            // may be years.
            Some(failures) => match failures.not_before_ms.saturating_sub(now_ms) {
                wait_ms @ 1..=MAX_DELAY_MS => Err(VaultError::TooMany { retry_after_s: wait_ms.div_ceil(1_000) }),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    pub(in crate::core) fn failed(&mut self, key: &str, now_ms: u64) {
        if self.by_opener.len() >= MAX_REMEMBERED && !self.by_opener.contains_key(key) {
            let soonest = self.by_opener.iter().min_by_key(|(_, failures)| failures.not_before_ms);
            if let Some(soonest) = soonest.map(|(key, _)| key.clone()) {
                self.by_opener.remove(&soonest);
            }
        }
        let failures = self.by_opener.entry(key.to_owned()).or_insert(Failures { count: 0, not_before_ms: 0 });
        let delay_ms = FIRST_DELAY_MS.saturating_mul(1 << failures.count.min(16)).min(MAX_DELAY_MS);
        failures.count = failures.count.saturating_add(1);
        failures.not_before_ms = now_ms.saturating_add(delay_ms);
    }
}

/// Whether `opener` may give a secret at all. Whoever tries without is noted after the next unseal.
fn may_try(vault: &Vault, opener: Opener<'_>) -> Result<(), VaultError> {
    let Opener::Remote(caller) = opener else { return Ok(()) };
    let named = vault.settings.unseal_identities.iter().any(|pattern| pattern.matches(&caller.identity));
    if named && caller.not_after_ms > vault.ports.clock.now_ms() {
        return Ok(());
    }
    tracing::warn!(opener = opener.key(), "unseal attempt refused");
    if let Some(mut gate) = vault.gate.try_lock() {
        gate.refused = true;
    }
    Err(VaultError::Forbidden)
}

/// Forgets typed shares, for those who may type some.
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
    let Some(mut gate) = vault.gate.try_lock() else { return Err(VaultError::TooMany { retry_after_s: 1 }) };
    if !vault.is_sealed() {
        return Ok(sys::health::seal_status(vault));
    }
    // After the check above: a fatal fault marks the process dead before it seals.
    if vault.dead.load(Ordering::SeqCst) {
        return Err(VaultError::Unavailable("the state on disk is unknown: the vault is restarting"));
    }
    if !sys::health::initialised(vault) {
        return Err(VaultError::NotInitialised);
    }
    gate.check(opener.key(), vault.ports.clock.now_ms())?;
    let secret = match secret(vault, key)? {
        Some(secret) => secret,
        // A good share, and not yet enough of them.
        None => return Ok(sys::health::seal_status(vault)),
    };
    match open(vault, opener, secret, gate.refused) {
        Ok(live) => {
            gate.refused = false;
            gate.by_opener.remove(opener.key());
            vault.live.store(Some(Arc::new(live)));
            // While sealed nobody knew who is revoked.
            vault.sessions.review(|caller| vault.admits(caller));
            Ok(sys::health::seal_status(vault))
        }
        Err(error) => {
            if matches!(error, VaultError::WrongKey) {
                tracing::warn!(opener = opener.key(), "unseal attempt failed");
                gate.refused = true;
                // Counted from the end of the attempt, so that slow derivation does not use the delay up.
                gate.failed(opener.key(), vault.ports.clock.now_ms());
            }
            Err(error)
        }
    }
}

/// The secret as the slots take it; `None` while more shares are needed.
pub(in crate::core) fn secret(vault: &Vault, key: &UnsealKey<'_>) -> Result<Option<Secret>, VaultError> {
    let starts = |text: &SecretText, prefix: &str| {
        text.reveal().trim_start().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    Ok(Some(match key {
        UnsealKey::Passphrase(text) => Secret::Passphrase(normalised(text)?),
        UnsealKey::KeyFile(bytes) => Secret::KeyFile(SecretBytes::from_vec(bytes.to_vec())),
        UnsealKey::Both { passphrase, file } => {
            Secret::Both { passphrase: normalised(passphrase)?, file: SecretBytes::from_vec(file.to_vec()) }
        }
        UnsealKey::Typed(text) if starts(text, recovery::PREFIX) => {
            let code = RecoveryCode::parse(text.reveal());
            Secret::Recovery(code.map_err(|error| VaultError::BadRequest(error.to_string()))?)
        }
        UnsealKey::Typed(text) if starts(text, share::PREFIX) => {
            let Some(shares) = vault.shares.lock().take(&vault.ports, text)? else { return Ok(None) };
            Secret::Shares(shares)
        }
        UnsealKey::Typed(text) => Secret::Passphrase(normalised(text)?),
    }))
}

/// Opens everything that a serving vault needs; on an error all of it is dropped, and with it every key.
fn open(vault: &Vault, opener: Opener<'_>, secret: Secret, refused: bool) -> Result<Live, VaultError> {
    let now_ms = vault.ports.clock.now_ms();
    let (barrier, report) =
        Barrier::unseal(vault.ports.parts(), &secret.unlock(), now_ms).map_err(|error| failed_open(&error))?;
    tracing::info!(?report, "vault opened");
    let barrier = Arc::new(barrier);
    let audit = Arc::new(open_audit(vault, &barrier, now_ms)?);
    let identity = match opener {
        Opener::Local => None,
        Opener::Remote(caller) => Some(&*caller.identity),
    };
    if refused {
        let alarm = Note::Alarm { code: "unseal-attempts-refused" };
        audit.note(now_ms, &alarm).map_err(|_| VaultError::AuditUnavailable)?;
    }
    audit.note(now_ms, &Note::Unsealed { identity }).map_err(|_| VaultError::AuditUnavailable)?;
    vault.listening.load(&barrier.view(MountId::CA))?;
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::load(&barrier, &vault.listening)?));
    let sightings = Arc::new(Sightings::load(&barrier.view(MountId::SIGHTINGS))?);
    vault.publish_trust(&snapshot.load());
    warn_of_approvals(&vault.settings, &snapshot.load());
    vault.feed.reset(barrier.mark().2);
    let committer = Arc::new(Committer::spawn(Bench {
        barrier: Arc::clone(&barrier),
        audit: Arc::clone(&audit),
        snapshot: Arc::clone(&snapshot),
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
                    tracing::info!(closed, "connections that may no longer be there");
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
    })?);
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
    let keeper = Keeper::spawn(desk())?;
    let rotator = Rotator::spawn(desk())?;
    if vault.settings.kdf.is_some() && matches!(secret, Secret::Passphrase(_) | Secret::Both { .. }) {
        keeper.raise_cost(vault, secret)?;
    }
    let (accounts, revocations) = (Accounts::default(), Revocations::default());
    Ok(Live { barrier, audit, snapshot, sightings, revocations, accounts, committer, keeper, rotator })
}

/// Says so when the configuration asks for more operators than there are: nothing that is guarded can be done, and only
/// whoever may edit the file can change that.
fn warn_of_approvals(settings: &Settings, snapshot: &Snapshot) {
    let Some(rules) = settings.approvals.as_deref() else { return };
    let Some(agree) = approvals::too_few(rules, settings, snapshot) else { return };
    let required = rules.required();
    tracing::warn!(
        "approvals.required is {required}, and {agree} registered and enabled identities can agree: nobody can ever \
         approve anything, nor add an approver. Remove [approvals] from the configuration and restart; register at least \
         {required} identities that match approvals.approvers, with a policy that has update on \
         sys/strongroom/approvals/*; then put it back"
    );
}

/// What a failed opening tells the caller. A wrong secret and a missing slot look alike.
fn failed_open(error: &BarrierError) -> VaultError {
    if let BarrierError::Header(HeaderError::WrongSecret | HeaderError::NoSlotOfType) = error {
        return VaultError::WrongKey;
    }
    tracing::error!(%error, "unseal");
    VaultError::from_barrier(error)
}

/// Joins the audit log to the state, and notes what became of requests that had no reply when the process ended: those
/// up to the audit head inside the state record are part of a durable group, later ones never happened.
fn open_audit(vault: &Vault, barrier: &Barrier, now_ms: u64) -> Result<Broker, VaultError> {
    let unavailable = |error| {
        tracing::error!(%error, "audit log");
        VaultError::AuditUnavailable
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
    let (devices, resume) = (vault.ports.audit)(&keys, expected, now_ms).map_err(unavailable)?;
    // The log goes on with the key that it ended with; a newer one is named there before it is used.
    let last = resume.last_key().or(active);
    let at = log_keys.iter().position(|key| Some(key.id) == last).ok_or(VaultError::AuditUnavailable)?;
    let current = log_keys.swap_remove(at);
    let broker = Broker::open(devices, current, resume)
        .map_err(unavailable)?
        .with_path_mode(vault.settings.audit_paths)
        .with_sync_mode(vault.settings.audit_sync);
    if let Some(newer) = log_keys.into_iter().find(|key| Some(key.id) == active) {
        broker.switch_key(now_ms, newer).map_err(unavailable)?;
    }
    let generation = barrier.mark().2;
    for request in broker.pending() {
        let committed = request <= expected.seq;
        broker.note(now_ms, &Note::Unfinished { request, committed, generation }).map_err(unavailable)?;
    }
    Ok(broker)
}

/// The last lines of an unsealed time: who closed it, and a checkpoint over everything, for the file may be moved away
/// before the next start. The vault closes whether they are taken or not.
pub(in crate::core) fn note_seal(live: &Live, now_ms: u64, by: Option<&SpiffeId>) {
    let noted = live.audit.note(now_ms, &Note::Sealed { identity: by });
    if let Err(error) = noted.and_then(|()| live.audit.checkpoint(now_ms)) {
        tracing::error!(%error, "audit log did not take the seal note");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_end_at_a_minute() {
        let mut gate = Gate::default();
        let mut now_ms = 1_000_000;
        for want_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(gate.check("local", now_ms).is_ok());
            gate.failed("local", now_ms);
            match gate.check("local", now_ms) {
                Err(VaultError::TooMany { retry_after_s }) => assert_eq!(retry_after_s, want_s),
                other => panic!("expected a delay, got {other:?}"),
            }
            assert!(gate.check("other", now_ms).is_ok(), "one opener must not hold up another");
            now_ms += want_s * 1_000;
        }
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let mut gate = Gate::default();
        let far_ms = 4_000_000_000_000;
        for _ in 0..12 {
            gate.failed("local", far_ms);
        }
        assert!(gate.check("local", far_ms).is_err());
        assert!(gate.check("local", far_ms - 1).is_ok(), "longer than anybody is ever made to wait");
        let mut now_ms = 1_750_000_000_000;
        assert!(gate.check("local", now_ms).is_ok());
        // From then on it is counted by the clock as it is now, and the delay is as long as before.
        gate.failed("local", now_ms);
        assert!(matches!(gate.check("local", now_ms), Err(VaultError::TooMany { retry_after_s: 60 })));
        now_ms += MAX_DELAY_MS;
        assert!(gate.check("local", now_ms).is_ok());
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut gate = Gate::default();
        for n in 0..MAX_REMEMBERED * 2 {
            gate.failed(&n.to_string(), 0);
        }
        assert_eq!(gate.by_opener.len(), MAX_REMEMBERED);
    }
}
