//! Recently made revocation lists, and the numbers of all lists.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::pki::AuthorityId;

/// Kept while the vault is open.
#[derive(Default)]
pub(in crate::core) struct Revocations {
    /// The number of the last list.
    number: AtomicU64,
    /// When each list was made, and the list in DER.
    pub lists: Mutex<HashMap<AuthorityId, (u64, Vec<u8>)>>,
}

impl Revocations {
    /// Returns the number of the next list. It is the time, so it also grows across restarts. It is always greater than
    /// the last one (RFC 5280 section 5.2.3), even if two lists are made in one millisecond or the clock is set back.
    pub(in crate::core) fn number(&self, now_ms: u64) -> u64 {
        let next = |last: u64| now_ms.max(last.saturating_add(1));
        let last = self.number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }
}
