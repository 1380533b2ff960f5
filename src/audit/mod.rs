//! The audit trail: typed entries, hash chain, devices, fail-closed broker.
//!
//! Nothing leaves the vault unaudited. [`Broker::requests`] makes the intent of a change durable before it happens,
//! [`Broker::replies`] records how it ended, [`Broker::exchange`] writes a read with its answer in one line before
//! the answer leaves. At least one device must accept an entry, else the request fails.
//!
//! Entries are built from [`RequestFacts`] and [`ReplyFacts`] only: there is no way to hand over a body, a header or
//! a value as text. Values appear as keyed hashes. `chain` has the exact bytes, [`verify`] proves a log, and
//! [`FileDevice::recover`] joins it to the sealed state at start.
//!
//! Devices come from the configuration file only. An interface that can name a file is a way to run code
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
#[cfg(feature = "server")]
mod timed;
pub mod verify;

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;

#[cfg(feature = "server")]
pub use broker::{Broker, DeviceHealth, SyncMode};
#[cfg(feature = "server")]
pub use chain::LogKey;
pub use chain::{AuditHead, AuditKeys};
pub use entry::{MAX_FIELDS, Note, Outcome, PathMode, ReplyFacts, RequestFacts};
#[cfg(feature = "server")]
pub use error::AuditError;
#[cfg(feature = "server")]
pub use file::FileDevice;
#[cfg(feature = "server")]
pub use recover::{Resume, Torn, recover_all};
#[cfg(feature = "server")]
pub use timed::TimedDevice;

use std::io;
use std::sync::Arc;

/// A place that audit entries go to.
pub trait Device: Send {
    /// Name for health reports and notes; from the configuration, never from a request.
    fn name(&self) -> &str;

    /// Hands complete lines to the operating system. After `Ok` they survive the end of the process, not yet a
    /// power cut.
    ///
    /// # Errors
    /// After an error nothing of `lines` remains on the device, except after [`io::ErrorKind::TimedOut`]: then the
    /// outcome is unknown.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// Any error means that the state of the device is unknown; it must not be tried again.
    fn sync(&mut self) -> io::Result<()>;

    /// Opens the device again, after a rename from outside or a failure. `Ok(true)` if it is now a new, empty file,
    /// whose first entry will be a note that carries the chain on.
    ///
    /// # Errors
    /// The device stays as it was.
    fn reopen(&mut self) -> io::Result<bool>;

    /// Looks whether what is written still arrives where it is looked for; called at most once a second.
    ///
    /// # Errors
    /// A short static reason for the health report. Entries keep being written.
    fn check(&mut self) -> Result<(), &'static str> {
        Ok(())
    }

    /// A handle that syncs what was appended so far without holding up further appends, if there can be one.
    fn syncer(&self) -> Option<Arc<dyn Syncer>> {
        None
    }
}

/// Makes a device durable from outside the broker's lock.
pub trait Syncer: Send + Sync {
    /// As [`Device::sync`].
    ///
    /// # Errors
    /// As [`Device::sync`].
    fn sync(&self) -> io::Result<()>;
}
