//! xz and the old `.lzma`, both by liblzma, which decodes and encodes xz blocks on several threads.
//!
//! Format facts: "The .xz File Format" 1.2 (stream header, checks, stream padding in multiples of
//! four bytes) and `lzma-file-format.txt` of XZ Utils. Streams may be concatenated for xz; a
//! `.lzma` file is one stream.
//!
//! Hostile input: bounds on memory are liblzma's own (`memlimit`), checked from the headers before
//! it allocates. A check of an unknown number would be skipped silently by liblzma, so it is
//! refused here first. `.lzma` has no checksum: only its structure can be checked.

use std::io::{self, Read, Write};

use liblzma::stream::{Action, Check, Error as LzmaError, LzmaOptions, MtStreamBuilder, Status, Stream};

use super::checked::DecodeStep;
use super::compression::Compression;
use super::encoder::Encoder;
use super::peek_reader::{PeekReader, trailing_garbage, truncated};
use super::table::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::{CANCEL_POLL, Cancel};

/// What liblzma counts beside the dictionary itself: its state and probability tables. Added to
/// `codec_memory`, so that the limit means bytes of dictionary.
const DECODER_OVERHEAD: u64 = 1 << 20;
/// liblzma's own bound on threads is 16,384; nothing gains from more than this.
const MAX_THREADS: usize = 256;
/// Bytes of the buffer between liblzma and the sink.
const BUFFER: usize = 256 << 10;
/// The magic number of a stream header.
const MAGIC: &[u8; 6] = b"\xfd7zXZ\0";

/// Decodes all streams. One liblzma decoder is made for each stream, as its multi-threaded one
/// handles a single stream.
pub(super) struct XzDecoder<R> {
    /// The compressed bytes.
    input: PeekReader<R>,
    /// The decoder of the current stream, `None` between streams.
    stream: Option<Stream>,
    /// xz or lzma.
    codec: Codec,
    /// Streams begun so far.
    streams: u64,
    /// The most threads that liblzma may use for the blocks of a stream.
    threads: usize,
    /// The limit on a dictionary, in bytes.
    codec_memory: u64,
    /// Memory above which liblzma uses fewer threads, in bytes.
    threads_memory: u64,
}

impl<R: Read> XzDecoder<R> {
    /// A decoder that has read nothing yet. With one thread liblzma decodes while it is called;
    /// with more it decodes blocks ahead, within `codec_threads_memory`.
    pub(super) fn new(codec: Codec, source: R, limits: &Limits, threads: usize) -> Self {
        Self {
            input: PeekReader::new(source),
            stream: None,
            codec,
            streams: 0,
            threads: threads.min(MAX_THREADS),
            codec_memory: limits.codec_memory,
            threads_memory: limits.codec_threads_memory,
        }
    }

    /// Opens the next stream, if there is one. The multi-threaded decoder takes one at a time.
    ///
    /// # Errors
    /// `Unsupported` for an unknown kind of check; `Malformed` for garbage after the last stream.
    fn next_stream(&mut self) -> Result<bool> {
        if self.streams > 0 && !self.another()? {
            return Ok(false);
        }
        let memory = self.codec_memory.saturating_add(DECODER_OVERHEAD);
        let stream = match self.codec {
            Codec::Lzma => Stream::new_lzma_decoder(memory),
            _ => {
                let header = *self.input.peek(12)?.first_chunk::<12>().ok_or_else(truncated)?;
                // No check, CRC32, CRC64 and SHA-256; liblzma would skip over others.
                if header.starts_with(MAGIC) && !matches!(header[7], 0 | 1 | 4 | 10) {
                    return Err(Error::unsupported(format!("xz's check number {} is not known", header[7])));
                }
                if self.threads < 2 {
                    Stream::new_stream_decoder(memory, 0)
                } else {
                    MtStreamBuilder::new()
                        .threads(u32::try_from(self.threads).unwrap_or(1))
                        .memlimit_stop(memory)
                        .memlimit_threading(self.threads_memory.saturating_add(memory))
                        .decoder()
                }
            }
        };
        self.stream = Some(stream.map_err(|error| self.failure(error))?);
        self.streams += 1;
        Ok(true)
    }

    /// Whether another stream follows the padding, which must be zeros in multiples of four bytes.
    fn another(&mut self) -> Result<bool> {
        if self.codec == Codec::Lzma {
            return if self.input.fill()?.is_empty() { Ok(false) } else { Err(trailing_garbage()) };
        }
        loop {
            let rest = self.input.peek(MAGIC.len())?;
            if rest.is_empty() {
                return Ok(false);
            }
            if rest.starts_with(MAGIC) {
                return Ok(true);
            }
            // Padding comes in fours.
            if !rest.starts_with(&[0; 4]) {
                return Err(trailing_garbage());
            }
            self.input.consume(4);
        }
    }

    /// liblzma's error as one of ours.
    ///
    /// `Options` is a filter that this liblzma does not have, so it is not called damage.
    fn failure(&self, error: LzmaError) -> Error {
        let codec = self.codec;
        match error {
            LzmaError::MemLimit => {
                Error::limit("codec_memory", self.codec_memory, format!("the {codec} stream's dictionary"))
            }
            LzmaError::Options => Error::unsupported(format!("the {codec} stream uses a filter that is not known")),
            LzmaError::Mem => Error::io("memory for decoding", io::Error::from(io::ErrorKind::OutOfMemory)),
            LzmaError::Format => Error::malformed(format!("this is no {codec} stream")),
            _ => Error::malformed(format!("the {codec} data is corrupt")),
        }
    }
}

impl<R: Read> DecodeStep for XzDecoder<R> {
    fn decode(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            let Some(stream) = &mut self.stream else {
                if self.next_stream()? {
                    continue;
                }
                return Ok(0);
            };
            let bytes = self.input.fill()?;
            let ended = bytes.is_empty();
            let (taken, made) = (stream.total_in(), stream.total_out());
            let status = stream.process(bytes, out, if ended { Action::Finish } else { Action::Run });
            let taken = (stream.total_in() - taken) as usize;
            let made = (stream.total_out() - made) as usize;
            self.input.consume(taken);
            match status {
                Ok(Status::StreamEnd) => self.stream = None,
                // liblzma was told that nothing follows and produced nothing: the stream lacks its
                // end.
                Ok(_) if ended && made == 0 => return Err(truncated()),
                Ok(_) => {}
                Err(error) => return Err(self.failure(error)),
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }
}

/// Compresses into one stream, xz with CRC-64 or `.lzma`.
pub(super) struct XzEncoder<W> {
    /// Where the stream is written.
    sink: W,
    /// liblzma's encoder.
    stream: Stream,
    /// Takes what liblzma produces before it goes to the sink.
    buffer: Vec<u8>,
    cancel: Cancel,
}

impl<W: Write> XzEncoder<W> {
    /// An encoder with the level of the compression. For lzma one thread is used, as the format has
    /// one block.
    ///
    /// # Errors
    /// `Io` where liblzma can't allocate its memory.
    pub(super) fn new(compression: Compression, sink: W, threads: usize, cancel: &Cancel) -> Result<Self> {
        let level = compression.effective_level();
        let stream = match compression.codec() {
            Codec::Lzma => LzmaOptions::new_preset(level).and_then(|options| Stream::new_lzma_encoder(&options)),
            // Also for one thread, so that the bytes are the same. The block size is left to
            // liblzma: three times the dictionary, as `xz -T0` has it.
            _ => MtStreamBuilder::new()
                .threads(u32::try_from(threads.min(MAX_THREADS)).unwrap_or(1))
                .preset(level)
                .check(Check::Crc64)
                // A call returns early, so that it can be cancelled while its threads are busy; the bytes are the same.
                .timeout_ms(u32::try_from(CANCEL_POLL.as_millis()).unwrap_or(50))
                .encoder(),
        };
        Ok(Self { sink, stream: stream.map_err(encoding)?, buffer: vec![0; BUFFER], cancel: cancel.clone() })
    }

    /// One call of liblzma; what it produces goes to the sink. Returns how many bytes were
    /// consumed, and the status.
    ///
    /// A call returns within `CANCEL_POLL` even if its threads are busy, so that cancellation is
    /// seen soon.
    fn step(&mut self, bytes: &[u8], action: Action) -> Result<(usize, Status)> {
        self.cancel.check()?;
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.process(bytes, &mut self.buffer, action).map_err(encoding)?;
        let made = (self.stream.total_out() - made) as usize;
        self.sink.write_all(&self.buffer[..made])?;
        Ok(((self.stream.total_in() - taken) as usize, status))
    }
}

/// liblzma's error while encoding as one of ours.
fn encoding(error: LzmaError) -> Error {
    match error {
        LzmaError::Mem => Error::io("memory for encoding", io::Error::from(io::ErrorKind::OutOfMemory)),
        _ => Error::new(ErrorKind::Io, "the xz encoder failed").with_source(error),
    }
}

impl<W: Write> Write for XzEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while !bytes.is_empty() {
            let (taken, _) = self.step(bytes, Action::Run)?;
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

impl<W: Write + Send> Encoder for XzEncoder<W> {
    fn finish(mut self: Box<Self>) -> Result<()> {
        while self.step(&[], Action::Finish)?.1 != Status::StreamEnd {}
        Ok(self.sink.flush()?)
    }
}
