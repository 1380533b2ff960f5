//! `strongroomd storage accept-loss`: shows what is lost, asks, and continues the vault in the next epoch.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use serde::Serialize;

use super::args::AcceptLossArgs;
use super::config::{Config, ConfigError};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::migrate;
use crate::api::secret::SecretText;
use crate::api::sys::AcceptedLoss;
use crate::audit::{AuditKeys, FileDevice};
use crate::barrier::BarrierError;
use crate::core::lifecycle::init::InitPorts;
use crate::core::lifecycle::losses::{self, Kept, LossError};
use crate::core::{AuditOpener, Clock, SystemClock};
use crate::crypto::random::SystemRandom;
use crate::store::sidecar::{DirLock, DiskAnchor, DiskHeader};
use crate::store::{self, StoreError};

/// Why no loss was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A folder is unusable.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The secret could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The store cannot be opened, or a daemon uses it.
    #[error("opening the store: {0}; stop the daemon if it is running")]
    Store(#[from] StoreError),
    /// The store mixes records of different times, or a record is damaged.
    #[error(
        "{0}. Nothing was changed. This loss cannot be accepted, because a record that was deleted could come back with \
             it: put the store back from a backup"
    )]
    Mixture(BarrierError),
    /// Reading or writing failed.
    #[error("{0}")]
    Loss(LossError),
    /// The operator did not answer yes.
    #[error("nothing was changed; to accept this loss, answer yes or give --yes")]
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
struct Outcome<'a> {
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
    let config = Config::load(&migrate::config_path(target.config.as_deref(), target.data.as_deref()))?;
    layout::check_data_dir(&config.data)?;
    let _lock = DirLock::acquire(&config.data)?;
    let ports = InitPorts {
        store: store::open(&config.engine, &layout::store_folder(&config.data, &config.engine), false)?,
        header: Arc::new(DiskHeader::new(&config.data)),
        anchor: Arc::new(DiskAnchor::new(&config.anchor)),
        random: Arc::new(SystemRandom),
    };
    let file = args.unseal.key_file.as_deref().map(input::key_file).transpose()?;
    let text = match (args.unseal.passphrase_fd, &file) {
        (Some(fd), _) => Some(input::passphrase_from_fd(fd)?),
        (None, Some(_)) => None,
        (None, None) => Some(input::passphrase()?),
    };
    let text = text.map(|text| SecretText::from(text.as_str()));
    let check = |keys: &AuditKeys, expected| FileDevice::check(&config.audit_file, keys, expected);
    let examined = losses::examine(ports, text.as_ref(), file.as_deref().map(Vec::as_slice), &check)?;
    let (lost, kept) = (examined.lines(), examined.kept());
    if !target.json {
        tell(&lost, &kept);
    }
    let mut accepted = None;
    if !lost.is_empty() {
        if !args.yes && !confirmed() {
            return Err(AcceptError::NotAccepted);
        }
        let opener: AuditOpener = Box::new(FileDevice::opener_after_loss(config.audit_file.clone()));
        accepted = Some(examined.accept(&opener, SystemClock.now_ms())?);
    }
    if target.json {
        let outcome = Outcome { lost: &lost, kept: &kept, accepted };
        println!("{}", serde_json::to_string(&outcome).unwrap_or_default());
    } else if let Some(accepted) = accepted {
        println!("\naccepted: epoch {} has begun. `strongroom status` shows this from now on", accepted.epoch);
        println!(
            "next: start the daemon, then repeat everything that was deleted or revoked after {}",
            kept.last_write
        );
    }
    Ok(())
}

fn tell(lost: &[String], kept: &Kept) {
    if lost.is_empty() {
        println!("nothing is lost: header, store, anchor and audit log belong together");
        return;
    }
    println!("what is lost:");
    for line in lost {
        println!("  {line}");
    }
    println!(
        "what is kept: the state of {} (epoch {}, generation {}, {} records), complete and consistent",
        kept.last_write, kept.epoch, kept.generation, kept.records
    );
    println!("Policies, identities and tokens go back to that time too. Revocations after it are lost.");
}

/// Asks on the terminal. Without a terminal the answer is no.
fn confirmed() -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    print!("Accept this loss for ever? Type yes: ");
    let mut answer = String::new();
    std::io::stdout().flush().is_ok() && std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
