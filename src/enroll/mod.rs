//! How a program without a certificate gets one: the enrolment string, what proves that it is held, and when a
//! certificate is renewed. Pure: no I/O, no clock, no randomness of its own.

pub mod proof;
pub mod schedule;
pub mod string;

pub use proof::{EXPORTER_LABEL, ProofKey, grace_message};
pub use string::{EnrollString, MAX_ADDRESSES, PREFIX, StringError, is_address};
