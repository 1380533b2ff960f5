//! One file for each command: its arguments and what it does.

pub mod access;
pub mod host;
pub mod rotations;
pub mod secrets;
pub mod vault;

use strongroom::api::duration::Ttl;
use strongroom::api::path::Path;
use strongroom::api::secret::SecretText;

use crate::connection::Session;
use crate::exit::{Code, Failure};

/// The current keys and values of a secret.
///
/// # Errors
/// There is no such secret, or its newest version is deleted.
pub fn fetch(session: &Session, path: &Path) -> Result<Vec<(String, SecretText)>, Failure> {
    session.kv().pairs(path)?.ok_or_else(|| no_secret(session, path))
}

/// The failure for a secret that does not exist.
pub fn no_secret(session: &Session, path: &Path) -> Failure {
    let message = format!("there is no secret {path} in {}/ (or its newest version is deleted)", session.mount);
    let lost = session.client.sys().health().is_ok_and(|health| !health.losses.is_empty());
    let hint = "list what exists: strongroom list";
    let hint =
        if lost { format!("{hint}\nlist what was lost and removed: strongroom losses") } else { hint.to_owned() };
    Failure::new(Code::NotFound, message, hint)
}

/// Parses a duration.
///
/// # Errors
/// The text is not a duration.
pub fn span(text: &str) -> Result<Ttl, String> {
    match Ttl::parse(text) {
        Ok(_) if text.is_empty() => Err("a duration is missing, for example 7d".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// Prints the server's warnings.
pub fn warn(warnings: Vec<String>) {
    for warning in warnings {
        eprintln!("strongroom: {warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_span_is_none() {
        assert!(span("").is_err() && span("x").is_err());
        assert_eq!(span("7d"), Ok(Ttl(604_800)));
    }
}
