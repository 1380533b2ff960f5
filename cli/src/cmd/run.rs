//! `run`: replaces this process by a program that has secrets in its environment.

use std::ffi::OsString;

use clap::Args;
use strongroom::api::secret::SecretText;
use strongroom::exec::{ChildEnv, ExecPolicy};

use super::fetch;
use crate::exit::{Code, Failure};
use crate::settings::{Session, secret_path};

/// `strongroom run PATH… -- CMD`
#[derive(Debug, Args)]
#[command(after_help = "The program replaces strongroom: same process id, terminal, signals and exit status.
If anything is missing, nothing is started; exit code 125, 126 (not executable) or 127 (not found).

Examples:
  strongroom run app/prod -- ./server --port 80
  strongroom run shared/db app/prod -- ./server        a later path wins
  strongroom run app/prod --only DATABASE_URL -- psql
  strongroom run app/prod --map DATABASE_URL=DB -- ./old-program")]
pub struct RunArgs {
    /// Secrets to fetch; keys of a later one win.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Give only these keys; each must be there.
    #[arg(long, value_delimiter = ',', value_name = "KEY,…")]
    only: Vec<String>,
    /// Give a key under another name, for example DATABASE_URL=DB; repeat for several.
    #[arg(long, value_name = "KEY=NAME")]
    map: Vec<String>,
    /// Put this before every name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Names for which the current environment wins over the vault.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    keep: Vec<String>,
    /// Start from an empty environment (but for PATH, HOME, USER, LOGNAME, TERM, LANG, TZ).
    #[arg(long)]
    pristine: bool,
    /// Allow a name that changes how programs load code, such as NODE_OPTIONS; repeat for several.
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// Program and arguments, after --.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl RunArgs {
    /// Returns only if the program was not started.
    ///
    /// # Errors
    /// A path or key is missing, a name is refused, or the program cannot be started.
    pub fn run(&self, session: Session) -> Result<(), Failure> {
        let secrets = self.collect(&session)?;
        let policy = ExecPolicy {
            allow: self.allow.clone(),
            pristine: self.pristine,
            keep: self.keep.clone(),
            prefix: self.prefix.clone(),
        };
        let child = ChildEnv::build(std::env::vars_os(), &secrets, &policy)?;
        for warning in child.warnings() {
            eprintln!("strongroom: {warning}");
        }
        // Closes the connection and keeps the mark; nothing of ours may survive into the program.
        drop(session);
        drop(secrets);
        Err(child.exec(&self.command).into())
    }

    fn collect(&self, session: &Session) -> Result<Vec<(String, SecretText)>, Failure> {
        let mut joined: Vec<(String, SecretText)> = Vec::new();
        for typed in &self.paths {
            let path = secret_path(typed, &session.mount)?;
            for (key, value) in fetch(session, &path)? {
                match joined.iter_mut().find(|(known, _)| *known == key) {
                    Some(slot) => {
                        eprintln!("strongroom: {key} comes from {path}, which wins over an earlier path");
                        slot.1 = value;
                    }
                    None => joined.push((key, value)),
                }
            }
        }
        if !self.only.is_empty() {
            for wanted in &self.only {
                require(&joined, wanted, &self.paths)?;
            }
            joined.retain(|(key, _)| self.only.contains(key));
        }
        for rule in &self.map {
            let (key, name) =
                rule.split_once('=').filter(|(key, name)| !key.is_empty() && !name.is_empty()).ok_or_else(|| {
                    Failure::usage(format!("--map {rule:?} is not KEY=NAME"), "for example: --map DATABASE_URL=DB")
                })?;
            require(&joined, key, &self.paths)?;
            for (known, _) in &mut joined {
                if known == key {
                    name.clone_into(known);
                }
            }
        }
        Ok(joined)
    }
}

fn require(joined: &[(String, SecretText)], key: &str, paths: &[String]) -> Result<(), Failure> {
    if joined.iter().any(|(known, _)| known == key) {
        return Ok(());
    }
    let names: Vec<&str> = joined.iter().map(|(key, _)| key.as_str()).collect();
    let message = format!("there is no key {key} in {}; nothing was started", paths.join(", "));
    Err(Failure::new(Code::NotFound, message, format!("there is: {}", names.join(", "))))
}
