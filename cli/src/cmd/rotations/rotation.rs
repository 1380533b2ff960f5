//! `rotation`: shows and controls rotations, and sets when the data key rotates automatically.

use clap::Subcommand;
use strongroom::api::duration::Ttl;
use strongroom::api::rotation::{RotateConfig, RotationInfo, TermInfo};
use strongroom::api::sys::in_records;
use strongroom::client::RotateConfigChange;

use super::value;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::progress;
use crate::prompt;
use crate::table::{self, NOTHING};

/// What the words in the column `state` mean.
const STATES: &str = "States of a value:
  idle            nothing to do until the next rotation
  generating      a program is asked for a new value
  staged          a new value is stored; it goes to the target next
  applying        it is on its way to the target
  applied         the target has it; it is tried next
  verified        it works at the target; it is used next
  promoted        the new value is in use; the previous one stays valid until its grace ends
  rolling-back    the new value did not work; going back to the current one
  needs-operator  stopped: see the error, then strongroom rotation resume PATH KEY
  overdue         the time of its rotation has passed
  stuck           its rotation makes no progress
  paused          an operator paused it
More about them: docs/rotation.md, \"States\". States of keys: there, \"Common to slots, root key and data key\".";

/// `strongroom rotation …`
#[derive(Debug, Subcommand)]
pub enum RotationCommand {
    /// List key rotations (oldest first), authorities and certificates with their due dates, and values with a rotation
    /// policy.
    #[command(after_help = STATES)]
    List,
    /// Set the rotation policy of one key of a secret.
    Set(value::SetArgs),
    /// Remove the rotation policy of one key of a secret; the secret stays.
    Forget {
        /// Path of the secret.
        path: String,
        /// Key within it.
        key: String,
    },
    /// Show a rotation: progress, steps, and what was proved.
    Show {
        /// Rotation identifier from the list, or the path of a secret.
        id: String,
        /// Key of the secret.
        key: Option<String>,
    },
    /// Pause a rotation.
    Pause {
        /// Rotation identifier, or the path of a secret.
        id: String,
        /// Key of the secret.
        key: Option<String>,
    },
    /// Resume a rotation that was paused or that needed an operator.
    Resume {
        /// Rotation identifier, or the path of a secret.
        id: String,
        /// Key of the secret.
        key: Option<String>,
        /// Run at full speed; other requests become slower.
        #[arg(long)]
        full_speed: bool,
    },
    /// Abort a rotation; the old keys stay until the next one.
    Abort {
        /// Rotation identifier, or the path of a secret.
        id: String,
        /// Key of the secret.
        key: Option<String>,
        /// Do not ask for confirmation.
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Show or set when the data key rotates automatically.
    Config {
        /// Rotate after this time, such as 90d or 12h; 0 means never.
        #[arg(long, value_name = "SPAN", value_parser = span)]
        interval: Option<Ttl>,
        /// Rotate after this many records were sealed, 1000 to 1073741824.
        #[arg(long, value_name = "N")]
        max_operations: Option<u64>,
        /// Whether the data key rotates automatically at all.
        #[arg(long, value_name = "BOOL")]
        enabled: Option<bool>,
    },
    /// List the terms of the data key.
    Terms,
}

fn span(text: &str) -> Result<Ttl, String> {
    Ttl::parse(text).map_err(|error| error.to_string())
}

impl RotationCommand {
    /// # Errors
    /// No such rotation, not allowed, or it cannot be controlled any more.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let rotation = session.client.rotation();
        match self {
            Self::List => list(session, out),
            Self::Set(args) => args.run(session, out),
            Self::Forget { path, key } => {
                let gone = rotation.value_order(&value::full(session, path)?, key, "forget")?;
                out.either(&gone, || format!("{} {key} is no longer rotated", gone.path))
            }
            // With a key, `id` is the path of a secret, and the rotation is that of one value.
            Self::Show { id, key: Some(key) } => {
                let value = value::one(session, &value::full(session, id)?, key)?;
                out.either(&value, || value::line(&value))
            }
            Self::Pause { id, key: Some(key) } => steer(session, out, id, key, "pause"),
            Self::Resume { id, key: Some(key), .. } => steer(session, out, id, key, "resume"),
            Self::Abort { id, key: Some(key), .. } => steer(session, out, id, key, "abort"),
            Self::Show { id, .. } => {
                let run = rotation.rotation(id)?.ok_or_else(|| unknown(id))?;
                out.either(&run, || shown(&run))
            }
            Self::Pause { id, .. } => {
                let run = rotation.pause(id).map_err(|error| steering(error.into(), id))?;
                out.either(&run, || format!("{id} is paused\ncontinue with: strongroom rotation resume {id}"))
            }
            Self::Resume { id, full_speed, .. } => {
                let fast = full_speed.then_some(true);
                let run = rotation.resume(id, fast).map_err(|error| steering(error.into(), id))?;
                out.either(&run, || format!("{id} continues\nsee its progress: strongroom rotation show {id}"))
            }
            Self::Abort { id, yes, .. } => {
                if !yes {
                    prompt::confirm(&format!("Abort {id}? The older keys stay until the next rotation."))?;
                }
                let run = rotation.abort(id).map_err(|error| steering(error.into(), id))?;
                out.either(&run, || format!("{id} is aborted\n{}", progress::summary(&run)))
            }
            Self::Config { interval, max_operations, enabled } => {
                let (enabled, max_operations) = (*enabled, *max_operations);
                let interval_s = interval.map(|ttl| ttl.0);
                configure(session, out, &RotateConfigChange { enabled, max_operations, interval_s })
            }
            Self::Terms => {
                let terms = rotation.terms()?;
                out.either(&terms, || terms.iter().map(term).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

/// Everything that is rotated: a table of keys and certificates, and one of values.
fn list(session: &Session, out: &Output) -> Result<(), Failure> {
    let rotation = session.client.rotation();
    let (listed, values) = (rotation.rotations()?, rotation.values(None)?);
    let (runs, certificates) = (&listed.rotations, &listed.certificates);
    let shown = serde_json::json!({ "rotations": runs, "certificates": certificates, "values": values });
    out.either(&shown, || {
        let keys: Vec<_> = runs.iter().chain(certificates).map(row).collect();
        let values: Vec<_> = values.iter().map(value::row).collect();
        let keys = table::text(["id", "kind", "state", "started", "done", "due", "target"], &keys, "");
        let values = table::text(["value", "state", "next rotation", "error"], &values, "");
        let tables = [keys, values].into_iter().filter(|table| !table.is_empty());
        tables.collect::<Vec<_>>().join("\n\n")
    })
}

/// Changes when the data key rotates, and shows it. Without options the command only shows it.
fn configure(session: &Session, out: &Output, change: &RotateConfigChange) -> Result<(), Failure> {
    let rotation = session.client.rotation();
    if *change != RotateConfigChange::default() {
        rotation.set_config(change).map_err(|error| {
            let failure = Failure::from(error);
            let hint = "nothing was changed; see: strongroom rotation config --help".into();
            if failure.code == Code::Refused { Failure { hint, ..failure } } else { failure }
        })?;
    }
    let config = rotation.config()?;
    out.either(&config, || in_words(config))
}

/// Pauses, resumes or aborts the rotation of a value.
fn steer(session: &Session, out: &Output, path: &str, key: &str, action: &str) -> Result<(), Failure> {
    let value = session.client.rotation().value_order(&value::full(session, path)?, key, action)?;
    out.either(&value, || value::line(&value))
}

fn unknown(id: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no rotation {id}"), "list them: strongroom rotation list")
}

fn steering(failure: Failure, id: &str) -> Failure {
    match failure.code {
        Code::NotFound => unknown(id),
        Code::Refused => Failure { hint: format!("see its progress: strongroom rotation show {id}"), ..failure },
        _ => failure,
    }
}

fn state(run: &RotationInfo) -> &str {
    if run.paused && run.finished.is_empty() { "paused" } else { &run.state }
}

fn row(run: &RotationInfo) -> [String; 7] {
    let amount = if run.total > 0 { format!("{} of {}", run.done, run.total) } else { NOTHING.to_owned() };
    let time = |text: &str| if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() };
    let why = run.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let what = format!("{}{why}", run.target);
    let (started, due) = (time(&run.started), time(&run.due));
    [run.id.clone(), run.kind.clone(), state(run).to_owned(), started, amount, due, what]
}

fn shown(run: &RotationInfo) -> String {
    let mut text = format!("{} of {}\nstarted {}, changed {}", run.kind, run.target, run.started, run.updated);
    if !run.finished.is_empty() {
        text.push_str(&format!(", ended {}", run.finished));
    }
    if run.total > 0 {
        let speed = if run.full_speed { "at full speed" } else { "throttled" };
        text.push_str(&format!("\n{} of {}, {speed}", run.done, in_records(run.total)));
    }
    if let Some(error) = &run.error {
        text.push_str(&format!("\nneeds an operator: {error}"));
    }
    text.push('\n');
    text.push_str(&progress::summary(run));
    text
}

fn term(term: &TermInfo) -> String {
    let used = if term.live == 1 { "1 record uses it".to_owned() } else { format!("{} records use it", term.live) };
    format!("term {:<4} {:<13} {} {used}, {} sealed with it", term.term, term.state, term.created, term.seals)
}

fn in_words(config: RotateConfig) -> String {
    if !config.enabled {
        return "the data key is not rotated automatically".to_owned();
    }
    let after = match config.interval_s {
        0 => "at any age".to_owned(),
        seconds if seconds % 86_400 == 0 => format!("after {} days", seconds / 86_400),
        seconds => format!("after {}", Ttl(seconds).go_text()),
    };
    format!("the data key is rotated {after}, or after {}", in_records(config.max_operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_told_in_words() {
        let config = RotateConfig { enabled: true, max_operations: 5_000, interval_s: 90 * 86_400 };
        assert_eq!(in_words(config), "the data key is rotated after 90 days, or after 5000 records");
        assert!(in_words(RotateConfig { interval_s: 0, ..config }).contains("at any age"));
        assert!(in_words(RotateConfig { interval_s: 5_400, ..config }).contains("after 1h30m0s"));
        assert!(in_words(RotateConfig { enabled: false, ..config }).contains("not rotated"));
    }
}
