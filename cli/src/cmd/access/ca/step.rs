//! One step of an authority: requests it, reports it, and says what comes next.

use clap::Args;
use strongroom::api::error::Reason;

use super::authorities::pick;
use crate::connection::{Connection, Session, Target};
use crate::environment::environment;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::profile::Profiles;
use crate::prompt;
use crate::renewal;

/// What to do about clients that are not ready.
pub const MISSING: &str = "clients get it at their next renewal, or now with: strongroom renew (you too); list clients without it: \
                       strongroom ca stragglers; --force continues without them, and they lose access";

/// A step that clients may delay.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// Identifier of the authority, or the beginning of it.
    pub id: String,
    /// Continue even though some clients are not ready; they lose access.
    #[arg(long)]
    pub force: bool,
}

/// A step that cannot be undone.
#[derive(Debug, Args)]
pub struct FinalArgs {
    #[command(flatten)]
    step: StepArgs,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

impl StepArgs {
    /// # Errors
    /// Not allowed, no such authority, some clients are not ready, or not confirmed.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output, verb: &str) -> Result<(), Failure> {
        let list = session.client.identities().authorities()?;
        let id = pick(&list.authorities, &self.id)?.id.clone();
        step(session, connection, &id, verb, self.force)?;
        report(session, out, &id, verb)
    }
}

impl FinalArgs {
    /// # Errors
    /// Not allowed, no such authority, some clients are not ready, or not confirmed.
    pub fn run(
        &self,
        session: &Session,
        connection: &Connection,
        out: &Output,
        verb: &str,
        plan: &str,
    ) -> Result<(), Failure> {
        let list = session.client.identities().authorities()?;
        let authority = pick(&list.authorities, &self.step.id)?;
        let id = authority.id.clone();
        eprintln!("authority {id}, {}: {plan}", authority.state);
        if !self.yes {
            prompt::confirm(&format!("{verb} {id}? This cannot be undone."))?;
        }
        step(session, connection, &id, verb, self.step.force)?;
        report(session, out, &id, verb)
    }
}

/// Prepares the next authority.
///
/// # Errors
/// Not allowed, or some clients are not ready.
pub fn prepare(session: &Session, connection: &Connection, out: &Output, life_s: Option<u64>) -> Result<(), Failure> {
    let id = session.client.identities().prepare_authority(life_s).map_err(|error| {
        let failure = Failure::from(error);
        match failure.code {
            Code::Refused => Failure { hint: "see their stages: strongroom ca list".into(), ..failure },
            _ => failure,
        }
    })?;
    learn(connection);
    report(session, out, &id, "prepare")
}

/// Puts the authorities into the profile in use. Otherwise this client could not verify the vault's certificate after a
/// change. A failure is reported but does not end the command.
pub fn learn(connection: &Connection) {
    let learned = Profiles::locate(&environment)
        .and_then(|profiles| Target::resolve(connection, &environment, &profiles))
        .and_then(|target| match &target.folder {
            Some(folder) => renewal::learn(folder, connection, &environment).map(drop),
            None => Ok(()),
        });
    if let Err(failure) = learned {
        eprintln!("your own CA file was not updated: {}; update it with: strongroom renew", failure.message);
    }
}

/// Requests one step. A rejection says what to try.
///
/// # Errors
/// Not allowed, or some clients are not ready.
pub fn step(session: &Session, connection: &Connection, id: &str, verb: &str, force: bool) -> Result<(), Failure> {
    if matches!(verb, "trust" | "activate") {
        learn(connection);
    }
    session.client.identities().authority_step(id, verb, force).map_err(|error| {
        let reason = error.reason();
        let failure = Failure::from(error);
        let hint = match (failure.code, verb) {
            (Code::Refused, "activate") if reason == Some(Reason::EnrolmentsOpen) => {
                "list them: strongroom enroll list; wait until they are used, delete them, or invalidate them with --force"
            }
            (Code::Refused, "trust" | "activate") if reason == Some(Reason::ForceNeeded) => MISSING,
            (Code::Refused, "remove") if reason == Some(Reason::ForceNeeded) => {
                "wait until they have renewed their certificates, or continue with --force: they lose access"
            }
            (Code::Refused, "revoke") if reason == Some(Reason::OwnCertificate) => "strongroom renew, then try again",
            (Code::Refused | Code::NotFound, _) => "see their stages: strongroom ca list",
            _ => return failure,
        };
        Failure { hint: hint.to_owned(), ..failure }
    })
}

/// Reports what was done, and what comes next.
///
/// # Errors
/// The authorities may not be listed.
pub fn report(session: &Session, out: &Output, id: &str, verb: &str) -> Result<(), Failure> {
    let list = session.client.identities().authorities()?;
    let state = list.authorities.iter().find(|found| found.id == id).map_or("gone", |found| found.state.as_str());
    let done = serde_json::json!({ "id": id, "step": verb, "state": state, "authorities": list.authorities });
    out.either(&done, || {
        let next = match verb {
            "prepare" => "next, when all clients have it: strongroom ca rotate",
            "trust" => "its certificates are accepted; next: strongroom ca rotate",
            "activate" => "it signs from now on; next, when the old certificates have expired: strongroom ca rotate",
            "remove" => "the change is complete when no authority is retiring: strongroom ca list",
            "taint" => "replace it: strongroom ca rotate",
            _ => "see their stages: strongroom ca list",
        };
        format!("{id} is {state}\n{next}")
    })
}
