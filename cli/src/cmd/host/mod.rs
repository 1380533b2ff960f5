//! The certificate and the profiles of this machine.

pub mod client;
pub mod enroll;
pub mod profile;
pub mod renew;
