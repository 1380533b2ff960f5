//! `shred`: destroys a secret as far as software can, and says what remains.

use clap::Args;
use strongroom::api::rotation::RotateBody;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;
use crate::progress;
use crate::prompt;

/// `strongroom shred PATH`
#[derive(Debug, Args)]
#[command(after_help = "Three levels, and what each leaves:
  delete    strongroom delete PATH        can be undone
  destroy   strongroom shred --destroy    the keys of its versions leave the store in one commit; the vault can never
                                          return them; old bytes stay in free space and in backups
  shred     strongroom shred PATH         also a new data key: everything else is resealed and the old key is
                                          destroyed, so old bytes of this store open with no key that is in it now

After a shred an old copy of the header still opens old copies of the store with any passphrase of that time. To prevent
that as well: strongroom rekey, and delete the backups from before.")]
pub struct ShredArgs {
    /// Path of the secret.
    path: String,
    /// Only destroy it; the data key stays.
    #[arg(long)]
    destroy: bool,
    /// Run at full speed; other requests become slower.
    #[arg(long)]
    full_speed: bool,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

impl ShredArgs {
    /// # Errors
    /// No such secret, not allowed, or the rotation of the data key does not complete.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let kv = session.kv();
        let path = &secret_path(&self.path, &session.mount)?;
        let metadata = kv.metadata(path)?.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("there is no secret {path}"), "list what exists: strongroom list")
        })?;
        let versions = metadata.versions.len();
        let and =
            if self.destroy { "" } else { ", then replace the data key of the whole vault and destroy the old one" };
        eprintln!("{path}: permanently destroy {versions} versions and its history{and}");
        if !self.yes {
            prompt::confirm("This cannot be undone. Continue?")?;
        }
        // Before the rotation, which would otherwise give the secret the new data key.
        kv.delete_metadata(path)?;
        let done = "destroyed: the vault can never return it; old bytes stay in free space and backups";
        if self.destroy {
            return out.either(&serde_json::json!({ "path": path.as_str(), "level": "destroy" }), || done.to_owned());
        }
        eprintln!("{done}");
        let order = RotateBody { deep: false, full_speed: self.full_speed };
        let ended = progress::wait(session, session.client.rotation().rotate(order)?)?;
        let shown = serde_json::json!({ "path": path.as_str(), "level": "shred", "rotation": ended });
        out.either(&shown, || {
            format!(
                "{}\nSafe now: no key in this vault opens the old bytes of {path}.\nNot safe yet: an old copy of the \
                 header opens an old copy of the store with any passphrase of that time. Prevent that with: strongroom rekey, \
                 and delete older backups.",
                progress::outcome(&ended)
            )
        })?;
        progress::verdict(&ended)
    }
}
