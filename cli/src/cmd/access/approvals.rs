//! `approvals`: requests that wait for a second operator.

use clap::Subcommand;
use strongroom::api::approvals::Approval;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;

/// `strongroom approvals …`
#[derive(Debug, Subcommand)]
#[command(
    after_help = "When enough operators have approved, the requester repeats the same command. It is executed once.
The daemon's configuration says which operations need approval: docs/operations.md"
)]
pub enum ApprovalsCommand {
    /// List requests that wait for approval; with --all also those that are finished.
    List {
        /// Include requests that were used, rejected or have expired.
        #[arg(long)]
        all: bool,
    },
    /// Show what is requested, by whom, and when the request expires. Values are never shown.
    Show {
        /// Request id, as `approvals list` shows it.
        id: String,
    },
    /// Approve another operator's request.
    Approve {
        /// Request id, as `approvals list` shows it.
        id: String,
        /// Do not ask for confirmation.
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Reject another operator's request, or withdraw your own.
    Reject {
        /// Request id, as `approvals list` shows it.
        id: String,
    },
}

impl ApprovalsCommand {
    /// # Errors
    /// The request does not exist or is finished, or this certificate may not decide on it.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let approvals = session.client.approvals();
        match self {
            Self::List { all } => {
                let mut listed = approvals.list()?;
                listed.retain(|one| *all || matches!(one.state.as_str(), "open" | "approved"));
                out.either(&listed, || {
                    if listed.is_empty() {
                        return "nothing waits for approval".to_owned();
                    }
                    listed.iter().map(line).collect::<Vec<_>>().join("\n")
                })
            }
            Self::Show { id } => {
                let found = find(session, id)?;
                out.either(&found, || described(&found))
            }
            Self::Approve { id, yes } => {
                let found = find(session, id)?;
                // People approve what they have seen, not a number that somebody sent them.
                if !yes {
                    eprintln!("{}", described(&found));
                    prompt::confirm("Approve this request?")?;
                }
                approvals.approve(id)?;
                let now = find(session, id)?;
                out.either(&now, || format!("approved; {}", next(&now)))
            }
            Self::Reject { id } => {
                approvals.reject(id)?;
                out.either(&serde_json::json!({"id": id, "state": "rejected"}), || format!("{id} is rejected"))
            }
        }
    }
}

fn find(session: &Session, id: &str) -> Result<Approval, Failure> {
    let missing = || Failure::new(Code::NotFound, format!("there is no request {id}"), "strongroom approvals list");
    session.client.approvals().show(id)?.ok_or_else(missing)
}

fn line(one: &Approval) -> String {
    format!("{} {} {} {} by {} until {}", one.id, one.state, one.verb, one.path, one.asked_by, one.expires)
}

fn next(one: &Approval) -> String {
    match (one.state.as_str(), one.missing) {
        ("open", 1) => format!("one more operator must approve: strongroom approvals approve {}", one.id),
        ("open", more) => format!("{more} more operators must approve: strongroom approvals approve {}", one.id),
        ("approved", _) => format!("{} can repeat the same command until {}", one.asked_by, one.expires),
        ("used", _) => "it was executed".to_owned(),
        ("rejected", _) => format!("it cannot be requested again before {}", one.expires),
        _ => "it has expired".to_owned(),
    }
}

/// Describes what a person must know to decide. The values of the fields are not stored anywhere.
fn described(one: &Approval) -> String {
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut lines = vec![
        format!("id         {} ({})", one.id, one.state),
        format!("operation  {}", one.operation),
        format!("request    {} {}", one.verb, one.path),
        format!("fields     {}", names(&one.fields)),
    ];
    if !one.affects.is_empty() {
        lines.push(format!("affects    {}", one.affects.join(", ")));
    }
    lines.push(format!("requested  by {} at {}", one.asked_by, one.asked));
    lines.push(format!("expires    {}", one.expires));
    for voice in &one.approvals {
        lines.push(format!("approved   by {} at {}", voice.identity, voice.at));
    }
    if let Some(voice) = &one.rejected {
        lines.push(format!("rejected   by {} at {}", voice.identity, voice.at));
    }
    if let Some(at) = &one.used {
        lines.push(format!("done       at {at}"));
    }
    lines.push(format!("next       {}", next(one)));
    lines.join("\n")
}
