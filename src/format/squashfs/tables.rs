//! Tables of equal records in metadata blocks, found by an index of the blocks' positions.
//!
//! Ids, fragments and xattr sets are kept this way. Records are read when they are asked for.

use super::metadata_blocks::{MetadataBlocks, MetadataCursor, TableRegion};
use super::superblock::METADATA_BLOCK;
use crate::error::{Error, Result};
use crate::io::ReadAt;

/// Where a table's index and blocks are. Holds no record, since a header may claim four billion of
/// them.
#[derive(Debug, Clone)]
pub(super) struct LookupTable {
    /// Where the positions of the blocks are stored.
    index: u64,
    blocks: TableRegion,
    /// The number of records.
    count: u32,
    /// Bytes of a record.
    record: usize,
}

impl LookupTable {
    /// A table of `count` records of `record` bytes, whose index stands at `index` and must end by
    /// `end`, and whose blocks lie in `blocks`.
    pub(super) fn new(blocks: TableRegion, index: u64, end: u64, count: u32, record: usize) -> Result<Self> {
        let this = Self { index, blocks, count, record };
        let needed = u64::from(count).div_ceil(this.per_block()) * 8;
        if index.checked_add(needed).is_none_or(|last| last > end) {
            return Err(Error::malformed(format!("the {} has {count} records, and no room for them", blocks.name))
                .at_offset(index));
        }
        Ok(this)
    }

    /// Records in a full block.
    fn per_block(&self) -> u64 {
        (METADATA_BLOCK / self.record) as u64
    }

    /// The number of records.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A cursor at the record with this number.
    pub(super) fn at(&self, source: &impl ReadAt, number: u32) -> Result<MetadataCursor> {
        if number >= self.count {
            return Err(Error::malformed(format!(
                "number {number} is out of the {}, which has {}",
                self.blocks.name, self.count
            )));
        }
        let (block, within) = (u64::from(number) / self.per_block(), u64::from(number) % self.per_block());
        let mut position = [0; 8];
        source.read_exact_at(&mut position, self.index + block * 8)?;
        let position = u64::from_le_bytes(position).checked_sub(self.blocks.start);
        let position =
            position.ok_or_else(|| Error::malformed(format!("the {} starts too early", self.blocks.name)))?;
        // A block holds 8 KiB, so this is below it.
        let offset = u16::try_from(within * self.record as u64).unwrap_or(u16::MAX);
        MetadataCursor::new(self.blocks, position, offset)
    }

    /// The record with this number.
    pub(super) fn get<const N: usize>(
        &self,
        source: &impl ReadAt,
        blocks: &MetadataBlocks,
        number: u32,
    ) -> Result<[u8; N]> {
        self.at(source, number)?.array(source, blocks)
    }
}
