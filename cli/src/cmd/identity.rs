//! `identity`: which policies belong to the name in a certificate.

use clap::Subcommand;

use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;
use crate::settings::Session;

/// `strongroom identity …`
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// List the registered identities.
    List,
    /// Show the policies of one.
    Show {
        /// Its path, such as app/web for spiffe://DOMAIN/app/web.
        identity: String,
    },
    /// Register one, or replace its policies; in force with the next request.
    Policies {
        /// Its path, such as app/web.
        identity: String,
        /// Names of policies.
        #[arg(required = true)]
        policies: Vec<String>,
    },
    /// Remove one: its certificates are worth nothing from then on.
    Remove {
        /// Its path.
        identity: String,
        /// Do not ask.
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

impl IdentityCommand {
    /// # Errors
    /// Not there, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let sys = session.client.sys();
        match self {
            Self::List => {
                let names = sys.identities()?;
                out.either(&names, || names.join("\n"))
            }
            Self::Show { identity } => {
                let found = sys.identity(identity)?.ok_or_else(|| {
                    Failure::new(Code::NotFound, format!("{identity} is not registered"), "strongroom identity list")
                })?;
                out.either(&found, || found.policies.join("\n"))
            }
            Self::Policies { identity, policies } => {
                let names: Vec<&str> = policies.iter().map(String::as_str).collect();
                sys.put_identity(identity, &names)?;
                let done = serde_json::json!({"identity": identity, "policies": policies});
                out.either(&done, || format!("{identity}: {}", policies.join(", ")))
            }
            Self::Remove { identity, yes } => {
                if !yes {
                    prompt::confirm(&format!("Remove the identity {identity}? Its programs get nothing from now on."))?;
                }
                sys.delete_identity(identity)?;
                out.either(&serde_json::json!({"identity": identity}), || format!("{identity} removed"))
            }
        }
    }
}
