//! Every certificate that the vault's own authorities issued, until some time after its expiry.
//!
//! The record is in built-in mount 10 under the SHA-256 of the certificate in hexadecimal, with a [`Row`] in JSON as
//! value. The rows record what no certificate can say: which ones were renewed and must not be used to renew again,
//! which were revoked, and which ones an authority still vouches for. A copy of the facts is in memory, for lists and
//! for the check of each request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use parking_lot::RwLock;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::api::hex::{hex, unhex};
use crate::api::spiffe::SpiffeId;
use crate::barrier::{EntryValue, MountId, Tx, View};
use crate::pki::{AuthorityId, peer};

use super::identity::IdentityRecord;
use crate::core::error::VaultError;

/// Rows are kept for this long after their certificate has expired, because a grace renewal uses them. In milliseconds.
const KEEP_MS: u64 = 31 * 86_400_000;
/// A row is first marked, and removed only this much later, in milliseconds. So no revocation is forgotten when the
/// clock jumps ahead for a while.
const SECOND_LOOK_MS: u64 = 7 * 86_400_000;
/// Both times for a certificate that was renewed and not revoked. After its expiry it is useless with or without a row,
/// so the row only helps to notice a copy. If these rows were kept as long as the others, a fleet with daily
/// certificates would have 60 times as many rows as hosts.
const KEEP_RENEWED_MS: u64 = 86_400_000;
const SECOND_LOOK_RENEWED_MS: u64 = 86_400_000;
/// Number of rows that are marked or removed whenever one is written.
const SWEEP: usize = 4;

/// Number of renewals per day that are always allowed for one identity, and how many more for each valid certificate. An
/// honest host needs one or two.
const FREE_RENEWALS: usize = 64;
const RENEWALS_EACH: usize = 4;
/// Length of that day, in milliseconds.
const RENEWALS_IN_MS: u64 = 86_400_000;
/// Beyond that number, a certificate can be renewed only after this fraction of its lifetime. Hosts renew at two thirds.
const PAUSE_PART: u64 = 6;

/// Number of identities whose rows are read under one lock.
const AT_ONCE: usize = 64;

/// SHA-256 of a certificate.
pub(in crate::core) type Fingerprint = [u8; 32];

/// How a certificate was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::core) enum How {
    /// When the vault was created.
    Init,
    /// By an operator, for a certificate request.
    Issued,
    /// With an enrolment string.
    Enrolled,
    /// With the previous certificate.
    Renewed,
    /// With the previous certificate, which had expired.
    Late,
    /// For a listener of the vault.
    Server,
}

/// On-disk form, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Row {
    /// Format, 1.
    pub v: u8,
    /// Path of the identity.
    pub identity: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of the public key, hexadecimal.
    pub key: String,
    /// Id of the authority, hexadecimal.
    pub authority: String,
    pub issued_ms: u64,
    pub not_after_ms: u64,
    pub how: How,
    /// The identity's mark (`not_before_ms` of its record) when this was issued. A higher mark revokes the certificate,
    /// whatever any clock says. Absent in a row that was created later than its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark_ms: Option<u64>,
    /// Lifetime that was requested with it, in seconds. Its renewals get no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_s: Option<u64>,
    /// Fingerprint of the certificate that replaced it, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
    /// When the row was found to be no longer needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_ms: Option<u64>,
    /// The certificate, so that a lost reply can be sent again.
    pub pem: String,
}

/// When and why a certificate was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Revoked {
    pub at_ms: u64,
    pub reason: String,
}

impl Row {
    /// Creates the row of a new certificate.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when the certificate cannot be parsed.
    pub(in crate::core) fn of(
        pem: &str,
        identity: &SpiffeId,
        authority: AuthorityId,
        issued_ms: u64,
        how: How,
    ) -> Result<(Fingerprint, Self), VaultError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| VaultError::Internal)?;
        let leaf = peer::facts(&der).map_err(|_| VaultError::Internal)?;
        let row = Self {
            v: 1,
            identity: identity.path().to_owned(),
            serial: hex(&leaf.serial),
            key: hex(&leaf.key_fingerprint),
            authority: authority.hex(),
            issued_ms,
            not_after_ms: leaf.not_after_ms,
            how,
            mark_ms: Some(0),
            life_s: None,
            superseded_by: None,
            revoked: None,
            spent_ms: None,
            pem: pem.to_owned(),
        };
        Ok((leaf.fingerprint, row))
    }
}

/// Reads the row of a certificate.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn read(view: &View<'_>, fingerprint: &Fingerprint) -> Result<Option<Row>, VaultError> {
    view.entry(&hex(fingerprint))?.map(|entry| decode(&entry)).transpose()
}

fn decode(entry: &EntryValue) -> Result<Row, VaultError> {
    let row: Row = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    if row.v == 1 { Ok(row) } else { Err(VaultError::Integrity) }
}

/// Writes a row.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put(tx: &mut Tx<'_>, fingerprint: &Fingerprint, row: &Row) -> Result<(), VaultError> {
    let bytes = serde_json::to_vec(row).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::CERTIFICATES, &hex(fingerprint), &bytes, 0)?;
    Ok(())
}

/// The part of a row that is kept in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) struct Facts {
    pub identity: String,
    pub serial: String,
    pub authority: AuthorityId,
    pub issued_ms: u64,
    pub not_after_ms: u64,
    pub how: How,
    pub mark_ms: Option<u64>,
    pub superseded: bool,
    pub revoked: Option<Revoked>,
    spent_ms: Option<u64>,
}

impl Facts {
    fn of(row: Row) -> Result<Self, VaultError> {
        Ok(Self {
            authority: AuthorityId::parse(&row.authority).ok_or(VaultError::Integrity)?,
            identity: row.identity,
            serial: row.serial,
            issued_ms: row.issued_ms,
            not_after_ms: row.not_after_ms,
            how: row.how,
            mark_ms: row.mark_ms,
            superseded: row.superseded_by.is_some(),
            revoked: row.revoked,
            spent_ms: row.spent_ms,
        })
    }

    /// When [`sweep`] must check the row.
    fn sweep_ms(&self) -> u64 {
        let (keep_ms, second_ms) = spans(self.superseded && self.revoked.is_none());
        match self.spent_ms {
            None => self.not_after_ms.saturating_add(keep_ms),
            Some(spent_ms) => spent_ms.saturating_add(second_ms),
        }
    }

    /// Whether it is valid: not expired, renewed or revoked.
    pub(in crate::core) fn is_living(&self, now_ms: u64) -> bool {
        self.not_after_ms > now_ms && !self.superseded && self.revoked.is_none()
    }

    /// Whether all certificates of its identity were revoked after this one was issued.
    pub(in crate::core) fn is_outlived(&self, standing: &IdentityRecord) -> bool {
        standing.outlives(self.mark_ms, self.issued_ms)
    }
}

/// How long a row is kept after its certificate has expired, and after it was marked, in milliseconds.
fn spans(only_renewed: bool) -> (u64, u64) {
    if only_renewed { (KEEP_RENEWED_MS, SECOND_LOOK_RENEWED_MS) } else { (KEEP_MS, SECOND_LOOK_MS) }
}

/// The rows in memory.
#[derive(Default)]
pub(in crate::core) struct Ledger(RwLock<Held>);

#[derive(Default)]
struct Held {
    rows: HashMap<Fingerprint, Facts>,
    /// Ordered, so that a walk over all of them can continue where it stopped.
    by_identity: BTreeMap<String, BTreeSet<Fingerprint>>,
    /// By the time of their next check, so that they are found without a search.
    by_sweep: BTreeSet<(u64, Fingerprint)>,
    /// The marked rows, by the time of the mark.
    marked: BTreeSet<(u64, Fingerprint)>,
}

impl Held {
    fn remove(&mut self, fingerprint: &Fingerprint) {
        let Some(old) = self.rows.remove(fingerprint) else { return };
        self.by_sweep.remove(&(old.sweep_ms(), *fingerprint));
        self.marked.remove(&(old.spent_ms.unwrap_or_default(), *fingerprint));
        if let Some(all) = self.by_identity.get_mut(&old.identity) {
            all.remove(fingerprint);
            if all.is_empty() {
                self.by_identity.remove(&old.identity);
            }
        }
    }

    fn insert(&mut self, fingerprint: Fingerprint, facts: Facts) {
        self.remove(&fingerprint);
        self.by_sweep.insert((facts.sweep_ms(), fingerprint));
        self.marked.extend(facts.spent_ms.map(|spent_ms| (spent_ms, fingerprint)));
        self.by_identity.entry(facts.identity.clone()).or_default().insert(fingerprint);
        self.rows.insert(fingerprint, facts);
    }
}

impl Ledger {
    /// Reads every row.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a row that cannot be parsed.
    pub(in crate::core) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut held = Held::default();
        view.each_entry(|name, entry| {
            let fingerprint = parse_fingerprint(name).ok_or(VaultError::Integrity)?;
            held.insert(fingerprint, Facts::of(decode(&entry)?)?);
            Ok::<(), VaultError>(())
        })?;
        Ok(Self(RwLock::new(held)))
    }

    /// Updates one row from the store.
    ///
    /// # Errors
    /// As [`Ledger::load`].
    pub(in crate::core) fn reread(&self, view: &View<'_>, fingerprint: &Fingerprint) -> Result<(), VaultError> {
        let row = read(view, fingerprint)?;
        let mut held = self.0.write();
        let Some(row) = row else {
            held.remove(fingerprint);
            return Ok(());
        };
        held.insert(*fingerprint, Facts::of(row)?);
        Ok(())
    }

    /// Number of rows.
    pub(in crate::core) fn len(&self) -> usize {
        self.0.read().rows.len()
    }

    /// Whether a certificate was revoked.
    pub(in crate::core) fn is_revoked(&self, fingerprint: &Fingerprint) -> bool {
        self.0.read().rows.get(fingerprint).is_some_and(|facts| facts.revoked.is_some())
    }

    /// Whether a certificate was revoked, and the mark under which it was issued.
    pub(in crate::core) fn standing(&self, fingerprint: &Fingerprint) -> (bool, Option<u64>) {
        let held = self.0.read();
        held.rows.get(fingerprint).map_or((false, None), |facts| (facts.revoked.is_some(), facts.mark_ms))
    }

    /// Number of rows of an identity.
    pub(in crate::core) fn count_of(&self, identity: &str) -> usize {
        self.0.read().by_identity.get(identity).map_or(0, BTreeSet::len)
    }

    /// The newest certificate of an identity that has not expired and was neither renewed nor revoked.
    pub(in crate::core) fn newest_living(&self, identity: &str, now_ms: u64) -> Option<Facts> {
        let held = self.0.read();
        let all = held.by_identity.get(identity).into_iter().flatten();
        let living = all.filter_map(|fingerprint| held.rows.get(fingerprint)).filter(|facts| facts.is_living(now_ms));
        living.max_by_key(|facts| facts.issued_ms).cloned()
    }

    /// The certificates of an identity, newest first.
    pub(in crate::core) fn of(&self, identity: &str) -> Vec<(Fingerprint, Facts)> {
        let held = self.0.read();
        let all = held.by_identity.get(identity).into_iter().flatten();
        let mut found: Vec<_> =
            all.filter_map(|fingerprint| Some((*fingerprint, held.rows.get(fingerprint)?.clone()))).collect();
        found.sort_by_key(|(_, facts)| std::cmp::Reverse(facts.issued_ms));
        found
    }

    /// Visits every row, by identity. The rows are locked for a few identities at a time, because every request checks
    /// its own row and must not wait for a report. Rows that change in the meantime may be seen in either state.
    pub(in crate::core) fn visit(&self, mut look: impl FnMut(&Facts)) {
        let mut last: Option<String> = None;
        loop {
            let held = self.0.read();
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let batch = held.by_identity.range::<str, _>((from, Bound::Unbounded)).take(AT_ONCE);
            let mut next = None;
            for (identity, all) in batch {
                all.iter().filter_map(|fingerprint| held.rows.get(fingerprint)).for_each(&mut look);
                next = Some(identity);
            }
            let Some(next) = next.cloned() else { return };
            drop(held);
            last = Some(next);
        }
    }

    /// Checks whether a certificate may be renewed now. A young certificate may not if its identity has had many
    /// renewals recently. Each renewal leaves a row that is kept for weeks, so a host that renews in a loop would fill
    /// the store. Others with the same identity are not delayed, because their certificates are older.
    ///
    /// # Errors
    /// [`VaultError::RenewedTooOften`] when it may not, with the time to wait.
    pub(in crate::core) fn may_be_renewed(&self, row: &Row, now_ms: u64) -> Result<(), VaultError> {
        let life_ms = row.not_after_ms.saturating_sub(row.issued_ms);
        let from_ms = row.issued_ms.saturating_add(life_ms / PAUSE_PART);
        if now_ms >= from_ms {
            return Ok(());
        }
        let held = self.0.read();
        let rows = held.by_identity.get(&row.identity).into_iter().flatten();
        let (mut renewals, mut in_force) = (0_usize, 0_usize);
        for facts in rows.filter_map(|fingerprint| held.rows.get(fingerprint)) {
            let lately = facts.issued_ms.saturating_add(RENEWALS_IN_MS) > now_ms;
            renewals += usize::from(matches!(facts.how, How::Renewed | How::Late) && lately);
            in_force += usize::from(!facts.superseded && facts.revoked.is_none() && facts.not_after_ms > now_ms);
        }
        if renewals < FREE_RENEWALS.saturating_add(in_force.saturating_mul(RENEWALS_EACH)) {
            return Ok(());
        }
        // Never longer than the pause itself, even if the clock was changed.
        let wait_ms = (from_ms - now_ms).min(life_ms / PAUSE_PART);
        Err(VaultError::RenewedTooOften { retry_after_s: wait_ms.div_ceil(1_000).max(1) })
    }

    /// A few rows that are no longer needed, and a few with a mark in the future.
    fn stale(&self, now_ms: u64) -> Vec<Fingerprint> {
        let held = self.0.read();
        let due = held.by_sweep.iter().take_while(|(sweep_ms, _)| *sweep_ms < now_ms).take(SWEEP);
        let wrong = held.marked.iter().rev().take_while(|(spent_ms, _)| *spent_ms > now_ms).take(SWEEP);
        due.chain(wrong).map(|(_, fingerprint)| *fingerprint).collect()
    }
}

/// Marks a few rows that are no longer needed, or removes them if they were marked long ago. Removes marks that were set
/// while the clock was ahead. Returns the rows that must be read again into memory.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written; [`VaultError::Integrity`] when one cannot be
/// parsed.
pub(in crate::core) fn sweep(tx: &mut Tx<'_>, ledger: &Ledger, now_ms: u64) -> Result<Vec<Fingerprint>, VaultError> {
    let stale = ledger.stale(now_ms);
    for fingerprint in &stale {
        let Some(mut row) = read(&tx.view(MountId::CERTIFICATES), fingerprint)? else { continue };
        let (_, second_ms) = spans(row.superseded_by.is_some() && row.revoked.is_none());
        match row.spent_ms {
            Some(spent_ms) if spent_ms.saturating_add(second_ms) < now_ms => {
                tx.remove_entry(MountId::CERTIFICATES, &hex(fingerprint))?;
            }
            Some(spent_ms) if spent_ms <= now_ms => {}
            wrong_or_none => {
                row.spent_ms = wrong_or_none.is_none().then_some(now_ms);
                put(tx, fingerprint, &row)?;
            }
        }
    }
    Ok(stale)
}

/// Parses 64 hexadecimal digits.
pub(in crate::core) fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    unhex(text)
}
