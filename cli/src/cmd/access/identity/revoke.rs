//! `identity revoke`: revokes certificates, and reports success only after checking it.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use strongroom::api::sys::{CertificateInfo, Identity};
use strongroom::api::time;

use super::{find, unknown};
use crate::connection::Session;
use crate::environment::now_ms;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;

/// Pause between two checks of the connections.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for connections to close.
const WAIT: Duration = Duration::from_secs(5);

/// `strongroom identity revoke`
#[derive(Debug, Args)]
#[command(
    after_help = "The identity stays registered, with its policies: it can enrol again with a new enrolment string (strongroom
enroll create PATH). To reject all its requests: strongroom identity disable PATH."
)]
pub struct RevokeArgs {
    /// Path of the identity.
    identity: String,
    /// Revoke only this certificate: serial number or SHA-256 fingerprint in hexadecimal, as printed by identity show;
    /// a unique prefix is enough.
    #[arg(long, value_name = "SERIAL|FINGERPRINT")]
    certificate: Option<String>,
    /// Reason, recorded with the change.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    identity: &'a str,
    certificate: Option<&'a str>,
    effective: bool,
    elapsed_ms: u64,
    connections: usize,
}

impl RevokeArgs {
    /// # Errors
    /// No such identity, not allowed, not confirmed, or connections are still open after 5 s.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let identity = &self.identity;
        let found = find(session, identity)?;
        let certificate =
            self.certificate.as_deref().map(|typed| pick(identity, &found.certificates, typed)).transpose()?;
        eprintln!("{}", plan(identity, &found, certificate, now_ms()));
        if !self.yes {
            prompt::confirm("Revoke? This cannot be undone.")?;
        }
        let began = now();
        let named = certificate.map(|facts| facts.fingerprint.as_str());
        let sent = session.client.identities().revoke(identity, named, self.reason.as_deref());
        sent.map_err(|error| unknown(error.into(), identity))?;
        // The reply comes after the change is in force. This checks that no connection is left.
        let connections = self.wait(session, named, began)?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let effective = connections == 0;
        let done = Done { identity, certificate: named, effective, elapsed_ms, connections };
        if !effective {
            return Err(Failure::new(
                Code::Refused,
                format!(
                    "{} revoked, but {connections} connections are still open after {elapsed_ms} ms",
                    named
                        .map_or_else(|| format!("the certificates of {identity} are"), |_| "the certificate is".into())
                ),
                format!("check again: strongroom identity show {identity}; or close all connections: strongroom seal"),
            ));
        }
        out.either(&done, || match named {
            Some(_) => format!(
                "effective: the certificate is rejected, 0 connections left, checked after {elapsed_ms} ms"
            ),
            None => format!(
                "effective: every certificate of {identity} is rejected, 0 connections left, checked after {elapsed_ms} ms"
            ),
        })
    }

    /// Waits until no connections are left or the time is over, and returns their number. With `named`, counts only
    /// those with that certificate.
    fn wait(&self, session: &Session, named: Option<&str>, began: Instant) -> Result<usize, Failure> {
        loop {
            let left = match session.client.sys().identity(&self.identity) {
                Ok(found) => found.map_or(0, |found| connections(&found, named)),
                Err(error) => {
                    let failure = Failure::from(error);
                    return Err(Failure {
                        message: format!(
                            "the certificates of {} are revoked, but it could not be checked whether its connections are closed: {}",
                            self.identity, failure.message
                        ),
                        hint: "if this was your own identity, your certificate is revoked too: get a new one from another operator"
                            .into(),
                        ..failure
                    });
                }
            };
            if left == 0 || began.elapsed() >= WAIT {
                return Ok(left);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Open connections of an identity, or with one of its certificates.
fn connections(found: &Identity, named: Option<&str>) -> usize {
    let with = |fingerprint| found.certificates.iter().filter(move |facts| facts.fingerprint == fingerprint);
    named.map_or(found.connections, |named| with(named).map(|facts| facts.connections).sum())
}

/// The certificate that was meant.
fn pick<'a>(identity: &str, certificates: &'a [CertificateInfo], typed: &str) -> Result<&'a CertificateInfo, Failure> {
    let wanted: String = typed.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let fits = |facts: &&CertificateInfo| {
        !wanted.is_empty() && (facts.serial.starts_with(&wanted) || facts.fingerprint.starts_with(&wanted))
    };
    let hint = format!("list them: strongroom identity show {identity}");
    let mut found = certificates.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(Code::NotFound, format!("{identity} has no certificate {typed:?}"), hint)),
        // A complete serial number is never a prefix of another one.
        (Some(_), Some(_)) => certificates
            .iter()
            .find(|facts| facts.serial == wanted)
            .ok_or_else(|| Failure::usage(format!("{typed:?} matches several certificates of {identity}"), hint)),
    }
}

/// What will be revoked.
fn plan(identity: &str, found: &Identity, certificate: Option<&CertificateInfo>, now_ms: u64) -> String {
    let living = |facts: &&CertificateInfo| {
        facts.revoked.is_none() && time::parse(&facts.not_after).is_ok_and(|end| end > now_ms)
    };
    match certificate {
        Some(facts) => format!(
            "will be revoked: certificate {} of {identity}, issued {}, valid until {}",
            facts.serial, facts.issued, facts.not_after
        ),
        None => format!(
            "will be revoked: every certificate of {identity} issued so far ({} on record are valid), and {} connections will be closed",
            found.certificates.iter().filter(living).count(),
            found.connections
        ),
    }
}

#[allow(clippy::disallowed_methods)] // a person waits for it
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(serial: &str, fingerprint: &str, not_after: &str) -> CertificateInfo {
        CertificateInfo {
            serial: serial.into(),
            fingerprint: fingerprint.into(),
            not_after: not_after.into(),
            ..CertificateInfo::default()
        }
    }

    #[test]
    fn a_beginning_names_one_certificate() {
        let all = [
            certificate("aa01", "ff00", "2026-01-01T00:00:00Z"),
            certificate("aa0122", "ff11", "2026-01-01T00:00:00Z"),
            certificate("bb", "aa02", "2026-01-01T00:00:00Z"),
        ];
        let serial = |typed: &str| pick("app/web", &all, typed).map(|facts| facts.serial.as_str()).map_err(|e| e.code);
        assert_eq!(serial("FF:00"), Ok("aa01"));
        assert_eq!(serial("aa01"), Ok("aa01"), "whole, though another begins with it");
        assert_eq!(serial("aa02"), Ok("bb"));
        assert_eq!(serial("aa0"), Err(Code::Usage));
        assert_eq!(serial("cc"), Err(Code::NotFound));
        assert_eq!(serial(""), Err(Code::NotFound));
    }

    #[test]
    fn the_plan_counts_what_is_valid() {
        let mut revoked = certificate("03", "03", "2027-01-01T00:00:00Z");
        revoked.revoked = Some("2026-01-01T00:00:00Z".into());
        let mut certificates = vec![
            certificate("01", "01", "2027-01-01T00:00:00Z"),
            certificate("02", "02", "2020-01-01T00:00:00Z"),
            revoked,
        ];
        certificates[1].connections = 3;
        let found = Identity { certificates, connections: 4, ..Identity::default() };
        assert_eq!(
            (connections(&found, None), connections(&found, Some("02")), connections(&found, Some("09"))),
            (4, 3, 0)
        );
        let text = plan("app/web", &found, None, 1_780_000_000_000);
        assert!(text.contains("(1 on record are valid), and 4 connections"), "{text}");
        assert!(plan("app/web", &found, found.certificates.first(), 0).contains("certificate 01 of app/web"));
    }
}
