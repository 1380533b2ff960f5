//! Revocation lists of `auth/cert/crls/<name>`: reading, storing and showing them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Serialize;

use super::RoleError;
use crate::api::fields::{FieldError, Fields};
use crate::api::request::Body;
use crate::api::time::rfc3339_nano;
use crate::pki::outside::{ListError, MAX_LIST_BYTES, RevocationList, decimal};

/// Version of the on-disk form: this byte, then the list in DER.
const VERSION: u8 = 1;
/// Longest `crl` field in bytes: the longest list in base64, with line breaks.
const MAX_TEXT_BYTES: usize = MAX_LIST_BYTES / 3 * 4 + MAX_LIST_BYTES / 16;
const NO_FETCH: &str = "this server contacts no other server; download the list and send it in field \"crl\"";

/// Reads the body of `POST auth/cert/crls/<name>` and returns the list in DER. Its issuer is not proved yet.
///
/// # Errors
/// [`RoleError::Field`], also for the fields `url` and `cdp`; [`RoleError::ListText`].
pub fn list_body(body: &Body) -> Result<Vec<u8>, RoleError> {
    let fields = Fields::with_refused(body.object(), &["crl", "name"], &[("url", NO_FETCH), ("cdp", NO_FETCH)])?;
    let text = fields.text_within("crl", MAX_TEXT_BYTES)?.ok_or(FieldError::Missing("crl"))?;
    if text.contains("-----BEGIN ") {
        let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
        // The PEM reader skips sections that it does not know. A key beside the list must not be accepted silently.
        return match (sections.next(), text.matches("-----BEGIN ").count()) {
            (Some(Ok((SectionKind::Crl, der))), 1) => Ok(der),
            _ => Err(RoleError::ListText),
        };
    }
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    match STANDARD.decode(compact) {
        Ok(der) if !der.is_empty() => Ok(der),
        _ => Err(RoleError::ListText),
    }
}

/// The stored form of a list in DER.
#[must_use]
pub fn encode_list(der: &[u8]) -> Vec<u8> {
    [&[VERSION], der].concat()
}

/// Reads the stored form. Returns the list and its DER.
///
/// # Errors
/// [`RoleError::Record`]; [`RoleError::List`] for a list that would be rejected today.
pub fn decode_list(record: &[u8]) -> Result<(RevocationList, &[u8]), RoleError> {
    match record.split_first() {
        Some((&VERSION, der)) => Ok((RevocationList::read(der)?, der)),
        _ => Err(RoleError::Record),
    }
}

/// A list as `GET auth/cert/crls/<name>` shows it: `serials` and `cdp` as in Vault, and the facts of the list itself.
#[derive(Debug, Serialize)]
pub struct ListView<'a> {
    /// Keyed by serial number in decimal digits.
    serials: BTreeMap<String, ListedView>,
    /// Always empty: lists are not downloaded, so there is no distribution point.
    cdp: Option<()>,
    issuer: &'a str,
    number: Option<&'a str>,
    this_update: String,
    next_update: Option<String>,
    /// A newer list should exist by now. This list still applies.
    overdue: bool,
    count: usize,
}

#[derive(Debug, Serialize)]
struct ListedView {
    revoked: String,
}

impl<'a> ListView<'a> {
    /// Builds the `data` of the reply at `now_ms`, Unix milliseconds.
    #[must_use]
    pub fn new(list: &'a RevocationList, now_ms: u64) -> Self {
        let time = |seconds: u64| rfc3339_nano(seconds.saturating_mul(1_000));
        let entries = list.entries().iter();
        Self {
            serials: entries
                .map(|entry| (decimal(&entry.serial), ListedView { revoked: time(entry.since_s) }))
                .collect(),
            cdp: None,
            issuer: &list.issuer_text,
            number: list.number.as_deref(),
            this_update: time(list.this_update_s),
            next_update: list.next_update_s.map(time),
            overdue: list.next_update_s.is_some_and(|next| now_ms / 1_000 > next),
            count: list.entries().len(),
        }
    }
}

impl From<ListError> for RoleError {
    fn from(error: ListError) -> Self {
        Self::List(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn body(fields: &Value) -> Result<Vec<u8>, RoleError> {
        list_body(&Body::of(&fields.to_string()))
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_list_comes_as_pem_or_base64() {
        let der = [0x30, 3, 2, 1, 5];
        let (text, base64) = (pem("X509 CRL", &der), STANDARD.encode(der));
        for good in [text.clone(), format!("\n{text}\n"), base64.clone(), format!(" {base64}\n")] {
            assert_eq!(body(&json!({ "crl": good, "name": "a" })), Ok(der.to_vec()), "{good}");
        }
        let key = pem("PRIVATE KEY", &der);
        let unknown = pem("STRANGE KEY", &der);
        let more =
            [format!("{text}{text}"), format!("{text}{key}"), format!("{text}{unknown}"), pem("CERTIFICATE", &der)];
        for bad in more.iter().map(String::as_str).chain(["", "?", "-----BEGIN X509 CRL-----"]) {
            assert_eq!(body(&json!({ "crl": bad })), Err(RoleError::ListText), "{bad}");
        }
        assert_eq!(body(&json!({})), Err(FieldError::Missing("crl").into()));
        for field in ["url", "cdp"] {
            let refused = body(&json!({ field: "http://pki.example/crl", "crl": base64 })).unwrap_err().to_string();
            assert!(refused.contains(field) && refused.contains("contacts no other server"), "{refused}");
        }
        assert_eq!(body(&json!({ "crl": base64, "x": 1 })), Err(FieldError::Unknown(&["crl", "name"]).into()));
        assert!(matches!(body(&json!({ "crl": "A".repeat(MAX_TEXT_BYTES + 1) })), Err(RoleError::Field(_))));
    }

    #[test]
    fn the_longest_list_fits() {
        let der = vec![0; MAX_LIST_BYTES];
        let lines = STANDARD.encode(&der).into_bytes();
        let text: String = lines.chunks(64).map(|line| format!("{}\n", std::str::from_utf8(line).unwrap())).collect();
        let text = format!("-----BEGIN X509 CRL-----\n{text}-----END X509 CRL-----\n");
        assert!(text.len() <= MAX_TEXT_BYTES, "{}", text.len());
        let limits = crate::api::json::Limits::default();
        let escaped = text.len() + text.matches('\n').count();
        assert!(escaped <= limits.max_string_bytes, "{escaped}");
        assert_eq!(body(&json!({ "crl": text })), Ok(der));
    }

    proptest! {
        #[test]
        fn any_record_is_looked_at(record: Vec<u8>, text in "\\PC{0,40}") {
            let _ = decode_list(&record);
            let _ = body(&json!({ "crl": text }));
        }
    }
}
