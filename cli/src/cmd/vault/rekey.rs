//! `rekey`: replaces the root key and seals the new one into each slot.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom::api::rotation::{RekeyBody, SlotInfo, UnlockBody};

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::opening::{Keepers, find, named_file, title, wrong};
use crate::output::Output;
use crate::progress;
use crate::prompt;

/// Which slots stay when the root key is replaced, and where their secrets come from.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Drop slots whose secret is not given (hybrid slots need none and are kept).
    #[arg(long)]
    pub drop_absent: bool,
    /// Ask for the secrets of these slots only (numbers or labels); treat the other holders as absent.
    #[arg(long, value_name = "SLOT", value_delimiter = ',')]
    keep: Vec<String>,
    /// Read secrets from this open file descriptor; repeat for each slot, in their order. Repeating a descriptor reads
    /// its next line, and an empty line means that the holder is absent.
    #[arg(long, value_name = "FD")]
    passphrase_fd: Vec<u32>,
    /// Key file of a slot, LABEL=FILE (for a plain removal: FILE, of the slot that opens the vault).
    #[arg(long, value_name = "LABEL=FILE")]
    key_file: Vec<String>,
}

impl KeepArgs {
    /// The key files by slot.
    fn files(&self) -> Result<Vec<(String, PathBuf)>, Failure> {
        let parsed = self.key_file.iter().map(|text| named_file(text)).collect::<Result<Vec<_>, _>>();
        parsed.map_err(|message| {
            Failure::usage(format!("--key-file: {message}"), "for example: --key-file olga=olga.key")
        })
    }

    /// Which secrets to ask for.
    ///
    /// # Errors
    /// A named slot does not exist.
    pub fn keepers<'a>(&'a self, slots: &[&'a SlotInfo]) -> Result<Keepers<'a>, Failure> {
        let all: Vec<SlotInfo> = slots.iter().map(|slot| (*slot).clone()).collect();
        let mut asked = Vec::new();
        for name in &self.keep {
            asked.push(find(&all, name)?.id);
        }
        // A hybrid slot is resealed with its public half. Its holder is asked only if named.
        let wanted = |slot: &&&SlotInfo| {
            if self.keep.is_empty() { !slot.survives_rekey } else { asked.contains(&slot.id) }
        };
        let slots = slots.iter().filter(wanted).copied().collect();
        Ok(Keepers { slots, fds: &self.passphrase_fd, key_files: self.files()? })
    }

    /// Rejects flags that only apply when the root key is replaced.
    ///
    /// # Errors
    /// One of them was given.
    pub fn only_with_rekey(&self) -> Result<(), Failure> {
        if self.drop_absent || !self.keep.is_empty() || self.passphrase_fd.len() > 1 || self.key_file.len() > 1 {
            let hint = "use them with --compromised or strongroom rekey";
            return Err(Failure::usage("--keep, --drop-absent or several secrets without --compromised", hint));
        }
        Ok(())
    }

    /// The only descriptor of a plain removal.
    pub fn first_fd(&self) -> Option<u32> {
        self.passphrase_fd.first().copied()
    }

    /// The only key file of a plain removal.
    pub fn plain_file(&self) -> Option<PathBuf> {
        self.key_file.first().map(PathBuf::from)
    }
}

/// What happens to each slot.
#[derive(Default, Serialize)]
pub struct SlotChanges {
    kept: Vec<String>,
    rewrapped: Vec<String>,
    dropped: Vec<String>,
}

impl SlotChanges {
    /// Makes the plan from the slots and the given secrets, which name their slots by number.
    pub fn of(slots: &[&SlotInfo], keep: &[UnlockBody]) -> Self {
        let mut plan = Self::default();
        for slot in slots {
            let number = slot.id.to_string();
            let given = keep.iter().any(|unlock| unlock.slot.as_ref() == Some(&number));
            let list = match (given, slot.survives_rekey) {
                (true, _) => &mut plan.kept,
                (false, true) => &mut plan.rewrapped,
                (false, false) => &mut plan.dropped,
            };
            list.push(title(slot));
        }
        plan
    }

    /// The plan as text.
    pub fn text(&self) -> String {
        let parts = [("kept", &self.kept), ("holder absent", &self.rewrapped), ("dropped", &self.dropped)];
        let lines = parts.iter().flat_map(|(word, names)| names.iter().map(move |name| format!("{word:<14} {name}\n")));
        lines.collect()
    }

    /// Checks that the plan may be carried out.
    ///
    /// # Errors
    /// A slot would be dropped without permission, or nobody could open the vault any more.
    pub fn allowed(&self, drop_absent: bool) -> Result<(), Failure> {
        if self.kept.is_empty() {
            let message = "no secret was given: at least one slot must be kept with its secret";
            return Err(Failure::new(Code::Refused, message, "nothing was changed; enter the passphrase of a slot"));
        }
        if !self.dropped.is_empty() && !drop_absent {
            let message = format!("no secret was given for {}", self.dropped.join(", "));
            let hint = "nothing was changed; give the secret, or drop the slot with --drop-absent";
            return Err(Failure::new(Code::Refused, message, hint));
        }
        Ok(())
    }
}

/// `strongroom rekey`
#[derive(Debug, Args)]
#[command(
    after_help = "Asks for the secret of each slot; press Enter if its holder is absent. Hybrid slots need no secret.
A rekey protects against old headers only together with a new data key: strongroom rotate data-key.
If a secret is in wrong hands: strongroom slot remove SLOT --compromised

  strongroom rekey -y --passphrase-fd 3 --passphrase-fd 3 3< FILE      two slots, one line each"
)]
pub struct RekeyArgs {
    #[command(flatten)]
    keep: KeepArgs,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

impl RekeyArgs {
    /// # Errors
    /// A secret does not open its slot, a slot would be dropped without permission, or not confirmed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let rotation = session.client.rotation();
        let list = rotation.slots()?;
        let slots: Vec<&SlotInfo> = list.slots.iter().collect();
        for slot in &slots {
            eprintln!("{}", super::slot::line::line(slot));
        }
        let keep = self.keep.keepers(&slots)?.collect(&rotation)?;
        let plan = SlotChanges::of(&slots, &keep);
        eprint!("{}", plan.text());
        plan.allowed(self.keep.drop_absent)?;
        if !self.yes {
            prompt::confirm("Replace the root key?")?;
        }
        eprintln!("deriving keys, which takes a second or more for each slot ...");
        let order = RekeyBody { keep, drop_absent: self.keep.drop_absent, compromised: None, deep: false, csr: None };
        let started = rotation.rekey(&order).map_err(|error| wrong(error, "nothing was changed"))?;
        let ended = progress::wait(session, started)?;
        out.either(&ended, || {
            format!(
                "{}\nThe root key was replaced. Old copies of the header, in backups, still open with their old secrets, and\n\
                 give access to the data keys of that time: rotate those with strongroom rotate data-key.",
                progress::outcome(&ended)
            )
        })?;
        progress::verdict(&ended)
    }
}
