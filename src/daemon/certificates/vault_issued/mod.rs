//! The listener's certificate from the vault's own authority. It is replaced at two thirds of its lifetime, and when a
//! different authority starts to sign.
//!
//! The pair must survive a kill at every step, because the next start needs it while the vault is still sealed. The new
//! certificate is written to a separate file. Then the new key takes its place, then the new certificate. [`recover`]
//! finishes or undoes an interrupted change by checking which certificate matches the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::core::{Vault, VaultError};
use crate::daemon::layout::{self, LayoutError};
use crate::http::{Tls, check_pair};
use crate::pki::{self, SERVER_LIFE_S};

/// Wait after a failure, in milliseconds.
const RETRY_MS: u64 = 60_000;

/// The certificate that the daemon renews itself.
pub(super) struct VaultIssued {
    certificate: PathBuf,
    key: PathBuf,
    vault: Arc<Vault>,
    not_before_ms: u64,
}

impl VaultIssued {
    /// Renews the pair in these two files.
    pub(super) fn new(certificate: &Path, key: &Path, vault: Arc<Vault>) -> Self {
        Self { certificate: certificate.to_owned(), key: key.to_owned(), vault, not_before_ms: 0 }
    }

    /// Replaces the pair if that is due and the vault is unsealed. A failure is logged, and the next attempt follows a
    /// minute later.
    pub(super) fn look(&mut self, tls: &Tls, now_ms: u64) {
        // A pause longer than the wait was set before the clock was set back.
        if self.not_before_ms.saturating_sub(now_ms) > RETRY_MS {
            self.not_before_ms = 0;
        }
        if now_ms < self.not_before_ms {
            return;
        }
        match self.renew(tls, now_ms) {
            Ok(false) => {}
            Ok(true) => tracing::info!("the listener's certificate was renewed by the vault's own authority"),
            Err(problem) => {
                tracing::error!(
                    "the listener's certificate could not be renewed; the current one remains in use: {problem}"
                );
                self.not_before_ms = now_ms.saturating_add(RETRY_MS);
            }
        }
    }

    fn renew(&self, tls: &Tls, now_ms: u64) -> Result<bool, String> {
        let Some(signing) = self.vault.signing_authority() else { return Ok(false) };
        let shown = layout::read(&self.certificate).map_err(|error| error.to_string())?;
        let shown = pki::server_facts(&shown).ok_or("the certificate file cannot be read")?;
        let due_ms = shown.not_before_ms.saturating_add(shown.not_after_ms.saturating_sub(shown.not_before_ms) / 3 * 2);
        // A certificate that was issued while the clock was ahead is not valid yet, and clients would reject it.
        let in_time = (shown.not_before_ms..due_ms).contains(&now_ms);
        if shown.authority_subject.as_slice() == signing.as_slice() && in_time {
            return Ok(false);
        }
        let bundle = match self.vault.issue_server(&shown.names, SERVER_LIFE_S) {
            // Somebody may have sealed the vault since the check above.
            Err(VaultError::Sealed) => return Ok(false),
            other => other.map_err(|error| error.to_string())?,
        };
        let key = bundle.key_pem.reveal().as_bytes();
        store(&self.certificate, &self.key, bundle.cert_pem.as_bytes(), key).map_err(|error| error.to_string())?;
        tls.replace_server(bundle.cert_pem.as_bytes(), key).map_err(|error| error.to_string())?;
        Ok(true)
    }
}

/// Replaces the old pair with a new one. After a kill at any moment [`recover`] restores one complete pair.
///
/// # Errors
/// A file cannot be written, synced or renamed.
fn store(certificate: &Path, key: &Path, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), LayoutError> {
    let aside = aside(certificate);
    layout::replace(&aside, certificate_pem)?;
    layout::replace_private(key, key_pem)?;
    layout::rename(&aside, certificate)
}

/// Finishes or undoes an interrupted [`store`]. Call it before reading the pair.
///
/// # Errors
/// A file cannot be read, renamed or removed.
pub(super) fn recover(certificate: &Path, key: &Path) -> Result<(), LayoutError> {
    let aside = aside(certificate);
    if !aside.exists() {
        return Ok(());
    }
    let new = layout::read(&aside)?;
    let key = Zeroizing::new(layout::read_private(key)?);
    if check_pair(&new, &key).is_ok() {
        tracing::warn!("an interrupted change of the listener's certificate was completed");
        return layout::rename(&aside, certificate);
    }
    layout::remove(&aside)
}

fn aside(certificate: &Path) -> PathBuf {
    let mut name = certificate.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    certificate.with_file_name(name)
}

#[cfg(test)]
mod tests;
