//! `status`: whether the vault is sealed, what serves it, and which losses were accepted.

use clap::Args;
use serde::Serialize;
use strongroom::api::sys::{AcceptedLoss, Damage};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<Damage>,
}

/// What to do about damage, in `status`.
const DAMAGE_STEPS: &str = "find the damaged records: strongroom verify; then restore a backup, or remove them: \
     strongroomd storage salvage";

impl StatusArgs {
    /// # Errors
    /// Unreachable; sealed (exit code 3) or rolled back (6) after printing.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let seal = session.client.sys().seal_status()?;
        let address = session.client.address();
        let (losses, damage) = if seal.sealed {
            (Vec::new(), None)
        } else {
            let health = session.client.sys().health()?;
            (health.losses, health.damage)
        };
        let status = Status {
            address,
            sealed: seal.sealed,
            initialized: seal.initialized,
            version: &seal.version,
            storage: &seal.storage_type,
            losses,
            damage,
        };
        if !seal.sealed
            && let Some(warning) = crate::cmd::rotations::expiry::warning(session)
        {
            eprintln!("{warning}");
        }
        out.either(&status, || {
            let state = if seal.sealed { "sealed" } else { "unsealed" };
            let mut text =
                format!("{address}: {}\nversion {}, storage {}", out.strong(state), seal.version, seal.storage_type);
            if let Some(Damage { writes_stopped }) = status.damage {
                let what = if writes_stopped {
                    "stored records are damaged: writes are stopped until a restart; intact records can still be read"
                } else {
                    "stored records were found to be damaged, and no check has passed since"
                };
                text.push_str(&format!("\n{}\n  {DAMAGE_STEPS}", out.strong(what)));
            }
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
