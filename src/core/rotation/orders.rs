//! Orders for the keeper and the rotator. Secrets in an order are wiped with it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::reply::Reply;
use crate::crypto::recovery::RecoveryCode;
use crate::crypto::secret::SecretBytes;
use crate::keys::Unlock;
use crate::keys::share::Share;
use crate::rotate::policy::Policy;

use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;

/// An order for the keeper. Its secrets are wiped with it.
pub(in crate::core) enum Order {
    /// Change key slots or the root key.
    Slot(SlotOrder),
    /// Change terms or a run.
    Term(TermOrder),
    /// Change a value. For the rotator, not for the keeper.
    Value(ValueOrder),
}

/// An order with its caller. Its secrets are wiped with it.
pub(in crate::core) struct Errand<O = Order> {
    pub facts: Arc<Facts>,
    pub order: O,
    pub answer: oneshot::Sender<Result<Reply, VaultError>>,
}

/// An order about a value, with its caller.
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

/// A secret, and the slot that it is for.
pub(in crate::core) struct Key {
    /// Number or label.
    pub slot: Option<String>,
    pub secret: Secret,
}

/// What a new slot is made from.
pub(in crate::core) enum Making {
    /// A secret that was sent.
    Sent(Secret),
    /// A recovery code that is generated here.
    RecoveryCode,
    /// Shares that are generated here.
    Shares { threshold: u8, total: u8 },
}

/// Orders about slots and the root key.
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
    /// The shares of a new set were typed in: remove the set that it replaces.
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
    /// Raise the cost of a passphrase slot that is cheaper to guess than others, or than configured.
    Upgrade(Key),
}

/// A compromised slot, and the request for the operator's next certificate.
pub(in crate::core) struct Compromised {
    /// Number or label.
    pub slot: String,
    /// PEM request. Only its key is used.
    pub csr: String,
}

/// Orders about terms and runs.
pub(in crate::core) enum TermOrder {
    /// Make a new term.
    Rotate {
        /// Also give all versions new keys.
        deep: bool,
        /// Run at full speed.
        full_speed: bool,
    },
    /// Pause a rotation.
    Pause(String),
    /// Continue, optionally at full speed.
    Resume { id: String, full_speed: Option<bool> },
    /// End the rotation. Both terms stay.
    Abort(String),
}

/// Orders about a value.
pub(in crate::core) enum ValueOrder {
    /// Store a policy for one key. A new policy does not start a rotation.
    Set { path: String, key: String, policy: Box<Policy> },
    /// Remove the policy. The secret stays.
    Forget { path: String, key: String },
    /// Rotate now.
    Rotate { path: String, key: String },
    /// Roll back.
    Abort { path: String, key: String },
    /// Stop between two steps.
    Pause { path: String, key: String },
    /// Continue.
    Resume { path: String, key: String },
}
