//! Bodies of enrolment and renewal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};

use super::fields::{FieldError, Fields};
use super::hex::{hex, unhex};
use super::request::Body;

/// Largest certificate request in PEM, in bytes.
pub const MAX_CSR_BYTES: usize = 16 * 1024;
/// Largest certificate in PEM, in bytes: 16 KiB of DER in base64, with line ends and labels.
const MAX_CERTIFICATE_BYTES: usize = 16 * 1024 / 3 * 4 + 2048;
/// Largest signature, in bytes: RSA with 8,192 bits.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Asks for a first certificate: body of `POST sys/strongroom/enroll`, on the enrolment listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnrollRequest {
    /// Id of the enrolment string; 32 hexadecimal digits on the wire.
    #[serde(serialize_with = "hexadecimal")]
    pub id: [u8; 16],
    /// PEM request. Only its key is used.
    pub csr: String,
    /// Proof of the string's secret, bound to the connection and the request; base64 on the wire.
    #[serde(serialize_with = "base64")]
    pub proof: [u8; 32],
}

impl EnrollRequest {
    /// Reads the body. Checks only the length of the certificate request.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed, too long or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["id", "csr", "proof"])?;
        let id = fields
            .word("id", |text| unhex(text), "32 hexadecimal digits in lower case")?
            .ok_or(FieldError::Missing("id"))?;
        let proof = |text: &str| bytes_of(text, 32)?.try_into().ok();
        let proof = fields.word("proof", proof, "32 bytes in base64")?.ok_or(FieldError::Missing("proof"))?;
        Ok(Self { id, csr: csr_of(fields)?, proof })
    }
}

/// Asks for a certificate to replace one that has expired: body of `POST sys/strongroom/enroll/renew`, on the enrolment
/// listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraceRequest {
    /// The expired certificate, PEM.
    pub certificate: String,
    /// PEM request. Only its key is used.
    pub csr: String,
    /// Signature of the old key, bound to the connection and the request; base64 on the wire.
    #[serde(serialize_with = "base64")]
    pub proof: Vec<u8>,
    /// Number of the signature scheme (RFC 8446 section 4.2.3).
    pub scheme: u16,
}

impl GraceRequest {
    /// Reads the body. Checks only the lengths of the certificate and the request.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed, too long or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["certificate", "csr", "proof", "scheme"])?;
        let certificate = fields.text_within("certificate", MAX_CERTIFICATE_BYTES)?;
        let proof = fields.word("proof", |text| bytes_of(text, MAX_SIGNATURE_BYTES), "up to 1 KiB in base64")?;
        let scheme = fields.number_in("scheme", 0, u16::MAX.into())?.and_then(|scheme| u16::try_from(scheme).ok());
        Ok(Self {
            certificate: certificate.ok_or(FieldError::Missing("certificate"))?,
            csr: csr_of(fields)?,
            proof: proof.ok_or(FieldError::Missing("proof"))?,
            scheme: scheme.ok_or(FieldError::Missing("scheme"))?,
        })
    }
}

fn csr_of(fields: Fields<'_>) -> Result<String, FieldError> {
    fields.text_within("csr", MAX_CSR_BYTES)?.ok_or(FieldError::Missing("csr"))
}

fn bytes_of(text: &str, most: usize) -> Option<Vec<u8>> {
    let short = text.len() <= most.div_ceil(3) * 4;
    short.then(|| STANDARD.decode(text).ok()).flatten().filter(|bytes| bytes.len() <= most)
}

fn hexadecimal<S: Serializer>(id: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex(id))
}

fn base64<S: Serializer>(bytes: &impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(bytes))
}

/// Body of `POST sys/strongroom/renew`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PEM request. Only its key is used.
    pub csr: String,
}

/// A new certificate and everything needed to use it: the reply to all three requests. The enrolment listener sends
/// it without an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// PEM chain, the holder's certificate first.
    pub certificate: String,
    /// PEM certificates of all authorities to trust.
    pub ca: String,
    /// The part of `ca` that vouches only for the listener, never for a client: roots of an outside PKI, PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_ca: String,
    /// SPIFFE id of the holder.
    pub identity: String,
    /// Expiry of the certificate, RFC 3339.
    pub not_after: String,
    /// Addresses of the vault, each `host:port`. Sent only by the enrolment listener.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Current addresses of the enrolment listener, each `host:port`. Sent only after a renewal, and only if the vault
    /// knows them.
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
    /// The caller must renew its certificate now, because its authority is tainted.
    #[serde(default)]
    pub renew: bool,
    /// The known authorities.
    #[serde(default)]
    pub authorities: Vec<CaAuthority>,
}

/// One authority of a [`CaBundle`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaAuthority {
    /// Its id.
    pub id: String,
    /// Its stage.
    pub state: String,
    /// Its expiry, RFC 3339.
    pub not_after: String,
    /// Whether its holders must move to another authority.
    #[serde(default)]
    pub tainted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_the_agreed_ones() {
        let enroll = EnrollRequest { id: [10; 16], csr: "c".into(), proof: [7; 32] };
        let text = serde_json::to_string(&enroll).expect("writes");
        let proof = STANDARD.encode([7; 32]);
        assert_eq!(text, format!(r#"{{"id":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","csr":"c","proof":"{proof}"}}"#));
        assert_eq!(EnrollRequest::read(&Body::of(&text)), Ok(enroll));
        let grace = GraceRequest { certificate: "o".into(), csr: "c".into(), proof: vec![0; 3], scheme: 0x0403 };
        let text = r#"{"certificate":"o","csr":"c","proof":"AAAA","scheme":1027}"#;
        assert_eq!(serde_json::to_string(&grace).expect("writes"), text);
        assert_eq!(GraceRequest::read(&Body::of(text)), Ok(grace));
        let reply: Certified =
            serde_json::from_str(r#"{"certificate":"a","ca":"b","identity":"c","not_after":"d","later":1}"#)
                .expect("reads");
        assert_eq!((reply.ca.as_str(), reply.addresses.len()), ("b", 0));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let (id, proof) = ("000102030405060708090a0b0c0d0e0f", STANDARD.encode([7; 32]));
        let read = |id: &str, csr: &str, proof: &str| {
            EnrollRequest::read(&Body::of(&serde_json::json!({ "id": id, "csr": csr, "proof": proof }).to_string()))
        };
        assert_eq!(read(id, "c", &proof).map(|request| request.id[15]), Ok(15));
        let (upper, long) = (id.to_uppercase(), "A".repeat(5000));
        for (id, proof) in
            [("", &*proof), (&id[1..], &*proof), (&*upper, &*proof), (id, ""), (id, "AAAA"), (id, "?"), (id, &*long)]
        {
            assert!(read(id, "c", proof).is_err(), "{id} {proof}");
        }
        assert_eq!(read(id, &"r".repeat(MAX_CSR_BYTES + 1), &proof), Err(FieldError::Long("csr", MAX_CSR_BYTES)));
        for bad in [
            r#"{"certificate":"c","csr":"r","proof":"AAAA","scheme":65536}"#,
            r#"{"certificate":"c","csr":"r","proof":"AAAA"}"#,
            r#"{"certificate":"c","csr":"r","proof":"AAAA","scheme":1,"more":2}"#,
            r#"{"certificate":"c","csr":"r","proof":["AAAA"],"scheme":1}"#,
            "{}",
        ] {
            assert!(GraceRequest::read(&Body::of(bad)).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_is_total(id in "\\PC{0,40}", proof in "\\PC{0,60}", scheme: u32) {
            let body = serde_json::json!({ "id": id, "csr": "", "proof": proof }).to_string();
            let _ = EnrollRequest::read(&Body::of(&body));
            let body = serde_json::json!({ "certificate": id, "csr": "", "proof": proof, "scheme": scheme }).to_string();
            let _ = GraceRequest::read(&Body::of(&body));
        }
    }
}
