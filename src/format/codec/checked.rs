//! The decoded side of every decoder: `Read` over a step that fills a buffer.
//! It keeps errors final, tells where they happened, and spares decoders small buffers.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Below this much room, decoding goes through a buffer of our own: window-based codecs copy
/// their window on every call.
const MIN_DIRECT_BYTES: usize = 64 << 10;
const SCRATCH_BYTES: usize = 256 << 10;

/// One step of a decoder.
pub(super) trait DecodeStep {
    /// Decodes into `out`, which is never empty. `Ok(0)` says that the whole stream was there
    /// and every checksum right.
    fn decode(&mut self, out: &mut [u8]) -> Result<usize>;
}

pub(super) struct CheckedReader<D> {
    decoder: D,
    state: DecoderState,
    position: u64,
    scratch: Vec<u8>,
    given: usize,
    filled: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DecoderState {
    Running,
    Ended,
    Failed,
}

impl<D: DecodeStep> CheckedReader<D> {
    pub(super) fn new(decoder: D) -> Self {
        Self { decoder, state: DecoderState::Running, position: 0, scratch: Vec::new(), given: 0, filled: 0 }
    }
}

/// Runs one step and remembers how it went.
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
