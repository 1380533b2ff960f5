//! Renews the certificate of a bundle: with the certificate while it is valid, or with its key after it has expired.

use std::time::Duration;

use strongroom::api::enroll::Certified;
use strongroom::api::hex::hex;
use strongroom::api::secret::SecretText;
use strongroom::api::time::rfc3339_nano;
use strongroom::client::{self, ClientError, enroll::Expired};
use strongroom::enroll::schedule;
use strongroom::enroll::string::MAX_ADDRESSES;
use strongroom::pki::{self, KeyType, Leaf};

use crate::bundle::{Content, Files, Folder, Held, Pending};
use crate::connection::Connection;
use crate::connection::{Session, Target};
use crate::environment::{Lookup, now_ms};
use crate::exit::{ANOTHER_WAY, Code, Failure, NEW_STRING};
use crate::files::{read_file, read_key};
use crate::mark::MarkFile;

/// How to renew.
pub struct Terms<'a> {
    /// Renew only if it is due.
    pub if_due: bool,
    /// Renew with the existing key instead of a new one. A key that is waiting after a lost reply takes precedence.
    pub reuse_key: bool,
    /// Type of a new key; by default the type of the old one.
    pub key_type: Option<KeyType>,
    /// Timeout and mount.
    pub connection: &'a Connection,
}

/// Result of a renewal.
pub struct Renewal {
    /// Whether there is a new certificate; otherwise it was not due.
    pub renewed: bool,
    /// Whether the trusted authorities have changed.
    pub trust: bool,
    /// The certificate that is in effect now.
    pub leaf: Leaf,
}

/// Reads the certificate of a bundle.
///
/// # Errors
/// It cannot be read or parsed.
pub fn leaf_of(files: &Files) -> Result<Leaf, Failure> {
    pki::leaf(&read_file(&files.cert)?)
        .map_err(|_| Failure::usage(format!("{} is not a certificate", files.cert.display()), ""))
}

/// When a certificate should be renewed, in Unix milliseconds. Every process computes the same time, because the
/// certificate's own bytes are used instead of randomness.
#[must_use]
pub fn due_ms(leaf: &Leaf) -> u64 {
    let [first, second, ..] = leaf.fingerprint;
    schedule::due_ms(leaf.issued_ms(), leaf.not_after_ms, u16::from_be_bytes([first, second]))
}

/// Whether it is time to renew this certificate, PEM.
#[must_use]
pub fn is_due(cert_pem: &[u8], now_ms: u64) -> bool {
    pki::leaf(cert_pem).is_ok_and(|leaf| now_ms >= due_ms(&leaf))
}

/// A warning about a certificate that expires soon and that nothing has renewed in time.
#[must_use]
pub fn warning(cert_pem: &[u8], now_ms: u64) -> Option<String> {
    let leaf = pki::leaf(cert_pem).ok()?;
    if !schedule::is_late(leaf.issued_ms(), leaf.not_after_ms, now_ms) {
        return None;
    }
    let end = rfc3339_nano(leaf.not_after_ms);
    let left = leaf.not_after_ms.saturating_sub(now_ms) / 1000;
    // An expired one is rejected by the vault, whose clock decides, so it is not reported twice.
    (left > 0).then(|| format!("your certificate expires in {} ({end}): strongroom renew", span(left)))
}

/// A duration in the largest unit of which there are at least two.
fn span(seconds: u64) -> String {
    let unit = [(86_400, "days"), (3600, "hours"), (60, "minutes")].into_iter().find(|(unit, _)| seconds / unit >= 2);
    match unit {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None if seconds == 1 => "1 second".to_owned(),
        None => format!("{seconds} seconds"),
    }
}

/// Renews the certificate in `folder`. If it is not due, only updates the trusted authorities. Processes take turns, and
/// one that had to wait finds the work done.
///
/// # Errors
/// The vault does not answer or rejects the renewal, or the bundle cannot be replaced. The old one is still in effect
/// then, and the next attempt uses the new key again.
pub fn renew(folder: &Folder, terms: &Terms<'_>, env: Lookup<'_>) -> Result<Renewal, Failure> {
    let held = folder.hold()?;
    let files = folder.files()?;
    let leaf = leaf_of(&files)?;
    let old_ca = read_file(&files.ca)?;
    if terms.if_due && now_ms() < due_ms(&leaf) {
        let news = news(folder, &files, &old_ca, terms.connection, env)?;
        if !news.renew {
            let trust = take(&news, folder, &held, &files, &old_ca, env)?;
            return Ok(Renewal { renewed: false, trust, leaf });
        }
    }
    let key_pem = read_key(&files.key)?;
    let pending = Pending::of_renewal(folder.path());
    let certificate = hex(&leaf.fingerprint);
    // The key in use only waits for the successor of its certificate. Otherwise a renewal was interrupted after its
    // end.
    let is_used = |key: &[u8; 32], kept: Option<&str>| *key == leaf.key_fingerprint && kept != Some(&*certificate);
    let request = if terms.reuse_key {
        pending.keep(key_pem, &leaf.fingerprint, &is_used)?
    } else {
        pending.request(terms.key_type.or(leaf.key_type).unwrap_or_default(), &is_used)?
    };
    let certified = certify(folder, &files, &leaf, &request.csr_pem, terms, env)?;
    let files = Files { enroll: merged(&certified.enroll, &files.enroll), ..files };
    let parts = (certified.ca.as_bytes(), certified.certificate.as_bytes(), &request.key_pem);
    put(folder, &held, &files, &old_ca, parts, env)?;
    pending.done();
    let trust = old_ca.as_slice() != certified.ca.as_bytes();
    Ok(Renewal { renewed: true, trust, leaf: leaf_of(&folder.files()?)? })
}

/// Updates only the trusted authorities. Returns whether they have changed.
///
/// # Errors
/// The vault does not answer, or the bundle cannot be replaced. The old authorities are still trusted then.
pub fn learn(folder: &Folder, connection: &Connection, env: Lookup<'_>) -> Result<bool, Failure> {
    let held = folder.hold()?;
    let files = folder.files()?;
    let old_ca = read_file(&files.ca)?;
    let news = news(folder, &files, &old_ca, connection, env)?;
    take(&news, folder, &held, &files, &old_ca, env)
}

/// Trusts the authorities in `news`. Returns whether that changed anything.
fn take(
    news: &News,
    folder: &Folder,
    held: &Held,
    files: &Files,
    old_ca: &[u8],
    env: Lookup<'_>,
) -> Result<bool, Failure> {
    let Some(ca) = &news.trust else { return Ok(false) };
    let (cert, key) = (read_file(&files.cert)?, read_key(&files.key)?);
    put(folder, held, files, old_ca, (ca.as_bytes(), &cert, &key), env)?;
    Ok(true)
}

/// Addresses of the enrolment listener: those that the vault names now, then those known before. So a host keeps an
/// address of its own, for a network from which the others do not reach the vault.
fn merged(said: &[String], known: &[String]) -> Vec<String> {
    let mut all: Vec<String> = said.to_vec();
    all.extend(known.iter().filter(|address| !said.contains(address)).cloned());
    all.truncate(MAX_ADDRESSES);
    all
}

/// Replaces authorities, certificate and key.
fn put(
    folder: &Folder,
    held: &Held,
    files: &Files,
    old_ca: &[u8],
    (ca, cert, key): (&[u8], &[u8], &SecretText),
    env: Lookup<'_>,
) -> Result<(), Failure> {
    // The newest state seen of this vault is stored under its authorities, and must not be lost when these change.
    if let Some(mark) = MarkFile::of_vault(env, old_ca).read() {
        MarkFile::of_vault(env, ca).write(&mark);
    }
    folder.replace(held, &Content { addr: &files.addr, enroll: &files.enroll, ca, cert, key })
}

/// What the vault says about its authorities.
struct News {
    /// The authorities to trust, if they have changed.
    trust: Option<String>,
    /// Whether the certificate must be renewed early, because its authority is tainted.
    renew: bool,
}

/// Fetches the news. If the vault has no such list or does not show it, there are none.
fn news(
    folder: &Folder,
    files: &Files,
    ca_pem: &[u8],
    connection: &Connection,
    env: Lookup<'_>,
) -> Result<News, Failure> {
    let bundle = match session(folder, files, connection, env)?.client.ca() {
        Ok(bundle) => bundle,
        Err(ClientError::Refused { status: 403 | 404, .. }) => return Ok(News { trust: None, renew: false }),
        Err(error) => return Err(error.into()),
    };
    let trust = (client::bundle_header(ca_pem)? != bundle.id).then_some(bundle.bundle);
    Ok(News { trust, renew: bundle.renew })
}

fn session(folder: &Folder, files: &Files, connection: &Connection, env: Lookup<'_>) -> Result<Session, Failure> {
    let Files { addr, ca, cert, key, .. } = files.clone();
    Session::of(Target { addr, ca, cert, key, folder: Some(folder.clone()) }, connection, env)
}

fn certify(
    folder: &Folder,
    files: &Files,
    leaf: &Leaf,
    csr_pem: &str,
    terms: &Terms<'_>,
    env: Lookup<'_>,
) -> Result<Certified, Failure> {
    // The server's clock decides. A try costs nothing, but a certificate that expired long ago is not worth a
    // connection.
    if now_ms() < leaf.not_after_ms {
        match session(folder, files, terms.connection, env)?.client.renew(csr_pem) {
            Err(error) if error.is_certificate_expired() => {}
            other => return Ok(other?),
        }
    }
    if files.enroll.is_empty() {
        return Err(late(leaf));
    }
    let (ca, cert, key) = (read_file(&files.ca)?, read_file(&files.cert)?, read_key(&files.key)?);
    let expired = Expired { addresses: &files.enroll, ca_pem: &ca, cert_pem: &cert, key_pem: &key };
    let renewed = expired.renew(csr_pem, Duration::from_secs(terms.connection.timeout));
    renewed.map_err(|error| if error.status() == Some(403) { late(leaf) } else { refused(error) })
}

/// The failure for a certificate that expired too long ago to be renewed.
fn late(leaf: &Leaf) -> Failure {
    let end = rfc3339_nano(leaf.not_after_ms);
    Failure::new(
        Code::Denied,
        format!("your certificate expired {end}; it is too late to renew it"),
        format!("{NEW_STRING}\n{ANOTHER_WAY}"),
    )
}

/// The failure for a rejection by the enrolment listener.
pub fn refused(error: ClientError) -> Failure {
    match error.status() {
        Some(403) => Failure::new(
            Code::Denied,
            "rejected: the enrolment string is used up, expired or not valid from this network",
            NEW_STRING,
        ),
        Some(429) => Failure::new(Code::Refused, "too many attempts", "wait a minute, then try again"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use strongroom::api::spiffe::SpiffeId;
    use strongroom::crypto::random::SystemRandom;
    use strongroom::pki::Authority;

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
        assert!(text.starts_with("your certificate expires in 9 days (2027-"), "{text}");
        assert_eq!(at(30), None, "the vault says that it has expired");
        assert_eq!(warning(b"", start), None);
        // A short life is a life: what it is dated back by does not count.
        let short = authority.issue_client(&web, start, 60).unwrap();
        let due = due_ms(&pki::leaf(short.cert_pem.as_bytes()).unwrap());
        assert!((start + 36_000..=start + 40_000).contains(&due), "{due}");
        assert_eq!(warning(short.cert_pem.as_bytes(), start + 36_000), None);
        // Whatever renews by itself does it before that.
        let leaf = pki::leaf(bundle.cert_pem.as_bytes()).unwrap();
        assert!(warning(bundle.cert_pem.as_bytes(), due_ms(&leaf)).is_none());
        assert!(due_ms(&leaf) > start + 18 * 86_400_000);
    }

    #[test]
    fn new_addresses_come_before_those_that_are_known() {
        let list = |text: &str| text.split_terminator(' ').map(str::to_owned).collect::<Vec<_>>();
        for (said, known, all) in [
            ("", "a:1 b:1", "a:1 b:1"),
            ("c:1", "", "c:1"),
            ("b:1 c:1", "a:1 b:1", "b:1 c:1 a:1"),
            ("1:1 2:1 3:1 4:1 5:1 6:1 7:1 8:1", "a:1", "1:1 2:1 3:1 4:1 5:1 6:1 7:1 8:1"),
        ] {
            assert_eq!(merged(&list(said), &list(known)), list(all));
        }
    }

    #[test]
    fn spans_are_readable() {
        for (seconds, text) in [(1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours")] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(span(86_400), "24 hours");
    }
}
