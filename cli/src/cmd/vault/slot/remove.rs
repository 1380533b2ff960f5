//! `slot remove`: removes a slot, alone or with every key that its holder may have obtained.

use std::path::PathBuf;

use clap::Args;
use strongroom::api::rotation::{RekeyBody, RotationInfo, SlotInfo};

use super::secret::deriving;
use crate::cmd::access::compromise::{Fresh, lost, what_now};
use crate::cmd::vault::rekey::{KeepArgs, SlotChanges};
use crate::connection::{Connection, Session};
use crate::environment::environment;
use crate::exit::{Code, Failure};
use crate::opening::{OpeningArgs, With, find, title, wrong};
use crate::output::Output;
use crate::progress;
use crate::prompt::{self, Descriptors};

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
    /// Without --compromised: type of secret that opens the vault, if not a passphrase (recovery-code, shares,
    /// key-file=FILE).
    #[arg(long, value_name = "WHAT", conflicts_with = "compromised", default_value = "passphrase")]
    with: With,
    /// Without --compromised: the slot that the secret is for.
    #[arg(long = "slot", value_name = "SLOT", conflicts_with = "compromised")]
    stays: Option<String>,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

impl RemoveArgs {
    /// # Errors
    /// Not allowed, a secret does not open its slot, or not confirmed.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
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
        // The key is on disk before the request is sent: its certificate is the only one that will work afterwards.
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
