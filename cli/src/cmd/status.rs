//! `status`: whether the vault is sealed, what serves it, and which losses were accepted.

use clap::Args;
use serde::Serialize;
use strongroom::api::sys::AcceptedLoss;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;

/// `strongroom status`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 when the vault serves, 3 when it is sealed, 6 when it cannot be reached or was rolled back."
)]
pub struct StatusArgs {}

#[derive(Serialize)]
struct Status<'a> {
    address: &'a str,
    sealed: bool,
    initialized: bool,
    version: &'a str,
    storage: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<AcceptedLoss>,
}

impl StatusArgs {
    /// # Errors
    /// Unreachable; sealed (exit code 3) or rolled back (6) after printing.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let seal = session.client.sys().seal_status()?;
        let address = session.client.address();
        let losses = if seal.sealed { Vec::new() } else { session.client.sys().health()?.losses };
        let status = Status {
            address,
            sealed: seal.sealed,
            initialized: seal.initialized,
            version: &seal.version,
            storage: &seal.storage_type,
            losses,
        };
        if !seal.sealed
            && let Some(warning) = super::expiry::warning(session)
        {
            eprintln!("{warning}");
        }
        out.either(&status, || {
            let state = if seal.sealed { "sealed" } else { "unsealed" };
            let mut text =
                format!("{address}: {}\nversion {}, storage {}", out.strong(state), seal.version, seal.storage_type);
            for loss in &status.losses {
                let AcceptedLoss { time, accepted, slot, epoch, .. } = loss;
                text.push_str(&format!(
                    "\nloss accepted {time} with slot {slot:?}, epoch {epoch}: {}",
                    accepted.join("; ")
                ));
            }
            text
        })?;
        if seal.sealed {
            return Err(Failure::new(Code::Sealed, "the vault is sealed", "open it: strongroom unseal"));
        }
        // Last, because a vault that was rolled back has a status too.
        session.client.compare_history()?;
        Ok(())
    }
}
