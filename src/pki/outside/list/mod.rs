//! Revocation lists of outside PKIs (RFC 5280 section 5), uploaded by an operator.
//!
//! Only complete lists of one issuer about its own certificates are accepted. Lists that depend on another list (delta,
//! indirect) are rejected by name: read as complete lists they would have a different meaning.
//!
//! Why the reader is our own: `x509-parser` turns a whole list into vectors before a caller can count, 21 MiB for 720 KiB
//! of empty extensions (30 bytes for one), and takes an extension twice. `webpki` is bounded, but shows neither the number
//! nor the dates of a list, and checks a signature only while it verifies a chain. Names and times are read by
//! `x509-parser`, signatures checked by the code that checks those of certificates.

mod der;

use rustls::crypto::aws_lc_rs::default_provider;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};

use super::{MAX_TEXT, OutsideAuthority, parse};
use der::{BITS, BOOLEAN, INTEGER, OCTETS, OID, SEQUENCE, Value, Values, only};

/// Longest list in bytes of DER. This fits into a request and a record.
pub const MAX_LIST_BYTES: usize = 720 * 1024;
/// Largest number of certificates in one list.
pub const MAX_LIST_ENTRIES: usize = 32_768;
/// Largest number of extensions of a list or of one of its entries.
const MAX_EXTENSIONS: usize = 16;

/// A serial number: 20 bytes, most significant first, padded with leading zeros (RFC 5280, 5.2.3 and 4.1.2.2).
pub type Serial = [u8; 20];

/// Object identifiers below `id-ce`, 2.5.29.
const ID_CE: &[u8] = &[0x55, 0x1d];
const CRL_NUMBER: u8 = 20;
const REASON: u8 = 21;
const INVALIDITY: u8 = 24;
const DELTA: u8 = 27;
const DISTRIBUTION_POINT: u8 = 28;
const CERTIFICATE_ISSUER: u8 = 29;
const AUTHORITY_KEY: u8 = 35;

/// Why a list is rejected. Carries nothing from the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The bytes are not a list in DER, other bytes follow it, or a part cannot be parsed or occurs twice.
    #[error("malformed revocation list")]
    Malformed,
    /// More than [`MAX_LIST_BYTES`].
    #[error("the list is longer than 720 KiB in DER")]
    TooLong,
    /// More than [`MAX_LIST_ENTRIES`].
    #[error("the list names more than 32768 certificates")]
    TooMany,
    /// The list only has the changes since another list.
    #[error("delta lists are not supported: upload the complete list")]
    Delta,
    /// The list names certificates of other issuers.
    #[error("indirect lists are not supported: upload the list of each issuer")]
    Indirect,
    /// The list is about attribute certificates.
    #[error("lists of attribute certificates are not supported")]
    Attributes,
    /// The list has a critical extension that is unknown here. RFC 5280, 5.2 forbids to use it then.
    #[error("the list has an unknown critical extension")]
    Critical,
    /// The authority may sign certificates but not lists.
    #[error("the authority's certificate does not allow it to sign lists (key usage cRLSign)")]
    Usage,
    /// The signature was not made by that authority, or its kind is not accepted for certificates either.
    #[error("the list is not signed by the authority of its issuer's name that a role trusts")]
    Signature,
}

/// One certificate of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its serial number.
    pub serial: Serial,
    /// Time of the revocation in Unix seconds; 0 for a date before 1970.
    pub since_s: u64,
}

/// Content of a list. [`signed_by`] proves that it comes from its issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Name of the issuer in DER, as in the certificates.
    pub issuer: Vec<u8>,
    /// Name of the issuer for people; empty when it has no text.
    pub issuer_text: String,
    /// Number of the list in decimal digits.
    pub number: Option<String>,
    /// Time of issue, Unix seconds.
    pub this_update_s: u64,
    /// Time by which a newer list should exist, Unix seconds. The list still applies afterwards.
    pub next_update_s: Option<u64>,
    /// The certificates, sorted by serial number. Each appears once, with its earliest date.
    entries: Vec<Listed>,
}

/// The name by which a list refers to a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// Name of its issuer, DER.
    pub issuer: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
}

impl CertificateName {
    /// Returns the name of a certificate in DER, or `None` when it cannot be parsed.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { issuer: parsed.issuer().as_raw().to_vec(), serial: serial(parsed.raw_serial())? })
    }
}

impl RevocationList {
    /// Parses a list in DER. Any bytes give a list or an error, using at most a few times their length in memory.
    /// Checks no date and no signature.
    ///
    /// # Errors
    /// The first [`ListError`] that applies, never [`ListError::Usage`] or [`ListError::Signature`].
    pub fn read(der: &[u8]) -> Result<Self, ListError> {
        let parts = Parts::of(der)?;
        let mut fields = Values::new(parts.content.content);
        let malformed = ListError::Malformed;
        let version = fields.take_if(INTEGER);
        if version.is_some_and(|version| version.content != [1]) {
            return Err(malformed);
        }
        // The signed copy of the algorithm must equal the one beside the signature (RFC 5280, 5.1.1.2).
        if fields.take(SEQUENCE).ok_or(malformed)?.content != parts.algorithm {
            return Err(malformed);
        }
        let issuer = fields.take(SEQUENCE).filter(|issuer| !issuer.content.is_empty()).ok_or(malformed)?;
        let this_update_s = time(fields.next()).ok_or(malformed)?;
        let next_update_s = match fields.take_if(0x17).or_else(|| fields.take_if(0x18)) {
            Some(value) => Some(time(Some(value)).ok_or(malformed)?),
            None => None,
        };
        let revoked = fields.take_if(SEQUENCE);
        let extensions = fields.take_if(0xa0);
        if !fields.is_empty() || (version.is_none() && extensions.is_some()) {
            return Err(malformed);
        }
        let number = match extensions {
            Some(wrapped) => whole(wrapped.content)?,
            None => None,
        };
        Ok(Self {
            issuer: issuer.raw.to_vec(),
            issuer_text: text(issuer.raw),
            number,
            this_update_s,
            next_update_s,
            entries: entries(revoked.map_or(&[], |revoked| revoked.content))?,
        })
    }

    /// Whether the list contains its issuer's certificate with this serial number.
    #[must_use]
    pub fn names(&self, serial: &Serial) -> bool {
        self.entries.binary_search_by(|entry| entry.serial.cmp(serial)).is_ok()
    }

    /// The certificates, sorted by serial number.
    #[must_use]
    pub fn entries(&self) -> &[Listed] {
        &self.entries
    }
}

/// Proves that `list` (DER, accepted by [`RevocationList::read`]) was signed with the key of `authority`, a certificate
/// in DER. The dates of the authority are not checked: what it has revoked stays revoked.
///
/// # Errors
/// [`ListError::Malformed`] when the list cannot be parsed; [`ListError::Usage`] when the authority may not sign lists;
/// [`ListError::Signature`] when it has not signed this one.
pub fn signed_by(list: &[u8], authority: &[u8]) -> Result<(), ListError> {
    let parts = Parts::of(list)?;
    if OutsideAuthority::read(authority).is_err() {
        return Err(ListError::Signature);
    }
    let certificate = parse(authority).map_err(|_| ListError::Signature)?;
    if certificate.key_usage().is_ok_and(|usage| usage.is_some_and(|usage| !usage.value.crl_sign())) {
        return Err(ListError::Usage);
    }
    let key = only(certificate.public_key().raw, SEQUENCE).map(|key| Values::new(key.content));
    let mut key = key.ok_or(ListError::Signature)?;
    let (Some(kind), Some(bits)) = (key.take(SEQUENCE), key.take(BITS)) else { return Err(ListError::Signature) };
    let point = bits.content.strip_prefix(&[0]).ok_or(ListError::Signature)?;
    // Uses the same algorithms and the same code as for the certificates of clients.
    let algorithms = default_provider().signature_verification_algorithms;
    let proved = algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == parts.algorithm
            && algorithm.public_key_alg_id().as_ref() == kind.content
            && algorithm.verify_signature(point, parts.content.raw, parts.signature).is_ok()
    });
    if proved { Ok(()) } else { Err(ListError::Signature) }
}

/// Parses the content of the INTEGER of a certificate's or an entry's serial number.
pub(super) fn serial(content: &[u8]) -> Option<Serial> {
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    let significant = content.get(zeros..).filter(|_| !content.is_empty())?;
    let mut padded = Serial::default();
    let start = padded.len().checked_sub(significant.len())?;
    padded.get_mut(start..)?.copy_from_slice(significant);
    Some(padded)
}

/// A serial number in decimal digits, as Vault shows it.
#[must_use]
pub fn decimal(serial: &Serial) -> String {
    BigUint::from_bytes_be(serial).to_string()
}

/// The outermost structure of a list.
struct Parts<'a> {
    /// The signed part.
    content: Value<'a>,
    /// Content of the algorithm identifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(der: &'a [u8]) -> Result<Self, ListError> {
        if der.len() > MAX_LIST_BYTES {
            return Err(ListError::TooLong);
        }
        let read = || {
            let mut values = Values::new(only(der, SEQUENCE)?.content);
            let content = values.take(SEQUENCE)?;
            let algorithm = values.take(SEQUENCE)?.content;
            let signature = values.take(BITS)?.content.strip_prefix(&[0])?;
            values.is_empty().then_some(Self { content, algorithm, signature })
        };
        read().ok_or(ListError::Malformed)
    }
}

fn entries(content: &[u8]) -> Result<Vec<Listed>, ListError> {
    let mut entries = Vec::new();
    let mut values = Values::new(content);
    while !values.is_empty() {
        if entries.len() == MAX_LIST_ENTRIES {
            return Err(ListError::TooMany);
        }
        let entry = values.take(SEQUENCE).ok_or(ListError::Malformed)?;
        let mut fields = Values::new(entry.content);
        let serial = fields.take(INTEGER).and_then(|number| serial(number.content)).ok_or(ListError::Malformed)?;
        let since_s = time(fields.next()).ok_or(ListError::Malformed)?;
        if let Some(extensions) = fields.take_if(SEQUENCE) {
            each(extensions.content, |extension| match extension.number {
                // Later entries without this extension belong to the same other issuer, so no part of such a list can
                // be used.
                Some(CERTIFICATE_ISSUER) => Err(ListError::Indirect),
                Some(REASON | INVALIDITY) => Ok(()),
                _ if extension.critical => Err(ListError::Critical),
                _ => Ok(()),
            })?;
        }
        if !fields.is_empty() {
            return Err(ListError::Malformed);
        }
        entries.push(Listed { serial, since_s });
    }
    entries.sort_unstable();
    entries.dedup_by_key(|entry| entry.serial);
    Ok(entries)
}

/// Reads the extensions of a list and returns its number.
fn whole(wrapped: &[u8]) -> Result<Option<String>, ListError> {
    let extensions = only(wrapped, SEQUENCE).ok_or(ListError::Malformed)?;
    let mut number = None;
    each(extensions.content, |extension| {
        match extension.number {
            Some(DELTA) => return Err(ListError::Delta),
            Some(DISTRIBUTION_POINT) => distribution_point(extension.value)?,
            Some(CRL_NUMBER) => {
                let content = only(extension.value, INTEGER).ok_or(ListError::Malformed)?.content;
                number = Some(decimal(&serial(content).ok_or(ListError::Malformed)?));
            }
            Some(AUTHORITY_KEY) => {}
            _ if extension.critical => return Err(ListError::Critical),
            _ => {}
        }
        Ok(())
    })?;
    Ok(number)
}

/// RFC 5280, 5.2.5. A list of only some certificates, or only some reasons, is still right about those it names.
fn distribution_point(value: &[u8]) -> Result<(), ListError> {
    let mut fields = Values::new(only(value, SEQUENCE).ok_or(ListError::Malformed)?.content);
    while !fields.is_empty() {
        let field = fields.next().ok_or(ListError::Malformed)?;
        match field.tag {
            0xa0 | 0x83 => {}
            0x81 | 0x82 if field.content.len() == 1 => {}
            0x84 if field.content == [0] => {}
            0x84 => return Err(ListError::Indirect),
            0x85 if field.content == [0] => {}
            0x85 => return Err(ListError::Attributes),
            _ => return Err(ListError::Malformed),
        }
    }
    Ok(())
}

/// An extension. Holds its last arc when it is directly below `id-ce`.
struct Extension<'a> {
    number: Option<u8>,
    critical: bool,
    value: &'a [u8],
}

fn each(content: &[u8], mut look: impl FnMut(Extension<'_>) -> Result<(), ListError>) -> Result<(), ListError> {
    let malformed = ListError::Malformed;
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut values = Values::new(content);
    while !values.is_empty() {
        let mut fields = Values::new(values.take(SEQUENCE).ok_or(malformed)?.content);
        let oid = fields.take(OID).ok_or(malformed)?.content;
        let critical = match fields.take_if(BOOLEAN).map(|flag| flag.content) {
            None | Some([0]) => false,
            Some([_]) => true,
            Some(_) => return Err(malformed),
        };
        let value = fields.take(OCTETS).ok_or(malformed)?.content;
        // One reader could use a second copy that another one skips.
        if !fields.is_empty() || seen.contains(&oid) || seen.len() == MAX_EXTENSIONS {
            return Err(malformed);
        }
        seen.push(oid);
        let number = match oid.strip_prefix(ID_CE) {
            Some([number]) => Some(*number),
            _ => None,
        };
        look(Extension { number, critical, value })?;
    }
    Ok(())
}

/// Unix seconds of a UTCTime or GeneralizedTime; 0 for a time before 1970.
fn time(value: Option<Value<'_>>) -> Option<u64> {
    let value = value.filter(|value| [0x17, 0x18].contains(&value.tag))?;
    let (rest, time) = ASN1Time::from_der(value.raw).ok()?;
    rest.is_empty().then(|| u64::try_from(time.timestamp()).unwrap_or(0))
}

fn text(name: &[u8]) -> String {
    let text = X509Name::from_der(name).map(|(_, name)| name.to_string()).unwrap_or_default();
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) { String::new() } else { text }
}

#[cfg(test)]
mod tests;
