//! The listener's certificates while the daemon runs: files that somebody else renews, and authorities that the vault
//! changes.
//!
//! Nothing here stops the daemon. What cannot be used is logged once and what worked stays in use.

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

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// What the listener shows and accepts, and where it comes from.
pub struct Certificates {
    tls: Arc<Tls>,
    server: Server,
    authorities: Authorities,
    reload: Arc<Notify>,
    /// Hears what clients need to verify the listener.
    tell: Box<dyn Fn(Listener) + Send>,
    told: Option<Listener>,
}

/// Who looks after the server certificate.
enum Server {
    Supplied(Supplied),
    VaultIssued(VaultIssued, Option<Announced>),
}

/// Where the authorities of clients are kept.
enum Authorities {
    /// In this file of the data folder, which the daemon writes when the vault changes them.
    Managed {
        file: PathBuf,
        /// What could not be written yet.
        unsaved: Option<Vec<Anchor>>,
    },
    /// In a file of somebody else: these count besides the vault's own.
    Supplied(Vec<Anchor>),
}

impl Certificates {
    /// Reads the files that `config` names; `vault` makes the next certificates if nobody else does.
    ///
    /// # Errors
    /// A file is unreadable, or its content cannot be used.
    pub fn open(config: &Config, vault: &Arc<Vault>) -> Result<Self, AppError> {
        if !config.tls_certificate_supplied {
            vault_issued::recover(&config.tls_certificate, &config.tls_key)?;
        }
        let Shown { certificate, ca, roots } = Shown::read(config)?;
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
            Authorities::Supplied(trust.own)
        } else {
            Authorities::Managed { file: config.tls_client_ca.clone(), unsaved: None }
        };
        let vault = Arc::clone(vault);
        let tell = Box::new(move |listener| vault.set_listener(listener));
        let mut made = Self { tls: Arc::new(tls), server, authorities, reload: Arc::default(), tell, told: None };
        // Before the first request: a bundle without the root would cut a host off.
        made.announce();
        Ok(made)
    }

    /// Says what clients need to verify the listener, if it is something else than before.
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
                "the listener's certificate leads to no root that is known here: no host can enrol or renew by itself; \
                 name the root in tls.ca"
            );
        }
        (self.tell)(listener.clone());
        self.told = Some(listener);
    }

    /// For the listener.
    #[must_use]
    pub fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// Asks for a look at the files now (SIGHUP).
    #[must_use]
    pub fn reload(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }

    /// Follows the files and `trust` until dropped.
    pub async fn follow(mut self, mut trust: watch::Receiver<Arc<Trust>>) {
        let reload = self.reload();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The vault may have been opened before this began.
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
            // Files may be on a disk that does not answer.
            let looked = spawn_blocking(move || {
                self.look(changed.as_deref());
                self
            });
            match looked.await {
                Ok(back) => self = back,
                Err(error) => {
                    tracing::error!("certificates are not followed any more: {error}");
                    return;
                }
            }
        }
    }

    /// Makes the next look read the files whatever their stamps say.
    fn forget(&mut self) {
        match &mut self.server {
            Server::Supplied(supplied) => supplied.watch.forget(),
            Server::VaultIssued(_, announced) => announced.iter_mut().for_each(|announced| announced.watch.forget()),
        }
    }

    fn look(&mut self, changed: Option<&Trust>) {
        // What clients may be is settled first: a new authority of ours is in it.
        if let Some(trust) = changed.filter(|trust| !trust.own.is_empty()) {
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

/// What the files that a configuration names say of the server.
pub(super) struct Shown {
    /// Its chain, PEM.
    pub certificate: Vec<u8>,
    /// The file `tls.ca`, if there is one.
    ca: Option<Vec<u8>>,
    /// What of an outside PKI clients need, DER.
    pub roots: Vec<Vec<u8>>,
}

impl Shown {
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
    /// Whether clients are told to trust `anchor`: one of these roots, or an authority of the vault's own.
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
            trust.own.extend(kept.iter().filter(|anchor| !trust.own.contains(anchor)).cloned().collect::<Vec<_>>());
        }
        match tls.replace_trust(&trust) {
            Ok(()) => tracing::info!(own = trust.own.len(), "the authorities have changed"),
            Err(error) => {
                tracing::error!("the authorities of clients cannot be changed, the old ones stay: {error}");
                return;
            }
        }
        if let Self::Managed { unsaved, .. } = self {
            *unsaved = Some(trust.own);
        }
    }

    /// Writes what the vault has said to the file, from which the next start reads it while the vault is sealed. Tried
    /// again at every look until it succeeds.
    fn save(&mut self) {
        let Self::Managed { file, unsaved } = self else { return };
        let Some(anchors) = unsaved else { return };
        match write(file, anchors) {
            Ok(()) => *unsaved = None,
            Err(error) => tracing::error!("the authorities of clients are not saved: {error}"),
        }
    }
}

/// Writes `anchors` to `file`: the old content or the new, whatever happens. Leaves a file alone that says the same.
fn write(file: &Path, anchors: &[Anchor]) -> Result<(), LayoutError> {
    let there = layout::read(file).ok().and_then(|pem| trust_from_pem(&pem).ok());
    if there.is_some_and(|trust| trust.own == anchors) {
        return Ok(());
    }
    let pem: String = anchors.iter().map(|anchor| pki::pem(&anchor.der)).collect();
    layout::replace(file, pem.as_bytes())
}

#[cfg(test)]
mod tests;
