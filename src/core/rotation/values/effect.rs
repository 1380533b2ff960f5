//! One step at a target, on a separate thread, so that a target that hangs does not delay other rotations or sealing.

use std::sync::mpsc::SyncSender;

use crate::api::secret::SecretText;
use crate::connect::{ConnectError, Connector, Credential, Live, Step};

use crate::core::error::VaultError;

/// The type of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Kind {
    Generate,
    Apply,
    Verify,
    Probe,
    Revert,
    RevokeOld,
}

/// Result of a step.
pub(in crate::core) enum Answer {
    /// The step is done.
    Done,
    /// The value that a command printed.
    Value(SecretText),
    /// The old value is revoked. Carries what was left valid, as a text for people.
    Revoked(Option<String>),
    /// What a probe found.
    Live(Live),
}

/// A step with everything that it needs. Its secrets are wiped with it.
pub(in crate::core) struct Effect {
    pub kind: Kind,
    pub connector: Box<dyn Connector>,
    /// Whether it ends soon after the thread is told to stop.
    pub stops: bool,
    pub id: String,
    pub path: String,
    pub key: String,
    pub staged: Option<Credential>,
    pub current: Option<Credential>,
    pub previous: Option<Credential>,
}

/// The end of a step.
pub(in crate::core) struct Ended {
    /// Entry key of the value.
    pub row: String,
    /// The rotation that the step belongs to.
    pub id: String,
    pub kind: Kind,
    pub result: Result<Answer, ConnectError>,
}

impl Effect {
    fn run(&self) -> Result<Answer, ConnectError> {
        let step = Step {
            id: &self.id,
            path: &self.path,
            key: &self.key,
            staged: self.staged.as_ref(),
            current: self.current.as_ref(),
            previous: self.previous.as_ref(),
        };
        match self.kind {
            Kind::Generate => self.connector.generate(&step).map(Answer::Value),
            Kind::Apply => self.connector.apply(&step).map(|()| Answer::Done),
            Kind::Verify => self.connector.verify(&step).map(|()| Answer::Done),
            Kind::Probe => self.connector.probe(&step).map(Answer::Live),
            Kind::Revert => self.connector.revert(&step).map(|()| Answer::Done),
            Kind::RevokeOld => self.connector.revoke_old(&step).map(Answer::Revoked),
        }
    }

    /// Starts the step. Its end is sent through `ended`, unless the receiver is gone.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system cannot start a thread.
    pub(in crate::core) fn start<M: Send + 'static>(
        self,
        row: String,
        ended: SyncSender<M>,
        wrap: fn(Ended) -> M,
    ) -> Result<(), VaultError> {
        std::thread::Builder::new()
            .name("rotation step".to_owned())
            .spawn(move || {
                let result = self.run();
                let (id, kind) = (self.id.clone(), self.kind);
                drop(self);
                let _ = ended.send(wrap(Ended { row, id, kind, result }));
            })
            .map(drop)
            .map_err(|_| VaultError::Unavailable("no thread could be started for a rotation step"))
    }
}
