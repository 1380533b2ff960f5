//! A question about changes of some secrets, and its answer at a given moment.

use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::hex::hex;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::Body;
use crate::policy::Capability;

use super::feed::{Feed, Missed};
use crate::core::error::VaultError;
use crate::core::state::mount::MountTable;
use crate::core::state::subject::Subject;

/// Longest wait, in seconds.
const MAX_WAIT_S: u64 = 60;
/// Largest number of secrets in one question.
const MAX_NAMES: usize = 64;

/// What the client waits for.
pub(in crate::core) struct Poll {
    /// Full paths, as the client wrote them.
    names: Vec<String>,
    /// `None` means from now on.
    after: Option<Cursor>,
    pub wait: Duration,
}

/// The state against which a question is checked.
pub(in crate::core) struct Moment<'a> {
    pub feed: &'a Feed,
    pub mounts: &'a MountTable,
    pub subject: &'a Subject,
    /// The history, and the generation before anything else was read. A change in between is reported twice rather than
    /// never.
    pub incarnation: [u8; 16],
    pub generation: u64,
}

/// A history and a generation.
struct Cursor {
    incarnation: String,
    generation: u64,
}

/// Result of checking a question.
pub(in crate::core) enum Look {
    Answer(Reply),
    Wait,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (incarnation, generation) = text.split_once('-')?;
        let sound = incarnation.len() == 32 && incarnation.bytes().all(|byte| byte.is_ascii_hexdigit());
        let generation = generation.parse().ok().filter(|_| sound && generation.len() <= 20)?;
        Some(Self { incarnation: incarnation.to_owned(), generation })
    }

    fn render(&self) -> String {
        format!("{}-{}", self.incarnation, self.generation)
    }
}

impl Poll {
    /// Parses `path` (with commas), `after` and `wait`.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`].
    pub(in crate::core) fn parse(body: &Body) -> Result<Self, VaultError> {
        let bad = |text: &str| VaultError::BadRequest(text.to_owned());
        let fields = body.only(&["path", "after", "wait"])?;
        let names = fields.texts("path")?.unwrap_or_default();
        if names.is_empty() || names.len() > MAX_NAMES {
            return Err(bad("parameter \"path\" must name 1 to 64 secrets with their mounts, separated by commas"));
        }
        if names.iter().any(|name| Path::parse(name).is_err()) {
            return Err(bad("parameter \"path\" contains an invalid path"));
        }
        let after = fields.text("after")?.filter(|text| !text.is_empty());
        let after = after
            .map(|text| Cursor::parse(&text).ok_or_else(|| bad("parameter \"after\" is not a cursor")))
            .transpose()?;
        let wait_s = fields.number_in("wait", 0, MAX_WAIT_S)?.unwrap_or_default();
        Ok(Self { names, after, wait: Duration::from_secs(wait_s) })
    }

    /// Answers when there is something to report, or when this is the `last` check.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] when the caller may not read one of the secrets, or not any more.
    pub(in crate::core) fn look(&mut self, moment: &Moment<'_>, last: bool) -> Result<Look, VaultError> {
        if self.names.iter().any(|name| !moment.subject.may(moment.mounts, name, Capability::Read)) {
            return Err(VaultError::Forbidden);
        }
        let now = Cursor { incarnation: hex(&moment.incarnation), generation: moment.generation };
        let after =
            self.after.get_or_insert(Cursor { incarnation: now.incarnation.clone(), generation: now.generation });
        let missed = if after.incarnation == now.incarnation && after.generation <= now.generation {
            moment.feed.missed(&self.names, after.generation)
        } else {
            Missed::TooMuch
        };
        let (changed, resync) = match missed {
            Missed::Nothing if !last => return Ok(Look::Wait),
            Missed::Nothing => (Vec::new(), false),
            Missed::Names(names) => (names, false),
            Missed::TooMuch => (self.names.clone(), true),
        };
        #[derive(Serialize)]
        struct Events {
            cursor: String,
            changed: Vec<String>,
            resync: bool,
        }
        let bytes = serde_json::to_vec(&Events { cursor: now.render(), changed, resync });
        Ok(Look::Answer(Reply::data(Zeroizing::new(bytes.map_err(|_| VaultError::Internal)?))))
    }
}
