//! Just enough DER (X.690, 10) to walk through a list of any length without storing its parts.

/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BITS: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTETS: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;
/// BOOLEAN.
pub(super) const BOOLEAN: u8 = 0x01;
/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;

/// One DER value.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// The value with its tag and length.
    pub raw: &'a [u8],
}

/// Consecutive values. Every slice that it returns is part of its input.
#[derive(Clone, Copy)]
pub(super) struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there are no more values.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next value, or `None` at the end or when the bytes are not DER.
    pub(super) fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // Tags above 30 take more bytes. They do not occur in lists.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().try_fold(0_usize, |sum, digit| {
                    sum.checked_mul(256).and_then(|sum| sum.checked_add(usize::from(*digit)))
                })?;
                // Only the shortest form is allowed.
                if digits.first() == Some(&0) || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let raw = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Value { tag, content, raw })
    }

    /// Returns the next value, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Value<'a>> {
        self.next().filter(|value| value.tag == tag)
    }

    /// Returns the next value if it has this tag. Otherwise takes nothing.
    pub(super) fn take_if(&mut self, tag: u8) -> Option<Value<'a>> {
        if self.0.first() == Some(&tag) { self.take(tag) } else { None }
    }
}

/// Returns the only value in `bytes`.
pub(super) fn only(bytes: &[u8], tag: u8) -> Option<Value<'_>> {
    let mut values = Values::new(bytes);
    let value = values.take(tag)?;
    values.is_empty().then_some(value)
}
