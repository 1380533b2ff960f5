//! A query for changes of some secrets, and its answer at a given moment.

use std::sync::Arc;
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
/// Largest number of secrets in one query.
const MAX_NAMES: usize = 64;

/// What the client waits for.
pub(in crate::core) struct Poll {
    /// Full paths, as the client wrote them.
    names: Vec<String>,
    /// `None` means from now on.
    after: Option<Cursor>,
    pub wait: Duration,
    /// The caller that was found to be allowed to read all of them. Each commit wakes all waiting clients. If each of
    /// them had to be checked again for each name, one identity that waits many times could use up the processors.
    allowed: Option<Arc<Subject>>,
}

/// The state against which a query is checked.
pub(in crate::core) struct Moment<'a> {
    pub feed: &'a Feed,
    pub mounts: &'a MountTable,
    pub subject: &'a Arc<Subject>,
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

/// Result of checking a query.
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
    /// Parses `path` (paths separated by commas), `after` and `wait`.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when one of them is missing or malformed.
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
        Ok(Self { names, after, wait: Duration::from_secs(wait_s), allowed: None })
    }

    /// Answers when there is something to report, or when this is the `last` check.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] or [`VaultError::NotAdmitted`] when the caller may not, or no longer, read one of the
    /// secrets.
    pub(in crate::core) fn look(&mut self, moment: &Moment<'_>, last: bool) -> Result<Look, VaultError> {
        // The same rights allow the same names: what is mounted does not change while a vault is open.
        if !self.allowed.as_ref().is_some_and(|allowed| allowed.has_rights_of(moment.subject)) {
            if self.names.iter().any(|name| !moment.subject.may(moment.mounts, name, Capability::Read)) {
                return Err(moment.subject.denial());
            }
            self.allowed = Some(Arc::clone(moment.subject));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Acl, Policy};

    fn may_read(paths: &[&str]) -> Arc<Subject> {
        let rule = |path: &&str| format!("path \"{path}\" {{ capabilities = [\"read\"] }}\n");
        let policy = Policy::parse(&paths.iter().map(rule).collect::<String>()).expect("a policy");
        Arc::new(Subject::new(vec!["p".to_owned()], Acl::merge([&policy])))
    }

    /// Looks without waiting for the last time.
    fn waits(poll: &mut Poll, feed: &Feed, subject: &Arc<Subject>) -> Result<bool, VaultError> {
        let (mounts, incarnation) = (MountTable::new(Vec::new()), [0; 16]);
        let moment = Moment { feed, mounts: &mounts, subject, incarnation, generation: 1 };
        poll.look(&moment, false).map(|look| matches!(look, Look::Wait))
    }

    fn poll(names: &[&str]) -> Poll {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Poll { names, after: None, wait: Duration::ZERO, allowed: None }
    }

    #[test]
    fn rights_that_change_while_somebody_waits_are_looked_at_again() {
        let (mut poll, feed) = (poll(&["a", "b"]), Feed::default());
        assert!(waits(&mut poll, &feed, &may_read(&["a", "b"])).is_ok_and(|waits| waits));
        assert!(matches!(waits(&mut poll, &feed, &may_read(&["a"])), Err(VaultError::Forbidden)));
        assert!(matches!(waits(&mut poll, &feed, &Arc::new(Subject::stranger())), Err(VaultError::Forbidden)));
        assert!(waits(&mut poll, &feed, &may_read(&["a", "b", "c"])).is_ok_and(|waits| waits));
    }

    #[test]
    fn somebody_woken_for_nothing_does_not_ask_the_policies_again() {
        let (mut poll, feed, subject) = (poll(&["a"]), Feed::default(), may_read(&["a"]));
        assert!(waits(&mut poll, &feed, &subject).is_ok_and(|waits| waits));
        // Nobody can do that. Asked again, the policies would refuse.
        poll.names.push("b".to_owned());
        assert!(waits(&mut poll, &feed, &subject).is_ok_and(|waits| waits));
        assert!(matches!(waits(&mut poll, &feed, &may_read(&["a"])), Err(VaultError::Forbidden)));
    }
}
