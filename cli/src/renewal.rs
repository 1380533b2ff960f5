//! Renewing the certificate of a bundle: over the connection that it still opens, or with its key after its end.

use std::time::Duration;

use strongroom::api::enroll::Certified;
use strongroom::api::time::rfc3339_nano;
use strongroom::client::enroll::Expired;
use strongroom::enroll::schedule;
use strongroom::pki::{self, KeyType, Leaf, Request};

use crate::args::Connection;
use crate::bundle::{Content, Files, Folder, Pending};
use crate::exit::{Code, Failure};
use crate::mark::MarkFile;
use crate::settings::{Lookup, Session, Target, now_ms, read_file, read_key};

/// How to renew.
pub struct Terms<'a> {
    /// Only when it is due.
    pub if_due: bool,
    /// For the key that is there, instead of a new one.
    pub reuse_key: bool,
    /// Kind of a new key; as the old one when not given.
    pub key_type: Option<KeyType>,
    /// Timeout and mount.
    pub connection: &'a Connection,
}

/// What came of it.
pub struct Outcome {
    /// Whether there is a new certificate; otherwise it is not due.
    pub renewed: bool,
    /// The certificate that is in effect now.
    pub leaf: Leaf,
}

/// The certificate of a bundle.
///
/// # Errors
/// It cannot be read.
pub fn leaf_of(files: &Files) -> Result<Leaf, Failure> {
    pki::leaf(&read_file(&files.cert)?)
        .map_err(|_| Failure::usage(format!("{} is not a certificate", files.cert.display()), ""))
}

/// When a certificate is to be renewed, Unix milliseconds. The same in every process: its own digits take the place of
/// randomness.
#[must_use]
pub fn due_ms(leaf: &Leaf) -> u64 {
    let [first, second, ..] = leaf.fingerprint;
    schedule::due_ms(leaf.not_before_ms, leaf.not_after_ms, u16::from_be_bytes([first, second]))
}

/// One line for a certificate that ends soon and would have been renewed by whatever renews it.
#[must_use]
pub fn warning(cert_pem: &[u8], now_ms: u64) -> Option<String> {
    let leaf = pki::leaf(cert_pem).ok()?;
    if !schedule::is_late(leaf.not_before_ms, leaf.not_after_ms, now_ms) {
        return None;
    }
    let end = rfc3339_nano(leaf.not_after_ms);
    let left = leaf.not_after_ms.saturating_sub(now_ms) / 1000;
    Some(match left {
        0 => format!("your certificate has expired ({end}): strongroom renew, or ask for a new enrolment string"),
        _ => format!("your certificate ends in {} ({end}): strongroom renew", span(left)),
    })
}

/// Seconds in the largest unit of which there are at least two.
fn span(seconds: u64) -> String {
    let unit = [(86_400, "days"), (3600, "hours"), (60, "minutes")].into_iter().find(|(unit, _)| seconds / unit >= 2);
    unit.map_or_else(|| format!("{seconds} seconds"), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// Renews the certificate in `folder`. One process at a time: one that had to wait finds it done.
///
/// # Errors
/// The vault does not answer or refuses, or the bundle cannot be replaced. The old one is then still in effect, and a key
/// that was made is used again by the next try.
pub fn renew(folder: &Folder, terms: &Terms<'_>, env: Lookup<'_>) -> Result<Outcome, Failure> {
    let held = folder.hold()?;
    let files = folder.files()?;
    let leaf = leaf_of(&files)?;
    if terms.if_due && now_ms() < due_ms(&leaf) {
        return Ok(Outcome { renewed: false, leaf });
    }
    let key_pem = read_key(&files.key)?;
    let pending = Pending::of_renewal(folder.path());
    let request = if terms.reuse_key {
        let csr_pem = pki::request_for(&key_pem).map_err(|_| {
            Failure::usage("the key is of a kind that cannot ask for a certificate", "leave out --reuse-key")
        })?;
        Request { key_pem, csr_pem }
    } else {
        let kind = terms.key_type.or(leaf.key_type).unwrap_or_default();
        // Left by a renewal that was cut off after its end.
        pending.request(kind, &|fingerprint| *fingerprint == leaf.key_fingerprint)?
    };
    let certified = certify(folder, &files, &leaf, &request.csr_pem, terms, env)?;
    let old_ca = read_file(&files.ca)?;
    let content = Content {
        addr: &files.addr,
        enroll: &files.enroll,
        ca: certified.ca.as_bytes(),
        cert: certified.certificate.as_bytes(),
        key: &request.key_pem,
    };
    // What was seen of this vault is filed under its authorities; it must not be forgotten when these change.
    if let Some(mark) = MarkFile::of_vault(env, &old_ca).read() {
        MarkFile::of_vault(env, content.ca).write(&mark);
    }
    folder.replace(&held, &content)?;
    pending.done();
    Ok(Outcome { renewed: true, leaf: leaf_of(&folder.files()?)? })
}

fn certify(
    folder: &Folder,
    files: &Files,
    leaf: &Leaf,
    csr_pem: &str,
    terms: &Terms<'_>,
    env: Lookup<'_>,
) -> Result<Certified, Failure> {
    let by_connection = || {
        let Files { addr, ca, cert, key, .. } = files.clone();
        let target = Target { addr, ca, cert, key, folder: Some(folder.clone()) };
        Ok::<_, Failure>(Session::of(target, terms.connection, env)?.client.renew(csr_pem))
    };
    // The server's clock decides. Asking it costs nothing, but an end that is long past is not worth a connection.
    if now_ms() < leaf.not_after_ms {
        match by_connection()? {
            Err(error) if error.is_certificate_expired() => {}
            other => return Ok(other?),
        }
    }
    if files.enroll.is_empty() {
        let hint = "ask for a new enrolment string, then: strongroom enroll";
        return Err(Failure::new(Code::Denied, "your certificate has expired", hint));
    }
    let (ca, cert, key) = (read_file(&files.ca)?, read_file(&files.cert)?, read_key(&files.key)?);
    let expired = Expired { addresses: &files.enroll, ca_pem: &ca, cert_pem: &cert, key_pem: &key };
    expired.renew(csr_pem, Duration::from_secs(terms.connection.timeout)).map_err(refused)
}

/// Words for what the enrolment listener says.
pub fn refused(error: strongroom::client::ClientError) -> Failure {
    match error.status() {
        Some(403) => Failure::new(
            Code::Denied,
            "the vault refuses: the string is used up, expired or not for this place, or the certificate ended too long ago",
            "ask for a new enrolment string, then: strongroom enroll",
        ),
        Some(429) => Failure::new(Code::Refused, "the vault has had too many tries", "wait a minute, then try again"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use strongroom::api::spiffe::SpiffeId;
    use strongroom::crypto::random::SystemRandom;
    use strongroom::pki::{Authority, BACKDATE_MS};

    use super::*;

    #[test]
    fn the_end_is_announced_in_the_last_third() {
        let start = 1_800_000_000_000;
        let authority = Authority::create("example.org", Arc::new(SystemRandom), start, 90 * 86_400).unwrap();
        let web = SpiffeId::new("example.org", "app/web").unwrap();
        let bundle = authority.issue_client(&web, start, 30 * 86_400).unwrap();
        let at = |days: u64| warning(bundle.cert_pem.as_bytes(), start + days * 86_400_000);
        assert_eq!(at(0), None);
        assert_eq!(at(19), None);
        let text = at(21).unwrap();
        assert!(text.starts_with("your certificate ends in 9 days (2027-"), "{text}");
        assert!(at(30).unwrap().starts_with("your certificate has expired"));
        assert_eq!(warning(b"", start), None);
        // Whatever renews by itself does it before that.
        let leaf = pki::leaf(bundle.cert_pem.as_bytes()).unwrap();
        assert!(warning(bundle.cert_pem.as_bytes(), due_ms(&leaf)).is_none());
        assert!(due_ms(&leaf) > start + 18 * 86_400_000 - BACKDATE_MS);
    }

    #[test]
    fn spans_are_readable() {
        for (seconds, text) in [(1, "1 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours")] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(span(86_400), "24 hours");
    }
}
