//! The decoded side of every decoder: [`Read`] over a step that fills a buffer.
//!
//! A codec implements [`DecodeStep`] and nothing else. [`CheckedReader`] makes a reader of it that
//! keeps errors final, adds the offset in the decoded bytes to each error, and saves decoders from
//! small buffers.
//!
//! Errors have to be final because callers retry: `Read::read_to_end` and `BufReader` may call
//! `read` again after an error, and a decoder in an undefined state must not return bytes then.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Below this much room in the caller's buffer, decoding goes through a buffer of our own:
/// window-based codecs copy their window on every call, which would cost more than the decoding.
const MIN_DIRECT_BYTES: usize = 64 << 10;
/// Bytes of that buffer.
const SCRATCH_BYTES: usize = 256 << 10;

/// One step of a decoder. The single method is called until it returns 0 or an error, and never
/// again after that.
pub(super) trait DecodeStep {
    /// Decodes into `out`, which is never empty, and returns how many bytes were written. `Ok(0)`
    /// means that the whole stream was complete and every checksum right; a step that consumed
    /// input and produced nothing must go on instead of returning 0.
    fn decode(&mut self, out: &mut [u8]) -> Result<usize>;
}

/// A reader over a [`DecodeStep`]. The first error is returned as it is, with the offset; each
/// later read fails with `Malformed`.
pub(super) struct CheckedReader<D> {
    decoder: D,
    state: DecoderState,
    /// Decoded bytes so far, for errors.
    position: u64,
    scratch: Vec<u8>,
    /// Bytes of `scratch` that were returned, of the first `filled`.
    given: usize,
    filled: usize,
}

/// Whether the decoder may be called again. `Ended` and `Failed` are final.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DecoderState {
    /// The next call decodes.
    Running,
    /// The stream was complete and correct.
    Ended,
    /// An error was returned.
    Failed,
}

impl<D: DecodeStep> CheckedReader<D> {
    pub(super) fn new(decoder: D) -> Self {
        Self { decoder, state: DecoderState::Running, position: 0, scratch: Vec::new(), given: 0, filled: 0 }
    }
}

/// Runs one step and records its outcome in `state`. A free function, since the output may borrow
/// `scratch` of the same reader.
fn step<D: DecodeStep>(decoder: &mut D, state: &mut DecoderState, position: &mut u64, out: &mut [u8]) -> Result<usize> {
    match *state {
        DecoderState::Running => {}
        DecoderState::Ended => return Ok(0),
        DecoderState::Failed => {
            return Err(Error::malformed("the compressed stream failed before").at_offset(*position));
        }
    }
    match decoder.decode(out) {
        Ok(0) => {
            *state = DecoderState::Ended;
            Ok(0)
        }
        Ok(length) => {
            *position += length as u64;
            Ok(length)
        }
        Err(error) => {
            *state = DecoderState::Failed;
            Err(error.at_offset(*position))
        }
    }
}

impl<D: DecodeStep> Read for CheckedReader<D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.given == self.filled {
            if out.len() >= MIN_DIRECT_BYTES {
                return Ok(step(&mut self.decoder, &mut self.state, &mut self.position, out)?);
            }
            self.scratch.resize(SCRATCH_BYTES, 0);
            (self.given, self.filled) = (0, 0);
            self.filled = step(&mut self.decoder, &mut self.state, &mut self.position, &mut self.scratch)?;
        }
        let length = out.len().min(self.filled - self.given);
        out[..length].copy_from_slice(&self.scratch[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}
