//! Buffers of a connection that hold plaintext no longer than necessary: what was read or sent is wiped at once.

use ureq::unversioned::transport::Buffers;
use zeroize::{Zeroize, Zeroizing};

/// Fixed-size input and output; plaintext passes through both.
pub(super) struct WipedBuffers {
    input: Zeroizing<Vec<u8>>,
    /// `input[from..to]` is not consumed yet.
    from: usize,
    to: usize,
    progress: bool,
    output: Zeroizing<Vec<u8>>,
}

impl WipedBuffers {
    /// Sizes in bytes.
    pub(super) fn new(input: usize, output: usize) -> Self {
        Self {
            input: Zeroizing::new(vec![0; input]),
            from: 0,
            to: 0,
            progress: false,
            output: Zeroizing::new(vec![0; output]),
        }
    }

    /// Wipes the first `amount` bytes of the output, which were sent. Also wipes the space through which a body may have
    /// passed before (see [`Buffers::tmp_and_output`]), which is never longer.
    pub(super) fn sent(&mut self, amount: usize) {
        self.output.get_mut(..amount).unwrap_or_default().zeroize();
        let end = self.to.saturating_add(amount).min(self.input.len());
        self.input.get_mut(self.to..end).unwrap_or_default().zeroize();
    }

    /// Moves the rest to the front, so that the free part is as large as possible.
    fn pack(&mut self) {
        if self.from > 0 {
            self.input.copy_within(self.from..self.to, 0);
            let left = self.to - self.from;
            // What is before `from` was wiped when it was consumed.
            self.input.get_mut(left.max(self.from)..self.to).unwrap_or_default().zeroize();
            self.to = left;
            self.from = 0;
        }
    }
}

impl Buffers for WipedBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        self.input.get(self.from..self.to).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.pack();
        self.input.get_mut(self.to..).unwrap_or_default()
    }

    fn input_appended(&mut self, amount: usize) {
        self.to = (self.to + amount).min(self.input.len());
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        let end = (self.from + amount).min(self.to);
        self.input.get_mut(self.from..end).unwrap_or_default().zeroize();
        self.from = end;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.pack();
        (self.input.get_mut(self.to..).unwrap_or_default(), &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.from < self.to && self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_not_consumed() {
        let mut buffers = WipedBuffers::new(4, 4);
        buffers.input_append_buf().copy_from_slice(b"abcd");
        buffers.input_appended(4);
        assert!(!buffers.can_use_input());
        buffers.input_consume(3);
        assert_eq!(buffers.input(), b"d");
        assert!(buffers.can_use_input());
        assert_eq!(buffers.input_append_buf().len(), 3);
        assert_eq!(buffers.input(), b"d");
        buffers.input_consume(0);
        assert!(!buffers.can_use_input());
        assert_eq!(buffers.tmp_and_output().0.len(), 3);
    }

    #[test]
    fn nothing_is_left_of_what_was_consumed_or_sent() {
        let mut buffers = WipedBuffers::new(8, 8);
        buffers.output().copy_from_slice(b"request!");
        buffers.tmp_and_output().0.copy_from_slice(b"request!");
        buffers.sent(8);
        assert_eq!([&buffers.input[..], &buffers.output[..]], [[0; 8]; 2]);
        buffers.input_append_buf().copy_from_slice(b"abcdefgh");
        buffers.input_appended(8);
        buffers.input_consume(3);
        assert_eq!(&*buffers.input, b"\0\0\0defgh");
        buffers.pack();
        assert_eq!((buffers.input(), &buffers.input[..]), (&b"defgh"[..], &b"defgh\0\0\0"[..]));
        buffers.input_consume(5);
        assert_eq!(&*buffers.input, &[0; 8]);
    }
}
