//! Big-endian writer, and a reader that never panics. `LP(x)` is a `u32` length followed by the bytes.

use super::{CryptoError, SecretBytes};
use crate::wiped::Buffer;

/// Builds a body. Its bytes are wiped on drop, and growing leaves no copy behind.
pub struct Writer(Buffer);

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty body.
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    /// An empty body with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Buffer::with_capacity(bytes))
    }

    /// Appends raw bytes, without a length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.put(bytes);
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends a big-endian `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a big-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a big-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends `LP(bytes)`.
    ///
    /// # Panics
    /// When `bytes` is longer than 4 GiB. Every caller has far smaller limits.
    pub fn lp(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("no field of the format reaches 4 GiB")).bytes(bytes)
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes written so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The body as secret bytes.
    pub fn into_secret(self) -> SecretBytes {
        SecretBytes::from_vec(std::mem::take(&mut *self.0.into_bytes()))
    }

    /// The bytes, for content that is not secret (a header, a ciphertext).
    pub fn into_public(self) -> Vec<u8> {
        std::mem::take(&mut *self.0.into_bytes())
    }
}

/// Reads a body from front to back. Never panics and never allocates.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when fewer are left. Nothing is consumed then.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], CryptoError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(CryptoError::Malformed("data ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], CryptoError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CryptoError::Malformed("data ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u8(&mut self) -> Result<u8, CryptoError> {
        self.array::<1>().map(|[byte]| *byte)
    }

    /// A big-endian `u16`.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u16(&mut self) -> Result<u16, CryptoError> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A big-endian `u32`.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u32(&mut self) -> Result<u32, CryptoError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A big-endian `u64`.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u64(&mut self) -> Result<u64, CryptoError> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// The content of the next `LP` field.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when the length runs past the end.
    pub fn lp(&mut self) -> Result<&'a [u8], CryptoError> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| CryptoError::Malformed("length"))?)
    }

    /// As [`Reader::lp`], but rejects content longer than `max`.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] for longer content, and as for [`Reader::lp`].
    pub fn lp_max(&mut self, max: usize) -> Result<&'a [u8], CryptoError> {
        let content = self.lp()?;
        if content.len() > max { Err(CryptoError::Malformed("field is too long")) } else { Ok(content) }
    }

    /// Number of bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Ends the body of a record. The rest must be zero padding.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] for any other byte.
    pub fn finish(self) -> Result<(), CryptoError> {
        // No early exit, because the padding is part of the secret body.
        if self.0.iter().fold(0, |all, byte| all | byte) == 0 { Ok(()) } else { Err(CryptoError::Malformed("padding")) }
    }

    /// Ends a structure without padding. Nothing may be left.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when a byte is left.
    pub fn end(self) -> Result<(), CryptoError> {
        if self.0.is_empty() { Ok(()) } else { Err(CryptoError::Malformed("bytes after the end")) }
    }
}
