//! Identifiers of SQL.

use super::{ConnectError, permanent};

/// Longest identifier of PostgreSQL in bytes (`NAMEDATALEN` - 1). A longer one would be cut silently, and name another role.
const LONGEST: usize = 63;

/// `name` as a quoted identifier: between double quotes, every double quote doubled (PostgreSQL manual, 4.1.1). Total;
/// what comes out is one token of SQL for every text without NUL.
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

/// Refuses what cannot be the name of a role.
///
/// # Errors
/// [`ConnectError::Permanent`] for an empty name, a NUL and more than 63 bytes.
pub(super) fn check_role(name: &str) -> Result<(), ConnectError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.contains('\0') {
        "holds a NUL"
    } else if name.len() > LONGEST {
        "is longer than 63 bytes"
    } else {
        return Ok(());
    };
    Err(permanent(format!("the name of a role {problem}; correct the roles of the target in the configuration")))
}
