//! Writes bzip2 on several threads: each block is compressed on its own, and their bits are put one
//! behind the other into one stream.
//!
//! libbz2 can only write whole streams, so a thread makes a stream of one block, finds the block's
//! bits in it, and the caller copies them. Input is cut into blocks where libbz2 would do it, so
//! that the result is what the `bzip2` program writes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender};

use bzip2::{Action, Compress, Status};

use super::{CRC_BITS, END_MAGIC, HEADER_BITS, MAGIC_BITS, bits};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::compression::Compression;
use crate::format::codec::encoder::Encoder;
use crate::format::codec::workers::{Workers, lost};

/// Plain bytes of a block at most. Runs shrink in bzip2's first step, before they count for a
/// block's size, so that one block of zeros could take in 46 MB.
const MAX_BLOCK_INPUT: usize = 4 << 20;
/// libbz2 ends a block this many bytes before its nominal size, and looks only now and then; a
/// block that is cut by then stays one block.
const BLOCK_MARGIN: usize = 19 + 8;

/// A block in a stream of its own: its bits are those from `HEADER_BITS` up to `end`.
struct EncodedBlock {
    stream: Vec<u8>,
    /// The bit after the block's last.
    end: u64,
    /// The block's own checksum.
    crc: u32,
}

/// Compresses into one stream. Blocks are appended in order; `combined` is the stream's checksum so
/// far.
pub(in crate::format::codec) struct Bzip2Encoder<W> {
    sink: W,
    out: bits::BitWriter,
    /// The checksum of the blocks written so far.
    combined: u32,
    /// Plain bytes of the block that is being filled.
    block: Vec<u8>,
    runs: RunCounter,
    /// Packed bytes at which a block is complete.
    full: usize,
    // Before the workers: see there.
    pending: VecDeque<Receiver<Result<EncodedBlock>>>,
    workers: Workers<Vec<u8>, Result<EncodedBlock>>,
}

/// Counts how long the data is after bzip2's first step, which packs runs of four to 255 equal
/// bytes into five.
#[derive(Default)]
struct RunCounter {
    /// Bytes after packing.
    packed: usize,
    /// The last byte.
    last: u8,
    /// How often it came in a row.
    run: u8,
}

impl RunCounter {
    /// Counts bytes until `full` is reached, and returns how many were taken.
    fn take(&mut self, bytes: &[u8], full: usize) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            if self.packed >= full {
                return index;
            }
            if byte == self.last && (1..255).contains(&self.run) {
                self.run += 1;
                self.packed += match self.run {
                    ..4 => 1,
                    4 => 2,
                    _ => 0,
                };
            } else {
                (self.last, self.run) = (byte, 1);
                self.packed += 1;
            }
        }
        bytes.len()
    }
}

impl<W: Write> Bzip2Encoder<W> {
    pub(in crate::format::codec) fn new(compression: Compression, sink: W, threads: usize) -> Result<Self> {
        let level = compression.effective_level().clamp(1, 9);
        let mut out = bits::BitWriter::default();
        out.put(u64::from(u32::from_be_bytes([b'B', b'Z', b'h', b'0' + level as u8])), 32);
        Ok(Self {
            sink,
            out,
            combined: 0,
            block: Vec::new(),
            runs: RunCounter::default(),
            full: level as usize * 100_000 - BLOCK_MARGIN,
            pending: VecDeque::new(),
            workers: Workers::new(threads, || {
                move |block: Vec<u8>, answers: &SyncSender<_>| {
                    let _ = answers.send(compress(&block, level));
                }
            })?,
        })
    }

    /// Hands the block to a thread, after writing finished blocks while too many are in flight.
    fn submit(&mut self) -> Result<()> {
        while self.pending.len() >= self.workers.depth() {
            self.write_oldest()?;
        }
        self.runs = RunCounter::default();
        self.pending.push_back(self.workers.submit(std::mem::take(&mut self.block), 1)?);
        Ok(())
    }

    /// Waits for the oldest block in flight, adds its checksum to the stream's (rotate left,
    /// exclusive or) and writes its bits.
    fn write_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(()) };
        let block = oldest.recv().map_err(|_| lost())??;
        self.combined = self.combined.rotate_left(1) ^ block.crc;
        self.out.copy(&block.stream, HEADER_BITS, block.end);
        Ok(self.sink.write_all(&self.out.take())?)
    }
}

/// Compresses one block into a stream of its own, and finds where the block's bits end in it: the
/// end mark stands at one of eight places, since up to seven bits of padding follow it.
fn compress(data: &[u8], level: u32) -> Result<EncodedBlock> {
    let failed = || Error::new(ErrorKind::Io, "the bzip2 encoder failed");
    // 30 is the program's own work factor.
    let mut encoder = Compress::new(bzip2::Compression::new(level), 30);
    let mut stream = Vec::with_capacity(data.len() / 2 + 1024);
    loop {
        let taken = encoder.total_in() as usize;
        match encoder.compress_vec(&data[taken..], &mut stream, Action::Finish) {
            Ok(Status::StreamEnd) => break,
            Ok(_) => stream.reserve(data.len() / 4 + 1024),
            Err(error) => return Err(failed().with_source(error)),
        }
    }
    let crc = bits::get(&stream, HEADER_BITS + MAGIC_BITS, CRC_BITS).ok_or_else(failed)?;
    // Where the stream's end stands tells only the number of zeros behind it.
    let end = (0..8)
        .filter_map(|zeros| (stream.len() as u64 * 8).checked_sub(MAGIC_BITS + CRC_BITS + zeros))
        .find(|&end| {
            bits::get(&stream, end, MAGIC_BITS) == Some(END_MAGIC)
                && bits::get(&stream, end + MAGIC_BITS, CRC_BITS) == Some(crc)
        })
        .ok_or_else(failed)?;
    Ok(EncodedBlock { stream, end, crc: crc as u32 })
}

impl<W: Write> Write for Bzip2Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() >= MAX_BLOCK_INPUT || self.runs.packed >= self.full {
            self.submit()?;
        }
        let room = bytes.len().min(MAX_BLOCK_INPUT - self.block.len());
        let length = self.runs.take(&bytes[..room], self.full);
        self.block.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl<W: Write + Send> Encoder for Bzip2Encoder<W> {
    fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.block.is_empty() {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.write_oldest()?;
        }
        let mut out = std::mem::take(&mut self.out);
        out.put(END_MAGIC, 48);
        out.put(u64::from(self.combined), 32);
        self.sink.write_all(&out.finish())?;
        Ok(self.sink.flush()?)
    }
}
