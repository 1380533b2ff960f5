//! Changes as the vault reports them.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use strongroom::client::ClientError;
use strongroom::exec::ChildEnv;

use super::changes::Changes;
use super::renewer::Renewed;
use crate::connection::Session;
use crate::exit::{Code, Failure};

/// Longest wait for one answer, in seconds. It is shorter than the idle time after which common proxies close a
/// connection.
const LONGEST_WAIT_S: u64 = 25;
/// Shortest time between two questions. Restarts are not more frequent either.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(1);

/// Reads the values and builds the environment from a session.
type Read = Box<dyn FnMut(&Session) -> Result<ChildEnv, Failure> + Send>;
/// Opens a session.
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
    /// Whether the user was told that the vault was rolled back. Of a vault that is away, only the first reason is
    /// told.
    told: bool,
    asked_at: Option<Instant>,
    /// Number of the newest certificate, and of the one that the session uses.
    renewed: Renewed,
    certificate: u64,
}

impl Vault {
    /// Watches `paths` (with their mount) over `session`. `timeout_s` limits each of its requests. `open` is called for
    /// a new session after a failure, and when `renewed` has changed.
    pub fn new(session: Session, paths: Vec<String>, timeout_s: u64, open: Open, read: Read, renewed: Renewed) -> Self {
        // A fifth of the limit, at least a second, is left for the transfer.
        let wait_s = timeout_s.saturating_sub((timeout_s / 5).max(1)).min(LONGEST_WAIT_S);
        Self {
            session: Some(session),
            open,
            read,
            paths,
            wait_s,
            cursor: None,
            told: false,
            asked_at: None,
            renewed,
            certificate: 0,
        }
    }

    fn pace(&mut self) {
        if let Some(before) = self.asked_at {
            sleep(BETWEEN_QUESTIONS.saturating_sub(before.elapsed()));
        }
        // Limits the rate of real requests.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        self.asked_at = Some(now);
    }
}

/// Returns the existing session, or opens one. Not a method, because the caller uses other fields at the same time.
fn session<'a>(held: &'a mut Option<Session>, open: &mut Open) -> Result<&'a Session, Failure> {
    match held {
        Some(session) => Ok(session),
        // Files that are being replaced right now are only a temporary failure.
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
            // The cursor stays, so nothing is missed between two connections.
            (self.session, self.certificate) = (None, newest);
        }
        let session = session(&mut self.session, &mut self.open)?;
        let sys = session.client.sys();
        let wait_s = if self.cursor.is_some() { self.wait_s } else { 0 };
        let events = sys.events(&self.paths, self.cursor.as_deref(), wait_s);
        let rolled_back = events.as_ref().err().filter(|error| matches!(error, ClientError::RolledBack { .. }));
        if let Some(error) = rolled_back.filter(|_| !self.told) {
            eprintln!("strongroom: {error}; the program keeps the values it has; tell an operator of the vault");
            self.told = true;
        }
        let events = events?;
        // The thread that renews the certificate has connections of its own, which must know it too.
        session.remember();
        self.told = false;
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
        // What this session has seen is remembered as it ends, and the next one begins with it.
        (self.session, self.cursor) = (None, None);
    }
}
