//! The command line of `strongroomd`: the clap tree is its table of contents.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Daemon of the Strongroom secrets vault.
#[derive(Debug, Parser)]
#[command(name = "strongroomd", version, arg_required_else_help = true, help_expected = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The daemon's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a vault: data folder, CA, server certificate and the first operator's bundle.
    Init(InitArgs),
    /// Serve a vault over mutual TLS.
    Server(ServerArgs),
    /// Ask or steer the daemon on this machine through its local socket; needs no certificate.
    Admin(AdminArgs),
    /// Create, serve and fill a vault for development, and run a program with its secrets.
    Dev(DevArgs),
    /// Work on the stored bytes while no daemon runs.
    #[command(subcommand)]
    Storage(StorageCommand),
}

/// Arguments of `strongroomd init`.
#[derive(Debug, Args)]
#[command(after_help = "The passphrase is asked on the terminal unless --passphrase-fd or --passphrase-credential is \
given.\nIt is never taken from the command line or the environment.\n\nExample:\n  strongroomd init --data \
/var/lib/strongroom --trust-domain example.org --server-name vault.example.org")]
pub struct InitArgs {
    /// Data folder to create (mode 0700); it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Trust domain of the identities: the host part of spiffe://DOMAIN/app/web.
    #[arg(long, value_name = "DOMAIN", default_value = "strongroom.internal")]
    pub trust_domain: String,
    /// Address the server will listen on; written to the configuration.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8200")]
    pub listen: SocketAddr,
    /// Address where machines without a certificate will enrol, not the one of --listen; off unless given. Written to the
    /// configuration, with the names of --server-name, and to the first operator's profile.
    #[arg(long, value_name = "ADDRESS")]
    pub enroll_listen: Option<SocketAddr>,
    /// Name or address clients will use for this server; repeat for several. localhost and loopback are always included.
    #[arg(long, value_name = "NAME")]
    pub server_name: Vec<String>,
    /// Identity of the first operator, below operator/.
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
    /// Also write a random key file here (mode 0600) that unseals without a passphrase; keep it off this disk.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Time one passphrase guess shall cost on this machine, in milliseconds.
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
    /// Data folder; its strongroom.toml is the configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// Check configuration, certificates and folder permissions, then exit without serving.
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `strongroomd dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  strongroomd dev --import .env -- ./server\n\nEverything is real: encryption at rest, \
mutual TLS, policies, audit. Only the folder is thrown away, unless --data keeps it."
)]
pub struct DevArgs {
    /// Import this .env file before anything is started; repeat for several.
    #[arg(long, value_name = "FILE")]
    pub import: Vec<PathBuf>,
    /// Keep the vault in this folder and reuse it next time; without it a throw-away folder is used.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Path below secret/ that is filled and read.
    #[arg(long, value_name = "PATH", default_value = "dev")]
    pub path: String,
    /// Take values that contain $ or ` literally, instead of asking which dialect they are written in.
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
    /// Go on with a vault that refuses to open because its anchor, its audit log or its newest writes are gone for good.
    AcceptLoss(AcceptLossArgs),
}

/// Arguments of `strongroomd storage accept-loss`.
#[derive(Debug, Args)]
#[command(
    after_help = "Says what is lost and asks before anything is written. No daemon may be running on the folder. Put the \
lost files back instead if you can.\n\nExample:\n  strongroomd storage accept-loss --data /var/lib/strongroom"
)]
pub struct AcceptLossArgs {
    /// The vault, and what opens it. Several shares go on one line, with spaces between.
    #[command(flatten)]
    pub unseal: UnsealArgs,
    /// Accept without asking; for scripts.
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `strongroomd storage migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Configuration file of the vault; no daemon may be running on it.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// Data folder; its strongroom.toml is the configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// Engine to copy to: redb, or sled.
    #[arg(long, value_name = "ENGINE", value_parser = ["redb", "sled"])]
    pub to: String,
}

/// Arguments of `strongroomd admin`.
#[derive(Debug, Args)]
#[command(
    after_help = "Works for the daemon's own user and for root. Secrets cannot be read this way.\n\nExample:\n  \
strongroomd admin status --data /var/lib/strongroom"
)]
pub struct AdminArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// Commands of `strongroomd admin`.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Say whether the vault is sealed.
    Status(AdminTarget),
    /// Open the vault; asks for the passphrase on the terminal unless told otherwise.
    Unseal(UnsealArgs),
    /// Close the vault: every key is wiped, and requests are refused until it is opened again.
    Seal(AdminTarget),
    /// Get a certificate for an operator whose own has ended or is lost; asks for what opens the vault.
    Operator(OperatorArgs),
}

/// Arguments of `strongroomd admin operator`.
#[derive(Debug, Args)]
#[command(after_help = "The vault must be open. The identity must be registered and not disabled.\n\nExample:\n  \
strongroomd admin operator --data /var/lib/strongroom --identity operator/alice --out ./alice\n  strongroom profile add \
rescue --bundle ./alice")]
pub struct OperatorArgs {
    /// The daemon, and what opens the vault.
    #[command(flatten)]
    pub unseal: UnsealArgs,
    /// Identity to certify, as in operator/alice.
    #[arg(long, value_name = "PATH")]
    pub identity: String,
    /// Folder for certificate, key and CA; must not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Which daemon, and how to print.
#[derive(Debug, Args)]
pub struct AdminTarget {
    /// Configuration file of the daemon.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// Data folder; its strongroom.toml is the configuration.
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
    /// Open with this key file; together with --passphrase-fd for a slot that needs both.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}
