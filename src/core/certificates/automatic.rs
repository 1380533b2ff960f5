//! Changes that the vault makes by itself. They are committed and audited like any other.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::reply::Reply;
use crate::api::spiffe::SpiffeId;
use crate::barrier::{MountId, Tx};
use crate::pki::Bundle;

use super::issue::{self, Issued, Order};
use crate::core::commit::change::Done;
use crate::core::commit::committer::{Job, Work};
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::state::identity::{self, LISTENER};
use crate::core::state::ledger::How;
use crate::core::state::snapshot::Snapshot;

use crate::core::vault::Live;
use crate::core::vault::Vault;

/// Runs `work` in the committer and waits for it. Blocking; must not be called from the committer.
pub(in crate::core) fn perform<T: Send + 'static>(
    vault: &Vault,
    path: &str,
    rule: &str,
    work: impl FnOnce(&mut Tx<'_>, &Snapshot, u64) -> Result<(T, Done), VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    let (send, receive) = oneshot::channel();
    let work = move |tx: &mut Tx<'_>, snapshot: &Snapshot, now_ms: u64| {
        let (value, done) = work(tx, snapshot, now_ms)?;
        // Sent only once the commit is durable.
        let _ = send.send(value);
        Ok(done)
    };
    let (sender, answer) = oneshot::channel();
    {
        // Does not hold the open vault while waiting, because sealing waits for all its holders.
        let live: Arc<Live> = vault.live().ok_or(VaultError::Sealed)?;
        let now_ms = vault.ports.clock.now_ms();
        let facts = Facts::by_vault(&vault.settings.trust_domain, path, rule.to_owned(), now_ms, &*vault.ports.random)?;
        live.committer.submit(Job { facts: Arc::new(facts), work: Work::Records(Box::new(work)), answer: sender })?;
    }
    answer.blocking_recv().unwrap_or(Err(VaultError::Sealed))?;
    receive.blocking_recv().map_err(|_| VaultError::Internal)
}

pub(in crate::core) fn done(issued: Issued) -> Done {
    Done { remarks: issued.remarks, ..Done::touching(Reply::none(), issued.touched) }
}

pub(in crate::core) fn issue_client(vault: &Vault, identity: &SpiffeId, life_s: u64) -> Result<Bundle, VaultError> {
    let identity = identity.clone();
    perform(vault, "sys/strongroom/certificates", "the daemon's own client", move |tx, snapshot, now_ms| {
        let how = How::Issued;
        let order =
            Order { identity: &identity, how, life_s: Some(life_s), longest_s: life_s, supersedes: None, now_ms };
        let (issued, bundle) = issue::client(tx, snapshot, &order)?;
        Ok((bundle, done(issued)))
    })
}

pub(in crate::core) fn issue_server(vault: &Vault, names: &[String], life_s: u64) -> Result<Bundle, VaultError> {
    let names = names.to_vec();
    let identity = SpiffeId::new(&vault.settings.trust_domain, LISTENER).map_err(|_| VaultError::Internal)?;
    perform(vault, "sys/strongroom/certificates", "the listener's certificate", move |tx, snapshot, now_ms| {
        let how = How::Server;
        let order =
            Order { identity: &identity, how, life_s: Some(life_s), longest_s: life_s, supersedes: None, now_ms };
        let (issued, bundle) = issue::server(tx, snapshot, &order, &names)?;
        Ok((bundle, done(issued)))
    })
}

pub(in crate::core) fn note_sightings(vault: &Vault) -> Result<(), VaultError> {
    let sightings = Arc::clone(&vault.live().ok_or(VaultError::Sealed)?.sightings);
    note_listener(vault)?;
    let due = sightings.due();
    if due.is_empty() {
        return Ok(());
    }
    let written = due.clone();
    let gone = perform(vault, "sys/strongroom/identity-report", "sightings", move |tx, _, _| {
        let mut gone = Vec::new();
        for (path, sighting) in due {
            // Skip identities that were removed meanwhile.
            if identity::read(&tx.view(identity::IDENTITIES), &path)?.is_none() {
                gone.push(path);
                continue;
            }
            let bytes = serde_json::to_vec(&sighting).map_err(|_| VaultError::Internal)?;
            tx.put_entry(MountId::SIGHTINGS, &path, &bytes, 0)?;
        }
        Ok((gone, Done::of(Reply::none())))
    })?;
    sightings.wrote(&written);
    for path in gone {
        sightings.forget(&path);
    }
    Ok(())
}

/// The listener's former roots must survive a restart: the last known bundle of a client contains them.
fn note_listener(vault: &Vault) -> Result<(), VaultError> {
    let Some(unsaved) = vault.listening.unsaved() else { return Ok(()) };
    let written = perform(vault, "sys/strongroom/ca", "roots of the listener", move |tx, _, _| {
        unsaved.write(tx)?;
        Ok((unsaved, Done::of(Reply::none())))
    })?;
    vault.listening.saved(written);
    Ok(())
}
