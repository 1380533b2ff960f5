//! `identity`: registers, shows and stops identities, and sets their policies.

pub mod group;
pub mod list;
pub mod revoke;
pub mod show;

use clap::{Args, Subcommand};
use strongroom::api::duration::Ttl;
use strongroom::api::identities::IdentityChange;
use strongroom::api::sys::Identity;
use strongroom::api::time;

use crate::cmd::{span, warn};
use crate::connection::Session;
use crate::environment::now_ms;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;
use list::ListArgs;
use show::{settings, shown};

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

/// The failure for a 404 about one identity.
pub fn unknown(failure: Failure, identity: &str) -> Failure {
    if failure.code == Code::NotFound { missing(identity) } else { failure }
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

/// Below this lifetime, in seconds, the user is warned: a shorter one is probably a typo.
const SHORTEST_USUAL_S: u64 = 60;

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
        out.either(&found, || settings(identity, &found))?;
        if let Some(ttl) = self.certificate_ttl.filter(|ttl| ttl.0 < SHORTEST_USUAL_S) {
            eprintln!(
                "strongroom: certificates that live {} s expire before most hosts can renew them; 24h is typical: strongroom \
                 identity set {identity} --certificate-ttl 24h",
                ttl.0
            );
        }
        Ok(())
    }
}

/// Points in time for the tests of this folder.
#[cfg(test)]
mod moments {
    use strongroom::api::time;

    /// Unix milliseconds.
    pub const NOW: u64 = 1_800_000_000_000;

    pub fn at(ms: u64) -> String {
        time::rfc3339_nano(ms)
    }
}
