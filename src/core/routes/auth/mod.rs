//! `auth`: roles for certificates of outside PKIs, and tokens. The same kind of table as that of `sys`.

mod certs;
mod crls;
mod tokens;

use crate::auth::cert::RoleError;
use crate::auth::token::TokenError;
use crate::barrier::MountId;
use crate::crypto::CryptoError;

use crate::core::error::VaultError;
use crate::core::pipeline::route::{Effect, Route, delete, list, read, write, write_as_read};

/// Every route.
pub(in crate::core) static ROUTES: &[Route] = &[
    list("auth/cert/certs", certs::list),
    read("auth/cert/certs", certs::list),
    read("auth/cert/certs/+", certs::read).lower(),
    write("auth/cert/certs/+", certs::write).lower(),
    delete("auth/cert/certs/+", certs::delete).lower(),
    list("auth/cert/crls", crls::list),
    read("auth/cert/crls", crls::list),
    read("auth/cert/crls/+", crls::read).lower(),
    write("auth/cert/crls/+", crls::write).lower(),
    delete("auth/cert/crls/+", crls::delete).lower(),
    write("auth/cert/login", certs::login).login(),
    write("auth/token/create", tokens::create),
    write("auth/token/create-orphan", tokens::create_orphan).sudo(),
    read("auth/token/lookup-self", tokens::lookup_self).own(),
    write_as_read("auth/token/lookup-self", tokens::lookup_self, Effect::None).own(),
    write_as_read("auth/token/lookup", tokens::lookup, Effect::None),
    write_as_read("auth/token/lookup-accessor", tokens::lookup_accessor, Effect::None),
    write("auth/token/renew-self", tokens::renew_self).own(),
    write("auth/token/renew", tokens::renew),
    write("auth/token/renew-accessor", tokens::renew_accessor),
    write("auth/token/revoke-self", tokens::revoke_self).own(),
    write("auth/token/revoke", tokens::revoke),
    write("auth/token/revoke-accessor", tokens::revoke_accessor),
    write("auth/token/revoke-orphan", tokens::revoke_orphan).sudo(),
    write("auth/token/tidy", tokens::tidy),
    list("auth/token/accessors", tokens::accessors).sudo().over(&[MountId::TOKENS]),
    read("auth/token/accessors", tokens::accessors).sudo().over(&[MountId::TOKENS]),
];

/// What a caller learns of a role that is refused.
fn role_refused(error: RoleError) -> VaultError {
    match error {
        RoleError::Record => VaultError::Integrity,
        error => VaultError::BadRequest(error.to_string()),
    }
}

/// What a caller learns of a request about a token that is refused.
fn token_refused(error: TokenError) -> VaultError {
    match error {
        TokenError::Record => VaultError::Integrity,
        error => VaultError::BadRequest(error.to_string()),
    }
}

/// No randomness.
fn no_random(_: CryptoError) -> VaultError {
    VaultError::Internal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::path::Path;
    use crate::core::pipeline::route::{Guard, find_in};

    #[test]
    fn rows_are_reachable_and_few_need_no_policy() {
        for route in ROUTES {
            let path = Path::parse(&route.pattern.replace('+', "a")).expect("canonical");
            let Ok(found) = find_in(ROUTES, route.operation, &path) else { panic!("{} is not found", route.pattern) };
            assert!(std::ptr::eq(found, route), "{} is hidden by {}", route.pattern, found.pattern);
        }
        assert!(ROUTES.iter().all(|route| route.guard != Guard::Open));
        let mut own: Vec<_> = ROUTES.iter().filter(|route| route.guard.is_own()).map(|route| route.pattern).collect();
        own.dedup();
        let about_oneself = ["cert/login", "token/lookup-self", "token/renew-self", "token/revoke-self"];
        assert_eq!(own, about_oneself.map(|path| format!("auth/{path}")));
    }
}
