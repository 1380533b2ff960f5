//! One spelling of what a request names: policies, approvals, limits and the audit log speak of a path as text, routes of
//! its segments, and names of policies and roles are kept in lower case. Two spellings of one thing would be a way
//! around a rule that was written for one of them.

use crate::api::path::Path;

use crate::core::pipeline::route::Tables;
use crate::core::request::Operation;

/// The form in which a path is decided on, audited and routed. A list names a folder; whatever else is asked of the
/// vault's own routes names none, with or without a slash. Below a mount a folder stays one: there it names something
/// else than the secret without the slash.
#[must_use]
pub fn canonical(operation: Operation, path: Path) -> Path {
    if operation == Operation::List {
        path.to_folder()
    } else if path.starts_with_segment("sys") || path.starts_with_segment("auth") {
        path.to_leaf()
    } else {
        path
    }
}

/// A canonical path that names something in capitals, in the one spelling under which it is kept.
pub(in crate::core) fn in_lower_case(tables: &Tables, path: &Path) -> Option<Path> {
    if !path.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let routes = tables.of(path)?;
    // What matches is in lower case but for the name.
    let named = routes.iter().any(|route| route.lower && route.matches(path));
    named.then(|| Path::parse(&path.as_str().to_ascii_lowercase()).ok())?
}
