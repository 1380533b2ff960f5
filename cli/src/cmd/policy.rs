//! `policy` and `can-i`.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::output::Output;
use crate::paths::folder_path;
use crate::prompt;

/// `strongroom policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the names of all policies.
    List,
    /// Print a policy's text.
    Read {
        /// Name of the policy.
        name: String,
    },
    /// Create or replace a policy, effective with the next request.
    Write {
        /// Name of the policy.
        name: String,
        /// File with the policy (HCL or JSON); - for standard input.
        file: PathBuf,
    },
    /// Remove a policy.
    Delete {
        /// Name of the policy.
        name: String,
        /// Do not ask for confirmation.
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

impl PolicyCommand {
    /// # Errors
    /// No such policy, invalid, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let sys = session.client.sys();
        match self {
            Self::List => {
                let names = sys.policies()?;
                out.either(&names, || names.join("\n"))
            }
            Self::Read { name } => {
                let missing =
                    || Failure::new(Code::NotFound, format!("there is no policy {name}"), "strongroom policy list");
                let policy = sys.policy(name)?.ok_or_else(missing)?;
                out.either(&policy, || policy.policy.trim_end().to_owned())
            }
            Self::Write { name, file } => {
                sys.put_policy(name, &policy_text(file)?)?;
                out.either(&serde_json::json!({"name": name}), || format!("policy {name} written"))
            }
            Self::Delete { name, yes } => {
                if !yes {
                    prompt::confirm(&format!("Remove the policy {name}? Its holders lose what it grants at once."))?;
                }
                sys.delete_policy(name)?;
                out.either(&serde_json::json!({"name": name}), || format!("policy {name} removed"))
            }
        }
    }
}

fn policy_text(file: &std::path::Path) -> Result<String, Failure> {
    let bytes = if file == std::path::Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(1024 * 1024).read_to_end(&mut bytes);
        read.map_err(|error| Failure::usage(format!("reading standard input: {error}"), ""))?;
        bytes
    } else {
        read_file(file)?.to_vec()
    };
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} is not UTF-8", file.display()), ""))
}

/// `strongroom can-i VERB PATH`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 for yes, 1 for no. PATH is a secret such as app/prod; with --api it is an API path."
)]
pub struct CanIArgs {
    /// What you want to do.
    verb: Verb,
    /// Path of a secret or folder.
    path: String,
    /// PATH is a path of the API, such as sys/policies/acl/web.
    #[arg(long)]
    api: bool,
}

/// What can be checked.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Verb {
    /// Read the secret.
    Read,
    /// Create it.
    Create,
    /// Write a new version.
    Update,
    /// Change single keys.
    Patch,
    /// Delete it.
    Delete,
    /// List the folder.
    List,
}

impl CanIArgs {
    /// # Errors
    /// The answer is no (exit code 1).
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let word = match self.verb {
            Verb::Read => "read",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::List => "list",
        };
        let path = match (self.api, self.verb) {
            (true, _) => self.path.clone(),
            (false, Verb::List) => {
                format!("{}/metadata/{}", session.mount, folder_path(&self.path, &session.mount)?.to_folder())
            }
            (false, _) => format!("{}/data/{}", session.mount, folder_path(&self.path, &session.mount)?),
        };
        let reply = session.client.sys().capabilities_self(&[&path])?;
        let granted = reply.paths.get(&path).cloned().unwrap_or_default();
        let yes = granted.iter().any(|capability| capability == word || capability == "root");
        let answer = serde_json::json!({"path": path, "verb": word, "allowed": yes, "capabilities": granted});
        let listed = granted.join(", ");
        out.either(&answer, || format!("{}: {word} {path} (granted: {listed})", if yes { "yes" } else { "no" }))?;
        if yes { Ok(()) } else { Err(Failure::new(Code::Refused, format!("{word} on {path} is not allowed"), "")) }
    }
}
