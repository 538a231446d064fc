//! gzip: members one after the other, decoded on one thread, written as one member by several.
//!
//! Format facts: RFC 1952 (member header, flags, trailer) and RFC 1951 (deflate, window of 32 KiB).
//! The container is handled here and only deflate by the library, so that every field of header and
//! trailer is checked: magic number, method, reserved flags, header checksum, CRC-32 and length of
//! the content.
//!
//! The encoder works as pigz does: blocks of 128 KiB are deflated on their own, each with the 32
//! KiB before it as dictionary, and end with a sync flush on a byte boundary so that they can be
//! concatenated. Members carry no file name and no time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use flate2::{Compress, Crc, Decompress, DecompressError, FlushCompress, FlushDecompress, Status};

use super::checked::DecodeStep;
use super::compression::Compression;
use super::encoder::Encoder;
use super::peek_reader::{PeekReader, trailing_garbage, truncated};
use super::workers::{Workers, lost};
use crate::error::{Error, Result};

/// The magic number, ID1 and ID2.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The only compression method, CM.
const DEFLATE: u8 = 8;
// The flags of the member header, FLG in RFC 1952 section 2.3.1.
/// The header ends with its own checksum.
const HEADER_CRC: u8 = 2;
/// The header has a field of extra data.
const EXTRA: u8 = 4;
/// The header has the name of the file.
const NAME: u8 = 8;
/// The header has a comment.
const COMMENT: u8 = 16;
/// Flags that must be zero.
const RESERVED: u8 = 0xe0;

/// Decodes all members of a stream. Each member has a state of its own: nothing but the position in
/// the input is carried over.
pub(super) struct GzipDecoder<R> {
    /// The compressed bytes.
    input: PeekReader<R>,
    /// The deflate decoder, reset for each member.
    inflate: Decompress,
    /// The checksum and length of the current member's plain bytes.
    crc: Crc,
    /// What comes next in the input.
    state: GzipState,
}

/// Which part of a member comes next.
enum GzipState {
    /// The header of the first member, which must be there.
    FirstHeader,
    /// Deflate data.
    Body,
    /// Checksum and length.
    Trailer,
    /// A further member, padding, or the end.
    NextHeader,
    /// Damage behind the last bytes that were returned; reported by the next call.
    Broken(DecompressError),
}

impl<R: Read> GzipDecoder<R> {
    /// A decoder that has read nothing yet.
    pub(super) fn new(source: R) -> Self {
        Self {
            input: PeekReader::new(source),
            inflate: Decompress::new(false),
            crc: Crc::new(),
            state: GzipState::FirstHeader,
        }
    }

    /// Reads and checks a member's header. The name, comment and extra field are passed over, and
    /// hashed for the header's own checksum. None is kept, so a long one costs no memory.
    fn header(&mut self) -> Result<()> {
        let fixed: [u8; 10] = self.input.take()?;
        let [id1, id2, method, flags, ..] = fixed;
        if [id1, id2] != MAGIC {
            return Err(Error::malformed("this is no gzip member"));
        }
        // Reserved flags may mean fields that shift everything after them, so RFC 1952 section
        // 2.3.1.2 requires an error.
        if method != DEFLATE || flags & RESERVED != 0 {
            return Err(Error::malformed(format!("gzip method {method} with flags {flags:#04x} does not exist")));
        }
        let mut crc = Crc::new();
        crc.update(&fixed);
        if flags & EXTRA != 0 {
            let length: [u8; 2] = self.input.take()?;
            crc.update(&length);
            for _ in 0..u16::from_le_bytes(length) {
                crc.update(&self.input.take::<1>()?);
            }
        }
        // Each text ends with a zero.
        for _ in 0..(flags & (NAME | COMMENT)).count_ones() {
            loop {
                let byte: [u8; 1] = self.input.take()?;
                crc.update(&byte);
                if byte == [0] {
                    break;
                }
            }
        }
        if flags & HEADER_CRC != 0 {
            let [low, high, ..] = crc.sum().to_le_bytes();
            if self.input.take()? != [low, high] {
                return Err(Error::malformed("the gzip header does not match its checksum"));
            }
        }
        Ok(())
    }

    /// Compares the CRC-32 and the length modulo 2^32 of the decoded member with its trailer.
    fn trailer(&mut self) -> Result<()> {
        let crc = u32::from_le_bytes(self.input.take()?);
        let length = u32::from_le_bytes(self.input.take()?);
        if crc != self.crc.sum() {
            return Err(Error::malformed("the decompressed data does not match gzip's checksum"));
        }
        if length != self.crc.amount() {
            return Err(Error::malformed("the decompressed data does not have the size that gzip's trailer gives"));
        }
        Ok(())
    }

    /// Whether another member follows. Zeros after the last one are taken as padding, as tapes and
    /// `gzip` itself have it; anything else is garbage.
    ///
    /// A tape drive fills its last block with zeros, so any number of them is accepted.
    fn another(&mut self) -> Result<bool> {
        if self.input.peek(2)?.starts_with(&MAGIC) {
            return Ok(true);
        }
        loop {
            let rest = self.input.fill()?;
            if rest.is_empty() {
                return Ok(false);
            }
            if rest.iter().any(|&byte| byte != 0) {
                return Err(trailing_garbage());
            }
            let length = rest.len();
            self.input.consume(length);
        }
    }
}

/// Damage inside the deflate data.
fn corrupt(error: DecompressError) -> Error {
    Error::malformed("the deflate data is corrupt").with_source(error)
}

impl<R: Read> DecodeStep for GzipDecoder<R> {
    fn decode(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            match self.state {
                GzipState::FirstHeader => {
                    self.header()?;
                    self.state = GzipState::Body;
                }
                GzipState::NextHeader => {
                    if !self.another()? {
                        return Ok(0);
                    }
                    self.header()?;
                    self.inflate.reset(false);
                    self.crc.reset();
                    self.state = GzipState::Body;
                }
                GzipState::Broken(ref error) => return Err(corrupt(error.clone())),
                GzipState::Trailer => {
                    self.trailer()?;
                    self.state = GzipState::NextHeader;
                }
                GzipState::Body => {
                    let bytes = self.input.fill()?;
                    if bytes.is_empty() {
                        return Err(truncated());
                    }
                    let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
                    let status = self.inflate.decompress(bytes, out, FlushDecompress::None);
                    let taken = (self.inflate.total_in() - taken) as usize;
                    let made = (self.inflate.total_out() - made) as usize;
                    self.input.consume(taken);
                    self.crc.update(&out[..made]);
                    let status = match status {
                        Ok(status) => status,
                        // What came before the damage comes first, however the bytes were cut.
                        Err(error) if made > 0 => {
                            self.state = GzipState::Broken(error);
                            return Ok(made);
                        }
                        Err(error) => return Err(corrupt(error)),
                    };
                    if status == Status::StreamEnd {
                        self.state = GzipState::Trailer;
                    } else if taken == 0 && made == 0 {
                        return Err(Error::malformed("the deflate data is corrupt"));
                    }
                    if made > 0 {
                        return Ok(made);
                    }
                }
            }
        }
    }
}

/// Bytes that one job compresses. Small enough to keep threads busy, large enough that the few
/// bytes between blocks don't count; pigz has the same.
const BLOCK: usize = 128 << 10;
/// How far deflate can refer back, in bytes (RFC 1951 section 2).
const WINDOW: usize = 32 << 10;

/// A block to be deflated: its bytes, the block before it for the dictionary, and whether it ends
/// the stream.
struct DeflateJob {
    /// The block before, whose end is the dictionary. Empty for the first.
    before: Arc<Vec<u8>>,
    /// The bytes to compress.
    block: Arc<Vec<u8>>,
    /// Whether the stream ends with this block.
    last: bool,
}

/// The result of a job: the deflated bytes, and the CRC of the plain ones, to be combined in the
/// order of the blocks.
struct DeflatedBlock {
    /// The deflated bytes, which end on a byte boundary.
    bytes: Vec<u8>,
    /// The checksum of the plain bytes of this block alone.
    crc: Crc,
}

/// Compresses into one member. Blocks are written in order; at most [`Workers::depth`] of them are
/// in flight.
pub(super) struct GzipEncoder<W> {
    /// Where the member is written.
    sink: W,
    /// The block that is being filled.
    block: Vec<u8>,
    /// The last block that was submitted.
    before: Arc<Vec<u8>>,
    /// The checksum of the blocks written so far.
    crc: Crc,
    // Before the workers: see there.
    pending: VecDeque<Receiver<Result<DeflatedBlock>>>,
    workers: Workers<DeflateJob, Result<DeflatedBlock>>,
}

impl<W: Write> GzipEncoder<W> {
    /// Writes the member's header: no name, no time, Unix as the system.
    ///
    /// # Errors
    /// `Io` where the header can't be written or a thread can't be started.
    pub(super) fn new(compression: Compression, mut sink: W, threads: usize) -> Result<Self> {
        let level = compression.effective_level();
        // No name, no time, so that equal input gives equal output; XFL as gzip sets it.
        let xfl = match level {
            9 => 2,
            1 => 4,
            _ => 0,
        };
        let unix = 3;
        sink.write_all(&[MAGIC[0], MAGIC[1], DEFLATE, 0, 0, 0, 0, 0, xfl, unix])?;
        let workers = Workers::new(threads, || {
            move |job: DeflateJob, answers: &SyncSender<_>| {
                // A compressor that was reset may still remember its last block, and then the
                // bytes would depend on which thread took which.
                let deflate = Compress::new(flate2::Compression::new(level), false);
                let _ = answers.send(deflate_block(deflate, &job));
            }
        })?;
        Ok(Self {
            sink,
            block: Vec::with_capacity(BLOCK),
            before: Arc::default(),
            crc: Crc::new(),
            pending: VecDeque::new(),
            workers,
        })
    }

    /// Hands the filled block to a thread, after writing finished blocks while too many are in
    /// flight.
    fn submit(&mut self, last: bool) -> Result<()> {
        while self.pending.len() >= self.workers.depth() {
            self.write_oldest()?;
        }
        let block = Arc::new(std::mem::replace(&mut self.block, Vec::with_capacity(if last { 0 } else { BLOCK })));
        let before = std::mem::replace(&mut self.before, Arc::clone(&block));
        self.pending.push_back(self.workers.submit(DeflateJob { before, block, last }, 1)?);
        Ok(())
    }

    /// Waits for the oldest block in flight and writes it.
    ///
    /// Its checksum is combined with that of the blocks before it, which needs no second look at
    /// the bytes.
    fn write_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(()) };
        let done = oldest.recv().map_err(|_| lost())??;
        self.crc.combine(&done.crc);
        Ok(self.sink.write_all(&done.bytes)?)
    }
}

/// Deflates one block with the end of the block before it as dictionary. All but the last block end
/// with a sync flush, which is an empty stored block on a byte boundary (RFC 1951, section 3.2.4).
fn deflate_block(mut deflate: Compress, job: &DeflateJob) -> Result<DeflatedBlock> {
    let failed = |error| Error::invalid("deflate failed").with_source(error);
    let mut crc = Crc::new();
    crc.update(&job.block);
    if !job.before.is_empty() {
        deflate.set_dictionary(&job.before[job.before.len().saturating_sub(WINDOW)..]).map_err(failed)?;
    }
    // A sync flush ends on a byte, with no final block: the next one goes right behind it.
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut bytes = Vec::with_capacity(job.block.len() + job.block.len() / 1000 + 64);
    loop {
        let taken = deflate.total_in() as usize;
        let status = deflate.compress_vec(&job.block[taken..], &mut bytes, flush).map_err(failed)?;
        // Room left says that nothing is held back.
        let complete = if job.last { status == Status::StreamEnd } else { bytes.len() < bytes.capacity() };
        if complete {
            return Ok(DeflatedBlock { bytes, crc });
        }
        bytes.reserve(BLOCK / 4);
    }
}

impl<W: Write> Write for GzipEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only when more comes: the last block has to be sent as such.
        if self.block.len() == BLOCK && !bytes.is_empty() {
            self.submit(false)?;
        }
        let length = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl<W: Write + Send> Encoder for GzipEncoder<W> {
    fn finish(mut self: Box<Self>) -> Result<()> {
        self.submit(true)?;
        while !self.pending.is_empty() {
            self.write_oldest()?;
        }
        self.sink.write_all(&self.crc.sum().to_le_bytes())?;
        self.sink.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.sink.flush()?)
    }
}
