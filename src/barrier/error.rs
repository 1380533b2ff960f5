//! Errors of the barrier.

use crate::crypto::CryptoError;
use crate::keys::HeaderError;
use crate::store::StoreError;
use crate::store::sidecar::SidecarError;

/// An error of the barrier. Operators look up the texts in `docs/operations.md`. None contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A record is missing, altered, moved or older than the index says. Writes stop, and the record stays rejected.
    #[error("a stored record failed its integrity check: {0}")]
    Integrity(&'static str),
    /// An earlier integrity error has stopped writes. Other reads continue.
    #[error("writes are stopped after an integrity error; find the damaged records: strongroom verify")]
    Degraded,
    /// It is unknown what is on disk, or an earlier group was never published. The process must end and start again.
    #[error("the state on disk is unknown: {0}")]
    Fatal(&'static str),
    /// The disk is full. Nothing has changed.
    #[error("the disk is full: nothing was changed")]
    Full,
    /// The format does not allow the path or key: it is empty, too long, too deep, or has an empty segment.
    #[error("the path is not valid: {0}")]
    Path(&'static str),
    /// The record would be larger than the format allows.
    #[error("the record is larger than 1 MiB and 64 KiB")]
    TooLarge,
    /// The caller's version table contradicts the stored one. Nothing has changed.
    #[error("the version table is not consistent: {0}")]
    Versions(&'static str),
    /// The store is older than the anchor: data was lost or rolled back.
    #[error(
        "acknowledged writes are missing: {generations} generations; the store is older than its anchor; {}",
        WAY_OUT
    )]
    Missing {
        /// Generations between the store and the anchor.
        generations: u64,
    },
    /// There is no anchor file, or it is blank. This looks the same after a rollback and at a first start.
    #[error("the anchor is missing: a rollback would look the same as a first start; {}", WAY_OUT)]
    AnchorMissing,
    /// The anchor file has no slot that can be verified with a key of this vault.
    #[error("the anchor is damaged, or belongs to another vault or an older key; {}", WAY_OUT)]
    AnchorDamaged,
    /// One slot of the anchor is blank although both were written once. The file was altered, and a newer generation
    /// may be missing.
    #[error("a slot of the anchor was emptied: the newest acknowledged writes may be missing; {}", WAY_OUT)]
    AnchorEmptied,
    /// The anchor belongs to a different state of the same generation, or to a different incarnation of the same epoch.
    #[error("the anchor belongs to a different history of this vault; {}", WAY_OUT)]
    AnchorOther,
    /// The store has no state record: it is empty, or it is not the store of this vault.
    #[error("the store has no state record")]
    StateMissing,
    /// The state record cannot be opened, or its fields contradict each other.
    #[error("the sealed state is damaged: {0}")]
    StateDamaged(&'static str),
    /// The records are not those over which the state was sealed.
    #[error("the store does not match its sealed state: {0}; if there is no backup: strongroomd storage salvage")]
    SetHash(&'static str),
    /// A stored record uses a term whose key was destroyed: somebody restored an older store.
    #[error("term {0} was destroyed: the store has a record under it, so the store is older than the keyring")]
    TermDestroyed(u32),
    /// A term cannot be destroyed, because records use it or because it is the active one.
    #[error("term {term} is still needed by {live} records")]
    NotDrained {
        /// The term.
        term: u32,
        /// Number of records that use it.
        live: u64,
    },
    /// More records changed since a census than it can note, so a new one must begin. Nothing has changed.
    #[error("too much was changed since the store was scanned: scan it again")]
    TooManyChanges,
    /// The header is neither the one that the state names nor its direct successor.
    #[error("the header does not belong to the state of the store: {}", header_other(.0))]
    HeaderOther(&'static str),
    /// The header has begun a new epoch directly above this state: `accept-loss` or `salvage` was interrupted, or somebody
    /// restored the store and the anchor from before it.
    #[error(
        "accepting a loss was interrupted: the header has begun a new epoch, but the store has not; run the same \
         command again: strongroomd storage accept-loss or strongroomd storage salvage"
    )]
    Unfinished,
    /// A salvage would lose more than the damaged records, or keep records that an attacker may have written.
    #[error("this damage cannot be salvaged: {0}; restore the data folder from a backup")]
    NotSalvageable(&'static str),
    /// The state is older than the oldest one that the header accepts.
    #[error("the store is older than the header allows; {}", WAY_OUT)]
    BelowFloor,
    /// Neither copy of the header exists.
    #[error("the header is missing")]
    HeaderMissing,
    /// The header cannot be parsed, opened or verified. A wrong secret looks the same.
    #[error("{}", header_text(.0))]
    Header(HeaderError),
    /// A new vault cannot be created, because there is one already.
    #[error("the store is not empty")]
    NotEmpty,
    /// The caller disconnected, so the search was stopped.
    #[error("the caller disconnected")]
    Abandoned,
    /// The store could not be read.
    #[error("the store could not be read: {0}")]
    Store(#[source] StoreError),
    /// The header or the anchor could not be read or written.
    #[error("header or anchor file: {0}")]
    Sidecar(#[from] SidecarError),
    /// Randomness, memory or a primitive failed. Nothing has changed.
    #[error(transparent)]
    Crypto(CryptoError),
}

/// End of an error text, for when the right files are gone for good.
const WAY_OUT: &str = "to continue without the lost data: strongroomd storage accept-loss";

/// An older store can be accepted. An older header cannot, because it would make a removed passphrase work again.
fn header_other(what: &str) -> String {
    if what == STATE_OLDER { format!("{what}; {WAY_OUT}") } else { what.to_owned() }
}

/// Somebody restored a store, but not its header.
pub(super) const STATE_OLDER: &str = "the state is older than the header";

/// `docs/operations.md` has one text for both types of damage.
fn header_text(error: &HeaderError) -> String {
    match error {
        HeaderError::Damaged(what) => format!("the header is damaged: {what}"),
        other => other.to_string(),
    }
}

impl From<HeaderError> for BarrierError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl From<StoreError> for BarrierError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CryptoError> for BarrierError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::TooLarge => Self::TooLarge,
            error => Self::Crypto(error),
        }
    }
}
