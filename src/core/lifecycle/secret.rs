//! The secret that opens a slot, as it was typed or sent.

use crate::api::secret::SecretText;
use crate::crypto::recovery::{self, RecoveryCode};
use crate::crypto::secret::SecretBytes;
use crate::keys::share;

use crate::core::error::VaultError;
use crate::core::request::{UnsealKey, normalised};
use crate::core::rotation::orders::Secret;
use crate::core::vault::Vault;

/// Converts the secret for the slots. `None` while more shares are needed.
pub(in crate::core) fn secret(vault: &Vault, key: &UnsealKey<'_>) -> Result<Option<Secret>, VaultError> {
    let starts = |text: &SecretText, prefix: &str| {
        text.reveal().trim_start().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    Ok(Some(match key {
        UnsealKey::Passphrase(text) => Secret::Passphrase(normalised(text)?),
        UnsealKey::KeyFile(bytes) => Secret::KeyFile(SecretBytes::from_vec(bytes.to_vec())),
        UnsealKey::Both { passphrase, file } => {
            Secret::Both { passphrase: normalised(passphrase)?, file: SecretBytes::from_vec(file.to_vec()) }
        }
        UnsealKey::Typed(text) if starts(text, recovery::PREFIX) => {
            let code = RecoveryCode::parse(text.reveal());
            Secret::Recovery(code.map_err(|error| VaultError::BadRequest(error.to_string()))?)
        }
        UnsealKey::Typed(text) if starts(text, share::PREFIX) => {
            let Some(shares) = vault.shares.lock().take(&vault.ports, text)? else { return Ok(None) };
            Secret::Shares(shares)
        }
        UnsealKey::Typed(text) => Secret::Passphrase(normalised(text)?),
    }))
}
