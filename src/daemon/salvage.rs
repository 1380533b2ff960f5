//! `strongroomd storage verify` and `storage salvage`: finds damaged records, and removes them so that the vault opens.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::args::{SalvageArgs, VerifyArgs};
use super::layout::{self, LayoutError};
use super::loss::confirmed;
use super::offline::{Offline, OfflineError};
use crate::api::hex::hex;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::{AcceptedLoss, BadRecord, in_records};
use crate::audit::FileDevice;
use crate::barrier::BarrierError;
use crate::core::lifecycle::damage::{self, FirstOperator};
use crate::core::lifecycle::losses::{Examined, Kept, LossError};
use crate::core::{AuditOpener, Clock, SystemClock};
use crate::crypto::random::SystemRandom;

/// Lifetime of the first operator's certificates, in seconds; the same as after `init`.
const OPERATOR_LIFE_S: u64 = 30 * 86_400;
/// Maximum number of bad records to list. `--json` lists all of them.
const LISTED: usize = 100;

/// Why the vault was not verified or not salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The files of the vault cannot be opened.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The state record is damaged or missing; no other record can be checked without it.
    #[error(
        "{0}. Nothing was changed. Records cannot be checked without the state record: restore the data folder from a backup"
    )]
    State(BarrierError),
    /// Reading or writing the vault failed.
    #[error("{0}")]
    Loss(LossError),
    /// The name of the operator is invalid.
    #[error("--operator {0}: use letters, digits, - _ or . (the identity becomes operator/NAME)")]
    Operator(String),
    /// The file for the removed records could not be written.
    #[error("{0}. Nothing was changed")]
    Keep(#[from] LayoutError),
    /// No record is damaged, but other parts do not match.
    #[error("no record is damaged, but other parts do not match; to accept that loss: strongroomd storage accept-loss")]
    OnlyMisfits,
    /// Not confirmed.
    #[error("nothing was changed; to salvage, answer yes or use --yes")]
    NotConfirmed,
}

impl From<LossError> for SalvageError {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Barrier(error @ (BarrierError::StateDamaged(_) | BarrierError::StateMissing)) => {
                Self::State(error)
            }
            error => Self::Loss(error),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    /// Whether everything is intact.
    sound: bool,
    /// Number of examined records.
    records: u64,
    /// Descriptions of what is wrong, without names.
    found: &'a [String],
    bad: &'a [BadRecord],
    kept: &'a Kept,
    /// Only after a salvage.
    #[serde(skip_serializing_if = "Option::is_none")]
    salvaged: Option<AcceptedLoss>,
}

impl Report<'_> {
    fn print(&self) {
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

/// Runs `storage verify`: opens every record and reports what is damaged. Changes nothing. Returns whether everything is
/// intact.
///
/// # Errors
/// [`SalvageError::Offline`] when the files cannot be opened; [`SalvageError::State`] when the state record is damaged;
/// [`SalvageError::Loss`] when the vault cannot be read.
pub fn verify(args: &VerifyArgs) -> Result<bool, SalvageError> {
    let offline = Offline::open(&args.unseal)?;
    let examined = offline.examine::<SalvageError>(&args.unseal, damage::inspect)?;
    let (found, bad, kept) = (examined.lines(), examined.bad(), examined.kept());
    let sound = found.is_empty() && !examined.is_damaged();
    let records = examined.opened();
    if args.unseal.target.json {
        Report { sound, records, found: &found, bad: &bad, kept: &kept, salvaged: None }.print();
        return Ok(sound);
    }
    if sound {
        println!("{} checked, all intact; header, anchor and audit log are intact too", in_records(records));
        return Ok(true);
    }
    tell(&found, &bad);
    if let Some(refusal) = examined.refusal() {
        println!("next: {refusal}");
        return Ok(false);
    }
    let way_out = if examined.is_damaged() { "salvage" } else { "accept-loss" };
    println!("next: restore the store from a backup; if there is none: strongroomd storage {way_out}");
    Ok(false)
}

/// Runs `storage salvage`. If no record is damaged, it says so and changes nothing.
///
/// # Errors
/// Any [`SalvageError`]. After [`SalvageError::Loss`] the command can be run again.
pub fn run(args: &SalvageArgs) -> Result<(), SalvageError> {
    let offline = Offline::open(&args.unseal)?;
    let json = args.unseal.target.json;
    let examined = offline.examine::<SalvageError>(&args.unseal, damage::inspect)?;
    let (found, bad, kept, records) = (examined.lines(), examined.bad(), examined.kept(), examined.opened());
    let report =
        Report { sound: !examined.is_damaged(), records, found: &found, bad: &bad, kept: &kept, salvaged: None };
    if !examined.is_damaged() {
        // All records open, but header, anchor and log do not match. Removing records would not help.
        if !found.is_empty() {
            return Err(SalvageError::OnlyMisfits);
        }
        if json {
            report.print();
        } else {
            println!("nothing is damaged: {} checked, all of them intact", in_records(records));
        }
        return Ok(());
    }
    if let Some(refusal) = examined.refusal() {
        if !json {
            tell(&found, &bad);
        }
        return Err(refusal.into());
    }
    // Checked before the question, although only the second kind of salvage needs it: a name that is rejected afterwards
    // would stop a removal that was confirmed.
    let path = format!("operator/{}", args.operator);
    let identity = SpiffeId::new(&offline.config.trust_domain, &path);
    let identity = identity.map_err(|_| SalvageError::Operator(args.operator.clone()))?;
    let values_only = examined.keeps_values_only();
    if !json {
        tell(&found, &bad);
        let what =
            if values_only { "the secrets that open; the last state is" } else { "all other records of the state" };
        println!("what is kept: {what} of {} (generation {})", kept.last_write, kept.generation);
        if !values_only && examined.goes_back() {
            println!("Policies, identities and tokens go back to that time too. Revocations after it are lost.");
        }
        if values_only {
            println!("{path} will administer the vault (--operator NAME); everyone else must enrol again");
        }
    }
    if !args.yes && !confirmed("Permanently remove these records from the vault?") {
        if json {
            report.print();
        }
        return Err(SalvageError::NotConfirmed);
    }
    // The removed records are saved and synced before the store loses them.
    let file = keep(&examined, &offline.config.data, kept.next_epoch)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let opener: AuditOpener = Box::new(FileDevice::opener_after_loss(offline.config.audit_file.clone()));
    let first = FirstOperator { identity, life_s: OPERATOR_LIFE_S, random: Arc::new(SystemRandom) };
    let salvaged = examined.salvage(&name, values_only.then_some(&first), &opener, SystemClock.now_ms())?;
    if json {
        Report { salvaged: Some(salvaged), ..report }.print();
        return Ok(());
    }
    println!("\nsalvaged: epoch {} has begun; strongroom status shows this permanently", salvaged.epoch);
    println!("removed records: {} (saved in {}, still encrypted)", salvaged.salvaged, file.display());
    if values_only {
        println!(
            "next: start the daemon, strongroomd admin unseal, then strongroomd admin operator --identity {path}; then write \
             policies, enrol hosts again, and rotate secrets that may be outdated"
        );
    } else {
        println!("next: start the daemon, then write the lost secrets again (strongroom losses lists them)");
    }
    Ok(())
}

fn tell(found: &[String], bad: &[BadRecord]) {
    println!("damaged or lost:");
    for line in found {
        println!("  {line}");
    }
    for bad in bad.iter().take(LISTED) {
        // Names may contain control characters, which a terminal would interpret.
        println!("  {}", bad.to_string().escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\""));
    }
    if bad.len() > LISTED {
        println!("  and {} more: --json lists all of them", bad.len() - LISTED);
    }
}

/// Writes the records that will be removed to a new file in the data folder (mode 0600) and syncs it: one line per record,
/// with its key and its bytes as stored. Files of interrupted attempts are left in place.
fn keep(examined: &Examined, data: &Path, epoch: u32) -> Result<PathBuf, LayoutError> {
    let mut n = 0_u32;
    let (path, file) = loop {
        n += 1;
        let path = data.join(format!("salvaged-{epoch}-{n}.jsonl"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(LayoutError::Io { action: "creating", path, source }),
        }
    };
    write_records(examined, file).map_err(|source| LayoutError::Io {
        action: "writing",
        path: path.clone(),
        source,
    })?;
    layout::sync_dir(data)?;
    Ok(path)
}

fn write_records(examined: &Examined, file: File) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct Line {
        key: String,
        record: Option<String>,
    }
    let mut out = BufWriter::new(file);
    examined.leaving(|key, bytes| {
        serde_json::to_writer(&mut out, &Line { key: hex(key), record: bytes.map(|bytes| STANDARD.encode(bytes)) })?;
        out.write_all(b"\n")
    })?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}
