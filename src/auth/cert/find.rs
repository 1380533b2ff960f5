//! Finds the role that admits a certificate.

use super::super::glob;
use super::{Kind, Role, RoleRecord};
use crate::pki::outside::{OutsideFacts, issued_under};

/// Returns the role that admits the certificate `facts`, in Vault's order. With `wanted` (a name in canonical form)
/// only that role is tried. Otherwise a role that names this very certificate comes before one that names its
/// authority, and names decide within each kind.
///
/// `anchors` are the authorities (DER) at the end of the certificate's chain, as returned by [`proved_anchors`].
/// `now_ms` is Unix milliseconds. The client's network is not checked here: see [`Role::admits_from`].
#[must_use]
pub fn find<'r>(
    facts: &OutsideFacts,
    anchors: &[&[u8]],
    roles: impl IntoIterator<Item = &'r Role>,
    wanted: Option<&str>,
    now_ms: u64,
) -> Option<&'r Role> {
    if !facts.valid_at(now_ms) {
        return None;
    }
    let mut best: Option<(bool, &Role)> = None;
    for role in roles {
        if wanted.is_some_and(|wanted| wanted != role.name) {
            continue;
        }
        let by_authority = match &role.kind {
            Kind::Pinned(der) if *der == facts.der => false,
            Kind::Authorities(trusted) if trusted.iter().any(|der| anchors.contains(&der.as_slice())) => true,
            _ => continue,
        };
        let earlier = best.is_none_or(|(kind, found)| (by_authority, &role.name) < (kind, &found.name));
        if earlier && meets(facts, &role.record) {
            best = Some((by_authority, role));
        }
    }
    best.map(|(_, role)| role)
}

/// Returns the authorities of `roles` to which the certificate provably chains at `now_ms`. Each authority is tried
/// once.
#[must_use]
pub fn proved_anchors<'r>(
    facts: &OutsideFacts,
    roles: impl IntoIterator<Item = &'r Role>,
    wanted: Option<&str>,
    now_ms: u64,
) -> Vec<&'r [u8]> {
    let mut candidates: Vec<&[u8]> = roles
        .into_iter()
        .filter(|role| wanted.is_none_or(|wanted| wanted == role.name))
        .filter(|role| matches!(role.kind, Kind::Authorities(_)))
        .flat_map(Role::certificates)
        .collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates.retain(|anchor| issued_under(facts, anchor, now_ms));
    candidates
}

/// Whether the facts meet every constraint. An empty list is no constraint.
fn meets(facts: &OutsideFacts, role: &RoleRecord) -> bool {
    // As in Vault, a missing common name counts as the empty text, which only patterns of stars match.
    let common_name = [facts.common_name.clone().unwrap_or_default()];
    let lists: [(&[String], &[&[String]]); 6] = [
        (&role.allowed_names, &[&common_name, &facts.dns_names, &facts.email_names]),
        (&role.allowed_common_names, &[&common_name]),
        (&role.allowed_dns_sans, &[&facts.dns_names]),
        (&role.allowed_email_sans, &[&facts.email_names]),
        (&role.allowed_uri_sans, &[&facts.uris]),
        (&role.allowed_organizational_units, &[&facts.organizational_units]),
    ];
    let any = |patterns: &[String], names: &[&[String]]| {
        patterns.iter().any(|pattern| names.iter().copied().flatten().any(|name| glob::matches(pattern, name)))
    };
    lists.iter().all(|(patterns, names)| patterns.is_empty() || any(patterns, names))
        && role.required_extensions.iter().all(|required| extension(facts, required))
}

fn extension(facts: &OutsideFacts, required: &str) -> bool {
    let Some((hex, oid, pattern)) = split_extension(required) else { return false };
    facts.extensions.get(oid).is_some_and(|found| glob::matches(pattern, if hex { &found.hex } else { &found.text }))
}

/// Splits `oid:pattern` or `hex:oid:pattern` into: whether the hexadecimal form is meant, identifier, pattern.
pub(super) fn split_extension(required: &str) -> Option<(bool, &str, &str)> {
    let (hex, rest) = required.strip_prefix("hex:").map_or((false, required), |rest| (true, rest));
    let (oid, pattern) = rest.split_once(':')?;
    let arcs = oid.split('.');
    let number = |arc: &str| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
    (oid.contains('.') && arcs.clone().all(number)).then_some((hex, oid, pattern))
}
