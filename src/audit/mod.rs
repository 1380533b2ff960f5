//! The audit trail: typed entries, hash chain, device, fail-closed broker.
//!
//! Nothing leaves the vault unaudited. [`Broker::requests`] makes the intent of a change durable before it happens,
//! [`Broker::replies`] records how it ended, [`Broker::exchange`] writes a read with its answer in one line before
//! the answer leaves. The device must accept an entry, else the request fails.
//!
//! Entries are built from [`RequestFacts`] and [`ReplyFacts`] only: there is no way to hand over a body, a header or
//! a value as text. Values appear as keyed hashes. `chain` has the exact bytes, [`verify`] proves a log, and
//! [`FileDevice::recover`] joins it to the sealed state at start.
//!
//! The device comes from the configuration file only. An interface that can name a file is a way to run code
//! (CVE-2025-6000).

#[cfg(feature = "server")]
mod broker;
#[cfg_attr(not(feature = "server"), allow(dead_code))]
mod chain;
#[cfg_attr(not(feature = "server"), allow(dead_code))]
mod checkpoint;
#[cfg_attr(not(feature = "server"), allow(dead_code))] // checking needs the roles of entries only
mod entry;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
mod file;
#[cfg_attr(not(feature = "server"), allow(dead_code))]
mod json;
#[cfg(feature = "server")]
mod recover;
pub mod verify;

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;

#[cfg(feature = "server")]
pub use broker::{Broker, DeviceHealth, SyncMode};
#[cfg(feature = "server")]
pub use chain::LogKey;
pub use chain::{AuditHead, AuditKeys};
pub use entry::{Ended, MAX_FIELDS, Note, Outcome, PathMode, ReplyFacts, RequestFacts};
#[cfg(feature = "server")]
pub use error::AuditError;
#[cfg(feature = "server")]
pub use file::FileDevice;
#[cfg(feature = "server")]
pub use recover::{Opened, Resume, Torn};

use std::io;
use std::sync::Arc;

/// Alarm entry of a file that became shorter by another hand.
const CUT_ALARM: &str = "audit-file-cut";

/// A place that audit entries go to.
pub trait Device: Send {
    /// Name for health reports; from the configuration, never from a request.
    fn name(&self) -> &str;

    /// Hands complete lines to the operating system. After `Ok` they survive the end of the process, not yet a
    /// power cut.
    ///
    /// # Errors
    /// After an error nothing of `lines` remains on the device, or it is removed before anything else is written.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// A handle that makes durable what was appended so far, without holding up further appends.
    fn syncer(&self) -> Arc<dyn Syncer>;

    /// Opens the device again, after a rename from outside or a failure. `Ok(true)` if it is now a new, empty file,
    /// whose first entry will be a note that carries the chain on.
    ///
    /// # Errors
    /// The device stays as it was.
    fn reopen(&mut self) -> io::Result<bool>;

    /// True, once each time, when something that was appended is no longer there. Asked before every append.
    fn shrank(&mut self) -> bool {
        false
    }

    /// Looks whether what is written still arrives where it is looked for; called at most once a second.
    ///
    /// # Errors
    /// A short static reason for the health report. Entries keep being written.
    fn check(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// Makes a device durable from outside the broker's lock.
pub trait Syncer: Send + Sync {
    /// Makes everything durable that was appended before the call.
    ///
    /// # Errors
    /// Any error means that the state of the device is unknown; it must not be tried again.
    fn sync(&self) -> io::Result<()>;
}
