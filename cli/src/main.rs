//! `strongroom`, the command: parse, run, report, exit code.

/// Replaces the macro of the standard library with this name, because messages may contain text from elsewhere.
macro_rules! eprintln {
    () => { std::eprintln!() };
    ($($part:tt)*) => { std::eprintln!("{}", crate::visible::visible(&std::format!($($part)*))) };
}

/// As [`eprintln!`], without the line end.
macro_rules! eprint {
    ($($part:tt)*) => { std::eprint!("{}", crate::visible::visible(&std::format!($($part)*))) };
}

mod args;
mod bundle;
mod cmd;
mod connection;
mod environment;
mod exit;
mod files;
mod mark;
mod opening;
mod output;
mod paths;
mod profile;
mod progress;
mod prompt;
mod renewal;
mod table;
mod usage;
mod visible;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use connection::Session;
use environment::environment;
use exit::Failure;

/// Whatever allocates a secret, a prompt or a library, is overwritten when it is freed.
#[global_allocator]
static ALLOCATOR: strongroom::os::WipingAllocator = strongroom::os::WipingAllocator;

fn main() -> ExitCode {
    if let Some(code) = watch::stage::enter(std::env::args_os()) {
        return code;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return rejected(&error),
    };
    let json = arguments.json;
    let starts_program = matches!(arguments.command, Command::Run(_));
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            let failure = if starts_program { failure.before_exec() } else { failure };
            failure.report(json);
            ExitCode::from(failure.code.number())
        }
    }
}

/// Reports a command line that cannot be parsed, or prints the help that was asked for.
fn rejected(error: &clap::Error) -> ExitCode {
    let typed: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let json = typed.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    match usage::explain(error, &typed) {
        Some(failure) => {
            failure.report(json);
            ExitCode::from(failure.code.number())
        }
        None => error.exit(),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { connection, json, command } = arguments;
    let out = output::Output::new(json, &environment);
    let open = || Session::open(&connection, &environment);
    match command {
        Command::Status(args) => args.run(&open()?, &out),
        Command::Verify(args) => args.run(&open()?, &out),
        Command::Losses(args) => args.run(&open()?, &out),
        Command::Unseal(args) => args.run(&open()?, &out),
        Command::Seal(args) => args.run(&open()?, &out),
        Command::Set(args) => args.run(&open()?, &out),
        Command::Get(args) => args.run(&open()?, &out),
        Command::Unset(args) => args.run(&open()?, &out),
        Command::List(args) => args.run(&open()?, &out),
        Command::Delete(args) => args.run(&open()?, &out),
        Command::Import(args) => args.run(&open()?, &out),
        Command::Export(args) => args.run(&open()?, &out),
        Command::Run(args) => return args.run(connection, json),
        Command::Slot(command) => command.run(&open()?, &connection, &out),
        Command::Rekey(args) => args.run(&open()?, &out),
        Command::Rotate(args) => args.run(&open()?, &out),
        Command::Rotation(command) => command.run(&open()?, &out),
        Command::Shred(args) => args.run(&open()?, &out),
        Command::Expiry(args) => args.run(&open()?, &out),
        Command::Policy(command) => command.run(&open()?, &out),
        Command::Identity(command) => command.run(&open()?, &out),
        Command::Ca(command) => command.run(&open()?, &connection, &out),
        Command::CanI(args) => args.run(&open()?, &out),
        Command::Approvals(command) => command.run(&open()?, &out),
        Command::Audit(command) => command.run(open, &out),
        Command::Enroll(args) => match &args.command {
            Some(command) => command.run(&open()?, &out),
            None => args.run(&connection, &out),
        },
        Command::Renew(args) => args.run(&connection, &out),
        Command::Client(command) => command.run(open, &out),
        Command::Profile(command) => command.run(&profile::Profiles::locate(&environment)?, &out),
    }?;
    Ok(ExitCode::SUCCESS)
}
