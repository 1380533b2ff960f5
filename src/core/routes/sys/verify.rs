//! `sys/strongroom/verify` and `sys/strongroom/losses`: checks all records, and lists accepted losses.

use crate::api::reply::Reply;
use crate::api::sys::{Losses, NamedLoss};
use crate::barrier::MountId;

use super::{Inquiry, data};
use crate::core::error::VaultError;
use crate::core::live::verifier::DEFAULT_RATE;
use crate::core::state::bad_records::lost_in;

/// Range for `records_per_second`.
const LEAST_RATE: u64 = 100;
const MOST_RATE: u64 = 1_000_000;

/// `POST sys/strongroom/verify`: starts a check, or joins a running one.
pub(super) fn begin(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let fields = inquiry.body.only(&["records_per_second"])?;
    let rate = fields.number_in("records_per_second", LEAST_RATE, MOST_RATE)?.unwrap_or(DEFAULT_RATE);
    data(&inquiry.live.verifier.begin(rate)?)
}

/// `GET sys/strongroom/verify`.
pub(super) fn show(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&inquiry.live.verifier.shown())
}

/// `GET sys/strongroom/losses`: lists all accepted losses, with the records removed by a salvage.
pub(super) fn losses(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let view = inquiry.view(MountId::MISC);
    let mut losses = Vec::new();
    for loss in &inquiry.live.losses {
        let records = if loss.salvaged > 0 { lost_in(&view, loss.epoch)? } else { Vec::new() };
        losses.push(NamedLoss { loss: loss.clone(), records });
    }
    data(&Losses { losses })
}
