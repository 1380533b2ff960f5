//! The new secret of a slot: its type, the questions for it, and the only time that it is shown.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom::api::rotation::{NewSlotBody, SlotInfo, SlotReply};
use strongroom::api::secret::SecretText;
use strongroom::wiped::Buffer;

use crate::exit::Failure;
use crate::files::read_file;
use crate::opening::{key_file, title};
use crate::output::Output;
use crate::prompt::{self, Descriptors};

/// Type of a new slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SlotType {
    /// A passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
    /// A passphrase and a key file together.
    PassphraseAndKeyFile,
    /// A passphrase for a slot into which a new root key can be sealed while its holder is absent.
    Hybrid,
    /// A recovery code to print and store elsewhere.
    RecoveryCode,
    /// Several printed shares, some of which open the vault together.
    Shares,
}

impl SlotType {
    pub fn word(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
            Self::PassphraseAndKeyFile => "passphrase-and-key-file",
            Self::Hybrid => "hybrid",
            Self::RecoveryCode => "recovery-code",
            Self::Shares => "shares",
        }
    }

    /// The type of an existing slot, from the word in the list.
    pub fn of(slot: &SlotInfo) -> Option<Self> {
        let word = slot.kind.replace('+', "-and-");
        Self::value_variants().iter().copied().find(|kind| kind.word() == word)
    }
}

/// Rejects a key file that the vault would reject, before anything is typed.
///
/// # Errors
/// It cannot be read, has a size that is not allowed, or can be guessed.
fn check_key_file(path: &Path) -> Result<(), Failure> {
    let bytes = read_file(path)?;
    let (size, mut seen) = (bytes.len(), [false; 256]);
    for byte in bytes.iter() {
        seen.get_mut(usize::from(*byte)).into_iter().for_each(|seen| *seen = true);
    }
    let what = if !(32..=64 << 10).contains(&size) {
        format!("has {size} bytes; a key file has 32 bytes to 64 KiB")
    } else if seen.iter().filter(|seen| **seen).count() < 8 {
        "has fewer than eight different bytes, so it can be guessed".to_owned()
    } else {
        return Ok(());
    };
    let make = format!("create one: head -c 32 /dev/urandom > {}", path.display());
    Err(Failure::usage(format!("{} {what}", path.display()), make))
}

/// The new secret.
#[derive(Debug, Args)]
pub struct NewSecret {
    /// Read the new passphrase from this open file descriptor; if it is also --passphrase-fd, its next line.
    #[arg(long, value_name = "FD")]
    new_passphrase_fd: Option<u32>,
    /// New key file, which must exist: 32 to 65,536 random bytes. Create one: head -c 32 /dev/urandom > FILE
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// Number of new shares that open the vault.
    #[arg(long, value_name = "K")]
    threshold: Option<u8>,
    /// Number of new shares to create, at most 32.
    #[arg(long, value_name = "N")]
    total: Option<u8>,
}

impl NewSecret {
    /// Reports missing or wrong options before anything is asked.
    ///
    /// # Errors
    /// The options do not fit the type.
    pub fn check(&self, kind: SlotType) -> Result<(), Failure> {
        let with_file = matches!(kind, SlotType::KeyFile | SlotType::PassphraseAndKeyFile);
        let wrong = |message: &str, hint: &str| Err(Failure::usage(format!("{}: {message}", kind.word()), hint));
        match () {
            () if with_file && self.new_key_file.is_none() => wrong(
                "the new key file is missing",
                "create one (head -c 32 /dev/urandom > FILE), then use --new-key-file FILE",
            ),
            () if !with_file && self.new_key_file.is_some() => {
                wrong("takes no key file", "use --type key-file or --type passphrase-and-key-file")
            }
            () if kind == SlotType::Shares && (self.threshold.is_none() || self.total.is_none()) => {
                wrong("give the number of shares and how many open the vault", "for example: --threshold 2 --total 3")
            }
            () if kind != SlotType::Shares && (self.threshold.is_some() || self.total.is_some()) => {
                wrong("is not a share slot", "use --threshold and --total with --type shares")
            }
            () => self.new_key_file.as_deref().map_or(Ok(()), check_key_file),
        }
    }

    /// Asks for what is missing.
    ///
    /// # Errors
    /// Nothing was typed, or a file cannot be read.
    pub fn collect(&self, kind: SlotType, label: &str, fds: &mut Descriptors) -> Result<NewSlotBody, Failure> {
        let typed = matches!(kind, SlotType::Passphrase | SlotType::PassphraseAndKeyFile | SlotType::Hybrid);
        let passphrase = match (typed, self.new_passphrase_fd) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(Failure::usage(
                    format!("{}: takes no new passphrase", kind.word()),
                    "leave out --new-passphrase-fd",
                ));
            }
            (true, Some(fd)) => {
                let passphrase = fds.required(fd, "new passphrase")?;
                prompt::long_enough(&passphrase)?;
                Some(passphrase)
            }
            (true, None) => Some(prompt::new_passphrase(
                "New passphrase, at least 12 characters: ",
                "give it with --new-passphrase-fd N, for example: --new-passphrase-fd 4 4< FILE",
            )?),
        };
        Ok(NewSlotBody {
            kind: kind.word().to_owned(),
            label: label.to_owned(),
            passphrase,
            key_file: self.new_key_file.as_deref().map(key_file).transpose()?,
            threshold: self.threshold,
            total: self.total,
        })
    }
}

/// Says why the reply takes a moment.
pub fn deriving() {
    eprintln!("deriving keys, which takes a second or more by design ...");
}

/// Prints a slot and its new secret. This is the only time that the secret is shown.
///
/// # Errors
/// Standard output cannot be written.
pub fn made(out: &Output, reply: &SlotReply, word: &str) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct ShownOnce<'a> {
        slot: &'a SlotInfo,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovery_code: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        shares: Vec<&'a str>,
    }
    let code = reply.recovery_code.as_ref().map(SecretText::reveal);
    let shares: Vec<&str> = reply.shares.iter().map(SecretText::reveal).collect();
    let (one, many) = (code.is_some(), !shares.is_empty());
    if out.json {
        out.either(&ShownOnce { slot: &reply.slot, recovery_code: code, shares }, String::new)?;
    } else {
        // Standard output gets the secrets alone, so that they can be piped to a printer; every other line goes to
        // standard error.
        let mut text = Buffer::new();
        for secret in code.into_iter().chain(shares) {
            text.text(secret).text("\n");
        }
        let done = format!("{} {word}", title(&reply.slot));
        if text.is_empty() {
            out.line(&done)?;
        } else {
            eprintln!("{done}");
            out.bytes(&text)?;
        }
    }
    if one {
        eprintln!(
            "This code opens the vault and is shown only once. Print it, keep it away from the vault and its backups, and\n\
             test the print: strongroom slot test --with recovery-code"
        );
    }
    if many {
        let try_them = match reply.slot.replaces {
            None => ", and test the prints: strongroom slot test --with shares",
            Some(_) => ".",
        };
        eprintln!(
            "These shares are shown only once. Print each on its own sheet, give each to a different person, keep none with\n\
             the vault{try_them}"
        );
    }
    Ok(())
}
