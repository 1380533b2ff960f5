//! `can-i`: whether the caller may do something with a path.

use clap::{Args, ValueEnum};

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::folder_path;

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
