//! What both ends of an enrolment agree on: the string, the proof, what an expired certificate's key signs. Pure.

mod proof;
mod string;

pub use proof::{EXPORTER_LABEL, grace_message, proof, proof_fits, proof_key};
pub use string::{EnrollString, MAX_ADDRESSES, PREFIX, StringError};
