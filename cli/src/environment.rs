//! The environment and the clock of the process. The only place that reads them.

use std::ffi::OsString;

/// Looks a variable up; a map stands in for it in tests.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment.
#[must_use]
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The real time, Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    #[allow(clippy::disallowed_methods)] // the real process, not the library
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
