//! Shares of a set, typed one after the other until there are enough. Lost with the process, like Vault's.

use crate::api::secret::SecretText;
use crate::keys::{Header, Share, ShareError, Slot};

use super::error::VaultError;
use super::mount::hex;
use super::ports::Ports;

/// What was typed so far. The shares are wiped when they are dropped.
#[derive(Default)]
pub(super) struct Shares {
    given: Vec<Share>,
    /// Tells one attempt from the next.
    nonce: String,
}

/// What seal-status shows of a set of shares.
pub(super) struct Progress {
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
    pub(super) fn take(&mut self, ports: &Ports, text: &SecretText) -> Result<Option<Vec<Share>>, VaultError> {
        let named = |error: ShareError| VaultError::BadRequest(error.to_string());
        let share = Share::parse(text.reveal()).map_err(named)?;
        let header = header(ports).ok_or(VaultError::NotInitialised)?;
        let set = header.slots.iter().filter_map(Slot::share_set).next().ok_or(VaultError::WrongKey)?;
        set.check(&share, &header.vault_id).map_err(named)?;
        if self.given.iter().any(|other| other.number() == share.number()) {
            return Err(named(ShareError::Duplicate(share.number())));
        }
        // Shares of a set that was replaced meanwhile must not wait here for ever.
        self.given.retain(|other| other.set_id() == share.set_id());
        if self.given.is_empty() {
            let mut nonce = [0; 8];
            ports.random.fill(&mut nonce).map_err(|_| VaultError::Internal)?;
            self.nonce = hex(&nonce);
        }
        self.given.push(share);
        Ok((self.given.len() >= usize::from(set.k)).then(|| std::mem::take(&mut self.given)))
    }

    /// What to show. The header is read without being authenticated: it says how many shares are wanted, no more.
    pub(super) fn progress(&self, ports: &Ports) -> Option<Progress> {
        let set = header(ports)?.slots.iter().filter_map(Slot::share_set).next()?;
        let nonce = if self.given.is_empty() { String::new() } else { self.nonce.clone() };
        Some(Progress { threshold: set.k, total: set.n, given: self.given.len(), nonce })
    }
}

/// The header with the higher number.
fn header(ports: &Ports) -> Option<Header> {
    let copies = ports.header.read().ok()?;
    copies.iter().flatten().filter_map(|bytes| Header::parse(bytes).ok()).max_by_key(|header| header.seq)
}
