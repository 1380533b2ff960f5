//! `sys/strongroom/approvals`: requests that wait for other operators.

use serde::{Deserialize, Serialize};

/// One request, without anything that it carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// Where it stands: `open`, `approved`, `rejected`, `expired` or `used`.
    pub state: String,
    /// Path of the identity that asked.
    pub asked_by: String,
    /// Class of the operation.
    pub operation: String,
    /// The verb: `write`, `patch`, `delete` or `read`.
    pub verb: String,
    /// Full path of the request.
    pub path: String,
    /// Names of its fields.
    pub fields: Vec<String>,
    /// Administrators and approvers whose power would change.
    pub affects: Vec<String>,
    /// When it was asked, RFC 3339.
    pub asked: String,
    /// Until when it can be approved and used, RFC 3339.
    pub expires: String,
    /// How many must agree, whoever asked among them if it could approve.
    pub required: usize,
    /// How many must still approve.
    pub missing: usize,
    /// Who approved.
    pub approvals: Vec<Voice>,
    /// Who rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Voice>,
    /// When it was done, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Identifier of the request that asked, as in the audit trail.
    pub request: String,
    /// Identifier of the request that was done, as in the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_request: Option<String>,
}

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// Path of the identity.
    pub identity: String,
    /// When, RFC 3339.
    pub at: String,
}

/// All of them, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// Ids, newest first.
    pub keys: Vec<String>,
    /// What they are.
    pub key_info: std::collections::BTreeMap<String, Approval>,
}
