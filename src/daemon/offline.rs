//! Opens the files of a vault while no daemon runs, and reads the secret that unseals it.

use std::sync::Arc;

use super::args::UnsealArgs;
use super::config::{Config, ConfigError};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::migrate;
use crate::api::secret::SecretText;
use crate::audit::{AuditError, AuditHead, AuditKeys, FileDevice};
use crate::core::lifecycle::init::InitPorts;
use crate::crypto::random::SystemRandom;
use crate::store::sidecar::{DirLock, DiskAnchor, DiskHeader};
use crate::store::{self, StoreError};

/// Why the files of a vault cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A folder is unusable.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The secret could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The store cannot be opened, or a daemon is using it.
    #[error("the store: {0}; stop the daemon if one is running")]
    Store(#[from] StoreError),
}

/// The secret that unseals the vault, as typed or read from a file.
pub struct Secrets {
    text: Option<SecretText>,
    file: Option<zeroize::Zeroizing<Vec<u8>>>,
}

/// The files of a vault. While this exists, no other process can use them.
pub struct Offline {
    /// The configuration.
    pub config: Config,
    _lock: DirLock,
}

impl Offline {
    /// Loads the configuration of the target and locks its data folder.
    ///
    /// # Errors
    /// [`OfflineError::Config`], [`OfflineError::Layout`]; [`OfflineError::Store`] when a daemon is running.
    pub fn open(unseal: &UnsealArgs) -> Result<Self, OfflineError> {
        let target = &unseal.target;
        let config = Config::load(&migrate::config_path(target.config.as_deref(), target.data.as_deref()))?;
        layout::check_data_dir(&config.data)?;
        let lock = DirLock::acquire(&config.data)?;
        Ok(Self { config, _lock: lock })
    }

    /// Opens store, header and anchor.
    ///
    /// # Errors
    /// [`OfflineError::Store`].
    pub fn ports(&self) -> Result<InitPorts, OfflineError> {
        let config = &self.config;
        Ok(InitPorts {
            store: store::open(&config.engine, &layout::store_folder(&config.data, &config.engine), false)?,
            header: Arc::new(DiskHeader::new(&config.data)),
            anchor: Arc::new(DiskAnchor::new(&config.anchor)),
            random: Arc::new(SystemRandom),
        })
    }

    /// Checks that the audit log contains the entry that the state vouches for; see
    /// [`crate::core::lifecycle::losses::AuditCheck`].
    ///
    /// # Errors
    /// The error in the log, or the one from reading it.
    pub fn check_audit(&self, keys: &AuditKeys, expected: AuditHead) -> Result<(), AuditError> {
        FileDevice::check(&self.config.audit_file, keys, expected)
    }
}

impl Secrets {
    /// Reads the secret that unseals the vault; asks on the terminal if it is not given otherwise.
    ///
    /// # Errors
    /// [`OfflineError::Input`].
    pub fn read(unseal: &UnsealArgs) -> Result<Self, OfflineError> {
        let file = unseal.key_file.as_deref().map(input::key_file).transpose()?;
        let text = match (unseal.passphrase_fd, &file) {
            (Some(fd), _) => Some(input::passphrase_from_fd(fd)?),
            (None, Some(_)) => None,
            (None, None) => Some(input::passphrase()?),
        };
        Ok(Self { text: text.map(|text| SecretText::from(text.as_str())), file })
    }

    /// The typed secret.
    #[must_use]
    pub fn text(&self) -> Option<&SecretText> {
        self.text.as_ref()
    }

    /// The key file.
    #[must_use]
    pub fn file(&self) -> Option<&[u8]> {
        self.file.as_deref().map(Vec::as_slice)
    }
}
