//! For commands that wait for long: a line of progress, and a session whose certificate may expire before the wait ends.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::connection::Session;
use crate::visible::visible;

/// Pause between two lines if standard error is not a terminal.
const LINES: Duration = Duration::from_secs(5);
/// Pause between two checks of the certificate.
const LOOKS: Duration = Duration::from_secs(1);
/// Extra pause after a failed renewal.
const PAUSE: Duration = Duration::from_secs(30);

/// A session whose certificate is renewed when it is due.
pub struct Lasting<'s> {
    first: &'s Session,
    renewed: Option<Session>,
    looked: Instant,
    told: bool,
}

impl<'s> Lasting<'s> {
    pub fn new(first: &'s Session) -> Self {
        Self { first, renewed: None, looked: now(), told: false }
    }

    /// The session to use now.
    pub fn now(&self) -> &Session {
        self.renewed.as_ref().unwrap_or(self.first)
    }

    /// Renews the certificate of a profile when it is due, at most once a second. Reports the first failed renewal on
    /// standard error, after calling `before`, and tries again later.
    pub fn renew(&mut self, before: impl FnOnce()) {
        if self.looked.elapsed() < LOOKS {
            return;
        }
        self.looked = now();
        match self.now().renewed() {
            Ok(None) => {}
            Ok(Some(next)) => self.renewed = Some(next),
            Err(failure) => {
                if !std::mem::replace(&mut self.told, true) {
                    before();
                    eprintln!("the certificate could not be renewed: {}; trying again", failure.message);
                }
                self.looked += PAUSE;
            }
        }
    }
}

/// One line on standard error that is overwritten on a terminal; elsewhere a line from time to time.
pub struct Line {
    terminal: bool,
    last: Option<(Instant, String)>,
    width: usize,
}

impl Line {
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: None, width: 0 }
    }

    /// Shows `text`; without a terminal only when `state` has changed, or after a pause.
    pub fn show(&mut self, text: &str, state: &str) {
        if self.terminal {
            let width = text.chars().count();
            // Uses the macro of the standard library, because the carriage return is ours.
            std::eprint!("\r{}{}", visible(text), " ".repeat(self.width.saturating_sub(width)));
            let _ = io::stderr().flush();
            self.width = width;
            return;
        }
        let changed = |last: &(Instant, String)| last.1 != state || last.0.elapsed() >= LINES;
        if self.last.as_ref().is_none_or(changed) {
            eprintln!("{text}");
            self.last = Some((now(), state.to_owned()));
        }
    }

    /// Moves on to the next line.
    pub fn end(&mut self) {
        if self.terminal && self.width > 0 {
            eprintln!();
            self.width = 0;
        }
    }
}

/// The machine's monotonic clock, because this is about how long a person has waited.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}
