//! Shares of a set, typed one after the other until there are enough. Lost with the process, like Vault's.

use crate::api::secret::SecretText;
use crate::keys::share::ShareSet;
use crate::keys::{Header, Share, ShareError, Slot};

use crate::core::error::VaultError;
use crate::core::ports::Ports;
use crate::core::state::mount::hex;

/// What was typed so far. The shares are wiped when they are dropped.
#[derive(Default)]
pub(in crate::core) struct Shares {
    given: Vec<Share>,
    /// Tells one attempt from the next.
    nonce: String,
}

/// What seal-status shows of a set of shares.
pub(in crate::core) struct Progress {
    pub threshold: u8,
    pub total: u8,
    pub given: usize,
    pub nonce: String,
}

impl Shares {
    /// Takes one share in; `Some` is the whole set as soon as there are enough, and forgets it here.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] names what is wrong with the share: damaged, of another vault, of an older set, not
    /// the one that was made, or given twice. Those before it stay.
    pub(in crate::core) fn take(&mut self, ports: &Ports, text: &SecretText) -> Result<Option<Vec<Share>>, VaultError> {
        let named = |error: ShareError| VaultError::BadRequest(error.to_string());
        let share = Share::parse(text.reveal()).map_err(named)?;
        let header = header(ports).ok_or(VaultError::NotInitialised)?;
        let sets: Vec<ShareSet> = header.slots.iter().filter_map(Slot::share_set).collect();
        // Several sets open while one is being replaced. A share of none of them is told so by any of them.
        let own = sets.iter().find(|set| set.set_id == *share.set_id());
        let set = own.or(sets.first()).ok_or(VaultError::WrongKey)?;
        set.check(&share, &header.vault_id).map_err(named)?;
        let same_set = |other: &Share| other.set_id() == share.set_id();
        if self.given.iter().any(|other| same_set(other) && other.number() == share.number()) {
            return Err(named(ShareError::Duplicate(share.number())));
        }
        // Shares of a set that was replaced meanwhile must not wait here for ever.
        self.given.retain(|other| sets.iter().any(|set| set.set_id == *other.set_id()));
        if self.given.is_empty() {
            let mut nonce = [0; 8];
            ports.random.fill(&mut nonce).map_err(|_| VaultError::Internal)?;
            self.nonce = hex(&nonce);
        }
        let enough = self.given.iter().filter(|other| same_set(other)).count() + 1 >= usize::from(set.k);
        self.given.push(share);
        Ok(enough.then(|| {
            // Those of other sets are wiped here.
            let mut given = std::mem::take(&mut self.given);
            given.retain(|other| *other.set_id() == set.set_id);
            given
        }))
    }

    /// What to show. The header is read without being authenticated: it says how many shares are wanted, no more.
    pub(in crate::core) fn progress(&self, ports: &Ports) -> Option<Progress> {
        let sets: Vec<ShareSet> = header(ports)?.slots.iter().filter_map(Slot::share_set).collect();
        // That of the last share; before the first the set that has been there longest.
        let last = self.given.last().and_then(|share| sets.iter().find(|set| set.set_id == *share.set_id()));
        let set = last.or(sets.first())?;
        let given = self.given.iter().filter(|share| *share.set_id() == set.set_id).count();
        let nonce = if given == 0 { String::new() } else { self.nonce.clone() };
        Some(Progress { threshold: set.k, total: set.n, given, nonce })
    }
}

/// The header with the higher number.
fn header(ports: &Ports) -> Option<Header> {
    let copies = ports.header.read().ok()?;
    copies.iter().flatten().filter_map(|bytes| Header::parse(bytes).ok()).max_by_key(|header| header.seq)
}
