//! The command line of `strongroomd`. The clap tree is also its table of contents.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};

/// Daemon of the Strongroom secrets vault.
#[derive(Debug, Parser)]
#[command(name = "strongroomd", version, arg_required_else_help = true, help_expected = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of `strongroom` that people may look for here, and whether the local socket has them too.
const OF_STRONGROOM: [(&str, bool); 16] = [
    ("status", true),
    ("unseal", true),
    ("seal", true),
    ("set", false),
    ("get", false),
    ("list", false),
    ("delete", false),
    ("import", false),
    ("run", false),
    ("policy", false),
    ("identity", false),
    ("enroll", false),
    ("slot", false),
    ("rekey", false),
    ("rotate", false),
    ("verify", false),
];

impl Arguments {
    /// Parses the command line of this process. If it is wrong or asks for help, prints a message and ends the process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            if let Some(text) = elsewhere(&error) {
                eprintln!("strongroomd: {text}");
                std::process::exit(2);
            }
            error.exit()
        })
    }
}

/// What to type instead of a command of `strongroom`.
fn elsewhere(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let (name, local) = OF_STRONGROOM.iter().find(|(name, _)| name == typed)?;
    let here = if *local { format!("; or on this machine: strongroomd admin {name}") } else { String::new() };
    Some(format!("{name} is a command of strongroom, not strongroomd\n  try: strongroom {name}{here}"))
}

/// The commands of the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a vault: data folder, CA, server certificate and a bundle for the first operator.
    Init(InitArgs),
    /// Serve a vault over mutual TLS.
    Server(ServerArgs),
    /// Check, unseal or seal the daemon on this machine through its local socket; needs no certificate.
    Admin(AdminArgs),
    /// Run a program with secrets from a development vault that is created and filled for it.
    Dev(DevArgs),
    /// Work on the stored data while no daemon runs.
    #[command(subcommand)]
    Storage(StorageCommand),
}

/// Trust domain of a vault that was created without one.
pub const DEFAULT_TRUST_DOMAIN: &str = "strongroom.internal";

/// Arguments of `strongroomd init`.
#[derive(Debug, Args)]
#[command(
    after_help = "The passphrase is asked for on the terminal unless --passphrase-fd or --passphrase-credential is \
given.\nIt is never taken from the command line or the environment.\n\nExample:\n  strongroomd init --data \
/var/lib/strongroom --trust-domain example.org \\\n    --server-name vault.example.org --listen 0.0.0.0:8200"
)]
pub struct InitArgs {
    /// Data folder to create (mode 0700); must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Trust domain of the identities: the host part of spiffe://DOMAIN/app/web.
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    pub trust_domain: String,
    /// Address the server will listen on; written to the configuration. The default accepts connections from this
    /// machine only; 0.0.0.0:8200 accepts them from anywhere.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8200")]
    pub listen: SocketAddr,
    /// Address where machines without a certificate enrol, other than --listen; off unless given. Written to the
    /// configuration, with the names of --server-name, and to the first operator's profile.
    #[arg(long, value_name = "ADDRESS")]
    pub enroll_listen: Option<SocketAddr>,
    /// Name or address that clients use for this server; repeatable. localhost and loopback are always included.
    #[arg(long, value_name = "NAME")]
    pub server_name: Vec<String>,
    /// Name of the first operator, below operator/.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub operator: String,
    /// Folder for the first operator's certificate, key and CA; must not exist.
    #[arg(long, value_name = "DIR", default_value = "strongroom-operator")]
    pub bundle: PathBuf,
    /// Storage engine: redb, or sled.
    #[arg(long, value_name = "ENGINE", default_value = "redb", value_parser = ["redb", "sled"])]
    pub engine: String,
    /// Cipher of new records: aes-256-gcm, or chacha20-poly1305.
    #[arg(long, value_name = "CIPHER", default_value = "aes-256-gcm", value_parser = ["aes-256-gcm", "chacha20-poly1305"])]
    pub cipher: String,
    /// Read the passphrase from this open file descriptor (0 is standard input).
    #[arg(long, value_name = "FD", conflicts_with = "passphrase_credential")]
    pub passphrase_fd: Option<u32>,
    /// Read the passphrase from this systemd credential.
    #[arg(long, value_name = "NAME")]
    pub passphrase_credential: Option<String>,
    /// Also write a random key file here (mode 0600) that unseals without a passphrase; keep it on another disk.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Time that one passphrase guess should take on this machine, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub kdf_time: u64,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `strongroomd server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// Data folder; uses its strongroom.toml.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// Check the configuration, certificates and folder permissions, then exit without serving.
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `strongroomd dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  strongroomd dev --import .env -- ./server\n\nThe vault is a real one: encryption at rest, \
mutual TLS, policies, audit. Its folder is deleted at the end, unless --data keeps it."
)]
pub struct DevArgs {
    /// Import this .env file before the program starts; repeatable.
    #[arg(long, value_name = "FILE")]
    pub import: Vec<PathBuf>,
    /// Keep the vault in this folder and reuse it next time; by default a temporary folder is used and deleted.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Path below secret/ to fill and read.
    #[arg(long, value_name = "PATH", default_value = "dev")]
    pub path: String,
    /// Take values that contain $ or ` literally, instead of rejecting them as ambiguous.
    #[arg(long)]
    pub literal: bool,
    /// Program to run with the secrets in its environment, and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// Commands of `strongroomd storage`.
#[derive(Debug, Subcommand)]
pub enum StorageCommand {
    /// Copy a vault's records to another engine and verify the copy record by record.
    Migrate(MigrateArgs),
    /// Continue with a vault that refuses to open because its anchor, audit log or newest writes are permanently lost.
    AcceptLoss(AcceptLossArgs),
    /// Check every record and list the damaged ones; changes nothing.
    Verify(VerifyArgs),
    /// Remove damaged records from a vault, so that it opens and serves the others.
    Salvage(SalvageArgs),
}

/// Arguments of `strongroomd storage verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Stop the daemon first; to check while it runs: strongroom verify. Exit code 0 if everything is intact, 1 if \
not.\n\nExample:\n  strongroomd storage verify --data /var/lib/strongroom"
)]
pub struct VerifyArgs {
    /// The vault, and the secret that unseals it. Put several shares on one line, separated by spaces.
    #[command(flatten)]
    pub unseal: UnsealArgs,
}

/// Arguments of `strongroomd storage salvage`.
#[derive(Debug, Args)]
#[command(
    after_help = "Shows what would be lost and asks before it writes anything. Stop the daemon first. If you have a backup, \
restore the store from it instead.\n\nExample:\n  strongroomd storage salvage --data /var/lib/strongroom"
)]
pub struct SalvageArgs {
    /// The vault, and the secret that unseals it. Put several shares on one line, separated by spaces.
    #[command(flatten)]
    pub unseal: UnsealArgs,
    /// Salvage without asking; for scripts.
    #[arg(long)]
    pub yes: bool,
    /// Name of the operator who administers the vault if only secrets can be kept, below operator/.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub operator: String,
}

/// Arguments of `strongroomd storage accept-loss`.
#[derive(Debug, Args)]
#[command(
    after_help = "Shows what is lost and asks before it writes anything. Stop the daemon first. If you still have the \
lost files, put them back instead.\n\nExample:\n  strongroomd storage accept-loss --data /var/lib/strongroom"
)]
pub struct AcceptLossArgs {
    /// The vault, and the secret that unseals it. Put several shares on one line, separated by spaces.
    #[command(flatten)]
    pub unseal: UnsealArgs,
    /// Accept the loss without asking; for scripts.
    #[arg(long)]
    pub yes: bool,
    /// Declare that the whole vault was restored from an older copy. Until then, clients that saw a newer state reject it.
    #[arg(long)]
    pub restored: bool,
}

/// Arguments of `strongroomd storage migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Configuration file of the vault; stop its daemon first.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// Data folder; uses its strongroom.toml.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// Engine to copy to: redb, or sled.
    #[arg(long, value_name = "ENGINE", value_parser = ["redb", "sled"])]
    pub to: String,
}

/// Arguments of `strongroomd admin`.
#[derive(Debug, Args)]
#[command(after_help = "Works for the daemon's own user and for root. It cannot read secrets.\n\nExample:\n  \
strongroomd admin status --data /var/lib/strongroom")]
pub struct AdminArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// Commands of `strongroomd admin`.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Show whether the vault is sealed.
    Status(AdminTarget),
    /// Unseal the vault; asks for the passphrase on the terminal by default.
    Unseal(UnsealArgs),
    /// Seal the vault: wipe every key from memory and reject requests until it is unsealed.
    Seal(AdminTarget),
    /// Get a new certificate for an operator whose own has expired or is lost; asks for the secret that unseals the
    /// vault.
    Operator(OperatorArgs),
}

/// Arguments of `strongroomd admin operator`.
#[derive(Debug, Args)]
#[command(
    after_help = "The vault must be unsealed. The identity must be registered. A disabled or frozen one is enabled, and\neverything that it had before is revoked.\n\nExample:\n  \
strongroomd admin operator --data /var/lib/strongroom --identity operator/alice --out ./alice\n  strongroom profile add \
rescue --bundle ./alice --move"
)]
pub struct OperatorArgs {
    /// The daemon, and the secret that unseals the vault.
    #[command(flatten)]
    pub unseal: UnsealArgs,
    /// Identity to certify, for example operator/alice.
    #[arg(long, value_name = "PATH")]
    pub identity: String,
    /// Folder for the certificate, key and CA; must not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Which daemon to talk to, and how to print its reply.
#[derive(Debug, Args)]
pub struct AdminTarget {
    /// Configuration file of the daemon.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// Data folder; uses its strongroom.toml.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// Print the daemon's reply as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `strongroomd admin unseal`.
#[derive(Debug, Args)]
pub struct UnsealArgs {
    /// The daemon.
    #[command(flatten)]
    pub target: AdminTarget,
    /// Read the passphrase, recovery code or share from this open file descriptor (0 is standard input).
    #[arg(long, value_name = "FD")]
    pub passphrase_fd: Option<u32>,
    /// Unseal with this key file; add --passphrase-fd for a slot that needs both.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_strongroom_is_pointed_to() {
        let said = |name| elsewhere(&Arguments::try_parse_from(["strongroomd", name]).expect_err("no such command"));
        assert!(said("status").expect("known").ends_with("strongroomd admin status"));
        assert_eq!(
            said("set").expect("known"),
            "set is a command of strongroom, not strongroomd\n  try: strongroom set"
        );
        assert_eq!(said("nothing-like-it"), None);
        for (name, _) in OF_STRONGROOM {
            assert!(said(name).is_some(), "{name}");
        }
    }
}
