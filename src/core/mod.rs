//! Vault operations: the pipeline that every request passes.
//!
//! [`Vault`] is the daemon without the outside world: no socket, no file, no clock of its own. It is sealed until
//! [`Vault::unseal`], and [`Vault::handle`] is the only way to data. `pipeline` shows the order of its steps on one
//! screen. One committer thread (`commit`) runs all mutations. It gives concurrent writers a shared commit, and readers
//! a state that is never rolled back.
//!
//! This module does not know HTTP, TLS, configuration files or any concrete store.

mod approvals;
mod caller;
mod certificates;
mod commit;
mod decide;
mod error;
mod identities;
pub mod lifecycle;
mod live;
mod pipeline;
mod ports;
mod request;
mod rotation;
mod routes;
mod state;
mod vault;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::clock::FixedClock;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api::enroll::{Certified, EnrollRequest, GraceRequest};
use crate::api::mark::Mark;
use crate::api::reply::Reply;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::{CertificateReply, Health, Leader, SealStatus};
use crate::pki::{AuthorityId, Bundle, Trust};

pub use caller::{Caller, IdentityPattern, Opener, Origin};
pub use certificates::enroll::Channel;
pub use decide::canonical::canonical;
pub use error::VaultError;
pub use live::sessions::{Session, Sessions};
pub use ports::{AuditOpener, Clock, Ports, Settings, SystemClock};
pub use request::{Request, UnsealKey};
pub use state::guarded::{ApprovalRules, Guarded};
pub use state::listener_roots::{Listener, Pin};
pub use vault::Vault;

use lifecycle::{status, unseal};
use live::gate::Gate;
use live::places::Places;
use live::seldom::Seldom;
use live::shares::Shares;

impl Vault {
    /// Makes a sealed vault. Touches nothing outside.
    #[must_use]
    pub fn new(ports: Ports, settings: Settings) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            ports,
            settings: Arc::new(settings),
            live: ArcSwapOption::empty(),
            feed: Arc::default(),
            sessions: Arc::default(),
            trust: watch::Sender::new(Arc::default()),
            listening: Arc::default(),
            shares: Mutex::new(Shares::default()),
            gate: Mutex::new(Gate::default()),
            attempt: Mutex::new(()),
            dead: AtomicBool::new(false),
            refusals: Seldom::default(),
            places: Places::default(),
            me: Weak::clone(me),
        })
    }

    /// Handles one request. A read completes without awaiting. A write awaits its group commit, and it is durable,
    /// anchored and audited when this returns `Ok`. If the future is dropped while it waits, the write happens
    /// completely or not at all, and is audited.
    ///
    /// # Errors
    /// Any [`VaultError`]. After [`VaultError::AuditUnavailable`] a mutation may have been done: its request entry is
    /// in the audit log, and its outcome is noted there as soon as the log accepts entries again. After every other
    /// error nothing has changed. [`VaultError::NotAdmitted`] tells `caller` something about its own certificate, so it
    /// must have proved the key of that certificate.
    pub async fn handle(&self, caller: &Caller, request: Request) -> Result<Reply, VaultError> {
        pipeline::handle::handle(self, caller, request).await
    }

    /// Whether a vault header exists.
    #[must_use]
    pub fn initialised(&self) -> bool {
        status::initialised(self)
    }

    /// Whether requests are rejected with [`VaultError::Sealed`].
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.live.load().is_none()
    }

    /// `GET sys/seal-status` as `opener` gets it: with the time until its next attempt, if it has failed before.
    #[must_use]
    pub fn seal_status_for(&self, opener: Opener<'_>) -> SealStatus {
        status::seal_status_for(self, opener)
    }

    /// Whether the vault is sealed, for everyone alike.
    #[must_use]
    pub fn seal_status(&self) -> SealStatus {
        status::seal_status(self)
    }

    /// `GET sys/health` without the status code, which depends on query parameters.
    #[must_use]
    pub fn health(&self) -> Health {
        status::health(self)
    }

    /// `GET sys/leader`.
    #[must_use]
    pub fn leader(&self) -> Leader {
        status::leader(self)
    }

    /// Epoch, incarnation and generation for the reply headers; `None` while sealed.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.live().map(|live| status::mark(&live))
    }

    /// `GET sys/strongroom/mark`: as [`Vault::mark`], for a caller who asks for it, and may say what it has `seen`.
    /// It has an allowance of its own, and is charged as a read beyond that. Only a rejected request is audited.
    ///
    /// # Errors
    /// [`VaultError::Sealed`]; [`VaultError::NotAdmitted`]; [`VaultError::RolledBack`] if the vault does not continue
    /// the history that the caller has seen; [`VaultError::RateLimited`]; [`VaultError::AuditUnavailable`].
    pub fn mark_for(&self, caller: &Caller, seen: Option<Mark>) -> Result<Mark, VaultError> {
        pipeline::mark::of(self, caller, seen)
    }

    /// Unseals the vault. Blocking: key derivation takes a second by design. If the vault is unsealed already, returns
    /// the status and ignores the secret.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] when the caller matches none of [`Settings::unseal_identities`];
    /// [`VaultError::TooMany`] during the delay after failures; [`VaultError::WrongKey`];
    /// [`VaultError::NotInitialised`]; [`VaultError::DidNotOpen`] when stored data fails its checks or the audit device does
    /// not open, with the reason for an [`Opener::Local`]. The vault stays sealed after every error.
    pub fn unseal(&self, opener: Opener<'_>, key: &UnsealKey<'_>) -> Result<SealStatus, VaultError> {
        unseal::unseal(self, opener, key)
    }

    /// The registry of open connections.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// What TLS must accept from clients, now and after every change. Empty until the first unseal; until then the
    /// listener uses its file.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Sets what clients need to verify the listener. It goes into their bundle and into new enrolment strings. It
    /// never makes a client trusted.
    pub fn set_listener(&self, listener: Listener) {
        self.listening.set(listener);
    }

    /// Whether requests of `caller` are still accepted: its certificate is valid and not revoked, and its identity is
    /// not disabled. A sealed vault rejects nobody here.
    #[must_use]
    pub fn admits(&self, caller: &Caller) -> bool {
        let now_ms = self.ports.clock.now_ms();
        self.live().is_none_or(|live| live.snapshot.load().admits(&self.settings, caller, now_ms).is_ok())
    }

    /// Forgets the shares that were typed so far.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] for a caller who may not type a share, as in [`Vault::unseal`], and for one whom an
    /// open vault does not admit.
    pub fn reset_unseal(&self, opener: Opener<'_>) -> Result<(), VaultError> {
        unseal::reset(self, opener)
    }

    /// Seals the vault: waits for the running group and for running reads, then wipes every key. Waiting requests get
    /// [`VaultError::Sealed`]. Does nothing when sealed.
    pub fn seal(&self) {
        unseal::close(self, None);
    }

    /// Opens the audit file again after it was renamed.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] while sealed; [`VaultError::AuditUnavailable`] when the log cannot be written.
    pub fn reopen_audit(&self) -> Result<(), VaultError> {
        let live = self.live().ok_or(VaultError::Sealed)?;
        let now_ms = self.ports.clock.now_ms();
        live.damage.reopen_log(now_ms).map_err(|error| self.audit_failed(&error))
    }

    /// Signs the audit entries since the last checkpoint and makes them durable, with the alarms about damage that are
    /// due. The daemon calls it every second.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] while sealed; [`VaultError::AuditUnavailable`] when the log cannot be written.
    pub fn sync_audit(&self) -> Result<(), VaultError> {
        let live = self.live().ok_or(VaultError::Sealed)?;
        let now_ms = self.ports.clock.now_ms();
        let told = live.damage.tell(now_ms);
        told.and_then(|()| live.audit.checkpoint(now_ms)).map_err(|error| self.audit_failed(&error))
    }

    /// The certificates that clients must trust: the vault's own authorities and the roots of its listener, in PEM.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn ca_pem(&self) -> Result<String, VaultError> {
        let live = self.live().ok_or(VaultError::Sealed)?;
        Ok(live.snapshot.load().bundle().pem)
    }

    /// Issues a client certificate with a new key, for the daemon itself (`dev`). Callers over the network send a
    /// certificate request and keep their key. Blocking.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Integrity`], [`VaultError::Internal`].
    pub fn issue_client(&self, identity: &SpiffeId, life_s: u64) -> Result<Bundle, VaultError> {
        certificates::automatic::issue_client(self, identity, life_s)
    }

    /// Issues a server certificate with a new key, for the daemon's listener. Blocking.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Integrity`], [`VaultError::Internal`].
    pub fn issue_server(&self, names: &[String], life_s: u64) -> Result<Bundle, VaultError> {
        certificates::automatic::issue_server(self, names, life_s)
    }

    /// Subject (DER) of the authority that signs; `None` while sealed.
    #[must_use]
    pub fn signing_authority(&self) -> Option<Vec<u8>> {
        let live = self.live()?;
        let snapshot = live.snapshot.load();
        crate::pki::subject_of(&snapshot.authorities.active()?.der)
    }

    /// Returns the revocation list of an accepted authority, or by default of the one that signs, in DER (RFC 5280
    /// section 5). It is up to a minute old. Blocking.
    ///
    /// # Errors
    /// [`VaultError::Sealed`]; [`VaultError::NotFound`] for an authority that is unknown or not accepted;
    /// [`VaultError::Integrity`], [`VaultError::Internal`].
    pub fn revocation_list(&self, authority: Option<AuthorityId>) -> Result<Vec<u8>, VaultError> {
        certificates::revocations::list(self, authority)
    }

    /// Saves who was last seen when, and which roots the listener had. The daemon calls this every minute. Blocking.
    ///
    /// # Errors
    /// [`VaultError::Sealed`]; the errors of a commit.
    pub fn note_sightings(&self) -> Result<(), VaultError> {
        certificates::automatic::note_sightings(self)
    }

    /// Handles an enrolment with a one-time string.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] for every problem with the string; [`VaultError::BadRequest`] for the certificate
    /// request; [`VaultError::Sealed`] and the errors of a commit.
    pub async fn enroll(&self, asked: EnrollRequest, channel: Channel) -> Result<Certified, VaultError> {
        certificates::enroll::enroll(self, asked, channel).await
    }

    /// Handles a renewal with an expired certificate, if its identity allows that.
    ///
    /// # Errors
    /// As [`Vault::enroll`].
    pub async fn renew_expired(&self, asked: GraceRequest, channel: Channel) -> Result<Certified, VaultError> {
        certificates::renewal::renew_expired(self, asked, channel).await
    }

    /// Certifies a request for a registered identity, for somebody at this machine who can open the vault. Blocking.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::TooMany`], [`VaultError::WrongKey`], [`VaultError::BadRequest`], and the
    /// errors of a commit.
    pub fn rescue(&self, key: &UnsealKey<'_>, identity: &str, csr: &str) -> Result<CertificateReply, VaultError> {
        certificates::rescue::certificate(self, key, identity, csr)
    }
}
