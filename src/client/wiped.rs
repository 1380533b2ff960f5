//! Buffers of a connection that are wiped when it is dropped.

use ureq::unversioned::transport::Buffers;
use zeroize::Zeroizing;

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

    /// Moves what is left to the front, so that the free part is as large as can be.
    fn pack(&mut self) {
        if self.from > 0 {
            self.input.copy_within(self.from..self.to, 0);
            self.to -= self.from;
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
        self.from = (self.from + amount).min(self.to);
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
}
