//! `identity`: which identities are registered, with which policies, and how to stop them.

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom::api::duration::Ttl;
use strongroom::api::identities::IdentityChange;
use strongroom::api::sys::{CertificateInfo, Identity, IdentityLine};
use strongroom::api::time;

use super::{group, revoke};
use crate::connection::Session;
use crate::environment::now_ms;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;
use crate::table::{self, NOTHING};

/// `strongroom identity …`
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// List registered identities, their certificates, and when each was last seen.
    List(ListArgs),
    /// Show an identity: policies, groups, certificates, open connections.
    Show {
        /// Identity path, such as app/web for spiffe://DOMAIN/app/web.
        identity: String,
    },
    /// Register an identity or replace its policies, effective with its next request. Without policies: show them.
    Policies {
        /// Identity path, such as app/web.
        identity: String,
        /// Policy names.
        policies: Vec<String>,
    },
    /// Register an identity, or change only the given settings.
    Set(SetArgs),
    /// Disable an identity: reject all its requests and close its connections.
    Disable {
        /// Identity path.
        identity: String,
        /// Reason, recorded with the change.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Re-enable an identity that was disabled or frozen.
    Enable {
        /// Identity path.
        identity: String,
        /// Do not ask for confirmation, even if it was frozen and its certificates are still valid.
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Revoke one certificate of an identity, or all of them.
    Revoke(revoke::RevokeArgs),
    /// Remove an identity; its certificates stop working at once.
    Remove {
        /// Identity path.
        identity: String,
        /// Do not ask for confirmation.
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Manage groups, which give policies to many identities at once.
    #[command(subcommand)]
    Group(group::GroupCommand),
}

/// `strongroom identity list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only identities below this folder.
    folder: Option<String>,
    /// Only identities that do not trust the current authorities yet and so hold up a CA rotation.
    #[arg(long)]
    stragglers: bool,
    /// Only identities whose last certificate expires within this time, such as 7d, or has already expired.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    expiring: Option<Ttl>,
}

/// `strongroom identity set`
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Identity path.
    identity: String,
    /// Policy; repeat for several. Replaces the current policies.
    #[arg(long = "policy", value_name = "POLICY", value_delimiter = ',')]
    policies: Option<Vec<String>>,
    /// Lifetime of its certificates, such as 24h; 0 means the vault's default.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    certificate_ttl: Option<Ttl>,
    /// How long after expiry a certificate can still be renewed, such as 3d; 0 means not at all.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    grace: Option<Ttl>,
}

/// Parses a duration.
///
/// # Errors
/// The text is not a duration.
pub fn span(text: &str) -> Result<Ttl, String> {
    match Ttl::parse(text) {
        Ok(_) if text.is_empty() => Err("a duration is missing, for example 7d".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

impl IdentityCommand {
    /// # Errors
    /// No such identity, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        match self {
            Self::List(args) => args.run(session, out),
            Self::Show { identity } => {
                let found = find(session, identity)?;
                out.either(&found, || shown(identity, &found, now_ms()))
            }
            Self::Policies { identity, policies } if policies.is_empty() => {
                let found = find(session, identity)?;
                let data =
                    serde_json::json!({"identity": identity, "policies": found.policies, "groups": found.groups});
                out.either(&data, || found.policies.join("\n"))
            }
            Self::Policies { identity, policies } => {
                let change = IdentityChange { policies: Some(policies.clone()), ..IdentityChange::default() };
                warn(session.client.identities().change(identity, &change)?);
                let done = serde_json::json!({"identity": identity, "policies": policies});
                out.either(&done, || format!("{identity}: {}", policies.join(", ")))
            }
            Self::Set(args) => args.run(session, out),
            Self::Disable { identity, reason } => {
                let done = session.client.identities().disable(identity, reason.as_deref());
                done.map_err(|error| unknown(error.into(), identity))?;
                out.either(&serde_json::json!({"identity": identity, "disabled": true}), || {
                    format!("{identity} is disabled\nre-enable it: strongroom identity enable {identity}")
                })
            }
            Self::Enable { identity, yes } => enable(session, out, identity, *yes),
            Self::Revoke(args) => args.run(session, out),
            Self::Remove { identity, yes } => {
                if !yes {
                    prompt::confirm(&format!("Remove the identity {identity}? Its programs lose access at once."))?;
                }
                session.client.sys().delete_identity(identity)?;
                out.either(&serde_json::json!({"identity": identity}), || format!("{identity} removed"))
            }
            Self::Group(command) => command.run(session, out),
        }
    }
}

/// The registered identity with this path.
///
/// # Errors
/// It does not exist, or may not be read.
pub fn find(session: &Session, identity: &str) -> Result<Identity, Failure> {
    session.client.sys().identity(identity)?.ok_or_else(|| missing(identity))
}

fn missing(identity: &str) -> Failure {
    Failure::new(Code::NotFound, format!("{identity} is not registered"), "see who is: strongroom identity list")
}

/// Words for a 404 about one identity.
pub fn unknown(failure: Failure, identity: &str) -> Failure {
    if failure.code == Code::NotFound { missing(identity) } else { failure }
}

/// Prints the server's warnings.
pub fn warn(warnings: Vec<String>) {
    for warning in warnings {
        eprintln!("strongroom: {warning}");
    }
}

fn enable(session: &Session, out: &Output, identity: &str, yes: bool) -> Result<(), Failure> {
    let found = find(session, identity)?;
    // Revoking raises `not_before`. So certificates from before the freeze are valid only if nobody has revoked since.
    let revoked_since = match (found.not_before.as_deref(), found.disabled_at.as_deref()) {
        (Some(mark), Some(frozen)) => time::parse(mark).ok() > time::parse(frozen).ok(),
        _ => false,
    };
    if found.frozen && !revoked_since {
        eprintln!(
            "{identity} was frozen, because a copy of one of its certificates was used. Enabling it makes its certificates valid again,\n\
             including the copy. Revoke them first: strongroom identity revoke {identity}"
        );
        if !yes {
            prompt::confirm(&format!("Enable {identity} although the copy becomes valid again?"))?;
        }
    }
    let done = session.client.identities().enable(identity);
    done.map_err(|error| unknown(error.into(), identity))?;
    let text = if found.disabled { "is enabled" } else { "was not disabled" };
    out.either(&serde_json::json!({"identity": identity, "disabled": false}), || format!("{identity} {text}"))
}

impl SetArgs {
    fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let identity = &self.identity;
        let change = IdentityChange {
            policies: self.policies.clone(),
            certificate_ttl: self.certificate_ttl.map(|ttl| ttl.0),
            grace: self.grace.map(|ttl| ttl.0),
        };
        if change == IdentityChange::default() {
            return Err(Failure::usage("nothing to set", "give --policy, --certificate-ttl or --grace"));
        }
        let done = session.client.identities().change(identity, &change);
        warn(done.map_err(|error| {
            let failure = Failure::from(error);
            match failure.code {
                Code::Refused => {
                    Failure { hint: "nothing was changed; see: strongroom identity set --help".into(), ..failure }
                }
                _ => failure,
            }
        })?);
        let found = find(session, identity)?;
        out.either(&found, || settings(identity, &found))
    }
}

/// The settings of an identity.
fn settings(identity: &str, found: &Identity) -> String {
    let life = found.certificate_ttl.map_or_else(|| "the vault's default".to_owned(), table::span);
    let grace = if found.grace == 0 { "none".to_owned() } else { table::span(found.grace) };
    let policies = if found.policies.is_empty() { NOTHING.to_owned() } else { found.policies.join(", ") };
    format!(
        "identity      {identity}\npolicies      {policies}\ncertificates  life {life}, renewable after expiry: {grace}"
    )
}

fn shown(identity: &str, found: &Identity, now_ms: u64) -> String {
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

/// State of a certificate in words.
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

/// One identity of the list, as printed by `--json`.
#[derive(Serialize)]
struct Listed<'a> {
    identity: &'a str,
    state: &'static str,
    #[serde(flatten)]
    line: &'a IdentityLine,
}

impl ListArgs {
    fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let identities = session.client.identities();
        let report = identities.report()?;
        let stragglers = if self.stragglers { Some(identities.stragglers()?.identities) } else { None };
        let now_ms = now_ms();
        let listed: Vec<Listed<'_>> = report
            .identities
            .iter()
            .filter(|(path, line)| {
                self.is_below(path)
                    && stragglers.as_ref().is_none_or(|names| names.contains(path))
                    && self.expiring.is_none_or(|within| ends_within(line, within, now_ms))
            })
            .map(|(path, line)| Listed { identity: path, state: state(line), line })
            .collect();
        out.either(&listed, || {
            let rows: Vec<_> = listed.iter().map(|listed| row(listed, now_ms)).collect();
            let titles = [
                "identity",
                "state",
                "certificates",
                "expires in",
                "last seen",
                "from",
                "bundle current",
                "connections",
            ];
            table::text(titles, &rows, "no identities")
        })
    }

    fn is_below(&self, path: &str) -> bool {
        let Some(folder) = self.folder.as_deref().map(|folder| folder.trim_matches('/')) else { return true };
        folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// An identity that never had a certificate does not expire.
fn ends_within(line: &IdentityLine, within: Ttl, now_ms: u64) -> bool {
    let end = line.not_after.as_deref().and_then(|end| time::parse(end).ok());
    match end {
        Some(end) => end <= now_ms.saturating_add(within.as_ms()),
        None => line.last_seen.is_some(),
    }
}

fn state(line: &IdentityLine) -> &'static str {
    match (line.disabled, line.certificates) {
        (true, _) => "disabled",
        (false, 0) if line.last_seen.is_some() => "ended",
        (false, 0) => "new",
        (false, _) => "active",
    }
}

fn row(listed: &Listed<'_>, now_ms: u64) -> [String; 8] {
    let line = listed.line;
    let current = match line.bundle_current {
        Some(true) => "yes",
        Some(false) => "no",
        None => NOTHING,
    };
    [
        listed.identity.to_owned(),
        listed.state.to_owned(),
        line.certificates.to_string(),
        table::until(line.not_after.as_deref(), now_ms),
        table::since(line.last_seen.as_deref(), now_ms),
        line.source.clone().unwrap_or_else(|| NOTHING.to_owned()),
        current.to_owned(),
        line.connections.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn at(ms: u64) -> String {
        time::rfc3339_nano(ms)
    }

    #[test]
    fn folders_are_whole_names() {
        let below = |folder: Option<&str>, path: &str| {
            ListArgs { folder: folder.map(str::to_owned), stragglers: false, expiring: None }.is_below(path)
        };
        assert!(below(None, "app/web") && below(Some("/"), "app/web") && below(Some("app/"), "app/web"));
        assert!(below(Some("app/web"), "app/web") && !below(Some("app/we"), "app/web"));
    }

    #[test]
    fn what_ends_soon_is_found() {
        let line = |end: Option<u64>, seen: bool| IdentityLine {
            not_after: end.map(at),
            last_seen: seen.then(|| at(NOW - 1)),
            ..IdentityLine::default()
        };
        let day = Ttl(86_400);
        assert!(ends_within(&line(Some(NOW + 86_400_000), true), day, NOW));
        assert!(!ends_within(&line(Some(NOW + 86_401_000), true), day, NOW));
        assert!(ends_within(&line(None, true), day, NOW), "ended already");
        assert!(!ends_within(&line(None, false), day, NOW), "never had one");
    }

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

    #[test]
    fn an_empty_span_is_none() {
        assert!(span("").is_err() && span("x").is_err());
        assert_eq!(span("7d"), Ok(Ttl(604_800)));
    }
}
