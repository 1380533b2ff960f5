//! `expiry`: which values expire, and when.

use clap::Args;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output::Output;

/// `strongroom expiry`
#[derive(Debug, Args)]
#[command(after_help = "Set a date with: strongroom rotation set PATH KEY ... --expires 2027-03-31
Reminders go to the daemon's log 30, 7 and 1 days before, and `strongroom status` counts the values that expire within 30 days.")]
pub struct ExpiryArgs {
    /// Only values that expire within this many days.
    #[arg(long, value_name = "DAYS")]
    within: Option<i64>,
}

impl ExpiryArgs {
    /// # Errors
    /// Not allowed (exit code 5), or the vault cannot be reached (6).
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let mut values = session.client.rotation().values(None)?;
        values
            .retain(|value| value.expires_in_days.is_some_and(|days| self.within.is_none_or(|within| days <= within)));
        values.sort_by_key(|value| value.expires_in_days);
        out.either(&values, || {
            if values.is_empty() {
                return "no value has an expiry date".to_owned();
            }
            let line = |value: &strongroom::api::rotation::ValueInfo| {
                format!("{} {} {}", value.path, value.key, in_words(value.expires_in_days.unwrap_or(0)))
            };
            values.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }
}

/// One line for the output of `status`; `None` when nothing expires soon. Values that the caller may not see are not
/// counted, and a failed lookup does not fail the command.
pub fn warning(session: &Session) -> Option<String> {
    const SOON_DAYS: i64 = 30;
    let values = session.client.rotation().values(None).ok()?;
    let soon = values.iter().filter(|value| value.expires_in_days.is_some_and(|days| days <= SOON_DAYS)).count();
    let stuck = values.iter().filter(|value| value.stuck).count();
    let overdue = values.iter().filter(|value| value.overdue && !value.stuck).count();
    let mut parts = Vec::new();
    if soon > 0 {
        parts.push(format!("{soon} values expire within {SOON_DAYS} days (strongroom expiry)"));
    }
    if stuck + overdue > 0 {
        parts.push(format!("{stuck} rotations are stuck and {overdue} overdue (strongroom rotation list)"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn in_words(days: i64) -> String {
    match days {
        ..=-1 => format!("expired {} days ago", -days),
        0 => "expires today".to_owned(),
        1 => "expires tomorrow".to_owned(),
        days => format!("expires in {days} days"),
    }
}
