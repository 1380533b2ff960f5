//! Identifiers in SQL.

use super::{ConnectError, permanent};

/// Longest identifier of PostgreSQL in bytes (`NAMEDATALEN` - 1). PostgreSQL cuts a longer one silently, and it would
/// then name another role.
const LONGEST: usize = 63;

/// Quotes `name` as an identifier: in double quotes, with every double quote doubled (PostgreSQL manual, 4.1.1). For
/// every text without NUL the result is one SQL token.
pub(super) fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len().saturating_add(2));
    quoted.push('"');
    for character in name.chars() {
        if character == '"' {
            quoted.push('"');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// Rejects text that cannot be the name of a role.
///
/// # Errors
/// [`ConnectError::Permanent`] for an empty name, a NUL, or more than 63 bytes.
pub(super) fn check_role(name: &str) -> Result<(), ConnectError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.contains('\0') {
        "contains a NUL"
    } else if name.len() > LONGEST {
        "is longer than 63 bytes"
    } else {
        return Ok(());
    };
    Err(permanent(format!("the name of a role {problem}; correct the roles of the target in the configuration")))
}
