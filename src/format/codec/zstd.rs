//! Zstandard: frames and skippable frames in any order, written as one frame by several threads.
//!
//! Format facts: RFC 8878, section 3.1.1 (frames) and 3.1.2 (skippable frames).
//!
//! Hostile input: frame headers are parsed here before libzstd sees them, so that a window is
//! compared with `codec_memory` before it is allocated, and a frame that needs a dictionary is
//! refused with its number. Checksums of frames are verified by libzstd; frames without one are
//! taken, as every decoder takes them.

use std::io::{self, Read, Write};

use zstd::stream::raw::{self, CParameter, DParameter, InBuffer, Operation, OutBuffer};

use super::checked::DecodeStep;
use super::compression::Compression;
use super::encoder::Encoder;
use super::peek_reader::{PeekReader, trailing_garbage, truncated};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Cancel;

/// The magic number of a frame, RFC 8878 section 3.1.1.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of the longest frame header: magic number, descriptor, window, dictionary and content
/// size.
const MAX_HEADER_BYTES: usize = 18;
/// The largest window that libzstd accepts, as a power of two; the bound that counts is checked
/// here.
const WINDOW_LOG_MAX: u32 = if cfg!(target_pointer_width = "64") { 31 } else { 30 };
/// Bytes of the buffer between libzstd and the sink.
const BUFFER: usize = 256 << 10;

/// Decodes all frames of a stream with one context, which libzstd resets at each frame.
pub(super) struct ZstdDecoder<R> {
    /// The compressed bytes.
    input: PeekReader<R>,
    /// libzstd's decoder, reset by itself at each frame.
    context: raw::Decoder<'static>,
    /// The limit on a frame's window, in bytes.
    codec_memory: u64,
    /// Whether a frame was begun and is not complete.
    in_frame: bool,
    /// Frames begun so far, skippable ones too.
    frames: u64,
}

impl<R: Read> ZstdDecoder<R> {
    /// A decoder that has read nothing yet. libzstd's own bound on windows is lifted, as the limit
    /// is checked here.
    ///
    /// # Errors
    /// `Io` where libzstd can't allocate its context.
    pub(super) fn new(source: R, limits: &Limits) -> Result<Self> {
        let mut context = raw::Decoder::new()?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self {
            input: PeekReader::new(source),
            context,
            codec_memory: limits.codec_memory,
            in_frame: false,
            frames: 0,
        })
    }

    /// Stops before the next frame with data in it; false at the end of the stream.
    ///
    /// # Errors
    /// `LimitExceeded` for a window over `codec_memory`, `Unsupported` for a dictionary,
    /// `Malformed` for what is no frame.
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            let bytes = self.input.peek(MAX_HEADER_BYTES)?;
            match *bytes {
                [] if self.frames > 0 => return Ok(false),
                [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                    self.input.skip(8 + u64::from(u32::from_le_bytes([a, b, c, d])))?;
                    self.frames += 1;
                }
                [a, b, c, d, ..] if [a, b, c, d] == MAGIC => {
                    let header = FrameHeader::parse(bytes)?;
                    if header.dictionary != 0 {
                        let id = header.dictionary;
                        return Err(Error::unsupported(format!("the zstd frame needs the dictionary {id}")));
                    }
                    if header.window > self.codec_memory {
                        let what = format!("the zstd frame's window of {} bytes", header.window);
                        return Err(Error::limit("codec_memory", self.codec_memory, what));
                    }
                    self.frames += 1;
                    return Ok(true);
                }
                _ if could_be_cut(bytes) => return Err(truncated()),
                _ if self.frames > 0 => return Err(trailing_garbage()),
                _ => return Err(Error::malformed("this is no zstd frame")),
            }
        }
    }
}

/// Whether so few bytes are left that they may be the beginning of a frame. Decides between "cut"
/// and "garbage" in the error.
fn could_be_cut(bytes: &[u8]) -> bool {
    bytes.len() < 4 || (bytes.len() < 8 && bytes[1..].starts_with(&[0x2a, 0x4d, 0x18]) && bytes[0] >> 4 == 5)
}

/// The two fields of a frame header that decide whether it may be decoded.
struct FrameHeader {
    /// Bytes that a decoder has to keep.
    window: u64,
    /// The dictionary's number; 0 for none.
    dictionary: u32,
}

impl FrameHeader {
    /// Parses a header as RFC 8878 section 3.1.1.1 lays it out; `bytes` begins with the magic
    /// number.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
        let mut number = |length: usize| {
            let (field, tail) = rest.split_at_checked(length).ok_or_else(truncated)?;
            rest = tail;
            Ok::<_, Error>(field.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
        };
        let descriptor = number(1)?;
        if descriptor & 0x08 != 0 {
            return Err(Error::malformed("the zstd frame sets a reserved bit"));
        }
        let single_segment = descriptor & 0x20 != 0;
        let mut window = 0;
        if !single_segment {
            let byte = number(1)?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * (byte & 7);
        }
        let dictionary = number([0, 1, 2, 4][(descriptor & 3) as usize])?;
        let size_length = match descriptor >> 6 {
            0 => usize::from(single_segment),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let size = number(size_length)? + if size_length == 2 { 256 } else { 0 };
        if single_segment {
            window = size;
        }
        Ok(Self { window, dictionary: dictionary as u32 })
    }
}

impl<R: Read> DecodeStep for ZstdDecoder<R> {
    fn decode(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            let bytes = self.input.fill()?;
            let ended = bytes.is_empty();
            let (mut source, mut target) = (InBuffer::around(bytes), OutBuffer::around(&mut *out));
            let hint = self
                .context
                .run(&mut source, &mut target)
                .map_err(|error| Error::malformed("the zstd data is corrupt").with_source(error))?;
            let (taken, made) = (source.pos(), target.pos());
            self.input.consume(taken);
            self.in_frame = hint != 0;
            if made > 0 {
                return Ok(made);
            }
            if self.in_frame && ended {
                return Err(truncated());
            }
        }
    }
}

/// Compresses into one frame with a checksum, on libzstd's own threads.
pub(super) struct ZstdEncoder<W> {
    sink: W,
    context: raw::Encoder<'static>,
    buffer: Vec<u8>,
    cancel: Cancel,
}

impl<W: Write> ZstdEncoder<W> {
    pub(super) fn new(compression: Compression, sink: W, threads: usize, cancel: &Cancel) -> Result<Self> {
        let level = compression.effective_level();
        let mut context = raw::Encoder::new(i32::try_from(level).unwrap_or(3))?;
        context.set_parameter(CParameter::ChecksumFlag(true))?;
        // Also for one thread: without workers the bytes would differ.
        context.set_parameter(CParameter::NbWorkers(u32::try_from(threads.min(200)).unwrap_or(1)))?;
        Ok(Self { sink, context, buffer: vec![0; BUFFER], cancel: cancel.clone() })
    }
}

/// libzstd's error while encoding as one of ours.
fn encoding(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "the zstd encoder failed").with_source(error)
}

impl<W: Write> Write for ZstdEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while !bytes.is_empty() {
            self.cancel.check()?;
            let (mut source, mut target) = (InBuffer::around(bytes), OutBuffer::around(&mut self.buffer[..]));
            self.context.run(&mut source, &mut target).map_err(encoding)?;
            let (taken, made) = (source.pos(), target.pos());
            self.sink.write_all(&self.buffer[..made])?;
            if taken > 0 {
                return Ok(taken);
            }
        }
        Ok(0)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl<W: Write + Send> Encoder for ZstdEncoder<W> {
    fn finish(mut self: Box<Self>) -> Result<()> {
        loop {
            self.cancel.check()?;
            let mut target = OutBuffer::around(&mut self.buffer[..]);
            let left = self.context.finish(&mut target, true).map_err(encoding)?;
            let made = target.pos();
            self.sink.write_all(&self.buffer[..made])?;
            if left == 0 {
                return Ok(self.sink.flush()?);
            }
        }
    }
}
