//! Command lines that cannot be parsed, where more can be said than what the parser knows.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::Failure;

/// What people type who know another vault, or who look for a command of the daemon, and what to type instead.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["kv"], "the commands are: strongroom set, get, list, delete; to see them all: strongroom --help"),
    (
        &["put", "write", "add"],
        "to store a value: strongroom set PATH KEY; to store a .env file: strongroom import FILE PATH",
    ),
    (
        &["read", "show"],
        "to show a secret: strongroom get PATH; to start a program with it: strongroom run PATH -- PROGRAM",
    ),
    (&["ls"], "to list secrets: strongroom list"),
    (&["rm", "remove"], "to remove a key: strongroom unset PATH KEY; to delete a secret: strongroom delete PATH"),
    (
        &["login", "auth", "token"],
        "there is no login: your certificate says who you are; to get one: strongroom enroll",
    ),
    (
        &["operator"],
        "to open or close the vault: strongroom unseal, strongroom seal; for its keys: strongroom slot, strongroom rekey",
    ),
    (&["env", "exec"], "to start a program with secrets: strongroom run PATH -- PROGRAM"),
    (
        &["init", "server", "dev", "storage", "admin"],
        "that is a command of the daemon, on the vault's machine: strongroomd --help",
    ),
];

/// The failure for a command line that was rejected, with `typed` after the program's name; `None` if the parser has said
/// all. What was typed is not repeated, except for a command: it may be a secret.
pub fn explain(error: &clap::Error, typed: &[String]) -> Option<Failure> {
    let words: Vec<&str> = typed.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.starts_with('-')).collect();
    let command = words.first().copied()?;
    match error.kind() {
        ErrorKind::InvalidSubcommand => match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(name)) if name == command => {
                let (_, hint) = INSTEAD.iter().find(|(names, _)| names.contains(&command))?;
                Some(Failure::usage(format!("there is no command {command:?}"), *hint))
            }
            _ => None,
        },
        ErrorKind::MissingRequiredArgument if command == "import" && words.len() == 2 => Some(Failure::usage(
            "the path of the secret is missing",
            "files first, then the path: strongroom import app.env app/prod",
        )),
        ErrorKind::MissingRequiredArgument if command == "run" && words.len() > 1 => Some(Failure::usage(
            "there is no program to run",
            "write it after --, for example: strongroom run app/prod -- ./server",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    fn failure(line: &str) -> Option<Failure> {
        let typed: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = Arguments::try_parse_from(std::iter::once(&"strongroom".to_owned()).chain(&typed)).unwrap_err();
        explain(&error, &typed)
    }

    #[test]
    fn what_was_meant_is_said() {
        for (line, says) in [
            ("kv put app/prod A=1", "strongroom set"),
            ("put app/prod", "strongroom set PATH KEY"),
            ("--json read app/prod", "strongroom get PATH"),
            ("init", "strongroomd"),
            ("import app.env", "app.env app/prod"),
            ("run app/prod env", "run app/prod -- "),
        ] {
            let failure = failure(line).unwrap_or_else(|| panic!("{line}"));
            assert!(failure.hint.contains(says), "{line}: {failure:?}");
        }
        for line in ["identity put", "nothing-like-it", "import", "run -- env", "set"] {
            assert!(failure(line).is_none(), "{line}");
        }
    }

    #[test]
    fn every_command_named_here_exists_and_none_of_the_others() {
        let known = <Arguments as clap::CommandFactory>::command();
        let names: Vec<&str> = known.get_subcommands().map(clap::Command::get_name).collect();
        for (instead, hint) in INSTEAD {
            assert!(instead.iter().all(|name| !names.contains(name)), "{instead:?}");
            for (at, _) in hint.match_indices("strongroom ") {
                let name = hint[at + "strongroom ".len()..].split([' ', ',', ';']).next().unwrap();
                assert!(name.starts_with('-') || names.contains(&name), "{name}");
            }
        }
    }
}
