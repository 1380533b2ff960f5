//! `rotate`: rotates the data key, or values.

use clap::Args;
use strongroom::api::rotation::{RotateBody, RotationInfo, ValueInfo};

use super::value;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;

/// Target that is not a path.
const DATA_KEY: &str = "data-key";

/// `strongroom rotate …`
#[derive(Debug, Args)]
#[command(
    after_help = "strongroom rotate data-key          re-encrypts every record with a new key, during normal operation
strongroom rotate data-key --deep   gives each value a new key of its own, too
strongroom rotate app/prod DB_PASSWORD   a new value for one key, by its policy (strongroom rotation set)
strongroom rotate --due                  all values that are due
strongroom rotate --all app/             all values with a policy below a folder

The rotation continues in the vault when this command is stopped, and after a restart: strongroom rotation list"
)]
pub struct RotateArgs {
    /// data-key, or the path of a secret.
    #[arg(required_unless_present_any = ["due", "all"])]
    target: Option<String>,
    /// Key of the secret; not with data-key.
    key: Option<String>,
    /// Rotate every value that is due or overdue.
    #[arg(long, conflicts_with_all = ["target", "all", "deep", "full_speed"])]
    due: bool,
    /// Rotate every value with a policy below this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["target", "deep", "full_speed"])]
    all: Option<String>,
    /// Give every value a new key too; otherwise only the keys of the records are re-wrapped.
    #[arg(long)]
    deep: bool,
    /// Run at full speed; other requests become slower.
    #[arg(long)]
    full_speed: bool,
    /// Start the rotation and do not wait for it to finish.
    #[arg(long)]
    no_wait: bool,
}

impl RotateArgs {
    /// # Errors
    /// Not allowed, or the rotation does not complete.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        // A secret at the path `data-key` needs a key after it.
        if self.target.as_deref() != Some(DATA_KEY) || self.key.is_some() {
            return self.values(session, out);
        }
        let rotation = session.client.rotation();
        let started = rotation.rotate(RotateBody { deep: self.deep, full_speed: self.full_speed })?;
        if self.no_wait {
            return out
                .either(&started, || format!("started\nsee its progress: strongroom rotation show {}", started.id));
        }
        let ended = progress::wait(session, started)?;
        out.either(&ended, || report(&ended, self.deep))?;
        progress::verdict(&ended)
    }
}

impl RotateArgs {
    fn values(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let chosen: Vec<(String, String)> = match (&self.target, &self.key) {
            (Some(path), Some(key)) => {
                vec![(value::full(session, path)?, key.clone())]
            }
            (Some(path), None) => {
                let hint = "strongroom rotate PATH KEY, or strongroom rotate data-key";
                return Err(Failure::usage(format!("name the key of {path} to rotate"), hint));
            }
            (None, _) => self.many(session)?,
        };
        let mut rotated: Vec<ValueInfo> = Vec::new();
        let mut failed = None;
        for (path, key) in &chosen {
            let done = value::rotate(session, path, key, !self.no_wait);
            match done.and_then(|info| if self.no_wait { Ok(info) } else { value::verdict(&info).map(|()| info) }) {
                Ok(info) => rotated.push(info),
                Err(error) if chosen.len() == 1 => return Err(error),
                // A failure must not keep the others from being rotated.
                Err(error) => {
                    eprintln!("{path} {key}: {}", error.message);
                    failed = Some(error);
                }
            }
        }
        out.either(&rotated, || match rotated.is_empty() {
            true => "nothing to rotate".to_owned(),
            false => rotated.iter().map(value::report).collect::<Vec<_>>().join("\n"),
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Keys that are due, or that are below a folder, except those with a running rotation.
    fn many(&self, session: &Session) -> Result<Vec<(String, String)>, Failure> {
        let folder = self.all.as_ref().map(|folder| {
            let folder = folder.trim_matches('/');
            let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            format!("{}/{below}", session.mount.trim_matches('/'))
        });
        let values = session.client.rotation().values(None)?;
        let wanted = |value: &&ValueInfo| match &folder {
            Some(folder) => value.path.starts_with(folder) || format!("{}/", value.path) == *folder,
            None => value.overdue,
        };
        let at_rest = |value: &&ValueInfo| matches!(value.state.as_str(), "idle" | "promoted") && !value.paused;
        let chosen = values.iter().filter(wanted).filter(at_rest);
        Ok(chosen.map(|value| (value.path.clone(), value.key.clone())).collect())
    }
}

fn report(run: &RotationInfo, deep: bool) -> String {
    let mut text = progress::outcome(run);
    if run.state != "done" {
        return text;
    }
    text.push_str(&format!(
        "\nSafe now: the keys of {} are destroyed, and nothing in this store is encrypted with them.\n\
         Not safe yet: older backups and copies of the store. They contain the old keys, sealed with the root key\n\
         of that time. Delete them when you no longer need them.",
        run.target
    ));
    if !deep {
        text.push_str(
            "\nValues keep their own keys, which are now encrypted with the new one; --deep replaces those too.",
        );
    }
    text
}
