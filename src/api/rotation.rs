//! Wire bodies of key slots and rotations (`sys/strongroom/slots`, `sys/strongroom/rotations`, `sys/rotate`).

use serde::{Deserialize, Serialize};

use super::secret::SecretText;
use super::sys::CertificateReply;

/// A secret that opens a slot, and which slot. Exactly one kind of secret is given; a passphrase may come with a key file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct UnlockBody {
    /// Number or label of the one slot to try; without it at most four slots of the type are.
    pub slot: Option<String>,
    /// A passphrase, as typed.
    pub passphrase: Option<SecretText>,
    /// Bytes of a key file, base64.
    pub key_file: Option<SecretText>,
    /// A recovery code, as printed.
    pub recovery_code: Option<SecretText>,
    /// Shares of one set, as printed.
    pub shares: Option<Vec<SecretText>>,
}

/// A secret to be set.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct NewSlotBody {
    /// `passphrase`, `key-file`, `passphrase-and-key-file`, `recovery-code`, `shares` or `hybrid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name for people, at most 64 bytes.
    pub label: String,
    /// For the types with a passphrase.
    pub passphrase: Option<SecretText>,
    /// For the types with a key file, base64.
    pub key_file: Option<SecretText>,
    /// Shares that open the slot.
    pub threshold: Option<u8>,
    /// Shares in all.
    pub total: Option<u8>,
}

/// Body of `slots/add`, and of `slots/change` with a new secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotWrite {
    /// Opens the vault's root key.
    pub unlock: UnlockBody,
    /// What is to be set.
    pub new: NewSlotBody,
}

/// Body of `slots/change`: with `new`, or with `confirm`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotChange {
    /// Opens the slot that is changed; with `confirm` the new share set.
    pub unlock: UnlockBody,
    /// What is to be set.
    #[serde(default)]
    pub new: Option<NewSlotBody>,
    /// The shares in `unlock` were read off the prints of a new set: the set that it replaces goes.
    #[serde(default)]
    pub confirm: bool,
}

/// Body of `slots/remove`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRemove {
    /// Number or label of the slot that goes.
    pub slot: String,
    /// Opens a slot that stays.
    pub unlock: UnlockBody,
}

/// Body of `slots/test`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotTest {
    /// What is tried.
    pub unlock: UnlockBody,
}

/// Body of `rekey`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RekeyBody {
    /// A secret for each slot that is to stay.
    pub keep: Vec<UnlockBody>,
    /// Slots that no secret was given for are dropped.
    #[serde(default)]
    pub drop_absent: bool,
    /// Number or label of a slot that somebody else may be able to open: it goes, and everything that its holder may
    /// have had is replaced.
    #[serde(default)]
    pub compromised: Option<String>,
    /// With `compromised`: values get new keys too.
    #[serde(default)]
    pub deep: bool,
    /// With `compromised`: PEM request for the caller's next certificate, for every other one ends.
    #[serde(default)]
    pub csr: Option<String>,
}

/// One key slot, as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotInfo {
    /// Number.
    pub id: u8,
    /// Type, as in [`NewSlotBody::kind`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Name for people.
    pub label: String,
    /// Meant for the day when the everyday secret is lost.
    pub recovery: bool,
    /// A new root key can be sealed into it without its secret.
    pub survives_rekey: bool,
    /// Argon2id memory in MiB, for types with a passphrase.
    pub memory_mib: Option<u32>,
    /// Argon2id passes.
    pub passes: Option<u32>,
    /// Shares that open it.
    pub threshold: Option<u8>,
    /// Shares in all.
    pub total: Option<u8>,
    /// First digits of the set's identifier, printed on each share.
    pub set: Option<String>,
    /// This is a new share set, whose shares were not typed in yet, for the slot of this number; both open.
    pub replaces: Option<u8>,
}

/// Reply of `slots`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotList {
    /// Slots by number.
    pub slots: Vec<SlotInfo>,
    /// Number of the header that lists them.
    pub header: u64,
}

/// Reply of `slots/add`, `slots/change` and `slots/test`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct SlotReply {
    /// The slot.
    pub slot: SlotInfo,
    /// A recovery code that was made; shown once.
    pub recovery_code: Option<SecretText>,
    /// Shares that were made; shown once.
    pub shares: Vec<SecretText>,
}

/// What proved that a term is not needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProofInfo {
    /// The term.
    pub term: u32,
    /// Generation at which every head was read.
    pub generation: u64,
    /// Records compared.
    pub records: u64,
    /// Records opened.
    pub opened: u64,
}

/// A step that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepInfo {
    /// What.
    pub step: String,
    /// With which result.
    pub result: String,
}

/// One rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RotationInfo {
    /// Identifier.
    pub id: String,
    /// `data-key`, `slot`, `rekey`, `compromised`, `authority` or `certificate`.
    pub kind: String,
    /// What is rotated.
    pub target: String,
    /// How far it is.
    pub state: String,
    /// Waits for `resume`.
    pub paused: bool,
    /// Not throttled.
    pub full_speed: bool,
    /// Records in all.
    pub total: u64,
    /// Records done.
    pub done: u64,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub updated: String,
    /// RFC 3339; empty while it goes on.
    pub finished: String,
    /// When an authority or a certificate should be replaced, RFC 3339; empty for everything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub due: String,
    /// Why it does not go on, with the next thing to try.
    pub error: Option<String>,
    /// Proofs for terms.
    pub proofs: Vec<ProofInfo>,
    /// What was done.
    pub steps: Vec<StepInfo>,
    /// The caller's next certificate; only in the answer to a rekey with `compromised`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certified: Option<CertificateReply>,
}

/// Reply of `rotations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RotationList {
    /// Runs that change keys, oldest first.
    pub rotations: Vec<RotationInfo>,
    /// Authorities and certificates, which are always on their way.
    pub certificates: Vec<RotationInfo>,
}

/// One data-key term.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TermInfo {
    /// Number.
    pub term: u32,
    /// `active`, `decrypt-only`, `compromised` or `destroyed`.
    pub state: String,
    /// RFC 3339.
    pub created: String,
    /// Records under it.
    pub live: u64,
    /// Records sealed with it, ever.
    pub seals: u64,
}

/// Reply of `terms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TermList {
    /// By number.
    pub terms: Vec<TermInfo>,
}

/// Body of `sys/rotate` here: Vault's clients send none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotateBody {
    /// Values get new keys too.
    pub deep: bool,
    /// Not throttled.
    pub full_speed: bool,
}

/// `sys/rotate/config`, as Vault has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateConfig {
    /// Whether the data key is rotated by itself.
    pub enabled: bool,
    /// After this many records.
    pub max_operations: u64,
    /// After this many seconds; 0 is never.
    #[serde(rename = "interval")]
    pub interval_s: u64,
}

impl Default for RotateConfig {
    /// 90 days or 2^30 records, whichever is first.
    fn default() -> Self {
        Self { enabled: true, max_operations: 1 << 30, interval_s: 90 * 86_400 }
    }
}

/// One rotating key of one secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValueInfo {
    /// Full path of the secret, with its mount.
    pub path: String,
    /// Key within the secret.
    pub key: String,
    /// `idle`, `generating`, `staged`, `applying`, `applied`, `verified`, `promoted`, `rolling-back` or `needs-operator`.
    pub state: String,
    /// Waits for `resume`.
    pub paused: bool,
    /// Identifier of the rotation under way or of the last one.
    pub id: String,
    /// Target that new values are applied to.
    pub target: Option<String>,
    /// A candidate is stored.
    pub staged: bool,
    /// Version that the last rotation made; 0 before the first.
    pub current: u64,
    /// Version before it, while it is in its grace.
    pub previous: Option<u64>,
    /// End of the grace, RFC 3339.
    pub previous_until: String,
    /// The last versions whose grace is over, oldest first.
    pub retired: Vec<u64>,
    /// When the current value became current, RFC 3339; empty before the first rotation.
    pub rotated: String,
    /// When the schedule asks for the next rotation, RFC 3339.
    pub next: String,
    /// The schedule or the greatest age has passed.
    pub overdue: bool,
    /// Somebody has to look.
    pub stuck: bool,
    /// When the value ends to be valid, RFC 3339.
    pub expires: String,
    /// Whole days until then; negative afterwards.
    pub expires_in_days: Option<i64>,
    /// What went wrong last, with the next thing to try.
    pub error: Option<String>,
    /// The policy as it is stored.
    pub policy: serde_json::Value,
}

/// Reply of `values`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValueList {
    /// By path and key.
    pub values: Vec<ValueInfo>,
}
