//! `slot`: the key slots, each a way to open the vault.

pub mod change;
pub mod line;
pub mod remove;
pub mod secret;

use clap::{Args, Subcommand};
use strongroom::api::rotation::SlotWrite;

use crate::connection::{Connection, Session};
use crate::exit::Failure;
use crate::opening::{OpeningArgs, title, wrong};
use crate::output::Output;
use crate::prompt::Descriptors;
use change::ChangeArgs;
use line::line;
use remove::RemoveArgs;
use secret::{NewSecret, SlotType, deriving, made};

/// `strongroom slot …`
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// List the key slots: each is one way to open the vault.
    List,
    /// Add a key slot. This needs a secret that already opens the vault.
    #[command(
        after_help = "strongroom slot add --label olga                          asks for the new passphrase twice
strongroom slot add --label safe --type recovery-code     prints the code once
strongroom slot add --label board --type shares --threshold 2 --total 3
strongroom slot add --label usb --type key-file --new-key-file usb.key
    usb.key must exist: 32 to 65,536 random bytes, made with: head -c 32 /dev/urandom > usb.key
    each guess is cheap, so it must be random; anyone with a copy of it can open the vault

A new passphrase costs at least as much to guess as the most expensive existing passphrase slot."
    )]
    Add(AddArgs),
    /// Change the secret of a slot; its type and label stay. Name the slot with --slot.
    #[command(after_help = "strongroom slot change --slot olga
strongroom slot change --slot board --threshold 2 --total 3
A share set is changed in two steps: the new shares are printed, then you enter enough of them from the
printed sheets. Only then is the old set removed. If this is interrupted, both sets open; run the same command again.")]
    Change(ChangeArgs),
    /// Remove a slot; with --compromised also replace every key that its holder may have obtained.
    Remove(RemoveArgs),
    /// Test a secret without changing anything. Test every recovery code once, or you cannot rely on it.
    #[command(after_help = "strongroom slot test --with recovery-code
strongroom slot test --with shares        asks for one after the other, and reports a wrong one at once")]
    Test(TestArgs),
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
