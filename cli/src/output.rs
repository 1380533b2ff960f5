//! Standard output: data only, as text or JSON. A closed pipe ends the command quietly.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::environment::Lookup;
use crate::exit::{Code, Failure};
use crate::visible::visible;

/// How to print.
pub struct Output {
    /// `--json`
    pub json: bool,
    terminal: bool,
    colour: bool,
}

impl Output {
    /// Checks the terminal and `NO_COLOR`.
    pub fn new(json: bool, env: Lookup<'_>) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = env("NO_COLOR").is_some() || env("TERM").is_some_and(|term| term == "dumb");
        Self { json, terminal, colour: terminal && !plain }
    }

    /// Whether a person reads standard output, so that values stay hidden.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A name in bold, if the terminal shows it.
    pub fn strong(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints one line.
    ///
    /// # Errors
    /// Standard output cannot be written, for example because the disk is full.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.text(&Zeroizing::new(format!("{text}\n")))
    }

    /// Prints text. On a terminal, everything that the terminal would interpret is escaped.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        if !self.terminal {
            return self.bytes(text.as_bytes());
        }
        match visible(text) {
            Cow::Borrowed(text) => self.bytes(text.as_bytes()),
            Cow::Owned(text) => self.bytes(Zeroizing::new(text).as_bytes()),
        }
    }

    /// Prints bytes unchanged.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        // Bypasses the buffer of `io::stdout`, which keeps the last output until the process ends.
        let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        match out.and_then(|mut out| out.write_all(bytes)) {
            // The reader has closed the pipe (`| head`), which is not an error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            other => other.map_err(|error| Failure::new(Code::Refused, format!("writing the output: {error}"), "")),
        }
    }

    /// Prints `value` as JSON when `--json` was given, `text` otherwise.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn either<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            let text = text();
            return if text.is_empty() { Ok(()) } else { self.line(&text) };
        }
        let rendered = serde_json::to_string(value);
        let rendered = rendered
            .map(Zeroizing::new)
            .map_err(|_| Failure::new(Code::Refused, "the result cannot be written as JSON", ""))?;
        self.line(&rendered)
    }
}
