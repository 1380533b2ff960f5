//! `auth`: roles for certificates of outside PKIs, and tokens. The table has the same form as that of `sys`.

mod certs;
mod crls;
mod tokens;

use crate::barrier::{MountId, Tx};

use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Change, Concern, Effect, Named, Route};
use crate::core::routes::rows::{delete, list, read, write, write_as_read};

/// All routes.
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
    // Without its list a revoked certificate is accepted again. Adding lists only takes rights away.
    delete("auth/cert/crls/+", crls::delete).lower().concerns(Concern::Power(Named::Outside)),
    write("auth/cert/login", certs::login).login(),
    less_power("auth/token/create", tokens::create),
    less_power("auth/token/create-orphan", tokens::create_orphan).sudo(),
    read("auth/token/lookup-self", tokens::lookup_self).about_self(),
    write_as_read("auth/token/lookup-self", tokens::lookup_self, Effect::None).about_self(),
    write_as_read("auth/token/lookup", tokens::lookup, Effect::None),
    write_as_read("auth/token/lookup-accessor", tokens::lookup_accessor, Effect::None),
    less_power("auth/token/renew-self", tokens::renew_self).about_self(),
    less_power("auth/token/renew", tokens::renew),
    less_power("auth/token/renew-accessor", tokens::renew_accessor),
    less_power("auth/token/revoke-self", tokens::revoke_self).about_self(),
    less_power("auth/token/revoke", tokens::revoke),
    less_power("auth/token/revoke-accessor", tokens::revoke_accessor),
    less_power("auth/token/revoke-orphan", tokens::revoke_orphan).sudo(),
    less_power("auth/token/tidy", tokens::tidy),
    list("auth/token/accessors", tokens::accessors).sudo().over(&[MountId::TOKENS]),
    read("auth/token/accessors", tokens::accessors).sudo().over(&[MountId::TOKENS]),
];

/// A change of tokens. It gives nobody power, because a token never grants more than its identity has.
const fn less_power(pattern: &'static str, run: fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>) -> Route {
    write(pattern, run).concerns(Concern::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::path::Path;
    use crate::api::request::Operation;
    use crate::core::pipeline::route::{Guard, find_in};

    #[test]
    fn rows_are_reachable_and_few_need_no_policy() {
        for route in ROUTES {
            let path = Path::parse(&route.pattern.replace('+', "a")).expect("canonical");
            let Ok(found) = find_in(ROUTES, route.operation, &path) else { panic!("{} is not found", route.pattern) };
            assert!(std::ptr::eq(found, route), "{} is hidden by {}", route.pattern, found.pattern);
        }
        assert!(ROUTES.iter().all(|route| route.guard != Guard::Open));
        // Whoever deletes a list makes certificates count again; tokens only narrow.
        for route in ROUTES.iter().filter(|route| route.mutates()) {
            let want = match route.pattern {
                "auth/cert/crls/+" if route.operation == Operation::Delete => Concern::Power(Named::Outside),
                pattern if pattern.starts_with("auth/token/") => Concern::Nothing,
                _ => Concern::Power(Named::Nobody),
            };
            assert_eq!(route.concern, want, "{}", route.pattern);
        }
        let mut own: Vec<_> =
            ROUTES.iter().filter(|route| route.guard.is_about_self()).map(|route| route.pattern).collect();
        own.dedup();
        let about_oneself = ["cert/login", "token/lookup-self", "token/renew-self", "token/revoke-self"];
        assert_eq!(own, about_oneself.map(|path| format!("auth/{path}")));
    }
}
