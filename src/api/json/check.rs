//! The one judge of JSON from outside.

use super::{JsonCode, JsonError, Limits};

/// Whether `bytes` are one JSON value within `limits`, without twin keys in an object and lone surrogates in a string.
///
/// Runs in one pass with a stack of its own: memory is bounded by the limits, whatever the input.
///
/// # Errors
/// [`JsonError`] with the first offence.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<(), JsonError> {
    if bytes.len() > limits.max_bytes {
        return Err(JsonError { code: JsonCode::TooLong, at: limits.max_bytes });
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(JsonError { code: JsonCode::Utf8, at: error.valid_up_to() });
    }
    Checker { bytes, at: 0, limits, keys: Vec::new(), count: 0, open: Vec::new() }.run()
}

struct Checker<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
    /// Decoded keys of all open objects, innermost last.
    keys: Vec<Key<'a>>,
    /// Keys seen in the whole document.
    count: usize,
    open: Vec<Frame>,
}

/// A decoded key; only those with escapes are copied.
type Key<'a> = std::borrow::Cow<'a, [u8]>;

enum Frame {
    Array,
    /// An object whose keys start here in [`Checker::keys`].
    Object(usize),
}

impl<'a> Checker<'a> {
    fn error<T>(&self, code: JsonCode) -> Result<T, JsonError> {
        Err(JsonError { code, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blank(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.peek()
    }

    fn run(mut self) -> Result<(), JsonError> {
        loop {
            // A value starts here.
            match self.skip_blank() {
                Some(b'{') => {
                    self.enter(Frame::Object(self.keys.len()))?;
                    if self.skip_blank() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.enter(Frame::Array)?;
                    if self.skip_blank() != Some(b']') {
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return self.error(JsonCode::Syntax),
            }
            // A value has ended: close what ends with it, or go to the next one.
            loop {
                let next = self.skip_blank();
                match (self.open.last(), next) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return self.error(JsonCode::Trailing),
                    (Some(Frame::Array), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(Frame::Object(_)), Some(b',')) => {
                        self.at += 1;
                        self.key()?;
                        break;
                    }
                    (Some(Frame::Array), Some(b']')) => {
                        self.at += 1;
                        self.open.pop();
                    }
                    (Some(Frame::Object(start)), Some(b'}')) => {
                        let start = *start;
                        self.close_object(start)?;
                    }
                    _ => return self.error(JsonCode::Syntax),
                }
            }
        }
    }

    fn enter(&mut self, frame: Frame) -> Result<(), JsonError> {
        if self.open.len() >= self.limits.max_depth {
            return self.error(JsonCode::TooDeep);
        }
        self.open.push(frame);
        self.at += 1;
        Ok(())
    }

    fn close_object(&mut self, start: usize) -> Result<(), JsonError> {
        let own = self.keys.get_mut(start..).unwrap_or_default();
        own.sort_unstable();
        let twins = own.windows(2).any(|pair| pair.first() == pair.last());
        if twins {
            return self.error(JsonCode::DuplicateKey);
        }
        self.keys.truncate(start);
        self.open.pop();
        self.at += 1;
        Ok(())
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.skip_blank() != Some(b'"') {
            return self.error(JsonCode::Syntax);
        }
        if self.count >= self.limits.max_keys {
            return self.error(JsonCode::TooManyKeys);
        }
        self.count += 1;
        let key = self.string()?;
        self.keys.push(key);
        if self.skip_blank() != Some(b':') {
            return self.error(JsonCode::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return self.error(JsonCode::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.error(JsonCode::Syntax) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Checks a string and returns its decoded bytes, borrowed when it has no escapes.
    fn string(&mut self) -> Result<Key<'a>, JsonError> {
        self.at += 1;
        let start = self.at;
        let is_key = self.open.last().is_some_and(|frame| matches!(frame, Frame::Object(_)));
        let mut decoded: Option<Vec<u8>> = None;
        loop {
            if self.at - start > self.limits.max_string_bytes {
                return self.error(JsonCode::StringTooLong);
            }
            match self.peek() {
                None | Some(0..0x20) => return self.error(JsonCode::Syntax),
                Some(b'"') => break,
                Some(b'\\') => {
                    let so_far = self.at;
                    let (code, bytes) = (self.escape()?, &mut [0; 4]);
                    // Only keys are compared; decoding a value would leave a copy of a secret behind.
                    if is_key {
                        decoded
                            .get_or_insert_with(|| self.bytes.get(start..so_far).unwrap_or_default().to_vec())
                            .extend_from_slice(code.encode_utf8(bytes).as_bytes());
                    }
                }
                Some(byte) => {
                    if let Some(decoded) = &mut decoded {
                        decoded.push(byte);
                    }
                    self.at += 1;
                }
            }
        }
        let raw = self.bytes.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(decoded.map_or(Key::Borrowed(raw), Key::Owned))
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let kind = self.bytes.get(self.at + 1).copied();
        let plain = match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.error(JsonCode::Syntax),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let high = self.four_digits(self.at)?;
        let (code, length) = match high {
            0xd800..0xdc00 => {
                if self.bytes.get(self.at + 6..self.at + 8) != Some(b"\\u") {
                    return self.error(JsonCode::LoneSurrogate);
                }
                let low = self.four_digits(self.at + 6)?;
                if !(0xdc00..0xe000).contains(&low) {
                    return self.error(JsonCode::LoneSurrogate);
                }
                (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12)
            }
            code => (code, 6),
        };
        let Some(code) = char::from_u32(code) else { return self.error(JsonCode::LoneSurrogate) };
        self.at += length;
        Ok(code)
    }

    /// The value of `\uXXXX` at `at`.
    fn four_digits(&self, at: usize) -> Result<u32, JsonError> {
        let digits = self.bytes.get(at + 2..at + 6).unwrap_or_default();
        let value =
            digits.iter().try_fold(0_u32, |value, byte| char::from(*byte).to_digit(16).map(|digit| value << 4 | digit));
        match value {
            Some(value) if digits.len() == 4 => Ok(value),
            _ => self.error(JsonCode::Syntax),
        }
    }
}
