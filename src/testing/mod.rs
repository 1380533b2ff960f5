//! What the fuzz targets of `fuzz/` and the property tests of `tests/it/fuzz.rs` share: one body for each reader of outside
//! bytes, which states what must hold for any input. Only tests, benches and fuzzers have it (feature `testing`).
//!
//! A body panics when a property does not hold. Where an example is authenticated, the input counts twice: as it stands, and
//! as a list of edits to a genuine example ([`alter`]), because no fuzzer guesses a MAC.

pub(crate) mod alter;
mod mutated;

pub use crate::store::conformance::Random;
pub use mutated::mutated;

/// A reader of outside bytes with what must hold for it.
pub struct Target {
    /// Name of the fuzz target.
    pub name: &'static str,
    /// Checks every property for one input; gives whether the input was accepted.
    ///
    /// # Panics
    /// When a property does not hold.
    pub check: fn(&[u8]) -> bool,
    /// Valid inputs to begin with.
    pub examples: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident: $module:path;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$({
            use $module as module;
            Target { name: stringify!($name), check: module::check, examples: module::examples }
        }),*];
    };
}

targets! {
    path: crate::api::fuzz::path;
    json: crate::api::fuzz::json;
    policy: crate::policy::fuzz;
    header: crate::keys::fuzz::header;
    slot: crate::keys::fuzz::slot;
    record: crate::barrier::fuzz::record;
    anchor: crate::barrier::fuzz::anchor;
    state: crate::barrier::fuzz::state;
    audit_line: crate::audit::fuzz;
    dotenv: crate::dotenv::fuzz;
    crl: crate::pki::outside::fuzz;
    enroll_string: crate::enroll::fuzz;
    http_request: crate::http::fuzz;
}
