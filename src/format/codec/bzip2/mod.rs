//! bzip2: whole streams on one thread, or block by block on several.
//!
//! The format has no specification; the facts are from the source of bzip2 1.0.8 and the
//! reverse-engineered description by Joe Tsai ("BZIP2: Format Specification"). A stream is a header
//! of four bytes, blocks of at most 900,000 bytes, and an end mark with a checksum of the blocks'
//! checksums. Everything after the header is a sequence of bits: blocks begin at any bit, and
//! nothing says where they end. So the parallel decoder looks for the 48-bit magic numbers
//! (`scan`), and where such bits turn out to be data, it measures blocks by following their codes
//! (`block_end`).
//!
//! Blocks that decode are verified by libbz2 against their own checksum before any of their bytes
//! is returned.

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

/// The magic number at the start of a block: the digits of pi.
const BLOCK_MAGIC: u64 = 0x3141_5926_5359;
/// The magic number at the end of a stream: the digits of the square root of pi.
const END_MAGIC: u64 = 0x1772_4538_5090;
/// Bits of a stream's header, `BZh1` to `BZh9`.
const HEADER_BITS: u64 = 32;
/// Bits of either magic number.
const MAGIC_BITS: u64 = 48;
/// Bits of a block's or stream's checksum, which follows the magic number.
const CRC_BITS: u64 = 32;

/// Decodes all streams on the calling thread.
pub(super) struct SerialDecoder<R> {
    input: PeekReader<R>,
    /// The decoder of the current stream, `None` between streams.
    stream: Option<Decompress>,
    /// Streams begun so far. After the first, padding may follow.
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

/// Reads zeros up to the end of the input. They fill up a block of a tape or disk; `bzip2` and
/// `tar` accept them.
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

/// Damage inside a block.
fn corrupt() -> Error {
    Error::malformed("the bzip2 data is corrupt")
}

/// The error for `rest`, which does not begin with a header, after `streams` streams: cut, garbage
/// or no bzip2 at all.
fn no_stream(rest: &[u8], streams: u64) -> Error {
    if b"BZh".starts_with(rest) || rest == b"BZh" {
        truncated()
    } else if streams > 0 {
        trailing_garbage()
    } else {
        Error::malformed("this is no bzip2 stream")
    }
}
