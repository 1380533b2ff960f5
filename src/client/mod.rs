//! Blocking HTTP client over mutual TLS, used by the command, tests and benches.
//!
//! One [`Client`] keeps one connection open, speaks Vault's v1 protocol and checks the marks in the replies. If a
//! server's history has gone back, it reports that ([`ClientError::RolledBack`]) and does not return the reply. The
//! caller must store the [mark](Client::mark) between processes.

mod approvals;
mod connection;
#[cfg(feature = "enroll")]
pub mod enroll;
mod error;
mod gate;
mod identities;
mod kv;
mod mark;
#[cfg(feature = "enroll")]
mod renew;
mod rotation;
mod settings;
mod sys;
mod tls;
mod wiped;

pub use approvals::Approvals;
pub use connection::{Client, MAX_REPLY_BYTES, Response};
pub use error::{CertificateProblem, ClientError};
pub use identities::Identities;
pub use kv::{Kv, Reading, pairs_of};
#[cfg(feature = "enroll")]
pub use renew::{BUNDLE_HEADER, bundle_header};
pub use rotation::{RotateConfigChange, Rotation, key_file_text, shares_so_far};
pub use settings::{Settings, check_address};
pub use sys::Sys;
#[cfg(feature = "server")]
pub(crate) use tls::provider as tls_provider;

impl Client {
    /// The KV engine mounted at `mount`, for example `secret`.
    #[must_use]
    pub fn kv<'a>(&'a self, mount: &'a str) -> Kv<'a> {
        Kv::new(self, mount)
    }

    /// The paths below `sys/`.
    #[must_use]
    pub fn sys(&self) -> Sys<'_> {
        Sys::new(self)
    }

    /// Key slots and rotations.
    #[must_use]
    pub fn rotation(&self) -> Rotation<'_> {
        Rotation::new(self)
    }

    /// Requests that wait for other operators.
    #[must_use]
    pub fn approvals(&self) -> Approvals<'_> {
        Approvals::new(self)
    }

    /// Identities, groups, enrolment strings and authorities.
    #[must_use]
    pub fn identities(&self) -> Identities<'_> {
        Identities::new(self)
    }
}
