//! `sys/strongroom/verify` and `sys/strongroom/losses`: whether every record can be used, and what was given up for good.

use crate::api::sys::{Losses, NamedLoss};
use crate::barrier::MountId;
use crate::engine::Reply;

use super::{Inquiry, data, number_field, only_fields};
use crate::core::error::VaultError;
use crate::core::live::verifier::DEFAULT_RATE;
use crate::core::state::bad_records::lost_in;

/// What a caller may ask for, records a second.
const RATES: std::ops::RangeInclusive<u64> = 100..=1_000_000;

/// `POST sys/strongroom/verify`: begins a verification or joins the one that runs.
pub(super) fn begin(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let object = inquiry.body.object()?;
    only_fields(&object, &["records_per_second"])?;
    let rate = number_field(&object, "records_per_second")?.unwrap_or(DEFAULT_RATE);
    if !RATES.contains(&rate) {
        return Err(VaultError::BadRequest("field \"records_per_second\" must be 100 to 1000000".to_owned()));
    }
    data(&inquiry.live.verifier.begin(rate)?)
}

/// `GET sys/strongroom/verify`.
pub(super) fn show(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&inquiry.live.verifier.shown())
}

/// `GET sys/strongroom/losses`: every loss that was accepted, with the records that went.
pub(super) fn losses(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let view = inquiry.view(MountId::MISC);
    let mut losses = Vec::new();
    for loss in &inquiry.live.losses {
        let records = if loss.salvaged > 0 { lost_in(&view, loss.epoch)? } else { Vec::new() };
        losses.push(NamedLoss { loss: loss.clone(), records });
    }
    data(&Losses { losses })
}
