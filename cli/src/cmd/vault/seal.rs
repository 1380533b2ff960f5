//! `seal`: closes the vault.

use clap::Args;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output::Output;
use crate::prompt;

/// `strongroom seal`
#[derive(Debug, Args)]
pub struct SealArgs {
    /// Do not ask for confirmation.
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
