//! Names in one canonical form. They are converted to it first and checked afterwards.

use crate::api::path::Path;

/// The policy that every token gets unless it asks not to.
pub const DEFAULT_POLICY: &str = "default";
/// Largest number of policies of one role or token.
pub const MAX_POLICIES: usize = 64;
/// Clients expect a policy of this name to be all-powerful. It does not exist here.
const ROOT_POLICY: &str = "root";
const MAX_ROLE_NAME: usize = 128;

/// Why a name is rejected. Does not repeat the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The policy `root` was asked for.
    #[error("the policy \"root\" does not exist here")]
    Root,
    /// The name is not a single path segment.
    #[error("a policy name is one path segment")]
    Policy,
    /// More than [`MAX_POLICIES`].
    #[error("more than 64 policies")]
    TooMany,
    /// The name is not a valid role name.
    #[error("a role name is 1 to 128 characters of [a-z0-9_.-] and does not start or end with . or -")]
    Role,
}

/// Converts policy names to their canonical form: no spaces around them, lower case, sorted, no duplicates.
///
/// # Errors
/// The [`NameError`] for the first name that is rejected. The check for `root` comes after the conversion, so that no
/// other form of it gets through.
pub fn policies<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, NameError> {
    let mut found = Vec::new();
    for name in names {
        let name = name.trim().to_lowercase();
        let one_segment = Path::parse(&name).is_ok_and(|path| !path.is_folder() && path.segments().count() == 1);
        if !one_segment {
            return Err(NameError::Policy);
        }
        if name == ROOT_POLICY {
            return Err(NameError::Root);
        }
        if found.len() == MAX_POLICIES {
            return Err(NameError::TooMany);
        }
        found.push(name);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Converts a role's name to its canonical form, which is lower case.
///
/// # Errors
/// [`NameError::Role`] when the text cannot name a role.
pub fn role_name(raw: &str) -> Result<String, NameError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inside = raw.len() <= MAX_ROLE_NAME && raw.bytes().all(|byte| word(byte) || b".-".contains(&byte));
    let ends = [raw.bytes().next(), raw.bytes().last()].into_iter().all(|byte| byte.is_some_and(word));
    if inside && ends { Ok(raw.to_ascii_lowercase()) } else { Err(NameError::Role) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_one_spelling() {
        assert_eq!(policies([" Web ", "app", "web"]), Ok(vec!["app".to_owned(), "web".to_owned()]));
        for root in ["root", "ROOT", " root", "Root\t", "\u{a0}root"] {
            assert_eq!(policies(["a", root]), Err(NameError::Root), "{root:?}");
        }
        for bad in ["", " ", "a/b", "a/", "é", "a b", "..", "a*"] {
            assert_eq!(policies([bad]), Err(NameError::Policy), "{bad:?}");
        }
        let many: Vec<String> = (0..=MAX_POLICIES).map(|n| format!("p{n}")).collect();
        assert_eq!(policies(many.iter().map(String::as_str)), Err(NameError::TooMany));

        assert_eq!(role_name("Web_1.a-b"), Ok("web_1.a-b".to_owned()));
        for bad in ["", "-a", "a-", ".", "a/b", "é", "a b", &"a".repeat(129)] {
            assert_eq!(role_name(bad), Err(NameError::Role), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn spelling_is_settled(names in proptest::collection::vec("\\PC{0,6}|[rR][oO]{2}[tT]", 0..4)) {
            if let Ok(found) = policies(names.iter().map(String::as_str)) {
                prop_assert!(!found.iter().any(|name| name.eq_ignore_ascii_case("root")));
                prop_assert_eq!(policies(found.iter().map(String::as_str)), Ok(found.clone()));
            }
            if let Some(Ok(name)) = names.first().map(|name| role_name(name)) {
                prop_assert_eq!(role_name(&name), Ok(name.clone()));
            }
        }
    }
}
