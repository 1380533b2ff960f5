//! The operator's log, on standard error. It contains no secrets, and lines may be lost. Events that must not be lost
//! are in the audit log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Starts logging at `level` (a `tracing` filter such as `info`), as JSON lines or as text. A second call is ignored.
///
/// # Errors
/// `level` is not a valid filter.
pub fn start(level: &str, json: bool) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
    // Only a test process starts the log twice. The first call wins.
    drop(started);
    Ok(())
}

/// Replaces the panic message with its location, because the message can contain request data and a source line cannot.
/// A panic of an engine over damaged files is not a bug of ours: it becomes an error that says what to do, so its location
/// is only for those who look into the engine.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        if crate::store::in_engine() {
            tracing::warn!(place, "the storage engine failed on its own files; the error that follows says what to do");
            return;
        }
        eprintln!("strongroomd: internal error at {place}; please report it");
    }));
}
