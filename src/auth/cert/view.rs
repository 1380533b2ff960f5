//! A role as `GET auth/cert/certs/<name>` shows it.

use serde::Serialize;

use super::super::cidr::Cidr;
use super::Role;

/// The fields of Vault's reply. Those of features that do not exist here have the value for "off". Times are in
/// seconds.
#[derive(Debug, Serialize)]
pub struct RoleView<'a> {
    certificate: &'a str,
    display_name: &'a str,
    allowed_names: &'a [String],
    allowed_common_names: &'a [String],
    allowed_dns_sans: &'a [String],
    allowed_email_sans: &'a [String],
    allowed_uri_sans: &'a [String],
    allowed_organizational_units: &'a [String],
    required_extensions: &'a [String],
    allowed_metadata_extensions: [String; 0],
    ocsp_ca_certificates: &'static str,
    ocsp_enabled: bool,
    ocsp_servers_override: [String; 0],
    ocsp_fail_open: bool,
    ocsp_query_all_servers: bool,
    ocsp_this_update_max_age: u64,
    ocsp_max_retries: u64,
    token_bound_cidrs: &'a [Cidr],
    token_explicit_max_ttl: u64,
    token_max_ttl: u64,
    token_no_default_policy: bool,
    token_num_uses: u32,
    token_period: u64,
    token_policies: &'a [String],
    token_ttl: u64,
    token_type: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    ttl: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_ttl: u64,
    #[serde(skip_serializing_if = "is_zero")]
    period: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    policies: &'a [String],
    #[serde(skip_serializing_if = "<[Cidr]>::is_empty")]
    bound_cidrs: &'a [Cidr],
}

// The attribute `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Role {
    /// The `data` of the reply.
    #[must_use]
    pub fn view(&self) -> RoleView<'_> {
        let (record, token) = (&self.record, &self.record.token);
        RoleView {
            certificate: &record.certificate,
            display_name: &record.display_name,
            allowed_names: &record.allowed_names,
            allowed_common_names: &record.allowed_common_names,
            allowed_dns_sans: &record.allowed_dns_sans,
            allowed_email_sans: &record.allowed_email_sans,
            allowed_uri_sans: &record.allowed_uri_sans,
            allowed_organizational_units: &record.allowed_organizational_units,
            required_extensions: &record.required_extensions,
            allowed_metadata_extensions: [],
            ocsp_ca_certificates: "",
            ocsp_enabled: false,
            ocsp_servers_override: [],
            ocsp_fail_open: false,
            ocsp_query_all_servers: false,
            ocsp_this_update_max_age: 0,
            ocsp_max_retries: 0,
            token_bound_cidrs: &token.bound_cidrs,
            token_explicit_max_ttl: token.explicit_max_ttl_s,
            token_max_ttl: token.max_ttl_s,
            token_no_default_policy: token.no_default_policy,
            token_num_uses: token.num_uses,
            token_period: token.period_s,
            token_policies: &token.policies,
            token_ttl: token.ttl_s,
            token_type: "default",
            ttl: token.ttl_s,
            max_ttl: token.max_ttl_s,
            period: token.period_s,
            policies: &token.policies,
            bound_cidrs: &token.bound_cidrs,
        }
    }
}
