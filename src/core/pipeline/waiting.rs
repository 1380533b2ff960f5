//! `GET sys/strongroom/events`: waits until one of the given secrets changes.
//!
//! This is the only request that takes long on purpose. While it waits it holds no part of the open vault, so sealing
//! does not wait for it. When it wakes, everything is decided again on the current state.

use std::sync::Arc;

use super::audited::Facts;
use super::read::OwedLine;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::core::decide::identify::identify;
use crate::core::error::VaultError;
use crate::core::live::poll::{Look, Moment, Poll};
use crate::core::vault::Vault;

/// Waits and answers. `facts` are those of the request.
///
/// # Errors
/// [`VaultError::Sealed`] when the vault closes while it waits; the errors of [`Poll::look`].
pub(in crate::core) async fn wait(vault: &Vault, facts: Arc<Facts>, mut poll: Poll) -> Result<Reply, VaultError> {
    let mut changes = vault.feed.subscribe();
    let deadline = tokio::time::Instant::now() + poll.wait;
    let mut last = poll.wait.is_zero();
    let mut place = None;
    let line = OwedLine::of(vault, &facts);
    loop {
        changes.mark_unchanged();
        if let Some(result) = attempt(vault, &facts, &mut poll, last) {
            return line.write(result);
        }
        if place.is_none() {
            place = Some(match vault.feed.enter(facts.caller.identity.uri(), facts.caller.is_outsider()) {
                Ok(place) => place,
                Err(error) => return line.write(Err(error)),
            });
        }
        last = tokio::time::timeout_at(deadline, changes.changed()).await.is_err();
    }
}

/// Checks once, without awaiting. Only this holds the open vault.
fn attempt(vault: &Vault, facts: &Facts, poll: &mut Poll, last: bool) -> Option<Result<Reply, VaultError>> {
    let Some(live) = vault.live() else { return Some(Err(VaultError::Sealed)) };
    let snapshot = live.snapshot.load_full();
    let now_ms = vault.ports.clock.now_ms();
    let subject = identify(&snapshot, &vault.settings, &facts.caller, now_ms);
    let (_, incarnation, generation) = live.barrier.mark();
    let moment = Moment { feed: &vault.feed, mounts: &snapshot.mounts, subject: &subject, incarnation, generation };
    debug_assert_eq!(facts.inner.operation, Operation::Read);
    let result = match poll.look(&moment, last) {
        Ok(Look::Wait) => return None,
        Ok(Look::Answer(reply)) => Ok(reply),
        Err(error) => Err(error),
    };
    Some(result)
}
