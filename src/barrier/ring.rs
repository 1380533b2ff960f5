//! The keys of an open vault, and the one way to change them: the next header (amendment M5).
//!
//! Keys are replaced as a whole. Whoever holds the old ones finishes with them; they are wiped after the last. The root
//! key itself is not among them: writing a header needs only what derives from it, making a slot needs it anew.

use std::sync::Arc;

use crate::crypto::Random;
use crate::crypto::hash::MacKey;
use crate::keys::{Header, HeaderKeys, Keyring, Slot};

use super::{Barrier, BarrierError, Group};

/// What one accepted header says, opened.
pub(super) struct Ring {
    pub header: Header,
    pub keyring: Keyring,
    lock: HeaderKeys,
    pub set: MacKey,
    pub hedge: MacKey,
    pub anchor: MacKey,
}

impl Ring {
    pub(super) fn new(header: Header, lock: HeaderKeys, keyring: Keyring) -> Self {
        let newest = keyring.newest_integrity();
        let (set, hedge, anchor) = (MacKey::new(&newest.set), MacKey::new(&newest.hedge), MacKey::new(&newest.anchor));
        Self { header, lock, set, hedge, anchor, keyring }
    }
}

/// Changes the keyring of the next header.
pub type KeyringEdit<'a> = Box<dyn FnOnce(&mut Keyring, &dyn Random) -> Result<(), BarrierError> + 'a>;

/// Looks at the header as it was read back from its first copy. `false` stops everything before the old copy goes.
pub type HeaderCheck<'a> = Box<dyn Fn(&Header) -> bool + 'a>;

/// A new history of the vault, and the oldest state that its header goes with.
pub(super) struct Epoch {
    pub counter: u32,
    pub incarnation: [u8; 16],
    pub floor: (u32, u64),
}

/// What shall be different in the next header.
#[derive(Default)]
pub struct HeaderChange<'a> {
    /// Number of the header that the change was made for; `None` takes any.
    pub base: Option<u64>,
    /// All slots of the next header.
    pub slots: Option<Vec<Slot>>,
    /// Keys of a new root key. The slots must wrap that root key then.
    pub root: Option<HeaderKeys>,
    /// Changes the keyring.
    pub keyring: Option<KeyringEdit<'a>>,
    /// Last look before the old header is replaced.
    pub check: Option<HeaderCheck<'a>>,
}

/// A header that is encoded and not yet written.
pub(super) struct NextHeader<'a> {
    bytes: Vec<u8>,
    pub ring: Ring,
    /// The state is sealed under a new integrity set, so the set hash is made anew.
    pub new_set: bool,
    check: Option<HeaderCheck<'a>>,
}

impl<'a> Group<'a> {
    /// Makes the next header part of this group: it is written before the group's engine transaction, and the group's
    /// records are sealed under the new keys. One header a group.
    ///
    /// # Errors
    /// [`BarrierError::HeaderOther`] when the header is not `change.base` any more; errors of the edit;
    /// [`BarrierError::Header`] beyond a limit of the format. Nothing has changed then.
    pub fn change_header(&mut self, change: HeaderChange<'a>) -> Result<(), BarrierError> {
        self.change_header_in(change, None)
    }

    /// As [`Group::change_header`]; with `epoch`, the group is the first one of a new history.
    ///
    /// # Errors
    /// As there.
    pub(super) fn change_header_in(
        &mut self,
        change: HeaderChange<'a>,
        epoch: Option<Epoch>,
    ) -> Result<(), BarrierError> {
        self.barrier.check_writable()?;
        let current = self.barrier.ring.load_full();
        if self.next.is_some() || change.base.is_some_and(|base| base != current.header.seq) {
            return Err(BarrierError::HeaderOther("it has been changed meanwhile"));
        }
        let mut keyring = current.keyring.duplicate();
        if let Some(edit) = change.keyring {
            edit(&mut keyring, &*self.barrier.random)?;
        }
        let mut header = current.header.clone();
        if let Some(epoch) = epoch {
            (header.epoch, header.incarnation) = (epoch.counter, epoch.incarnation);
            (header.floor_epoch, header.floor_generation) = epoch.floor;
        }
        if let Some(slots) = change.slots {
            if slots.is_empty() {
                return Err(BarrierError::HeaderOther("it would have no slot"));
            }
            header.slots = slots;
        }
        let lock = change.root.unwrap_or_else(|| current.lock.duplicate());
        let bytes = header.encode_next(&lock, &keyring, &*self.barrier.random)?;
        let header = Header::parse(&bytes)?;
        let new_set = keyring.newest_integrity().id != current.keyring.newest_integrity().id;
        self.next = Some(NextHeader { bytes, ring: Ring::new(header, lock, keyring), new_set, check: change.check });
        Ok(())
    }
}

impl Barrier {
    /// The header that is in force. Its slots hold no clear secret.
    #[must_use]
    pub fn header(&self) -> Header {
        self.ring.load().header.clone()
    }

    /// Writes both copies and takes the new keys into use. Copy by copy: until the first one has been read back, opened
    /// and checked, the other one still is the old header.
    ///
    /// # Errors
    /// [`BarrierError::Fatal`]: what is on disk is decided by the next start, which takes the old header or the new one.
    pub(super) fn write_header(&self, next: NextHeader<'_>) -> Result<(), BarrierError> {
        let NextHeader { bytes, ring, check, .. } = next;
        self.files.write(0, &bytes).map_err(|_| self.fail("the header could not be written"))?;
        let back = self.files.read().ok().and_then(|[first, _]| first);
        let sound = back
            .filter(|back| *back == bytes)
            .and_then(|back| Header::parse(&back).ok())
            .is_some_and(|header| header.open_keyring(&ring.lock).is_ok() && check.is_none_or(|check| check(&header)));
        if !sound {
            return Err(self.fail("the header does not open as it was written"));
        }
        self.files.write(1, &bytes).map_err(|_| self.fail("the header could not be written"))?;
        self.ring.store(Arc::new(ring));
        Ok(())
    }
}
