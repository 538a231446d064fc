//! A file's content: its blocks, holes among them, and its tail in a shared fragment block.
//!
//! The list of block sizes is read from the inode as it is needed; a count in a header never
//! becomes an allocation.

use super::decode::SquashFsDecoder;
use super::inode::FileRef;
use super::reader::SquashFsReader;
use crate::error::{Error, Result};
use crate::io::ReadAt;
use crate::limits::Limits;

/// The bit beside a block's stored size that says it is stored as it is.
pub(super) const RAW_BLOCK: u32 = 1 << 24;

/// A regular file's content, to be read later and in any order.
#[derive(Clone)]
pub(crate) struct FileData {
    pub(super) at: FileRef,
}

impl FileData {
    /// Logical size in bytes, holes included.
    pub(crate) fn size(&self) -> u64 {
        self.at.size
    }
}

/// The sizes of an image's files added up, compared with the limit `file_size`. Holes cost nothing
/// to store, but each is a step to read, and one inode may be used under many names.
#[derive(Debug, Default)]
pub(crate) struct TotalSize(u64);

impl TotalSize {
    /// Adds the size of one file.
    ///
    /// # Errors
    /// `LimitExceeded` when all files together are over the limit.
    pub(crate) fn add(&mut self, data: Option<&FileData>, limits: &Limits) -> Result<()> {
        self.0 = self.0.saturating_add(data.map_or(0, FileData::size));
        if self.0 > limits.file_size {
            return Err(Error::limit("file_size", limits.file_size, "the size of all files together"));
        }
        Ok(())
    }
}

/// A stored block: its position in the image, its length there, and whether it is stored without
/// compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredBlock {
    /// Where it begins, in bytes from the start of the image.
    pub(super) position: u64,
    /// Bytes that it takes in the image.
    pub(super) stored: u32,
    /// Whether it is stored without compression.
    pub(super) raw: bool,
}

impl StoredBlock {
    /// Decodes the number that the format keeps for a block's length, and checks it.
    ///
    /// # Errors
    /// `Malformed` for a block that is empty, longer than a plain one, or outside of the image's
    /// data.
    pub(super) fn new(position: u64, word: u32, block_size: u32, end: u64) -> Result<Self> {
        let stored = word & !RAW_BLOCK;
        if stored == 0 || stored > block_size {
            return Err(Error::malformed(format!("a data block claims {stored} bytes")).at_offset(position));
        }
        if position.checked_add(u64::from(stored)).is_none_or(|last| last > end) {
            return Err(Error::malformed("a data block lies outside of the image's data").at_offset(position));
        }
        Ok(Self { position, stored, raw: word & RAW_BLOCK != 0 })
    }
}

/// A piece of a file, at most a block long.
#[derive(Debug, Clone, Copy)]
pub(super) enum FilePiece {
    /// `length` bytes at `offset` of the file, out of one block.
    Block { block: StoredBlock, offset: u64, length: u32 },
    /// `length` bytes at `offset` of the file that are all zero.
    Hole { offset: u64, length: u32 },
    /// The tail: `length` bytes at `offset` of the file, from `within` of a fragment block on.
    Tail { fragment: u32, within: u32, offset: u64, length: u32 },
}

/// The pieces of a file in order. An iterator in spirit; each step needs the reader.
pub(super) struct FilePieces {
    file: FileRef,
    block_size: u32,
    /// Where the next block is stored.
    position: u64,
    /// Where the next piece belongs in the file.
    offset: u64,
    /// Runs of data so far, and whether the last piece was of one.
    segments: u64,
    in_segment: bool,
}

impl FilePieces {
    /// The pieces of a file from its start.
    pub(super) fn new<S: ReadAt>(reader: &SquashFsReader<S>, data: &FileData) -> Self {
        let file = data.at.clone();
        Self {
            position: file.start,
            file,
            block_size: reader.superblock.block_size,
            offset: 0,
            segments: 0,
            in_segment: false,
        }
    }

    /// Counts a run of data where one begins, against the limit on segments of a sparse file.
    fn in_data<S: ReadAt>(&mut self, reader: &SquashFsReader<S>) -> Result<()> {
        if self.in_segment {
            return Ok(());
        }
        let limit = reader.limits.sparse_segments;
        if self.segments >= limit {
            return Err(Error::limit("sparse_segments", limit, "the number of segments of a sparse file"));
        }
        self.segments += 1;
        self.in_segment = true;
        Ok(())
    }

    /// Returns the next piece, `None` at the end of the file.
    ///
    /// # Errors
    /// `Malformed` for a block or tail that lies outside of its place; `LimitExceeded` for too many
    /// segments.
    pub(super) fn next<S: ReadAt>(&mut self, reader: &SquashFsReader<S>) -> Result<Option<FilePiece>> {
        let left = self.file.size.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let length = u32::try_from(left).unwrap_or(u32::MAX).min(self.block_size);
        self.offset = offset.saturating_add(u64::from(length));
        if let Some((fragment, within)) = self.file.fragment
            && length < self.block_size
        {
            if within.checked_add(length).is_none_or(|end| end > self.block_size) {
                return Err(Error::malformed("a file's tail lies outside of its fragment block"));
            }
            self.in_data(reader)?;
            return Ok(Some(FilePiece::Tail { fragment, within, offset, length }));
        }
        let word = u32::from_le_bytes(self.file.blocks.array(&reader.source, &reader.blocks)?);
        if word == 0 {
            self.in_segment = false;
            return Ok(Some(FilePiece::Hole { offset, length }));
        }
        self.in_data(reader)?;
        let block = StoredBlock::new(self.position, word, self.block_size, reader.superblock.data_end())?;
        self.position = self.position.saturating_add(u64::from(block.stored));
        Ok(Some(FilePiece::Block { block, offset, length }))
    }
}

/// What one thread needs to decode blocks: a buffer for the stored and one for the plain bytes, and
/// the codec's context.
pub(super) struct BlockDecoder {
    decoder: SquashFsDecoder,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl BlockDecoder {
    pub(super) fn new<S: ReadAt>(reader: &SquashFsReader<S>) -> Result<Self> {
        Ok(Self { decoder: reader.decoder()?, stored: Vec::new(), plain: Vec::new() })
    }

    /// Reads and decodes a data block that must give exactly `length` bytes.
    pub(super) fn block(&mut self, source: &impl ReadAt, block: &StoredBlock, length: u32) -> Result<&[u8]> {
        let found = self.decode(source, block, length)?;
        if found.len() as u64 != u64::from(length) {
            return Err(Error::malformed(format!("a data block holds {} bytes in place of {length}", found.len()))
                .at_offset(block.position));
        }
        Ok(found)
    }

    /// Reads and decodes a block that gives at most `most` bytes.
    pub(super) fn decode(&mut self, source: &impl ReadAt, block: &StoredBlock, most: u32) -> Result<&[u8]> {
        // Both are at most a block's size, which the superblock's check has bounded.
        let stored = usize::try_from(block.stored).unwrap_or(usize::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if block.raw {
            if stored > most {
                return Err(
                    Error::malformed("a data block is longer than its part of the file").at_offset(block.position)
                );
            }
            let plain = sized(&mut self.plain, stored);
            source.read_exact_at(plain, block.position)?;
            return Ok(plain);
        }
        let input = sized(&mut self.stored, stored);
        source.read_exact_at(input, block.position)?;
        let plain = sized(&mut self.plain, most);
        let length = self.decoder.decode(input, plain).map_err(|error| error.at_offset(block.position))?;
        Ok(plain.get(..length).unwrap_or_default())
    }
}

/// The first `length` bytes of a buffer, which grows to the largest length ever asked of it and is
/// never shrunk or cleared.
fn sized(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    buffer.split_at_mut(length).0
}
