//! What the keeper and the rotator can be asked to do. Secrets inside are wiped with the order.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::crypto::recovery::RecoveryCode;
use crate::crypto::secret::SecretBytes;
use crate::keys::Unlock;
use crate::keys::share::Share;
use crate::rotate::policy::Policy;

use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::request::Reply;

/// What the keeper can be asked to do. Secrets inside are wiped with it.
pub(in crate::core) enum Order {
    /// A change of key slots or of the root key.
    Slot(SlotOrder),
    /// A change of terms, or of a run.
    Term(TermOrder),
    /// A value: for the rotator, not for the keeper.
    Value(ValueOrder),
}

/// An order on its way. Secrets inside are wiped with it.
pub(in crate::core) struct Errand<O = Order> {
    pub facts: Arc<Facts>,
    pub order: O,
    pub answer: oneshot::Sender<Result<Reply, VaultError>>,
}

/// An order about a value on its way.
pub(in crate::core) type ValueErrand = Errand<ValueOrder>;

/// A secret in its own memory.
pub(in crate::core) enum Secret {
    Passphrase(SecretBytes),
    KeyFile(SecretBytes),
    Both { passphrase: SecretBytes, file: SecretBytes },
    Recovery(RecoveryCode),
    Shares(Vec<Share>),
    Hybrid(SecretBytes),
}

impl Secret {
    pub(in crate::core) fn unlock(&self) -> Unlock<'_> {
        match self {
            Self::Passphrase(text) => Unlock::Passphrase(text.reveal()),
            Self::KeyFile(bytes) => Unlock::KeyFile(bytes.reveal()),
            Self::Both { passphrase, file } => {
                Unlock::PassphraseAndFile { passphrase: passphrase.reveal(), file: file.reveal() }
            }
            Self::Recovery(code) => Unlock::Recovery(code.reveal()),
            Self::Shares(shares) => Unlock::Shares(shares),
            Self::Hybrid(text) => Unlock::Hybrid(text.reveal()),
        }
    }
}

/// A secret, and the slot that it is meant for.
pub(in crate::core) struct Key {
    /// Number or label.
    pub slot: Option<String>,
    pub secret: Secret,
}

/// What a new slot is made of.
pub(in crate::core) enum Making {
    /// Of a secret that was sent.
    Sent(Secret),
    /// Of a recovery code that is made here.
    RecoveryCode,
    /// Of shares that are made here.
    Shares { threshold: u8, total: u8 },
}

/// What can be asked about slots and the root key.
pub(in crate::core) enum SlotOrder {
    Test(Key),
    Add {
        unlock: Key,
        label: String,
        making: Making,
    },
    Change {
        unlock: Key,
        making: Making,
    },
    /// The shares of a new set, typed in: the set that it replaces goes.
    Confirm(Key),
    Remove {
        unlock: Key,
        slot: String,
    },
    Rekey {
        keep: Vec<Key>,
        drop_absent: bool,
        compromised: Option<Compromised>,
        deep: bool,
    },
    /// Raises the cost of a passphrase slot that is below the configured one.
    Upgrade(Key),
}

/// A slot in wrong hands, and what the operator's next certificate is made for.
pub(in crate::core) struct Compromised {
    /// Number or label.
    pub slot: String,
    /// PEM request; only its key counts.
    pub csr: String,
}

/// What can be asked about terms and runs.
pub(in crate::core) enum TermOrder {
    /// A new term.
    Rotate {
        /// New keys for all versions too.
        deep: bool,
        /// Not throttled.
        full_speed: bool,
    },
    /// Stop for now.
    Pause(String),
    /// Go on, perhaps faster.
    Resume { id: String, full_speed: Option<bool> },
    /// Leave it as it is: both terms stay.
    Abort(String),
}

/// What can be asked about a value.
pub(in crate::core) enum ValueOrder {
    /// Stores a policy for one key; a new one starts without a rotation.
    Set { path: String, key: String, policy: Box<Policy> },
    /// Forgets the policy; the secret stays.
    Forget { path: String, key: String },
    /// Rotates now.
    Rotate { path: String, key: String },
    /// Goes back.
    Abort { path: String, key: String },
    /// Stops between two steps.
    Pause { path: String, key: String },
    /// Goes on.
    Resume { path: String, key: String },
}
