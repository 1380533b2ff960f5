//! What the vault says about itself, sealed or not. None of it requires a policy, so it contains no count and no path.
//! The only name is the label of a key slot that accepted a loss.

use crate::api::hex::hex;
use crate::api::mark::Mark;
use crate::api::sys::{Health, Leader, SealStatus};

use crate::core::Caller;
use crate::core::caller::Opener;
use crate::core::vault::Live;
use crate::core::vault::Vault;

/// Whether a vault header exists. An unreadable folder counts as "yes", so that nobody initialises over it.
pub(in crate::core) fn initialised(vault: &Vault) -> bool {
    if vault.live.load().is_some() {
        return true;
    }
    match vault.ports.header.read() {
        Ok(copies) => copies.iter().any(Option::is_some),
        Err(_) => true,
    }
}

/// A passphrase or key file that opens the vault is, in Vault's terms, one share with a threshold of one. If a slot has
/// a set of shares, shows its numbers, and how many shares were entered.
pub(in crate::core) fn seal_status(vault: &Vault) -> SealStatus {
    let cluster_id = cluster_id(vault);
    let shares = vault.shares.lock().progress(&vault.ports);
    let (t, n) = shares.as_ref().map_or((1, 1), |shares| (shares.threshold, shares.total));
    SealStatus {
        kind: "shamir".to_owned(),
        initialized: cluster_id.is_some() || initialised(vault),
        sealed: cluster_id.is_none(),
        t: t.into(),
        n: n.into(),
        progress: shares.as_ref().map_or(0, |shares| shares.given).try_into().unwrap_or_default(),
        nonce: shares.map(|shares| shares.nonce).unwrap_or_default(),
        version: vault.settings.version.clone(),
        build_date: String::new(),
        migration: false,
        cluster_name: cluster_id.as_ref().map(|_| vault.settings.cluster_name.clone()),
        cluster_id,
        recovery_seal: false,
        storage_type: vault.ports.store.engine().to_owned(),
        retry_after_s: 0,
    }
}

/// As [`seal_status`], with how long `opener` must wait before the next secret. A person who is asked for one that would be
/// rejected types it for nothing.
pub(in crate::core) fn seal_status_for(vault: &Vault, opener: Opener<'_>) -> SealStatus {
    let now_ms = vault.ports.clock.now_ms();
    let retry_after_s = vault.gate.lock().wait_s(opener.key(), now_ms);
    SealStatus { retry_after_s, ..seal_status(vault) }
}

pub(in crate::core) fn health(vault: &Vault) -> Health {
    let cluster_id = cluster_id(vault);
    Health {
        initialized: cluster_id.is_some() || initialised(vault),
        sealed: cluster_id.is_none(),
        server_time_utc: vault.ports.clock.now_ms() / 1_000,
        version: vault.settings.version.clone(),
        cluster_name: cluster_id.as_ref().map(|_| vault.settings.cluster_name.clone()),
        cluster_id,
        losses: vault.live().map(|live| live.losses.clone()).unwrap_or_default(),
        damage: vault.live().and_then(|live| live.damage.shown()),
        ..Health::default()
    }
}

pub(in crate::core) fn leader(vault: &Vault) -> Leader {
    Leader { is_self: !vault.is_sealed(), leader_address: vault.settings.address.clone(), ..Leader::default() }
}

pub(in crate::core) fn mark(live: &Live) -> Mark {
    let (epoch, incarnation, generation) = live.barrier.mark();
    Mark { epoch, incarnation: hex(&incarnation), generation }
}

/// Compares the mark that a caller has seen with the vault's own. Returns the vault's if it does not continue that history, and
/// tells the operator's log, at most once a second. Only for an admitted caller with an identity or a role: nobody else
/// is believed.
pub(in crate::core) fn rolled_back(live: &Live, caller: &Caller, seen: &Mark, now_ms: u64) -> Option<Mark> {
    let now = mark(live);
    if now.continues(seen) {
        return None;
    }
    if let Some(left_out) = live.rollbacks.report(now_ms) {
        tracing::warn!(
            identity = caller.identity.uri(),
            remote = caller.remote,
            left_out,
            "a client claims to have seen epoch {}, generation {} of this vault, which is at epoch {}, generation {}: if that \
             is true, the vault was restored from an older copy, or two copies were written to. The request was rejected. What \
             to do: docs/operations.md, \"An older copy of the whole vault\"",
            seen.epoch,
            seen.generation,
            now.epoch,
            now.generation
        );
    }
    Some(now)
}

/// The vault's id while unsealed. This is the incarnation: it names this history of the vault and is not secret.
fn cluster_id(vault: &Vault) -> Option<String> {
    vault.live().map(|live| mark(&live).incarnation)
}
