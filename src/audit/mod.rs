//! The audit log: typed entries, hash chain, device, fail-closed broker.
//!
//! Nothing leaves the vault unaudited. [`Broker::requests`] makes the intent of a change durable before it happens.
//! [`Broker::replies`] records how it ended. [`Broker::exchange`] writes a read with its reply in one line, before the
//! reply is sent. If the device does not accept an entry, the request fails.
//!
//! Entries are built only from [`RequestFacts`] and [`ReplyFacts`], which cannot carry a body, a header or a value as
//! text. Values appear as keyed hashes. `chain` defines the exact bytes, [`verify`] checks a log, and
//! [`FileDevice::recover`] matches it with the sealed state at start.
//!
//! The device is set only in the configuration file. An API that can name a file is a way to run code (CVE-2025-6000).

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
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
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
pub use entry::{DAMAGED, Ended, MAX_FIELDS, Note, Outcome, PathMode, ReplyFacts, RequestFacts, SALVAGED, SUM_DIFFERS};
#[cfg(feature = "server")]
pub use error::AuditError;
#[cfg(feature = "server")]
pub use file::FileDevice;
#[cfg(feature = "server")]
pub use recover::{Opened, Resume, Torn};

use std::io;
use std::sync::Arc;

/// Alarm for a file that something else made shorter.
#[cfg(feature = "server")]
const CUT_ALARM: &str = "audit-file-cut";

/// A destination of audit entries.
pub trait Device: Send {
    /// Name for health reports. It comes from the configuration, never from a request.
    fn name(&self) -> &str;

    /// Passes complete lines to the operating system. After `Ok` they survive the end of the process, but not yet a
    /// power cut.
    ///
    /// # Errors
    /// After an error nothing of `lines` stays on the device, or it is removed before anything else is written.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Returns a handle that makes everything appended so far durable, without blocking further appends.
    fn syncer(&self) -> Arc<dyn Syncer>;

    /// Opens the device again, after a rename from outside or after a failure. Returns `true` if it is now a new, empty
    /// file, whose first entry will be a note that continues the chain.
    ///
    /// # Errors
    /// Those of the operating system. The device stays as it was.
    fn reopen(&mut self) -> io::Result<bool>;

    /// Returns true, once each time, when something that was appended has disappeared. Called before every append.
    fn shrank(&mut self) -> bool {
        false
    }

    /// Checks whether the lines still arrive where readers look for them. Called at most once a second.
    ///
    /// # Errors
    /// A short static reason for the health report. Entries are still written.
    fn check(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// Makes a device durable without the broker's lock.
pub trait Syncer: Send + Sync {
    /// Makes everything durable that was appended before the call.
    ///
    /// # Errors
    /// After any error the content of the device is unknown. Do not call it again.
    fn sync(&self) -> io::Result<()>;
}
