//! What opens the vault for an operation on its keys: the flags, and the questions where a flag is missing.
//!
//! Never on the command line and never in a variable: hidden prompts, open descriptors and files.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom::api::rotation::{SlotInfo, UnlockBody};
use strongroom::api::secret::SecretText;
use strongroom::client::{ClientError, Rotation, key_file_text, shares_so_far};

use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::prompt::{self, Descriptors};

/// What to do without a terminal.
const NO_TERMINAL: &str = "give it with --passphrase-fd N, for example: --passphrase-fd 3 3< FILE";
/// Questions for one secret before giving up.
const TRIES: usize = 3;

/// Kind of secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    /// A passphrase; with `--key-file` both together.
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
                _ => Err("one of passphrase, recovery-code, shares, key-file=FILE"),
            },
        }
    }
}

/// The flags.
#[derive(Debug, Args)]
pub struct OpeningArgs {
    /// What opens the vault: passphrase (asked without echo), recovery-code, shares, or key-file=FILE.
    #[arg(long, value_name = "WHAT", default_value = "passphrase")]
    with: With,
    /// Read what would be asked from this open descriptor, one line each; named again, it gives its next line.
    #[arg(long, value_name = "FD")]
    passphrase_fd: Option<u32>,
    /// Key file that belongs to the passphrase, for slots that need both.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Number or label of the slot that the secret is for; without it those of its type are tried.
    #[arg(long, value_name = "SLOT")]
    slot: Option<String>,
}

impl OpeningArgs {
    /// Collects the secret. Shares are tried on the server one by one, so that a wrong one is named at once.
    ///
    /// # Errors
    /// No terminal, an unreadable file, or a share that the vault refuses.
    pub fn collect(&self, rotation: &Rotation<'_>, fds: &mut Descriptors) -> Result<UnlockBody, Failure> {
        let mut body = UnlockBody { slot: self.slot.clone(), ..UnlockBody::default() };
        if self.key_file.is_some() && self.with != With::Passphrase {
            return Err(Failure::usage(
                "--key-file goes with a passphrase",
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

    /// The same from flags of another shape.
    pub fn of(with: With, passphrase_fd: Option<u32>, key_file: Option<PathBuf>, slot: Option<String>) -> Self {
        Self { with, passphrase_fd, key_file, slot }
    }

    /// The same, meant for `slot` alone; shares are asked for when it is made of shares.
    pub fn meant_for(&self, slot: &SlotInfo) -> Self {
        let with = if slot.kind == "shares" { With::Shares } else { self.with.clone() };
        Self::of(with, self.passphrase_fd, self.key_file.clone(), Some(slot.id.to_string()))
    }

    /// Asks for shares of the new set in `slot`. `None` when no person is there: a descriptor was written before the new
    /// shares existed.
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

    /// The slot that is named.
    pub fn slot(&self) -> Option<&str> {
        self.slot.as_deref()
    }
}

/// A key file as the server takes it.
///
/// # Errors
/// Unreadable.
pub fn key_file(path: &Path) -> Result<SecretText, Failure> {
    Ok(key_file_text(&read_file(path)?))
}

/// Asks for shares until there are enough to open a slot. `again`: a refused share may be typed once more.
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
                    eprintln!("this share is refused: {error}; type it again");
                }
                None => return Err(wrong(error, &format!("share {}", given.len()))),
            },
        }
    }
}

/// The failure for a secret that does not open.
pub fn wrong(error: ClientError, what: &str) -> Failure {
    if error.status() != Some(400) {
        let failure = Failure::from(error);
        // No answer is not a no: the vault may have done it.
        let hint = match failure.code {
            Code::Unreachable => {
                "it may have been done: see strongroom slot list; for more time: --timeout SECONDS".to_owned()
            }
            _ => failure.hint.clone(),
        };
        return Failure { hint, ..failure };
    }
    Failure::new(Code::Refused, format!("{what}: {error}"), "see what opens the vault: strongroom slot list")
}

/// A secret for each slot that is to stay when the root key is replaced.
pub struct Keepers<'a> {
    /// Slots to ask for; the others count as absent.
    pub slots: Vec<&'a SlotInfo>,
    /// Descriptors, one for each slot that something is typed for.
    pub fds: &'a [u32],
    /// Key files by label or number.
    pub key_files: Vec<(String, PathBuf)>,
}

impl Keepers<'_> {
    /// Asks, and tries each secret on the server, so that a wrong one is named before anything changes.
    ///
    /// # Errors
    /// A secret is wrong, a key file unreadable.
    pub fn collect(&self, rotation: &Rotation<'_>) -> Result<Vec<UnlockBody>, Failure> {
        let mut lines = Descriptors::default();
        let mut fds = self.fds.iter().copied();
        let mut keep = Vec::new();
        for (name, _) in &self.key_files {
            if !self.slots.iter().any(|slot| names(slot, name)) {
                let message = format!("--key-file {name}=…: there is no slot {name} to be kept");
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
                    Err(error) if typed && fd.is_none() && error.status() == Some(400) && tries + 1 < TRIES => {
                        tries += 1;
                        eprintln!("that does not open {}: {error}", title(slot));
                    }
                    Err(error) => return Err(wrong(error, &title(slot))),
                }
            }
        }
        if fds.next().is_some() {
            let message = "more --passphrase-fd than slots that take one";
            return Err(Failure::usage(message, "strongroom slot list shows the slots in their order"));
        }
        Ok(keep)
    }
}

/// Fills in the secret of one slot; false when its holder is absent. `scripted`: nobody is asked.
fn one(
    rotation: &Rotation<'_>,
    slot: &SlotInfo,
    body: &mut UnlockBody,
    file: Option<SecretText>,
    fd: Option<u32>,
    (lines, scripted): (&mut Descriptors, bool),
) -> Result<bool, Failure> {
    let name = title(slot);
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

/// A slot by number, else by label, as the server looks for it.
///
/// # Errors
/// There is none.
pub fn find<'s>(slots: &'s [SlotInfo], name: &str) -> Result<&'s SlotInfo, Failure> {
    let found = slots.iter().find(|slot| slot.id.to_string() == name);
    found.or_else(|| slots.iter().find(|slot| slot.label == name)).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no slot {name}"), "list the slots: strongroom slot list")
    })
}

/// A slot for people.
pub fn title(slot: &SlotInfo) -> String {
    format!("slot {} ({}, {})", slot.id, slot.label, slot.kind)
}

/// `LABEL=FILE`.
///
/// # Errors
/// Not of this form.
pub fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write LABEL=FILE".to_owned()),
    }
}
