//! Questions to the person at the terminal, and values from other sources. Never from the command line.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use strongroom::api::secret::SecretText;
use strongroom::wiped::Buffer;

use crate::exit::{Code, Failure};
use crate::files::read_file;

/// Shortest passphrase of a key slot. The vault checks it too.
const MIN_PASSPHRASE_CHARS: usize = 12;
/// Largest value, in bytes.
const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Asks once without echo. `hint` says what to do without a terminal.
///
/// # Errors
/// There is no terminal (exit code 2), or reading fails.
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
    twice(question, "pipe the value in and add -", |_| Ok(()))
}

/// Asks for a new passphrase twice. `hint` says what to do without a terminal.
///
/// # Errors
/// No terminal, the passphrase is too short, or the entries differ.
pub fn new_passphrase(question: &str, hint: &str) -> Result<SecretText, Failure> {
    twice(question, hint, long_enough)
}

/// The second question is asked only for an answer that `check` accepts.
fn twice(
    question: &str,
    hint: &str,
    check: impl Fn(&SecretText) -> Result<(), Failure>,
) -> Result<SecretText, Failure> {
    let first = asked(question, hint)?;
    check(&first)?;
    let second = asked("Again: ", hint)?;
    if first.reveal() == second.reveal() {
        Ok(first)
    } else {
        Err(Failure::new(Code::Refused, "the two entries differ; nothing was changed", "try again"))
    }
}

/// Rejects a new passphrase that the vault would reject, before any key is derived.
///
/// # Errors
/// It has fewer than 12 characters.
pub fn long_enough(passphrase: &SecretText) -> Result<(), Failure> {
    if passphrase.reveal().chars().count() < MIN_PASSPHRASE_CHARS {
        let message =
            format!("the new passphrase is shorter than {MIN_PASSPHRASE_CHARS} characters; nothing was changed");
        return Err(Failure::new(Code::Refused, message, "use, for example, six random words"));
    }
    Ok(())
}

/// Reads all of standard input unchanged. `strip` removes one line break at the end.
///
/// # Errors
/// Not UTF-8, or larger than 1 MiB.
pub fn standard_input(strip: bool) -> Result<SecretText, Failure> {
    // Bypasses the buffer of `io::stdin`, which keeps the input until the process ends.
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(reading)?;
    value(&bounded(File::from(input))?, strip)
}

/// Reads the content of a file unchanged.
///
/// # Errors
/// The file cannot be read, is not UTF-8, or is larger than 1 MiB.
pub fn file(path: &Path, strip: bool) -> Result<SecretText, Failure> {
    value(&read_file(path)?, strip)
}

/// Lines from descriptors. Each descriptor is read once to its end; naming it again returns its next line.
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
    let bytes = bounded(file)?;
    if bytes.is_empty() {
        return Ok(VecDeque::new());
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    text.split(|byte| *byte == b'\n').map(|line| value(line, false)).collect()
}

fn bounded(source: impl Read) -> Result<Buffer, Failure> {
    let mut bytes = Buffer::new();
    if !bytes.read_from(source, MAX_VALUE_BYTES).map_err(reading)? {
        return Err(Failure::usage(
            "the value is larger than 1 MiB",
            "store large files encrypted elsewhere, and only their key here",
        ));
    }
    Ok(bytes)
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
        let hint = "nothing was changed; to do it without being asked, add -y";
        return Err(Failure::usage(format!("confirmation needed, but there is no terminal: {question}"), hint));
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

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    /// Longer than every buffer that is reserved beforehand, and short enough to stay on the heap.
    const LENGTH: usize = 100_000;
    const PIECE: usize = 24;

    /// One byte of a text that stands nowhere: it is made as it is read.
    fn byte_at(at: usize) -> u8 {
        let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        b'a' + u8::try_from((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40 & 15).unwrap_or(0)
    }

    struct Typed(usize);

    impl Read for Typed {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = into.len().min(LENGTH - self.0).min(777);
            for place in into.iter_mut().take(count) {
                *place = byte_at(self.0);
                self.0 += 1;
            }
            Ok(count)
        }
    }

    /// How many pieces of the text are in the writable memory of this process. What is looked for is compared byte by byte
    /// as it is made, and so is not found itself.
    fn pieces_in_memory() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut memory = File::open("/proc/self/mem").unwrap();
        let mut found = 0;
        for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
            let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
            let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            if memory.seek(SeekFrom::Start(from)).is_err() || memory.read_exact(&mut bytes).is_err() {
                continue;
            }
            for start in [40, 20_000, 50_001, 66_003, 99_900] {
                let first = byte_at(start);
                let is_piece = |at: usize| (0..PIECE).all(|n| bytes.get(at + n) == Some(&byte_at(start + n)));
                found += (0..bytes.len()).filter(|at| bytes[*at] == first && is_piece(*at)).count();
            }
        }
        found
    }

    #[test]
    fn a_secret_of_any_length_is_gone_after_its_use() {
        let secret = value(&bounded(Typed(0)).ok().unwrap(), false).ok().unwrap();
        assert_eq!(secret.reveal().len(), LENGTH);
        assert!(pieces_in_memory() >= 5, "the search finds what is there");
        drop(secret);
        assert_eq!(pieces_in_memory(), 0);
        // As a prompt collects it, one character after the other in a text that grows.
        let typed: String = (0..LENGTH).map(|at| char::from(byte_at(at))).collect();
        let secret = SecretText::new(typed);
        assert!(pieces_in_memory() >= 5);
        drop(secret);
        assert_eq!(pieces_in_memory(), 0);
    }
}
