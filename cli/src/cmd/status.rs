//! `status`, `unseal`, `seal`.

use clap::Args;
use serde::Serialize;

use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;
use crate::settings::Session;

/// `strongroom status`
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 when the vault serves, 3 when it is sealed, 6 when it cannot be reached.")]
pub struct StatusArgs {}

#[derive(Serialize)]
struct Status<'a> {
    address: &'a str,
    sealed: bool,
    initialized: bool,
    version: &'a str,
    storage: &'a str,
}

impl StatusArgs {
    /// # Errors
    /// Unreachable, or sealed (exit code 3) after printing.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let seal = session.client.sys().seal_status()?;
        let address = session.client.address();
        let status = Status {
            address,
            sealed: seal.sealed,
            initialized: seal.initialized,
            version: &seal.version,
            storage: &seal.storage_type,
        };
        out.either(&status, || {
            let state = if seal.sealed { "sealed" } else { "unsealed" };
            format!("{address}: {}\nversion {}, storage {}", out.strong(state), seal.version, seal.storage_type)
        })?;
        if seal.sealed {
            return Err(Failure::new(Code::Sealed, "the vault is sealed", "open it: strongroom unseal"));
        }
        Ok(())
    }
}

/// `strongroom unseal`
#[derive(Debug, Args)]
#[command(
    after_help = "The passphrase is asked without echo, or read from a descriptor:\n  strongroom unseal --fd 0 < passphrase.txt"
)]
pub struct UnsealArgs {
    /// Read the passphrase from this open file descriptor (0 is standard input).
    #[arg(long, value_name = "FD")]
    fd: Option<u32>,
}

impl UnsealArgs {
    /// # Errors
    /// Wrong passphrase, or this identity may not unseal.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let before = session.client.sys().seal_status()?;
        if !before.sealed {
            return out.either(&serde_json::json!({"sealed": false, "changed": false}), || "already unsealed".into());
        }
        let passphrase = match self.fd {
            Some(fd) => prompt::descriptor(fd)?,
            None => prompt::hidden("Passphrase: ")?,
        };
        eprintln!("deriving the key, which takes about a second by design ...");
        session.client.sys().unseal(&passphrase)?;
        out.either(&serde_json::json!({"sealed": false, "changed": true}), || "unsealed".into())
    }
}

/// `strongroom seal`
#[derive(Debug, Args)]
pub struct SealArgs {
    /// Do not ask.
    #[arg(short = 'y', long)]
    yes: bool,
}

impl SealArgs {
    /// # Errors
    /// Not confirmed, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        if !self.yes {
            prompt::confirm("Seal the vault? Applications get nothing until someone unseals it.")?;
        }
        session.client.sys().seal()?;
        out.either(&serde_json::json!({"sealed": true}), || "sealed".into())
    }
}
