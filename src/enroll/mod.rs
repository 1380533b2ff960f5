//! How a program without a certificate gets one: the enrolment string, the proof of possession, and the schedule of
//! renewals. Pure: no I/O, no clock, no random source.

#[cfg(feature = "testing")]
pub(crate) mod fuzz;
pub(crate) mod proof;
pub mod schedule;
pub mod string;

pub use proof::{EXPORTER_LABEL, ProofKey, grace_message};
pub use string::{EnrollString, MAX_ADDRESSES, PREFIX, StringError, is_address};
