//! Errors of the server.

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Tls(&'static str),
    /// The listener failed.
    #[error("listening for connections")]
    Listener(#[from] std::io::Error),
}
