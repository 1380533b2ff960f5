//! The listener's certificate from the vault's own authority: replaced at two thirds of its life, and when another
//! authority signs.
//!
//! The pair has to survive a kill at every step, for the next start needs it while the vault is still sealed. The new
//! certificate is written aside, then the key takes its place, then the certificate does; [`recover`] finishes or undoes
//! what was interrupted by looking which certificate the key fits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::core::{Vault, VaultError};
use crate::daemon::layout::{self, LayoutError};
use crate::http::{Tls, check_pair};
use crate::pki::{self, SERVER_LIFE_S};

/// Wait after a failure.
const RETRY_MS: u64 = 60_000;

/// The certificate that the daemon looks after.
pub(super) struct VaultIssued {
    certificate: PathBuf,
    key: PathBuf,
    vault: Arc<Vault>,
    not_before_ms: u64,
}

impl VaultIssued {
    /// Looks after the pair in these two files.
    pub(super) fn new(certificate: &Path, key: &Path, vault: Arc<Vault>) -> Self {
        Self { certificate: certificate.to_owned(), key: key.to_owned(), vault, not_before_ms: 0 }
    }

    /// Replaces the pair if that is due and the vault is open. A failure is logged and tried again in a minute.
    pub(super) fn look(&mut self, tls: &Tls, now_ms: u64) {
        // A pause that is longer than any was begun by a clock that has been set back since.
        if self.not_before_ms.saturating_sub(now_ms) > RETRY_MS {
            self.not_before_ms = 0;
        }
        if now_ms < self.not_before_ms {
            return;
        }
        match self.renew(tls, now_ms) {
            Ok(false) => {}
            Ok(true) => tracing::info!("the listener has a new certificate of its own authority"),
            Err(problem) => {
                tracing::error!("the listener's certificate could not be renewed, the old one stays: {problem}");
                self.not_before_ms = now_ms.saturating_add(RETRY_MS);
            }
        }
    }

    fn renew(&self, tls: &Tls, now_ms: u64) -> Result<bool, String> {
        let Some(signing) = self.vault.signing_authority() else { return Ok(false) };
        let shown = layout::read(&self.certificate).map_err(|error| error.to_string())?;
        let shown = pki::server_facts(&shown).ok_or("the certificate file cannot be read")?;
        let due_ms = shown.not_before_ms.saturating_add(shown.not_after_ms.saturating_sub(shown.not_before_ms) / 3 * 2);
        // One from a clock that was ahead is not valid yet, and nobody would take it.
        let in_time = (shown.not_before_ms..due_ms).contains(&now_ms);
        if shown.authority_subject.as_slice() == signing.as_slice() && in_time {
            return Ok(false);
        }
        let bundle = match self.vault.issue_server(&shown.names, SERVER_LIFE_S) {
            // Between the question above and here somebody sealed it.
            Err(VaultError::Sealed) => return Ok(false),
            other => other.map_err(|error| error.to_string())?,
        };
        let key = bundle.key_pem.reveal().as_bytes();
        store(&self.certificate, &self.key, bundle.cert_pem.as_bytes(), key).map_err(|error| error.to_string())?;
        tls.replace_server(bundle.cert_pem.as_bytes(), key).map_err(|error| error.to_string())?;
        Ok(true)
    }
}

/// Puts a new pair in place of the old one. After a kill at any moment [`recover`] leaves one whole pair.
///
/// # Errors
/// A file cannot be written, synced or renamed.
fn store(certificate: &Path, key: &Path, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), LayoutError> {
    let aside = aside(certificate);
    layout::replace(&aside, certificate_pem)?;
    layout::replace_private(key, key_pem)?;
    layout::rename(&aside, certificate)
}

/// Finishes or undoes an interrupted [`store`]. Called before the pair is read.
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
        tracing::warn!("an interrupted change of the listener's certificate is finished");
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
