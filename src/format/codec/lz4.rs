//! lz4 frames: concatenated, with skippable frames, blocks linked or independent, every checksum
//! checked.
//!
//! Format facts: the LZ4 Frame Format description 1.6 and the LZ4 Block Format, both in the `doc`
//! directory of the lz4 project; checksums are xxHash-32 with seed 0. The legacy format (`lz4 -l`,
//! Linux kernels) is read as well. It has blocks of 8 MiB, no checksums and no mark of its end, so
//! it ends at the end of the stream or where a magic number follows.
//!
//! Hostile input: a frame's header states the largest block, which is compared with `lz4_block`
//! before it is allocated, and each block's length is compared with the frame's. Dictionaries are
//! refused, since they are not part of the stream.
//!
//! Written as one frame of independent 4 MiB blocks with a checksum of the content, which several
//! threads compress.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender};

use lz4_flex::block;
use twox_hash::XxHash32;

use super::checked::DecodeStep;
use super::compression::Compression;
use super::encoder::Encoder;
use super::peek_reader::{PeekReader, trailing_garbage, truncated};
use super::workers::{Workers, lost};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The magic number of a frame.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The magic number of a legacy frame.
const LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
// The frame descriptor's FLG byte, from the frame format's description 1.6.
/// The version number of the format, 01, in its two bits.
const VERSION: u8 = 0x40;
/// The bits of the version number.
const VERSION_MASK: u8 = 0xc0;
/// Each block is decoded by itself, without the content before it.
const INDEPENDENT: u8 = 0x20;
/// Each block is followed by a checksum of its compressed bytes.
const BLOCK_CHECKSUM: u8 = 0x10;
/// The descriptor has the size of the whole content.
const CONTENT_SIZE: u8 = 0x08;
/// The frame ends with a checksum of the whole content.
const CONTENT_CHECKSUM: u8 = 0x04;
/// A bit that must be zero.
const RESERVED: u8 = 0x02;
/// The descriptor has the number of a dictionary.
const DICTIONARY: u8 = 0x01;
/// The bit in a block's length that says it is stored without compression.
const UNCOMPRESSED: u32 = 1 << 31;
/// How far a linked block can look back.
const WINDOW: usize = 64 << 10;
/// Every block of the legacy format, but for the last, decodes to this many bytes.
const LEGACY_BLOCK: usize = 8 << 20;

/// The frame that is being read: what its descriptor said, and what was decoded of it.
struct FrameState {
    /// Of the format before frames: blocks of one size without a word on their end.
    legacy: bool,
    /// The descriptor's FLG byte.
    flags: u8,
    /// Plain bytes of a block at most.
    block_max: usize,
    /// The content's size, where the descriptor states it.
    size: Option<u64>,
    /// The checksum of the content so far.
    hash: XxHash32,
    /// Bytes decoded of this frame.
    decoded: u64,
}

/// Decodes all frames of a stream, block by block.
pub(super) struct Lz4Decoder<R> {
    /// The compressed bytes.
    input: PeekReader<R>,
    /// The limit on a block's size.
    lz4_block: u64,
    /// The limit on memory, which bounds the blocks of the legacy format.
    codec_memory: u64,
    /// The current frame, `None` between frames.
    frame: Option<FrameState>,
    /// Frames begun so far, skippable ones too. The first one must exist.
    frames: u64,
    /// The compressed block.
    packed: Vec<u8>,
    /// Room for a block, of which `filled` bytes are decoded and `given` handed out.
    block: Vec<u8>,
    /// Decoded bytes in `block`.
    filled: usize,
    /// Bytes of `block` that were returned already.
    given: usize,
    /// What came before `block` in a frame of linked blocks.
    history: Vec<u8>,
}

impl<R: Read> Lz4Decoder<R> {
    /// A decoder that has read nothing yet; `lz4_block` and `codec_memory` of the limits apply.
    pub(super) fn new(source: R, limits: &Limits) -> Self {
        Self {
            input: PeekReader::new(source),
            lz4_block: limits.lz4_block,
            codec_memory: limits.codec_memory,
            frame: None,
            frames: 0,
            packed: Vec::new(),
            block: Vec::new(),
            filled: 0,
            given: 0,
            history: Vec::new(),
        }
    }

    /// Goes to the next frame with data in it, past skippable frames; false at the end of the
    /// stream.
    ///
    /// # Errors
    /// `Malformed` for what is no frame, `LimitExceeded` for one with too large blocks.
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            let bytes = self.input.peek(8)?;
            match *bytes {
                [] if self.frames > 0 => return Ok(false),
                [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                    self.input.skip(8 + u64::from(u32::from_le_bytes([a, b, c, d])))?;
                    self.frames += 1;
                }
                [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => return Err(truncated()),
                [a, b, c, d, ..] if [a, b, c, d] == MAGIC => {
                    self.frame = Some(self.descriptor()?);
                    self.history.clear();
                    self.frames += 1;
                    return Ok(true);
                }
                [a, b, c, d, ..] if [a, b, c, d] == LEGACY_MAGIC => {
                    if LEGACY_BLOCK as u64 > self.codec_memory {
                        return Err(Error::limit("codec_memory", self.codec_memory, "a block of lz4's legacy format"));
                    }
                    self.input.consume(MAGIC.len());
                    let hash = XxHash32::with_seed(0);
                    // Blocks are independent, and carry no checksum.
                    let flags = INDEPENDENT;
                    self.frame =
                        Some(FrameState { legacy: true, flags, block_max: LEGACY_BLOCK, size: None, hash, decoded: 0 });
                    self.frames += 1;
                    return Ok(true);
                }
                _ if bytes.len() < MAGIC.len() => return Err(truncated()),
                _ if self.frames > 0 => return Err(trailing_garbage()),
                _ => return Err(Error::malformed("this is no lz4 frame")),
            }
        }
    }

    /// Reads a frame's descriptor and checks its checksum before any field is used.
    fn descriptor(&mut self) -> Result<FrameState> {
        self.input.consume(MAGIC.len());
        let fixed: [u8; 2] = self.input.take()?;
        let [flags, block_descriptor] = fixed;
        let mut header = fixed.to_vec();
        let mut size = None;
        if flags & CONTENT_SIZE != 0 {
            let field: [u8; 8] = self.input.take()?;
            header.extend_from_slice(&field);
            size = Some(u64::from_le_bytes(field));
        }
        let mut dictionary = 0;
        if flags & DICTIONARY != 0 {
            let field: [u8; 4] = self.input.take()?;
            header.extend_from_slice(&field);
            dictionary = u32::from_le_bytes(field);
        }
        let [checksum] = self.input.take()?;
        // Before the fields are judged, so that damage is not reported as an unknown version.
        if checksum != (XxHash32::oneshot(0, &header) >> 8) as u8 {
            return Err(Error::malformed("the lz4 frame's header does not match its checksum"));
        }
        if flags & VERSION_MASK != VERSION || flags & RESERVED != 0 || block_descriptor & 0x8f != 0 {
            return Err(Error::unsupported("the lz4 frame is of a version that is not known"));
        }
        if dictionary != 0 {
            return Err(Error::unsupported(format!("the lz4 frame needs the dictionary {dictionary}")));
        }
        // 4 is 64 KiB, and each step is four times as much.
        let block_max = match block_descriptor >> 4 {
            step @ 4..=7 => 1_usize << (8 + 2 * step),
            step => return Err(Error::malformed(format!("the lz4 frame's block size {step} does not exist"))),
        };
        if block_max as u64 > self.lz4_block {
            return Err(Error::limit(
                "lz4_block",
                self.lz4_block,
                format!("the lz4 frame's block of {block_max} bytes"),
            ));
        }
        Ok(FrameState { legacy: false, flags, block_max, size, hash: XxHash32::with_seed(0), decoded: 0 })
    }

    /// Decodes the next block into `block`; false at the frame's end.
    ///
    /// # Errors
    /// `Malformed` for a block that is longer than the frame allows, for a wrong checksum or size,
    /// and for data that is cut or does not decode.
    fn next_block(&mut self) -> Result<bool> {
        let Some(frame) = &mut self.frame else { return Ok(false) };
        if frame.legacy {
            return self.next_legacy_block();
        }
        let head = u32::from_le_bytes(self.input.take()?);
        if head == 0 {
            if frame.flags & CONTENT_CHECKSUM != 0 && u32::from_le_bytes(self.input.take()?) != frame.hash.finish_32() {
                return Err(Error::malformed("the decompressed data does not match lz4's checksum"));
            }
            if frame.size.is_some_and(|size| size != frame.decoded) {
                return Err(Error::malformed("the decompressed data does not have the size that lz4's header gives"));
            }
            self.frame = None;
            return Ok(false);
        }
        let length = (head & !UNCOMPRESSED) as usize;
        if length > frame.block_max {
            return Err(Error::malformed("an lz4 block is larger than its frame allows"));
        }
        self.packed.clear();
        self.input.append_to(&mut self.packed, length)?;
        if self.packed.len() < length {
            return Err(truncated());
        }
        if frame.flags & BLOCK_CHECKSUM != 0
            && u32::from_le_bytes(self.input.take()?) != XxHash32::oneshot(0, &self.packed)
        {
            return Err(Error::malformed("an lz4 block does not match its checksum"));
        }
        // A linked block may refer to the last 64 KiB of content, over several blocks if they are
        // short.
        let linked = frame.flags & INDEPENDENT == 0;
        if linked {
            remember(&mut self.history, &self.block[..self.filled]);
        }
        if self.block.len() < frame.block_max {
            self.block = vec![0; frame.block_max];
        }
        let room = &mut self.block[..frame.block_max];
        self.filled = if head & UNCOMPRESSED != 0 {
            room[..length].copy_from_slice(&self.packed);
            length
        } else if linked && !self.history.is_empty() {
            block::decompress_into_with_dict(&self.packed, room, &self.history).map_err(corrupt)?
        } else {
            block::decompress_into(&self.packed, room).map_err(corrupt)?
        };
        self.given = 0;
        frame.decoded += self.filled as u64;
        if frame.flags & CONTENT_CHECKSUM != 0 {
            std::hash::Hasher::write(&mut frame.hash, &self.block[..self.filled]);
        }
        Ok(true)
    }
}

impl<R: Read> Lz4Decoder<R> {
    /// As [`next_block`](Self::next_block), in the legacy format: it ends with the stream, or where
    /// another frame begins, and only its last block may be short.
    fn next_legacy_block(&mut self) -> Result<bool> {
        let rest = self.input.peek(MAGIC.len())?;
        if rest.is_empty() || is_magic(rest) {
            self.frame = None;
            return Ok(false);
        }
        if self.filled > 0 && self.filled < LEGACY_BLOCK {
            return Err(trailing_garbage());
        }
        let length = u32::from_le_bytes(self.input.take()?) as usize;
        if length == 0 || length > block::get_maximum_output_size(LEGACY_BLOCK) {
            return Err(Error::malformed("an lz4 block is larger than its frame allows"));
        }
        self.packed.clear();
        self.input.append_to(&mut self.packed, length)?;
        if self.packed.len() < length {
            return Err(truncated());
        }
        if self.block.len() < LEGACY_BLOCK {
            self.block = vec![0; LEGACY_BLOCK];
        }
        self.filled = block::decompress_into(&self.packed, &mut self.block[..LEGACY_BLOCK]).map_err(corrupt)?;
        self.given = 0;
        Ok(true)
    }
}

/// Whether a frame begins here. None of its numbers is the size of a legacy block.
fn is_magic(bytes: &[u8]) -> bool {
    matches!(*bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
        || bytes.starts_with(&MAGIC)
        || bytes.starts_with(&LEGACY_MAGIC)
}

/// Damage inside a block.
fn corrupt(error: block::DecompressError) -> Error {
    Error::malformed("the lz4 data is corrupt").with_source(error)
}

/// Keeps the last `WINDOW` bytes of `history` and `block` together: what a linked block may refer
/// back to.
fn remember(history: &mut Vec<u8>, block: &[u8]) {
    let recent = &block[block.len().saturating_sub(WINDOW)..];
    let keep = WINDOW - recent.len();
    if history.len() > keep {
        history.drain(..history.len() - keep);
    }
    history.extend_from_slice(recent);
}

impl<R: Read> DecodeStep for Lz4Decoder<R> {
    fn decode(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            if self.given < self.filled {
                let length = out.len().min(self.filled - self.given);
                out[..length].copy_from_slice(&self.block[self.given..self.given + length]);
                self.given += length;
                return Ok(length);
            }
            if self.frame.is_none() {
                // What the last frame held is no history of the next one.
                (self.filled, self.given) = (0, 0);
                if !self.next_frame()? {
                    return Ok(0);
                }
            }
            self.next_block()?;
        }
    }
}

/// The format's largest block, and what the `lz4` program takes.
const BLOCK: usize = 4 << 20;
/// The number of that block size in a frame's descriptor.
const BLOCK_CODE: u8 = 7;

/// Compresses into one frame, with blocks on several threads. Blocks are independent, so that
/// threads do not wait for each other; the price is a slightly larger result.
pub(super) struct Lz4Encoder<W> {
    /// Where the frame is written.
    sink: W,
    /// The block that is being filled, with room for [`BLOCK`] bytes once the first byte came.
    block: Vec<u8>,
    /// The checksum of the content so far.
    hash: XxHash32,
    // Before the workers: see there.
    pending: VecDeque<Receiver<Vec<u8>>>,
    workers: Workers<Vec<u8>, Vec<u8>>,
}

impl<W: Write> Lz4Encoder<W> {
    /// Writes the frame's header. lz4 has one level here, so the compression has no settings.
    ///
    /// # Errors
    /// `Io` where the header can't be written or a thread can't be started.
    pub(super) fn new(_: Compression, mut sink: W, threads: usize) -> Result<Self> {
        let descriptor = [VERSION | INDEPENDENT | CONTENT_CHECKSUM, BLOCK_CODE << 4];
        sink.write_all(&MAGIC)?;
        sink.write_all(&descriptor)?;
        sink.write_all(&[(XxHash32::oneshot(0, &descriptor) >> 8) as u8])?;
        let workers = Workers::new(threads, || {
            |block: Vec<u8>, answers: &SyncSender<_>| {
                let _ = answers.send(pack(&block));
            }
        })?;
        Ok(Self { sink, block: Vec::new(), hash: XxHash32::with_seed(0), pending: VecDeque::new(), workers })
    }

    /// Hands the filled block to a thread. The content's checksum is computed here, in the order of
    /// the bytes.
    fn submit(&mut self) -> Result<()> {
        while self.pending.len() >= self.workers.depth() {
            self.write_oldest()?;
        }
        std::hash::Hasher::write(&mut self.hash, &self.block);
        self.pending.push_back(self.workers.submit(std::mem::take(&mut self.block), 1)?);
        Ok(())
    }

    /// Waits for the oldest block in flight and writes it.
    ///
    /// Blocks are written in their order, whichever thread is done first.
    fn write_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(()) };
        Ok(self.sink.write_all(&oldest.recv().map_err(|_| lost())?)?)
    }
}

/// The block as it stands in a frame, its length first; as it is where lz4 gains nothing.
fn pack(data: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; 4 + block::get_maximum_output_size(data.len())];
    let head = match block::compress_into(data, &mut packed[4..]) {
        Ok(length) if length < data.len() => {
            packed.truncate(4 + length);
            length as u32
        }
        _ => {
            packed.truncate(4);
            packed.extend_from_slice(data);
            data.len() as u32 | UNCOMPRESSED
        }
    };
    packed[..4].copy_from_slice(&head.to_le_bytes());
    packed
}

impl<W: Write> Write for Lz4Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK);
        }
        let length = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..length]);
        if self.block.len() == BLOCK {
            self.submit()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl<W: Write + Send> Encoder for Lz4Encoder<W> {
    fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.block.is_empty() {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.write_oldest()?;
        }
        self.sink.write_all(&[0; 4])?;
        self.sink.write_all(&self.hash.finish_32().to_le_bytes())?;
        Ok(self.sink.flush()?)
    }
}
