//! A buffer for bytes that may be secret.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::{Deref, DerefMut};

use zeroize::{Zeroize, Zeroizing};

/// How much is read at a time, bytes.
const CHUNK: usize = 8 * 1024;

/// Bytes under construction, wiped when dropped. Growing moves them into a larger block and wipes the old one, so the room
/// that is asked for at the start decides about speed and nothing else. Writing never fails.
#[derive(Default)]
pub struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    pub fn push(&mut self, byte: u8) -> &mut Self {
        self.make_room(1);
        self.0.push(byte);
        self
    }

    /// Appends a text in UTF-8.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.put(text.as_bytes())
    }

    /// Appends one character in UTF-8.
    pub fn character(&mut self, character: char) -> &mut Self {
        self.text(character.encode_utf8(&mut [0; 4]))
    }

    /// Reads `source` to its end, or until there are more than `most` bytes in the buffer. Returns whether the end was
    /// reached. What is read passes through no other memory.
    ///
    /// # Errors
    /// The error of `source`. What was read before stays in the buffer.
    pub fn read_from(&mut self, mut source: impl Read, most: usize) -> io::Result<bool> {
        loop {
            let start = self.0.len();
            if start > most {
                return Ok(false);
            }
            // Room that is there already is used up first: a reader that said its length is read without a move.
            if self.0.len() == self.0.capacity() {
                self.make_room(CHUNK);
            }
            let room = self.0.capacity().saturating_sub(start).min(CHUNK);
            self.0.resize(start.saturating_add(room), 0);
            let read = source.read(self.0.get_mut(start..).unwrap_or_default());
            self.0.truncate(start.saturating_add(*read.as_ref().unwrap_or(&0)));
            match read {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// The bytes as text, without a copy if they are UTF-8; otherwise each malformed sequence becomes U+FFFD.
    #[must_use]
    pub fn into_text(self) -> Zeroizing<String> {
        let mut bytes = self.into_bytes();
        let text = String::from_utf8(std::mem::take(&mut *bytes));
        text.map(Zeroizing::new).unwrap_or_else(|error| {
            let bytes = Zeroizing::new(error.into_bytes());
            Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    fn make_room(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        if needed > self.0.capacity() {
            // `Vec` would free its old block unwiped.
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity().saturating_mul(2)));
            larger.extend_from_slice(&self.0);
            std::mem::swap(&mut *self.0, &mut larger);
            larger.zeroize();
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Extend<u8> for Buffer {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        let mut bytes = bytes.into_iter();
        loop {
            self.make_room(bytes.size_hint().0.max(1));
            // Never past what there is room for, so that `Vec` has no reason to move.
            let room = self.0.capacity().saturating_sub(self.0.len());
            let before = self.0.len();
            self.0.extend(bytes.by_ref().take(room));
            if self.0.len().saturating_sub(before) < room {
                return;
            }
        }
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_whatever_the_sizes() {
        let mut buffer = Buffer::with_capacity(1);
        let mut expected = Vec::new();
        for size in [0, 1, 2, 63, 64, 4_000, 20_000] {
            let bytes = vec![u8::try_from(size % 251).expect("small"); size];
            buffer.put(&bytes);
            expected.extend_from_slice(&bytes);
            assert_eq!(*buffer, *expected);
        }
        write!(buffer, "{}", 7).expect("never fails");
        buffer.extend([b'8', b'9']);
        let many = (0..10_000_u32).map(|n| n.to_le_bytes()[0]);
        let start = buffer.len();
        buffer.extend(many.clone().filter(|byte| *byte != b'x'));
        assert!(buffer[start..].iter().copied().eq(many.filter(|byte| *byte != b'x')));
        buffer.extend([b'7', b'8', b'9']);
        assert_eq!(buffer.into_bytes().last_chunk(), Some(b"789"));
    }

    #[test]
    fn becomes_text() {
        let mut buffer = Buffer::new();
        buffer.text("a").character('\u{e9}').push(b'"');
        assert_eq!(buffer.into_text().as_str(), "a\u{e9}\"");
        let mut buffer = Buffer::new();
        buffer.put(b"a\xff");
        assert_eq!(buffer.into_text().as_str(), "a\u{fffd}");
    }

    #[test]
    fn reads_to_the_end_or_to_the_limit() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut buffer = Buffer::new();
        assert!(buffer.read_from(&*bytes, bytes.len()).expect("memory"));
        assert_eq!(*buffer, *bytes);
        let mut buffer = Buffer::new();
        assert!(!buffer.read_from(&*bytes, bytes.len() - 1).expect("memory"), "one byte too many");
        let mut buffer = Buffer::new();
        assert!(!buffer.read_from(io::repeat(1), 10).expect("endless") && buffer.len() <= 10 + CHUNK);
    }
}
