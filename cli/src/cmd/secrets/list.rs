//! `list`: the names in a folder.

use clap::Args;
use strongroom::api::path::Path;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::folder_path;

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
