//! bzip2: whole streams on one thread, or block by block on several.
//! A stream has no index and its blocks begin at any bit, so `scan` looks for them and `walk` makes sure.

mod bits;
mod block_end;
mod encode;
mod parallel;
mod scan;

use std::io::{self, Read};

use bzip2::{Decompress, Status};

pub(super) use encode::Bzip2Encoder;
pub(super) use parallel::ParallelDecoder;

use super::checked::DecodeStep;
use super::peek_reader::{PeekReader, trailing_garbage, truncated};
use crate::error::{Error, Result};

/// What begins a block: pi, in 48 bits.
const BLOCK_MAGIC: u64 = 0x3141_5926_5359;
/// What begins a stream's end: the root of pi.
const END_MAGIC: u64 = 0x1772_4538_5090;
/// `BZh1` to `BZh9`.
const HEADER_BITS: u64 = 32;
const MAGIC_BITS: u64 = 48;
const CRC_BITS: u64 = 32;

pub(super) struct SerialDecoder<R> {
    input: PeekReader<R>,
    stream: Option<Decompress>,
    streams: u64,
}

impl<R: Read> SerialDecoder<R> {
    pub(super) fn new(source: R) -> Self {
        Self { input: PeekReader::new(source), stream: None, streams: 0 }
    }
}

impl<R: Read> DecodeStep for SerialDecoder<R> {
    fn decode(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            let Some(stream) = &mut self.stream else {
                match self.input.peek(4)? {
                    [] if self.streams > 0 => return Ok(0),
                    [b'B', b'Z', b'h', b'1'..=b'9', ..] => {}
                    [0, ..] if self.streams > 0 => {
                        padding(&mut self.input)?;
                        return Ok(0);
                    }
                    rest => return Err(no_stream(rest, self.streams)),
                }
                self.stream = Some(Decompress::new(false));
                self.streams += 1;
                continue;
            };
            let bytes = self.input.fill()?;
            let ended = bytes.is_empty();
            let (taken, made) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(bytes, out);
            let taken = (stream.total_in() - taken) as usize;
            let made = (stream.total_out() - made) as usize;
            self.input.consume(taken);
            match status {
                Ok(Status::StreamEnd) => self.stream = None,
                Ok(Status::MemNeeded) => {
                    return Err(Error::io("memory for decoding", io::Error::from(io::ErrorKind::OutOfMemory)));
                }
                Ok(_) if ended && made == 0 => return Err(truncated()),
                Ok(_) => {}
                Err(_) => return Err(corrupt()),
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }
}

/// Zeros behind the last stream fill up a block of a tape or disk; `bzip2` and `tar` take them.
fn padding<R: Read>(input: &mut PeekReader<R>) -> Result<()> {
    loop {
        let rest = input.fill()?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(trailing_garbage());
        }
        let length = rest.len();
        input.consume(length);
    }
}

fn corrupt() -> Error {
    Error::malformed("the bzip2 data is corrupt")
}

/// Why `rest`, with no header at its start, can't follow after `streams` streams.
fn no_stream(rest: &[u8], streams: u64) -> Error {
    if b"BZh".starts_with(rest) || rest == b"BZh" {
        truncated()
    } else if streams > 0 {
        trailing_garbage()
    } else {
        Error::malformed("this is no bzip2 stream")
    }
}
