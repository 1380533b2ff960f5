//! Wiring: the only code that uses every module. It has no rules of its own.
//!
//! `args` defines the command line and `config` the configuration file. `layout` knows the data folder, `init` creates
//! it, `app` opens and serves it. `dev` does all of this and runs a program.

pub(crate) mod admin;
pub(crate) mod app;
pub mod args;
pub(crate) mod certificates;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod init;
pub(crate) mod input;
pub(crate) mod layout;
pub mod log;
pub(crate) mod loss;
pub(crate) mod memory;
pub(crate) mod migrate;
pub(crate) mod notify;
pub(crate) mod offline;
pub(crate) mod salvage;
pub(crate) mod targets;

use std::process::ExitCode;

use crate::os;
use args::{Arguments, Command, StorageCommand};

/// Exit code when the daemon could not start or a command failed. The message on standard error says why.
pub const EXIT_FAILED: u8 = 1;
/// Exit code when a write could not be made durable. The process ends instead of acknowledging it.
pub const EXIT_NOT_DURABLE: u8 = 70;

/// Runs one command of `strongroomd` and returns its exit code. `key_memory` is the result of [`os::harden`].
#[must_use]
pub fn run(arguments: Arguments, key_memory: os::KeyMemory) -> ExitCode {
    let outcome = match arguments.command {
        Command::Init(args) => init::run(&args).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
        Command::Server(args) => app::run(&args, key_memory).map_err(|error| error.to_string()),
        Command::Admin(args) => admin::run(&args).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
        Command::Dev(args) => dev::run(args).map_err(|error| error.to_string()),
        Command::Storage(StorageCommand::AcceptLoss(args)) => {
            loss::run(&args).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::Storage(StorageCommand::Salvage(args)) => {
            salvage::run(&args).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::Storage(StorageCommand::Verify(args)) => salvage::verify(&args)
            .map(|sound| if sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
            .map_err(|error| error.to_string()),
        Command::Storage(StorageCommand::Migrate(args)) => {
            migrate::run(&args).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("strongroomd: {message}");
        ExitCode::from(EXIT_FAILED)
    })
}
