//! Revocation lists (RFC 5280 section 5) for other verifiers. The vault itself uses its own ledger.

use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

use super::authority::Authority;
use super::error::PkiError;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Time of the revocation, Unix milliseconds.
    pub at_ms: u64,
}

impl Authority {
    /// Signs a list, valid from `this_ms` to `next_ms`, and returns it in PEM. `number` must be greater than in the
    /// previous list.
    ///
    /// # Errors
    /// [`PkiError::Make`], also for a serial number that is not hexadecimal.
    pub fn revocation_list(
        &self,
        revoked: &[Revocation],
        number: u64,
        this_ms: u64,
        next_ms: u64,
    ) -> Result<String, PkiError> {
        let time = |ms: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(ms / 1_000);
        let entry = |entry: &Revocation| -> Result<RevokedCertParams, PkiError> {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes_of(&entry.serial)?),
                revocation_time: time(entry.at_ms),
                reason_code: None,
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update: time(this_ms),
            next_update: time(next_ms),
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).map_err(|_| PkiError::Make)?;
        list.pem().map_err(|_| PkiError::Make)
    }
}

fn bytes_of(hex: &str) -> Result<Vec<u8>, PkiError> {
    HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| PkiError::Make)
}
