//! The only way to change the keys of an open vault: the next header (amendment M5).

use std::sync::Arc;

use crate::keys::Header;

use super::ring::{Epoch, HeaderChange, NextHeader, Ring};
use crate::barrier::error::BarrierError;
use crate::barrier::group::Group;
use crate::barrier::open::Barrier;

impl<'a> Group<'a> {
    /// Makes the next header part of this group. It is written before the group's engine transaction, and the group's
    /// records are sealed under the new keys. Only one header per group.
    ///
    /// # Errors
    /// [`BarrierError::HeaderOther`] when the header is no longer `change.base`; the error of the edit;
    /// [`BarrierError::Header`] beyond a limit of the format. Nothing has changed then.
    pub fn change_header(&mut self, change: HeaderChange<'a>) -> Result<(), BarrierError> {
        self.change_header_in(change, None)
    }

    /// Like [`Group::change_header`]. With `epoch`, the group is the first one of a new history.
    ///
    /// # Errors
    /// As [`Group::change_header`].
    pub(in crate::barrier) fn change_header_in(
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
    /// The current header. Its slots contain no secret in clear text.
    #[must_use]
    pub fn header(&self) -> Header {
        self.ring.load().header.clone()
    }

    /// Writes both copies and starts to use the new keys. Until the first copy has been read back, opened and checked,
    /// the other one is still the old header.
    ///
    /// # Errors
    /// [`BarrierError::Fatal`]: the next start decides what is on disk. It takes the old header or the new one.
    pub(in crate::barrier) fn write_header(&self, next: NextHeader<'_>) -> Result<(), BarrierError> {
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
