//! `delete`: deletes, destroys or restores versions of a secret, or removes all of it.

use clap::Args;
use strongroom::api::kv::Metadata;
use strongroom::api::path::Path;

use crate::cmd::no_secret;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;
use crate::prompt;

/// `strongroom delete PATH`
#[derive(Debug, Args)]
#[command(after_help = "Without options the newest version is marked as deleted, which can be undone with --undelete.
--destroy removes the content of versions for good; --all removes every version and the name.")]
pub struct DeleteArgs {
    /// Path of the secret.
    path: String,
    /// Delete these versions instead of the newest, for example 3,4.
    #[arg(long, value_delimiter = ',', value_name = "N,…", conflicts_with = "all")]
    versions: Vec<u64>,
    /// Destroy the content of --versions permanently.
    #[arg(long, requires = "versions")]
    destroy: bool,
    /// Undelete --versions.
    #[arg(long, requires = "versions", conflicts_with = "destroy")]
    undelete: bool,
    /// Remove the secret with all versions and metadata, permanently.
    #[arg(long)]
    all: bool,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

impl DeleteArgs {
    /// # Errors
    /// No such secret, not confirmed, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let path = secret_path(&self.path, &session.mount)?;
        let what = self.plan(&path);
        let Some(metadata) = session.kv().metadata(&path)? else { return Err(no_secret(session, &path)) };
        if self.undelete {
            self.check_deleted(&path, &metadata)?;
        }
        if !self.yes && !self.undelete {
            prompt::confirm(&format!("{what}?"))?;
        }
        let kv = session.kv();
        match (self.all, self.versions.is_empty()) {
            (true, _) => kv.delete_metadata(&path)?,
            (false, true) => kv.delete(&path)?,
            (false, false) if self.destroy => kv.destroy(&path, &self.versions)?,
            (false, false) if self.undelete => kv.undelete(&path, &self.versions)?,
            (false, false) => kv.delete_versions(&path, &self.versions)?,
        }
        out.either(&serde_json::json!({"path": path.as_str(), "done": what}), || format!("done: {what}"))
    }

    /// Rejects a request to restore versions of which none can be restored.
    fn check_deleted(&self, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        let why = |version: &u64| match metadata.versions.get(version) {
            None => Some(format!("version {version} does not exist")),
            Some(state) if state.destroyed => Some(format!("version {version} was destroyed")),
            Some(state) if state.deletion_time.is_empty() => Some(format!("version {version} is not deleted")),
            Some(_) => None,
        };
        let reasons: Option<Vec<String>> = self.versions.iter().map(why).collect();
        match reasons {
            Some(reasons) => {
                let deleted = metadata.versions.iter().filter(|(number, _)| why(number).is_none());
                let deleted: Vec<String> = deleted.map(|(number, _)| number.to_string()).collect();
                let deleted = if deleted.is_empty() { "none".to_owned() } else { deleted.join(", ") };
                let hint = format!("deleted versions of {path}: {deleted}");
                Err(Failure::new(Code::Refused, format!("nothing to undelete: {}", reasons.join(", ")), hint))
            }
            None => Ok(()),
        }
    }

    fn plan(&self, path: &Path) -> String {
        let list = self.versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match (self.all, self.versions.is_empty()) {
            (true, _) => format!("permanently remove {path} with all versions"),
            (false, true) => format!("mark the newest version of {path} as deleted"),
            (false, false) if self.destroy => format!("permanently destroy the content of versions {list} of {path}"),
            (false, false) if self.undelete => format!("undelete versions {list} of {path}"),
            (false, false) => format!("mark versions {list} of {path} as deleted"),
        }
    }
}
