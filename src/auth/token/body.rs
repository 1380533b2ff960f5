//! Request bodies of `auth/token`.

use std::collections::BTreeMap;

use super::super::names::policies;
use super::TokenError;
use super::text::is_accessor;
use crate::api::fields::{FieldError, Fields};
use crate::api::request::Body;
use crate::api::secret::SecretText;

/// Body of `auth/token/create` and `create-orphan`. Durations are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBody {
    /// Policies in canonical form; `None` means those of the creator.
    pub policies: Option<Vec<String>>,
    /// Metadata of the token.
    pub meta: BTreeMap<String, String>,
    /// Whether to create an orphan.
    pub no_parent: bool,
    /// Whether to leave out `default`.
    pub no_default_policy: bool,
    /// Whether the token can be renewed; `None` means yes.
    pub renewable: Option<bool>,
    /// Life; 0 means the default.
    pub ttl_s: u64,
    /// Maximum life; 0 means no limit of its own.
    pub explicit_max_ttl_s: u64,
    /// Period; 0 means not periodic.
    pub period_s: u64,
    /// Name for people.
    pub display_name: String,
    /// Number of requests; 0 means unlimited.
    pub num_uses: u32,
}

impl CreateBody {
    /// Reads the body.
    ///
    /// # Errors
    /// [`TokenError::Field`] for a wrong or unknown field, and by name for choosing the token's text, batch tokens and
    /// entity aliases. [`TokenError::Name`] for a policy's name that is rejected.
    pub fn parse(body: &Body) -> Result<Self, TokenError> {
        const KNOWN: &[&str] = &[
            "policies",
            "meta",
            "metadata",
            "no_parent",
            "no_default_policy",
            "renewable",
            "ttl",
            "lease",
            "explicit_max_ttl",
            "period",
            "display_name",
            "num_uses",
            "type",
        ];
        let refused = [
            ("id", "the server chooses the text of a token"),
            ("entity_alias", "there are no entities besides identities"),
        ];
        let fields = Fields::with_refused(body.object(), KNOWN, &refused)?;
        if let Some(kind) = fields.text_within("type", 32)?
            && !["", "default", "service", "default-service"].contains(&kind.as_str())
        {
            return Err(FieldError::Unsupported("type", "tokens are of type service").into());
        }
        let given = fields.list("policies")?.filter(|list| !list.is_empty());
        // Two names are accepted for each of these fields. The newer name wins.
        let meta = match fields.map("meta")? {
            None => fields.map("metadata")?,
            found => found,
        };
        let ttl_s = match fields.seconds("ttl")? {
            None => fields.seconds("lease")?,
            found => found,
        };
        Ok(Self {
            policies: given.map(|list| policies(list.iter().map(String::as_str))).transpose()?,
            meta: meta.unwrap_or_default(),
            no_parent: fields.flag("no_parent")?.unwrap_or(false),
            no_default_policy: fields.flag("no_default_policy")?.unwrap_or(false),
            renewable: fields.flag("renewable")?,
            ttl_s: ttl_s.unwrap_or(0),
            explicit_max_ttl_s: fields.seconds("explicit_max_ttl")?.unwrap_or(0),
            period_s: fields.seconds("period")?.unwrap_or(0),
            display_name: fields.text_within("display_name", 128)?.unwrap_or_default(),
            num_uses: fields.count("num_uses")?.unwrap_or(0),
        })
    }
}

/// Body of `renew-self`, `renew` and `renew-accessor`.
pub struct RenewBody {
    /// For `renew`: the token.
    pub token: Option<SecretText>,
    /// For `renew-accessor`: the accessor of the token.
    pub accessor: Option<String>,
    /// Requested life in seconds; 0 means the default.
    pub increment_s: u64,
}

impl RenewBody {
    /// Reads the body of `renew-self`. Clients also send `token` here; it is ignored.
    ///
    /// # Errors
    /// [`TokenError::Field`] for a wrong or unknown field.
    pub fn of_self(body: &Body) -> Result<Self, TokenError> {
        let fields = body.only(&["increment", "token"])?;
        Ok(Self { token: None, accessor: None, increment_s: fields.seconds("increment")?.unwrap_or(0) })
    }

    /// Reads the body of `renew`.
    ///
    /// # Errors
    /// [`TokenError::Field`] for a wrong or unknown field, or without a token.
    pub fn of_token(body: &Body) -> Result<Self, TokenError> {
        let fields = body.only(&["increment", "token"])?;
        let token = fields.secret("token")?.ok_or(FieldError::Missing("token"))?;
        Ok(Self { token: Some(token), accessor: None, increment_s: fields.seconds("increment")?.unwrap_or(0) })
    }

    /// Reads the body of `renew-accessor`.
    ///
    /// # Errors
    /// [`TokenError::Field`] for a wrong or unknown field, or without an accessor.
    pub fn of_accessor(body: &Body) -> Result<Self, TokenError> {
        let fields = body.only(&["increment", "accessor"])?;
        let accessor = accessor_field(fields)?;
        Ok(Self { token: None, accessor: Some(accessor), increment_s: fields.seconds("increment")?.unwrap_or(0) })
    }
}

/// Body of `lookup`, `revoke` and `revoke-orphan`.
pub struct TokenBody {
    /// The token.
    pub token: SecretText,
}

impl TokenBody {
    /// Reads the body.
    ///
    /// # Errors
    /// [`TokenError::Field`] for a wrong or unknown field, or without a token.
    pub fn parse(body: &Body) -> Result<Self, TokenError> {
        let token = body.only(&["token"])?.secret("token")?;
        Ok(Self { token: token.ok_or(FieldError::Missing("token"))? })
    }
}

/// Body of `lookup-accessor` and `revoke-accessor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessorBody {
    /// The accessor of the token.
    pub accessor: String,
}

impl AccessorBody {
    /// Reads the body.
    ///
    /// # Errors
    /// [`TokenError::Field`], also for a text that cannot be an accessor.
    pub fn parse(body: &Body) -> Result<Self, TokenError> {
        Ok(Self { accessor: accessor_field(body.only(&["accessor"])?)? })
    }
}

fn accessor_field(fields: Fields<'_>) -> Result<String, FieldError> {
    let accessor = fields.text_within("accessor", 128)?.ok_or(FieldError::Missing("accessor"))?;
    if is_accessor(&accessor) { Ok(accessor) } else { Err(FieldError::Must("accessor", "24 letters and digits")) }
}
