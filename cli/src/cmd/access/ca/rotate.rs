//! `ca rotate`: the step that is due in a change of authority.

use clap::Args;
use strongroom::api::identities::AuthorityInfo;

use super::authorities::shown;
use super::step::{MISSING, prepare, report, step};
use crate::connection::{Connection, Session};
use crate::environment::now_ms;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;

/// `strongroom ca rotate`
#[derive(Debug, Args)]
#[command(
    after_help = "Repeat this command until it reports that the change is complete: prepare, trust, activate, remove."
)]
pub struct RotateArgs {
    /// Continue even though some clients are not ready; they lose access.
    #[arg(long)]
    force: bool,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

/// The next step in a change of authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due<'a> {
    /// No change is running: prepare the next authority.
    Prepare,
    /// Trust this one.
    Trust(&'a str),
    /// Sign with this one.
    Activate(&'a str),
    /// Destroy the key of this one.
    Remove(&'a str),
}

impl<'a> Due<'a> {
    /// The next step for these authorities. A running change is finished before another one starts.
    fn of(authorities: &'a [AuthorityInfo]) -> Self {
        let first = |state: &str| authorities.iter().find(|found| found.state == state).map(|found| found.id.as_str());
        first("trusted")
            .map(Self::Activate)
            .or_else(|| first("prepared").map(Self::Trust))
            .or_else(|| first("retiring").map(Self::Remove))
            .unwrap_or(Self::Prepare)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Trust(_) => "trust",
            Self::Activate(_) => "activate",
            Self::Remove(_) => "remove",
        }
    }
}

impl RotateArgs {
    /// # Errors
    /// Not allowed, not confirmed, or some clients are not ready.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let identities = session.client.identities();
        let list = identities.authorities()?;
        eprintln!("{}", shown(&list, now_ms()));
        let due = Due::of(&list.authorities);
        let ask = |question: String| if self.yes { Ok(()) } else { prompt::confirm(&question) };
        match due {
            Due::Prepare => {
                ask("No CA rotation is in progress. Start one?".to_owned())?;
                prepare(session, connection, out, None)
            }
            Due::Trust(id) | Due::Activate(id) => {
                let missing = identities.stragglers()?.identities;
                if !missing.is_empty() && !self.force {
                    let what = format!("the next step, {} {id}, waits for: {}", due.word(), missing.join(", "));
                    return Err(Failure::new(Code::Refused, what, MISSING));
                }
                for name in &missing {
                    eprintln!("loses access: {name}");
                }
                // Trusting one more authority takes nothing away from clients that know it.
                if !missing.is_empty() || matches!(due, Due::Activate(_)) {
                    ask(format!("{} {id}?", due.word()))?;
                }
                step(session, connection, id, due.word(), self.force)?;
                report(session, out, id, due.word())
            }
            Due::Remove(id) => {
                ask(format!("Remove {id} if no certificate that it signed is in use? Its key will be destroyed."))?;
                step(session, connection, id, "remove", self.force)?;
                report(session, out, id, "remove")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(id: &str, state: &str) -> AuthorityInfo {
        AuthorityInfo { id: id.into(), state: state.into(), ..AuthorityInfo::default() }
    }

    #[test]
    fn the_step_that_is_due_ends_what_was_begun() {
        let active = authority("aa", "active");
        let due = |more: &[(&str, &str)]| {
            let all: Vec<_> = more.iter().map(|(id, state)| authority(id, state)).chain([active.clone()]).collect();
            let due = Due::of(&all);
            let id = match due {
                Due::Prepare => String::new(),
                Due::Trust(id) | Due::Activate(id) | Due::Remove(id) => id.to_owned(),
            };
            (due.word(), id)
        };
        assert_eq!(due(&[]), ("prepare", String::new()));
        assert_eq!(due(&[("00", "removed"), ("11", "revoked")]), ("prepare", String::new()));
        assert_eq!(due(&[("bb", "prepared")]), ("trust", "bb".into()));
        assert_eq!(due(&[("bb", "trusted")]), ("activate", "bb".into()));
        assert_eq!(due(&[("bb", "retiring")]), ("remove", "bb".into()));
        assert_eq!(due(&[("bb", "retiring"), ("cc", "prepared")]), ("trust", "cc".into()), "the newer one first");
    }
}
