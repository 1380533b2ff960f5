//! `sys/strongroom/enrollments`: one-time strings with which hosts get their first certificate.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::api::error::Reason;
use crate::api::hex::hex;
use crate::api::page::Page;
use crate::api::reply::Reply;
use crate::api::time::rfc3339_nano;
use crate::auth::cidr::Cidr;
use crate::barrier::{MountId, Tx, View};
use crate::enroll::EnrollString;
use crate::pki::{self, AuthorityId};

use super::certificates::identity_of;
use super::{Change, Inquiry, data};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::enrolment::{self, EnrollRecord, KEEP_MS, MAX_STRINGS, StringStatus};
use crate::core::state::identity;
use crate::core::state::listener_roots::Pin;
use crate::core::state::snapshot::Touch;
use crate::core::state::strings::Strings;

/// Default life of a string, in seconds.
const DEFAULT_TTL_S: u64 = 600;
/// Longest life of a string, in seconds.
const MAX_TTL_S: u64 = 7 * 86_400;
/// Largest number of uses of one string. Each adds about 180 bytes to its record, which must stay below 1 MiB.
const MAX_USES: u64 = 5_000;
/// Number of strings that are removed whenever one is created.
const SWEEP: usize = 8;
/// Largest number of networks of one string.
const MAX_NETWORKS: usize = 32;

/// Creates a string for the identity in the path: `{ttl?, uses?, cidr?, certificate_ttl?, addresses?}`.
pub(super) fn create(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    #[derive(Serialize)]
    struct Made<'a> {
        string: &'a str,
        id: String,
        identity: &'a str,
        expires: String,
        uses: u64,
    }
    let bad = |text: String| VaultError::BadRequest(text);
    let fields = change.body.only(&["ttl", "uses", "cidr", "certificate_ttl", "addresses"])?;
    let identity = identity_of(&change.tail, &change.settings.trust_domain)?;
    let standing = identity::read(&tx.view(identity::IDENTITIES), identity.path())?;
    match standing {
        None => {
            let text = format!("{} is not registered: give it its policies first", identity.path());
            return Err(VaultError::Because(Reason::NotRegistered, text));
        }
        Some(standing) if standing.disabled.is_some() => {
            return Err(VaultError::Because(Reason::Disabled, format!("{} is disabled", identity.path())));
        }
        Some(_) => {}
    }
    let ttl_s = fields.seconds_in("ttl", 1, MAX_TTL_S)?.unwrap_or(DEFAULT_TTL_S);
    let uses = fields.number_in("uses", 1, MAX_USES)?.unwrap_or(1);
    let longest_s = change.settings.max_certificate_life_s;
    let certificate_life_s = fields.seconds_in("certificate_ttl", 0, longest_s)?.unwrap_or(0);
    let cidrs = fields.texts("cidr")?.unwrap_or_default();
    let cidrs: Result<Vec<String>, _> = cidrs.iter().map(|text| Cidr::parse(text).map(String::from)).collect();
    let cidrs = cidrs.ok().filter(|cidrs| cidrs.len() <= MAX_NETWORKS).ok_or_else(|| {
        bad(format!(
            "field \"cidr\" takes up to {MAX_NETWORKS} networks such as 192.0.2.0/24, with no bits set after the prefix"
        ))
    })?;
    let addresses = fields.texts("addresses")?.unwrap_or_else(|| change.settings.enroll_addresses.clone());
    if addresses.is_empty() {
        return Err(bad(
            "the vault has no enrolment listener: set enroll.listen in its configuration, or name \"addresses\"; \
             without one, use: strongroom client issue"
                .to_owned(),
        ));
    }
    // Old strings are removed here, so that the record does not need a job of its own.
    let mut touched = sweep(tx, &change.snapshot.strings, change.now_ms)?;
    // As exact as the limit of all of them. One identity must not keep the others from making strings.
    let most = change.settings.max_strings_each;
    if change.snapshot.strings.made_by(change.caller.identity.path()) >= most {
        let text = format!("this identity has created {most} enrolment strings that are on record: delete some");
        return Err(VaultError::Because(Reason::LimitReached, text));
    }

    let (pin, authority) = match change.snapshot.pin() {
        Pin::Key(pin) => (pin, None),
        Pin::Signing => {
            let active = change.snapshot.authorities.active().ok_or(VaultError::Integrity)?;
            (pki::key_fingerprint(&active.der).ok_or(VaultError::Integrity)?, Some(active.id.hex()))
        }
        Pin::Unknown => {
            return Err(bad("the listener's certificate comes from an outside PKI whose root is unknown: \
                 set tls.ca in the vault's configuration; until then, use: strongroom client issue"
                .to_owned()));
        }
    };
    let string = EnrollString::generate(pin, addresses.clone(), &**change.random).map_err(|_| VaultError::Internal)?;
    let string = string.map_err(|error| bad(format!("field \"addresses\": {error}")))?;
    let id = hex(string.id());
    let record = EnrollRecord {
        v: 1,
        identity: identity.path().to_owned(),
        key: STANDARD.encode(string.proof_key().reveal()),
        created_ms: change.now_ms,
        created_by: change.caller.identity.path().to_owned(),
        expires_ms: change.now_ms.saturating_add(ttl_s * 1_000),
        uses: u32::try_from(uses).unwrap_or(u32::MAX),
        cidrs,
        certificate_life_s,
        used: Vec::new(),
        addresses,
        authority,
    };
    enrolment::put(tx, &id, &record)?;
    let text = string.print();
    let expires = rfc3339_nano(record.expires_ms);
    touched.push(Touch::Enrolment(id.clone()));
    let reply = data(&Made { string: text.reveal(), id, identity: identity.uri(), expires, uses })?;
    Ok(Done::touching(reply, touched))
}

/// Removes a few strings that expired long ago. Returns what the index must read again.
fn sweep(tx: &mut Tx<'_>, strings: &Strings, now_ms: u64) -> Result<Vec<Touch>, VaultError> {
    let mut touched = Vec::new();
    for id in strings.ended(now_ms.saturating_sub(KEEP_MS), SWEEP) {
        tx.remove_entry(MountId::ENROLMENTS, &id)?;
        touched.push(Touch::Enrolment(id));
    }
    // Others may have been created in this commit: the limit is exact to a group of commits.
    if strings.len().saturating_sub(touched.len()) >= MAX_STRINGS {
        let text = format!("there are {MAX_STRINGS} enrolment strings: delete some");
        return Err(VaultError::Because(Reason::LimitReached, text));
    }
    Ok(touched)
}

/// All strings on record, without their secrets.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Shown {
        identity: String,
        created: String,
        created_by: String,
        expires: String,
        uses: u32,
        used: usize,
        cidr: Vec<String>,
        state: &'static str,
    }
    #[derive(Serialize)]
    struct Listing {
        keys: Vec<String>,
        key_info: BTreeMap<String, Shown>,
    }
    let view = inquiry.view(MountId::ENROLMENTS);
    let active = inquiry.snapshot.authorities.active().map(|facts| facts.id);
    let mut found = BTreeMap::new();
    let all = inquiry.snapshot.strings.ids();
    for name in Page::of(inquiry.body)?.cut(&all) {
        inquiry.looks_at(1)?;
        let Some(record) = enrolment::read(&view, name)? else { continue };
        let shown = Shown {
            identity: record.identity.clone(),
            created: rfc3339_nano(record.created_ms),
            created_by: record.created_by.clone(),
            expires: rfc3339_nano(record.expires_ms),
            uses: record.uses,
            used: record.used.len(),
            cidr: record.cidrs.clone(),
            state: record.state(active, inquiry.now_ms).as_str(),
        };
        found.insert(name.clone(), shown);
    }
    let keys = found.keys().cloned().collect();
    Ok(Reply { lists_keys: true, ..data(&Listing { keys, key_info: found })? })
}

/// The identities, each once, whose strings would become void if another authority than `active` signed.
pub(super) fn open_under(
    view: &View<'_>,
    active: AuthorityId,
    enabled: impl Fn(&str) -> Result<bool, VaultError>,
    now_ms: u64,
) -> Result<Vec<String>, VaultError> {
    let mut identities = BTreeSet::new();
    for name in view.entries()? {
        let Some(record) = enrolment::read(view, &name)? else { continue };
        let bound = record.authority.as_deref() == Some(&*active.hex());
        if bound && record.state(Some(active), now_ms) == StringStatus::Open && enabled(&record.identity)? {
            identities.insert(record.identity.clone());
        }
    }
    Ok(identities.into_iter().collect())
}

/// Deletes a string by its id.
pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    tx.remove_entry(MountId::ENROLMENTS, &change.tail)?;
    Ok(Done::touching(Reply::none(), vec![Touch::Enrolment(change.tail.clone())]))
}
