//! `run`: replaces this process with a program that has secrets in its environment, or stays and watches them.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use strongroom::api::duration::Ttl;
use strongroom::api::secret::SecretText;
use strongroom::exec::{ChildEnv, ExecPolicy};

use crate::cmd::fetch;
use crate::connection::Connection;
use crate::connection::Session;
use crate::environment::environment;
use crate::exit::{Code, Failure};
use crate::paths::secret_path;
use crate::watch::{self, OnChange, Renewed, Renewer, RunOptions, Vault};

/// Largest number of secrets in one request for changes.
const MOST_WATCHED: usize = 64;

/// `strongroom run PATH… -- CMD`
#[derive(Debug, Args)]
#[command(after_help = "The program replaces strongroom: same process id, terminal, signals and exit status.
If anything is missing, nothing is started; exit code 125, 126 (not executable) or 127 (not found).

Examples:
  strongroom run app/prod -- ./server --port 80
  strongroom run shared/db app/prod -- ./server        a later path wins
  strongroom run app/prod --only DATABASE_URL -- psql
  strongroom run app/prod --map DATABASE_URL=DB -- ./old-program
  strongroom run app/prod --watch -- ./server          restarted when a value changes")]
pub struct RunArgs {
    /// Secrets to fetch; keys of later ones override earlier ones.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Pass only these keys; each must exist.
    #[arg(long, value_delimiter = ',', value_name = "KEY,…")]
    only: Vec<String>,
    /// Pass a key under another name, for example DATABASE_URL=DB; repeat for several.
    #[arg(long, value_name = "KEY=NAME")]
    map: Vec<String>,
    /// Prefix for every name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Names for which the current environment overrides the vault.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    keep: Vec<String>,
    /// Start from an empty environment (except PATH, HOME, USER, LOGNAME, TERM, LANG, TZ).
    #[arg(long)]
    pristine: bool,
    /// Allow a name that changes how programs load code, such as NODE_OPTIONS; repeat for several.
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// Supervise the program, and restart or signal it when one of its values changes.
    #[arg(long)]
    watch: bool,
    /// What to do when a value changes: restart, signal (HUP), or signal=NAME.
    #[arg(long, requires = "watch", value_name = "ACTION", default_value = "restart", value_parser = on_change)]
    on_change: OnChange,
    /// Time from SIGTERM to SIGKILL when the program is restarted.
    #[arg(long, requires = "watch", value_name = "TIME", default_value = "10s", value_parser = grace)]
    grace: Duration,
    /// Program and arguments, after --.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Why the values are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// For the start. The user is warned about surprises.
    First,
    /// Again, for a running program.
    Again,
}

impl RunArgs {
    /// Returns the exit code of a watched program. Otherwise returns only if the program was not started.
    ///
    /// # Errors
    /// A path or key does not exist, a name is rejected, or the program cannot be started.
    pub fn run(self, connection: Connection, json: bool) -> Result<ExitCode, Failure> {
        let session = Session::open_quietly(&connection, &environment)?;
        match session.folder.is_some() && self.watch {
            true => session.warn_of_mark(), // the certificate is renewed
            false => session.warn(),
        }
        if self.watch {
            session.warn_of_memory();
        }
        let child = self.environment(&session, Reading::First).map_err(|mut failure| {
            failure.message.push_str("; nothing was started");
            failure
        })?;
        if self.watch {
            return self.watch(connection, json, session, child);
        }
        // Closes the connection and saves the newest state. Nothing of this process may survive into the program.
        drop(session);
        Err(child.exec(&self.command).into())
    }

    fn watch(self, connection: Connection, json: bool, session: Session, child: ChildEnv) -> Result<ExitCode, Failure> {
        let mount = &session.mount;
        let paths: Vec<String> = self
            .paths
            .iter()
            .map(|typed| Ok(format!("{mount}/{}", secret_path(typed, mount)?)))
            .collect::<Result<_, Failure>>()?;
        if paths.len() > MOST_WATCHED {
            return Err(Failure::usage(format!("--watch takes at most {MOST_WATCHED} paths"), ""));
        }
        let (on_change, grace) = (self.on_change, self.grace);
        let (timeout, connection, renewed) = (connection.timeout, Arc::new(connection), Renewed::default());
        let renewer = session.folder.clone().map(|folder| Renewer {
            folder,
            connection: Arc::clone(&connection),
            renewed: Arc::clone(&renewed),
        });
        let plan = RunOptions { command: self.command.clone(), on_change, grace, json, renewer };
        let open = Box::new(move || Session::open_quietly(&connection, &environment));
        let read = Box::new(move |session: &Session| self.environment(session, Reading::Again));
        watch::supervise(plan, child, Vault::new(session, paths, timeout, open, read, renewed))
    }

    /// The program's environment with the current values.
    fn environment(&self, session: &Session, reading: Reading) -> Result<ChildEnv, Failure> {
        let secrets = self.collect(session, reading)?;
        let policy = ExecPolicy {
            allow: self.allow.clone(),
            pristine: self.pristine,
            keep: self.keep.clone(),
            prefix: self.prefix.clone(),
        };
        let child = ChildEnv::build(std::env::vars_os(), &secrets, &policy)?;
        if reading == Reading::First {
            for warning in child.warnings() {
                eprintln!("strongroom: {warning}");
            }
        }
        Ok(child)
    }

    fn collect(&self, session: &Session, reading: Reading) -> Result<Vec<(String, SecretText)>, Failure> {
        let mut joined: Vec<(String, SecretText)> = Vec::new();
        for typed in &self.paths {
            let path = secret_path(typed, &session.mount)?;
            for (key, value) in fetch(session, &path)? {
                match joined.iter_mut().find(|(known, _)| *known == key) {
                    Some(slot) => {
                        if reading == Reading::First {
                            eprintln!("strongroom: {key} is taken from {path}, which overrides an earlier path");
                        }
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
        // After `--only`, which names keys as they are stored.
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
    let message = format!("there is no key {key} in {}", paths.join(", "));
    Err(Failure::new(Code::NotFound, message, format!("it has: {}", names.join(", "))))
}

fn on_change(text: &str) -> Result<OnChange, String> {
    match text {
        "restart" => Ok(OnChange::Restart),
        "signal" => watch::parse_signal("HUP").map(OnChange::Signal),
        _ => match text.strip_prefix("signal=") {
            Some(name) => watch::parse_signal(name).map(OnChange::Signal),
            None => Err("write restart, signal or signal=NAME".to_owned()),
        },
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("write, for example, 10s".to_owned());
    }
    Ttl::parse(text).map(|span| Duration::from_secs(span.0)).map_err(|error| error.to_string())
}
