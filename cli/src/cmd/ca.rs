//! `ca`: the authorities that sign certificates, and moving from one to the next.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use strongroom::api::duration::Ttl;
use strongroom::api::error::Reason;
use strongroom::api::identities::{AuthorityInfo, AuthorityList};

use super::compromise::CompromiseArgs;
use super::span;
use crate::bundle::write_new;
use crate::connection::Connection;
use crate::connection::{Session, Target};
use crate::environment::{environment, now_ms};
use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::output::Output;
use crate::profile::Profiles;
use crate::prompt;
use crate::renewal;
use crate::table;

/// What to do about clients that are not ready.
const MISSING: &str = "each client gets it at its next renewal, or at once with: strongroom renew (you too); list the missing: \
                       strongroom ca stragglers; --force continues without them, and they lose access";

/// `strongroom ca …`
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// List the authorities and the stage each is in.
    List,
    /// Create the next authority. Clients learn of it, but it signs nothing yet.
    Prepare {
        /// Lifetime of its certificate, such as 3650d.
        #[arg(long, value_name = "SPAN", value_parser = span)]
        ttl: Option<Ttl>,
    },
    /// Start an authority under your organisation's own root: print the request for the root's owner to sign.
    Request {
        /// Write it to this new file instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Import the chain that the root's owner signed; the authority is then prepared.
    Import {
        /// PEM file: the authority's certificate first, then intermediates, the root last.
        #[arg(value_name = "FILE")]
        chain: PathBuf,
    },
    /// Accept certificates of a prepared authority. Refused until every client trusts it.
    Trust(StepArgs),
    /// Sign with a trusted authority from now on; the previous one retires. Refused until every client trusts it.
    Activate(StepArgs),
    /// Destroy the key of a retired authority. Refused until its last certificate has expired.
    Remove(FinalArgs),
    /// Mark an authority as tainted: its clients renew early, nothing is cut off.
    Taint {
        /// Its identifier, or the beginning of it.
        id: String,
    },
    /// Destroy an authority's key at once and revoke every certificate it signed.
    Revoke(FinalArgs),
    /// List the identities that do not trust the current authorities yet.
    Stragglers,
    /// Rotate the authority: do the next step, or list the clients it waits for.
    Rotate(RotateArgs),
    /// Respond to a stolen CA key: switch to a new authority at once and revoke everything issued before.
    Compromise(CompromiseArgs),
    /// Print the certificate revocation lists (CRLs) of all authorities, PEM.
    Crl {
        /// Write them to this new file instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// A step that clients may delay.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// Identifier of the authority, or the beginning of it.
    id: String,
    /// Continue even though some clients are not ready; they lose access.
    #[arg(long)]
    force: bool,
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

impl CaCommand {
    /// # Errors
    /// Not allowed, no such authority, some clients are not ready, or not confirmed.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let identities = session.client.identities();
        match self {
            Self::List => {
                let list = identities.authorities()?;
                out.either(&list.authorities, || shown(&list, now_ms()))
            }
            Self::Prepare { ttl } => prepare(session, connection, out, ttl.map(|ttl| ttl.0)),
            Self::Request { out: file } => {
                let csr = identities.request_authority()?;
                match file {
                    None => out.either(&serde_json::json!({ "csr": csr }), || csr.trim_end().to_owned()),
                    Some(file) => {
                        write_new(file, csr.as_bytes())?;
                        let shown = file.display().to_string();
                        out.either(&serde_json::json!({ "csr": csr, "file": shown }), || {
                            format!("give {shown} to the owner of the root; then: strongroom ca import CHAIN")
                        })
                    }
                }
            }
            Self::Import { chain } => {
                let text = String::from_utf8_lossy(&read_file(chain)?).into_owned();
                // Trust it before it is used, or this client could not verify the vault later.
                let id = identities.import_authority(&text)?;
                learn(connection);
                out.either(&serde_json::json!({ "id": id }), || {
                    format!("{id} is prepared; when all clients have it, continue with: strongroom ca rotate")
                })
            }
            Self::Trust(args) => args.run(session, connection, out, "trust"),
            Self::Activate(args) => args.run(session, connection, out, "activate"),
            Self::Remove(args) => {
                let plan = "its key is destroyed, and certificates that it signed are rejected";
                args.run(session, connection, out, "remove", plan)
            }
            Self::Revoke(args) => {
                let plan = "its key is destroyed, and every certificate that it signed is revoked now";
                args.run(session, connection, out, "revoke", plan)
            }
            Self::Taint { id } => StepArgs { id: id.clone(), force: false }.run(session, connection, out, "taint"),
            Self::Stragglers => {
                let found = identities.stragglers()?;
                out.either(&found, || match found.identities.as_slice() {
                    [] => "none: every identity that was seen recently trusts the current authorities".to_owned(),
                    names => names.join("\n"),
                })
            }
            Self::Rotate(args) => args.run(session, connection, out),
            Self::Compromise(args) => args.run(session, connection, out),
            Self::Crl { out: None } => {
                let crl = identities.crl()?;
                out.either(&serde_json::json!({ "crl": crl }), || crl.trim_end().to_owned())
            }
            Self::Crl { out: Some(file) } => {
                write_new(file, identities.crl()?.as_bytes())?;
                out.either(&serde_json::json!({ "file": file }), || format!("written to {}", file.display()))
            }
        }
    }
}

impl StepArgs {
    fn run(&self, session: &Session, connection: &Connection, out: &Output, verb: &str) -> Result<(), Failure> {
        let list = session.client.identities().authorities()?;
        let id = pick(&list.authorities, &self.id)?.id.clone();
        step(session, connection, &id, verb, self.force)?;
        report(session, out, &id, verb)
    }
}

impl FinalArgs {
    fn run(
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

impl RotateArgs {
    fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
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
                    let what = format!("next is {} {id}, which waits for: {}", due.word(), missing.join(", "));
                    return Err(Failure::new(Code::Refused, what, MISSING));
                }
                for name in &missing {
                    eprintln!("loses access: {name}");
                }
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

fn prepare(session: &Session, connection: &Connection, out: &Output, life_s: Option<u64>) -> Result<(), Failure> {
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
fn learn(connection: &Connection) {
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

/// Requests one step. A refusal says what to try.
fn step(session: &Session, connection: &Connection, id: &str, verb: &str, force: bool) -> Result<(), Failure> {
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
fn report(session: &Session, out: &Output, id: &str, verb: &str) -> Result<(), Failure> {
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

/// The only authority whose identifier starts with this.
fn pick<'a>(authorities: &'a [AuthorityInfo], typed: &str) -> Result<&'a AuthorityInfo, Failure> {
    let wanted = typed.to_ascii_lowercase();
    let mut found = authorities.iter().filter(|facts| !wanted.is_empty() && facts.id.starts_with(&wanted));
    let hint = "list them: strongroom ca list";
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(Code::NotFound, format!("there is no authority {typed:?}"), hint)),
        (Some(_), Some(_)) => Err(Failure::usage(format!("{typed:?} matches several authorities"), hint)),
    }
}

fn shown(list: &AuthorityList, now_ms: u64) -> String {
    let row = |facts: &AuthorityInfo| {
        let state = if facts.tainted { format!("{}, tainted", facts.state) } else { facts.state.clone() };
        [
            facts.id.clone(),
            state,
            table::since(Some(&facts.changed), now_ms),
            facts.created.clone(),
            table::until(Some(&facts.not_after), now_ms),
        ]
    };
    let rows: Vec<_> = list.authorities.iter().map(row).collect();
    table::text(["authority", "state", "changed", "created", "expires in"], &rows, "no authorities")
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

    #[test]
    fn a_beginning_names_one_authority() {
        let all = [authority("aa01", "active"), authority("aa02", "retiring")];
        assert_eq!(pick(&all, "AA02").unwrap().id, "aa02");
        assert_eq!(pick(&all, "aa").unwrap_err().code, Code::Usage);
        assert_eq!(pick(&all, "b").unwrap_err().code, Code::NotFound);
        assert_eq!(pick(&all, "").unwrap_err().code, Code::NotFound);
    }
}
