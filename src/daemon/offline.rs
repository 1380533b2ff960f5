//! Opens the files of a vault while no daemon runs, reads the secret that unseals it, and examines it.

use std::sync::Arc;

use super::args::UnsealArgs;
use super::config::{Config, ConfigError};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::migrate;
use crate::api::secret::SecretText;
use crate::audit::FileDevice;
use crate::core::lifecycle::init::InitPorts;
use crate::core::lifecycle::losses::{AuditCheck, Examined, LossError};
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
    #[error("the store: {}{}", .0, hint(.0))]
    Store(#[from] StoreError),
}

/// The next step for an error that does not name one.
fn hint(error: &StoreError) -> &'static str {
    if matches!(error, StoreError::Locked) { "; stop the daemon if one is running" } else { "" }
}

/// How a vault is examined: [`crate::core::lifecycle::losses::examine`] or [`crate::core::lifecycle::damage::inspect`].
pub type Examine = fn(InitPorts, Option<&SecretText>, Option<&[u8]>, AuditCheck<'_>) -> Result<Examined, LossError>;

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
    /// [`OfflineError::Config`] when the configuration cannot be used; [`OfflineError::Layout`] when the folder cannot;
    /// [`OfflineError::Store`] when a daemon is running.
    pub fn open(unseal: &UnsealArgs) -> Result<Self, OfflineError> {
        let target = &unseal.target;
        let config = Config::load(&migrate::config_path(target.config.as_deref(), target.data.as_deref()))?;
        layout::check_data_dir(&config.data)?;
        let lock = DirLock::acquire(&config.data)?;
        Ok(Self { config, _lock: lock })
    }

    /// Opens store, header and anchor, reads the secret that unseals the vault, and examines it together with the audit
    /// log. Asks for the secret on the terminal if it is not given otherwise.
    ///
    /// # Errors
    /// [`OfflineError::Store`] when the store cannot be opened; [`OfflineError::Input`] when the secret cannot be read;
    /// the errors of `how`.
    pub fn examine<E>(&self, unseal: &UnsealArgs, how: Examine) -> Result<Examined, E>
    where
        E: From<OfflineError> + From<LossError>,
    {
        let ports = self.ports()?;
        let file = unseal.key_file.as_deref().map(input::key_file).transpose().map_err(OfflineError::Input)?;
        let text = typed(unseal).map_err(OfflineError::Input)?;
        let check = |keys: &_, expected| FileDevice::check(&self.config.audit_file, keys, expected);
        Ok(how(ports, text.as_ref(), file.as_deref().map(Vec::as_slice), &check)?)
    }

    fn ports(&self) -> Result<InitPorts, OfflineError> {
        let config = &self.config;
        Ok(InitPorts {
            store: store::open(&config.engine, &layout::store_folder(&config.data, &config.engine), false)?,
            header: Arc::new(DiskHeader::new(&config.data)),
            anchor: Arc::new(DiskAnchor::new(&config.anchor)),
            random: Arc::new(SystemRandom),
        })
    }
}

/// The text that unseals the vault, typed or read; `None` with a key file alone.
fn typed(unseal: &UnsealArgs) -> Result<Option<SecretText>, InputError> {
    let text = match (unseal.passphrase_fd, &unseal.key_file) {
        (Some(fd), _) => input::passphrase_from_fd(fd)?,
        (None, Some(_)) => return Ok(None),
        (None, None) => input::passphrase()?,
    };
    Ok(Some(SecretText::from(text.as_str())))
}
