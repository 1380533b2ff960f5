//! Converts request bodies to orders about key slots. Secrets move from the body into the order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::rotation::{NewSlotBody, RekeyBody, SlotChange, UnlockBody};
use crate::api::secret::SecretText;
use crate::crypto::recovery::RecoveryCode;
use crate::crypto::secret::SecretBytes;
use crate::keys::share::Share;

use crate::core::certificates::issue::refusal;
use crate::core::error::VaultError;
use crate::core::request::normalised;
use crate::core::rotation::orders::{Compromised, Key, Making, Secret, SlotOrder};

/// Shortest passphrase for a new slot, in characters.
const MIN_PASSPHRASE: usize = 12;

impl TryFrom<UnlockBody> for Key {
    type Error = VaultError;

    /// The secret in `unlock` and `keep`.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] unless exactly one kind of secret was sent, well-formed.
    fn try_from(body: UnlockBody) -> Result<Self, VaultError> {
        let UnlockBody { slot, passphrase, key_file, recovery_code, shares } = body;
        let secret = match (passphrase, key_file, recovery_code, shares) {
            (Some(text), None, None, None) => Secret::Passphrase(normalised(&text)?),
            (None, Some(file), None, None) => Secret::KeyFile(decoded(&file)?),
            (Some(text), Some(file), None, None) => {
                Secret::Both { passphrase: normalised(&text)?, file: decoded(&file)? }
            }
            (None, None, Some(code), None) => {
                let code = RecoveryCode::parse(code.reveal());
                Secret::Recovery(code.map_err(|error| VaultError::BadRequest(error.to_string()))?)
            }
            (None, None, None, Some(texts)) => {
                let shares: Result<Vec<Share>, _> = texts.iter().map(|text| Share::parse(text.reveal())).collect();
                Secret::Shares(shares.map_err(|error| VaultError::BadRequest(error.to_string()))?)
            }
            _ => {
                return bad(
                    "to open a slot, give one of: passphrase, key_file, passphrase with key_file, recovery_code, shares",
                );
            }
        };
        Ok(Self { slot, secret })
    }
}

impl Making {
    /// What a new slot is made from, and its label.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] for an unknown type, a missing field, or a passphrase that is too short.
    pub(in crate::core) fn read(new: NewSlotBody) -> Result<(String, Self), VaultError> {
        let NewSlotBody { kind, label, passphrase, key_file, threshold, total } = new;
        let making = match kind.as_str() {
            "passphrase" => Self::Sent(Secret::Passphrase(fresh(passphrase)?)),
            "key-file" => Self::Sent(Secret::KeyFile(file(key_file)?)),
            "passphrase-and-key-file" => {
                Self::Sent(Secret::Both { passphrase: fresh(passphrase)?, file: file(key_file)? })
            }
            "hybrid" => Self::Sent(Secret::Hybrid(fresh(passphrase)?)),
            "recovery-code" => Self::RecoveryCode,
            "shares" => match (threshold, total) {
                (Some(threshold), Some(total)) => Self::Shares { threshold, total },
                _ => return bad("fields \"threshold\" and \"total\" are required for shares"),
            },
            _ => {
                return bad(
                    "field \"type\" must be one of passphrase, key-file, passphrase-and-key-file, hybrid, recovery-code, shares",
                );
            }
        };
        Ok((label, making))
    }
}

/// A passphrase for a new slot.
fn fresh(text: Option<SecretText>) -> Result<SecretBytes, VaultError> {
    let Some(text) = text else { return bad("field \"passphrase\" is required for this type") };
    if text.reveal().chars().count() < MIN_PASSPHRASE {
        return bad("a passphrase must have at least 12 characters");
    }
    normalised(&text)
}

/// A key file for a new slot.
fn file(text: Option<SecretText>) -> Result<SecretBytes, VaultError> {
    match text {
        Some(text) => decoded(&text),
        None => bad("field \"key_file\" is required for this type"),
    }
}

fn decoded(text: &SecretText) -> Result<SecretBytes, VaultError> {
    let bytes = STANDARD.decode(text.reveal().trim());
    bytes.map(SecretBytes::from_vec).or_else(|_| bad("field \"key_file\" must be base64"))
}

impl TryFrom<SlotChange> for SlotOrder {
    type Error = VaultError;

    /// A new secret for a slot, or the proof that the shares of a new set were printed.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when both or neither are given, or when a secret is malformed.
    fn try_from(body: SlotChange) -> Result<Self, VaultError> {
        let SlotChange { unlock, new, confirm } = body;
        let unlock = Key::try_from(unlock)?;
        match (new, confirm) {
            (Some(new), false) => Ok(Self::Change { unlock, making: Making::read(new)?.1 }),
            (None, true) => Ok(Self::Confirm(unlock)),
            _ => bad("give either \"new\", or \"confirm\": true with the shares of a new set"),
        }
    }
}

impl TryFrom<RekeyBody> for SlotOrder {
    type Error = VaultError;

    /// A new root key.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when the certificate request is missing, superfluous or malformed, or a secret is
    /// malformed.
    fn try_from(body: RekeyBody) -> Result<Self, VaultError> {
        let RekeyBody { keep, drop_absent, compromised, deep, csr } = body;
        let compromised = match (compromised, csr) {
            (Some(slot), Some(csr)) => {
                // Checked before a key is derived, so that the order cannot fail half-way because of it.
                crate::pki::read_csr(&csr).map_err(refusal)?;
                Some(Compromised { slot, csr })
            }
            (Some(_), None) => {
                return bad(
                    "field \"csr\" is required with \"compromised\": every certificate is revoked, and your new one is issued for this request",
                );
            }
            (None, Some(_)) => return bad("field \"csr\" is only allowed with \"compromised\""),
            (None, None) => None,
        };
        let keep = keep.into_iter().map(Key::try_from).collect::<Result<Vec<Key>, VaultError>>()?;
        Ok(Self::Rekey { keep, drop_absent, compromised, deep })
    }
}

fn bad<T>(text: &str) -> Result<T, VaultError> {
    Err(VaultError::BadRequest(text.to_owned()))
}
