//! Key slots, the root key, data keys, and their rotations.
//!
//! Bodies with secrets are written by hand into one buffer that is wiped, because secret types cannot be serialised.

use serde::Serialize;
use zeroize::Zeroizing;

use super::kv::json;
use super::sys::below;
use super::{Client, ClientError};
use crate::api::error::Reason;
use crate::api::json::write_str;
use crate::api::rotation::{
    NewSlotBody, RekeyBody, RotateBody, RotateConfig, RotationInfo, RotationList, SlotInfo, SlotList, SlotReply,
    SlotWrite, TermInfo, TermList, UnlockBody, ValueInfo, ValueList,
};
use crate::api::secret::SecretText;
use crate::api::sys::AuditPublicKey;
use crate::wiped::Buffer;

/// Key rotation for one client. For requests with a secret the server derives keys, which takes a second or more per
/// slot by design. The client's timeout must allow for that.
///
/// ```no_run
/// use strongroom::client::{Client, ClientError};
///
/// /// Rotates every value that is late, and names those for which an operator has to act.
/// fn rotate_late(client: &Client) -> Result<(), ClientError> {
///     let rotation = client.rotation();
///     for value in rotation.values(None)? {
///         if value.stuck {
///             println!("{} {}: {}", value.path, value.key, value.error.unwrap_or_default());
///         } else if value.overdue {
///             rotation.value_order(&value.path, &value.key, "rotate")?;
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct Rotation<'a> {
    client: &'a Client,
}

const VALUES: &str = "sys/strongroom/values";

/// Changes to the configuration. Fields that are `None` stay unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RotateConfigChange {
    /// Whether the data key is rotated automatically.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Rotate after this many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_operations: Option<u64>,
    /// Rotate after this many seconds; 0 means never.
    #[serde(rename = "interval", skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
}

impl<'a> Rotation<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Returns the rotating values that the caller may read. With `path` (including its mount), only those of one
    /// secret.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn values(&self, path: Option<&str>) -> Result<Vec<ValueInfo>, ClientError> {
        let target = path.map_or_else(|| VALUES.to_owned(), |path| format!("{VALUES}/{path}"));
        Ok(self.client.find::<ValueList>("GET", &target, None)?.unwrap_or_default().values)
    }

    /// Requests an action on one key of a secret: `rotate`, `abort`, `pause`, `resume` or `forget`.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn value_order(&self, path: &str, key: &str, action: &str) -> Result<ValueInfo, ClientError> {
        let mut body = Vec::with_capacity(64);
        body.extend_from_slice(b"{\"key\":");
        write_str(&mut body, key);
        body.extend_from_slice(b",\"action\":");
        write_str(&mut body, action);
        body.push(b'}');
        self.client.ask("POST", &format!("{VALUES}/{path}"), Some(&body))
    }

    /// Stores the policy (JSON) for rotating one key of a secret. It contains no secret.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let policy = r#"{"generator":{"type":"password","length":32},"schedule":{"every":"30d"}}"#;
    /// let value = client.rotation().set_policy("secret/app/prod", "PASSWORD", policy)?;
    /// println!("next rotation: {}", value.next);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_policy(&self, path: &str, key: &str, policy: &str) -> Result<ValueInfo, ClientError> {
        let mut body = Vec::with_capacity(policy.len() + 64);
        body.extend_from_slice(b"{\"key\":");
        write_str(&mut body, key);
        body.extend_from_slice(b",\"policy\":");
        body.extend_from_slice(policy.as_bytes());
        body.push(b'}');
        self.client.ask("POST", &format!("{VALUES}/{path}"), Some(&body))
    }

    /// Returns the key slots.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn slots(&self) -> Result<SlotList, ClientError> {
        self.client.ask("GET", "sys/strongroom/slots", None)
    }

    /// Tests a secret without changing anything. Returns the slot that it opens.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request, with status 400 for a wrong
    /// secret. For too few correct shares, [`shares_so_far`] returns `Some`.
    pub fn slot_test(&self, unlock: &UnlockBody) -> Result<SlotInfo, ClientError> {
        let mut body = Text::with_room(unlock_size(unlock));
        body.open("unlock").unlock(unlock);
        let reply: SlotReply = self.client.ask("POST", "sys/strongroom/slots/test", Some(&body.end()))?;
        Ok(reply.slot)
    }

    /// Adds a slot.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use strongroom::api::rotation::{NewSlotBody, SlotWrite, UnlockBody};
    ///
    /// let unlock = UnlockBody { passphrase: Some("correct horse battery staple".into()), ..UnlockBody::default() };
    /// let new = NewSlotBody { kind: "recovery-code".into(), label: "safe".into(), ..NewSlotBody::default() };
    /// let made = client.rotation().slot_add(&SlotWrite { unlock, new })?;
    /// // Shown only this once: print it.
    /// println!("{}", made.recovery_code.as_ref().map_or("", |code| code.reveal()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn slot_add(&self, order: &SlotWrite) -> Result<SlotReply, ClientError> {
        self.client.ask("POST", "sys/strongroom/slots/add", Some(&slot_write(order)))
    }

    /// Changes the secret of the slot that `order.unlock` opens. Its type and label stay the same. For shares, a new
    /// set is created beside the old one, which stays valid until [`slot_confirm`](Self::slot_confirm) removes it.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn slot_change(&self, order: &SlotWrite) -> Result<SlotReply, ClientError> {
        self.client.ask("POST", "sys/strongroom/slots/change", Some(&slot_write(order)))
    }

    /// Confirms a new share set with shares typed from the printed copies. The set that it replaces is removed.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn slot_confirm(&self, unlock: &UnlockBody) -> Result<SlotReply, ClientError> {
        let mut body = Text::with_room(unlock_size(unlock));
        body.open("unlock").unlock(unlock).next("confirm").flag(true);
        self.client.ask("POST", "sys/strongroom/slots/change", Some(&body.end()))
    }

    /// Removes a slot by number or label. `unlock` must open one that stays.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn slot_remove(&self, slot: &str, unlock: &UnlockBody) -> Result<(), ClientError> {
        let mut body = Text::with_room(unlock_size(unlock) + 6 * slot.len());
        body.open("slot").text(slot).next("unlock").unlock(unlock);
        self.client.tell("POST", "sys/strongroom/slots/remove", Some(&body.end()))
    }

    /// Replaces the root key.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn rekey(&self, order: &RekeyBody) -> Result<RotationInfo, ClientError> {
        let room: usize = order.keep.iter().map(unlock_size).sum();
        let mut body = Text::with_room(
            room + order.compromised.as_ref().map_or(0, |slot| 6 * slot.len())
                + order.csr.as_ref().map_or(0, |csr| 16 + 2 * csr.len()),
        );
        body.open("drop_absent").flag(order.drop_absent).next("deep").flag(order.deep);
        if let Some(slot) = &order.compromised {
            body.next("compromised").text(slot);
        }
        if let Some(csr) = &order.csr {
            body.next("csr").text(csr);
        }
        body.next("keep").list(&order.keep, |body, unlock| {
            body.unlock(unlock);
        });
        self.client.ask("POST", "sys/strongroom/rekey", Some(&body.end()))
    }

    /// Starts a rotation of the data key.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use strongroom::api::rotation::RotateBody;
    ///
    /// let rotation = client.rotation();
    /// let started = rotation.rotate(RotateBody { deep: false, full_speed: false })?;
    /// // It continues on the server. Ask for it by its id.
    /// if let Some(now) = rotation.rotation(&started.id)? {
    ///     println!("{}: {} of {} records", now.state, now.done, now.total);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotate(&self, order: RotateBody) -> Result<RotationInfo, ClientError> {
        self.client.ask("POST", "sys/rotate", Some(&json(&order)?))
    }

    /// Returns all rotations, oldest first.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn rotations(&self) -> Result<RotationList, ClientError> {
        self.client.ask("GET", "sys/strongroom/rotations", None)
    }

    /// Returns one rotation.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid identifier.
    pub fn rotation(&self, id: &str) -> Result<Option<RotationInfo>, ClientError> {
        self.client.find("GET", &below("sys/strongroom/rotations", id)?, None)
    }

    /// Pauses a rotation.
    ///
    /// # Errors
    /// As [`rotation`](Self::rotation).
    pub fn pause(&self, id: &str) -> Result<RotationInfo, ClientError> {
        self.steer(id, "pause", None)
    }

    /// Resumes a rotation. `full_speed` changes whether it is throttled.
    ///
    /// # Errors
    /// As [`rotation`](Self::rotation).
    pub fn resume(&self, id: &str, full_speed: Option<bool>) -> Result<RotationInfo, ClientError> {
        let body = full_speed.map(|fast| format!("{{\"full_speed\":{fast}}}"));
        self.steer(id, "resume", body.as_ref().map(String::as_bytes))
    }

    /// Aborts a rotation.
    ///
    /// # Errors
    /// As [`rotation`](Self::rotation).
    pub fn abort(&self, id: &str) -> Result<RotationInfo, ClientError> {
        self.steer(id, "abort", None)
    }

    fn steer(&self, id: &str, verb: &str, body: Option<&[u8]>) -> Result<RotationInfo, ClientError> {
        let path = format!("{}/{verb}", below("sys/strongroom/rotations", id)?);
        self.client.ask("POST", &path, body)
    }

    /// Returns the terms of the data key.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn terms(&self) -> Result<Vec<TermInfo>, ClientError> {
        let found: TermList = self.client.ask("GET", "sys/strongroom/terms", None)?;
        Ok(found.terms)
    }

    /// Returns when the data key is rotated automatically.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn config(&self) -> Result<RotateConfig, ClientError> {
        self.client.ask("GET", "sys/rotate/config", None)
    }

    /// Changes when the data key is rotated automatically.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn set_config(&self, change: &RotateConfigChange) -> Result<(), ClientError> {
        self.client.tell("POST", "sys/rotate/config", Some(&json(change)?))
    }

    /// Returns the public key that verifies the signatures of the audit log.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn audit_public_key(&self) -> Result<AuditPublicKey, ClientError> {
        self.client.ask("GET", "sys/strongroom/audit-public-key", None)
    }
}

/// If the only problem is that shares are missing: the number of correct ones so far, and the number needed.
#[must_use]
pub fn shares_so_far(error: &ClientError) -> Option<(u8, u8)> {
    let info = error.info().filter(|info| info.reason() == Some(Reason::SharesMissing))?;
    let number = |key| info.number(key).and_then(|number| u8::try_from(number).ok());
    Some((number("have")?, number("need")?))
}

/// Encodes a key file for request bodies.
///
/// ```
/// use strongroom::client::key_file_text;
///
/// assert_eq!(key_file_text(&[0, 255]).reveal(), "AP8=");
/// ```
#[must_use]
pub fn key_file_text(bytes: &[u8]) -> SecretText {
    use base64::Engine as _;
    // The encoder allocates the whole length at once, and the text is taken over without a copy.
    SecretText::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn slot_write(SlotWrite { unlock, new }: &SlotWrite) -> Zeroizing<Vec<u8>> {
    let mut body = Text::with_room(unlock_size(unlock) + new_size(new));
    body.open("unlock").unlock(unlock).next("new").new_slot(new);
    body.end()
}

/// Space for names and punctuation of one object, in addition to its texts.
const FRAME: usize = 256;

fn unlock_size(unlock: &UnlockBody) -> usize {
    let texts = [&unlock.passphrase, &unlock.key_file, &unlock.recovery_code];
    let secrets = texts.into_iter().flatten().chain(unlock.shares.iter().flatten());
    let secrets: usize = secrets.map(|text| 6 * text.reveal().len() + 3).sum();
    FRAME + secrets + unlock.slot.as_ref().map_or(0, |slot| 6 * slot.len())
}

fn new_size(new: &NewSlotBody) -> usize {
    let secrets = [&new.passphrase, &new.key_file].into_iter().flatten();
    let secrets: usize = secrets.map(|text| 6 * text.reveal().len()).sum();
    FRAME + secrets + 6 * (new.kind.len() + new.label.len())
}

/// A JSON object under construction.
struct Text {
    bytes: Buffer,
}

impl Text {
    fn with_room(bytes: usize) -> Self {
        Self { bytes: Buffer::with_capacity(FRAME + bytes) }
    }

    fn raw(&mut self, text: &str) -> &mut Self {
        self.bytes.put(text.as_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        write_str(&mut self.bytes, text);
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.raw(if flag { "true" } else { "false" })
    }

    /// Starts an object with its first name.
    fn open(&mut self, name: &str) -> &mut Self {
        self.raw("{").text(name).raw(":")
    }

    /// Adds another name.
    fn next(&mut self, name: &str) -> &mut Self {
        self.raw(",").text(name).raw(":")
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.raw("[");
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            write(self, item);
        }
        self.raw("]")
    }

    /// Adds names with their values, if present.
    fn object(&mut self, fields: &[(&str, Option<&str>)]) -> &mut Self {
        self.raw("{");
        let mut comma = "";
        for (name, value) in fields {
            if let Some(value) = value {
                self.raw(comma).text(name).raw(":").text(value);
                comma = ",";
            }
        }
        self
    }

    fn unlock(&mut self, unlock: &UnlockBody) -> &mut Self {
        let UnlockBody { slot, passphrase, key_file, recovery_code, shares } = unlock;
        self.object(&[
            ("slot", slot.as_deref()),
            ("passphrase", passphrase.as_ref().map(SecretText::reveal)),
            ("key_file", key_file.as_ref().map(SecretText::reveal)),
            ("recovery_code", recovery_code.as_ref().map(SecretText::reveal)),
        ]);
        if let Some(shares) = shares {
            let empty = self.bytes.last() == Some(&b'{');
            self.raw(if empty { "" } else { "," }).raw("\"shares\":");
            self.list(shares, |body, share| {
                body.text(share.reveal());
            });
        }
        self.raw("}")
    }

    fn new_slot(&mut self, new: &NewSlotBody) -> &mut Self {
        let NewSlotBody { kind, label, passphrase, key_file, threshold, total } = new;
        self.object(&[
            ("type", Some(kind)),
            ("label", Some(label)),
            ("passphrase", passphrase.as_ref().map(SecretText::reveal)),
            ("key_file", key_file.as_ref().map(SecretText::reveal)),
        ]);
        for (name, number) in [("threshold", threshold), ("total", total)] {
            if let Some(number) = number {
                self.next(name).raw(&number.to_string());
            }
        }
        self.raw("}")
    }

    fn end(mut self) -> Zeroizing<Vec<u8>> {
        self.raw("}");
        self.bytes.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::Body;

    const NASTY: &str = "a\"b\\c\u{1}\u{1}\u{1}é\n";

    fn unlock(shares: Option<&[&str]>) -> UnlockBody {
        UnlockBody {
            slot: Some(NASTY.to_owned()),
            passphrase: Some(NASTY.into()),
            shares: shares.map(|texts| texts.iter().map(|text| SecretText::from(*text)).collect()),
            ..UnlockBody::default()
        }
    }

    #[test]
    fn a_body_says_what_was_meant_and_never_grows() {
        let order = SlotWrite {
            unlock: unlock(Some(&["one", NASTY])),
            new: NewSlotBody {
                kind: "shares".into(),
                label: NASTY.repeat(20),
                passphrase: Some(NASTY.repeat(300).into()),
                key_file: Some(key_file_text(&[1; 300])),
                threshold: Some(2),
                total: Some(3),
            },
        };
        let room = FRAME + unlock_size(&order.unlock) + new_size(&order.new);
        let text = slot_write(&order);
        assert!(text.len() <= room && text.capacity() == Vec::<u8>::with_capacity(room).capacity());
        let text = std::str::from_utf8(&text).expect("text");
        let Ok(read) = SlotWrite::read(&Body::of(text)) else { panic!("a body") };
        assert_eq!(read.unlock.slot.as_deref(), Some(NASTY));
        assert_eq!(read.unlock.passphrase.as_ref().map(SecretText::reveal), Some(NASTY));
        let shares = read.unlock.shares.unwrap_or_default();
        assert_eq!(shares.iter().map(SecretText::reveal).collect::<Vec<_>>(), ["one", NASTY]);
        assert_eq!((read.new.threshold, read.new.total, read.new.label), (Some(2), Some(3), NASTY.repeat(20)));
        assert_eq!(read.new.key_file.map(|text| text.reveal().len()), Some(400));
    }

    #[test]
    fn shares_alone_make_a_body() {
        let alone = UnlockBody { slot: None, passphrase: None, ..unlock(Some(&["x"])) };
        let mut body = Text::with_room(unlock_size(&alone));
        body.open("unlock").unlock(&alone);
        assert_eq!(&**body.end(), br#"{"unlock":{"shares":["x"]}}"#);
    }

    #[test]
    fn only_the_refusal_for_missing_shares_counts_as_progress() {
        let refused = |line: &str| ClientError::refusal(400, vec!["1 of 3 shares entered".to_owned()], Some(line));
        assert_eq!(shares_so_far(&refused("bad-request; reason=shares-missing; have=1; need=4")), Some((1, 4)));
        for line in [
            "bad-request",
            "bad-request; have=1; need=3",
            "bad-request; reason=shares-missing; have=1",
            "bad-request; reason=shares-missing; have=1; need=256",
        ] {
            assert_eq!(shares_so_far(&refused(line)), None, "{line}");
        }
    }
}
