//! Metadata blocks: up to 8 KiB of a table, compressed, behind a header of two bytes.
//!
//! [`MetadataCursor`] reads across the borders of blocks; [`MetadataBlocks`] keeps the last blocks
//! decoded, since the inodes of one directory are in few of them. Each block is checked against the
//! region of its table before it is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::decode::SquashFsDecoder;
use super::superblock::METADATA_BLOCK;
use crate::error::{Error, Result};
use crate::io::ReadAt;

/// Blocks that stay decoded: 2 MiB, whatever the image. The inodes of 20,000 files fit.
const MAX_CACHED_BLOCKS: usize = 256;
/// The header's bit that says the block is stored as it is.
pub(super) const RAW: u16 = 0x8000;

/// Where the blocks of one table may be: from `start`, and wholly before `end`. The name is for
/// errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableRegion {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) name: &'static str,
}

impl TableRegion {
    /// The error for a block at this position.
    fn outside(&self, at: u64) -> Error {
        Error::malformed(format!("a block of the {} lies outside of it", self.name)).at_offset(at)
    }
}

/// A decoded block and where the next one starts.
pub(super) struct DecodedBlock {
    bytes: Vec<u8>,
    /// Where the next block of the table begins.
    next: u64,
}

/// The cache of decoded blocks, shared by all threads that read an image.
pub(super) struct MetadataBlocks {
    state: Mutex<BlockCache>,
}

/// The cached blocks by position, each with the time of its last use.
struct BlockCache {
    /// One decoder for all, used under the lock.
    decoder: SquashFsDecoder,
    cached: HashMap<u64, (Arc<DecodedBlock>, u64)>,
    /// Counts look-ups, so that the block used longest ago can be told.
    clock: u64,
}

impl MetadataBlocks {
    pub(super) fn new(decoder: SquashFsDecoder) -> Self {
        Self { state: Mutex::new(BlockCache { decoder, cached: HashMap::new(), clock: 0 }) }
    }

    /// The block at this position, decoded. One lock is held while a block is decoded: metadata is
    /// read by one thread at a time in practice.
    fn get(&self, source: &impl ReadAt, region: &TableRegion, at: u64) -> Result<Arc<DecodedBlock>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let now = state.clock;
        if let Some((block, used)) = state.cached.get_mut(&at) {
            // Another table's block at this place would be a lie about one of the two.
            if at < region.start || block.next > region.end {
                return Err(region.outside(at));
            }
            *used = now;
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(read_block(source, &mut state.decoder, region, at)?);
        if state.cached.len() >= MAX_CACHED_BLOCKS
            && let Some(oldest) = state.cached.iter().min_by_key(|(_, (_, used))| *used).map(|(at, _)| *at)
        {
            state.cached.remove(&oldest);
        }
        state.cached.insert(at, (Arc::clone(&block), now));
        Ok(block)
    }
}

/// Reads and decodes a block, after checking that it lies in the region.
fn read_block(
    source: &impl ReadAt,
    decoder: &mut SquashFsDecoder,
    region: &TableRegion,
    at: u64,
) -> Result<DecodedBlock> {
    let data = at.checked_add(2).filter(|end| at >= region.start && *end <= region.end);
    let data = data.ok_or_else(|| region.outside(at))?;
    let mut header = [0; 2];
    source.read_exact_at(&mut header, at)?;
    let header = u16::from_le_bytes(header);
    let stored = usize::from(header & !RAW);
    let next = data + stored as u64;
    if stored == 0 || stored > METADATA_BLOCK || next > region.end {
        return Err(Error::malformed(format!("a block of the {} claims {stored} bytes", region.name)).at_offset(at));
    }
    let mut bytes = vec![0; stored];
    source.read_exact_at(&mut bytes, data)?;
    if header & RAW == 0 {
        let mut plain = vec![0; METADATA_BLOCK];
        let length = decoder.decode(&bytes, &mut plain).map_err(|error| error.at_offset(at))?;
        if length == 0 {
            return Err(Error::malformed(format!("a block of the {} is empty", region.name)).at_offset(at));
        }
        plain.truncate(length);
        bytes = plain;
    }
    Ok(DecodedBlock { bytes, next })
}

/// A position in the decoded bytes of a table. Cloning it is cheap, and gives a second position.
#[derive(Clone)]
pub(super) struct MetadataCursor {
    region: TableRegion,
    /// Where the current block is stored.
    block: u64,
    /// The position in its plain bytes.
    offset: usize,
    /// The current block, so that small reads need no lock.
    held: Option<Arc<DecodedBlock>>,
}

impl MetadataCursor {
    /// At `offset` of the block that starts `block` bytes into the region.
    pub(super) fn new(region: TableRegion, block: u64, offset: u16) -> Result<Self> {
        let at = region.start.checked_add(block).filter(|at| *at < region.end);
        let at = at.ok_or_else(|| region.outside(region.start.saturating_add(block)))?;
        if usize::from(offset) >= METADATA_BLOCK {
            return Err(Error::malformed(format!("an offset into the {} is over a block", region.name)).at_offset(at));
        }
        Ok(Self { region, block: at, offset: usize::from(offset), held: None })
    }

    /// Fills `buffer` from here on.
    pub(super) fn read(&mut self, source: &impl ReadAt, blocks: &MetadataBlocks, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let block = match &self.held {
                Some(block) => Arc::clone(block),
                None => blocks.get(source, &self.region, self.block)?,
            };
            let Some(rest) = block.bytes.get(self.offset..) else {
                return Err(Error::malformed(format!("an offset into the {} is over its block", self.region.name))
                    .at_offset(self.block));
            };
            let count = rest.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(rest.split_at(count).0);
            buffer = later;
            self.offset += count;
            if self.offset >= block.bytes.len() {
                self.block = block.next;
                self.offset = 0;
                self.held = None;
            } else {
                self.held = Some(block);
            }
        }
        Ok(())
    }

    /// `N` bytes from here on.
    pub(super) fn array<const N: usize>(&mut self, source: &impl ReadAt, blocks: &MetadataBlocks) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(source, blocks, &mut bytes)?;
        Ok(bytes)
    }

    /// `length` bytes from here on; the caller has bounded `length`.
    pub(super) fn bytes(&mut self, source: &impl ReadAt, blocks: &MetadataBlocks, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(source, blocks, &mut bytes)?;
        Ok(bytes)
    }

    /// Lets go of the block, for a cursor that will wait for long.
    pub(super) fn rest(&mut self) {
        self.held = None;
    }
}
