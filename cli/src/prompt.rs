//! Questions to the person at the terminal, and values from other sources. Never from the command line.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use strongroom::api::secret::SecretText;
use zeroize::Zeroizing;

use crate::exit::{Code, Failure};
use crate::files::read_file;

/// Largest value, in bytes.
const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Asks once without echo. `hint` says what to do without a terminal.
///
/// # Errors
/// There is no terminal.
pub fn asked(question: &str, hint: &str) -> Result<SecretText, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("no terminal to ask on", hint));
    }
    let text = rpassword::prompt_password(question).map_err(reading)?;
    Ok(SecretText::new(text))
}

/// Asks twice without echo.
///
/// # Errors
/// No terminal, or the entries differ.
pub fn hidden_twice(question: &str) -> Result<SecretText, Failure> {
    asked_twice(question, "pipe the value in and add -")
}

/// As [`hidden_twice`]. `hint` says what to do without a terminal.
///
/// # Errors
/// No terminal, or the entries differ.
pub fn asked_twice(question: &str, hint: &str) -> Result<SecretText, Failure> {
    let first = asked(question, hint)?;
    let second = asked("Again: ", hint)?;
    if first.reveal() == second.reveal() {
        Ok(first)
    } else {
        Err(Failure::new(Code::Refused, "the two entries differ; nothing was changed", "try again"))
    }
}

/// Reads all of standard input unchanged. `strip` removes one line end at the end.
///
/// # Errors
/// Not UTF-8, or larger than 1 MiB.
pub fn standard_input(strip: bool) -> Result<SecretText, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    bounded(io::stdin().lock(), &mut bytes)?;
    value(&bytes, strip)
}

/// Reads the content of a file unchanged.
///
/// # Errors
/// The file cannot be read, is not UTF-8, or is larger than 1 MiB.
pub fn file(path: &Path, strip: bool) -> Result<SecretText, Failure> {
    value(&read_file(path)?, strip)
}

/// Lines of descriptors. Each is read once to its end, and naming it again returns its next line.
#[derive(Default)]
pub struct Descriptors {
    lines: HashMap<u32, VecDeque<SecretText>>,
}

impl Descriptors {
    /// The next line of `fd`, which may be empty; `None` after the last one.
    ///
    /// # Errors
    /// The descriptor is not open, or its content is not UTF-8.
    pub fn next(&mut self, fd: u32) -> Result<Option<SecretText>, Failure> {
        let lines = match self.lines.entry(fd) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(all_lines(fd)?),
        };
        Ok(lines.pop_front())
    }

    /// As [`next`](Self::next), but requires a non-empty line.
    ///
    /// # Errors
    /// As [`next`](Self::next), and if there is no line or an empty one. `what` names it.
    pub fn required(&mut self, fd: u32, what: &str) -> Result<SecretText, Failure> {
        let line = self.next(fd)?.filter(|line| !line.reveal().is_empty());
        line.ok_or_else(|| {
            let hint = "write one line for each; repeating a descriptor reads its next line";
            Failure::usage(format!("descriptor {fd} contains no {what}"), hint)
        })
    }
}

fn all_lines(fd: u32) -> Result<VecDeque<SecretText>, Failure> {
    let file = File::open(format!("/proc/self/fd/{fd}")).map_err(|error| {
        Failure::usage(format!("descriptor {fd}: {error}"), format!("open it, for example: {fd}< FILE"))
    })?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    bounded(file, &mut bytes)?;
    if bytes.is_empty() {
        return Ok(VecDeque::new());
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    text.split(|byte| *byte == b'\n').map(|line| value(line, false)).collect()
}

fn bounded(source: impl Read, into: &mut Zeroizing<Vec<u8>>) -> Result<(), Failure> {
    let limit = u64::try_from(MAX_VALUE_BYTES).unwrap_or(u64::MAX) + 1;
    source.take(limit).read_to_end(into).map_err(reading)?;
    if into.len() > MAX_VALUE_BYTES {
        return Err(Failure::usage(
            "the value is larger than 1 MiB",
            "store large files encrypted elsewhere, and only their key here",
        ));
    }
    Ok(())
}

fn value(bytes: &[u8], strip: bool) -> Result<SecretText, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Failure::usage("the value is not UTF-8 text", "encode binary values, for example with base64"))?;
    let text =
        if strip { text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)) } else { text };
    Ok(SecretText::from(text))
}

/// Asks for yes or no on standard error. Everything except yes means no.
///
/// # Errors
/// There is no terminal to ask on.
pub fn confirm(question: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("no terminal to confirm on", "check the plan, then add -y"));
    }
    eprint!("{question} [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(reading)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Code::Refused, "not confirmed; nothing was changed", ""))
    }
}

fn reading(error: io::Error) -> Failure {
    Failure::usage(format!("reading input: {error}"), "")
}
