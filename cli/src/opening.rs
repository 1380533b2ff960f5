//! The secret that opens the vault for an operation on its keys: the flags, and the prompts for what is missing.
//!
//! Never from the command line or a variable: hidden prompts, open descriptors and files.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom::api::rotation::{SlotInfo, UnlockBody};
use strongroom::api::secret::SecretText;
use strongroom::client::{ClientError, Rotation, key_file_text, shares_so_far};

use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::prompt::{self, Descriptors};

/// Hint when there is no terminal.
const NO_TERMINAL: &str = "give it with --passphrase-fd N, for example: --passphrase-fd 3 3< FILE";
/// Attempts to enter one secret before giving up.
const TRIES: usize = 3;

/// Type of secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    /// A passphrase. With `--key-file`, both together.
    Passphrase,
    /// A recovery code.
    RecoveryCode,
    /// Shares of one set.
    Shares,
    /// A key file alone.
    KeyFile(PathBuf),
}

impl std::str::FromStr for With {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "passphrase" => Ok(Self::Passphrase),
            "recovery-code" => Ok(Self::RecoveryCode),
            "shares" => Ok(Self::Shares),
            _ => match text.strip_prefix("key-file=") {
                Some(file) if !file.is_empty() => Ok(Self::KeyFile(file.into())),
                _ => Err("write passphrase, recovery-code, shares or key-file=FILE"),
            },
        }
    }
}

/// The flags.
#[derive(Debug, Args)]
pub struct OpeningArgs {
    /// Type of secret that opens the vault: passphrase (asked for without echo), recovery-code, shares, or
    /// key-file=FILE.
    #[arg(long, value_name = "WHAT", default_value = "passphrase")]
    with: With,
    /// Read the answers from this open file descriptor, one per line; repeating it reads its next line.
    #[arg(long, value_name = "FD")]
    passphrase_fd: Option<u32>,
    /// Key file that belongs to the passphrase, for slots that need both.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Number or label of the slot that the secret is for. Default: try all slots of its type.
    #[arg(long, value_name = "SLOT")]
    slot: Option<String>,
}

impl OpeningArgs {
    /// Collects the secret. Each share is checked on the server at once, so that a wrong one is reported immediately.
    ///
    /// # Errors
    /// No terminal, an unreadable file, or a share that the vault rejects.
    pub fn collect(&self, rotation: &Rotation<'_>, fds: &mut Descriptors) -> Result<UnlockBody, Failure> {
        let mut body = UnlockBody { slot: self.slot.clone(), ..UnlockBody::default() };
        if self.key_file.is_some() && self.with != With::Passphrase {
            return Err(Failure::usage(
                "--key-file is for use with a passphrase",
                "for a key file alone: --with key-file=FILE",
            ));
        }
        let mut line = |question: &str, what: &str| match self.passphrase_fd {
            Some(fd) => fds.required(fd, what),
            None => prompt::asked(question, NO_TERMINAL),
        };
        match &self.with {
            With::Passphrase => {
                body.key_file = self.key_file.as_deref().map(key_file).transpose()?;
                body.passphrase = Some(line("Passphrase that opens the vault: ", "passphrase")?);
            }
            With::RecoveryCode => body.recovery_code = Some(line("Recovery code: ", "recovery code")?),
            With::KeyFile(file) => body.key_file = Some(key_file(file)?),
            With::Shares => {
                let again = self.passphrase_fd.is_none();
                shares(rotation, &mut body, again, &mut |question| line(question, "further share"))?;
            }
        }
        Ok(body)
    }

    /// Creates the flags from separate values.
    pub fn of(with: With, passphrase_fd: Option<u32>, key_file: Option<PathBuf>, slot: Option<String>) -> Self {
        Self { with, passphrase_fd, key_file, slot }
    }

    /// The same flags, for `slot` alone. Asks for shares if the slot consists of shares.
    pub fn meant_for(&self, slot: &SlotInfo) -> Self {
        let with = if slot.kind == "shares" { With::Shares } else { self.with.clone() };
        Self::of(with, self.passphrase_fd, self.key_file.clone(), Some(slot.id.to_string()))
    }

    /// Asks for shares of the new set in `slot`. Returns `None` if there is nobody to ask: a descriptor was written
    /// before the new shares existed.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn new_shares(&self, rotation: &Rotation<'_>, slot: &SlotInfo) -> Result<Option<UnlockBody>, Failure> {
        if self.passphrase_fd.is_some() {
            return Ok(None);
        }
        let mut body = UnlockBody { slot: Some(slot.id.to_string()), ..UnlockBody::default() };
        shares(rotation, &mut body, true, &mut |question| prompt::asked(question, NO_TERMINAL))?;
        Ok(Some(body))
    }

    /// The slot that was named.
    pub fn slot(&self) -> Option<&str> {
        self.slot.as_deref()
    }
}

/// Reads a key file in the form for the server.
///
/// # Errors
/// The file cannot be read.
pub fn key_file(path: &Path) -> Result<SecretText, Failure> {
    Ok(key_file_text(&read_file(path)?))
}

/// Asks for shares until there are enough to open a slot. With `again`, a rejected share may be entered once more.
fn shares(
    rotation: &Rotation<'_>,
    body: &mut UnlockBody,
    again: bool,
    ask: &mut dyn FnMut(&str) -> Result<SecretText, Failure>,
) -> Result<(), Failure> {
    let mut given = Vec::new();
    let mut refused = 0;
    loop {
        let question = format!("Share {}: ", given.len() + 1);
        given.push(ask(&question)?);
        body.shares = Some(std::mem::take(&mut given));
        let answer = rotation.slot_test(body);
        given = body.shares.take().unwrap_or_default();
        match answer {
            Ok(_) => {
                body.shares = Some(given);
                return Ok(());
            }
            Err(error) => match shares_so_far(&error) {
                Some((have, need)) => eprintln!("{have} of {need} shares"),
                None if again && error.status() == Some(400) && refused + 1 < TRIES => {
                    refused += 1;
                    given.pop();
                    eprintln!("this share is rejected: {error}; enter it again");
                }
                None => return Err(wrong(error, &format!("share {}", given.len()))),
            },
        }
    }
}

/// The failure for a secret that does not open a slot.
pub fn wrong(error: ClientError, what: &str) -> Failure {
    if error.status() != Some(400) {
        let failure = Failure::from(error);
        // A missing reply does not mean that nothing was done.
        let hint = match failure.code {
            Code::Unreachable => {
                "it may have been done: check strongroom slot list; to wait longer, use --timeout SECONDS".to_owned()
            }
            _ => failure.hint.clone(),
        };
        return Failure { hint, ..failure };
    }
    Failure::new(Code::Refused, format!("{what}: {error}"), "see the slots: strongroom slot list")
}

/// A secret for each slot that stays when the root key is replaced.
pub struct Keepers<'a> {
    /// Slots to ask for. The others count as absent.
    pub slots: Vec<&'a SlotInfo>,
    /// Descriptors, one for each slot with a typed secret.
    pub fds: &'a [u32],
    /// Key files by label or number.
    pub key_files: Vec<(String, PathBuf)>,
}

impl Keepers<'_> {
    /// Asks for each secret and checks it on the server, so that a wrong one is reported before anything changes.
    ///
    /// # Errors
    /// A secret is wrong, or a key file cannot be read.
    pub fn collect(&self, rotation: &Rotation<'_>) -> Result<Vec<UnlockBody>, Failure> {
        let mut lines = Descriptors::default();
        let mut fds = self.fds.iter().copied();
        let mut keep = Vec::new();
        // A misspelt name must not make its slot count as absent: a slot that is absent can be dropped.
        for (name, _) in &self.key_files {
            if !self.slots.iter().any(|slot| names(slot, name)) {
                let message = format!("--key-file {name}=…: there is no slot {name} that stays");
                return Err(Failure::usage(message, "strongroom slot list"));
            }
        }
        for slot in &self.slots {
            let file = self.key_files.iter().find(|(name, _)| names(slot, name)).map(|(_, file)| file);
            let file = file.map(|file| key_file(file)).transpose()?;
            let typed = slot.kind != "key-file";
            let fd = if typed { fds.next() } else { None };
            let mut tries = 0;
            loop {
                let mut body = UnlockBody { slot: Some(slot.id.to_string()), ..UnlockBody::default() };
                let file = file.as_ref().map(|text| SecretText::from(text.reveal()));
                if !one(rotation, slot, &mut body, file, fd, (&mut lines, !self.fds.is_empty()))? {
                    break;
                }
                match rotation.slot_test(&body) {
                    Ok(_) => {
                        keep.push(body);
                        break;
                    }
                    // Only a person can try again. A descriptor or file would give the same wrong secret.
                    Err(error) if typed && fd.is_none() && error.status() == Some(400) && tries + 1 < TRIES => {
                        tries += 1;
                        eprintln!("that does not open {}: {error}", title(slot));
                    }
                    Err(error) => return Err(wrong(error, &title(slot))),
                }
            }
        }
        if fds.next().is_some() {
            let message = "more --passphrase-fd than slots that need one";
            return Err(Failure::usage(message, "strongroom slot list shows the slots in their order"));
        }
        Ok(keep)
    }
}

/// Fills in the secret of one slot. Returns `false` if its holder is absent. With `scripted`, asks nobody.
fn one(
    rotation: &Rotation<'_>,
    slot: &SlotInfo,
    body: &mut UnlockBody,
    file: Option<SecretText>,
    fd: Option<u32>,
    (lines, scripted): (&mut Descriptors, bool),
) -> Result<bool, Failure> {
    let name = title(slot);
    // In a script a missing line means that the holder is absent; a prompt there would hang.
    let mut line = |question: &str| match fd {
        Some(fd) => Ok(lines.next(fd)?.unwrap_or_else(|| SecretText::from(""))),
        None if scripted => Ok(SecretText::from("")),
        None => prompt::asked(question, NO_TERMINAL),
    };
    let question = |what: &str| format!("{what} of {name} (Enter: absent): ");
    match slot.kind.as_str() {
        "key-file" => {
            body.key_file = file;
            return Ok(body.key_file.is_some());
        }
        "recovery-code" => {
            let code = line(&question("Recovery code"))?;
            let given = !code.reveal().is_empty();
            body.recovery_code = Some(code);
            return Ok(given);
        }
        "shares" => {
            let first = line(&question("First share"))?;
            if first.reveal().is_empty() {
                return Ok(false);
            }
            // `shares` asks again, so the first answer is passed in instead of being asked for twice.
            let mut first = Some(first);
            shares(rotation, body, false, &mut |question| match first.take() {
                Some(share) => Ok(share),
                None => line(question),
            })?;
            return Ok(true);
        }
        _ => {}
    }
    let passphrase = line(&question("Passphrase"))?;
    if passphrase.reveal().is_empty() {
        return Ok(false);
    }
    body.passphrase = Some(passphrase);
    body.key_file = file;
    if slot.kind.contains("key-file") && body.key_file.is_none() {
        let hint = format!("add --key-file {}=FILE", slot.label);
        return Err(Failure::usage(format!("{name} needs its key file too"), hint));
    }
    Ok(true)
}

/// Whether `name` is the number or the label of `slot`.
pub fn names(slot: &SlotInfo, name: &str) -> bool {
    slot.label == name || slot.id.to_string() == name
}

/// Finds a slot by number or label, as the server does.
///
/// # Errors
/// There is no such slot.
pub fn find<'s>(slots: &'s [SlotInfo], name: &str) -> Result<&'s SlotInfo, Failure> {
    let found = slots.iter().find(|slot| slot.id.to_string() == name);
    found.or_else(|| slots.iter().find(|slot| slot.label == name)).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no slot {name}"), "list the slots: strongroom slot list")
    })
}

/// A slot as shown to people.
pub fn title(slot: &SlotInfo) -> String {
    format!("slot {} ({}, {})", slot.id, slot.label, slot.kind)
}

/// `LABEL=FILE`.
///
/// # Errors
/// The text does not have this form.
pub fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write LABEL=FILE".to_owned()),
    }
}
