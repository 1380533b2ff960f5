//! Enrolment strings: creating and listing them, and finding those that a change of authority would make invalid.
//!
//! A string is created for a registered identity and read only once, in the reply. [`super::enroll`] turns it into a
//! certificate.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::api::error::Reason;
use crate::api::fields::Fields;
use crate::api::hex::hex;
use crate::api::identities::EnrollmentList;
use crate::api::spiffe::SpiffeId;
use crate::api::time::rfc3339_nano;
use crate::auth::cidr::Cidr;
use crate::barrier::{MountId, Tx};
use crate::enroll::EnrollString;
use crate::pki::{self, AuthorityId};

use crate::core::Settings;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::data;
use crate::core::state::enrolment::{self, EnrollRecord, KEEP_MS, MAX_STRINGS, StringStatus};
use crate::core::state::identity;
use crate::core::state::listener_roots::Pin;
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::state::strings::Strings;

/// Default lifetime of a string, in seconds.
const DEFAULT_TTL_S: u64 = 600;
/// Longest lifetime of a string, in seconds.
const MAX_TTL_S: u64 = 7 * 86_400;
/// Largest number of uses of one string. Each adds about 180 bytes to its record, which must stay below 1 MiB.
const MAX_USES: u64 = 5_000;
/// Number of strings that are removed whenever one is created.
const SWEEP: usize = 8;
/// Largest number of networks of one string.
const MAX_NETWORKS: usize = 32;

/// What a new string allows, and for how long.
pub(in crate::core) struct Terms {
    life_s: u64,
    uses: u32,
    /// Lifetime of its certificates in seconds; 0 means the identity's default.
    certificate_life_s: u64,
    /// Networks that may use it; empty means any.
    cidrs: Vec<String>,
    /// Addresses of the enrolment listener.
    addresses: Vec<String>,
}

impl Terms {
    /// Reads `ttl`, `uses`, `cidr`, `certificate_ttl` and `addresses`. All of them have defaults if the vault has an
    /// enrolment listener.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] for a field out of its range, and when no address is known.
    pub(in crate::core) fn read(fields: Fields<'_>, settings: &Settings) -> Result<Self, VaultError> {
        let life_s = fields.seconds_in("ttl", 1, MAX_TTL_S)?.unwrap_or(DEFAULT_TTL_S);
        let uses = fields.number_in("uses", 1, MAX_USES)?.unwrap_or(1);
        let certificate_life_s = fields.seconds_in("certificate_ttl", 0, settings.max_certificate_life_s)?.unwrap_or(0);
        let cidrs = networks(&fields.texts("cidr")?.unwrap_or_default())?;
        let addresses = fields.texts("addresses")?.unwrap_or_else(|| settings.enroll_addresses.clone());
        if addresses.is_empty() {
            return Err(bad(
                "the vault has no enrolment listener: set enroll.listen in its configuration, or name \"addresses\"; \
                 without one, use: strongroom client issue",
            ));
        }
        Ok(Self { life_s, uses: u32::try_from(uses).unwrap_or(u32::MAX), certificate_life_s, cidrs, addresses })
    }
}

/// The networks in their canonical form.
fn networks(texts: &[String]) -> Result<Vec<String>, VaultError> {
    let cidrs: Result<Vec<String>, _> = texts.iter().map(|text| Cidr::parse(text).map(String::from)).collect();
    cidrs.ok().filter(|cidrs| cidrs.len() <= MAX_NETWORKS).ok_or_else(|| {
        VaultError::BadRequest(format!(
            "field \"cidr\" takes up to {MAX_NETWORKS} networks such as 192.0.2.0/24, with no bits set after the prefix"
        ))
    })
}

/// A string that was just created.
pub(in crate::core) struct Made {
    string: EnrollString,
    id: String,
    record: EnrollRecord,
    /// The entries that the index of strings must read again.
    touched: Vec<Touch>,
}

impl Made {
    /// Builds the only reply that contains the string itself.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when the reply cannot be serialised.
    pub(in crate::core) fn done(self, identity: &SpiffeId) -> Result<Done, VaultError> {
        #[derive(Serialize)]
        struct StringMade<'a> {
            string: &'a str,
            id: String,
            identity: &'a str,
            expires: String,
            uses: u32,
        }
        let text = self.string.print();
        let (expires, uses) = (rfc3339_nano(self.record.expires_ms), self.record.uses);
        let shown = StringMade { string: text.reveal(), id: self.id, identity: identity.uri(), expires, uses };
        Ok(Done::touching(data(&shown)?, self.touched))
    }
}

/// Rejects an identity that may not get a string.
///
/// # Errors
/// [`VaultError::Because`] when it is not registered, or disabled; the errors of the barrier.
pub(in crate::core) fn require_enabled(tx: &Tx<'_>, identity: &SpiffeId) -> Result<(), VaultError> {
    let path = identity.path();
    let (reason, text) = match identity::read(&tx.view(identity::IDENTITIES), path)? {
        None => (Reason::NotRegistered, format!("{path} is not registered: give it its policies first")),
        Some(standing) if standing.disabled.is_some() => (Reason::Disabled, format!("{path} is disabled")),
        Some(_) => return Ok(()),
    };
    Err(VaultError::Because(reason, text))
}

/// Creates a string for an identity and writes its record, which has the proof key and not the secret. Also removes a
/// few strings that expired long ago.
///
/// # Errors
/// [`VaultError::Because`] when too many strings are on record, in all or by the caller; [`VaultError::BadRequest`] when
/// it is unknown which key the listener's certificate ends at, and for the addresses; the errors of the barrier.
pub(in crate::core) fn create(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    identity: &SpiffeId,
    terms: Terms,
) -> Result<Made, VaultError> {
    let Terms { life_s, uses, certificate_life_s, cidrs, addresses } = terms;
    // Old strings are removed here, so that no background job is needed for them.
    let mut touched = sweep(tx, &change.snapshot.strings, change.now_ms)?;
    make_room_for(change)?;
    let (pin, authority) = pinned(change.snapshot)?;
    let string = EnrollString::generate(pin, addresses.clone(), &**change.random).map_err(|_| VaultError::Internal)?;
    let string = string.map_err(|error| VaultError::BadRequest(format!("field \"addresses\": {error}")))?;
    let id = hex(string.id());
    let record = EnrollRecord {
        v: 1,
        identity: identity.path().to_owned(),
        key: STANDARD.encode(string.proof_key().reveal()),
        created_ms: change.now_ms,
        created_by: change.caller.identity.path().to_owned(),
        expires_ms: change.now_ms.saturating_add(life_s * 1_000),
        uses,
        cidrs,
        certificate_life_s,
        used: Vec::new(),
        addresses,
        authority: authority.map(|id| id.hex()),
    };
    enrolment::put(tx, &id, &record)?;
    touched.push(Touch::Enrolment(id.clone()));
    Ok(Made { string, id, record, touched })
}

/// Removes a few strings that expired long ago. Returns what the index must read again.
fn sweep(tx: &mut Tx<'_>, strings: &Strings, now_ms: u64) -> Result<Vec<Touch>, VaultError> {
    let mut touched = Vec::new();
    for id in strings.ended(now_ms.saturating_sub(KEEP_MS), SWEEP) {
        tx.remove_entry(MountId::ENROLMENTS, &id)?;
        touched.push(Touch::Enrolment(id));
    }
    // Others may have been created in this commit, so the limit can be exceeded by one group.
    if strings.len().saturating_sub(touched.len()) >= MAX_STRINGS {
        let text = format!("there are {MAX_STRINGS} enrolment strings: delete some");
        return Err(VaultError::Because(Reason::LimitReached, text));
    }
    Ok(touched)
}

/// Rejects a caller that has created too many strings, so that one identity cannot keep the others from creating some.
/// As exact as the limit for all of them.
fn make_room_for(change: &Change<'_>) -> Result<(), VaultError> {
    let most = change.settings.max_strings_each;
    if change.snapshot.strings.made_by(change.caller.identity.path()) < most {
        return Ok(());
    }
    let text = format!("this identity has created {most} enrolment strings that are on record: delete some");
    Err(VaultError::Because(Reason::LimitReached, text))
}

/// The key by which a host recognises the listener, and the authority that the string depends on for it.
fn pinned(snapshot: &Snapshot) -> Result<([u8; 32], Option<AuthorityId>), VaultError> {
    match snapshot.pin() {
        Pin::Key(pin) => Ok((pin, None)),
        Pin::Signing => {
            let active = snapshot.authorities.active().ok_or(VaultError::Integrity)?;
            Ok((pki::key_fingerprint(&active.der).ok_or(VaultError::Integrity)?, Some(active.id)))
        }
        Pin::Unknown => Err(bad("the listener's certificate comes from an outside PKI whose root is unknown: \
             set tls.ca in the vault's configuration; until then, use: strongroom client issue")),
    }
}

/// The strings with these ids, without their secrets. One that was removed in the meantime is left out.
///
/// # Errors
/// [`VaultError::Integrity`] when a record cannot be parsed; the errors of [`Inquiry::looks_at`].
pub(in crate::core) fn list(inquiry: &Inquiry<'_>, ids: &[String]) -> Result<EnrollmentList, VaultError> {
    let view = inquiry.view(MountId::ENROLMENTS);
    let active = inquiry.snapshot.authorities.active().map(|facts| facts.id);
    let mut key_info = BTreeMap::new();
    for id in ids {
        inquiry.looks_at(1)?;
        if let Some(record) = enrolment::read(&view, id)? {
            key_info.insert(id.clone(), record.info(active, inquiry.now_ms));
        }
    }
    Ok(EnrollmentList { keys: key_info.keys().cloned().collect(), key_info })
}

/// The enabled identities, each once, whose strings would become invalid if another authority than `active` signed.
///
/// # Errors
/// [`VaultError::Integrity`] when a record cannot be parsed; the errors of the barrier.
pub(in crate::core) fn open_under(tx: &Tx<'_>, active: AuthorityId, now_ms: u64) -> Result<Vec<String>, VaultError> {
    let (strings, identities) = (tx.view(MountId::ENROLMENTS), tx.view(identity::IDENTITIES));
    let enabled = |path: &str| -> Result<bool, VaultError> {
        Ok(identity::read(&identities, path)?.is_some_and(|standing| standing.disabled.is_none()))
    };
    let mut waiting = BTreeSet::new();
    for id in strings.entries()? {
        let Some(record) = enrolment::read(&strings, &id)? else { continue };
        let bound = record.authority.as_deref() == Some(&*active.hex());
        if bound && record.state(Some(active), now_ms) == StringStatus::Open && enabled(&record.identity)? {
            waiting.insert(record.identity.clone());
        }
    }
    Ok(waiting.into_iter().collect())
}

fn bad(text: &str) -> VaultError {
    VaultError::BadRequest(text.to_owned())
}
