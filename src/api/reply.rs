//! The frames of Vault's replies.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The frame of every reply with content. All keys are always present on the wire; missing ones are read as empty.
#[derive(Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Random id of the request, as in the audit log.
    #[serde(default)]
    pub request_id: String,
    /// Always empty: nothing is leased.
    #[serde(default)]
    pub lease_id: String,
    /// Always false.
    #[serde(default)]
    pub renewable: bool,
    /// Seconds; 0 without a lease.
    #[serde(default)]
    pub lease_duration: u64,
    /// The content.
    #[serde(default = "none")]
    pub data: Option<T>,
    /// Wrapping is not offered: null.
    #[serde(default)]
    pub wrap_info: Option<Box<RawValue>>,
    /// Hints for a person.
    #[serde(default)]
    pub warnings: Option<Vec<String>>,
    /// Logins are not offered: null.
    #[serde(default)]
    pub auth: Option<Box<RawValue>>,
}

fn none<T>() -> Option<T> {
    None
}

/// The body of every failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Texts for a person; may be empty.
    #[serde(default)]
    pub errors: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_all_keys_and_reads_few() {
        let envelope: Envelope<u8> = serde_json::from_str(r#"{"data":7,"new_key":1}"#).expect("reads");
        assert_eq!(envelope.data, Some(7));
        assert_eq!(
            serde_json::to_string(&envelope).expect("writes"),
            r#"{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":7,"wrap_info":null,"warnings":null,"auth":null}"#
        );
        assert_eq!(serde_json::from_str::<ErrorBody>("{}").expect("reads"), ErrorBody::default());
    }
}
