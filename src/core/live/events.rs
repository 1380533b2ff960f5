//! `GET sys/strongroom/events`: waits until one of some secrets changes.
//!
//! The one request that takes long on purpose. While it waits it holds nothing of the open vault, so that sealing does
//! not wait for it; when it wakes, everything is decided again on the state of that moment.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::path::Path;
use crate::engine::{Operation, Reply};
use crate::policy::Capability;

use super::feed::Missed;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::routes::sys::{Inquiry, values};
use crate::core::state::mount::hex;
use crate::core::{Live, Vault};

/// Longest wait.
const MAX_WAIT_S: u64 = 60;
/// Secrets in one question.
const MAX_NAMES: usize = 64;

/// What is waited for.
pub(in crate::core) struct Poll {
    /// Full paths, as asked.
    names: Vec<String>,
    /// `None`: from now on.
    after: Option<Cursor>,
    wait: Duration,
}

/// A history and a generation.
struct Cursor {
    incarnation: String,
    generation: u64,
}

/// What is in force when the question is looked at.
pub(in crate::core) enum Look {
    Answer(Reply),
    Wait,
}

/// Reads `path` (with commas), `after` and `wait`.
///
/// # Errors
/// [`VaultError::BadRequest`]; [`VaultError::Forbidden`] when one of the secrets may not be read.
pub(in crate::core) fn parse(inquiry: &Inquiry<'_>) -> Result<Poll, VaultError> {
    let bad = |text: &str| VaultError::BadRequest(text.to_owned());
    let object = inquiry.body.object()?;
    crate::core::routes::sys::only_fields(&object, &["path", "after", "wait"])?;
    let names = crate::core::routes::sys::texts_field(&object, "path")?.unwrap_or_default();
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(bad("parameter \"path\" names 1 to 64 secrets with their mounts, separated by commas"));
    }
    if names.iter().any(|name| Path::parse(name).is_err()) {
        return Err(bad("parameter \"path\" holds something that is no path"));
    }
    let after = crate::core::routes::sys::text_field(&object, "after")?.filter(|text| !text.is_empty());
    let after =
        after.map(|text| Cursor::parse(&text).ok_or_else(|| bad("parameter \"after\" is no cursor"))).transpose()?;
    let wait_s = match crate::core::routes::sys::text_field(&object, "wait")? {
        None => 0,
        Some(text) => text.parse().map_err(|_| bad("parameter \"wait\" is a number of seconds up to 60"))?,
    };
    if wait_s > MAX_WAIT_S {
        return Err(bad("parameter \"wait\" is a number of seconds up to 60"));
    }
    Ok(Poll { names, after, wait: Duration::from_secs(wait_s) })
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (incarnation, generation) = text.split_once('-')?;
        let sound = incarnation.len() == 32 && incarnation.bytes().all(|byte| byte.is_ascii_hexdigit());
        let generation = generation.parse().ok().filter(|_| sound && generation.len() <= 20)?;
        Some(Self { incarnation: incarnation.to_owned(), generation })
    }

    fn now(live: &Live) -> Self {
        let (_, incarnation, generation) = live.barrier.mark();
        Self { incarnation: hex(&incarnation), generation }
    }

    fn render(&self) -> String {
        format!("{}-{}", self.incarnation, self.generation)
    }
}

impl Poll {
    /// Answers when there is something to tell, or when `last`.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] when a policy has changed meanwhile.
    fn look(&mut self, vault: &Vault, inquiry: &Inquiry<'_>, last: bool) -> Result<Look, VaultError> {
        if self.names.iter().any(|name| !values::may(inquiry, name, Capability::Read)) {
            return Err(VaultError::Forbidden);
        }
        // Before the changes are read: a change in between is told twice rather than never.
        let now = Cursor::now(inquiry.live);
        let after =
            self.after.get_or_insert(Cursor { incarnation: now.incarnation.clone(), generation: now.generation });
        let missed = if after.incarnation == now.incarnation && after.generation <= now.generation {
            vault.feed.missed(&self.names, after.generation)
        } else {
            Missed::TooMuch
        };
        let (changed, resync) = match missed {
            Missed::Nothing if !last => return Ok(Look::Wait),
            Missed::Nothing => (Vec::new(), false),
            Missed::Names(names) => (names, false),
            Missed::TooMuch => (self.names.clone(), true),
        };
        #[derive(Serialize)]
        struct Events {
            cursor: String,
            changed: Vec<String>,
            resync: bool,
        }
        let bytes = serde_json::to_vec(&Events { cursor: now.render(), changed, resync });
        Ok(Look::Answer(Reply::data(Zeroizing::new(bytes.map_err(|_| VaultError::Internal)?))))
    }
}

/// Waits and answers; `facts` are those of the request.
///
/// # Errors
/// [`VaultError::Sealed`] when the vault closes meanwhile; those of [`Poll::look`].
pub(in crate::core) async fn wait(vault: &Vault, facts: Arc<Facts>, mut poll: Poll) -> Result<Reply, VaultError> {
    let mut changes = vault.feed.subscribe();
    let deadline = tokio::time::Instant::now() + poll.wait;
    let mut last = poll.wait.is_zero();
    let mut place = None;
    loop {
        changes.mark_unchanged();
        if let Some(answer) = attempt(vault, &facts, &mut poll, last) {
            return answer;
        }
        if place.is_none() {
            place = Some(match vault.feed.enter(facts.caller.identity.uri()) {
                Ok(place) => place,
                Err(error) => return crate::core::pipeline::handle::answered(vault, &facts, Err(error)),
            });
        }
        last = tokio::time::timeout_at(deadline, changes.changed()).await.is_err();
    }
}

/// One look, without awaiting: the open vault is held only here.
fn attempt(vault: &Vault, facts: &Facts, poll: &mut Poll, last: bool) -> Option<Result<Reply, VaultError>> {
    let Some(live) = vault.live() else { return Some(Err(VaultError::Sealed)) };
    let snapshot = live.snapshot.load_full();
    let now_ms = vault.ports.clock.now_ms();
    let subject = crate::core::pipeline::handle::identify(&snapshot, &vault.settings, &facts.caller, now_ms);
    let inquiry = Inquiry {
        tail: String::new(),
        body: &facts.inner.body,
        caller: &facts.caller,
        subject: &subject,
        snapshot: &snapshot,
        sessions: &vault.sessions,
        settings: &vault.settings,
        live: &live,
        now_ms,
    };
    debug_assert_eq!(facts.inner.operation, Operation::Read);
    let result = match poll.look(vault, &inquiry, last) {
        Ok(Look::Wait) => return None,
        Ok(Look::Answer(reply)) => Ok(reply),
        Err(error) => Err(error),
    };
    drop(live);
    Some(crate::core::pipeline::handle::answered(vault, facts, result))
}
