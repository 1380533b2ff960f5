//! The listener's certificates while the daemon runs: files that are renewed from outside, and authorities that the
//! vault changes.
//!
//! Nothing here stops the daemon. Material that cannot be used is logged once, and the old one stays in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::app::AppError;
use super::config::Config;
use super::layout::{self, LayoutError};
use crate::core::{Clock, Listener, Pin, SystemClock, Vault};
use crate::http::{Tls, server_roots, trust_from_pem};
use crate::pki::{self, Anchor, Trust};
use supplied::{Announced, Supplied, Watch};
use vault_issued::VaultIssued;

mod supplied;
mod vault_issued;

/// How often the files are checked.
const POLL: Duration = Duration::from_secs(2);

/// The certificates that the listener uses, and their sources.
pub struct Certificates {
    tls: Arc<Tls>,
    server: Server,
    authorities: Authorities,
    reload: Arc<Notify>,
    /// Called with what clients need to verify the listener.
    tell: Box<dyn Fn(Listener) + Send>,
    told: Option<Listener>,
}

/// Who renews the server certificate.
enum Server {
    Supplied(Supplied),
    VaultIssued(VaultIssued, Option<Announced>),
}

/// Where the authorities of clients are kept.
enum Authorities {
    /// In this file of the data folder. The daemon writes it when the vault changes them.
    Managed {
        file: PathBuf,
        /// Authorities that could not be written yet.
        unsaved: Option<Vec<Anchor>>,
    },
    /// In a file that is maintained from outside. Its authorities are accepted in addition to the vault's own.
    Supplied(Vec<Anchor>),
}

impl Certificates {
    /// Reads the files that `config` names. `vault` issues the next certificates unless they are renewed from outside.
    ///
    /// # Errors
    /// A file is unreadable, or its content cannot be used.
    pub fn open(config: &Config, vault: &Arc<Vault>) -> Result<Self, AppError> {
        if !config.tls_certificate_supplied {
            vault_issued::recover(&config.tls_certificate, &config.tls_key)?;
        }
        let ServerFiles { certificate, ca, roots } = ServerFiles::read(config)?;
        let key = Zeroizing::new(layout::read_private(&config.tls_key)?);
        let trust = trust_from_pem(&layout::read(&config.tls_client_ca)?)?;
        let (tls, server) = if config.tls_certificate_supplied {
            let tls = Tls::of_roots(&certificate, &key, &roots, &trust)?;
            let watch = Watch::having(&[&certificate, &key, ca.as_deref().unwrap_or_default()]);
            let supplied = Supplied {
                certificate: config.tls_certificate.clone(),
                key: config.tls_key.clone(),
                ca: config.tls_ca.clone(),
                roots,
                watch,
            };
            (tls, Server::Supplied(supplied))
        } else {
            let tls = Tls::new(&certificate, &key, &trust)?;
            let announced = config.tls_ca.clone().zip(ca).map(|(path, bytes)| Announced {
                ca: path,
                roots,
                watch: Watch::having(&[&bytes]),
            });
            (
                tls,
                Server::VaultIssued(
                    VaultIssued::new(&config.tls_certificate, &config.tls_key, Arc::clone(vault)),
                    announced,
                ),
            )
        };
        let authorities = if config.tls_client_ca_supplied {
            Authorities::Supplied(trust.authorities)
        } else {
            Authorities::Managed { file: config.tls_client_ca.clone(), unsaved: None }
        };
        let vault = Arc::clone(vault);
        let tell = Box::new(move |listener| vault.set_listener(listener));
        let mut made = Self { tls: Arc::new(tls), server, authorities, reload: Arc::default(), tell, told: None };
        // Before the first request, because a bundle without the root would lock a host out.
        made.announce();
        Ok(made)
    }

    /// Publishes what clients need to verify the listener, if that has changed.
    fn announce(&mut self) {
        let listener = match &self.server {
            Server::VaultIssued(_, announced) => {
                let roots = announced.as_ref().map(|announced| announced.roots.clone()).unwrap_or_default();
                Listener { roots, pin: Pin::Signing }
            }
            Server::Supplied(supplied) => {
                let anchor = self.tls.anchor().filter(|anchor| self.authorities.is_told(anchor, &supplied.roots));
                let pin = anchor.and_then(|anchor| pki::key_fingerprint(&anchor)).map_or(Pin::Unknown, Pin::Key);
                Listener { roots: supplied.roots.clone(), pin }
            }
        };
        if self.told.as_ref() == Some(&listener) {
            return;
        }
        if listener.pin == Pin::Unknown {
            tracing::warn!(
                "the listener's certificate does not chain to a known root: hosts cannot enrol or renew; \
                 name the root in tls.ca"
            );
        }
        (self.tell)(listener.clone());
        self.told = Some(listener);
    }

    /// Returns the TLS settings for the listener.
    #[must_use]
    pub fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// Returns the trigger that makes the next check read the files at once (SIGHUP).
    #[must_use]
    pub fn reload(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }

    /// Follows the files and `trust` until it is dropped.
    pub async fn follow(mut self, mut trust: watch::Receiver<Arc<Trust>>) {
        let reload = self.reload();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The vault may have been unsealed before this task started.
        trust.mark_changed();
        let mut vault_lives = true;
        loop {
            let mut changed = None;
            tokio::select! {
                told = trust.changed(), if vault_lives => match told {
                    Ok(()) => changed = Some(Arc::clone(&trust.borrow_and_update())),
                    Err(_) => vault_lives = false,
                },
                _ = poll.tick() => {}
                () = reload.notified() => self.forget(),
            }
            // On a separate thread, because the files may be on a disk that does not respond.
            let looked = spawn_blocking(move || {
                self.look(changed.as_deref());
                self
            });
            match looked.await {
                Ok(back) => self = back,
                Err(error) => {
                    tracing::error!("the daemon stopped following certificate changes: {error}; restart it");
                    return;
                }
            }
        }
    }

    /// Forces the next check to read the files.
    fn forget(&mut self) {
        match &mut self.server {
            Server::Supplied(supplied) => supplied.watch.forget(),
            Server::VaultIssued(_, announced) => announced.iter_mut().for_each(|announced| announced.watch.forget()),
        }
    }

    fn look(&mut self, changed: Option<&Trust>) {
        // The authorities of clients come first: they may include a new authority of ours.
        if let Some(trust) = changed.filter(|trust| !trust.authorities.is_empty()) {
            self.authorities.accept(trust, &self.tls);
        }
        self.authorities.save();
        match &mut self.server {
            Server::Supplied(supplied) => {
                supplied.look(&self.tls);
            }
            Server::VaultIssued(own, announced) => {
                own.look(&self.tls, SystemClock.now_ms());
                if let Some(announced) = announced {
                    announced.look();
                }
            }
        }
        self.announce();
    }
}

/// What the configured files say about the server.
pub(super) struct ServerFiles {
    /// Its certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// The content of `tls.ca`, if configured.
    ca: Option<Vec<u8>>,
    /// The roots of an outside PKI that clients need, DER.
    pub roots: Vec<Vec<u8>>,
}

impl ServerFiles {
    /// Reads the configured files.
    ///
    /// # Errors
    /// A file is unreadable, or its content cannot be used.
    pub(super) fn read(config: &Config) -> Result<Self, AppError> {
        let certificate = layout::read(&config.tls_certificate)?;
        let ca = config.tls_ca.as_deref().map(layout::read).transpose()?;
        let roots = server_roots(config.tls_certificate_supplied.then_some(&*certificate), ca.as_deref())?;
        Ok(Self { certificate, ca, roots })
    }
}

impl Authorities {
    /// Whether clients are told to trust `anchor`: it is one of `roots`, or an authority of the vault.
    fn is_told(&self, anchor: &Vec<u8>, roots: &[Vec<u8>]) -> bool {
        roots.contains(anchor)
            || match self {
                Self::Managed { .. } => true,
                Self::Supplied(kept) => !kept.iter().any(|kept| kept.der == *anchor),
            }
    }

    fn accept(&mut self, trust: &Trust, tls: &Tls) {
        let mut trust = trust.clone();
        if let Self::Supplied(kept) = self {
            trust
                .authorities
                .extend(kept.iter().filter(|anchor| !trust.authorities.contains(anchor)).cloned().collect::<Vec<_>>());
        }
        match tls.replace_trust(&trust) {
            Ok(()) => tracing::info!(count = trust.authorities.len(), "accepted client authorities updated"),
            Err(error) => {
                tracing::error!("client authorities could not be updated; the previous ones remain in use: {error}");
                return;
            }
        }
        if let Self::Managed { unsaved, .. } = self {
            *unsaved = Some(trust.authorities);
        }
    }

    /// Writes the vault's authorities to the file, because the next start reads it while the vault is sealed. A failed
    /// write is repeated at every check until it succeeds.
    fn save(&mut self) {
        let Self::Managed { file, unsaved } = self else { return };
        let Some(anchors) = unsaved else { return };
        match write(file, anchors) {
            Ok(()) => *unsaved = None,
            Err(error) => {
                tracing::error!("client authorities could not be saved: {error}; make the folder writable")
            }
        }
    }
}

/// Writes `anchors` to `file`, which has the old or the new content even after a crash. Does not touch a file that
/// already has this content.
fn write(file: &Path, anchors: &[Anchor]) -> Result<(), LayoutError> {
    let there = layout::read(file).ok().and_then(|pem| trust_from_pem(&pem).ok());
    if there.is_some_and(|trust| trust.authorities == anchors) {
        return Ok(());
    }
    let pem: String = anchors.iter().map(|anchor| pki::pem(&anchor.der)).collect();
    layout::replace(file, pem.as_bytes())
}

#[cfg(test)]
mod tests;
