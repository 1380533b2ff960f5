//! `policy`: reads and writes policies.

use std::io::Read;
use std::path::PathBuf;

use clap::Subcommand;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::output::Output;
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
                sys.put_policy(name, &policy_text(file)?).map_err(|error| rejected(error.into(), file))?;
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

/// Says what to do about a policy that the vault does not accept. Its message begins with line and column.
fn rejected(failure: Failure, file: &std::path::Path) -> Failure {
    if failure.code != Code::Refused || !failure.hint.is_empty() {
        return failure;
    }
    let hint = format!("nothing was changed; correct {} (the numbers are line:column), then repeat", file.display());
    Failure { hint, ..failure }
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
