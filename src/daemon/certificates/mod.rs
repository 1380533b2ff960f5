//! The listener's certificates while the daemon runs: files that somebody else renews, and authorities that the vault
//! changes.
//!
//! Nothing here stops the daemon. What cannot be used is logged once and what worked stays in use.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::app::AppError;
use super::config::Config;
use super::layout::{self, LayoutError};
use crate::core::{Clock, SystemClock, Vault};
use crate::crypto::hash::sha256;
use crate::http::{Tls, trust_from_pem};
use crate::pki::{Anchor, Trust};
use own::Own;

mod own;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// What the listener shows and accepts, and where it comes from.
pub struct Certificates {
    tls: Arc<Tls>,
    server: Server,
    authorities: Authorities,
    reload: Arc<Notify>,
}

/// Who looks after the server certificate.
enum Server {
    Supplied(Supplied),
    Own(Own),
}

/// A server certificate and its key that somebody else puts there.
struct Supplied {
    certificate: PathBuf,
    key: PathBuf,
    seen: Option<[Stamp; 2]>,
    /// Digest of the content that was tried last, usable or not.
    tried: Option<[u8; 32]>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
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

/// What a look at the files led to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing to do.
    Same,
    /// The new certificate is shown from now on.
    Replaced,
    /// It cannot be used; the old one stays.
    Kept,
}

impl Certificates {
    /// Reads the files that `config` names; `vault` makes the next certificates if nobody else does.
    ///
    /// # Errors
    /// A file is unreadable, or its content cannot be used.
    pub fn open(config: &Config, vault: &Arc<Vault>) -> Result<Self, AppError> {
        if !config.tls_certificate_supplied {
            own::recover(&config.tls_certificate, &config.tls_key)?;
        }
        let certificate = layout::read(&config.tls_certificate)?;
        let key = Zeroizing::new(layout::read_private(&config.tls_key)?);
        let trust = trust_from_pem(&layout::read(&config.tls_client_ca)?)?;
        let server = if config.tls_certificate_supplied {
            Server::Supplied(Supplied {
                certificate: config.tls_certificate.clone(),
                key: config.tls_key.clone(),
                seen: None,
                tried: Some(digest(&certificate, &key)),
            })
        } else {
            Server::Own(Own::new(&config.tls_certificate, &config.tls_key, Arc::clone(vault)))
        };
        let tls = Arc::new(Tls::new(&certificate, &key, &trust)?);
        let authorities = if config.tls_client_ca_supplied {
            Authorities::Supplied(trust.own)
        } else {
            Authorities::Managed { file: config.tls_client_ca.clone(), unsaved: None }
        };
        Ok(Self { tls, server, authorities, reload: Arc::default() })
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
        if let Server::Supplied(supplied) = &mut self.server {
            supplied.seen = None;
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
            Server::Own(own) => own.look(&self.tls, SystemClock.now_ms()),
        }
    }
}

impl Supplied {
    fn look(&mut self, tls: &Tls) -> Outcome {
        let seen = match self.stamps() {
            Ok(seen) if self.seen == Some(seen) => return Outcome::Same,
            Ok(seen) => seen,
            // Between the removal of the old file and the arrival of the new one.
            Err(_) => return Outcome::Same,
        };
        let read = layout::read(&self.certificate)
            .and_then(|certificate| Ok((certificate, Zeroizing::new(layout::read_private(&self.key)?))));
        // Noted before the content is judged: a file that changes while it is read has other stamps next time.
        self.seen = Some(seen);
        let (certificate, key) = match read {
            Ok(both) => both,
            Err(error) => {
                tracing::error!("the server certificate cannot be renewed, the old one stays: {error}");
                return Outcome::Kept;
            }
        };
        let content = digest(&certificate, &key);
        if self.tried.replace(content) == Some(content) {
            return Outcome::Same;
        }
        match tls.replace_server(&certificate, &key) {
            Ok(()) => {
                tracing::info!("server certificate renewed from {}", self.certificate.display());
                Outcome::Replaced
            }
            Err(error) => {
                tracing::error!("{}: {error}; the old server certificate stays", self.certificate.display());
                Outcome::Kept
            }
        }
    }

    fn stamps(&self) -> std::io::Result<[Stamp; 2]> {
        Ok([stamp(&std::fs::metadata(&self.certificate)?), stamp(&std::fs::metadata(&self.key)?)])
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn digest(certificate: &[u8], key: &[u8]) -> [u8; 32] {
    // Each by its own digest, so that no bytes can wander from one file to the other unnoticed.
    sha256(&[&sha256(&[certificate]), &sha256(&[key])])
}

impl Authorities {
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
    let pem: String = anchors.iter().map(|anchor| pem(&anchor.der)).collect();
    layout::replace(file, pem.as_bytes())
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 64);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests;
