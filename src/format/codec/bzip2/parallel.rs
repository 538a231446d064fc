//! Decodes bzip2 on several threads: each block becomes a small stream of its own, which libbz2
//! decodes and verifies.
//!
//! Blocks are cut at the next magic number. A block that does not decode that way was cut at bits
//! that only look like one: then everything that was cut ahead is discarded, and from there on
//! every block is measured before it is cut (`walking`). This makes the result the same as that of
//! the serial decoder for every input, at the cost of one restart.
//!
//! Hostile input: the window of compressed bytes is bounded by the size of the blocks in flight (a
//! block is at most `MAX_BLOCK_BYTES`), and a block of runs, which decodes to 46 MB, is decoded
//! twice rather than held in memory.
//!
//! The life of a block: it is cut out of the window (`next_piece`), wrapped into a stream of its
//! own and given to a thread (`wrap`, `submit`), decoded and verified there (`decode_block`),
//! received in the order of the input (`wait`), and released from the window when all of it was
//! returned.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

use bzip2::{Decompress, Status};

use super::block_end::{BlockEndError, block_end};
use super::scan::Scanner;
use super::{BLOCK_MAGIC, CRC_BITS, END_MAGIC, HEADER_BITS, MAGIC_BITS, bits, corrupt, no_stream};
use crate::error::{Error, Result};
use crate::format::codec::checked::DecodeStep;
use crate::format::codec::peek_reader::{PeekReader, trailing_garbage, truncated};
use crate::format::codec::workers::Workers;
use crate::progress::{CANCEL_POLL, Cancel};

/// Compressed bytes of a block at most: 900,000 symbols of 20 bits, and its tables.
const MAX_BLOCK_BYTES: u64 = 900_000 * 20 / 8 + (64 << 10);
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Zeros that may follow the last stream: a block of any tape or disk.
const MAX_PADDING_BYTES: u64 = 4 << 20;
/// Plain bytes of a block that are held until its checksum was verified. A block of runs decodes to
/// 46 MB; what is longer than this is decoded twice, once to verify it and once to return it piece
/// by piece.
const MAX_HELD_BYTES: usize = 4 << 20;
/// Bytes of a piece in which such a block is returned.
const PIECE_BYTES: usize = 1 << 20;
/// Compressed bytes that are decoded between two looks at whether the result is still wanted.
const SLICE_BYTES: usize = 32 << 10;
/// Answers of one block that may wait to be received: enough that a thread seldom waits.
const ANSWER_SLOTS: usize = 4;

/// What a thread sends back for a block.
enum BlockAnswer {
    /// Plain bytes of a block whose checksum was right.
    Data(Vec<u8>),
    /// All bytes of the block were sent.
    Done,
    /// The bits are no valid block: damage, or a wrong cut.
    Failed,
}

/// What is expected next in the input, and at which bit from the start of the file.
#[derive(Clone, Copy)]
enum NextPiece {
    /// A stream header, or the end of the file.
    Header(u64),
    /// The magic number of a block or of the stream's end.
    Magic(u64),
    /// Nothing more.
    Ended,
}

/// A piece of the input that was cut and awaits its turn, in the order of the input.
enum StreamPiece {
    /// A block that a thread decodes; where it was cut is kept for cutting again.
    Block { start: u64, end: u64, level: u8, crc: u32, answers: Receiver<BlockAnswer> },
    /// The end of a stream, with its checksum.
    End { crc: u32 },
    /// Cutting failed here. Reported only when the blocks before were good.
    Fail(Error),
}

/// Decodes all streams, with blocks on several threads.
pub(in crate::format::codec) struct ParallelDecoder<R> {
    /// The compressed bytes behind the window.
    input: PeekReader<R>,
    /// Whether the window holds the last byte of the input.
    ended: bool,
    /// The bytes from byte `base` of the file, kept until what they hold was decoded.
    window: Vec<u8>,
    /// The number of the window's first byte in the file.
    base: u64,
    /// Finds magic numbers at any bit.
    scanner: Scanner,
    /// Whether blocks are measured instead of cut at magic numbers.
    walking: bool,
    /// What is to be cut next.
    cut: NextPiece,
    /// The current stream's block size, in units of 100,000 bytes.
    level: u8,
    /// Streams begun so far. The first one must exist.
    streams: u64,
    /// The checksum of the current stream's blocks so far.
    combined: u32,
    /// Plain bytes that are being returned.
    data: Vec<u8>,
    /// Bytes of `data` that were returned already.
    given: usize,
    /// Ends waits for blocks.
    cancel: Cancel,
    /// Ends the blocks that are being decoded: a block takes long, and the threads are waited for.
    unwanted: Arc<AtomicBool>,
    // Before the workers: see there.
    /// What was cut and not received yet, in the order of the input. Before the workers in the
    /// order of fields, so that the receivers are dropped first and no worker waits for one.
    pieces: VecDeque<StreamPiece>,
    /// The threads that decode blocks.
    workers: Workers<Vec<u8>, BlockAnswer>,
}

impl<R: Read> ParallelDecoder<R> {
    /// A decoder that has read nothing yet.
    ///
    /// # Errors
    /// `Io` where a thread can't be started.
    pub(in crate::format::codec) fn new(source: R, threads: usize, cancel: Cancel) -> Result<Self> {
        let unwanted = Arc::new(AtomicBool::new(false));
        let workers = Workers::new(threads, || {
            let unwanted = Arc::clone(&unwanted);
            move |block: Vec<u8>, answers: &SyncSender<_>| decode_block(&block, answers, &unwanted)
        })?;
        Ok(Self {
            input: PeekReader::new(source),
            ended: false,
            window: Vec::new(),
            base: 0,
            scanner: Scanner::new(),
            walking: false,
            cut: NextPiece::Header(0),
            level: 9,
            streams: 0,
            combined: 0,
            data: Vec::new(),
            given: 0,
            cancel,
            unwanted,
            pieces: VecDeque::new(),
            workers,
        })
    }

    /// Reads until the window holds `bytes` bytes from bit `position`, or all there is.
    ///
    /// Positions are bits from the start of the file, as blocks begin at any bit.
    fn ensure(&mut self, position: u64, bytes: u64) -> Result<()> {
        while !self.ended && (self.base + self.window.len() as u64) < position / 8 + bytes {
            let before = self.window.len();
            self.input.append_to(&mut self.window, READ_BYTES)?;
            self.ended = self.window.len() < before + READ_BYTES;
        }
        Ok(())
    }

    /// Bits by their position in the file; `None` where the window ends before.
    fn bits(&self, position: u64, count: u64) -> Option<u64> {
        bits::get(&self.window, position - self.base * 8, count)
    }

    /// The next piece, or `None` at the file's end.
    ///
    /// # Errors
    /// `Malformed` for a stream that is cut, for garbage, and for a magic number that does not
    /// exist.
    fn next_piece(&mut self) -> Result<Option<StreamPiece>> {
        match self.cut {
            NextPiece::Ended => Ok(None),
            NextPiece::Header(position) => {
                self.ensure(position, 4)?;
                let rest = &self.window[(position / 8 - self.base) as usize..];
                match *rest {
                    [] if self.streams > 0 => {
                        self.cut = NextPiece::Ended;
                        return Ok(None);
                    }
                    [b'B', b'Z', b'h', digit @ b'1'..=b'9', ..] => self.level = digit - b'0',
                    [0, ..] if self.streams > 0 => {
                        // Kept in the window: the blocks before may have to be cut again.
                        self.ensure(position, MAX_PADDING_BYTES)?;
                        let rest = &self.window[(position / 8 - self.base) as usize..];
                        if !self.ended || rest.iter().any(|&byte| byte != 0) {
                            return Err(trailing_garbage());
                        }
                        self.cut = NextPiece::Ended;
                        return Ok(None);
                    }
                    _ => {
                        let rest = &rest[..rest.len().min(4)];
                        return Err(no_stream(rest, self.streams));
                    }
                }
                self.streams += 1;
                self.cut = NextPiece::Magic(position + HEADER_BITS);
                self.next_piece()
            }
            NextPiece::Magic(start) => {
                self.ensure(start, 16)?;
                let magic = self.bits(start, MAGIC_BITS).ok_or_else(truncated)?;
                let crc = self.bits(start + MAGIC_BITS, CRC_BITS).ok_or_else(truncated)? as u32;
                match magic {
                    BLOCK_MAGIC => {
                        let end = if self.walking { self.walk(start)? } else { self.scan(start)? };
                        self.cut = NextPiece::Magic(end);
                        let answers = self.workers.submit(self.wrap(start, end, crc), ANSWER_SLOTS)?;
                        Ok(Some(StreamPiece::Block { start, end, level: self.level, crc, answers }))
                    }
                    END_MAGIC => {
                        self.cut = NextPiece::Header((start + MAGIC_BITS + CRC_BITS).next_multiple_of(8));
                        Ok(Some(StreamPiece::End { crc }))
                    }
                    _ => Err(corrupt()),
                }
            }
        }
    }

    /// Returns where the block at `start` seems to end: at the next magic number.
    ///
    /// The bound on the length of a block keeps a hostile file from filling the memory while the
    /// next magic number is looked for.
    fn scan(&mut self, start: u64) -> Result<u64> {
        let mut from = start + MAGIC_BITS;
        loop {
            match self.scanner.find(&self.window, from - self.base * 8) {
                Ok(found) => return Ok(found + self.base * 8),
                Err(_) if self.ended => return Err(truncated()),
                Err(resume) => from = resume + self.base * 8,
            }
            if from > start + MAX_BLOCK_BYTES * 8 {
                return Err(corrupt());
            }
            let have = self.base + self.window.len() as u64 - start / 8;
            self.ensure(start, have + 1)?;
        }
    }

    /// Returns where the block at `start` ends, by following its codes.
    ///
    /// Slower than [`scan`](Self::scan) and always right: the codes are decoded without their
    /// content.
    fn walk(&mut self, start: u64) -> Result<u64> {
        self.ensure(start, MAX_BLOCK_BYTES)?;
        let end = block_end(&self.window, start - self.base * 8, u32::from(self.level) * 100_000);
        match end {
            Ok(end) => Ok(end + self.base * 8),
            Err(BlockEndError::Truncated) if self.ended => Err(truncated()),
            Err(_) => Err(corrupt()),
        }
    }

    /// Makes a stream of the block's bits: a header, the block, and an end mark with its checksum.
    fn wrap(&self, start: u64, end: u64, crc: u32) -> Vec<u8> {
        let (from, to) = (start - self.base * 8, end - self.base * 8);
        let mut writer = bits::BitWriter::with_capacity(((to - from) / 8) as usize + 32);
        writer.put(u64::from(u32::from_be_bytes([b'B', b'Z', b'h', b'0' + self.level])), 32);
        writer.copy(&self.window, from, to);
        writer.put(END_MAGIC, 48);
        // With a single block, the checksum of the stream is that of the block.
        writer.put(u64::from(crc), 32);
        writer.finish()
    }

    /// Cuts ahead as far as the threads have use for it. A failure waits for its turn: blocks
    /// before it may turn out to have been cut wrongly.
    fn cut_ahead(&mut self) -> Result<()> {
        while self.pieces.len() < self.workers.depth() {
            match self.next_piece() {
                Ok(Some(piece)) => self.pieces.push_back(piece),
                Ok(None) => break,
                Err(error) => {
                    self.cut = NextPiece::Ended;
                    self.pieces.push_back(StreamPiece::Fail(error));
                }
            }
        }
        Ok(())
    }

    /// The next answer of a block; `None` when its thread is gone.
    ///
    /// # Errors
    /// `Cancelled`, within `CANCEL_POLL`.
    fn wait(&self, answers: &Receiver<BlockAnswer>) -> Result<Option<BlockAnswer>> {
        loop {
            match answers.recv_timeout(CANCEL_POLL) {
                Ok(answer) => return Ok(Some(answer)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.cancel.check()?,
            }
        }
    }

    /// Removes the window's bytes before `end`: the blocks in them were decoded and will not be cut
    /// again.
    fn release(&mut self, end: u64) {
        let bytes = (end / 8).saturating_sub(self.base);
        self.window.drain(..bytes as usize);
        self.base += bytes;
    }
}

impl<R> Drop for ParallelDecoder<R> {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

impl<R: Read> DecodeStep for ParallelDecoder<R> {
    fn decode(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            if self.given < self.data.len() {
                let length = out.len().min(self.data.len() - self.given);
                out[..length].copy_from_slice(&self.data[self.given..self.given + length]);
                self.given += length;
                return Ok(length);
            }
            self.cut_ahead()?;
            match self.pieces.pop_front() {
                None => return Ok(0),
                Some(StreamPiece::Fail(error)) => return Err(error),
                Some(StreamPiece::End { crc }) => {
                    if crc != self.combined {
                        return Err(Error::malformed("the decompressed data does not match bzip2's checksum"));
                    }
                    self.combined = 0;
                }
                Some(StreamPiece::Block { start, end, level, crc, answers }) => match self.wait(&answers)? {
                    Some(BlockAnswer::Data(data)) => {
                        (self.data, self.given) = (data, 0);
                        self.pieces.push_front(StreamPiece::Block { start, end, level, crc, answers });
                    }
                    Some(BlockAnswer::Done) => {
                        self.combined = self.combined.rotate_left(1) ^ crc;
                        self.release(end);
                    }
                    Some(BlockAnswer::Failed) | None if self.walking => return Err(corrupt()),
                    Some(BlockAnswer::Failed) | None => {
                        // From here on blocks are measured. What was cut ahead is discarded, since
                        // its boundaries may be wrong too.
                        self.walking = true;
                        self.pieces.clear();
                        self.cut = NextPiece::Magic(start);
                        self.level = level;
                    }
                },
            }
        }
    }
}

/// Decodes a block in a stream of its own. Sends nothing before its checksum was right.
///
/// A block that decodes to more than [`MAX_HELD_BYTES`] is verified without being kept and then
/// decoded once more, so that memory is bounded for each thread.
fn decode_block(block: &[u8], answers: &SyncSender<BlockAnswer>, unwanted: &AtomicBool) {
    let mut decoder = Decompress::new(false);
    let mut data = Vec::with_capacity(PIECE_BYTES);
    let held = step(&mut decoder, block, &mut data, MAX_HELD_BYTES, unwanted);
    let answered = match held {
        Some(true) => answers.send(BlockAnswer::Data(data)).and_then(|()| answers.send(BlockAnswer::Done)),
        Some(false) if verify(&mut decoder, block, data, unwanted) => hand_out(block, answers, unwanted),
        _ => answers.send(BlockAnswer::Failed),
    };
    // Nobody waits any more where this fails.
    let _ = answered;
}

/// Decodes until `data` has `limit` bytes (`false`) or the block is over (`true`); `None` for a
/// block that is no good, or that nobody wants any more.
fn step(
    decoder: &mut Decompress,
    block: &[u8],
    data: &mut Vec<u8>,
    limit: usize,
    unwanted: &AtomicBool,
) -> Option<bool> {
    loop {
        if data.len() >= limit {
            return Some(false);
        }
        if unwanted.load(Ordering::Relaxed) {
            return None;
        }
        if data.len() == data.capacity() {
            data.reserve_exact(PIECE_BYTES);
        }
        let rest = block.get(usize::try_from(decoder.total_in()).ok()?..)?;
        let slice = rest.get(..SLICE_BYTES).unwrap_or(rest);
        match decoder.decompress_vec(slice, data) {
            Ok(Status::StreamEnd) => return Some(true),
            // All was taken, there is room, and yet no end.
            Ok(_) if slice.len() == rest.len() && data.len() < data.capacity() => return None,
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Decodes the rest of a block without keeping it; whether its checksum was right.
fn verify(decoder: &mut Decompress, block: &[u8], mut data: Vec<u8>, unwanted: &AtomicBool) -> bool {
    loop {
        data.clear();
        match step(decoder, block, &mut data, PIECE_BYTES, unwanted) {
            Some(true) => return true,
            Some(false) => {}
            None => return false,
        }
    }
}

/// Decodes a verified block a second time and sends it piece by piece.
fn hand_out(
    block: &[u8],
    answers: &SyncSender<BlockAnswer>,
    unwanted: &AtomicBool,
) -> Result<(), std::sync::mpsc::SendError<BlockAnswer>> {
    let mut decoder = Decompress::new(false);
    loop {
        let mut data = Vec::with_capacity(PIECE_BYTES);
        let ended = step(&mut decoder, block, &mut data, PIECE_BYTES, unwanted);
        answers.send(BlockAnswer::Data(data))?;
        match ended {
            Some(false) => {}
            Some(true) => return answers.send(BlockAnswer::Done),
            None => return answers.send(BlockAnswer::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::format::codec::checked::CheckedReader;
    use crate::format::codec::{Codec, encoder};

    fn text(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8 ^ (n / 777) as u8).collect()
    }

    fn pack(data: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut encoder = encoder(Codec::Bzip2.into(), &mut packed, 2, &crate::Cancel::new()).expect("an encoder");
        encoder.write_all(data).expect("written");
        encoder.finish().expect("finished");
        packed
    }

    fn unpack(decoder: ParallelDecoder<&[u8]>) -> std::io::Result<Vec<u8>> {
        let mut data = Vec::new();
        CheckedReader::new(decoder).read_to_end(&mut data).map(|_| data)
    }

    /// The stream with `magic` among the first block's selectors: more of them than a block needs
    /// are allowed, and no magic number has three ones in a row, so its bits are selectors.
    fn with_magic_inside(packed: &[u8], magic: u64) -> Vec<u8> {
        let mut position = HEADER_BITS + MAGIC_BITS + CRC_BITS + 25;
        let mut take = |count| {
            position += count;
            bits::get(packed, position - count, count).expect("a whole stream")
        };
        let rows = take(16);
        for _ in 0..rows.count_ones() {
            take(16);
        }
        assert!(take(3) >= 3, "three code books make all of the bits valid");
        let selectors = take(15);
        for _ in 0..selectors {
            while take(1) == 1 {}
        }
        let (end, count) = (position, 15);
        let mut counted = HEADER_BITS + MAGIC_BITS + CRC_BITS + 25 + 16 + 3;
        counted += 16 * u64::from(rows.count_ones());
        let mut writer = bits::BitWriter::default();
        writer.copy(packed, 0, counted);
        writer.put(selectors + u64::from((magic << 1).count_zeros()) - 15, count);
        writer.copy(packed, counted + u64::from(count), end);
        // The zero behind it ends the last selector.
        writer.put(magic, 48);
        writer.put(0, 1);
        writer.copy(packed, end, packed.len() as u64 * 8);
        writer.finish()
    }

    #[test]
    fn magic_number_inside_a_block_is_data() {
        let data = text(2_000_000);
        let packed = pack(&data);
        for magic in [BLOCK_MAGIC, END_MAGIC] {
            let mut forged = with_magic_inside(&packed, magic);
            // The padding moved: the copied zeros may make up one byte too many.
            let scanner = Scanner::new();
            let mut last = 0;
            while let Ok(found) = scanner.find(&forged, last + 1) {
                last = found;
            }
            forged.truncate((last + MAGIC_BITS + CRC_BITS).div_ceil(8) as usize);
            let mut serial = CheckedReader::new(crate::format::codec::bzip2::SerialDecoder::new(&forged[..]));
            let mut found = Vec::new();
            serial.read_to_end(&mut found).expect("libbz2 takes it");
            assert!(found == data);
            for threads in [1, 2, 4] {
                let decoder = ParallelDecoder::new(&forged[..], threads, Cancel::new()).expect("a decoder");
                assert!(unpack(decoder).expect("decoded") == data, "{magic:#x}");
            }
        }
    }

    #[test]
    fn measured_blocks_end_where_the_next_one_begins() {
        let data = [text(2_000_000), vec![0; 30_000_000], text(10)].concat();
        let packed = pack(&data).repeat(2);
        let mut decoder = ParallelDecoder::new(&packed[..], 2, Cancel::new()).expect("a decoder");
        decoder.walking = true;
        assert!(unpack(decoder).expect("decoded") == data.repeat(2));
        let mut decoder = ParallelDecoder::new(&packed[..packed.len() - 20], 2, Cancel::new()).expect("a decoder");
        decoder.walking = true;
        assert!(unpack(decoder).is_err());
    }

    #[test]
    fn unwanted_block_is_abandoned() {
        let unwanted = AtomicBool::new(true);
        assert_eq!(
            step(&mut Decompress::new(false), b"BZh9", &mut Vec::with_capacity(PIECE_BYTES), MAX_HELD_BYTES, &unwanted),
            None
        );
    }
}
