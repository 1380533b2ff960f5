//! `sys`: the core's own routes as one table (those of `auth` are in `core/routes/auth`). A route that is not in the
//! table does not exist, and every row must state who may use it.

mod approvals;
pub(in crate::core) mod ca;
mod capabilities;
mod certificates;
mod enrollments;
mod identities;
mod keys;
mod metrics;
mod mounts;
mod policies;
mod quotas;
pub(in crate::core) mod rotation;
pub(in crate::core) mod values;
mod verify;

use crate::barrier::MountId;
use crate::core::live::poll::Poll;
use crate::core::pipeline::route::{Change, Concern, Effect, Inquiry, Named, Route};
use crate::core::request::{data, keys_of};
use crate::core::routes::rows::{delete, list, order, poll, read, write, write_as_read};
use crate::core::state::guarded::Guarded;

/// What reports on identities read: the registered identities and the ledger.
const IDENTITIES: &[MountId] = &[MountId::IDENTITIES, MountId::CERTIFICATES];
/// What reports on rotations read: runs, values, and all certificates.
const ROTATIONS: &[MountId] = &[MountId::ROTATION, MountId::IDENTITIES, MountId::CERTIFICATES];

/// All routes. The raw ones (`health`, `init`, `leader`, `seal-status`, `unseal`) answer while sealed and are methods
/// of [`crate::core::Vault`]. They give no access to data.
pub(in crate::core) static ROUTES: &[Route] = &[
    list("sys/policies/acl", policies::list_acl).over(&[MountId::POLICIES]),
    read("sys/policies/acl", policies::list_acl).over(&[MountId::POLICIES]),
    read("sys/policies/acl/+", policies::read_acl).lower(),
    write("sys/policies/acl/+", policies::write_acl).lower(),
    delete("sys/policies/acl/+", policies::delete_acl).lower(),
    list("sys/policy", policies::list_legacy).over(&[MountId::POLICIES]),
    read("sys/policy", policies::list_legacy).over(&[MountId::POLICIES]),
    read("sys/policy/+", policies::read_legacy).lower(),
    write("sys/policy/+", policies::write_acl).lower(),
    delete("sys/policy/+", policies::delete_acl).lower(),
    read("sys/mounts", mounts::table),
    read("sys/mounts/*", mounts::one),
    read("sys/internal/ui/mounts", mounts::visible).open(),
    read("sys/internal/ui/mounts/*", mounts::preflight).open(),
    read("sys/auth", mounts::auth),
    read("sys/audit", mounts::audit).sudo(),
    write_as_read("sys/capabilities-self", capabilities::of_caller, Effect::None),
    read("sys/key-status", keys::status),
    read("sys/metrics", metrics::read).over(ROTATIONS),
    order("sys/rotate", rotation::rotate),
    read("sys/rotate/config", rotation::read_config),
    write("sys/rotate/config", rotation::write_config).sudo(),
    read("sys/strongroom/terms", rotation::terms),
    list("sys/strongroom/rotations", rotation::list).over(ROTATIONS),
    read("sys/strongroom/rotations", rotation::list).over(ROTATIONS),
    read("sys/strongroom/rotations/+", rotation::one).over(ROTATIONS),
    order("sys/strongroom/rotations/+/+", rotation::steer),
    poll("sys/strongroom/events", |inquiry| Poll::parse(inquiry.body)),
    list("sys/strongroom/values", values::list).over(&[MountId::ROTATION]),
    read("sys/strongroom/values", values::list).over(&[MountId::ROTATION]),
    read("sys/strongroom/values/*", values::one).over(&[MountId::ROTATION]),
    Route { sudo: false, ..order("sys/strongroom/values/*", values::order) },
    read("sys/strongroom/slots", rotation::slots).sudo(),
    order("sys/strongroom/slots/test", rotation::test).secret(),
    order("sys/strongroom/slots/add", rotation::add).secret(),
    order("sys/strongroom/slots/change", rotation::change).secret().concerns(Concern::SlotChange),
    order("sys/strongroom/slots/remove", rotation::remove).secret().concerns(Concern::Class(Guarded::SlotRemove)),
    order("sys/strongroom/rekey", rotation::rekey).secret().concerns(Concern::Rekey),
    write_as_read("sys/strongroom/verify", verify::begin, Effect::None).sudo(),
    read("sys/strongroom/verify", verify::show).sudo(),
    read("sys/strongroom/losses", verify::losses).sudo().over(&[MountId::MISC]),
    write_as_read("sys/seal", keys::seal, Effect::Seal).sudo(),
    list("sys/strongroom/identities", identities::list).over(&[MountId::IDENTITIES]),
    list("sys/strongroom/identities/*", identities::list).over(&[MountId::IDENTITIES]),
    read("sys/strongroom/identities/*", identities::read).over(&[MountId::CERTIFICATES]),
    write("sys/strongroom/identities/*", identities::write),
    delete("sys/strongroom/identities/*", identities::delete),
    read("sys/strongroom/identity-report", identities::report).over(IDENTITIES),
    write("sys/strongroom/disable/*", identities::disable),
    write("sys/strongroom/enable/*", identities::enable),
    write("sys/strongroom/revoke/*", identities::revoke).concerns(Concern::Power(Named::Tail)),
    list("sys/strongroom/groups", identities::list_groups),
    read("sys/strongroom/groups", identities::list_groups),
    read("sys/strongroom/groups/+", identities::read_group),
    write("sys/strongroom/groups/+", identities::write_group),
    delete("sys/strongroom/groups/+", identities::delete_group),
    list("sys/strongroom/enrollments", enrollments::list).over(&[MountId::ENROLMENTS]),
    read("sys/strongroom/enrollments", enrollments::list).over(&[MountId::ENROLMENTS]),
    write("sys/strongroom/enrollments/*", enrollments::create).sudo().concerns(Concern::Power(Named::Tail)),
    delete("sys/strongroom/enrollments/+", enrollments::delete),
    write("sys/strongroom/renew", certificates::renew).about_self(),
    read("sys/strongroom/ca", ca::read).open(),
    read("sys/strongroom/ca/stragglers", ca::stragglers).over(IDENTITIES),
    write("sys/strongroom/ca/prepare", ca::prepare).sudo(),
    write("sys/strongroom/ca/compromise", ca::compromise).sudo().concerns(Concern::Class(Guarded::CaCompromise)),
    write("sys/strongroom/ca/request", ca::request).sudo(),
    write("sys/strongroom/ca/import", ca::import).sudo(),
    write("sys/strongroom/ca/+/+", ca::step).sudo().concerns(Concern::AuthorityStep),
    read("sys/strongroom/crl", ca::crl).open().over(IDENTITIES),
    write("sys/strongroom/certificates", certificates::sign).sudo().concerns(Concern::Power(Named::Field("identity"))),
    list("sys/strongroom/approvals", approvals::list).over(&[MountId::APPROVALS]),
    read("sys/strongroom/approvals", approvals::list).over(&[MountId::APPROVALS]),
    read("sys/strongroom/approvals/+", approvals::read),
    write("sys/strongroom/approvals/+/+", approvals::decide).concerns(Concern::Nothing),
    list("sys/quotas/rate-limit", quotas::list),
    read("sys/quotas/rate-limit", quotas::list),
    read("sys/quotas/rate-limit/+", quotas::read),
    write("sys/quotas/rate-limit/+", quotas::write),
    delete("sys/quotas/rate-limit/+", quotas::delete),
    read("sys/quotas/config", quotas::config),
    read("sys/strongroom/audit-head", keys::audit_head).sudo(),
    read("sys/strongroom/audit-key", keys::audit_key).sudo().concerns(Concern::Class(Guarded::Export)),
    read("sys/strongroom/audit-public-key", keys::audit_public_key),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::path::Path;
    use crate::api::reply::Reply;
    use crate::api::request::Operation;
    use crate::barrier::Tx;
    use crate::core::commit::change::Done;
    use crate::core::error::VaultError;
    use crate::core::pipeline::route::Guard::{AboutSelf, Open};
    use crate::core::pipeline::route::Run;
    use crate::core::pipeline::route::find_in;
    use crate::core::rotation::Order;

    fn find(operation: Operation, path: &Path) -> Result<&'static Route, VaultError> {
        find_in(ROUTES, operation, path)
    }

    #[test]
    fn rows_are_reachable_and_unique() {
        for (n, route) in ROUTES.iter().enumerate() {
            let path = Path::parse(&route.pattern.replace('+', "a").replace('*', "a/b")).expect("canonical");
            let Ok(found) = find(route.operation, &path) else { panic!("{} is not found", route.pattern) };
            assert!(std::ptr::eq(found, route), "{} is hidden by {}", route.pattern, found.pattern);
            let twins = ROUTES.iter().skip(n + 1);
            assert!(
                twins.into_iter().all(|other| (other.operation, other.pattern) != (route.operation, route.pattern))
            );
        }
    }

    #[test]
    fn few_routes_are_open_to_everybody() {
        let open: Vec<_> = ROUTES.iter().filter(|route| route.guard == Open).map(|route| route.pattern).collect();
        let public = ["sys/internal/ui/mounts", "sys/internal/ui/mounts/*", "sys/strongroom/ca", "sys/strongroom/crl"];
        assert_eq!(open, public);
        assert!(ROUTES.iter().all(|route| route.guard != Open || !route.mutates()));
        let own: Vec<_> = ROUTES.iter().filter(|route| route.guard == AboutSelf).map(|route| route.pattern).collect();
        assert_eq!(own, ["sys/strongroom/renew"]);
    }

    /// Whatever a row is called: who gets at these handlers is looked at.
    #[test]
    fn every_row_of_a_guarded_class_says_so() {
        let class = Concern::Class;
        type Ordered = fn(&Inquiry<'_>) -> Result<Order, VaultError>;
        type Written = fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>;
        type Shown = fn(&Inquiry<'_>) -> Result<Reply, VaultError>;
        let orders: [(Ordered, Concern); 3] = [
            (rotation::change, Concern::SlotChange),
            (rotation::remove, class(Guarded::SlotRemove)),
            (rotation::rekey, Concern::Rekey),
        ];
        let writes: [(Written, Concern); 6] = [
            (ca::compromise, class(Guarded::CaCompromise)),
            (ca::step, Concern::AuthorityStep),
            (identities::revoke, Concern::Power(Named::Tail)),
            (enrollments::create, Concern::Power(Named::Tail)),
            (certificates::sign, Concern::Power(Named::Field("identity"))),
            (approvals::decide, Concern::Nothing),
        ];
        let shown: [(Shown, Concern); 1] = [(keys::audit_key, class(Guarded::Export))];
        let mut rows = 0;
        for route in ROUTES {
            let want = match route.run {
                Run::Order(run) => {
                    orders.iter().find(|(own, _)| std::ptr::fn_addr_eq(*own, run)).map(|(_, want)| *want)
                }
                Run::Write(run) => {
                    writes.iter().find(|(own, _)| std::ptr::fn_addr_eq(*own, run)).map(|(_, want)| *want)
                }
                Run::Read(run, _) => {
                    shown.iter().find(|(own, _)| std::ptr::fn_addr_eq(*own, run)).map(|(_, want)| *want)
                }
                Run::Poll(_) => None,
            };
            rows += usize::from(want.is_some());
            assert_eq!(route.concern, want.unwrap_or(Concern::Power(Named::Nobody)), "{}", route.pattern);
        }
        assert_eq!(rows, 10, "each handler has its row");
    }

    proptest! {
        #[test]
        fn a_tail_is_what_the_pattern_leaves_open(tail in "[a-z]{1,5}(/[a-z]{1,5}){0,4}") {
            let path = Path::parse(&format!("sys/strongroom/identities/{tail}")).expect("canonical");
            let Ok(route) = find(Operation::Read, &path) else { panic!("no route for {path}") };
            prop_assert_eq!(route.tail(&path), tail);
        }
    }
}
