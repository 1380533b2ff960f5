//! `rotate`: a new key for the data.

use clap::Args;
use strongroom::api::rotation::{RotateBody, RotationInfo};

use crate::exit::Failure;
use crate::output::Output;
use crate::settings::Session;
use crate::watch;

/// Target that is no path.
const DATA_KEY: &str = "data-key";

/// `strongroom rotate …`
#[derive(Debug, Args)]
#[command(
    after_help = "strongroom rotate data-key          seals every record anew under a new key, beside normal work
strongroom rotate data-key --deep   gives each value a new key of its own, too

It goes on in the vault when this command is stopped, and after a restart: strongroom rotation list"
)]
pub struct RotateArgs {
    /// data-key.
    target: String,
    /// Key of a secret; not with data-key.
    key: Option<String>,
    /// Values get new keys too; without it only the keys of their records are sealed anew.
    #[arg(long)]
    deep: bool,
    /// As fast as possible, at the cost of other requests.
    #[arg(long)]
    full_speed: bool,
    /// Start it and do not wait for its end.
    #[arg(long)]
    no_wait: bool,
}

impl RotateArgs {
    /// # Errors
    /// Not allowed, or the rotation does not end well.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        // A secret at the path `data-key` has a key behind it.
        if self.target != DATA_KEY || self.key.is_some() {
            let what = format!("{} cannot be rotated", self.target);
            return Err(Failure::usage(what, "what can be: strongroom rotate data-key"));
        }
        let rotation = session.client.rotation();
        let started = rotation.rotate(RotateBody { deep: self.deep, full_speed: self.full_speed })?;
        if self.no_wait {
            return out
                .either(&started, || format!("started\nsee how far it is: strongroom rotation show {}", started.id));
        }
        let ended = watch::wait(session, started)?;
        out.either(&ended, || report(&ended, self.deep))?;
        watch::verdict(&ended)
    }
}

fn report(run: &RotationInfo, deep: bool) -> String {
    let mut text = watch::outcome(run);
    if run.state != "done" {
        return text;
    }
    text.push_str(&format!(
        "\nSafe now: the keys of {} are destroyed, and nothing in this store is under them.\n\
         Not safe by this: backups and copies of the store from before, which hold the old keys, sealed under the root key\n\
         of their time. Delete them when you do not need them any more.",
        run.target
    ));
    if !deep {
        text.push_str("\nValues kept their own keys, sealed anew under the new one; --deep replaces those too.");
    }
    text
}
