//! `ca`: the authorities that sign certificates, and moving from one to the next.

pub mod authorities;
pub mod rotate;
pub mod step;

use std::path::PathBuf;

use clap::Subcommand;
use strongroom::api::duration::Ttl;

use super::compromise::CompromiseArgs;
use crate::bundle::write_new;
use crate::cmd::span;
use crate::connection::{Connection, Session};
use crate::environment::now_ms;
use crate::exit::Failure;
use crate::files::read_file;
use crate::output::Output;
use authorities::shown;
use rotate::RotateArgs;
use step::{FinalArgs, StepArgs, learn, prepare};

/// `strongroom ca …`
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// List the authorities and the stage each is in.
    List,
    /// Create the next authority. Clients learn to trust it, but it signs nothing yet.
    Prepare {
        /// Lifetime of its certificate, such as 3650d.
        #[arg(long, value_name = "SPAN", value_parser = span)]
        ttl: Option<Ttl>,
    },
    /// Start an authority under your organisation's own root: print the request for the root's owner to sign.
    Request {
        /// Write it to this new file instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Import the chain that the root's owner signed; the authority is then prepared.
    Import {
        /// PEM file: the authority's certificate first, then intermediates, the root last.
        #[arg(value_name = "FILE")]
        chain: PathBuf,
    },
    /// Accept certificates of a prepared authority. Rejected until every client trusts it.
    Trust(StepArgs),
    /// Sign with a trusted authority from now on; the previous one retires. Rejected until every client trusts it.
    Activate(StepArgs),
    /// Destroy the key of a retired authority. Rejected until its last certificate has expired.
    Remove(FinalArgs),
    /// Mark an authority as tainted: its clients renew early, and nobody loses access.
    Taint {
        /// Its identifier, or the beginning of it.
        id: String,
    },
    /// Destroy an authority's key at once and revoke every certificate it signed.
    Revoke(FinalArgs),
    /// List the identities that do not trust the current authorities yet.
    Stragglers,
    /// Rotate the authority: perform the next step, or list the clients it waits for.
    Rotate(RotateArgs),
    /// Respond to a stolen CA key: switch to a new authority at once and revoke everything issued before.
    Compromise(CompromiseArgs),
    /// Print the certificate revocation lists (CRLs) of all authorities, PEM.
    Crl {
        /// Write them to this new file instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

impl CaCommand {
    /// # Errors
    /// Not allowed, no such authority, some clients are not ready, or not confirmed.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let identities = session.client.identities();
        match self {
            Self::List => {
                let list = identities.authorities()?;
                out.either(&list.authorities, || shown(&list, now_ms()))
            }
            Self::Prepare { ttl } => prepare(session, connection, out, ttl.map(|ttl| ttl.0)),
            Self::Request { out: file } => {
                let csr = identities.request_authority()?;
                match file {
                    None => out.either(&serde_json::json!({ "csr": csr }), || csr.trim_end().to_owned()),
                    Some(file) => {
                        write_new(file, csr.as_bytes())?;
                        let shown = file.display().to_string();
                        out.either(&serde_json::json!({ "csr": csr, "file": shown }), || {
                            format!("give {shown} to the owner of the root; then: strongroom ca import CHAIN")
                        })
                    }
                }
            }
            Self::Import { chain } => {
                let text = String::from_utf8_lossy(&read_file(chain)?).into_owned();
                // Trusted before it is used, or this client could not verify the vault later.
                let id = identities.import_authority(&text)?;
                learn(connection);
                out.either(&serde_json::json!({ "id": id }), || {
                    format!("{id} is prepared; when all clients have it, continue with: strongroom ca rotate")
                })
            }
            Self::Trust(args) => args.run(session, connection, out, "trust"),
            Self::Activate(args) => args.run(session, connection, out, "activate"),
            Self::Remove(args) => {
                let plan = "its key is destroyed, and certificates that it signed are rejected";
                args.run(session, connection, out, "remove", plan)
            }
            Self::Revoke(args) => {
                let plan = "its key is destroyed, and every certificate that it signed is revoked now";
                args.run(session, connection, out, "revoke", plan)
            }
            Self::Taint { id } => StepArgs { id: id.clone(), force: false }.run(session, connection, out, "taint"),
            Self::Stragglers => {
                let found = identities.stragglers()?;
                out.either(&found, || match found.identities.as_slice() {
                    [] => "none: every identity that was seen recently trusts the current authorities".to_owned(),
                    names => names.join("\n"),
                })
            }
            Self::Rotate(args) => args.run(session, connection, out),
            Self::Compromise(args) => args.run(session, connection, out),
            Self::Crl { out: None } => {
                let crl = identities.crl()?;
                out.either(&serde_json::json!({ "crl": crl }), || crl.trim_end().to_owned())
            }
            Self::Crl { out: Some(file) } => {
                write_new(file, identities.crl()?.as_bytes())?;
                out.either(&serde_json::json!({ "file": file }), || format!("written to {}", file.display()))
            }
        }
    }
}
