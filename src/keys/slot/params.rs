//! The public parameters of each slot type (format.md, "Slot parameters").

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::hybrid::{Encapsulated, Public};
use crate::crypto::password::{OPEN_FLOOR, Params, WRITE_FLOOR};
use crate::crypto::wrap::WRAPPED_LEN;
use crate::crypto::{CryptoError, Random};

use super::super::error::{HeaderError, parsing};
use super::super::share::ShareSet;
use super::{DEVICE, HYBRID, KEY_FILE, PASSPHRASE, PASSPHRASE_AND_FILE, RECOVERY, SHARES, WeakKdf};

/// Cost and salt of Argon2id.
pub(super) struct PassParams {
    pub(super) cost: Params,
    pub(super) salt: [u8; 32],
}

impl PassParams {
    /// Draws a new salt for `cost`, which must reach the floor of `policy`.
    pub(super) fn fresh(cost: Params, policy: WeakKdf, random: &dyn Random) -> Result<Self, HeaderError> {
        costly(cost.check())?;
        let floor = if policy == WeakKdf::Allow { OPEN_FLOOR } else { WRITE_FLOOR };
        if !cost.reaches(&floor) {
            return Err(HeaderError::WeakKdf);
        }
        let mut salt = [0; 32];
        random.fill(&mut salt)?;
        Ok(Self { cost, salt })
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u32(self.cost.m_kib).u32(self.cost.t).u32(self.cost.p).bytes(&self.salt);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CryptoError> {
        let cost = Params { m_kib: reader.u32()?, t: reader.u32()?, p: reader.u32()? };
        Ok(Self { cost, salt: *reader.array()? })
    }

    fn parse(params: &[u8]) -> Result<Self, CryptoError> {
        let mut reader = Reader::new(params);
        let pass = Self::read(&mut reader)?;
        reader.end()?;
        Ok(pass)
    }
}

/// A hybrid slot: the root key is sealed to `public`, and its private half is stored here under a passphrase. When the
/// slot is sealed again, everything except `sealed` stays.
pub(super) struct HybridParams {
    pub(super) pass: PassParams,
    pub(super) public: Public,
    pub(super) private: [u8; WRAPPED_LEN],
    pub(super) sealed: Encapsulated,
}

impl HybridParams {
    pub(super) fn encode(&self, out: &mut Writer) {
        self.pass.encode(out);
        out.bytes(self.public.as_bytes()).bytes(&self.private).bytes(self.sealed.as_bytes());
    }

    pub(super) fn parse(params: &[u8]) -> Result<Self, CryptoError> {
        let mut reader = Reader::new(params);
        let pass = PassParams::read(&mut reader)?;
        let public = Public::from_bytes(reader.array()?);
        let private = *reader.array()?;
        let sealed = Encapsulated::from_bytes(reader.array()?);
        reader.end()?;
        Ok(Self { pass, public, private, sealed })
    }
}

/// Checked parameters by type.
pub(super) enum SlotParams {
    Nothing,
    Pass(PassParams),
    Shares(ShareSet),
    Hybrid(Box<HybridParams>),
    Reserved,
}

impl SlotParams {
    /// Parses the parameters of a slot of type `kind`. Costs above the ceilings are rejected.
    pub(super) fn parse(kind: u8, params: &[u8]) -> Result<Self, HeaderError> {
        let parsed = match kind {
            PASSPHRASE | PASSPHRASE_AND_FILE => Self::Pass(PassParams::parse(params).map_err(parsing)?),
            KEY_FILE if !params.is_empty() => return Err(HeaderError::Damaged("key file slot has parameters")),
            RECOVERY if !params.is_empty() => return Err(HeaderError::Damaged("recovery slot has parameters")),
            KEY_FILE | RECOVERY => Self::Nothing,
            SHARES => Self::Shares(ShareSet::parse(params).map_err(parsing)?),
            HYBRID => Self::Hybrid(Box::new(HybridParams::parse(params).map_err(parsing)?)),
            DEVICE => Self::Reserved,
            _ => return Err(HeaderError::TooNew("slot type")),
        };
        if let Some(pass) = parsed.pass() {
            costly(pass.cost.check())?;
        }
        Ok(parsed)
    }

    /// Cost and salt, for the types that derive from a passphrase.
    pub(super) fn pass(&self) -> Option<&PassParams> {
        match self {
            Self::Pass(pass) => Some(pass),
            Self::Hybrid(hybrid) => Some(&hybrid.pass),
            Self::Nothing | Self::Shares(_) | Self::Reserved => None,
        }
    }
}

/// Converts the error for a cost above the ceilings.
pub(super) fn costly(checked: Result<(), CryptoError>) -> Result<(), HeaderError> {
    checked.map_err(|error| match error {
        CryptoError::Parameters(what) => HeaderError::KdfTooCostly(what),
        other => HeaderError::Crypto(other),
    })
}
