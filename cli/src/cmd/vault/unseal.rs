//! `unseal`: opens a sealed vault with a passphrase, a recovery code, a key file or shares.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use strongroom::api::secret::SecretText;
use strongroom::client::ClientError;

use crate::connection::Session;
use crate::exit::Failure;
use crate::opening::key_file;
use crate::output::Output;
use crate::prompt::{self, Descriptors};

/// `strongroom unseal`
#[derive(Debug, Args)]
#[command(
    after_help = "Accepts a passphrase, a recovery code (srr1-…) or a share (srs1-…); asks for it without echo, or
read from a descriptor. Shares are asked for one after the other, or typed by several people, each with this command.
  strongroom unseal --fd 0 < passphrase.txt"
)]
pub struct UnsealArgs {
    /// Read the secret from this open file descriptor (0 is standard input); shares one per line.
    #[arg(long, visible_alias = "passphrase-fd", value_name = "FD")]
    fd: Option<u32>,
    /// Ask for a recovery code.
    #[arg(long, conflicts_with_all = ["shares", "key_file", "reset"])]
    recovery_code: bool,
    /// Ask for shares until there are enough.
    #[arg(long, conflicts_with_all = ["key_file", "reset"])]
    shares: bool,
    /// Key file. Alone it opens a key-file slot; with --fd or --with-passphrase it opens a slot that needs both.
    #[arg(long, value_name = "FILE", conflicts_with = "reset")]
    key_file: Option<PathBuf>,
    /// With --key-file: ask for the passphrase that belongs to it.
    #[arg(long, requires = "key_file")]
    with_passphrase: bool,
    /// Forget the shares entered so far.
    #[arg(long, conflicts_with = "fd")]
    reset: bool,
}

/// Hint when there is no terminal.
const NO_TERMINAL: &str = "give it with --fd N, for example: --fd 0 < FILE";

impl UnsealArgs {
    /// # Errors
    /// The secret is wrong, or this identity may not unseal.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let sys = session.client.sys();
        let before = sys.seal_status()?;
        if !before.sealed {
            return out.either(&serde_json::json!({"sealed": false, "changed": false}), || "already unsealed".into());
        }
        if self.reset {
            let after = sys.reset_unseal()?;
            let shown = serde_json::json!({"sealed": after.sealed, "changed": false, "progress": after.progress});
            return out.either(&shown, || "the shares entered so far are forgotten".into());
        }
        let mut fds = Descriptors::default();
        let what = match (self.recovery_code, self.shares) {
            (true, _) => "recovery code",
            (_, true) => "share",
            _ => "passphrase",
        };
        let file = self.key_file.as_deref().map(key_file).transpose()?;
        let typed = file.is_none() || self.fd.is_some() || self.with_passphrase;
        let mut more = false;
        loop {
            let typed = if !typed {
                None
            } else if let Some(fd) = self.fd {
                Some(match fds.next(fd)?.filter(|line| !line.reveal().is_empty()) {
                    Some(line) => line,
                    // The vault keeps the shares entered so far. The others may come from elsewhere.
                    None if more => return Ok(()),
                    None => {
                        return Err(Failure::usage(
                            format!("descriptor {fd} contains no {what}"),
                            "write it in one line",
                        ));
                    }
                })
            } else {
                let question = if more { "Next share: ".to_owned() } else { format!("{}: ", capital(what)) };
                Some(prompt::asked(&question, NO_TERMINAL)?)
            };
            // A share costs no key derivation until there are enough of them.
            let share = typed.as_ref().is_some_and(is_share);
            if !share {
                eprintln!("deriving the key, which takes about a second by design ...");
            }
            let after = sys.unseal_with(typed.as_ref(), file.as_ref()).map_err(refused)?;
            if !after.sealed {
                let done = serde_json::json!({"sealed": false, "changed": true});
                return out.either(&done, || "unsealed".into());
            }
            more = true;
            let shown =
                serde_json::json!({"sealed": true, "changed": true, "progress": after.progress, "needed": after.t});
            out.either(&shown, || format!("{} of {} shares", after.progress, after.t))?;
            // Without a terminal the others come by further calls; with one, the next may be typed here.
            if self.fd.is_none() && !std::io::stdin().is_terminal() {
                return Ok(());
            }
        }
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn is_share(text: &SecretText) -> bool {
    text.reveal().trim_start().get(..4).is_some_and(|start| start.eq_ignore_ascii_case("srs1"))
}

fn refused(error: ClientError) -> Failure {
    let hint = match &error {
        ClientError::Refused { status: 400, .. } => {
            "the vault is still sealed; try again, or another way in: strongroom unseal --recovery-code, --shares"
        }
        ClientError::Refused { status: 429, .. } => {
            "wait as long as it says: every wrong attempt makes the next one wait longer"
        }
        _ => "",
    };
    let failure = Failure::from(error);
    if hint.is_empty() { failure } else { Failure { hint: hint.to_owned(), ..failure } }
}
