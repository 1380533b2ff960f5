//! An identity as text: its settings, or everything about it.

use strongroom::api::sys::{CertificateInfo, Identity};
use strongroom::api::time;

use crate::table::{self, NOTHING};

/// The settings of an identity.
pub fn settings(identity: &str, found: &Identity) -> String {
    let life = found.certificate_ttl.map_or_else(|| "the vault's default".to_owned(), table::span);
    let grace = if found.grace == 0 { "none".to_owned() } else { table::span(found.grace) };
    let policies = if found.policies.is_empty() { NOTHING.to_owned() } else { found.policies.join(", ") };
    format!(
        "identity      {identity}\npolicies      {policies}\ncertificates  lifetime {life}, renewable after expiry: {grace}"
    )
}

/// Everything about an identity.
pub fn shown(identity: &str, found: &Identity, now_ms: u64) -> String {
    let mut text = settings(identity, found);
    if !found.groups.is_empty() {
        text.push_str(&format!("\ngroups        {}", found.groups.join(", ")));
    }
    if found.disabled {
        let state = if found.frozen { "frozen" } else { "disabled" };
        let reason = found.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or("no reason given");
        text.push_str(&format!("\n{state:<13} {}: {reason}", found.disabled_at.as_deref().unwrap_or_default()));
    }
    if let Some(mark) = &found.not_before {
        text.push_str(&format!("\nrevoked       everything issued before {mark}"));
    }
    let source = found.source.as_deref().unwrap_or(NOTHING);
    text.push_str(&format!("\nlast seen     {} from {source}", table::since(found.last_seen.as_deref(), now_ms)));
    text.push_str(&format!("\nconnections   {}\n\n", found.connections));
    let row = |facts: &CertificateInfo| {
        let (serial, state) = (facts.serial.clone(), certificate_state(facts, found.not_before.as_deref(), now_ms));
        let authority: String = facts.authority.chars().take(8).collect();
        let fingerprint: String = facts.fingerprint.chars().take(16).collect();
        [serial, state, table::until(Some(&facts.not_after), now_ms), facts.issued.clone(), authority, fingerprint]
    };
    let rows: Vec<_> = found.certificates.iter().map(row).collect();
    let titles = ["serial", "state", "expires in", "issued", "authority", "fingerprint"];
    text + &table::text(titles, &rows, "no certificates")
}

/// State of a certificate as text.
fn certificate_state(facts: &CertificateInfo, mark: Option<&str>, now_ms: u64) -> String {
    let ms = |text: &str| time::parse(text).ok();
    let before_mark = mark.and_then(ms).is_some_and(|mark| ms(&facts.issued).is_some_and(|issued| issued < mark));
    match &facts.reason {
        _ if facts.revoked.is_none() && before_mark => "revoked".to_owned(),
        Some(reason) if facts.revoked.is_some() && !reason.is_empty() => format!("revoked ({reason})"),
        _ if facts.revoked.is_some() => "revoked".to_owned(),
        _ if ms(&facts.not_after).is_some_and(|end| end <= now_ms) => "expired".to_owned(),
        _ if facts.superseded => "renewed".to_owned(),
        _ => "valid".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::moments::{NOW, at};
    use super::*;

    #[test]
    fn certificates_are_told_in_words() {
        let facts = |edit: fn(&mut CertificateInfo)| {
            let mut facts =
                CertificateInfo { issued: at(NOW - 1_000), not_after: at(NOW + 1_000), ..CertificateInfo::default() };
            edit(&mut facts);
            facts
        };
        assert_eq!(certificate_state(&facts(|_| ()), None, NOW), "valid");
        assert_eq!(certificate_state(&facts(|_| ()), Some(&at(NOW)), NOW), "revoked");
        assert_eq!(certificate_state(&facts(|_| ()), Some(&at(NOW - 2_000)), NOW), "valid");
        assert_eq!(certificate_state(&facts(|facts| facts.superseded = true), None, NOW), "renewed");
        assert_eq!(certificate_state(&facts(|_| ()), None, NOW + 1_000), "expired");
        let revoked = facts(|facts| {
            facts.revoked = Some("2026-01-01T00:00:00Z".into());
            facts.reason = Some("lost".into());
        });
        assert_eq!(certificate_state(&revoked, None, NOW), "revoked (lost)");
    }
}
