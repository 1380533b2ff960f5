//! Request bodies of `auth/cert`.

use super::super::cidr;
use super::super::names::{policies, role_name};
use super::find::split_extension;
use super::{MAX_PEM_BYTES, Role, RoleError, RoleRecord};
use crate::api::fields::{FieldError, Fields};
use crate::api::request::Body;

pub(super) const KNOWN: &[&str] = &[
    "name",
    "certificate",
    "display_name",
    "allowed_names",
    "allowed_common_names",
    "allowed_dns_sans",
    "allowed_email_sans",
    "allowed_uri_sans",
    "allowed_organizational_units",
    "required_extensions",
    "policies",
    "token_policies",
    "ttl",
    "lease",
    "token_ttl",
    "max_ttl",
    "token_max_ttl",
    "period",
    "token_period",
    "bound_cidrs",
    "token_bound_cidrs",
    "token_no_default_policy",
    "token_num_uses",
    "token_explicit_max_ttl",
    "token_type",
];

const NO_OCSP: &str =
    "this server contacts no other server; revoke by deleting the role, or use short-lived certificates";

const REFUSED: &[(&str, &str)] = &[
    ("allowed_metadata_extensions", "extensions are not copied into tokens"),
    ("ocsp_enabled", NO_OCSP),
    ("ocsp_ca_certificates", NO_OCSP),
    ("ocsp_servers_override", NO_OCSP),
    ("ocsp_fail_open", NO_OCSP),
    ("ocsp_query_all_servers", NO_OCSP),
    ("ocsp_this_update_max_age", NO_OCSP),
    ("ocsp_max_retries", NO_OCSP),
];

const MAX_DISPLAY_NAME: usize = 128;

impl Role {
    /// Reads the body of `POST auth/cert/certs/<name>`. Absent fields keep their value from `existing`.
    ///
    /// `authorities` holds the certificates (DER) of the vault's own authorities.
    ///
    /// # Errors
    /// The [`RoleError`] for the first wrong field. Each text can be sent with a 400.
    pub fn from_body(
        name: &str,
        body: &Body,
        existing: Option<&RoleRecord>,
        authorities: &[&[u8]],
    ) -> Result<Self, RoleError> {
        // One list of fields, because their order here decides which error the caller is told.
        let name = role_name(name)?;
        let fields = Fields::with_refused(body.object(), KNOWN, REFUSED)?;
        let mut record = existing.cloned().unwrap_or_else(|| RoleRecord::empty(&name));
        if let Some(pem) = fields.text_within("certificate", MAX_PEM_BYTES)? {
            record.certificate = pem;
        } else if existing.is_none() {
            return Err(FieldError::Missing("certificate").into());
        }
        if let Some(text) = fields.text_within("display_name", MAX_DISPLAY_NAME)? {
            if text.chars().any(char::is_control) {
                return Err(FieldError::Must("display_name", "without control characters").into());
            }
            record.display_name = if text.is_empty() { name.clone() } else { text };
        }
        for (field, list) in [
            ("allowed_names", &mut record.allowed_names),
            ("allowed_common_names", &mut record.allowed_common_names),
            ("allowed_dns_sans", &mut record.allowed_dns_sans),
            ("allowed_email_sans", &mut record.allowed_email_sans),
            ("allowed_uri_sans", &mut record.allowed_uri_sans),
            ("allowed_organizational_units", &mut record.allowed_organizational_units),
            ("required_extensions", &mut record.required_extensions),
        ] {
            if let Some(given) = fields.list(field)? {
                *list = given;
            }
        }
        if record.required_extensions.iter().any(|text| split_extension(text).is_none()) {
            return Err(RoleError::Extension);
        }
        settings(fields, &mut record)?;
        let role = Self::load(&name, record)?;
        role.refuse_vault_authorities(authorities)?;
        Ok(role)
    }
}

fn settings(fields: Fields<'_>, record: &mut RoleRecord) -> Result<(), RoleError> {
    let token = &mut record.token;
    // The newer name of a field takes precedence over the older one.
    for name in ["policies", "token_policies"] {
        if let Some(given) = fields.list(name)? {
            token.policies = policies(given.iter().map(String::as_str))?;
        }
    }
    for name in ["bound_cidrs", "token_bound_cidrs"] {
        if let Some(given) = cidr::networks(fields, name)? {
            token.bound_cidrs = given;
        }
    }
    let newest = |names: &[&'static str], span: &mut u64| -> Result<(), FieldError> {
        for name in names {
            if let Some(given) = fields.seconds(name)? {
                *span = given;
            }
        }
        Ok(())
    };
    newest(&["lease", "ttl", "token_ttl"], &mut token.ttl_s)?;
    newest(&["max_ttl", "token_max_ttl"], &mut token.max_ttl_s)?;
    newest(&["period", "token_period"], &mut token.period_s)?;
    newest(&["token_explicit_max_ttl"], &mut token.explicit_max_ttl_s)?;
    if let Some(given) = fields.flag("token_no_default_policy")? {
        token.no_default_policy = given;
    }
    if let Some(given) = fields.count("token_num_uses")? {
        token.num_uses = given;
    }
    if let Some(kind) = fields.text_within("token_type", 32)?
        && !["", "default", "service", "default-service"].contains(&kind.as_str())
    {
        return Err(FieldError::Unsupported("token_type", "tokens are of type service").into());
    }
    if token.max_ttl_s > 0 && token.ttl_s > token.max_ttl_s {
        return Err(RoleError::Lifetimes);
    }
    Ok(())
}

/// Body of `POST auth/cert/login`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginBody {
    /// The only role to try, in its canonical form.
    pub name: Option<String>,
}

impl LoginBody {
    /// Reads the body. An empty name counts as absent.
    ///
    /// # Errors
    /// [`RoleError::Field`] for an unknown field or a wrong type; [`RoleError::Name`] for a text that cannot name a
    /// role.
    pub fn parse(body: &Body) -> Result<Self, RoleError> {
        let name = body.only(&["name"])?.text_within("name", 128)?.filter(|name| !name.is_empty());
        Ok(Self { name: name.map(|name| role_name(&name)).transpose()? })
    }
}
