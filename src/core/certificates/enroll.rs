//! Enrolment: from a one-time string to a certificate.
//!
//! One commit marks the string as used by a key, writes the certificate's row, and makes both durable. For five minutes,
//! a caller who asks again with the same key gets the same certificate. A caller who asks with another key is rejected and
//! raises an alarm.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::enroll::{Certified, EnrollRequest};
use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::spiffe::SpiffeId;
use crate::barrier::{MountId, Tx};
use crate::crypto::Key;
use crate::enroll::ProofKey;
use crate::pki;

use super::issue::{self, Issued, Order};
use crate::core::commit::change::{Done, Remark};
use crate::core::commit::committer::{Job, Work};
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::ports::Settings;
use crate::core::request::data;
use crate::core::state::enrolment::{self, StringStatus, Use};
use crate::core::state::identity;
use crate::core::state::ledger::{self, How};
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::vault::Vault;
use crate::core::{Caller, Origin};

/// How long a lost reply can be requested again, in milliseconds.
const AGAIN_MS: u64 = 5 * 60_000;

/// The connection that a request from a client without a certificate came over.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// The connection's exporter (RFC 9266): label `EXPORTER-Channel-Binding`, no context.
    pub exporter: [u8; 32],
    /// Peer address.
    pub remote: SocketAddr,
}

/// Addresses of the vault, for a reply.
#[derive(Default)]
pub(in crate::core) struct Places {
    /// Addresses of the API.
    pub addresses: Vec<String>,
    /// Addresses of the enrolment listener.
    pub enroll: Vec<String>,
}

/// Handles an enrolment.
///
/// # Errors
/// [`VaultError::Forbidden`] for every problem with the string; [`VaultError::BadRequest`] when the certificate request
/// is malformed; [`VaultError::Sealed`] while sealed; the errors of a commit.
pub(in crate::core) async fn enroll(
    vault: &Vault,
    asked: EnrollRequest,
    channel: Channel,
) -> Result<Certified, VaultError> {
    let settings = Arc::clone(&vault.settings);
    // Checked before anything is written. An unknown string causes neither a commit nor a line in the audit log, so that
    // strangers cannot fill either, however many addresses they use.
    let request = pki::read_csr(&asked.csr).map_err(issue::refusal)?;
    {
        let live = vault.live().ok_or(VaultError::Sealed)?;
        enrolment::read(&live.barrier.view(MountId::ENROLMENTS), &hex(&asked.id))?.ok_or(VaultError::Forbidden)?;
    }
    run(vault, "sys/strongroom/enroll", channel.remote, move |tx, snapshot, now_ms| {
        use_string(tx, snapshot, (&asked, channel), &request, &settings, now_ms)
    })
    .await
}

/// Result of a commit.
pub(in crate::core) struct Outcome {
    pub enrolled: Certified,
    pub done: Done,
}

impl Outcome {
    /// The outcome for a caller that gets no certificate.
    pub(in crate::core) fn refused(touched: Vec<Touch>, alarm: &'static str) -> Self {
        let done = Done {
            remarks: vec![Remark::alarm(alarm)],
            refusal: Some(VaultError::Forbidden),
            ..Done::touching(Reply::none(), touched)
        };
        Self { enrolled: Certified::default(), done }
    }

    pub(in crate::core) fn of(issued: Issued, identity: &SpiffeId, places: Places) -> Result<Self, VaultError> {
        let enrolled = Certified {
            not_after: issued.not_after(),
            certificate: issued.row.pem,
            ca: issued.bundle.pem,
            server_ca: issued.bundle.server_pem,
            identity: identity.uri().to_owned(),
            addresses: places.addresses,
            enroll: places.enroll,
        };
        let reply = data(&enrolled)?;
        let done = Done { remarks: issued.remarks, ..Done::touching(reply, issued.touched) };
        Ok(Self { enrolled, done })
    }

    /// Returns the same certificate again.
    pub(in crate::core) fn again(
        snapshot: &Snapshot,
        row: ledger::Row,
        identity: &SpiffeId,
        places: Places,
    ) -> Result<Self, VaultError> {
        let bundle = snapshot.bundle();
        let enrolled = Certified {
            not_after: crate::api::time::rfc3339_nano(row.not_after_ms),
            certificate: row.pem,
            ca: bundle.pem,
            server_ca: bundle.server_pem,
            identity: identity.uri().to_owned(),
            addresses: places.addresses,
            enroll: places.enroll,
        };
        let reply = data(&enrolled)?;
        Ok(Self { enrolled, done: Done::of(reply) })
    }
}

/// Runs `work` in the committer for a caller without a certificate, and waits for it.
pub(in crate::core) async fn run(
    vault: &Vault,
    path: &'static str,
    remote: SocketAddr,
    work: impl FnOnce(&mut Tx<'_>, &Snapshot, u64) -> Result<Outcome, VaultError> + Send + 'static,
) -> Result<Certified, VaultError> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let answer = {
        let live = vault.live().ok_or(VaultError::Sealed)?;
        let now_ms = vault.ports.clock.now_ms();
        let domain = &vault.settings.trust_domain;
        let mut facts = Facts::by_vault(domain, path, "enrolment".to_owned(), now_ms, &*vault.ports.random)?;
        facts.caller = Caller { remote: remote.to_string(), origin: Origin::Internal, ..facts.caller };
        let work = move |tx: &mut Tx<'_>, snapshot: &Snapshot, now_ms: u64| {
            let Outcome { enrolled, done } = work(tx, snapshot, now_ms)?;
            // Sent only once the commit is durable. A caller that is gone is not an error.
            let _ = send.send(enrolled);
            Ok(done)
        };
        let (sender, answer) = tokio::sync::oneshot::channel();
        let facts = Arc::new(facts);
        live.committer.submit(Job { facts, work: Work::Records(Box::new(work)), answer: sender })?;
        answer
    };
    answer.await.unwrap_or(Err(VaultError::Sealed))?;
    receive.await.map_err(|_| VaultError::Internal)
}

fn use_string(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    (asked, channel): (&EnrollRequest, Channel),
    request: &pki::Csr,
    settings: &Settings,
    now_ms: u64,
) -> Result<Outcome, VaultError> {
    let id = hex(&asked.id);
    let mut record = enrolment::read(&tx.view(MountId::ENROLMENTS), &id)?.ok_or(VaultError::Forbidden)?;
    let mut length = Ok(0);
    let key = Key::fill_with(|key| length = STANDARD.decode_slice(&record.key, key));
    if length != Ok(32) {
        return Err(VaultError::Integrity);
    }
    if !ProofKey::from_key(key).verify(&channel.exporter, &request.der, &asked.proof) {
        return Ok(Outcome::refused(Vec::new(), "enrolment-proof-wrong"));
    }
    // From here on, the caller has proved that it knows the secret.
    if !record.admits(channel.remote.ip()) {
        return Ok(Outcome::refused(Vec::new(), "enrolment-from-foreign-network"));
    }
    let identity = SpiffeId::new(&settings.trust_domain, &record.identity).map_err(|_| VaultError::Integrity)?;
    let public_key = hex(&request.key_fingerprint);
    // The reply to an earlier use may have been lost, so the same key gets the same certificate again for a while.
    if let Some(earlier) = record.used.iter().find(|earlier| earlier.key == public_key) {
        let fingerprint = ledger::parse_fingerprint(&earlier.certificate).ok_or(VaultError::Integrity)?;
        let row = ledger::read(&tx.view(MountId::CERTIFICATES), &fingerprint)?.ok_or(VaultError::Forbidden)?;
        let fresh = now_ms.abs_diff(earlier.at_ms) <= AGAIN_MS;
        if fresh && row.revoked.is_none() {
            let places = Places { addresses: record.addresses.clone(), ..Places::default() };
            return Outcome::again(snapshot, row, &identity, places);
        }
        return Err(VaultError::Forbidden);
    }
    if record.is_used_up() {
        return Ok(Outcome::refused(Vec::new(), "enrolment-string-used-again"));
    }
    // A clock that was set back must not make an old string valid again.
    if now_ms >= record.expires_ms || now_ms.saturating_add(60_000) < record.created_ms {
        return Err(VaultError::Forbidden);
    }
    let active = snapshot.authorities.active().map(|facts| facts.id);
    if record.state(active, now_ms) == StringStatus::Void {
        return Err(VaultError::Forbidden);
    }
    // The identity may have been removed or disabled since the string was made.
    let standing = identity::read(&tx.view(identity::IDENTITIES), &record.identity)?;
    if standing.is_none_or(|standing| standing.disabled.is_some()) {
        return Err(VaultError::Forbidden);
    }
    let order = Order {
        identity: &identity,
        how: How::Enrolled,
        life_s: (record.certificate_life_s > 0).then_some(record.certificate_life_s),
        longest_s: settings.max_certificate_life_s,
        supersedes: None,
        now_ms,
    };
    let issued = issue::certify(tx, snapshot, &order, &asked.csr)?;
    record.used.push(Use { at_ms: now_ms, key: public_key, certificate: hex(&issued.fingerprint) });
    enrolment::put(tx, &id, &record)?;
    Outcome::of(issued, &identity, Places { addresses: record.addresses.clone(), ..Places::default() })
}
