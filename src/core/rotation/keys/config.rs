//! The configuration of automatic rotation of the data key.

use crate::api::fields::Fields;
use crate::api::rotation::RotateConfig;
use crate::barrier::{MountId, Tx, View};

use crate::core::error::VaultError;

/// Name of the record.
const RECORD: &str = "config/data-key";
/// Lowest `max_operations` that is accepted. With less, the vault would do nothing but rotate.
const MIN_OPERATIONS: u64 = 1_000;
/// Shortest interval of automatic rotation, in seconds.
const MIN_INTERVAL_S: u64 = 3_600;

/// The stored configuration, or the default one.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn read(view: &View<'_>) -> Result<RotateConfig, VaultError> {
    match view.entry(RECORD)? {
        Some(entry) => serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity),
        None => Ok(RotateConfig::default()),
    }
}

/// Changes the configuration by the fields `enabled`, `max_operations` and `interval`. Absent fields stay unchanged.
///
/// # Errors
/// [`VaultError::BadRequest`] for a number outside its range; the errors of the barrier.
pub(in crate::core) fn change(tx: &mut Tx<'_>, fields: Fields<'_>) -> Result<(), VaultError> {
    let mut config = read(&tx.view(MountId::ROTATION))?;
    if let Some(enabled) = fields.flag("enabled")? {
        config.enabled = enabled;
    }
    let most = RotateConfig::default().max_operations;
    if let Some(number) = fields.number_in("max_operations", MIN_OPERATIONS, most)? {
        config.max_operations = number;
    }
    if let Some(interval_s) = fields.seconds("interval")? {
        if interval_s != 0 && interval_s < MIN_INTERVAL_S {
            return Err(VaultError::BadRequest(
                "field \"interval\" must be a duration of at least one hour, or 0 for never".to_owned(),
            ));
        }
        config.interval_s = interval_s;
    }
    let bytes = serde_json::to_vec(&config).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::ROTATION, RECORD, &bytes, 0)?;
    Ok(())
}
