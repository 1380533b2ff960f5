//! What a guess at the passphrase of a slot must cost.
//!
//! Anyone with a copy of the header can guess at the cheapest slot, and an expensive one does not help. Therefore a new
//! passphrase is as expensive as the most expensive one, and a cheaper slot is raised when its secret is known.
//! [`Params::as_dear_as`] says what "as expensive" means.

use crate::core::error::VaultError;
use crate::core::rotation::desk::Desk;
use crate::core::rotation::orders::Secret;
use crate::crypto::password::{self, Params, WRITE_FLOOR};
use crate::keys::{Header, Slot};

/// How long a guess at the first passphrase of a vault takes here, milliseconds.
const TARGET_MS: u64 = 1_000;

/// The cost that each passphrase slot should have: that of the dearest one, that of the configuration, and the floor.
pub(super) fn of_each(desk: &Desk, header: &Header) -> Params {
    Params::dearest(known(desk, header))
}

/// The cost of a slot for the new `secret`, ordered with the secret of the slot `opened`. The first passphrase of a vault is measured as by `init`.
///
/// # Errors
/// [`VaultError::BadRequest`] when the derivation would take more than half of the memory that this process may use;
/// [`VaultError::Internal`] when the measurement fails.
pub(super) fn of_new(desk: &Desk, header: &Header, opened: &Slot, secret: &Secret) -> Result<Params, VaultError> {
    if !matches!(secret, Secret::Passphrase(_) | Secret::Both { .. } | Secret::Hybrid(_)) {
        // All others are random, and nothing is derived slowly from them.
        return Ok(WRITE_FLOOR);
    }
    if known(desk, header).next().is_none() {
        return measured(desk);
    }
    let cost = of_each(desk, header);
    // The memory that `opened` took a moment ago is there.
    let taken = opened.cost().is_some_and(|taken| taken.m_kib >= cost.m_kib);
    if taken || cost.fits(desk.settings.memory) {
        return Ok(cost);
    }
    // The daemon serves while it derives. Without memory the system would end it.
    Err(VaultError::BadRequest(format!(
        "a new passphrase must cost as much to guess as the most expensive slot and [kdf] in the configuration, which takes {} MiB: \
         more than half of the memory that the vault may use. Give it more memory, or add a key file or a recovery code instead",
        cost.m_kib / 1024
    )))
}

fn known(desk: &Desk, header: &Header) -> impl Iterator<Item = Params> {
    header.slots.iter().filter_map(Slot::cost).chain(desk.settings.kdf)
}

fn measured(desk: &Desk) -> Result<Params, VaultError> {
    let mut timer = |params: &Params| {
        let took_ms = password::timed(params, &|| desk.clock.steady())?;
        // A clock that stands still measures nothing.
        Ok(if took_ms == 0 { TARGET_MS } else { took_ms })
    };
    let most_kib = password::share_of(desk.settings.memory);
    password::calibrate(TARGET_MS, most_kib, &mut timer).map_err(|_| VaultError::Internal)
}
