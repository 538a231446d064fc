//! The decoded side of every decoder: `Read` over a step that fills a buffer.
//! It keeps errors final, tells where they happened, and spares decoders small buffers.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Below this much room, decoding goes through a buffer of our own: window-based codecs copy
/// their window on every call.
const DIRECT: usize = 64 << 10;
const SCRATCH: usize = 256 << 10;

/// One step of a decoder.
pub(super) trait Decode {
    /// Decodes into `out`, which is never empty. `Ok(0)` says that the whole stream was there
    /// and every checksum right.
    fn decode(&mut self, out: &mut [u8]) -> Result<usize>;
}

pub(super) struct Checked<D> {
    decoder: D,
    state: State,
    position: u64,
    scratch: Vec<u8>,
    given: usize,
    filled: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Failed,
}

impl<D: Decode> Checked<D> {
    pub(super) fn new(decoder: D) -> Self {
        Self { decoder, state: State::Running, position: 0, scratch: Vec::new(), given: 0, filled: 0 }
    }
}

/// Runs one step and remembers how it went.
fn step<D: Decode>(decoder: &mut D, state: &mut State, position: &mut u64, out: &mut [u8]) -> Result<usize> {
    match *state {
        State::Running => {}
        State::Ended => return Ok(0),
        State::Failed => return Err(Error::malformed("the compressed stream failed before").at_offset(*position)),
    }
    match decoder.decode(out) {
        Ok(0) => {
            *state = State::Ended;
            Ok(0)
        }
        Ok(length) => {
            *position += length as u64;
            Ok(length)
        }
        Err(error) => {
            *state = State::Failed;
            Err(error.at_offset(*position))
        }
    }
}

impl<D: Decode> Read for Checked<D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.given == self.filled {
            if out.len() >= DIRECT {
                return Ok(step(&mut self.decoder, &mut self.state, &mut self.position, out)?);
            }
            self.scratch.resize(SCRATCH, 0);
            (self.given, self.filled) = (0, 0);
            self.filled = step(&mut self.decoder, &mut self.state, &mut self.position, &mut self.scratch)?;
        }
        let length = out.len().min(self.filled - self.given);
        out[..length].copy_from_slice(&self.scratch[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}
