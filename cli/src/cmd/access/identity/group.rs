//! `identity group`: policies for many identities at once.

use clap::Subcommand;
use strongroom::api::identities::{Group, GroupChange};

use crate::cmd::warn;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::prompt;
use crate::table::NOTHING;

/// `strongroom identity group …`
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the names of all groups.
    List,
    /// Show the policies and members of a group.
    Show {
        /// Name of the group.
        name: String,
    },
    /// Create a group, or change only what is given; effective with the next request.
    Set {
        /// Name of the group.
        name: String,
        /// Policy; repeat for several. Replaces the current policies.
        #[arg(long = "policy", value_name = "POLICY", value_delimiter = ',')]
        policies: Option<Vec<String>>,
        /// Identity path, or a folder such as 'ci/*'; repeat for several. Replaces the current members.
        #[arg(long = "member", value_name = "PATH", value_delimiter = ',')]
        members: Option<Vec<String>>,
    },
    /// Remove a group; its members keep their own policies.
    Remove {
        /// Name of the group.
        name: String,
        /// Do not ask for confirmation.
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

impl GroupCommand {
    /// # Errors
    /// No such group, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let identities = session.client.identities();
        match self {
            Self::List => {
                let names = identities.groups()?;
                out.either(&names, || names.join("\n"))
            }
            Self::Show { name } => {
                let group = find(session, name)?;
                out.either(&group, || shown(name, &group))
            }
            Self::Set { name, policies, members } => {
                let change = GroupChange { policies: policies.clone(), members: members.clone() };
                if change == GroupChange::default() {
                    return Err(Failure::usage("nothing to set", "give --policy or --member"));
                }
                let done = identities.set_group(name, &change).map_err(|error| {
                    let failure = Failure::from(error);
                    match failure.code {
                        Code::Refused => Failure {
                            hint: "nothing was changed; see: strongroom identity group set --help".into(),
                            ..failure
                        },
                        _ => failure,
                    }
                });
                warn(done?);
                let group = find(session, name)?;
                out.either(&group, || shown(name, &group))
            }
            Self::Remove { name, yes } => {
                let group = find(session, name)?;
                if !yes {
                    eprintln!("{}", shown(name, &group));
                    prompt::confirm(&format!("Remove the group {name}? Its members lose these policies."))?;
                }
                identities.delete_group(name)?;
                out.either(&serde_json::json!({ "group": name }), || format!("{name} removed"))
            }
        }
    }
}

fn find(session: &Session, name: &str) -> Result<Group, Failure> {
    session.client.identities().group(name)?.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!("there is no group {name}"),
            "list the groups: strongroom identity group list",
        )
    })
}

fn shown(name: &str, group: &Group) -> String {
    let list = |items: &[String]| if items.is_empty() { NOTHING.to_owned() } else { items.join(", ") };
    format!("group     {name}\npolicies  {}\nmembers   {}", list(&group.policies), list(&group.members))
}
