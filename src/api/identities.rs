//! Bodies for identities, groups, enrolment strings and authorities below `sys/strongroom/`, for client and server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::secret::SecretText;
use super::sys::IdentityLine;

/// Reply of `identity-report`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityReport {
    /// Id of the bundle of authorities that clients should trust, hexadecimal.
    pub bundle: String,
    /// All registered identities, by path.
    pub identities: BTreeMap<String, IdentityLine>,
}

/// Body of `POST identities/<path>`. Absent fields stay unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityChange {
    /// Names of policies. Required for a new identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    /// Lifetime of its certificates in seconds; 0 means the vault's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ttl: Option<u64>,
    /// How long after its expiry a certificate can still be renewed, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
}

/// A group as returned by the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Names of policies that its members have in addition to their own.
    pub policies: Vec<String>,
    /// Identity paths, or folders such as `ci/*`.
    pub members: Vec<String>,
}

/// Body of `POST groups/<name>`. Absent fields stay unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChange {
    /// Names of policies. Required for a new group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    /// Identity paths, or folders such as `ci/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

/// Body of `POST enrollments/<identity path>`. The server uses defaults for absent fields.
///
/// ```
/// use strongroom::api::identities::EnrollmentOrder;
///
/// let order = EnrollmentOrder { ttl: Some(600), uses: Some(1), ..EnrollmentOrder::default() };
/// assert_eq!(serde_json::to_string(&order).unwrap(), r#"{"ttl":600,"uses":1}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentOrder {
    /// Lifetime of the string, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// How many times it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Networks from which it can be used; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Vec<String>>,
    /// Lifetime of the certificates that it issues, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ttl: Option<u64>,
    /// Addresses of the enrolment listener for hosts, each `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
}

/// Reply to an [`EnrollmentOrder`]. Contains a secret, so it can be read but not written.
#[derive(Deserialize)]
pub struct EnrollmentMade {
    /// The enrolment string.
    pub string: SecretText,
    /// Its public id, hexadecimal.
    pub id: String,
    /// SPIFFE id that the certificate will have.
    pub identity: String,
    /// Expiry, RFC 3339.
    pub expires: String,
    /// How many times it can be used.
    pub uses: u32,
}

/// One enrolment string on record, without its secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnrollmentInfo {
    /// Identity path.
    pub identity: String,
    /// Time of creation, RFC 3339.
    pub created: String,
    /// Path of the identity that created it.
    pub created_by: String,
    /// Expiry, RFC 3339.
    pub expires: String,
    /// How many times it can be used.
    pub uses: u32,
    /// How many times it was used.
    pub used: usize,
    /// Networks from which it can be used; empty means any.
    pub cidr: Vec<String>,
    /// `open`, `used` or `expired`.
    pub state: String,
}

/// Reply of `LIST enrollments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnrollmentList {
    /// Identifiers.
    pub keys: Vec<String>,
    /// The string for each identifier.
    pub key_info: BTreeMap<String, EnrollmentInfo>,
}

/// Reply of `GET ca`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorityList {
    /// PEM certificates of the authorities that clients should trust.
    pub bundle: String,
    /// Id of the bundle, hexadecimal.
    pub id: String,
    /// All authorities on record, including those that have ended.
    pub authorities: Vec<AuthorityInfo>,
}

/// One authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorityInfo {
    /// Identifier, hexadecimal.
    pub id: String,
    /// `prepared`, `trusted`, `active`, `retiring`, `removed` or `revoked`.
    pub state: String,
    /// Whether it is marked to be replaced soon.
    pub tainted: bool,
    /// Time of creation, RFC 3339.
    pub created: String,
    /// Time of the last step, RFC 3339.
    pub changed: String,
    /// Expiry of its certificate, RFC 3339.
    pub not_after: String,
}

/// Reply of `GET ca/stragglers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stragglers {
    /// Id of the bundle that they do not trust yet, hexadecimal.
    pub bundle: String,
    /// Identity paths.
    pub identities: Vec<String>,
}

/// Reply of `GET crl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationLists {
    /// The newest list of each authority, PEM.
    pub crl: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_only_what_changes() {
        let change = IdentityChange { grace: Some(60), ..IdentityChange::default() };
        assert_eq!(serde_json::to_string(&change).expect("writes"), r#"{"grace":60}"#);
        assert_eq!(serde_json::to_string(&GroupChange::default()).expect("writes"), "{}");
        let order = EnrollmentOrder { uses: Some(3), ..EnrollmentOrder::default() };
        assert_eq!(serde_json::to_string(&order).expect("writes"), r#"{"uses":3}"#);
    }

    #[test]
    fn replies_with_more_or_less_read() {
        let report: IdentityReport =
            serde_json::from_str(r#"{"identities":{"app/web":{"disabled":true,"new":1}}}"#).expect("reads");
        assert!(report.identities["app/web"].disabled);
        let list: AuthorityList =
            serde_json::from_str(r#"{"authorities":[{"id":"aa","state":"active"}]}"#).expect("reads");
        assert_eq!(list.authorities[0].state, "active");
    }
}
