//! Owners of secret bytes: wiped on drop, without `Clone`, `Debug` or serialisation.

use std::sync::OnceLock;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{CryptoError, Random};

/// Storage for one key outside the ordinary heap, for example in locked memory.
///
/// The implementation must wipe the bytes on drop.
pub trait KeyPage: Send + Sync {
    /// The stored bytes.
    fn bytes(&self) -> &[u8; 32];
    /// The stored bytes, writable.
    fn bytes_mut(&mut self) -> &mut [u8; 32];
}

type PageSource = fn() -> Option<Box<dyn KeyPage>>;

static PAGES: OnceLock<PageSource> = OnceLock::new();

/// Sets the source of locked pages. Only the first call counts.
///
/// Keys created earlier stay on the heap. When the source returns `None`, the key goes on the heap.
pub fn install_key_pages(alloc: PageSource) {
    // A second call keeps the first source, because keys must not be spread over two arenas.
    let _ = PAGES.set(alloc);
}

enum Place {
    Heap(Box<Zeroizing<[u8; 32]>>),
    Page(Box<dyn KeyPage>),
}

/// A 32-byte key. Wiped on drop. It cannot be printed, serialised or cloned by accident.
pub struct Key(Place);

impl Key {
    /// Makes a key and lets `f` write its bytes in place, so that no copy is left elsewhere.
    pub fn fill_with(f: impl FnOnce(&mut [u8; 32])) -> Self {
        match PAGES.get().and_then(|alloc| alloc()) {
            Some(mut page) => {
                f(page.bytes_mut());
                Self(Place::Page(page))
            }
            None => {
                let mut heap = Box::new(Zeroizing::new([0u8; 32]));
                f(&mut heap);
                Self(Place::Heap(heap))
            }
        }
    }

    /// Generates a random key.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn random(random: &dyn Random) -> Result<Self, CryptoError> {
        let mut outcome = Ok(());
        let key = Self::fill_with(|out| outcome = random.fill(out));
        outcome.map(|()| key)
    }

    /// The secret bytes. Review every call of this method.
    pub fn reveal(&self) -> &[u8; 32] {
        match &self.0 {
            Place::Heap(heap) => heap,
            Place::Page(page) => page.bytes(),
        }
    }

    /// Compares two keys in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.reveal().ct_eq(other.reveal()).into()
    }

    /// Makes a second copy. Both are wiped separately, so make few.
    pub fn duplicate(&self) -> Self {
        Self::fill_with(|out| out.copy_from_slice(self.reveal()))
    }
}

/// Secret bytes of any length. Wiped on drop, including spare capacity.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`; no copy is made.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret bytes. Review every call of this method.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The secret bytes, writable in place. The length is fixed.
    pub fn reveal_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Cuts to `len` bytes and wipes the rest. A longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.0.get_mut(len..) {
            rest.zeroize();
        }
        self.0.truncate(len);
    }
}
