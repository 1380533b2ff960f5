//! Changes as the vault reports them.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use strongroom::exec::ChildEnv;

use super::changes::Changes;
use super::renewer::Renewed;
use crate::connection::Session;
use crate::exit::{Code, Failure};

/// Longest wait for one answer, in seconds: shorter than the idle time after which common proxies hang up.
const LONGEST_WAIT_S: u64 = 25;
/// Shortest time from one question to the next. More often than this nothing is restarted either.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(1);

/// What reads the values: makes the environment out of a session.
type Read = Box<dyn FnMut(&Session) -> Result<ChildEnv, Failure> + Send>;
/// What makes a session.
type Open = Box<dyn FnMut() -> Result<Session, Failure> + Send>;

/// A vault that is asked for changes of some secrets.
pub struct Vault {
    session: Option<Session>,
    open: Open,
    read: Read,
    /// Full paths with their mount.
    paths: Vec<String>,
    wait_s: u64,
    cursor: Option<String>,
    asked_at: Option<Instant>,
    /// Which certificate there is, and which one the session has.
    renewed: Renewed,
    certificate: u64,
}

impl Vault {
    /// Watches `paths` (with their mount) over `session`; `timeout_s` is the longest time of its requests. `open` is
    /// called for another session after a failure, and when `renewed` has changed.
    pub fn new(session: Session, paths: Vec<String>, timeout_s: u64, open: Open, read: Read, renewed: Renewed) -> Self {
        // A fifth of the limit, at least a second, remains for the way there and back.
        let wait_s = timeout_s.saturating_sub((timeout_s / 5).max(1)).min(LONGEST_WAIT_S);
        Self {
            session: Some(session),
            open,
            read,
            paths,
            wait_s,
            cursor: None,
            asked_at: None,
            renewed,
            certificate: 0,
        }
    }

    fn pace(&mut self) {
        if let Some(before) = self.asked_at {
            sleep(BETWEEN_QUESTIONS.saturating_sub(before.elapsed()));
        }
        // The pace of real requests.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        self.asked_at = Some(now);
    }
}

/// The session that is there, or another one. Not a method: the caller uses other fields beside it.
fn session<'a>(held: &'a mut Option<Session>, open: &mut Open) -> Result<&'a Session, Failure> {
    match held {
        Some(session) => Ok(session),
        // Files that are being replaced at this moment are a failure that passes.
        None => open().map(|session| &*held.insert(session)).map_err(|mut failure| {
            failure.code = Code::Unreachable;
            failure
        }),
    }
}

impl Changes for Vault {
    fn wait(&mut self) -> Result<bool, Failure> {
        self.pace();
        let newest = self.renewed.load(Ordering::Acquire);
        if newest != self.certificate {
            // The cursor stays: nothing is missed between two connections.
            (self.session, self.certificate) = (None, newest);
        }
        let sys = session(&mut self.session, &mut self.open)?.client.sys();
        let wait_s = if self.cursor.is_some() { self.wait_s } else { 0 };
        let events = sys.events(&self.paths, self.cursor.as_deref(), wait_s)?;
        let first = self.cursor.replace(events.cursor).is_none();
        Ok(first || events.resync || !events.changed.is_empty())
    }

    fn environment(&mut self) -> Result<ChildEnv, Failure> {
        let session = session(&mut self.session, &mut self.open)?;
        let environment = (self.read)(session);
        session.remember();
        environment
    }

    fn reconnect(&mut self) {
        (self.session, self.cursor) = (None, None);
    }
}
