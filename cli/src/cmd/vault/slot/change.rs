//! `slot change`: a new secret for a slot. A share set is changed in two steps.

use clap::Args;
use strongroom::api::rotation::{SlotInfo, SlotReply, SlotWrite};

use super::secret::{NewSecret, SlotType, deriving, made};
use crate::connection::Session;
use crate::exit::Failure;
use crate::opening::{OpeningArgs, find, title, wrong};
use crate::output::Output;
use crate::prompt::Descriptors;

/// `strongroom slot change`
#[derive(Debug, Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    opening: OpeningArgs,
    #[command(flatten)]
    new: NewSecret,
}

impl ChangeArgs {
    /// # Errors
    /// Not allowed, or a secret does not open its slot.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let (rotation, mut fds) = (session.client.rotation(), Descriptors::default());
        let named = match self.opening.slot() {
            Some(name) => {
                let list = rotation.slots()?.slots;
                let slot = find(&list, name)?;
                // If an earlier change was interrupted, the shares of the new set must be entered now.
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

    /// Continues after the new set was created: the old one is removed once the new shares were entered from the prints.
    fn second_step(&self, session: &Session, out: &Output, reply: &SlotReply, old: &SlotInfo) -> Result<(), Failure> {
        let rotation = session.client.rotation();
        made(out, reply, "created beside the old set")?;
        let needed = reply.slot.threshold.unwrap_or_default();
        eprintln!(
            "The old set still opens the vault. It is removed once {needed} of the new shares were entered from the prints. Until then both\n\
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
