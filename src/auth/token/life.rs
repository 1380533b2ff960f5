//! How long a token lives, and who may use it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::cidr::admits;
use super::{TokenError, TokenRecord};
use crate::api::hex::hex;
use crate::api::spiffe::SpiffeId;

/// How far the clock may go back: as much as a time service corrects, but not as much as somebody setting the clock.
const CLOCK_SLACK_MS: u64 = 60_000;

/// Lives that the server grants, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Life when none is requested.
    pub default_ttl_s: u64,
    /// Maximum life with renewals, and the longest period.
    pub max_ttl_s: u64,
}

impl Default for Limits {
    /// Both are 768 hours, as in Vault.
    fn default() -> Self {
        Self { default_ttl_s: 2_764_800, max_ttl_s: 2_764_800 }
    }
}

/// The peer that presents a token. Taken from the connection, never from the request.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Identity in the certificate.
    pub identity: &'a SpiffeId,
    /// SHA-256 of the certificate.
    pub fingerprint: &'a [u8; 32],
    /// Address, if known.
    pub remote: Option<IpAddr>,
}

/// Why a token is rejected. For the log only; the client is told that permission is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It has expired.
    #[error("token expired")]
    Expired,
    /// All its uses are spent.
    #[error("token used up")]
    Spent,
    /// It belongs to another identity.
    #[error("token of another identity")]
    OtherIdentity,
    /// It belongs to another certificate.
    #[error("token of another certificate")]
    OtherCertificate,
    /// It may not be used from this network.
    #[error("token used from another network")]
    Network,
    /// The clock is before the token's creation or renewal, so its age is unknown.
    #[error("clock went back")]
    ClockBackwards,
}

/// Checks whether `peer` may use `token` at `now_ms` (Unix milliseconds).
///
/// Does not check the token's ancestors. The core revokes whole families (see [`family`]).
///
/// # Errors
/// The first reason of [`Unusable`] that applies.
pub fn usable(token: &TokenRecord, peer: &Peer<'_>, now_ms: u64) -> Result<(), Unusable> {
    if token.identity != peer.identity.uri() {
        return Err(Unusable::OtherIdentity);
    }
    if token.certificate.as_ref().is_some_and(|bound| *bound != hex(peer.fingerprint)) {
        return Err(Unusable::OtherCertificate);
    }
    if !admits(&token.bound_cidrs, peer.remote) {
        return Err(Unusable::Network);
    }
    if now_ms.saturating_add(CLOCK_SLACK_MS) < token.seen_ms() {
        return Err(Unusable::ClockBackwards);
    }
    if now_ms >= token.expires_ms {
        return Err(Unusable::Expired);
    }
    if token.uses_left == Some(0) { Err(Unusable::Spent) } else { Ok(()) }
}

/// Takes one use away. Returns whether the record has changed; it must then be stored before the request is answered. A
/// token with no uses left must be revoked after that answer.
///
/// # Errors
/// [`Unusable::Spent`] when no use is left.
pub fn spend(token: &mut TokenRecord) -> Result<bool, Unusable> {
    match &mut token.uses_left {
        None => Ok(false),
        Some(left) => {
            *left = left.checked_sub(1).ok_or(Unusable::Spent)?;
            Ok(true)
        }
    }
}

/// Remaining seconds at `now_ms`, rounded down. Never more than there were at the latest known time.
#[must_use]
pub fn ttl_s(token: &TokenRecord, now_ms: u64) -> u64 {
    token.expires_ms.saturating_sub(now_ms.max(token.seen_ms())) / 1000
}

/// Result of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The record to store.
    pub record: TokenRecord,
    /// Texts for `warnings` in the reply.
    pub warnings: Vec<String>,
}

/// Renews at `now_ms`. A periodic token gets its period, any other token `increment_s` (0: its original life), and none
/// outlives its maximum life. The caller must check [`usable`], and that a role still grants the same policies
/// ([`Role::still_gives`](super::super::cert::Role::still_gives)).
///
/// If the clock went back, the latest known time is used.
///
/// # Errors
/// [`TokenError::NotRenewable`]; [`TokenError::PastMax`] when the token or its maximum life has expired.
pub fn renew(token: &TokenRecord, increment_s: u64, limits: &Limits, now_ms: u64) -> Result<Renewed, TokenError> {
    if !token.renewable {
        return Err(TokenError::NotRenewable);
    }
    let now_ms = now_ms.max(token.seen_ms());
    if now_ms >= token.expires_ms {
        return Err(TokenError::PastMax);
    }
    let wanted_s = if token.period_s == 0 && increment_s > 0 { increment_s } else { token.ttl_s };
    let mut warnings = Vec::new();
    let expires_ms = end_ms(token, wanted_s, limits, now_ms, &mut warnings);
    if expires_ms <= now_ms {
        return Err(TokenError::PastMax);
    }
    Ok(Renewed { record: TokenRecord { expires_ms, renewed_ms: now_ms, ..token.clone() }, warnings })
}

/// Returns the end of a life of `wanted_s` seconds from `now_ms`, cut to what the token and the server allow. A
/// periodic token uses its period instead of `wanted_s`, and only the explicit maximum cuts it.
pub(super) fn end_ms(
    token: &TokenRecord,
    wanted_s: u64,
    limits: &Limits,
    now_ms: u64,
    warnings: &mut Vec<String>,
) -> u64 {
    let after = |start_ms: u64, span_s: u64| start_ms.saturating_add(span_s.saturating_mul(1000));
    let periodic = token.period_s > 0;
    let wanted_s = if periodic { token.period_s.min(limits.max_ttl_s) } else { wanted_s };
    let wanted_ms = after(now_ms, wanted_s);
    let explicit_ms = if token.explicit_max_s > 0 { after(token.created_ms, token.explicit_max_s) } else { u64::MAX };
    let max_s = if token.max_ttl_s > 0 { token.max_ttl_s.min(limits.max_ttl_s) } else { limits.max_ttl_s };
    let max_ms = if periodic { u64::MAX } else { after(token.created_ms, max_s) };
    let end_ms = wanted_ms.min(explicit_ms).min(max_ms);
    if end_ms < wanted_ms {
        warnings.push(format!(
            "TTL of \"{wanted_s}s\" exceeded the effective max_ttl; TTL value is capped to \"{}s\"",
            end_ms.saturating_sub(now_ms) / 1000
        ));
    }
    end_ms
}

/// Returns the accessors of `root` and of all tokens below it. `tokens` holds pairs (accessor, parent) in any order.
/// Records that form a circle do no harm.
#[must_use]
pub fn family<'a>(root: &'a str, tokens: &[(&'a str, Option<&'a str>)]) -> BTreeSet<&'a str> {
    let mut children: Vec<(&str, &str)> = tokens.iter().filter_map(|(own, parent)| Some(((*parent)?, *own))).collect();
    children.sort_unstable();
    let mut found = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        let first = children.partition_point(|(of, _)| *of < parent);
        for (_, child) in children.iter().skip(first).take_while(|(of, _)| *of == parent) {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}
