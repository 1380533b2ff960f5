//! `strongroomd storage accept-loss`: shows what is lost, asks, and continues the vault in the next epoch.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use super::args::AcceptLossArgs;
use super::offline::{Offline, OfflineError};
use crate::api::sys::{AcceptedLoss, in_records};
use crate::audit::FileDevice;
use crate::barrier::BarrierError;
use crate::core::lifecycle::losses::{self, Kept, LossError};
use crate::core::{AuditOpener, Clock, SystemClock};

/// Why no loss was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The files of the vault cannot be opened.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The records come from different points in time, or some are damaged or missing.
    #[error(
        "{0}. Nothing was changed. This loss cannot be accepted, because a deleted record could come back with it: restore \
         the store from a backup, or see what can be kept: strongroomd storage salvage"
    )]
    Mixture(BarrierError),
    /// Reading or writing failed.
    #[error("{0}")]
    Loss(LossError),
    /// The operator did not answer yes.
    #[error("nothing was changed; to accept this loss, answer yes or use --yes")]
    NotAccepted,
}

impl From<LossError> for AcceptError {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Barrier(
                error @ (BarrierError::SetHash(_)
                | BarrierError::StateDamaged(_)
                | BarrierError::StateMissing
                | BarrierError::TermDestroyed(_)),
            ) => Self::Mixture(error),
            error => Self::Loss(error),
        }
    }
}

#[derive(Serialize)]
struct LossReply<'a> {
    lost: &'a [String],
    kept: &'a Kept,
    accepted: Option<AcceptedLoss>,
}

/// Runs the command. If nothing is lost, it says so and changes nothing.
///
/// # Errors
/// Any [`AcceptError`]. After [`AcceptError::Loss`] the command can be run again.
pub fn run(args: &AcceptLossArgs) -> Result<(), AcceptError> {
    let target = &args.unseal.target;
    let offline = Offline::open(&args.unseal)?;
    let mut examined = offline.examine::<AcceptError>(&args.unseal, losses::examine)?;
    if args.restored {
        examined.declare_restored();
    }
    let (lost, kept) = (examined.lines(), examined.kept());
    if !target.json {
        tell(&lost, &kept, &offline.config.data);
    }
    let mut accepted = None;
    if !lost.is_empty() {
        if !args.yes && !confirmed("Permanently accept this loss?") {
            return Err(AcceptError::NotAccepted);
        }
        let opener: AuditOpener = Box::new(FileDevice::opener_after_loss(offline.config.audit_file.clone()));
        accepted = Some(examined.accept(&opener, SystemClock.now_ms())?);
    }
    if target.json {
        let outcome = LossReply { lost: &lost, kept: &kept, accepted };
        println!("{}", serde_json::to_string(&outcome).unwrap_or_default());
    } else if let Some(accepted) = accepted {
        println!("\naccepted: epoch {} has begun; strongroom status shows this permanently", accepted.epoch);
        println!("next: start the daemon, then repeat all deletions and revocations since {}", kept.last_write);
        println!("then check all records: strongroom verify");
    }
    Ok(())
}

fn tell(lost: &[String], kept: &Kept, data: &Path) {
    if lost.is_empty() {
        println!("nothing is missing: header, store, anchor and audit log match");
        println!(
            "if you restored the whole vault from an older copy, declare it: strongroomd storage accept-loss --restored --data {}",
            data.display()
        );
        return;
    }
    println!("what is lost:");
    for line in lost {
        println!("  {line}");
    }
    println!(
        "what is kept: the state of {} (epoch {}, generation {}, {}), complete and consistent",
        kept.last_write,
        kept.epoch,
        kept.generation,
        in_records(kept.records)
    );
    println!("Policies, identities and tokens go back to that time too. Revocations after it are lost.");
}

/// Asks on the terminal. Without one, the answer is no.
pub(super) fn confirmed(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    print!("{question} Type yes: ");
    let mut answer = String::new();
    std::io::stdout().flush().is_ok() && std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
