//! `sys/metrics`: gauges of rotations and of the store. Names and numbers only, no path and no value.

use serde::Serialize;

use crate::api::reply::Reply;

use super::{Inquiry, data};
use crate::core::certificates::schedule::Clients;
use crate::core::error::VaultError;
use crate::core::lifecycle::gauges::{self, Gauge};

#[derive(Serialize)]
struct Gauges {
    gauges: Vec<Gauge>,
}

/// Everything that can be counted without reading a secret.
pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    // The rows of the authorities and of the listener are not counted, and each would cost a pass of its own.
    inquiry.looks_at_certificates()?;
    let clients = Clients::count(inquiry.snapshot, inquiry.now_ms);
    data(&Gauges { gauges: gauges::all(inquiry, clients.due)? })
}
