//! `list` and `delete`.

use clap::Args;
use strongroom::api::path::Path;

use super::no_secret;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::{folder_path, secret_path};
use crate::prompt;

/// `strongroom list [FOLDER]`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Folder to list. Default: the top of the mount.
    #[arg(default_value = "")]
    folder: String,
    /// List subfolders too.
    #[arg(short = 'r', long, conflicts_with_all = ["after", "limit"])]
    recursive: bool,
    /// List only names that sort after this one. It need not exist.
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    /// List at most this many names.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl ListArgs {
    /// # Errors
    /// No such folder, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let folder = folder_path(&self.folder, &session.mount)?.to_folder();
        let mut found = Vec::new();
        let page = self.after.is_some() || self.limit.is_some();
        if page {
            let after = self.after.as_deref().unwrap_or_default();
            found = session.kv().list_page(&folder, after, self.limit.unwrap_or_default())?;
        } else {
            self.collect(session, &folder, "", &mut found)?;
        }
        // The page after the last one is empty, which is not an error.
        if found.is_empty() && self.after.is_none() {
            let hint = "a folder that you may not list looks the same: check your policies with strongroom can-i list";
            return Err(Failure::new(
                Code::NotFound,
                format!("there is nothing below {}/{folder}", session.mount),
                hint,
            ));
        }
        out.either(&found, || found.join("\n"))
    }

    /// Collects the names below `folder`, each with `prefix`. If recursive, folders are followed instead of printed.
    fn collect(&self, session: &Session, folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result<(), Failure> {
        for name in session.kv().list(folder)? {
            let shown = format!("{prefix}{name}");
            match name.strip_suffix('/') {
                Some(inner) if self.recursive => {
                    let below =
                        folder.join(inner).map_err(|error| Failure::new(Code::Refused, error.to_string(), ""))?;
                    self.collect(session, &below.to_folder(), &shown, found)?;
                }
                _ => found.push(shown),
            }
        }
        Ok(())
    }
}

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
        if session.kv().metadata(&path)?.is_none() {
            return Err(no_secret(session, &path));
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
