//! `renew`: gets the next certificate of a profile or bundle.

use std::path::PathBuf;

use clap::Args;
use strongroom::api::time::rfc3339_nano;
use strongroom::pki::KeyType;

use super::enroll::KeyKind;
use crate::bundle::Folder;
use crate::connection::Connection;
use crate::environment::environment;
use crate::exit::Failure;
use crate::output::Output;
use crate::profile::Profiles;
use crate::renewal::{self, Terms, due_ms};

/// `strongroom renew`
#[derive(Debug, Args)]
#[command(after_help = "If it is interrupted, either the old or the new certificate is in place.
An expired certificate can be renewed for a while if the vault allows it.

Examples:
  strongroom renew                        now
  strongroom renew --if-due               for a timer: only after two thirds of the lifetime
  strongroom renew --bundle /etc/app/vault")]
pub struct RenewArgs {
    /// Renew only if it is due (after about two thirds of its lifetime); otherwise only fetch new authorities to trust.
    #[arg(long)]
    if_due: bool,
    /// Keep the private key instead of creating a new one.
    #[arg(long)]
    reuse_key: bool,
    /// Type of the new key. Default: the type of the old one.
    #[arg(long, value_enum, conflicts_with = "reuse_key")]
    key_type: Option<KeyKind>,
    /// Renew the bundle in this folder instead of a profile's.
    #[arg(long, value_name = "DIR", conflicts_with = "profile")]
    bundle: Option<PathBuf>,
}

impl RenewArgs {
    /// # Errors
    /// There is no profile, the vault rejects the request or does not answer, or the bundle cannot be replaced.
    pub fn run(&self, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let folder = match &self.bundle {
            Some(path) => Folder::at(path.clone()),
            None => chosen(connection)?,
        };
        let key_type = self.key_type.map(KeyType::from);
        let terms = Terms { if_due: self.if_due, reuse_key: self.reuse_key, key_type, connection };
        let outcome = renewal::renew(&folder, &terms, &environment)?;
        let (end, due) = (rfc3339_nano(outcome.leaf.not_after_ms), rfc3339_nano(due_ms(&outcome.leaf)));
        let identity = outcome.leaf.identity.unwrap_or_default();
        let done = serde_json::json!({
            "renewed": outcome.renewed, "trust_renewed": outcome.trust, "identity": identity, "not_after": end, "due": due,
        });
        out.either(&done, || match outcome.renewed {
            true => format!("{identity}: renewed, until {end}"),
            false if outcome.trust => format!("{identity}: due {due}; the authorities to trust are renewed"),
            false => format!("{identity}: due {due}"),
        })
    }
}

/// The profile in use.
fn chosen(connection: &Connection) -> Result<Folder, Failure> {
    let name = connection.profile.clone();
    let name = name.or_else(|| environment("STRONGROOM_PROFILE").and_then(|name| name.into_string().ok()));
    let profiles = Profiles::locate(&environment)?;
    profiles.folder_of(name.as_deref())?.ok_or_else(|| profiles.none_in_use())
}
