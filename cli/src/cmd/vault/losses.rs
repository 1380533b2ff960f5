//! `losses`: the losses that were accepted, and the records that a salvage removed.

use clap::Args;
use strongroom::api::sys::NamedLoss;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output::Output;
use crate::visible::visible;

/// `strongroom losses`
#[derive(Debug, Args)]
pub struct LossesArgs {}

impl LossesArgs {
    /// # Errors
    /// Not allowed (exit code 5), or the vault cannot be reached (6).
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let losses = session.client.sys().losses()?;
        out.either(&losses, || match losses.losses.is_empty() {
            true => "no losses have been accepted".to_owned(),
            false => losses.losses.iter().map(told).collect::<Vec<_>>().join("\n"),
        })
    }
}

fn told(NamedLoss { loss, records }: &NamedLoss) -> String {
    let mut text =
        format!("{} with slot {:?}, epoch {}: {}", loss.time, loss.slot, loss.epoch, loss.accepted.join("; "));
    for record in records {
        text.push_str(&format!("\n  {}", visible(&record.to_string())));
    }
    text
}
