//! Bodies of enrolment and renewal.

use serde::{Deserialize, Serialize};

use super::secret::SecretText;

/// Body of `POST sys/strongroom/enroll`, on the enrolment listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// Id of the token: 32 hexadecimal digits.
    pub id: String,
    /// PEM request; only its key counts.
    pub csr: String,
    /// Proof that the string is held, base64.
    pub proof: String,
}

/// Body of `POST sys/strongroom/enroll/renew`, on the enrolment listener: an expired certificate is renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraceRequest {
    /// The expired certificate, PEM.
    pub certificate: String,
    /// PEM request; only its key counts.
    pub csr: String,
    /// Signature of the old key, base64.
    pub proof: String,
    /// Number of the signature's scheme (RFC 8446 section 4.2.3).
    pub scheme: u16,
}

/// Body of `POST sys/strongroom/renew`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PEM request; only its key counts.
    pub csr: String,
}

/// A new certificate with what belongs to it: reply of all three, from the enrolment listener without an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// PEM chain, the holder's certificate first.
    pub certificate: String,
    /// PEM certificates of all authorities to trust.
    pub ca: String,
    /// Those of them that vouch for the listener alone and never for a client, PEM: roots of an outside PKI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_ca: String,
    /// SPIFFE id of the holder.
    pub identity: String,
    /// End of the certificate's life, RFC 3339.
    pub not_after: String,
    /// Where the vault answers, each `host:port`; only from the enrolment listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Where the enrolment listener answers from now on, each `host:port`; only after a renewal, and only when the vault
    /// knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enroll: Vec<String>,
}

/// Reply of `GET sys/strongroom/ca`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaBundle {
    /// PEM certificates of all authorities to trust.
    pub bundle: String,
    /// Id of the bundle: 32 hexadecimal digits.
    pub id: String,
    /// The caller's certificate is to be renewed now: its authority is tainted.
    #[serde(default)]
    pub renew: bool,
    /// What is known of each authority.
    #[serde(default)]
    pub authorities: Vec<CaAuthority>,
}

/// One authority of a [`CaBundle`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaAuthority {
    /// Its id.
    pub id: String,
    /// What it is used for at present.
    pub state: String,
    /// End of its life, RFC 3339.
    pub not_after: String,
    /// Whether its holders shall move on.
    #[serde(default)]
    pub tainted: bool,
}

/// Reply of `POST sys/strongroom/enrollments/<identity>`: the string, shown once.
#[derive(Deserialize)]
pub struct EnrollmentReply {
    /// The enrolment string.
    pub string: SecretText,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_the_agreed_ones() {
        let enroll = EnrollRequest { id: "0a".into(), csr: "c".into(), proof: "p".into() };
        assert_eq!(serde_json::to_string(&enroll).expect("writes"), r#"{"id":"0a","csr":"c","proof":"p"}"#);
        let grace = GraceRequest { certificate: "o".into(), csr: "c".into(), proof: "p".into(), scheme: 0x0403 };
        let text = r#"{"certificate":"o","csr":"c","proof":"p","scheme":1027}"#;
        assert_eq!(serde_json::to_string(&grace).expect("writes"), text);
        assert!(serde_json::from_str::<EnrollRequest>(r#"{"id":"","csr":"","proof":"","x":1}"#).is_err());
        let reply: Certified =
            serde_json::from_str(r#"{"certificate":"a","ca":"b","identity":"c","not_after":"d","later":1}"#)
                .expect("reads");
        assert_eq!((reply.ca.as_str(), reply.addresses.len()), ("b", 0));
    }
}
