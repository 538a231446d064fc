//! The compressed side of every decoder: a buffered source that can be looked at before it is taken.
//! Decoders need to see headers before they allocate for them, and how far they are.

use std::io::{ErrorKind, Read};

use crate::error::{Error, Result};

/// Large enough that a system call and a hand-over between threads cost nothing beside decoding.
const BUFFER: usize = 256 << 10;

pub(super) struct PeekReader<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> PeekReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER], start: 0, end: 0, ended: false }
    }

    /// What is buffered, read first if nothing is. Empty only at the end, and then for ever.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        if self.start == self.end && !self.ended {
            (self.start, self.end) = (0, 0);
            self.read_more()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// What is buffered, at least `length` bytes unless the source ends before.
    pub(super) fn peek(&mut self, length: usize) -> Result<&[u8]> {
        debug_assert!(length <= BUFFER);
        while self.end - self.start < length && !self.ended {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            self.read_more()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Takes `length` of the bytes that were shown.
    pub(super) fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }

    #[cfg(any(feature = "gzip", feature = "lz4"))]
    /// Takes exactly `N` bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = *self.peek(N)?.first_chunk().ok_or_else(truncated)?;
        self.consume(N);
        Ok(bytes)
    }

    #[cfg(any(feature = "zstd", feature = "lz4"))]
    /// Takes `length` bytes and forgets them.
    pub(super) fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            let available = self.fill()?.len();
            if available == 0 {
                return Err(truncated());
            }
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    #[cfg(any(feature = "bzip2", feature = "lz4"))]
    /// Takes up to `length` bytes into `bytes`; fewer only at the end.
    pub(super) fn append_to(&mut self, bytes: &mut Vec<u8>, mut length: usize) -> Result<()> {
        while length > 0 {
            let available = self.fill()?;
            if available.is_empty() {
                break;
            }
            let step = available.len().min(length);
            bytes.extend_from_slice(&available[..step]);
            self.consume(step);
            length -= step;
        }
        Ok(())
    }

    fn read_more(&mut self) -> Result<()> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(length) => {
                    self.end += length;
                    self.ended = length == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("the compressed stream can't be read", error)),
            }
        }
    }
}

/// The stream ended where its format wants more.
pub(super) fn truncated() -> Error {
    Error::malformed("the compressed stream is cut short")
}

/// Bytes stand where the stream should be over.
pub(super) fn trailing_garbage() -> Error {
    Error::malformed("garbage follows the end of the compressed stream")
}
