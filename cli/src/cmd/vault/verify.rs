//! `verify`: checks all records while the vault keeps serving.

use std::time::Duration;

use clap::Args;
use strongroom::api::sys::{Verification, in_records};

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::visible::visible;
use crate::waiting::{Lasting, Line};

/// Time between two requests for the progress.
const POLL: Duration = Duration::from_millis(500);

/// `strongroom verify`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 if every record is intact, 1 if not. The check continues in the vault if you stop this command;
running it again shows the same check. While the daemon is stopped: strongroomd storage verify"
)]
pub struct VerifyArgs {
    /// Maximum records per second, 100 to 1000000 (default 5000). Ignored if a check is already running.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    records_per_second: Option<u64>,
    /// Start the check and do not wait for it to finish.
    #[arg(long, conflicts_with = "status")]
    no_wait: bool,
    /// Show the current or last check without starting one.
    #[arg(long, conflicts_with = "records_per_second")]
    status: bool,
}

impl VerifyArgs {
    /// # Errors
    /// Not allowed; a damaged record or an unfinished check (exit code 1).
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let sys = session.client.sys();
        if self.status {
            let shown = sys.verification()?;
            out.either(&shown, || report(&shown))?;
            return if shown.state == "running" || shown.state == "none" { Ok(()) } else { verdict(&shown) };
        }
        let started = sys.verify(self.records_per_second)?;
        if self.no_wait {
            return out.either(&started, || "started\nsee its progress: strongroom verify --status".to_owned());
        }
        let ended = wait(session, started)?;
        out.either(&ended, || report(&ended))?;
        verdict(&ended)
    }
}

/// Waits for the end, and shows the progress on standard error. Meanwhile the certificate of a profile is renewed when it
/// is due.
fn wait(session: &Session, started: Verification) -> Result<Verification, Failure> {
    let (mut shown, mut line, mut session) = (started, Line::new(), Lasting::new(session));
    while shown.state == "running" {
        line.show(&progress(&shown), &shown.state);
        std::thread::sleep(POLL);
        session.renew(|| line.end());
        match session.now().client.sys().verification() {
            Ok(next) => shown = next,
            Err(error) => {
                line.end();
                return Err(error.into());
            }
        }
    }
    line.end();
    Ok(shown)
}

fn progress(shown: &Verification) -> String {
    let Verification { records, total, failed, records_per_second, .. } = shown;
    let bad = if *failed > 0 { format!(", {failed} damaged") } else { String::new() };
    format!("checking: {records} of {}{bad}, at most {records_per_second} per second", in_records(*total))
}

fn report(shown: &Verification) -> String {
    let Verification { state, started, records, failed, bad, set_hash, error, .. } = shown;
    let records = in_records(*records);
    let mut text = match state.as_str() {
        "none" => return "no check has run since the vault was unsealed; start one: strongroom verify".to_owned(),
        "running" => return progress(shown),
        "done" => format!("{records} checked, started {started}: "),
        _ => format!("stopped after {records} ({error}): "),
    };
    text.push_str(&match failed {
        0 if state == "done" => "all of them are intact".to_owned(),
        more => format!("{more} damaged"),
    });
    for bad in bad {
        text.push_str(&format!("\n  {}", visible(&bad.to_string())));
    }
    let unnamed = usize::try_from(*failed).unwrap_or(usize::MAX).saturating_sub(bad.len());
    if unnamed > 0 {
        text.push_str(&format!("\n  and {unnamed} more"));
    }
    match set_hash {
        Some(true) => text.push_str("\nthe checksum over all records matches the sealed state"),
        Some(false) => text.push_str("\nthe checksum over all records does NOT match the sealed state"),
        None if state == "done" => {
            text.push_str("\nthe checksum over all records was not compared: the keys were replaced meanwhile");
        }
        None => {}
    }
    text
}

/// Hint when only another check can tell.
const AGAIN: &str = "start it again: strongroom verify";

/// Turns the result of a check into an exit code.
///
/// # Errors
/// A record is damaged, or the check did not finish, or it does not prove that every record is intact.
fn verdict(shown: &Verification) -> Result<(), Failure> {
    if shown.failed > 0 || shown.set_hash == Some(false) {
        let hint = "stop the daemon and restore the store from a backup; if there is none: strongroomd storage salvage";
        return Err(Failure::new(Code::Refused, "the check found damage", hint));
    }
    if shown.state != "done" {
        let message = format!("the check did not finish: {}", shown.error);
        return Err(Failure::new(Code::Refused, message, AGAIN));
    }
    // An older vault does not say whether the check was clean.
    if shown.clean == Some(false) {
        let what = match shown.set_hash {
            None => "the checksum over all records was not compared",
            Some(_) => "a damaged record was found while the check ran, or the audit log did not take its end",
        };
        return Err(Failure::new(Code::Refused, format!("the check proves nothing: {what}"), AGAIN));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_proves_nothing_is_no_success() {
        let done = || Verification { state: "done".to_owned(), records: 1, total: 1, ..Verification::default() };
        let clean = Verification { set_hash: Some(true), clean: Some(true), ..done() };
        assert!(verdict(&clean).is_ok());
        assert!(report(&clean).starts_with("1 record checked"), "{}", report(&clean));
        assert!(verdict(&Verification { clean: None, ..clean.clone() }).is_ok(), "an older vault does not say it");
        assert!(verdict(&Verification { clean: Some(false), ..clean }).is_err());
        let uncompared = Verification { clean: Some(false), ..done() };
        assert!(verdict(&uncompared).is_err() && report(&uncompared).contains("was not compared"));
    }
}
