//! Why the barrier did not read, write or open.

use crate::crypto::CryptoError;
use crate::keys::HeaderError;
use crate::store::StoreError;
use crate::store::sidecar::SidecarError;

/// Failure of the barrier. The texts name what an operator looks up in `docs/operations.md`; none holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A record is missing, altered, moved or older than the index says. Writes stop; the record stays refused.
    #[error("a stored record failed its integrity check: {0}")]
    Integrity(&'static str),
    /// An earlier integrity error has stopped writes; other reads go on.
    #[error("writes are stopped after an integrity error: restart to check the whole store")]
    Degraded,
    /// What is on disk is unknown, or an earlier group was never published. The process must end and start anew.
    #[error("the state on disk is unknown: {0}")]
    Fatal(&'static str),
    /// The disk is full. Nothing has changed.
    #[error("the disk is full: nothing was changed")]
    Full,
    /// A path or key that the format does not take: empty, too long, too deep, or with an empty segment.
    #[error("the path is not acceptable: {0}")]
    Path(&'static str),
    /// A record would be larger than the format allows.
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
    /// There is no anchor file, or it is blank. A rollback cannot be told from a first start.
    #[error("the anchor is missing: a rollback cannot be told from a first start; {}", WAY_OUT)]
    AnchorMissing,
    /// The anchor file holds no slot that verifies with a key of this vault.
    #[error("the anchor is damaged, or belongs to another vault or an older key; {}", WAY_OUT)]
    AnchorDamaged,
    /// One slot of the anchor is blank although both have been written: the file was altered, and with it a newer
    /// generation may be gone.
    #[error("a slot of the anchor was emptied: the newest acknowledged writes may be missing; {}", WAY_OUT)]
    AnchorEmptied,
    /// The anchor vouches for another state of the same generation, or another incarnation of the same epoch.
    #[error("the anchor vouches for another history of this vault; {}", WAY_OUT)]
    AnchorOther,
    /// The store holds no state record: it is empty, or not the store of this vault.
    #[error("the store has no state record")]
    StateMissing,
    /// The state record does not open, or its fields contradict each other.
    #[error("the sealed state is damaged: {0}")]
    StateDamaged(&'static str),
    /// The records are not the ones that the state was sealed over.
    #[error("the store does not match its sealed state: {0}; without a backup: strongroomd storage salvage")]
    SetHash(&'static str),
    /// A stored record is under a term whose key was destroyed: an older store was put back.
    #[error("term {0} was destroyed: the store holds a record under it, so it is older than the keyring")]
    TermDestroyed(u32),
    /// A term cannot be destroyed: records are under it, or it is the one that seals.
    #[error("term {term} is still needed by {live} records")]
    NotDrained {
        /// The term.
        term: u32,
        /// Records under it.
        live: u64,
    },
    /// More records were changed since a census than it remembers; another one must begin. Nothing has changed by it.
    #[error("too much was changed since the store was scanned: scan it again")]
    TooManyChanges,
    /// The header is not the one that the state names, nor its direct successor.
    #[error("the header does not belong to the state of the store: {}", header_other(.0))]
    HeaderOther(&'static str),
    /// The header has begun a new epoch above just this state: accepting or salvaging was interrupted, or the store and the
    /// anchor of the time before were put back.
    #[error(
        "accepting a loss was interrupted: the header has begun a new epoch and the store has not followed; run the same \
         command again: strongroomd storage accept-loss or strongroomd storage salvage"
    )]
    Unfinished,
    /// Salvage would lose more than the damage, or keep what others may have written.
    #[error("this damage cannot be salvaged: {0}; put the data folder back from a backup")]
    NotSalvageable(&'static str),
    /// The state is older than the oldest one that the header accepts.
    #[error("the store is older than the header allows; {}", WAY_OUT)]
    BelowFloor,
    /// Neither copy of the header can be found.
    #[error("the header is missing")]
    HeaderMissing,
    /// The header does not parse, open or verify; also a wrong secret.
    #[error("{}", header_text(.0))]
    Header(HeaderError),
    /// A vault is to be created where one is already.
    #[error("the store is not empty")]
    NotEmpty,
    /// Nobody waits for the answer any more, so it was not looked for.
    #[error("nobody waits for the answer any more")]
    Abandoned,
    /// The store could not be read.
    #[error("the store could not be read: {0}")]
    Store(#[source] StoreError),
    /// Header or anchor could not be read or written.
    #[error("header or anchor file: {0}")]
    Sidecar(#[from] SidecarError),
    /// Randomness, memory or a primitive failed; nothing has changed.
    #[error(transparent)]
    Crypto(CryptoError),
}

/// What ends a refusal when the right files are gone for good.
const WAY_OUT: &str = "to go on without what is lost: strongroomd storage accept-loss";

/// An older store can be accepted; an older header cannot, for with it a removed passphrase would count again.
fn header_other(what: &str) -> String {
    if what == STATE_OLDER { format!("{what}; {WAY_OUT}") } else { what.to_owned() }
}

/// A store that was put back beside a header that was not.
pub(super) const STATE_OLDER: &str = "the state is older than the header";

/// `docs/operations.md` names damage of either kind by one text.
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
