//! `GET sys/strongroom/mark`: which point of its history the vault has reached. A client asks this before it sends
//! anything that matters.
//!
//! It is the one successful request without a line in the audit log: it shows three numbers, which every reply
//! carries. So only admitted callers get an answer, and each identity has an allowance for it (`state/limits`). A request
//! that is rejected has its line.

use crate::api::mark::Mark;
use crate::api::path::Path;
use crate::api::request::{Body, Operation};

use super::admit::{admit, charge, decide, history};
use super::handle::refuse;
use crate::core::Caller;
use crate::core::error::VaultError;
use crate::core::lifecycle::status;
use crate::core::request::Request;
use crate::core::state::limits::MARK;
use crate::core::vault::Vault;

/// Returns where the vault stands. `seen` is the mark that the caller has seen, if it says so.
///
/// # Errors
/// [`VaultError::Sealed`]; [`VaultError::NotAdmitted`]; [`VaultError::RolledBack`]; [`VaultError::RateLimited`];
/// [`VaultError::AuditUnavailable`].
pub(in crate::core) fn of(vault: &Vault, caller: &Caller, seen: Option<Mark>) -> Result<Mark, VaultError> {
    let path = Path::parse(MARK).map_err(|_| VaultError::Internal)?;
    let (operation, body) = (Operation::Read, Body::empty());
    let visit = admit(vault, caller, Request { operation, path, body, wrap_ttl: None, if_none_match: None, seen })?;
    let ended = charge(&visit)?.err().or_else(|| history(&visit));
    if ended.is_none() && visit.subject.barred.is_none() {
        return Ok(status::mark(&visit.live));
    }
    let decided = decide(visit, ended);
    match decided.outcome {
        Err(error) => refuse(vault, &decided.live, &decided.facts, decided.subject.barred, error),
        // Nobody is allowed what ended or who is barred, and nothing is answered without a line then.
        Ok(()) => Err(VaultError::Internal),
    }
}
