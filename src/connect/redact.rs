//! Removes values from a program's output, so that part of it can appear in an error.

use std::collections::HashMap;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use zeroize::Zeroizing;

use crate::wiped::Buffer;

/// Replaces what was removed.
const MARK: &str = "[redacted]";
/// This many consecutive bytes that also occur in a value (or in an encoding of it) are removed.
const WINDOW: usize = 8;
/// A shorter value occurs everywhere by chance. Then no output is shown.
const SHORTEST: usize = 4;
/// Longest text that is returned, in characters.
const LONGEST_TEXT: usize = 400;

/// Returns the end of `output` as text, without any piece of eight bytes or more of a value: in plain, base64 (three
/// alignments, two alphabets), hexadecimal, percent-encoded or JSON form. White space, control characters and letter
/// case do not matter. `cut` says that the end of the output is missing.
pub(super) fn redact(output: &[u8], cut: bool, values: &[&str]) -> String {
    if output.is_empty() {
        return String::new();
    }
    let values: Vec<&str> = values.iter().copied().filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| squeezed(value.as_bytes()).len() < SHORTEST) {
        return "[output withheld: a value is too short to find it there]".to_owned();
    }
    let mut search = Search::new(output);
    for value in values {
        each_form(value, |form| search.strike(form, cut));
    }
    search.text(cut)
}

/// The output, and which parts of it may be shown.
struct Search<'a> {
    output: &'a [u8],
    /// The output without white space and control characters, in lower case.
    squeezed: Zeroizing<Vec<u8>>,
    /// Position in `output` of each byte of `squeezed`.
    origin: Vec<usize>,
    /// Windows of `squeezed` and where they start. Each is removed once it has matched, so that the work stays linear.
    windows: HashMap<u64, Vec<usize>>,
    /// Whether each byte of `output` is removed.
    struck: Vec<bool>,
}

impl<'a> Search<'a> {
    fn new(output: &'a [u8]) -> Self {
        let mut bytes = Buffer::with_capacity(output.len());
        let mut origin = Vec::with_capacity(output.len());
        for (at, byte) in output.iter().enumerate().filter(|(_, byte)| counts(**byte)) {
            bytes.push(byte.to_ascii_lowercase());
            origin.push(at);
        }
        let mut windows: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, window) in bytes.windows(WINDOW).enumerate() {
            windows.entry(packed(window)).or_default().push(at);
        }
        Self { output, squeezed: bytes.into_bytes(), origin, windows, struck: vec![false; output.len()] }
    }

    /// Removes everything that the output shares with `form`.
    fn strike(&mut self, form: &[u8], cut: bool) {
        let form = squeezed(form);
        if form.len() < SHORTEST {
            return;
        }
        for window in form.windows(WINDOW) {
            for at in self.windows.remove(&packed(window)).unwrap_or_default() {
                self.mark(at, WINDOW);
            }
        }
        if form.len() < WINDOW {
            let hits: Vec<usize> = (0..self.squeezed.len())
                .filter(|at| self.squeezed.get(*at..).is_some_and(|rest| rest.starts_with(&form)))
                .collect();
            hits.into_iter().for_each(|at| self.mark(at, form.len()));
        }
        // If the output was cut, it may end with the beginning of a value.
        let longest = WINDOW.min(form.len());
        let tail =
            (1..longest).rev().find(|length| cut && self.squeezed.ends_with(form.get(..*length).unwrap_or_default()));
        if let Some(length) = tail {
            self.mark(self.squeezed.len().saturating_sub(length), length);
        }
    }

    /// Removes `length` significant bytes from `at` on, and everything between them.
    fn mark(&mut self, at: usize, length: usize) {
        let first = self.origin.get(at).copied().unwrap_or(0);
        let last = self.origin.get(at.saturating_add(length).saturating_sub(1)).copied().unwrap_or(first);
        if let Some(range) = self.struck.get_mut(first..=last) {
            range.fill(true);
        }
    }

    fn text(&self, cut: bool) -> String {
        let mut kept = Buffer::with_capacity(self.output.len());
        let mut inside = false;
        for (byte, struck) in self.output.iter().zip(&self.struck) {
            match (*struck, inside) {
                (true, false) => {
                    kept.text(MARK);
                }
                (true, true) => {}
                (false, _) => {
                    kept.push(*byte);
                }
            }
            inside = *struck;
        }
        let text = String::from_utf8_lossy(&kept);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = text.trim();
        let surplus = text.chars().count().saturating_sub(LONGEST_TEXT);
        let shown: String = text.chars().skip(surplus).collect();
        format!("{}{shown}{}", if surplus > 0 { "..." } else { "" }, if cut { "..." } else { "" })
    }
}

/// Whether a byte is significant for the comparison.
fn counts(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

fn squeezed(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut kept = Buffer::with_capacity(bytes.len());
    kept.extend(bytes.iter().copied().filter(|byte| counts(*byte)).map(|byte| byte.to_ascii_lowercase()));
    kept.into_bytes()
}

fn packed(window: &[u8]) -> u64 {
    window.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Calls `see` with the value and each of its encodings.
fn each_form(value: &str, mut see: impl FnMut(&[u8])) {
    let bytes = value.as_bytes();
    see(bytes);
    for alphabet in [&STANDARD, &URL_SAFE] {
        for shift in 0..3 {
            see(&base64(bytes, shift, alphabet));
        }
    }
    see(&spelled(bytes, "", |_| false));
    see(&spelled(bytes, "%", |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)));
    see(&spelled(bytes, "\\x", |byte| byte.is_ascii_graphic()));
    if let Ok(json) = serde_json::to_string(value).map(Zeroizing::new) {
        see(json.trim_matches('"').as_bytes());
    }
}

/// The base64 of `bytes` as it looks after `shift` other bytes, without the characters that those bytes affect.
fn base64(bytes: &[u8], shift: usize, alphabet: &Alphabet) -> Zeroizing<Vec<u8>> {
    let mut shifted = Buffer::with_capacity(bytes.len().saturating_add(shift));
    shifted.extend(std::iter::repeat_n(0, shift));
    shifted.put(bytes);
    let text = Zeroizing::new(GeneralPurpose::new(alphabet, NO_PAD).encode(&*shifted));
    let foreign = if shift == 0 { 0 } else { shift.saturating_add(1) };
    Zeroizing::new(text.as_bytes().get(foreign..).unwrap_or_default().to_vec())
}

/// Each byte in hexadecimal after `prefix`, except those that stay as they are.
fn spelled(bytes: &[u8], prefix: &str, stays: impl Fn(u8) -> bool) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let each = prefix.len().saturating_add(2);
    let mut spelled = Buffer::with_capacity(bytes.len().saturating_mul(each));
    for byte in bytes {
        if stays(*byte) {
            spelled.push(*byte);
            continue;
        }
        spelled.text(prefix);
        let digits = [byte >> 4, byte & 15].map(|half| DIGITS.get(usize::from(half)).copied().unwrap_or(b'?'));
        spelled.put(&digits);
    }
    spelled.into_bytes()
}
