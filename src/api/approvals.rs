//! `sys/strongroom/approvals`: requests that wait for other operators.

use serde::{Deserialize, Serialize};

/// One request, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Identifier.
    pub id: String,
    /// State: `open`, `approved`, `rejected`, `expired` or `used`.
    pub state: String,
    /// Path of the identity that made the request.
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
    /// Time of the request, RFC 3339.
    pub asked: String,
    /// Expiry, RFC 3339: it can be approved and used until then.
    pub expires: String,
    /// Number of operators who must approve. The requester counts as one if allowed to approve.
    pub required: usize,
    /// Number of operators who must still approve.
    pub missing: usize,
    /// The approvals.
    pub approvals: Vec<Voice>,
    /// The rejection, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Voice>,
    /// Time of execution, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Id of the original request, as in the audit log.
    pub request: String,
    /// Id of the request that was executed, as in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_request: Option<String>,
}

/// One approval or rejection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// Path of the identity.
    pub identity: String,
    /// Time, RFC 3339.
    pub at: String,
}

/// All requests by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// Identifiers, newest first.
    pub keys: Vec<String>,
    /// The request for each identifier.
    pub key_info: std::collections::BTreeMap<String, Approval>,
}
