//! [`Index`]: finds the places of a base that hold the same block as some bytes of the new file.
//!
//! The base is cut into blocks of one size, and each block is entered by a hash of its bytes. A hash that rolls over the new
//! file finds a block wherever it went. The table takes 8 bytes for each entry and is at most half full; for a base that is
//! too large for the memory that the table may take, the blocks get longer.

use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::progress::Monitor;

/// The shortest block in bytes.
const MIN_BLOCK: usize = 16;
/// The longest block in bytes: above that the table grows past its memory.
const MAX_BLOCK: usize = 64 << 10;
/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;
/// Places of one hash that are entered; the first ones of the base.
const MAX_SAME: usize = 4;
/// Entries that are looked at for one hash.
const MAX_PROBES: usize = 16;
/// Parts of the table that are filled independently of each other. A constant, so that the table does not depend on how many
/// threads fill it.
const SHARDS: usize = 16;
/// Bits of an entry that hold the number of a block, plus one.
const NUMBER_BITS: u32 = 40;
/// Bytes of the base that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// The base of the polynomial.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes the last `block` bytes of a sequence: `Σ byte · FACTORⁱ`, modulo 2^64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rolling {
    /// `FACTOR^block`: the weight of the byte that leaves.
    leaving: u64,
}

impl Rolling {
    pub(super) fn new(block: usize) -> Self {
        let exponent = u32::try_from(block).unwrap_or(u32::MAX);
        Self { leaving: FACTOR.wrapping_pow(exponent) }
    }

    /// The hash of a whole block.
    pub(super) fn of(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |hash: u64, byte| hash.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1))
    }

    /// The hash after `old` left and `new` came.
    pub(super) fn roll(self, hash: u64, old: u8, new: u8) -> u64 {
        hash.wrapping_mul(FACTOR)
            .wrapping_add(u64::from(new) + 1)
            .wrapping_sub(self.leaving.wrapping_mul(u64::from(old) + 1))
    }
}

/// Spreads a hash over all its bits: the low bits of the polynomial depend on few bits of the bytes.
pub(super) fn spread(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}

/// The index of a base.
pub(super) struct Index {
    block: usize,
    slots: Vec<u64>,
    /// Entries of a shard, a power of two.
    shard_slots: usize,
}

impl Index {
    /// Reads the base and enters its blocks, with a table of at most `memory` bytes.
    ///
    /// # Errors
    /// `Cancelled`; those of the base.
    pub(super) fn new(base: &Blob, memory: u64, threads: usize, monitor: &Monitor) -> Result<Self> {
        let length = base.len();
        let slots_for = |block: usize| (length / block as u64).saturating_mul(2).max(SHARDS as u64).next_power_of_two();
        let mut block = MIN_BLOCK;
        while block < MAX_BLOCK && slots_for(block).saturating_mul(ENTRY_BYTES) > memory {
            block *= 2;
        }
        let slots = usize::try_from(slots_for(block)).map_err(|_| Error::invalid("the base is too large for a delta"))?;
        let shard_slots = slots / SHARDS;
        let mut index = Self { block, slots: vec![0; slots], shard_slots };
        let threads = threads.clamp(1, SHARDS);
        std::thread::scope(|scope| {
            let mut shards: Vec<_> = index.slots.chunks_mut(shard_slots).collect();
            let each = SHARDS.div_ceil(threads);
            let mut running = Vec::new();
            let mut first = 0;
            while !shards.is_empty() {
                let own: Vec<_> = shards.drain(..each.min(shards.len())).collect();
                let filling = Filling { base, block, first, monitor };
                first += own.len();
                let thread = std::thread::Builder::new().name("lxd-image delta".into());
                let thread = thread.spawn_scoped(scope, move || filling.run(own));
                running.push(thread.map_err(|error| Error::io("a thread can't be started", error))?);
            }
            running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(super::lost())))
        })?;
        Ok(index)
    }

    /// The size of a block.
    pub(super) fn block(&self) -> usize {
        self.block
    }

    /// Offsets in the base where a block with this hash begins, as far as the hash tells: at most four.
    pub(super) fn find(&self, hash: u64) -> Candidates {
        let place = Place::new(hash, self.shard_slots);
        let mut found = Candidates { offsets: [0; MAX_SAME], count: 0 };
        let start = place.shard * self.shard_slots;
        for probe in 0..MAX_PROBES {
            let slot = start + (place.slot + probe) % self.shard_slots;
            let entry = self.slots.get(slot).copied().unwrap_or_default();
            if entry == 0 {
                break;
            }
            if entry >> NUMBER_BITS == place.check
                && let Some(offset) = found.offsets.get_mut(found.count)
            {
                *offset = ((entry & ((1 << NUMBER_BITS) - 1)) - 1) * self.block as u64;
                found.count += 1;
            }
        }
        found
    }
}

/// The result of [`Index::find`].
pub(super) struct Candidates {
    offsets: [u64; MAX_SAME],
    count: usize,
}

impl Candidates {
    pub(super) fn offsets(&self) -> &[u64] {
        self.offsets.get(..self.count).unwrap_or_default()
    }
}

/// Where a hash belongs in the table.
struct Place {
    shard: usize,
    slot: usize,
    /// The bits of the hash that are kept in the entry.
    check: u64,
}

impl Place {
    fn new(hash: u64, shard_slots: usize) -> Self {
        let hash = spread(hash);
        // Distinct bits for each: the upper 24, the next four, and the lower ones.
        let check = hash >> NUMBER_BITS;
        let shard = (hash >> (NUMBER_BITS - 4)) as usize % SHARDS;
        Self { shard, slot: hash as usize % shard_slots, check }
    }
}

/// What one thread does: reads the whole base, and enters the blocks that belong to its shards.
struct Filling<'a> {
    base: &'a Blob,
    block: usize,
    first: usize,
    monitor: &'a Monitor,
}

impl Filling<'_> {
    fn run(&self, mut shards: Vec<&mut [u64]>) -> Result<()> {
        let length = self.base.len();
        let mut buffer = vec![0; READ_BYTES];
        let mut offset: u64 = 0;
        while offset < length {
            let count = (length - offset).min(READ_BYTES as u64) as usize;
            let part = buffer.get_mut(..count).unwrap_or_default();
            self.base.read_exact_at(part, offset)?;
            self.monitor.check()?;
            for (number, block) in (offset / self.block as u64..).zip(part.chunks_exact(self.block)) {
                // Runs are found without the index, and would be found everywhere by it.
                if block.first().is_some_and(|first| block.iter().all(|byte| byte == first)) {
                    continue;
                }
                enter(&mut shards, self.first, Rolling::of(block), number);
            }
            offset = offset.saturating_add(count as u64);
        }
        Ok(())
    }
}

/// Enters a block, if it belongs to one of the shards from `first` on.
fn enter(shards: &mut [&mut [u64]], first: usize, hash: u64, number: u64) {
    let slots = shards.first().map_or(1, |shard| shard.len().max(1));
    let place = Place::new(hash, slots);
    let Some(shard) = place.shard.checked_sub(first).and_then(|at| shards.get_mut(at)) else { return };
    if number + 1 >= 1 << NUMBER_BITS {
        return;
    }
    let mut same = 0;
    for probe in 0..MAX_PROBES {
        let Some(slot) = shard.get_mut((place.slot + probe) % slots) else { return };
        if *slot == 0 {
            *slot = place.check << NUMBER_BITS | (number + 1);
            return;
        }
        same += usize::from(*slot >> NUMBER_BITS == place.check);
        if same == MAX_SAME {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn rolled_hash_is_that_of_the_block() {
        let bytes: Vec<u8> = (0..200_u32).map(|index| (index * index * 7 >> 3) as u8).collect();
        let rolling = Rolling::new(32);
        let mut hash = Rolling::of(&bytes[..32]);
        for end in 32..bytes.len() {
            hash = rolling.roll(hash, bytes[end - 32], bytes[end]);
            assert_eq!(hash, Rolling::of(&bytes[end - 31..=end]));
        }
    }

    #[test]
    fn table_does_not_depend_on_the_number_of_threads() {
        let bytes: Vec<u8> = (0..1_000_000_u64).map(|index| (spread(index / 100) >> (index % 50)) as u8).collect();
        let base = Blob::from(bytes);
        let one = Index::new(&base, 1 << 20, 1, &Monitor::none()).unwrap();
        for threads in [2, 3, 16, 40] {
            assert_eq!(Index::new(&base, 1 << 20, threads, &Monitor::none()).unwrap().slots, one.slots);
        }
    }

    #[test]
    fn block_is_found_at_its_offset() {
        let bytes: Vec<u8> = (0..4096_u64).map(|index| spread(index) as u8).collect();
        let index = Index::new(&Blob::from(bytes.clone()), 1 << 20, 2, &Monitor::none()).unwrap();
        assert_eq!(index.block(), 16);
        assert_eq!(index.find(Rolling::of(&bytes[1600..1616])).offsets(), [1600]);
        assert!(index.find(Rolling::of(&bytes[1601..1617])).offsets().is_empty());
    }

    #[test]
    fn blocks_of_a_large_base_are_longer() {
        let base = Blob::from((0..65_536_u64).map(|index| spread(index) as u8).collect::<Vec<u8>>());
        assert_eq!(Index::new(&base, 16 << 10, 1, &Monitor::none()).unwrap().block(), 64);
    }
}
