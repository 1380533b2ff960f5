//! The environment and clock of the process. Only this module reads them.

use std::ffi::OsString;

/// Looks up a variable. Tests use a map instead.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment.
#[must_use]
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The real time in Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    #[allow(clippy::disallowed_methods)] // the real process, not the library
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
