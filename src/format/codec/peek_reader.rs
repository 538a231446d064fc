//! The compressed side of every decoder: a buffered source that can be looked at before bytes are
//! taken from it.
//!
//! Decoders need to see a header before they allocate for what it asks, need to know how far they
//! are, and must not read past the end of a member into what follows. A plain `BufReader` gives the
//! first 8 KiB at most; [`PeekReader`] gives as much as its buffer holds and reports the end of the
//! source reliably.

use std::io::{ErrorKind, Read};

use crate::error::{Error, Result};

/// Bytes of the buffer: large enough that a system call and a hand-over between threads cost
/// nothing compared with decoding.
const BUFFER: usize = 256 << 10;

/// A source with a buffer in front of it. `start..end` of the buffer is what was read and not yet
/// consumed.
pub(super) struct PeekReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// The first byte that was not consumed.
    start: usize,
    /// The end of what was read.
    end: usize,
    /// Whether the source has returned 0 bytes.
    ended: bool,
}

impl<R: Read> PeekReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER], start: 0, end: 0, ended: false }
    }

    /// What is buffered, after a read if nothing is. Empty only at the end of the source, and from
    /// then on always.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        if self.start == self.end && !self.ended {
            (self.start, self.end) = (0, 0);
            self.read_more()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// At least `length` bytes without consuming them, or fewer where the source ends before.
    /// `length` must not be larger than the buffer.
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

    /// Marks the first `length` of the buffered bytes as used.
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

    /// Reads once into the room behind `end`. A read of 0 bytes is the end; a read that was
    /// interrupted by a signal is repeated.
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

/// The error for a stream that ends where its format requires more bytes.
pub(super) fn truncated() -> Error {
    Error::malformed("the compressed stream is cut short")
}

/// The error for bytes that follow the end of the stream and begin no further member. Refused,
/// since another program might take them for a second archive.
pub(super) fn trailing_garbage() -> Error {
    Error::malformed("garbage follows the end of the compressed stream")
}
