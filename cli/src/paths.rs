//! Paths of secrets as people type them.

use strongroom::api::path::Path as SecretPath;

use crate::exit::Failure;

/// Parses a secret's path. Also accepts `secret/app/prod` and `secret/data/app/prod`, which people type out of habit,
/// for `app/prod`.
///
/// # Errors
/// The text is not a valid path (exit code 2).
pub fn secret_path(typed: &str, mount: &str) -> Result<SecretPath, Failure> {
    let path = folder_path(typed, mount)?;
    if path.is_root() {
        return Err(Failure::usage("a secret needs a name", "for example: app/prod"));
    }
    Ok(path.to_leaf())
}

/// As [`secret_path`], but for a folder, which may be the root.
///
/// # Errors
/// The text is not a valid path (exit code 2).
pub fn folder_path(typed: &str, mount: &str) -> Result<SecretPath, Failure> {
    let inside = typed.trim_start_matches('/');
    let inside = match inside.strip_prefix(mount) {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => {
            let rest = rest.trim_start_matches('/');
            rest.strip_prefix("data/").unwrap_or(rest)
        }
        _ => inside,
    };
    SecretPath::parse(inside).map_err(|error| Failure::usage(error.to_string(), "for example: app/prod"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_typed_by_habit_mean_the_same_secret() {
        for text in ["app/prod", "/app/prod", "secret/app/prod", "secret/data/app/prod", "app/prod/"] {
            assert_eq!(secret_path(text, "secret").unwrap().as_str(), "app/prod", "{text}");
        }
        assert_eq!(secret_path("secrets/x", "secret").unwrap().as_str(), "secrets/x");
        assert!(secret_path("", "secret").is_err());
        assert!(secret_path("secret", "secret").is_err());
        assert!(secret_path("a/../b", "secret").is_err());
        assert!(folder_path("secret/", "secret").unwrap().is_root());
    }
}
