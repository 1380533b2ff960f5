//! `identity list`: the registered identities, their certificates, and when each was last seen.

use clap::Args;
use serde::Serialize;
use strongroom::api::duration::Ttl;
use strongroom::api::sys::IdentityLine;
use strongroom::api::time;

use crate::cmd::span;
use crate::connection::Session;
use crate::environment::now_ms;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::{self, NOTHING};

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

/// One identity of the list, as printed by `--json`.
#[derive(Serialize)]
struct Listed<'a> {
    identity: &'a str,
    state: &'static str,
    #[serde(flatten)]
    line: &'a IdentityLine,
}

impl ListArgs {
    /// # Errors
    /// Not allowed (exit code 5), or the vault cannot be reached (6).
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
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
    use super::super::moments::{NOW, at};
    use super::*;

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
}
