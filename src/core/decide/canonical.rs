//! One form of everything that a request names. Policies, approvals, limits and the audit log use a path as text,
//! routes use its segments, and names of policies and roles are stored in lower case. A second form would bypass a
//! rule that was written for the first one.

use crate::api::path::Path;
use crate::api::request::Operation;

use crate::core::pipeline::route::Tables;

/// The form in which a path is decided, audited and routed. A list names a folder. Every other operation on the vault's
/// own routes names no folder, with or without a trailing slash. Below a mount a folder stays a folder, because there it
/// differs from the secret without the slash.
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

/// Converts a canonical path with capitals to the form under which it is stored. `None` if it has that form already.
pub(in crate::core) fn in_lower_case(tables: &Tables, path: &Path) -> Option<Path> {
    if !path.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let routes = tables.of(path)?;
    // Everything that matches is in lower case, except the name.
    let named = routes.iter().any(|route| route.lower && route.matches(path));
    named.then(|| Path::parse(&path.as_str().to_ascii_lowercase()).ok())?
}
