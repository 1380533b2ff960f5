//! Shares of a set, entered one after the other until there are enough. As in Vault, they are lost when the process
//! ends.

use crate::api::hex::hex;
use crate::api::secret::SecretText;
use crate::keys::share::ShareSet;
use crate::keys::{Header, Share, ShareError, Slot};

use crate::core::error::VaultError;
use crate::core::ports::Ports;

/// The shares entered so far. They are wiped on drop.
#[derive(Default)]
pub(in crate::core) struct Shares {
    given: Vec<Share>,
    /// Distinguishes one attempt from the next.
    nonce: String,
}

/// What `seal-status` shows about a set of shares.
pub(in crate::core) struct Progress {
    pub threshold: u8,
    pub total: u8,
    pub given: usize,
    pub nonce: String,
}

impl Shares {
    /// Accepts one share. Returns the whole set and forgets it here, once there are enough.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] says what is wrong with the share: it is damaged, belongs to another vault or an
    /// older set, differs from the one that was created, or was entered twice. The earlier shares are kept.
    pub(in crate::core) fn take(&mut self, ports: &Ports, text: &SecretText) -> Result<Option<Vec<Share>>, VaultError> {
        let named = |error: ShareError| VaultError::BadRequest(error.to_string());
        let share = Share::parse(text.reveal()).map_err(named)?;
        let header = header(ports).ok_or(VaultError::NotInitialised)?;
        let sets: Vec<ShareSet> = header.slots.iter().filter_map(Slot::share_set).collect();
        // While a set is being replaced, several sets open the vault. If a share belongs to none of them, any of them
        // can report that.
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
            // Shares of other sets are wiped here.
            let mut given = std::mem::take(&mut self.given);
            given.retain(|other| *other.set_id() == set.set_id);
            given
        }))
    }

    /// The progress to show. The header is read without authentication, which is enough for the number of shares.
    pub(in crate::core) fn progress(&self, ports: &Ports) -> Option<Progress> {
        let sets: Vec<ShareSet> = header(ports)?.slots.iter().filter_map(Slot::share_set).collect();
        // The set of the last share. Before the first share, the oldest set.
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
