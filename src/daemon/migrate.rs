//! `strongroomd storage migrate`: copies the encrypted records to another engine, beside the old store.
//!
//! The copy is built in its own folder and renamed once every record has been compared. After a crash the vault still
//! uses the old store, and the next attempt removes the unfinished copy.

use std::path::PathBuf;

use super::args::MigrateArgs;
use super::config::{Config, ConfigError};
use super::layout::{self, LayoutError};
use crate::api::sys::in_records;
use crate::store::{self, StoreError, migrate, sidecar::DirLock};

/// Why nothing was migrated. The vault is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A folder is unusable.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The vault already uses this engine.
    #[error("the vault already uses {0}; nothing to do")]
    Same(String),
    /// A store of that engine exists, perhaps from an earlier migration.
    #[error("{0} already exists; if it is an outdated copy, remove it first")]
    Present(PathBuf),
    /// Reading the old store or writing the new one failed.
    #[error("copying records: {0}; the vault is unchanged")]
    Store(#[from] StoreError),
}

/// Runs the command.
///
/// # Errors
/// Any [`MigrateError`]. The old store is never written.
pub fn run(args: &MigrateArgs) -> Result<(), MigrateError> {
    let path = config_path(args.config.as_deref(), args.data.as_deref());
    let config = Config::load(&path)?;
    layout::check_data_dir(&config.data)?;
    if config.engine == args.to {
        return Err(MigrateError::Same(args.to.clone()));
    }
    // A running daemon holds it, so nothing is written to the old store meanwhile.
    let _lock = DirLock::acquire(&config.data)?;
    let from = store::open(&config.engine, &layout::store_folder(&config.data, &config.engine), false)?;
    let target = layout::store_folder(&config.data, &args.to);
    if target.exists() {
        return Err(MigrateError::Present(target));
    }
    // The copy gets its name when it is complete and compared. What an interrupted run left under the other name is worth
    // nothing.
    let staging = layout::staging(&target);
    if staging.exists() {
        std::fs::remove_dir_all(&staging).map_err(|source| LayoutError::Io {
            action: "removing an unfinished copy",
            path: staging.clone(),
            source,
        })?;
    }
    layout::create_private_dir(&staging)?;
    let report = {
        let to = store::open(&args.to, &staging, true)?;
        migrate::copy(from.as_ref(), to.as_ref(), &mut |done, total| {
            if done % PROGRESS_STEP == 0 || done == total {
                eprintln!("{done} of {}", in_records(total));
            }
        })?
    };
    drop(from);
    layout::publish_dir(&staging, &target)?;
    println!("{} copied and compared, in {}", in_records(report.records), target.display());
    println!("next: set storage.engine = \"{}\" in {} and start the daemon.", args.to, path.display());
    println!(
        "The old store stays in {} until you remove it",
        layout::store_folder(&config.data, &config.engine).display()
    );
    Ok(())
}

/// Path of the configuration file that `--config` or `--data` names.
pub(super) fn config_path(config: Option<&std::path::Path>, data: Option<&std::path::Path>) -> PathBuf {
    match (config, data) {
        (Some(config), _) => config.to_owned(),
        (None, Some(data)) => data.join(layout::CONFIG_FILE),
        (None, None) => PathBuf::from(layout::CONFIG_FILE),
    }
}

const PROGRESS_STEP: u64 = 10_000;
