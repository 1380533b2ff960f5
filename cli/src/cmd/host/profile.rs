//! `profile`: named addresses and certificates.

use std::path::PathBuf;

use clap::Subcommand;

use crate::exit::Failure;
use crate::output::Output;
use crate::profile::Profiles;
use crate::prompt;

/// `strongroom profile …`
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Create a profile from a bundle (the folder that `strongroomd init` wrote), preferably with --move.
    #[command(
        after_help = "A certificate must be renewed in one place only. If two copies renew, the vault assumes that one was
stolen and freezes the identity. So move the bundle, or delete the folder afterwards."
    )]
    Add {
        /// Name of the profile.
        name: String,
        /// Folder with ca.pem, cert.pem, key.pem and profile.toml.
        #[arg(long, value_name = "DIR")]
        bundle: PathBuf,
        /// Remove the bundle from DIR once the profile is complete.
        #[arg(long = "move")]
        moves: bool,
        /// Address of the vault, if it is not the one in profile.toml.
        #[arg(long = "address", value_name = "URL")]
        address: Option<String>,
    },
    /// List profiles; * marks the current one.
    List,
    /// Make a profile the current one.
    Use {
        /// Name of the profile.
        name: String,
    },
    /// Show a profile's address and files.
    Show {
        /// Name of the profile. Default: the current one.
        name: Option<String>,
    },
    /// Remove a profile with its certificate and key.
    Remove {
        /// Name of the profile.
        name: String,
        /// Do not ask for confirmation.
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

impl ProfileCommand {
    /// # Errors
    /// No such profile, or its files cannot be read or written; not confirmed.
    pub fn run(&self, profiles: &Profiles, out: &Output) -> Result<(), Failure> {
        match self {
            Self::Add { name, bundle, address, moves } => {
                let profile = profiles.add(name, bundle, address.as_deref(), *moves)?;
                let first = profiles.current_name().as_deref() == Some(name);
                let text = || {
                    let next = if first { String::new() } else { format!("\nuse it: strongroom profile use {name}") };
                    format!("profile {name}: {}{next}", profile.addr)
                };
                out.either(&serde_json::json!({"name": name, "addr": profile.addr, "moved": moves}), text)?;
                if !moves {
                    eprintln!(
                        "strongroom: {0} still has a copy of the key. Delete it now: rm -r {0}\n  If both copies renew, the \
                         vault freezes the identity, because one of them could be stolen.",
                        bundle.display()
                    );
                }
                Ok(())
            }
            Self::List => {
                let (names, current) = (profiles.names(), profiles.current_name());
                out.either(&serde_json::json!({"profiles": names, "current": current}), || {
                    let star = |name: &String| if current.as_ref() == Some(name) { "* " } else { "  " };
                    names.iter().map(|name| format!("{}{name}", star(name))).collect::<Vec<_>>().join("\n")
                })
            }
            Self::Use { name } => {
                profiles.choose(name)?;
                out.either(&serde_json::json!({"current": name}), || format!("using {name}"))
            }
            Self::Show { name } => {
                let name = name.clone().or_else(|| profiles.current_name());
                let name = name.ok_or_else(|| profiles.none_in_use())?;
                let profile = profiles.named(&name)?;
                // These names stay the same after renewals.
                let folder = profiles.folder_of(Some(&name))?.ok_or_else(|| profiles.none_in_use())?;
                let files = ["ca", "cert", "key"].map(|what| (what, folder.path().join(format!("{what}.pem"))));
                let [ca, cert, key] = files.each_ref().map(|(_, path)| path);
                let shown = serde_json::json!({"name": name, "addr": profile.addr, "ca": ca, "cert": cert, "key": key});
                out.either(&shown, || {
                    let lines = files.map(|(what, path)| format!("{what:<5} {}", path.display()));
                    format!("name  {name}\naddr  {}\n{}", profile.addr, lines.join("\n"))
                })
            }
            Self::Remove { name, yes } => {
                profiles.named(name)?;
                if !yes {
                    prompt::confirm(&format!(
                        "Remove the profile {name} with its certificate and key? A key that is not stored elsewhere is lost."
                    ))?;
                }
                profiles.remove(name)?;
                out.either(&serde_json::json!({"removed": name}), || format!("profile {name} removed"))
            }
        }
    }
}
