//! Writes the content of files: cut into blocks, holes left out, duplicates not stored again.
//!
//! Blocks of one file must be contiguous, since the format keeps one start position per file. So a
//! file that looks like an earlier one is not written while all of its blocks are equal (by
//! SHA-256); when it differs after all, the blocks that it shares with the earlier file are copied
//! from the output as they are.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::super::data::RAW_BLOCK;
use super::super::fragments;
use super::super::superblock::{NO_TABLE, NONE};
use super::pipeline::{EncodePipeline, EncodedBlock};
use super::tree::InodeKind;
use super::{Tails, WriteOptions, Writer};
use crate::error::{Error, Result};
use crate::format::entry::Entry;

/// The SHA-256 of a plain block. All zero stands for a block of zeros, which no SHA-256 is known to
/// be.
type BlockHash = [u8; 32];
/// The hash that stands for a block of zeros.
const ZEROS: BlockHash = [0; 32];
/// Blocks above which a file is not compared with others: 32 bytes of memory for each would add up.
const MAX_COMPARED_BLOCKS: usize = 1 << 20;

/// A file's content in the image, shared by all inodes with equal content.
#[derive(Debug, Clone)]
pub(super) struct StoredFile {
    /// Bytes of the content, with holes.
    pub(super) size: u64,
    /// Where its blocks begin, or [`NO_TABLE`].
    start: u64,
    /// The blocks' stored sizes; 0 for a hole.
    pub(super) blocks: Vec<u32>,
    /// The shared block with the tail, or [`NONE`], and the tail's place in it.
    pub(super) fragment: (u32, u32),
    /// Bytes that are holes.
    pub(super) in_holes: u64,
    /// The hashes of its blocks; empty when it is not compared.
    fingerprints: Box<[BlockHash]>,
    /// An earlier file with the same key in [`DataWriter::known`], or [`NONE`].
    earlier: u32,
}

impl StoredFile {
    /// Content of this size, of which nothing is written.
    fn new(size: u64) -> Self {
        let (blocks, fingerprints) = (Vec::new(), Box::default());
        Self { size, start: NO_TABLE, blocks, fragment: (NONE, 0), in_holes: 0, fingerprints, earlier: NONE }
    }

    /// Where its blocks begin; 0, as `mksquashfs` writes it, for a file without blocks.
    pub(super) fn start_or_zero(&self) -> u64 {
        if self.start == NO_TABLE { 0 } else { self.start }
    }
}

/// The number of the content that all empty files share.
const EMPTY: u32 = 0;

/// What a block in the pipeline is part of.
pub(super) enum BlockPurpose {
    /// A block of a file, by the file's number and its own.
    Block { file: u32, number: usize },
    /// A shared block with tails of several files.
    Fragment { number: usize },
}

/// The output, and the content that was written to it so far.
pub(super) struct DataWriter<W> {
    /// The file that is written. It is read as well, to copy blocks.
    out: W,
    /// Where the next byte is written.
    position: u64,
    /// Compresses blocks.
    pipeline: EncodePipeline<BlockPurpose>,
    /// The content of all files. The first is that of empty files.
    files: Vec<StoredFile>,
    /// The last file of those whose size and first block have this hash.
    known: HashMap<u64, u32>,
    /// The shared block that is being filled.
    fragment: Vec<u8>,
    /// Position and stored size of the shared blocks.
    fragments: Vec<(u64, u32)>,
    /// Plain bytes of a block.
    block_size: usize,
    /// What is done with the rest of a file that fills no block.
    tails: Tails,
    /// Whether files with the same content share it.
    duplicates: bool,
}

impl<W: Read + Write + Seek> DataWriter<W> {
    /// A writer whose next byte goes to `position`.
    pub(super) fn new(out: W, position: u64, pipeline: EncodePipeline<BlockPurpose>, options: &WriteOptions) -> Self {
        Self {
            out,
            position,
            pipeline,
            files: vec![StoredFile::new(0)],
            known: HashMap::new(),
            fragment: Vec::new(),
            fragments: Vec::new(),
            block_size: usize::try_from(options.block_size).unwrap_or(1 << 20),
            tails: options.tails,
            duplicates: options.duplicates,
        }
    }

    /// Where the next byte is written.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The content of all files, by the numbers that inodes have.
    pub(super) fn files(&self) -> &[StoredFile] {
        &self.files
    }

    /// The number of fragment blocks.
    pub(super) fn fragment_count(&self) -> u32 {
        u32::try_from(self.fragments.len()).unwrap_or(u32::MAX)
    }

    /// The records of the fragment table.
    pub(super) fn fragment_records(&self) -> Vec<u8> {
        let mut records = Vec::with_capacity(self.fragments.len() * fragments::RECORD);
        for (position, stored) in &self.fragments {
            records.extend(position.to_le_bytes());
            records.extend(stored.to_le_bytes());
            records.extend([0; 4]);
        }
        records
    }

    /// Gives the output back.
    pub(super) fn into_output(self) -> W {
        self.out
    }

    /// Writes `bytes` at the end and returns where they begin.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        self.out.write_all(bytes).map_err(unwritable)?;
        let start = self.position;
        self.position += bytes.len() as u64;
        Ok(start)
    }

    /// Writes all that is under way and the last shared block.
    ///
    /// # Errors
    /// `Io`; those of compressing.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.flush_fragment()?;
        self.write_finished(true)
    }

    /// Sends the fragment block that is being filled to the pipeline.
    fn flush_fragment(&mut self) -> Result<()> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.fragment);
        let number = self.fragments.len();
        self.fragments.push((0, 0));
        self.submit(BlockPurpose::Fragment { number }, plain)
    }

    /// Sends a block to the pipeline, and writes those that are finished.
    fn submit(&mut self, purpose: BlockPurpose, plain: Vec<u8>) -> Result<()> {
        self.pipeline.submit(purpose, plain)?;
        self.write_finished(false)
    }

    /// Writes blocks that are compressed, in the order of submission; waits for all of them if
    /// `all`.
    fn write_finished(&mut self, all: bool) -> Result<()> {
        while let Some((purpose, EncodedBlock { bytes, raw })) = self.pipeline.next(all)? {
            let position = self.append(&bytes)?;
            // At most a block's size.
            let stored = bytes.len() as u32 | if raw { RAW_BLOCK } else { 0 };
            match purpose {
                BlockPurpose::Fragment { number } => {
                    if let Some(record) = self.fragments.get_mut(number) {
                        *record = (position, stored);
                    }
                }
                BlockPurpose::Block { file, number } => {
                    if let Some(file) = self.files.get_mut(file as usize) {
                        if file.start == NO_TABLE {
                            file.start = position;
                        }
                        if let Some(block) = file.blocks.get_mut(number) {
                            *block = stored;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts a file's tail into the fragment block; returns the fragment's number and the offset in
    /// it.
    fn add_tail(&mut self, tail: &[u8]) -> Result<(u32, u32)> {
        if self.fragment.len() + tail.len() > self.block_size {
            self.flush_fragment()?;
        }
        let number = u32::try_from(self.fragments.len()).ok().filter(|number| *number < u32::MAX);
        let number = number.ok_or_else(|| Error::unsupported("SquashFS holds no more than 2^32 - 1 shared blocks"))?;
        // Less than a block.
        let offset = self.fragment.len() as u32;
        self.fragment.extend(tail);
        Ok((number, offset))
    }

    /// Gives a new file the first `count` blocks of an earlier one, by copying their stored bytes.
    ///
    /// # Errors
    /// `Io`; those of blocks that were under way.
    fn copy_blocks(&mut self, from: u32, to: u32, count: usize) -> Result<()> {
        self.write_finished(true)?;
        let Some(source) = self.files.get(from as usize) else { return Ok(()) };
        let blocks: Vec<u32> = source.blocks.iter().take(count).copied().collect();
        let total: u64 = blocks.iter().map(|block| u64::from(block & !RAW_BLOCK)).sum();
        let holes = blocks.iter().filter(|block| **block == 0).count() * self.block_size;
        let (mut read_at, start) = (source.start_or_zero(), self.position);
        let mut buffer = vec![0; self.block_size];
        let mut left = total;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.split_at_mut(length).0;
            self.out
                // Read back from the output instead of being compressed again: the same bytes for a
                // fraction of the time.
                .seek(SeekFrom::Start(read_at))
                .and_then(|_| self.out.read_exact(part))
                .and_then(|()| self.out.seek(SeekFrom::Start(self.position)))
                .map_err(|source| Error::io("the image can't be read back", source))?;
            read_at += length as u64;
            left -= length as u64;
            self.append(part)?;
        }
        if let Some(file) = self.files.get_mut(to as usize) {
            file.blocks = blocks;
            file.in_holes = holes as u64;
            file.start = if total > 0 { start } else { NO_TABLE };
        }
        Ok(())
    }

    /// Earlier files of this size whose first block has this hash, the oldest first.
    fn candidates(&self, size: u64, first: &BlockHash) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = self.known.get(&key(size, first)).copied().unwrap_or(NONE);
        while let Some(file) = self.files.get(next as usize).filter(|_| next != NONE) {
            if file.size == size && file.fingerprints.first() == Some(first) {
                found.push(next);
            }
            next = file.earlier;
        }
        // The first is the one that is shared.
        found.reverse();
        found
    }

    /// Lets later files be recognised as equal to this one.
    fn remember(&mut self, number: u32, fingerprints: Vec<BlockHash>) {
        let Some(file) = self.files.get_mut(number as usize) else { return };
        let Some(first) = fingerprints.first() else { return };
        file.earlier = self.known.insert(key(file.size, first), number).unwrap_or(NONE);
        file.fingerprints = fingerprints.into();
    }
}

/// A hash of a file's size and first block. Whatever it says, both are compared.
fn key(size: u64, first: &BlockHash) -> u64 {
    let start = first.first_chunk().map_or(0, |start| u64::from_le_bytes(*start));
    start ^ size.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A regular file that is being written. Dropping it unfinished leaves it out of the tree.
pub(crate) struct FileWriter<'w, W> {
    writer: &'w mut Writer<W>,
    file: PendingFile,
}

/// A file that is being written, without its writer.
pub(crate) struct PendingFile {
    entry: Entry,
    size: u64,
    /// Bytes that came so far.
    given: u64,
    /// The block that is being filled.
    buffer: Vec<u8>,
    /// The file's place among the contents.
    number: u32,
    fingerprints: Vec<BlockHash>,
    /// Earlier files that have been equal so far. While there is one, nothing is written.
    equal: Vec<u32>,
}

impl<'w, W: Read + Write + Seek> FileWriter<'w, W> {
    /// Begins a file of `size` bytes.
    pub(super) fn new(writer: &'w mut Writer<W>, entry: Entry, size: u64) -> Result<Self> {
        let number = if size == 0 {
            EMPTY
        } else {
            let number = u32::try_from(writer.contents.files.len()).ok().filter(|number| *number != NONE);
            writer.contents.files.push(StoredFile::new(size));
            number.ok_or_else(|| Error::unsupported("SquashFS holds fewer than 2^32 files"))?
        };
        let (buffer, fingerprints, equal) = (Vec::new(), Vec::new(), Vec::new());
        let file = PendingFile { entry, size, given: 0, buffer, number, fingerprints, equal };
        Ok(Self { writer, file })
    }

    /// Lets go of the writer for a while.
    pub(super) fn suspend(self) -> PendingFile {
        self.file
    }

    /// Goes on with a file of this writer.
    pub(super) fn resume(writer: &'w mut Writer<W>, file: PendingFile) -> Self {
        Self { writer, file }
    }

    /// A hole from where the file is to `offset`.
    pub(super) fn hole_up_to(&mut self, offset: u64) -> Result<()> {
        match offset.checked_sub(self.file.given) {
            Some(length) => self.hole(length),
            None => Err(Error::invalid("the pieces of a file came out of order").in_entry(&self.file.entry.path)),
        }
    }

    /// Ends the file, with a hole for what was not given.
    pub(super) fn finish_with_hole(mut self) -> Result<()> {
        self.hole_up_to(self.file.size)?;
        self.finish()
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.take(bytes.len() as u64)?;
        let block = self.writer.contents.block_size;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(block - self.file.buffer.len()));
            self.file.buffer.extend(now);
            bytes = later;
            if self.file.buffer.len() == block {
                self.end_block()?;
            }
        }
        Ok(())
    }

    /// Appends `length` zeros without looking at each.
    pub(crate) fn hole(&mut self, mut length: u64) -> Result<()> {
        self.take(length)?;
        let block = self.writer.contents.block_size;
        while length > 0 {
            if self.file.buffer.is_empty() && length >= block as u64 {
                self.place(ZEROS, block, None)?;
                length -= block as u64;
                continue;
            }
            let room = block - self.file.buffer.len();
            let now = usize::try_from(length).unwrap_or(room).min(room);
            self.file.buffer.resize(self.file.buffer.len() + now, 0);
            length -= now as u64;
            if self.file.buffer.len() == block {
                self.end_block()?;
            }
        }
        Ok(())
    }

    /// Ends the file and puts it into the tree.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.file.given != self.file.size {
            return Err(self.wrong_size());
        }
        if !self.file.buffer.is_empty() {
            self.end_block()?;
        }
        let mut number = self.file.number;
        let contents = &mut self.writer.contents;
        if let Some(equal) = self.file.equal.first() {
            // Nothing of this one was written, and it is the last.
            contents.files.pop();
            number = *equal;
            self.writer.summary.duplicates += 1;
        } else if contents.duplicates {
            contents.remember(number, std::mem::take(&mut self.file.fingerprints));
        }
        if let Some(file) = contents.files.get_mut(number as usize) {
            file.blocks.shrink_to_fit();
        }
        self.writer.tree.insert(&self.file.entry, InodeKind::File(number), &self.writer.options.monitor)
    }

    /// Counts bytes that were given, and refuses more than the entry's size.
    fn take(&mut self, length: u64) -> Result<()> {
        self.file.given = self.file.given.saturating_add(length);
        if self.file.given > self.file.size { Err(self.wrong_size()) } else { Ok(()) }
    }

    /// The error for content that is longer or shorter than its entry says.
    fn wrong_size(&self) -> Error {
        let given = if self.file.given > self.file.size { "more".into() } else { self.file.given.to_string() };
        Error::mismatch("the bytes of a file", self.file.size.to_string(), given).in_entry(&self.file.entry.path)
    }

    /// Ends the block that is being filled.
    fn end_block(&mut self) -> Result<()> {
        let plain = std::mem::take(&mut self.file.buffer);
        let length = plain.len();
        if is_zero(&plain) {
            self.file.buffer = plain;
            self.file.buffer.clear();
            return self.place(ZEROS, length, None);
        }
        let fingerprint = if self.compares() { Sha256::digest(&plain).into() } else { ZEROS };
        self.place(fingerprint, length, Some(plain))
    }

    /// Whether this file takes part in the search for duplicates.
    fn compares(&self) -> bool {
        let contents = &self.writer.contents;
        contents.duplicates && self.file.size / (contents.block_size as u64) < MAX_COMPARED_BLOCKS as u64
    }

    /// Decides whether the next block is equal to that of an earlier file so far, and emits it if
    /// not. `plain` is `None` for zeros.
    fn place(&mut self, fingerprint: BlockHash, length: usize, plain: Option<Vec<u8>>) -> Result<()> {
        if !self.compares() {
            return self.emit(length, plain);
        }
        let contents = &mut self.writer.contents;
        let number = self.file.fingerprints.len();
        self.file.fingerprints.push(fingerprint);
        if number == 0 {
            self.file.equal = contents.candidates(self.file.size, &fingerprint);
        } else if let Some(last) = self.file.equal.first().copied() {
            self.file.equal.retain(|file| {
                contents.files.get(*file as usize).and_then(|file| file.fingerprints.get(number)) == Some(&fingerprint)
            });
            if self.file.equal.is_empty() {
                contents.copy_blocks(last, self.file.number, number)?;
            }
        }
        if self.file.equal.is_empty() { self.emit(length, plain) } else { Ok(()) }
    }

    /// Adds a block to the file: as a hole, as a tail in the fragment block, or through the
    /// pipeline.
    fn emit(&mut self, length: usize, plain: Option<Vec<u8>>) -> Result<()> {
        let contents = &mut self.writer.contents;
        let Some(file) = contents.files.get_mut(self.file.number as usize) else { return Ok(()) };
        let Some(plain) = plain else {
            file.blocks.push(0);
            file.in_holes += length as u64;
            return Ok(());
        };
        let shares = match contents.tails {
            Tails::Never => false,
            Tails::SmallFiles => file.blocks.is_empty(),
            Tails::All => true,
        };
        if shares && length < contents.block_size {
            let fragment = contents.add_tail(&plain)?;
            if let Some(file) = contents.files.get_mut(self.file.number as usize) {
                file.fragment = fragment;
            }
            return Ok(());
        }
        let number = file.blocks.len();
        file.blocks.push(0);
        contents.submit(BlockPurpose::Block { file: self.file.number, number }, plain)
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    // A fold over words of a chunk becomes vector instructions; a chunk that is not zero ends it.
    bytes.chunks(1024).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// The output refused.
pub(super) fn unwritable(source: std::io::Error) -> Error {
    Error::io("the image can't be written", source)
}
