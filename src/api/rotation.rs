//! Wire bodies of key slots and rotations (`sys/strongroom/slots`, `sys/strongroom/rotations`, `sys/rotate`).

use serde::{Deserialize, Serialize};

use super::fields::{FieldError, Fields};
use super::json::Object;
use super::request::Body;
use super::secret::SecretText;
use super::sys::CertificateReply;

/// A secret that opens a slot, and the slot. Exactly one kind of secret must be given; a passphrase may come with a key
/// file.
#[derive(Default)]
pub struct UnlockBody {
    /// Number or label of the only slot to try. Without it, at most four slots of the type are tried.
    pub slot: Option<String>,
    /// A passphrase as typed.
    pub passphrase: Option<SecretText>,
    /// Bytes of a key file, base64.
    pub key_file: Option<SecretText>,
    /// A recovery code as printed.
    pub recovery_code: Option<SecretText>,
    /// Shares of one set as printed.
    pub shares: Option<Vec<SecretText>>,
}

impl UnlockBody {
    fn read(object: Object<'_>) -> Result<Self, FieldError> {
        let fields = Fields::only(object, &["slot", "passphrase", "key_file", "recovery_code", "shares"])?;
        Ok(Self {
            slot: fields.text("slot")?,
            passphrase: fields.secret("passphrase")?,
            key_file: fields.secret("key_file")?,
            recovery_code: fields.secret("recovery_code")?,
            shares: fields.secrets("shares")?,
        })
    }

    /// The required field `unlock`.
    fn of(fields: Fields<'_>) -> Result<Self, FieldError> {
        Self::read(fields.object("unlock")?.ok_or(FieldError::Missing("unlock"))?)
    }
}

/// A new secret.
#[derive(Default)]
pub struct NewSlotBody {
    /// `passphrase`, `key-file`, `passphrase-and-key-file`, `recovery-code`, `shares` or `hybrid`.
    pub kind: String,
    /// Name for people, at most 64 bytes.
    pub label: String,
    /// Passphrase, for the types that have one.
    pub passphrase: Option<SecretText>,
    /// Key file in base64, for the types that have one.
    pub key_file: Option<SecretText>,
    /// Number of shares that open the slot.
    pub threshold: Option<u8>,
    /// Total number of shares.
    pub total: Option<u8>,
}

impl NewSlotBody {
    fn read(object: Object<'_>) -> Result<Self, FieldError> {
        let fields = Fields::only(object, &["type", "label", "passphrase", "key_file", "threshold", "total"])?;
        let count = |name| -> Result<Option<u8>, FieldError> {
            Ok(fields.number_in(name, 0, u8::MAX.into())?.and_then(|number| u8::try_from(number).ok()))
        };
        Ok(Self {
            kind: fields.text("type")?.unwrap_or_default(),
            label: fields.text("label")?.unwrap_or_default(),
            passphrase: fields.secret("passphrase")?,
            key_file: fields.secret("key_file")?,
            threshold: count("threshold")?,
            total: count("total")?,
        })
    }
}

/// Body of `slots/add`, and of `slots/change` with a new secret.
pub struct SlotWrite {
    /// Opens the vault's root key.
    pub unlock: UnlockBody,
    /// The new secret.
    pub new: NewSlotBody,
}

impl SlotWrite {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["unlock", "new"])?;
        let new = fields.object("new")?.ok_or(FieldError::Missing("new"))?;
        Ok(Self { unlock: UnlockBody::of(fields)?, new: NewSlotBody::read(new)? })
    }
}

/// Body of `slots/change`: either with `new` or with `confirm`.
pub struct SlotChange {
    /// Opens the slot to change. With `confirm` it opens the new share set.
    pub unlock: UnlockBody,
    /// The new secret.
    pub new: Option<NewSlotBody>,
    /// The shares in `unlock` were read from the prints of a new set. The set that it replaces is removed.
    pub confirm: bool,
}

impl SlotChange {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["unlock", "new", "confirm"])?;
        Ok(Self {
            unlock: UnlockBody::of(fields)?,
            new: fields.object("new")?.map(NewSlotBody::read).transpose()?,
            confirm: fields.flag("confirm")?.unwrap_or(false),
        })
    }
}

/// Body of `slots/remove`.
pub struct SlotRemove {
    /// Number or label of the slot to remove.
    pub slot: String,
    /// Opens a slot that stays.
    pub unlock: UnlockBody,
}

impl SlotRemove {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["slot", "unlock"])?;
        Ok(Self { slot: fields.required("slot")?, unlock: UnlockBody::of(fields)? })
    }
}

/// Body of `slots/test`.
pub struct SlotTest {
    /// The secret to test.
    pub unlock: UnlockBody,
}

impl SlotTest {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        Ok(Self { unlock: UnlockBody::of(body.only(&["unlock"])?)? })
    }
}

/// Body of `rekey`.
pub struct RekeyBody {
    /// A secret for each slot that stays.
    pub keep: Vec<UnlockBody>,
    /// Whether slots without a given secret are dropped.
    pub drop_absent: bool,
    /// Number or label of a slot that somebody else may be able to open. It is removed, and everything that its holder
    /// may have obtained is replaced.
    pub compromised: Option<String>,
    /// With `compromised`: whether values get new keys too.
    pub deep: bool,
    /// With `compromised`: PEM request for the caller's next certificate, because every other one is revoked.
    pub csr: Option<String>,
}

impl RekeyBody {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["keep", "drop_absent", "compromised", "deep", "csr"])?;
        Ok(Self {
            keep: fields.objects("keep", UnlockBody::read)?.ok_or(FieldError::Missing("keep"))?,
            drop_absent: fields.flag("drop_absent")?.unwrap_or(false),
            compromised: fields.text("compromised")?,
            deep: fields.flag("deep")?.unwrap_or(false),
            csr: fields.text("csr")?,
        })
    }
}

/// One key slot in a list.
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
    /// Whether it is meant for the loss of the everyday secret.
    pub recovery: bool,
    /// Whether a new root key can be sealed into it without its secret.
    pub survives_rekey: bool,
    /// Argon2id memory in MiB, for types with a passphrase.
    pub memory_mib: Option<u32>,
    /// Argon2id passes.
    pub passes: Option<u32>,
    /// Number of shares that open it.
    pub threshold: Option<u8>,
    /// Total number of shares.
    pub total: Option<u8>,
    /// First digits of the set's identifier, which is printed on each share.
    pub set: Option<String>,
    /// Number of the slot that this new share set replaces, if its shares have not been confirmed yet. Both open the vault.
    pub replaces: Option<u8>,
}

/// Reply of `slots`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotList {
    /// Slots by number.
    pub slots: Vec<SlotInfo>,
    /// Number of the header that contains them.
    pub header: u64,
}

/// Reply of `slots/add`, `slots/change` and `slots/test`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct SlotReply {
    /// The slot.
    pub slot: SlotInfo,
    /// A generated recovery code, shown only once.
    pub recovery_code: Option<SecretText>,
    /// Generated shares, shown only once.
    pub shares: Vec<SecretText>,
}

/// Proof that a term is not needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProofInfo {
    /// The term.
    pub term: u32,
    /// Generation at which all heads were read.
    pub generation: u64,
    /// Number of records compared.
    pub records: u64,
    /// Number of records opened.
    pub opened: u64,
}

/// A completed step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepInfo {
    /// The step.
    pub step: String,
    /// Its result.
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
    /// Its progress.
    pub state: String,
    /// Whether it waits for `resume`.
    pub paused: bool,
    /// Whether it runs at full speed.
    pub full_speed: bool,
    /// Total number of records.
    pub total: u64,
    /// Number of finished records.
    pub done: u64,
    /// Start, RFC 3339.
    pub started: String,
    /// Last change, RFC 3339.
    pub updated: String,
    /// End, RFC 3339; empty while it is running.
    pub finished: String,
    /// When an authority or a certificate should be replaced, RFC 3339; otherwise empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub due: String,
    /// Why it does not continue, with the next thing to try.
    pub error: Option<String>,
    /// Proofs for terms.
    pub proofs: Vec<ProofInfo>,
    /// The completed steps.
    pub steps: Vec<StepInfo>,
    /// The caller's next certificate. Only in the reply to a rekey with `compromised`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certified: Option<CertificateReply>,
}

/// Reply of `rotations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RotationList {
    /// Runs that change keys, oldest first.
    pub rotations: Vec<RotationInfo>,
    /// Authorities and certificates, which are always being rotated.
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
    /// Creation, RFC 3339.
    pub created: String,
    /// Number of records that use it.
    pub live: u64,
    /// Number of records that were ever sealed with it.
    pub seals: u64,
}

/// Reply of `terms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TermList {
    /// By number.
    pub terms: Vec<TermInfo>,
}

/// Body of `sys/rotate` here. Vault's clients send none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RotateBody {
    /// Whether values get new keys too.
    pub deep: bool,
    /// Whether to run at full speed.
    pub full_speed: bool,
}

impl RotateBody {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["deep", "full_speed"])?;
        Ok(Self {
            deep: fields.flag("deep")?.unwrap_or(false),
            full_speed: fields.flag("full_speed")?.unwrap_or(false),
        })
    }
}

/// `sys/rotate/config`, as in Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateConfig {
    /// Whether the data key is rotated automatically.
    pub enabled: bool,
    /// Rotate after this many records.
    pub max_operations: u64,
    /// Rotate after this many seconds; 0 means never.
    #[serde(rename = "interval")]
    pub interval_s: u64,
}

impl Default for RotateConfig {
    /// 90 days or 2^30 records, whichever comes first.
    fn default() -> Self {
        Self { enabled: true, max_operations: 1 << 30, interval_s: 90 * 86_400 }
    }
}

/// One rotating key of one secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValueInfo {
    /// Full path of the secret with its mount.
    pub path: String,
    /// Key in the secret.
    pub key: String,
    /// `idle`, `generating`, `staged`, `applying`, `applied`, `verified`, `promoted`, `rolling-back` or `needs-operator`.
    pub state: String,
    /// Whether it waits for `resume`.
    pub paused: bool,
    /// Identifier of the running rotation, or of the last one.
    pub id: String,
    /// Target to which new values are applied.
    pub target: Option<String>,
    /// Whether a candidate is stored.
    pub staged: bool,
    /// Version that the last rotation created; 0 before the first.
    pub current: u64,
    /// Version before it, during its grace period.
    pub previous: Option<u64>,
    /// End of the grace period, RFC 3339.
    pub previous_until: String,
    /// The most recent versions whose grace period is over, oldest first.
    pub retired: Vec<u64>,
    /// When the current value became current, RFC 3339; empty before the first rotation.
    pub rotated: String,
    /// When the schedule requires the next rotation, RFC 3339.
    pub next: String,
    /// Whether the schedule or the maximum age has been exceeded.
    pub overdue: bool,
    /// Whether an operator has to act.
    pub stuck: bool,
    /// When the value expires, RFC 3339.
    pub expires: String,
    /// Whole days until then; negative afterwards.
    pub expires_in_days: Option<i64>,
    /// The last error, with the next thing to try.
    pub error: Option<String>,
    /// The policy as stored.
    pub policy: serde_json::Value,
}

/// Reply of `values`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValueList {
    /// By path and key.
    pub values: Vec<ValueInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_about_slots_are_read_as_all_others() {
        let add = r#"{"unlock":{"shares":["a","b"],"slot":null},"new":{"type":"shares","threshold":"2","total":3}}"#;
        let Ok(SlotWrite { unlock, new }) = SlotWrite::read(&Body::of(add)) else { panic!("a body") };
        let shares = unlock.shares.unwrap_or_default();
        assert_eq!(shares.iter().map(SecretText::reveal).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((unlock.slot, new.kind.as_str(), new.threshold, new.total), (None, "shares", Some(2), Some(3)));
        let change = SlotChange::read(&Body::of(r#"{"unlock":{"passphrase":"p"},"new":null,"confirm":"true"}"#));
        assert!(change.is_ok_and(|change| change.confirm && change.new.is_none()));
        let rekey = RekeyBody::read(&Body::of(r#"{"keep":[{"slot":"1"},{"slot":"2"}],"deep":"false"}"#));
        assert!(rekey.is_ok_and(|rekey| rekey.keep.len() == 2 && !rekey.deep && rekey.csr.is_none()));
        let rotate = RotateBody::read(&Body::of(r#"{"deep":"true","full_speed":null}"#));
        assert_eq!(rotate, Ok(RotateBody { deep: true, full_speed: false }));
        assert_eq!(RotateBody::read(&Body::empty()), Ok(RotateBody::default()));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let add = |text| SlotWrite::read(&Body::of(text)).err();
        assert_eq!(add(r#"{"new":{}}"#), Some(FieldError::Missing("unlock")));
        assert_eq!(add(r#"{"unlock":{}}"#), Some(FieldError::Missing("new")));
        assert_eq!(add(r#"{"unlock":["1"],"new":{}}"#), Some(FieldError::Must("unlock", "an object")));
        assert_eq!(
            add(r#"{"unlock":{"shares":"a,b"},"new":{}}"#),
            Some(FieldError::Must("shares", "a list of strings"))
        );
        assert_eq!(add(r#"{"unlock":{},"new":{"total":256}}"#), Some(FieldError::Range("total", 0, 255)));
        assert!(matches!(add(r#"{"unlock":{"pin":"1"},"new":{}}"#), Some(FieldError::Unknown(_))));
        let keep = |text| RekeyBody::read(&Body::of(text)).err();
        assert_eq!(keep("{}"), Some(FieldError::Missing("keep")));
        for text in [r#"{"keep":{}}"#, r#"{"keep":["1"]}"#, r#"{"keep":[["1"]]}"#] {
            assert_eq!(keep(text), Some(FieldError::Must("keep", "a list of objects")), "{text}");
        }
        assert_eq!(SlotRemove::read(&Body::of(r#"{"unlock":{}}"#)).err(), Some(FieldError::Missing("slot")));
        assert_eq!(RotateBody::read(&Body::of(r#"{"deep":1}"#)), Err(FieldError::Must("deep", "true or false")));
    }
}
