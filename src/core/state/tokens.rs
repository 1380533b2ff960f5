//! Tokens, which clients present in addition to their certificate.
//!
//! The record is in built-in mount 4 under the [`TokenId`] in hexadecimal, with a [`TokenRecord`] as value. Every
//! record is in memory as well, so a request costs one lookup there and none in the store. A token never grants more
//! than the certificate with which it is presented, because both decide the request.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::auth::token::{Peer, TokenId, TokenRecord, Unusable, family, usable};
use crate::barrier::{MountId, Tx, View};

use super::identity::OUTSIDE;
use super::ledger::parse_fingerprint;
use super::snapshot::Touch;
use crate::core::caller::Caller;
use crate::core::error::VaultError;

/// Largest number of tokens of one identity.
pub(in crate::core) const MAX_OF_IDENTITY: usize = 4_096;
/// Largest number of tokens in total.
pub(in crate::core) const MAX_TOKENS: usize = 100_000;
/// Largest number of tokens of all certificates of outside PKIs together. One person can have many such certificates,
/// each an identity of its own, and must not keep the vault's own identities from getting tokens.
const MAX_OF_OUTSIDERS: usize = MAX_TOKENS / 2;
/// Largest number of ancestors of a token.
pub(in crate::core) const MAX_DEPTH: usize = 32;
/// Number of expired tokens that are removed whenever one is written.
const SWEEP: usize = 8;
/// How long a token stays on record after its last use has started, in milliseconds, because it decides that request.
pub(in crate::core) const LAST_USE_MS: u64 = 300_000;

/// A token as presented or found.
#[derive(Clone)]
pub(in crate::core) struct Held {
    pub id: TokenId,
    pub record: Arc<TokenRecord>,
}

/// All tokens in memory.
#[derive(Default)]
pub(in crate::core) struct Tokens(RwLock<Index>);

#[derive(Default)]
struct Index {
    records: HashMap<TokenId, Arc<TokenRecord>>,
    by_accessor: HashMap<String, TokenId>,
    /// By identity URI, because families and limits are per identity.
    by_identity: HashMap<String, BTreeSet<TokenId>>,
    /// By expiry, so that the oldest are found without a search.
    by_end: BTreeSet<(u64, TokenId)>,
    /// Number of tokens of certificates of outside PKIs.
    outsiders: usize,
}

/// Whether the identity with this URI stands for a certificate of an outside PKI.
fn is_outsider(identity: &str) -> bool {
    SpiffeId::parse(identity).is_ok_and(|identity| identity.path().starts_with(OUTSIDE))
}

impl Index {
    fn remove(&mut self, id: TokenId) {
        let Some(old) = self.records.remove(&id) else { return };
        self.by_accessor.remove(&old.accessor);
        self.by_end.remove(&(old.expires_ms, id));
        self.outsiders -= usize::from(is_outsider(&old.identity));
        if let Some(all) = self.by_identity.get_mut(&old.identity) {
            all.remove(&id);
            if all.is_empty() {
                self.by_identity.remove(&old.identity);
            }
        }
    }

    fn insert(&mut self, id: TokenId, record: TokenRecord) {
        self.remove(id);
        self.by_accessor.insert(record.accessor.clone(), id);
        self.by_end.insert((record.expires_ms, id));
        self.outsiders += usize::from(is_outsider(&record.identity));
        self.by_identity.entry(record.identity.clone()).or_default().insert(id);
        self.records.insert(id, Arc::new(record));
    }

    fn by_accessor(&self, accessor: &str) -> Option<Held> {
        let id = *self.by_accessor.get(accessor)?;
        self.records.get(&id).map(|record| Held { id, record: Arc::clone(record) })
    }

    /// Returns the number of the token's ancestors, if all of them are alive.
    fn ancestors(&self, record: &TokenRecord, now_ms: u64) -> Option<usize> {
        let (mut depth, mut below) = (0, record);
        while let Some(accessor) = &below.parent {
            below = self.records.get(self.by_accessor.get(accessor)?)?;
            depth += 1;
            if now_ms >= below.expires_ms || depth > MAX_DEPTH {
                return None;
            }
        }
        Some(depth)
    }
}

impl Tokens {
    /// Reads every record.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be parsed.
    pub(in crate::core) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut index = Index::default();
        view.each_entry(|name, entry| {
            let id = parse_fingerprint(name).map(TokenId::from_bytes).ok_or(VaultError::Integrity)?;
            index.insert(id, TokenRecord::decode(entry.value.reveal()).map_err(|_| VaultError::Integrity)?);
            Ok::<(), VaultError>(())
        })?;
        Ok(Self(RwLock::new(index)))
    }

    /// Updates one record from the store.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub(in crate::core) fn reread(&self, view: &View<'_>, id: TokenId) -> Result<(), VaultError> {
        let record = read(view, id)?;
        let mut index = self.0.write();
        match record {
            Some(record) => index.insert(id, record),
            None => index.remove(id),
        }
        Ok(())
    }

    /// The token with this text, if it is on record.
    pub(in crate::core) fn by_text(&self, text: &SecretText) -> Option<Held> {
        let id = TokenId::of(text.reveal())?;
        self.0.read().records.get(&id).map(|record| Held { id, record: Arc::clone(record) })
    }

    /// The token with this accessor.
    pub(in crate::core) fn by_accessor(&self, accessor: &str) -> Option<Held> {
        self.0.read().by_accessor(accessor)
    }

    /// Returns the token that `caller` presents, if it can be used now. Remaining uses are not checked, because the code
    /// that admits the request takes one first.
    ///
    /// # Errors
    /// The reason, for the audit log, when it cannot be used.
    pub(in crate::core) fn shown(&self, text: &SecretText, caller: &Caller, now_ms: u64) -> Result<Held, &'static str> {
        let held = self.by_text(text).ok_or("token-unknown")?;
        let peer = Peer { identity: &caller.identity, fingerprint: &caller.fingerprint, remote: caller.address() };
        match usable(&held.record, &peer, now_ms) {
            // Uses are checked last, so this is the only problem.
            Ok(()) | Err(Unusable::Spent) => {}
            Err(Unusable::Expired) => return Err("token-expired"),
            Err(Unusable::OtherIdentity) => return Err("token-of-another-identity"),
            Err(Unusable::OtherCertificate) => return Err("token-of-another-certificate"),
            Err(Unusable::Network) => return Err("token-from-another-network"),
            Err(_) => return Err("token-unusable"),
        }
        self.0.read().ancestors(&held.record, now_ms).ok_or("token-without-parent")?;
        Ok(held)
    }

    /// Whether a token is valid at `now_ms`, for any caller.
    pub(in crate::core) fn is_alive(&self, record: &TokenRecord, now_ms: u64) -> bool {
        now_ms < record.expires_ms && record.uses_left != Some(0) && self.0.read().ancestors(record, now_ms).is_some()
    }

    /// Number of tokens on record.
    pub(in crate::core) fn len(&self) -> usize {
        self.0.read().records.len()
    }

    /// Accessors of all tokens that are valid at `now_ms`, sorted.
    pub(in crate::core) fn accessors(&self, now_ms: u64) -> Vec<String> {
        let index = self.0.read();
        let alive = index.records.values().filter(|record| {
            now_ms < record.expires_ms && record.uses_left != Some(0) && index.ancestors(record, now_ms).is_some()
        });
        let mut found: Vec<String> = alive.map(|record| record.accessor.clone()).collect();
        found.sort_unstable();
        found
    }

    /// Rejects another token of this identity below `parent` when there are too many.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when the identity has too many tokens or the token too many ancestors;
    /// [`VaultError::Unavailable`] when there are too many tokens in total.
    pub(in crate::core) fn make_room(
        &self,
        identity: &str,
        parent: Option<&TokenRecord>,
        now_ms: u64,
    ) -> Result<(), VaultError> {
        let index = self.0.read();
        if index.by_identity.get(identity).map_or(0, BTreeSet::len) >= MAX_OF_IDENTITY {
            return Err(VaultError::BadRequest(format!(
                "the identity has {MAX_OF_IDENTITY} tokens: revoke some, or give them a shorter lifetime"
            )));
        }
        if index.records.len() >= MAX_TOKENS || (is_outsider(identity) && index.outsiders >= MAX_OF_OUTSIDERS) {
            return Err(VaultError::Unavailable("there are too many tokens: wait until some expire, or revoke some"));
        }
        let depth = parent.map_or(Some(0), |parent| index.ancestors(parent, now_ms).map(|above| above + 1));
        match depth {
            Some(depth) if depth <= MAX_DEPTH => Ok(()),
            Some(_) => Err(VaultError::BadRequest(format!("a token may have at most {MAX_DEPTH} ancestors"))),
            None => Err(VaultError::Forbidden),
        }
    }

    /// A token and all its descendants.
    pub(in crate::core) fn family(&self, root: &Held) -> Vec<TokenId> {
        let index = self.0.read();
        let same = index.by_identity.get(&root.record.identity).into_iter().flatten();
        let records: Vec<&TokenRecord> = same.filter_map(|id| index.records.get(id)).map(Arc::as_ref).collect();
        let pairs: Vec<(&str, Option<&str>)> =
            records.iter().map(|record| (record.accessor.as_str(), record.parent.as_deref())).collect();
        let accessors = family(&root.record.accessor, &pairs);
        accessors.into_iter().filter_map(|accessor| index.by_accessor.get(accessor).copied()).collect()
    }

    /// The tokens created by the one with this accessor, which belongs to the identity with this URI.
    pub(in crate::core) fn children(&self, identity: &str, accessor: &str) -> Vec<TokenId> {
        let index = self.0.read();
        let same = index.by_identity.get(identity).into_iter().flatten();
        let is_child =
            |id: &&TokenId| index.records.get(id).is_some_and(|record| record.parent.as_deref() == Some(accessor));
        same.filter(is_child).copied().collect()
    }

    /// At most `most` tokens that have expired, or whose parent has; and the number of all of them.
    pub(in crate::core) fn ended(&self, most: usize, now_ms: u64) -> (Vec<TokenId>, usize) {
        let index = self.0.read();
        let over = |record: &TokenRecord| now_ms >= record.expires_ms || index.ancestors(record, now_ms).is_none();
        let mut ended = index.records.iter().filter(|(_, record)| over(record)).map(|(id, _)| *id);
        let found: Vec<TokenId> = ended.by_ref().take(most).collect();
        let all = found.len() + ended.count();
        (found, all)
    }

    /// All tokens of the identity with this URI.
    pub(in crate::core) fn of(&self, identity: &str) -> Vec<TokenId> {
        self.0.read().by_identity.get(identity).into_iter().flatten().copied().collect()
    }

    /// A few expired tokens.
    fn stale(&self, now_ms: u64) -> Vec<TokenId> {
        let index = self.0.read();
        index.by_end.iter().take_while(|(end_ms, _)| *end_ms <= now_ms).take(SWEEP).map(|(_, id)| *id).collect()
    }
}

/// Reads the record of a token.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn read(view: &View<'_>, id: TokenId) -> Result<Option<TokenRecord>, VaultError> {
    let Some(entry) = view.entry(&id.hex())? else { return Ok(None) };
    TokenRecord::decode(entry.value.reveal()).map(Some).map_err(|_| VaultError::Integrity)
}

/// Writes a record and removes a few expired ones. Returns what the index must read again.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put(
    tx: &mut Tx<'_>,
    tokens: &Tokens,
    id: TokenId,
    record: &TokenRecord,
    now_ms: u64,
) -> Result<Vec<Touch>, VaultError> {
    tx.put_entry(MountId::TOKENS, &id.hex(), &record.encode(), 0)?;
    let stale: Vec<TokenId> = tokens.stale(now_ms).into_iter().filter(|stale| *stale != id).collect();
    let mut touched = remove(tx, &stale)?;
    touched.push(Touch::Token(id));
    Ok(touched)
}

/// Removes records. Returns what the index must read again.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn remove(tx: &mut Tx<'_>, ids: &[TokenId]) -> Result<Vec<Touch>, VaultError> {
    for id in ids {
        tx.remove_entry(MountId::TOKENS, &id.hex())?;
    }
    Ok(ids.iter().copied().map(Touch::Token).collect())
}

/// Removes all tokens. Returns what the index must read again.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn remove_all(tx: &mut Tx<'_>) -> Result<Touch, VaultError> {
    for name in tx.view(MountId::TOKENS).entries()? {
        tx.remove_entry(MountId::TOKENS, &name)?;
    }
    Ok(Touch::Tokens)
}

/// Takes one use from the token that `caller` presents. If it was the last one, the token expires soon.
///
/// # Errors
/// [`VaultError::Forbidden`] when no use is left or the token no longer exists; the errors of the barrier.
pub(in crate::core) fn spend(
    tx: &mut Tx<'_>,
    tokens: &Tokens,
    id: TokenId,
    now_ms: u64,
) -> Result<Vec<Touch>, VaultError> {
    let mut record = read(&tx.view(MountId::TOKENS), id)?.ok_or(VaultError::Forbidden)?;
    crate::auth::token::spend(&mut record).map_err(|_| VaultError::Forbidden)?;
    if record.uses_left == Some(0) {
        record.expires_ms = record.expires_ms.min(now_ms.saturating_add(LAST_USE_MS));
    }
    put(tx, tokens, id, &record, now_ms)
}

#[cfg(test)]
mod tests {
    use crate::auth::token::{CreateBody, Creator, Limits, create};

    use super::*;

    #[test]
    fn outsiders_leave_half_of_the_tokens_to_identities() {
        let tokens = Tokens::default();
        let uri = |path: &str| SpiffeId::new("example.org", path).expect("legal");
        let record = |n: usize| {
            let identity = uri(&format!("cert/{n}"));
            let creator = Creator { identity: &identity, policies: &[], sudo: false, parent: None };
            let made = create(&CreateBody::default(), &creator, format!("a{n}"), &Limits::default(), 0);
            made.expect("made").record
        };
        let id = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            TokenId::from_bytes(bytes)
        };
        for n in 0..MAX_TOKENS / 2 {
            tokens.0.write().insert(id(n), record(n));
        }
        let room = |path: &str| tokens.make_room(uri(path).uri(), None, 0);
        assert!(room("cert/another").is_err(), "one person with many certificates can take every token");
        assert!(room("app/web").is_ok());
        tokens.0.write().remove(id(0));
        assert!(room("cert/another").is_ok());
    }
}
