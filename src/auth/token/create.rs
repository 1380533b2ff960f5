//! Creates tokens, at a login or from other tokens.

use std::collections::BTreeMap;

use super::super::cert::Role;
use super::super::names::{DEFAULT_POLICY, policies};
use super::life::end_ms;
use super::record::VERSION;
use super::{CreateBody, Limits, TokenError, TokenRecord};
use crate::api::hex::hex;
use crate::api::spiffe::SpiffeId;
use crate::pki::outside::OutsideFacts;

/// The creator of a token.
#[derive(Clone, Copy, Debug)]
pub struct Creator<'a> {
    /// Identity of the connection.
    pub identity: &'a SpiffeId,
    /// All policies that decided the request, including `default` where it applies.
    pub policies: &'a [String],
    /// Whether a policy grants `sudo` on the path of the request.
    pub sudo: bool,
    /// The token of the request, if any.
    pub parent: Option<&'a TokenRecord>,
}

/// A new token. It is stored under the id of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The record.
    pub record: TokenRecord,
    /// Texts for `warnings` in the reply.
    pub warnings: Vec<String>,
}

/// Builds the record of the token that `creator` asks for at `now_ms` (Unix milliseconds). `accessor` is a new one.
///
/// The token works for the creator's identity only, and it inherits the restrictions of the creator's own token. A
/// creator without a token creates orphans.
///
/// # Errors
/// [`TokenError::NotSubset`] for policies that the creator does not have; [`TokenError::Orphan`] and
/// [`TokenError::Periodic`] without the right to make such a token; [`TokenError::Restricted`] when the creator's token
/// has limited uses; [`TokenError::Name`] for a policy's name that is rejected.
pub fn create(
    body: &CreateBody,
    creator: &Creator<'_>,
    accessor: String,
    limits: &Limits,
    now_ms: u64,
) -> Result<Issued, TokenError> {
    let parent = creator.parent;
    // A child would outlive the uses of its parent.
    if parent.is_some_and(|parent| parent.uses_left.is_some()) {
        return Err(TokenError::Restricted);
    }
    if body.no_parent && parent.is_some() && !creator.sudo {
        return Err(TokenError::Orphan);
    }
    if body.period_s > 0 && !creator.sudo {
        return Err(TokenError::Periodic);
    }
    let chosen = chosen_policies(body, creator)?;
    // The certificate and networks of the parent apply to the child too: a token must not escape its own restrictions.
    let record = TokenRecord {
        v: VERSION,
        accessor,
        identity: creator.identity.uri().to_owned(),
        certificate: parent.and_then(|parent| parent.certificate.clone()),
        display_name: display_name(&body.display_name),
        path: "auth/token/create".to_owned(),
        policies: chosen,
        no_default: body.no_default_policy,
        created_ms: now_ms,
        renewed_ms: 0,
        expires_ms: 0,
        ttl_s: 0,
        max_ttl_s: 0,
        explicit_max_s: body.explicit_max_ttl_s,
        period_s: body.period_s.min(limits.max_ttl_s),
        renewable: body.renewable.unwrap_or(true),
        uses_left: (body.num_uses > 0).then_some(body.num_uses),
        bound_cidrs: parent.map(|parent| parent.bound_cidrs.clone()).unwrap_or_default(),
        parent: parent.filter(|_| !body.no_parent).map(|parent| parent.accessor.clone()),
        meta: body.meta.clone(),
        role: None,
    };
    Ok(begin(record, body.ttl_s, limits))
}

/// Builds the record of the token that a login by `role` with the certificate `facts` gives at `now_ms` (Unix
/// milliseconds). It works for `identity` with this very certificate.
#[must_use]
pub fn login(
    role: &Role,
    facts: &OutsideFacts,
    identity: &SpiffeId,
    accessor: String,
    limits: &Limits,
    now_ms: u64,
) -> Issued {
    let settings = &role.record.token;
    let meta = [
        ("cert_name", role.name.as_str()),
        ("common_name", facts.common_name.as_deref().unwrap_or_default()),
        ("serial_number", &facts.serial_number),
        ("subject_key_id", &facts.subject_key_id),
        ("authority_key_id", &facts.authority_key_id),
    ];
    let record = TokenRecord {
        v: VERSION,
        accessor,
        identity: identity.uri().to_owned(),
        // With any other certificate the token is worth nothing, even if the same role would admit it.
        certificate: Some(hex(&facts.fingerprint)),
        display_name: format!("cert-{}", role.record.display_name),
        path: "auth/cert/login".to_owned(),
        policies: settings.effective_policies(),
        no_default: settings.no_default_policy,
        created_ms: now_ms,
        renewed_ms: 0,
        expires_ms: 0,
        ttl_s: 0,
        max_ttl_s: settings.max_ttl_s,
        explicit_max_s: settings.explicit_max_ttl_s,
        period_s: settings.period_s.min(limits.max_ttl_s),
        renewable: true,
        uses_left: (settings.num_uses > 0).then_some(settings.num_uses),
        bound_cidrs: settings.bound_cidrs.clone(),
        parent: None,
        meta: meta.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        role: Some(role.name.clone()),
    };
    begin(record, settings.ttl_s, limits)
}

fn begin(mut record: TokenRecord, ttl_s: u64, limits: &Limits) -> Issued {
    let mut warnings = Vec::new();
    let wanted_s = if ttl_s > 0 { ttl_s } else { limits.default_ttl_s };
    // The default life is shortened without a warning, because nobody asked for it.
    let silent = ttl_s == 0 && record.period_s == 0;
    record.expires_ms = end_ms(&record, wanted_s, limits, record.created_ms, &mut warnings);
    record.ttl_s = record.expires_ms.saturating_sub(record.created_ms) / 1000;
    if silent {
        warnings.clear();
    }
    Issued { record, warnings }
}

fn chosen_policies(body: &CreateBody, creator: &Creator<'_>) -> Result<Vec<String>, TokenError> {
    let has = |name: &str| creator.policies.iter().any(|own| own == name);
    let wanted = body.policies.as_deref().unwrap_or(creator.policies);
    // Converted again here, so that no caller of this function can introduce another form, or `root`.
    let mut chosen = policies(wanted.iter().map(String::as_str))?;
    if !creator.sudo && !chosen.iter().all(|name| has(name)) {
        return Err(TokenError::NotSubset);
    }
    if body.no_default_policy {
        // Inherited policies lose it. One that was asked for by name stays.
        if body.policies.is_none() {
            chosen.retain(|name| name != DEFAULT_POLICY);
        }
    } else if creator.sudo || has(DEFAULT_POLICY) {
        chosen.push(DEFAULT_POLICY.to_owned());
        chosen.sort_unstable();
        chosen.dedup();
    }
    Ok(chosen)
}

/// `token`, or `token-` and the name, in which everything except letters, digits and `-` is replaced, as in Vault.
fn display_name(wanted: &str) -> String {
    let clean = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '-' };
    let name: String = "token-".chars().chain(wanted.chars().map(clean)).collect();
    name.trim_end_matches('-').to_owned()
}
