//! Requests and replies of enrolment as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Channel, Enroll, GraceRenewal};
use crate::api::json;
use crate::http::status::Refusal;
use crate::pki::peer::MAX_CERT_BYTES;
use crate::pki::{AuthorityId, MAX_CSR_BYTES};

/// Largest signature, bytes: RSA with 8,192 bits.
const MAX_SIGNATURE: usize = 1024;
/// A certificate in PEM is longer by a third, line ends and labels.
const MAX_CERT_PEM: usize = MAX_CERT_BYTES / 3 * 4 + 2048;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnroll {
    id: String,
    csr: String,
    proof: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRenewal {
    certificate: String,
    csr: String,
    proof: String,
    scheme: u16,
}

/// Reads `{"id", "csr", "proof"}`.
///
/// # Errors
/// 400 naming what is malformed.
pub(super) fn enroll(body: &[u8], channel: Channel) -> Result<Enroll, Refusal> {
    let raw: RawEnroll = object(body)?;
    let id = AuthorityId::parse(&raw.id).ok_or(Refusal::bad("'id' is not 32 hexadecimal digits"))?.0;
    let proof = signature(&raw.proof)?;
    let proof = proof.try_into().map_err(|_| Refusal::bad("'proof' is not 32 bytes"))?;
    Ok(Enroll { id, csr: request(raw.csr)?, proof, channel })
}

/// Reads `{"certificate", "csr", "proof", "scheme"}`.
///
/// # Errors
/// 400 naming what is malformed.
pub(super) fn renewal(body: &[u8], channel: Channel) -> Result<GraceRenewal, Refusal> {
    let raw: RawRenewal = object(body)?;
    if raw.certificate.len() > MAX_CERT_PEM {
        return Err(Refusal::bad("'certificate' is too large"));
    }
    let proof = signature(&raw.proof)?;
    Ok(GraceRenewal { certificate: raw.certificate, csr: request(raw.csr)?, proof, scheme: raw.scheme, channel })
}

fn object<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refusal> {
    const BAD: Refusal = Refusal::bad("the request body is not the JSON object that is expected here");
    json::check(body, &json::Limits::default()).map_err(|_| BAD)?;
    serde_json::from_slice(body).map_err(|_| BAD)
}

fn request(csr: String) -> Result<String, Refusal> {
    if csr.len() > MAX_CSR_BYTES { Err(Refusal::bad("'csr' is too large")) } else { Ok(csr) }
}

fn signature(text: &str) -> Result<Vec<u8>, Refusal> {
    const BAD: Refusal = Refusal::bad("'proof' is not base64 of at most 1 KiB");
    if text.len() > MAX_SIGNATURE / 3 * 4 + 4 {
        return Err(BAD);
    }
    STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= MAX_SIGNATURE).ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel() -> Channel {
        Channel { exporter: [1; 32], remote: "192.0.2.1:5".parse().expect("legal") }
    }

    #[test]
    fn well_formed_requests_are_read() {
        let proof = STANDARD.encode([7; 32]);
        let read = |id: &str, proof: &str| {
            enroll(format!(r#"{{"id":"{id}","csr":"c","proof":"{proof}"}}"#).as_bytes(), channel())
        };
        let id = "000102030405060708090a0b0c0d0e0f";
        let good = read(id, &proof).ok().expect("well-formed");
        assert_eq!((good.id[15], &*good.csr, good.proof), (15, "c", [7; 32]));
        for (id, proof) in
            [("", &*proof), (&id[1..], &proof), (id, ""), (id, "AAAA"), (id, "?"), (id, &"A".repeat(5000))]
        {
            assert!(read(id, proof).is_err(), "{id} {proof}");
        }
        let good = renewal(br#"{"certificate":"c","csr":"r","proof":"AAAA","scheme":1027}"#, channel());
        let good = good.ok().expect("well-formed");
        assert_eq!((&*good.certificate, &*good.proof, good.scheme), ("c", &[0; 3][..], 1027));
        for bad in [
            r#"{"certificate":"c","csr":"r","proof":"AAAA","scheme":65536}"#,
            r#"{"certificate":"c","csr":"r","proof":"AAAA"}"#,
            r#"{"certificate":"c","csr":"r","proof":"AAAA","scheme":1,"scheme":2}"#,
            r#"{"certificate":"c","csr":"r","proof":"AAAA","scheme":1,"more":2}"#,
            "[]",
            "",
        ] {
            assert!(renewal(bad.as_bytes(), channel()).is_err(), "{bad}");
        }
        let large = format!(r#"{{"certificate":"c","csr":"{}","proof":"AAAA","scheme":1}}"#, "r".repeat(17 << 10));
        assert!(renewal(large.as_bytes(), channel()).is_err());
    }

    proptest! {
        #[test]
        fn reading_is_total(body: Vec<u8>, id in ".{0,40}", proof in ".{0,60}") {
            let _ = enroll(&body, channel());
            let _ = renewal(&body, channel());
            let body = serde_json::json!({ "id": id, "csr": "", "proof": proof }).to_string();
            let _ = enroll(body.as_bytes(), channel());
        }
    }
}
