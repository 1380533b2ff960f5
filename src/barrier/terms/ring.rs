//! The keys of an open vault, and what the next header changes about them (amendment M5).
//!
//! Keys are replaced as a whole. A caller that holds the old ones finishes with them, and they are wiped after the last
//! use. The root key itself is not among them: writing a header needs only keys derived from it. To create a slot, the
//! root key must be unlocked again.

use crate::crypto::Random;
use crate::crypto::hash::MacKey;
use crate::keys::{Header, HeaderKeys, Keyring, Slot};

use crate::barrier::error::BarrierError;

/// The opened content of one accepted header.
pub(in crate::barrier) struct Ring {
    pub header: Header,
    pub keyring: Keyring,
    pub lock: HeaderKeys,
    pub set: MacKey,
    pub hedge: MacKey,
    pub anchor: MacKey,
}

impl Ring {
    pub(in crate::barrier) fn new(header: Header, lock: HeaderKeys, keyring: Keyring) -> Self {
        let newest = keyring.newest_integrity();
        let (set, hedge, anchor) = (MacKey::new(&newest.set), MacKey::new(&newest.hedge), MacKey::new(&newest.anchor));
        Self { header, lock, set, hedge, anchor, keyring }
    }
}

/// Changes the keyring of the next header.
pub type KeyringEdit<'a> = Box<dyn FnOnce(&mut Keyring, &dyn Random) -> Result<(), BarrierError> + 'a>;

/// Checks the header as it was read back from its first copy. `false` stops everything before the old copy is replaced.
pub type HeaderCheck<'a> = Box<dyn Fn(&Header) -> bool + 'a>;

/// A new history of the vault, and the oldest state that its header accepts.
pub(in crate::barrier) struct Epoch {
    pub counter: u32,
    pub incarnation: [u8; 16],
    pub floor: (u32, u64),
}

/// What to change in the next header.
#[derive(Default)]
pub struct HeaderChange<'a> {
    /// Number of the header that the change was made for; `None` accepts any.
    pub base: Option<u64>,
    /// All slots of the next header.
    pub slots: Option<Vec<Slot>>,
    /// Keys of a new root key. The slots must wrap that root key then.
    pub root: Option<HeaderKeys>,
    /// Changes the keyring.
    pub keyring: Option<KeyringEdit<'a>>,
    /// Last check before the old header is replaced.
    pub check: Option<HeaderCheck<'a>>,
}

/// A header that is encoded but not yet written.
pub(in crate::barrier) struct NextHeader<'a> {
    pub bytes: Vec<u8>,
    pub ring: Ring,
    /// Whether the state is sealed under a new integrity set, so that the set hash is computed again.
    pub new_set: bool,
    pub check: Option<HeaderCheck<'a>>,
}
