//! `unseal`: opens a sealed vault with a passphrase, a recovery code, a key file or shares.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use strongroom::api::secret::SecretText;
use strongroom::client::ClientError;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::opening::key_file;
use crate::output::Output;
use crate::prompt::{self, Descriptors};

/// `strongroom unseal`
#[derive(Debug, Args)]
#[command(
    after_help = "Accepts a passphrase, a recovery code (srr1-…) or a share (srs1-…); asks for it without echo, or
read from a descriptor. Shares are requested one at a time; or several people each run this command with theirs.
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

/// Hint after too many failed attempts.
const WAIT: &str = "wait as long as it says: every wrong attempt makes the next one wait longer";

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
        let file = self.key_file.as_deref().map(key_file).transpose()?;
        let typed = file.is_none() || self.fd.is_some() || self.with_passphrase;
        let asks = typed && self.fd.is_none();
        // After failed attempts the vault would reject this one. A script is told before it has handed over the secret. A
        // person types it meanwhile, which usually takes longer than the wait.
        if before.retry_after_s > 0 {
            if !asks {
                return Err(too_early(before.retry_after_s));
            }
            eprintln!("after failed attempts, the vault accepts the next one in {} s", before.retry_after_s);
        }
        let what = match (self.recovery_code, self.shares) {
            (true, _) => "recovery code",
            (_, true) => "share",
            _ => "passphrase",
        };
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
            if asks && before.retry_after_s > 0 && !more {
                wait(sys.seal_status()?.retry_after_s);
            }
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

/// Waits for the rest of the time after a failed attempt, which the person at the terminal has been told of.
fn wait(seconds: u64) {
    if seconds > 0 {
        eprintln!("waiting {seconds} s ...");
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn too_early(seconds: u64) -> Failure {
    let message = format!("too many failed attempts, try again in {seconds} s; nothing was sent");
    Failure::new(Code::Refused, message, WAIT)
}

fn refused(error: ClientError) -> Failure {
    let hint = match &error {
        ClientError::Refused { status: 400, .. } => {
            "the vault is still sealed; try again, or another way in: strongroom unseal --recovery-code, --shares"
        }
        ClientError::Refused { status: 429, .. } => WAIT,
        _ => "",
    };
    let failure = Failure::from(error);
    if hint.is_empty() { failure } else { Failure { hint: hint.to_owned(), ..failure } }
}
