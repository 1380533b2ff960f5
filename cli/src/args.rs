//! What can be typed. The clap tree is the table of contents; every flag has help, or clap refuses to build it.

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
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  strongroom profile add prod --bundle ./operator    remember an address and a certificate
  strongroom import .env app/prod                    move a .env file into the vault
  strongroom set app/prod API_KEY                    asks for the value; other keys stay as they are
  strongroom run app/prod -- ./server                start a program with its secrets

Settings come from flags, then STRONGROOM_* variables, then the profile. Exit codes: docs/cli.md";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether the vault is sealed and what serves it.
    Status(cmd::status::StatusArgs),
    /// Open a sealed vault.
    Unseal(cmd::status::UnsealArgs),
    /// Close the vault: nothing is served until it is unsealed again.
    Seal(cmd::status::SealArgs),
    /// Set one key of a secret, leaving the others as they are.
    Set(cmd::set::SetArgs),
    /// Show a secret, or one key of it; hidden on a terminal unless --show.
    Get(cmd::get::GetArgs),
    /// Remove keys from a secret, leaving the others as they are.
    Unset(cmd::set::UnsetArgs),
    /// List secrets below a folder.
    List(cmd::list::ListArgs),
    /// Delete the newest version of a secret, some versions, or all of it.
    Delete(cmd::list::DeleteArgs),
    /// Put the assignments of .env files into a secret.
    Import(cmd::import::ImportArgs),
    /// Write a secret out as a .env file, JSON, or shell lines.
    Export(cmd::export::ExportArgs),
    /// Replace this command by a program that has secrets in its environment.
    Run(cmd::run::RunArgs),
    /// Add, change, try and remove the ways to open the vault.
    #[command(subcommand)]
    Slot(cmd::slot::SlotCommand),
    /// Replace the root key.
    Rekey(cmd::rekey::RekeyArgs),
    /// Replace the key that seals the data, or values by their policies.
    Rotate(cmd::rotate::RotateArgs),
    /// See and steer rotations, and say when the data key is rotated by itself.
    #[command(subcommand)]
    Rotation(cmd::rotation::RotationCommand),
    /// Destroy a secret for good, with the key that sealed it.
    Shred(cmd::shred::ShredArgs),
    /// List values that end to be valid, and when.
    Expiry(cmd::expiry::ExpiryArgs),
    /// Read and write policies.
    #[command(subcommand)]
    Policy(cmd::policy::PolicyCommand),
    /// Say who may be here, with which policies, and stop it.
    #[command(subcommand)]
    Identity(cmd::identity::IdentityCommand),
    /// Change the authority that signs certificates, step by step or at once.
    #[command(subcommand)]
    Ca(cmd::ca::CaCommand),
    /// Say what this certificate may do on a path, for example: strongroom can-i read app/prod.
    CanI(cmd::policy::CanIArgs),
    /// See and decide what waits for a second operator.
    #[command(subcommand)]
    Approvals(cmd::approvals::ApprovalsCommand),
    /// Check the audit trail, and show the key that signs it.
    #[command(subcommand)]
    Audit(cmd::audit::AuditCommand),
    /// Get the first certificate with an enrolment string; make such strings for others.
    Enroll(cmd::enroll::EnrollArgs),
    /// Renew the certificate of a profile.
    Renew(cmd::enroll::RenewArgs),
    /// Make signing requests, and sign them, for machines without a connection.
    #[command(subcommand)]
    Client(cmd::client::ClientCommand),
    /// Remember addresses and certificates.
    #[command(subcommand)]
    Profile(cmd::profile::ProfileCommand),
}
