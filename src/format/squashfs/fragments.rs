//! Fragment blocks, which hold the tails of many files; found by number, and kept decoded for a
//! while.
//!
//! Small files are stored one after the other, so neighbouring files use the same fragment block.
//! The cache decodes each block once, whichever thread asks first; others wait for that thread
//! instead of decoding it again.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::data::StoredBlock;
use super::fields::Fields;
use super::reader::SquashFsReader;
use crate::error::{Error, Result};
use crate::io::ReadAt;

/// Bytes of a fragment's record in the table: position, length, and four unused.
pub(super) const RECORD: usize = 16;
/// Plain bytes of fragment blocks that are kept. At least two blocks are, whatever their size.
const CACHE_BYTES: u32 = 8 << 20;

/// Finds the fragment block with this number.
pub(super) fn find<S: ReadAt>(reader: &SquashFsReader<S>, number: u32) -> Result<StoredBlock> {
    let table = reader.fragments.as_ref();
    let table = table.ok_or_else(|| Error::malformed("a file has its tail in a fragment, and there are none"))?;
    let record: [u8; RECORD] = table.get(&reader.source, &reader.blocks, number)?;
    let mut record = Fields(&record);
    let superblock = &reader.superblock;
    StoredBlock::new(record.u64()?, record.u32()?, superblock.block_size, superblock.data_end())
}

/// The fragment blocks that were used last, decoded. The least recently used one is evicted.
pub(super) struct FragmentCache {
    slots: Mutex<Vec<CachedFragment>>,
    /// Blocks that are kept.
    capacity: usize,
}

/// A block in the cache, or on its way there.
struct CachedFragment {
    block: StoredBlock,
    /// Filled by the first who asks; the others wait for it. None if it does not decode.
    content: Arc<OnceLock<Option<Arc<[u8]>>>>,
}

impl FragmentCache {
    pub(super) fn new(block_size: u32) -> Self {
        let capacity = usize::try_from(CACHE_BYTES / block_size.max(1)).unwrap_or(2).clamp(2, 64);
        Self { slots: Mutex::new(Vec::new()), capacity }
    }

    /// The content of `block`, by `decode` unless it is there already.
    pub(super) fn get(&self, block: StoredBlock, decode: impl FnOnce() -> Result<Arc<[u8]>>) -> Result<Arc<[u8]>> {
        let content = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = match slots.iter().position(|slot| slot.block == block) {
                Some(at) => slots.remove(at),
                None => {
                    if slots.len() >= self.capacity {
                        slots.remove(0);
                    }
                    CachedFragment { block, content: Arc::default() }
                }
            };
            let content = Arc::clone(&slot.content);
            // The last used stands last.
            slots.push(slot);
            content
        };
        let mut failure = None;
        let bytes = content.get_or_init(|| decode().map_err(|error| failure = Some(error)).ok());
        match (bytes, failure) {
            (Some(bytes), _) => Ok(Arc::clone(bytes)),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::malformed("a fragment block does not decode").at_offset(block.position)),
        }
    }
}
