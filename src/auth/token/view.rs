//! A token in replies: the `auth` block and the `data` of a lookup.

use std::collections::BTreeMap;

use serde::Serialize;
use zeroize::Zeroizing;

use super::super::cidr::Cidr;
use super::{TokenRecord, ttl_s};
use crate::api::json::write_str;
use crate::api::secret::SecretText;
use crate::api::time::rfc3339_nano;
use crate::wiped::Buffer;

const TYPE: &str = "service";

#[derive(Serialize)]
struct Auth<'a> {
    accessor: &'a str,
    policies: &'a [String],
    token_policies: &'a [String],
    metadata: Option<&'a BTreeMap<String, String>>,
    lease_duration: u64,
    renewable: bool,
    entity_id: &'static str,
    token_type: &'static str,
    orphan: bool,
    mfa_requirement: Option<()>,
    num_uses: u32,
}

#[derive(Serialize)]
struct Lookup<'a> {
    accessor: &'a str,
    creation_time: u64,
    creation_ttl: u64,
    display_name: &'a str,
    entity_id: &'static str,
    expire_time: String,
    explicit_max_ttl: u64,
    issue_time: String,
    meta: Option<&'a BTreeMap<String, String>>,
    num_uses: u32,
    orphan: bool,
    path: &'a str,
    policies: &'a [String],
    renewable: bool,
    ttl: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    #[serde(skip_serializing_if = "<[Cidr]>::is_empty")]
    bound_cidrs: &'a [Cidr],
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_time: Option<u64>,
}

/// The `auth` object of a login, creation or renewal at `now_ms` (Unix milliseconds), in JSON. `text` is the token
/// itself; `None` where it is unknown, as in a renewal by accessor.
#[must_use]
pub fn auth_json(record: &TokenRecord, text: Option<&SecretText>, now_ms: u64) -> Zeroizing<Vec<u8>> {
    let rest = Auth {
        accessor: &record.accessor,
        policies: &record.policies,
        token_policies: &record.policies,
        metadata: some_texts(record),
        lease_duration: ttl_s(record, now_ms),
        renewable: record.renewable,
        entity_id: "",
        token_type: TYPE,
        orphan: record.is_orphan(),
        mfa_requirement: None,
        num_uses: record.uses_left.unwrap_or(0),
    };
    with_secret("client_token", text, &rest)
}

/// The `data` of `lookup-self`, `lookup` and, without `text`, of `lookup-accessor` at `now_ms`, in JSON.
#[must_use]
pub fn lookup_json(record: &TokenRecord, text: Option<&SecretText>, now_ms: u64) -> Zeroizing<Vec<u8>> {
    let renewed = (record.renewed_ms > 0).then_some(record.renewed_ms);
    let rest = Lookup {
        accessor: &record.accessor,
        creation_time: record.created_ms / 1000,
        creation_ttl: record.ttl_s,
        display_name: &record.display_name,
        entity_id: "",
        expire_time: rfc3339_nano(record.expires_ms),
        explicit_max_ttl: record.explicit_max_s,
        issue_time: rfc3339_nano(record.created_ms),
        meta: some_texts(record),
        num_uses: record.uses_left.unwrap_or(0),
        orphan: record.is_orphan(),
        path: &record.path,
        policies: &record.policies,
        renewable: record.renewable,
        ttl: ttl_s(record, now_ms),
        kind: TYPE,
        period: (record.period_s > 0).then_some(record.period_s),
        bound_cidrs: &record.bound_cidrs,
        last_renewal: renewed.map(rfc3339_nano),
        last_renewal_time: renewed.map(|ms| ms / 1000),
    };
    with_secret("id", text, &rest)
}

fn some_texts(record: &TokenRecord) -> Option<&BTreeMap<String, String>> {
    Some(&record.meta).filter(|meta| !meta.is_empty())
}

/// The object `rest` with the secret as its first field.
fn with_secret(field: &str, text: Option<&SecretText>, rest: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let rest = serde_json::to_vec(rest).expect("texts and numbers are always JSON");
    let secret = text.map_or("", SecretText::reveal);
    let mut out = Buffer::with_capacity(rest.len() + 6 * secret.len() + field.len() + 16);
    out.push(b'{');
    write_str(&mut out, field);
    out.push(b':');
    write_str(&mut out, secret);
    out.push(b',');
    out.put(rest.get(1..).unwrap_or_default());
    out.into_bytes()
}
