//! `slot`: the key slots, each a way to open the vault.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom::api::rotation::{NewSlotBody, RekeyBody, RotationInfo, SlotInfo, SlotReply, SlotWrite};
use strongroom::api::secret::SecretText;
use strongroom::wiped::Buffer;

use super::compromise::{Fresh, lost, what_now};
use crate::connection::Connection;
use crate::connection::Session;
use crate::environment::environment;
use crate::exit::{Code, Failure};
use crate::opening::{OpeningArgs, find, key_file, title, wrong};
use crate::output::Output;
use crate::progress;
use crate::prompt::{self, Descriptors};

use super::rekey::{KeepArgs, SlotChanges};

/// `strongroom slot …`
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// List the key slots: each is one way to open the vault.
    List,
    /// Add a key slot. This needs a secret that already opens the vault.
    #[command(
        after_help = "strongroom slot add --label olga                          asks for the new passphrase twice
strongroom slot add --label safe --type recovery-code     prints the code once
strongroom slot add --label board --type shares --threshold 2 --total 3"
    )]
    Add(AddArgs),
    /// Change the secret of a slot; its type and label stay. Name the slot with --slot.
    #[command(after_help = "strongroom slot change --slot olga
strongroom slot change --slot board --threshold 2 --total 3
A share set is changed in two steps: the new shares are printed, then enough of them are asked for, off the prints. Only
then the old set is removed. If this is interrupted, both sets open; run the same command again.")]
    Change(ChangeArgs),
    /// Remove a slot; with --compromised also replace every key that its holder may have had.
    Remove(RemoveArgs),
    /// Test a secret without changing anything. Test every recovery code once, or you cannot rely on it.
    #[command(after_help = "strongroom slot test --with recovery-code
strongroom slot test --with shares        asks for one after the other, and reports a wrong one at once")]
    Test(TestArgs),
}

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
    fn word(self) -> &'static str {
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
    fn of(slot: &SlotInfo) -> Option<Self> {
        let word = slot.kind.replace('+', "-and-");
        Self::value_variants().iter().copied().find(|kind| kind.word() == word)
    }
}

/// The new secret.
#[derive(Debug, Args)]
struct NewSecret {
    /// Read the new passphrase from this open file descriptor; if it is also --passphrase-fd, its next line.
    #[arg(long, value_name = "FD")]
    new_passphrase_fd: Option<u32>,
    /// New key file: 32 bytes to 64 KiB that nobody can guess.
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
    fn check(&self, kind: SlotType) -> Result<(), Failure> {
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
                wrong("is not made of shares", "use --threshold and --total with --type shares")
            }
            () => Ok(()),
        }
    }

    fn collect(&self, kind: SlotType, label: &str, fds: &mut Descriptors) -> Result<NewSlotBody, Failure> {
        let typed = matches!(kind, SlotType::Passphrase | SlotType::PassphraseAndKeyFile | SlotType::Hybrid);
        let passphrase = match (typed, self.new_passphrase_fd) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(Failure::usage(
                    format!("{}: takes no new passphrase", kind.word()),
                    "leave out --new-passphrase-fd",
                ));
            }
            (true, Some(fd)) => Some(fds.required(fd, "new passphrase")?),
            (true, None) => Some(prompt::asked_twice(
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

/// `strongroom slot add`
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Name of the new slot, for people, such as the name of its holder.
    #[arg(long, value_name = "LABEL")]
    label: String,
    /// Type of the new slot.
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "passphrase")]
    kind: SlotType,
    #[command(flatten)]
    opening: OpeningArgs,
    #[command(flatten)]
    new: NewSecret,
}

/// `strongroom slot change`
#[derive(Debug, Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    opening: OpeningArgs,
    #[command(flatten)]
    new: NewSecret,
}

/// `strongroom slot remove`
#[derive(Debug, Args)]
#[command(
    after_help = "Removing a slot does not change the root key: somebody with a copy of an old header (in a backup) and the slot's
secret can still open that copy. If the secret may be in wrong hands, use --compromised: it replaces the root key, the
data key and the audit key, and asks for a secret of each slot that stays."
)]
pub struct RemoveArgs {
    /// Number or label of the slot to remove.
    slot: String,
    /// Someone else may be able to open the slot: replace every key that they may have obtained.
    #[arg(long)]
    compromised: bool,
    /// With --compromised: write your new certificate to this new folder instead of your profile.
    #[arg(long, value_name = "DIR", requires = "compromised")]
    out: Option<PathBuf>,
    /// With --compromised: also give values new keys, not only the keys of their records.
    #[arg(long, requires = "compromised")]
    deep: bool,
    #[command(flatten)]
    keep: KeepArgs,
    /// Without --compromised: kind of secret that opens the vault, if not a passphrase (recovery-code, shares,
    /// key-file=FILE).
    #[arg(long, value_name = "WHAT", conflicts_with = "compromised", default_value = "passphrase")]
    with: crate::opening::With,
    /// Without --compromised: the slot that the secret is for.
    #[arg(long = "slot", value_name = "SLOT", conflicts_with = "compromised")]
    stays: Option<String>,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

/// `strongroom slot test`
#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    opening: OpeningArgs,
}

impl SlotCommand {
    /// # Errors
    /// Not allowed, a secret does not open its slot, or not confirmed.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
        match self {
            Self::List => {
                let list = session.client.rotation().slots()?;
                out.either(&list, || list.slots.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            Self::Add(args) => args.run(session, out),
            Self::Change(args) => args.run(session, out),
            Self::Remove(args) => args.run(session, connection, out),
            Self::Test(args) => {
                let rotation = session.client.rotation();
                let unlock = args.opening.collect(&rotation, &mut Descriptors::default())?;
                deriving();
                let slot = rotation.slot_test(&unlock).map_err(|error| wrong(error, "nothing was changed"))?;
                out.either(&slot, || format!("opens {}; nothing was changed", title(&slot)))
            }
        }
    }
}

/// One slot of the list.
pub fn line(slot: &SlotInfo) -> String {
    let mut text = format!("{:<3} {:<20} {:<20}", slot.id, slot.label, slot.kind);
    if let (Some(memory), Some(passes)) = (slot.memory_mib, slot.passes) {
        text.push_str(&format!(" argon2id {memory} MiB, {passes} passes"));
    }
    if let (Some(threshold), Some(total)) = (slot.threshold, slot.total) {
        let set = slot.set.as_deref().unwrap_or_default();
        text.push_str(&format!(" {threshold} of {total} shares, set {set}"));
    }
    if slot.recovery {
        text.push_str(" for recovery");
    }
    if let Some(old) = slot.replaces {
        let next = format!(" NOT TYPED IN YET, slot {old} still opens: strongroom slot change --slot {}", slot.id);
        text.push_str(&next);
    }
    if slot.survives_rekey {
        text.push_str(" kept by rekey without its holder");
    }
    text.trim_end().to_owned()
}

fn deriving() {
    eprintln!("deriving keys, which takes a second or more by design ...");
}

impl AddArgs {
    fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        self.new.check(self.kind)?;
        let (rotation, mut fds) = (session.client.rotation(), Descriptors::default());
        let unlock = self.opening.collect(&rotation, &mut fds)?;
        let new = self.new.collect(self.kind, &self.label, &mut fds)?;
        deriving();
        let reply = rotation.slot_add(&SlotWrite { unlock, new }).map_err(|error| wrong(error, "no slot was added"))?;
        made(out, &reply, "added")
    }
}

impl ChangeArgs {
    fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let (rotation, mut fds) = (session.client.rotation(), Descriptors::default());
        let named = match self.opening.slot() {
            Some(name) => {
                let list = rotation.slots()?.slots;
                let slot = find(&list, name)?;
                // If an earlier change was interrupted, the new set is what must be typed in now.
                Some(list.iter().find(|new| new.replaces == Some(slot.id)).unwrap_or(slot).clone())
            }
            None => None,
        };
        let mut unlock = match &named {
            Some(slot) => {
                if slot.replaces.is_some() {
                    eprintln!("{} was created earlier; enter its shares now", title(slot));
                }
                self.opening.meant_for(slot).collect(&rotation, &mut fds)?
            }
            None => self.opening.collect(&rotation, &mut fds)?,
        };
        // The type of the slot that the secret opens decides what to ask next.
        deriving();
        let slot = rotation.slot_test(&unlock).map_err(|error| wrong(error, "nothing was changed"))?;
        unlock.slot = Some(slot.id.to_string());
        if slot.replaces.is_some() {
            let reply = rotation.slot_confirm(&unlock).map_err(|error| wrong(error, "nothing was changed"))?;
            made(out, &reply, "changed")?;
            eprintln!("{OLD_SET}");
            return Ok(());
        }
        let slot = named.unwrap_or(slot);
        let kind = SlotType::of(&slot).ok_or_else(|| {
            Failure::usage(
                format!("a slot of the type of {} cannot be changed", title(&slot)),
                "remove it and add another",
            )
        })?;
        self.new.check(kind)?;
        eprintln!("changing {}", title(&slot));
        let new = self.new.collect(kind, &slot.label, &mut fds)?;
        let done = rotation.slot_change(&SlotWrite { unlock, new });
        let reply = done.map_err(|error| wrong(error, "nothing was changed"))?;
        if reply.slot.replaces.is_some() {
            return self.second_step(session, out, &reply, &slot);
        }
        made(out, &reply, "changed")?;
        eprintln!("old copies of the header, in backups, still open with the old secret");
        Ok(())
    }

    /// The new set has been created. The old one is removed once the new shares were typed in from the prints.
    fn second_step(&self, session: &Session, out: &Output, reply: &SlotReply, old: &SlotInfo) -> Result<(), Failure> {
        let rotation = session.client.rotation();
        made(out, reply, "created beside the old set")?;
        let needed = reply.slot.threshold.unwrap_or_default();
        eprintln!(
            "The old set still opens the vault. It is removed when {needed} of the new shares were typed in from the prints. Until then both\n\
             open; continue, now or later, with: strongroom slot change --slot {}",
            reply.slot.id
        );
        let Some(unlock) = self.opening.new_shares(&rotation, &reply.slot)? else { return Ok(()) };
        let reply = rotation.slot_confirm(&unlock).map_err(|error| wrong(error, "both sets still open"))?;
        // Only the shares go to standard output.
        eprintln!("{} changed; {} was removed\n{OLD_SET}", title(&reply.slot), title(old));
        Ok(())
    }
}

/// What is true after a share set was replaced.
const OLD_SET: &str = "Collect and destroy the old shares: they still open old copies of the header, in backups.";

impl RemoveArgs {
    fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let rotation = session.client.rotation();
        let list = rotation.slots()?;
        let gone = find(&list.slots, &self.slot)?;
        if self.compromised {
            return self.compromised(session, connection, out, &list.slots, gone);
        }
        self.keep.only_with_rekey()?;
        eprintln!("removing {}; {} slots stay", title(gone), list.slots.len().saturating_sub(1));
        eprintln!(
            "This does not change the root key: somebody with an old copy of the header, for example in a backup, and this slot's\n\
             secret can still open that copy. If somebody else may know the secret, use --compromised."
        );
        if !self.yes {
            prompt::confirm(&format!("Remove {}?", title(gone)))?;
        }
        let opening =
            OpeningArgs::of(self.with.clone(), self.keep.first_fd(), self.keep.plain_file(), self.stays.clone());
        let unlock = opening.collect(&rotation, &mut Descriptors::default())?;
        deriving();
        rotation.slot_remove(&gone.id.to_string(), &unlock).map_err(|error| wrong(error, "nothing was removed"))?;
        out.either(&gone, || format!("{} removed", title(gone)))
    }

    fn compromised(
        &self,
        session: &Session,
        connection: &Connection,
        out: &Output,
        slots: &[SlotInfo],
        gone: &SlotInfo,
    ) -> Result<(), Failure> {
        let fresh = Fresh::prepare(self.out.as_ref(), connection)?;
        let folder = fresh.folder().to_owned();
        let rotation = session.client.rotation();
        let stay: Vec<&SlotInfo> = slots.iter().filter(|slot| slot.id != gone.id).collect();
        eprintln!("{} will be removed. Enter a secret of each slot that stays.", title(gone));
        let keep = self.keep.keepers(&stay)?.collect(&rotation)?;
        let plan = SlotChanges::of(&stay, &keep);
        eprint!("{}", plan.text());
        eprintln!("removed        {}", title(gone));
        eprintln!(
            "New root key, integrity keys, data key and audit key; every record is re-encrypted at full speed.\n\
             New certificate authority: every certificate is revoked except yours, which is replaced in {}.",
            folder.display()
        );
        plan.allowed(self.keep.drop_absent)?;
        if !self.yes {
            prompt::confirm(&format!("Replace all keys and remove {}?", title(gone)))?;
        }
        // The key is on disk before the order is sent: its certificate is the only one that will work afterwards.
        let request = fresh.request()?;
        deriving();
        let order = RekeyBody {
            keep,
            drop_absent: self.keep.drop_absent,
            compromised: Some(gone.id.to_string()),
            deep: self.deep,
            csr: Some(request.csr_pem.clone()),
        };
        let mut started = rotation.rekey(&order).map_err(|error| lost(wrong(error, "nothing was changed")))?;
        let Some(certified) = started.certified.take() else {
            let message = "the vault has not sent your new certificate";
            return Err(Failure::new(
                Code::Refused,
                message,
                "on the vault's machine, run: strongroomd admin operator",
            ));
        };
        fresh.store(session, &certified, &request, connection)?;
        // The old certificate no longer works.
        let session = match &self.out {
            None => Session::open(connection, &environment)?,
            Some(_) => return out.either(&started, || format!("your new certificate is in {}", folder.display())),
        };
        let ended = progress::wait(&session, started)?;
        out.either(&ended, || after_compromise(&ended, gone, self.deep))?;
        eprintln!("{}", what_now(&folder));
        progress::verdict(&ended)
    }
}

fn after_compromise(run: &RotationInfo, gone: &SlotInfo, deep: bool) -> String {
    let mut text = progress::outcome(run);
    text.push_str(&format!(
        "\nFrom now on the secret of {} no longer opens this vault.\n\
         With an old copy of the header it still opens everything that was written before, as it is in\n\
         old backups and old copies of the store. No rotation changes a copy that somebody else has.\n\
         Next: delete the old backups, make a new one, and replace every value that may have been read.",
        title(gone)
    ));
    if !deep {
        text.push_str("\nThe values keep their own keys, encrypted with the new ones; --deep gives them new keys too.");
    }
    text
}

/// Prints a slot and its new secret. This is the only time that the secret is shown.
fn made(out: &Output, reply: &SlotReply, word: &str) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Shown<'a> {
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
        out.either(&Shown { slot: &reply.slot, recovery_code: code, shares }, String::new)?;
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
            "These shares are shown only once. Print each on its own sheet, give each to another person, keep none with the\n\
             vault{try_them}"
        );
    }
    Ok(())
}
