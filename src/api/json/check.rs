//! The only check of JSON from outside.

use std::ops::Range;

use super::{JsonCode, JsonError, Limits};

/// Checks that `bytes` are one JSON value within `limits`, without duplicate keys in an object or lone surrogates in a
/// string.
///
/// Runs in one pass with its own stack, so the limits bound the memory, whatever the input.
///
/// # Errors
/// [`JsonError`] for the first problem.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<(), JsonError> {
    if bytes.len() > limits.max_bytes {
        return Err(JsonError { code: JsonCode::TooLong, at: limits.max_bytes });
    }
    scan(utf8(bytes)?, limits).map(drop)
}

/// # Errors
/// `Utf8` with the position of the first byte that is not UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| JsonError { code: JsonCode::Utf8, at: error.valid_up_to() })
}

/// Checks a text as [`check`] does, and returns where each field of each object is.
pub(super) fn scan(text: &str, limits: &Limits) -> Result<Layout, JsonError> {
    let most = limits.max_bytes.min(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
    if text.len() > most {
        return Err(JsonError { code: JsonCode::TooLong, at: most });
    }
    let bytes = text.as_bytes();
    Checker { bytes, at: 0, limits, keys: Vec::new(), count: 0, open: Vec::new(), layout: Layout::default() }.run()
}

/// Where the fields of a text are. At most as many as [`Limits::max_keys`] allows, 24 bytes each.
#[derive(Default)]
pub(in crate::api) struct Layout {
    /// In the order of the text: a field, then those inside its value.
    pub(super) places: Vec<Place>,
    /// The names that were written with escapes.
    pub(super) decoded: Vec<Box<str>>,
}

/// Where one field is. 32 bits are enough for an offset: [`scan`] rejects longer texts.
#[derive(Clone, Copy)]
pub(super) struct Place {
    name: [u32; 2],
    value: [u32; 2],
    /// How many of the places after it are inside its value.
    inner: u32,
    /// Index of the name in [`Layout::decoded`]; [`PLAIN`] for a name without escapes.
    decoded: u32,
}

const PLAIN: u32 = u32::MAX;

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

fn wide([start, end]: [u32; 2]) -> Range<usize> {
    let wide = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    wide(start)..wide(end)
}

impl Place {
    /// The name, without its quotes.
    pub(super) fn name(&self) -> Range<usize> {
        wide(self.name)
    }

    pub(super) fn value(&self) -> Range<usize> {
        wide(self.value)
    }

    pub(super) fn inner(&self) -> usize {
        usize::try_from(self.inner).unwrap_or(usize::MAX)
    }

    pub(super) fn decoded(&self) -> Option<usize> {
        (self.decoded != PLAIN).then(|| usize::try_from(self.decoded).unwrap_or(usize::MAX))
    }
}

struct Checker<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
    /// Decoded keys of all open objects, with the innermost last.
    keys: Vec<Key<'a>>,
    /// Number of keys in the whole document so far.
    count: usize,
    open: Vec<Frame>,
    layout: Layout,
}

/// A decoded key. Only keys with escapes are copied.
type Key<'a> = std::borrow::Cow<'a, [u8]>;

enum Frame {
    Array,
    Object {
        /// Where its keys start in [`Checker::keys`].
        keys: usize,
        /// The field that is being read: its index in [`Layout::places`].
        field: Option<usize>,
    },
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

    fn run(mut self) -> Result<Layout, JsonError> {
        loop {
            // A value starts here.
            let first = self.skip_blank();
            let start = narrow(self.at);
            if let Some(place) = self.field() {
                place.value = [start; 2];
            }
            if self.value(first)? && !self.more()? {
                return Ok(self.layout);
            }
        }
    }

    /// Reads the value that begins with `first`. Returns whether the value is complete: of a non-empty object or array
    /// only the beginning is read, up to the first value inside.
    fn value(&mut self, first: Option<u8>) -> Result<bool, JsonError> {
        match first {
            Some(b'{') => {
                self.enter(Frame::Object { keys: self.keys.len(), field: None })?;
                if self.skip_blank() != Some(b'}') {
                    self.key()?;
                    return Ok(false);
                }
            }
            Some(b'[') => {
                self.enter(Frame::Array)?;
                if self.skip_blank() != Some(b']') {
                    return Ok(false);
                }
            }
            Some(b'"') => {
                self.string(false)?;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => return self.error(JsonCode::Syntax),
        }
        Ok(true)
    }

    /// After the end of a value: closes what ends with it. Returns whether another value follows.
    fn more(&mut self) -> Result<bool, JsonError> {
        loop {
            let (end, known) = (narrow(self.at), narrow(self.layout.places.len()));
            if let Some(Frame::Object { field: Some(field), .. }) = self.open.last()
                && let Some(place) = self.layout.places.get_mut(*field)
            {
                place.value[1] = end;
                place.inner = known.saturating_sub(narrow(*field)).saturating_sub(1);
            }
            let next = self.skip_blank();
            match (self.open.last(), next) {
                (None, None) => return Ok(false),
                (None, Some(_)) => return self.error(JsonCode::Trailing),
                (Some(Frame::Array), Some(b',')) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(Frame::Object { .. }), Some(b',')) => {
                    self.at += 1;
                    self.key()?;
                    return Ok(true);
                }
                (Some(Frame::Array), Some(b']')) => {
                    self.at += 1;
                    self.open.pop();
                }
                (Some(Frame::Object { keys, .. }), Some(b'}')) => {
                    let keys = *keys;
                    self.close_object(keys)?;
                }
                _ => return self.error(JsonCode::Syntax),
            }
        }
    }

    /// The field whose value is being read, if the innermost open value is an object.
    fn field(&mut self) -> Option<&mut Place> {
        match self.open.last() {
            Some(Frame::Object { field: Some(field), .. }) => self.layout.places.get_mut(*field),
            _ => None,
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
        let start = self.at + 1;
        let key = self.string(true)?;
        let name = [narrow(start), narrow(self.at - 1)];
        let decoded = match &key {
            Key::Borrowed(_) => PLAIN,
            Key::Owned(bytes) => {
                self.layout.decoded.push(String::from_utf8_lossy(bytes).into());
                narrow(self.layout.decoded.len() - 1)
            }
        };
        self.keys.push(key);
        let at = self.layout.places.len();
        self.layout.places.push(Place { name, value: [0; 2], inner: 0, decoded });
        if let Some(Frame::Object { field, .. }) = self.open.last_mut() {
            *field = Some(at);
        }
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

    /// Checks a string and returns its bytes. A key is decoded, and borrowed if it has no escapes.
    fn string(&mut self, is_key: bool) -> Result<Key<'a>, JsonError> {
        self.at += 1;
        let start = self.at;
        let mut decoded: Option<Vec<u8>> = None;
        loop {
            // Most of every string has no quote, escape or control character: skip to the next one.
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
            if self.at - start + plain > self.limits.max_string_bytes {
                self.at = self.at.max(start.saturating_add(self.limits.max_string_bytes).saturating_add(1));
                return self.error(JsonCode::StringTooLong);
            }
            if let Some(decoded) = &mut decoded {
                decoded.extend_from_slice(rest.get(..plain).unwrap_or_default());
            }
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let so_far = self.at;
                    let (code, bytes) = (self.escape()?, &mut [0; 4]);
                    // Only keys are compared. Decoding a value would leave a copy of a secret behind.
                    if is_key {
                        decoded
                            .get_or_insert_with(|| self.bytes.get(start..so_far).unwrap_or_default().to_vec())
                            .extend_from_slice(code.encode_utf8(bytes).as_bytes());
                    }
                }
                _ => return self.error(JsonCode::Syntax),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In a value a decoded copy would be a secret that nothing wipes.
    #[test]
    fn only_names_are_decoded() {
        let limits = Limits::default();
        let checker = |bytes| Checker {
            bytes,
            at: 0,
            limits: &limits,
            keys: Vec::new(),
            count: 0,
            open: vec![Frame::Object { keys: 0, field: None }],
            layout: Layout::default(),
        };
        assert!(matches!(checker(b"\"a\\u0062\"").string(true), Ok(Key::Owned(name)) if name == b"ab"));
        assert!(matches!(checker(b"\"a\\u0062\"").string(false), Ok(Key::Borrowed(_))));
        let text = r#"{"a\u0062":"x\u0079","c":{"d\n":["\u0065"]}}"#;
        assert_eq!(scan(text, &limits).map(|layout| layout.decoded), Ok(vec!["ab".into(), "d\n".into()]));
    }
}
