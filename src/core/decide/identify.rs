//! Who makes a request: the rights of a caller.

use std::sync::Arc;

use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;
use crate::core::{Caller, Settings};

/// Returns the rights of a caller. One that is not admitted has none, and its subject says why. A token reduces the
/// rights of an admitted caller, and an invalid token removes them all.
pub(in crate::core) fn identify(
    snapshot: &Snapshot,
    settings: &Settings,
    caller: &Caller,
    now_ms: u64,
) -> Arc<Subject> {
    if let Err(why) = snapshot.admits(settings, caller, now_ms) {
        return snapshot.barred(why);
    }
    match caller.token.as_ref().filter(|text| !text.reveal().is_empty()) {
        None => snapshot.subject(caller, now_ms),
        Some(text) => Arc::new(snapshot.narrowed(caller, text, now_ms)),
    }
}
