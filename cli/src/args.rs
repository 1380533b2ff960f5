//! The command line. The clap tree is also its table of contents, and clap rejects a flag without help.

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::connection::Connection;

/// Fetch, set and import secrets, and run programs with them.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, arg_required_else_help = true, help_expected = true, after_help = EXAMPLES)]
pub struct Arguments {
    /// Where the vault is and who you are.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON on standard output, and errors as one JSON object on standard error.
    #[arg(long, global = true, help_heading = "Connection and output")]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  strongroom profile add prod --bundle op --move     remember an address and a certificate
  strongroom import .env app/prod                    move a .env file into the vault
  strongroom set app/prod API_KEY                    asks for the value; other keys stay as they are
  strongroom run app/prod -- ./server                start a program with its secrets

Settings come from flags, then STRONGROOM_* variables, then the profile. Exit codes: docs/cli.md";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether the vault is sealed and what serves it.
    Status(cmd::vault::status::StatusArgs),
    /// Check every record while the vault keeps serving, and list the damaged ones.
    Verify(cmd::vault::verify::VerifyArgs),
    /// List accepted data losses and the records removed by salvage.
    Losses(cmd::vault::losses::LossesArgs),
    /// Open a sealed vault.
    Unseal(cmd::vault::unseal::UnsealArgs),
    /// Seal the vault: it serves nothing until it is unsealed again.
    Seal(cmd::vault::seal::SealArgs),
    /// Set one key of a secret; the others stay as they are.
    Set(cmd::secrets::set::SetArgs),
    /// Show a secret, or one key of it; hidden on a terminal unless --show.
    Get(cmd::secrets::get::GetArgs),
    /// Remove keys from a secret; the others stay as they are.
    Unset(cmd::secrets::unset::UnsetArgs),
    /// List secrets below a folder.
    List(cmd::secrets::list::ListArgs),
    /// Delete the newest version of a secret, some versions, or all of it.
    Delete(cmd::secrets::delete::DeleteArgs),
    /// Import the assignments of .env files into a secret.
    Import(cmd::secrets::import::ImportArgs),
    /// Write a secret out as a .env file, JSON, or shell lines.
    Export(cmd::secrets::export::ExportArgs),
    /// Run a program with secrets in its environment; it takes the place of this command.
    Run(cmd::secrets::run::RunArgs),
    /// Add, change, test and remove key slots, the ways to unseal the vault.
    #[command(subcommand)]
    Slot(cmd::vault::slot::SlotCommand),
    /// Replace the root key, keeping the key slots whose secrets you give.
    Rekey(cmd::vault::rekey::RekeyArgs),
    /// Rotate the data key, or values that have a rotation policy.
    Rotate(cmd::rotations::rotate::RotateArgs),
    /// Show, pause, resume or abort rotations, and set when the data key rotates automatically.
    #[command(subcommand)]
    Rotation(cmd::rotations::rotation::RotationCommand),
    /// Destroy a secret for good, with the key that sealed it.
    Shred(cmd::secrets::shred::ShredArgs),
    /// List values that have an expiry date, soonest first.
    Expiry(cmd::rotations::expiry::ExpiryArgs),
    /// Read and write policies.
    #[command(subcommand)]
    Policy(cmd::access::policy::PolicyCommand),
    /// Register, list, disable and revoke identities, and set their policies.
    #[command(subcommand)]
    Identity(cmd::access::identity::IdentityCommand),
    /// Show and rotate the certificate authorities (CAs).
    #[command(subcommand)]
    Ca(cmd::access::ca::CaCommand),
    /// Check whether your certificate may do something, for example: strongroom can-i read app/prod.
    CanI(cmd::access::can_i::CanIArgs),
    /// List, approve or reject requests that wait for a second operator.
    #[command(subcommand)]
    Approvals(cmd::access::approvals::ApprovalsCommand),
    /// Verify the audit trail, and print the public key that signs it.
    #[command(subcommand)]
    Audit(cmd::vault::audit::AuditCommand),
    /// Get your first certificate with an enrolment string, or create such strings for other hosts.
    Enroll(cmd::host::enroll::EnrollArgs),
    /// Renew the certificate of a profile.
    Renew(cmd::host::renew::RenewArgs),
    /// Create and sign certificate requests by file, for machines that cannot reach the vault.
    #[command(subcommand)]
    Client(cmd::host::client::ClientCommand),
    /// Manage profiles: saved addresses and certificates.
    #[command(subcommand)]
    Profile(cmd::host::profile::ProfileCommand),
}
