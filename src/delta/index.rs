//! [`Index`]: finds the places of a base that hold the same bytes as some place of the new file.
//!
//! A hash rolls over all bytes of the base, and some of its values are entered in a table, with their places. Whether a value
//! is entered depends on nothing but the value: the same bytes in the new file have the same hash, and a value that is never
//! entered need not be looked up. So a long match is found wherever it is, and few places cost an access to memory.
//!
//! An entry takes 8 bytes, and the table is at most half full. For a base that is too large for the memory that the table may
//! take, fewer values are entered.

use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::progress::Monitor;

/// Bytes that a hash is made of: no shorter match is found.
pub(super) const HASHED_BYTES: usize = 24;
/// Of how many values one is entered, at least, as a power of two.
const MIN_SPARSE_BITS: u32 = 3;
/// And at most: above that the table grows past its memory.
const MAX_SPARSE_BITS: u32 = 16;
/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;
/// Places of one hash that are entered; the first ones of the base.
const MAX_SAME: usize = 4;
/// Entries that are looked at for one hash.
const MAX_PROBES: usize = 16;
/// Parts of the table that are filled independently of each other. A constant, so that the table does not depend on how many
/// threads fill it.
const SHARDS: usize = 16;
/// Entries of the table for each word of its filter: 4 bits for each entry.
const FILTER_SLOTS: usize = 16;
/// The smallest table, with some words of a filter for each shard.
const MIN_SLOTS: u64 = (SHARDS * FILTER_SLOTS * 4) as u64;
/// Bits of an entry that hold an offset in the base, plus one.
const NUMBER_BITS: u32 = 40;
/// Bytes of the base that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// The base of the polynomial.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The weight of the byte that leaves the hash.
const LEAVING: u64 = FACTOR.wrapping_pow(HASHED_BYTES as u32);

/// The hash of [`HASHED_BYTES`] bytes: `Σ (byte + 1) · FACTORⁱ`, modulo 2^64.
pub(super) fn hash(bytes: &[u8; HASHED_BYTES]) -> u64 {
    bytes.iter().fold(0, |hash: u64, byte| hash.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1))
}

/// The hash after `old` left and `new` came.
pub(super) fn roll(hash: u64, old: u8, new: u8) -> u64 {
    hash.wrapping_mul(FACTOR).wrapping_add(u64::from(new) + 1).wrapping_sub(LEAVING.wrapping_mul(u64::from(old) + 1))
}

/// Spreads a hash over all its bits: the low bits of the polynomial depend on few bits of the bytes.
pub(super) fn spread(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}

/// The index of a base.
pub(super) struct Index {
    /// Bits of a hash that must be zero for it to be entered.
    sparse: u64,
    slots: Vec<u64>,
    /// Entries of a shard, a power of two.
    shard_slots: usize,
    /// One bit for some of the bits of a hash: set where the table may have an entry. It is a 32nd of the table's size, so that
    /// most places without a match are told from the processor's cache.
    filter: Vec<u64>,
}

impl Index {
    /// Reads the base and fills the table, which takes at most `memory` bytes.
    ///
    /// # Errors
    /// `Cancelled`; those of the base.
    pub(super) fn new(base: &Blob, memory: u64, threads: usize, monitor: &Monitor) -> Result<Self> {
        let slots_for = |bits: u32| ((base.len() >> bits).saturating_mul(2)).max(MIN_SLOTS).next_power_of_two();
        let mut bits = MIN_SPARSE_BITS;
        while bits < MAX_SPARSE_BITS && slots_for(bits).saturating_mul(ENTRY_BYTES) > memory {
            bits += 1;
        }
        let slots =
            usize::try_from(slots_for(bits)).map_err(|_| Error::invalid("the base is too large for a delta"))?;
        let shard_slots = slots / SHARDS;
        let mut index =
            Self { sparse: (1 << bits) - 1, slots: vec![0; slots], shard_slots, filter: vec![0; slots / FILTER_SLOTS] };
        let (sparse, threads) = (index.sparse, threads.clamp(1, SHARDS));
        std::thread::scope(|scope| {
            let filters = index.filter.chunks_mut(shard_slots / FILTER_SLOTS);
            let mut shards: Vec<_> = index
                .slots
                .chunks_mut(shard_slots)
                .zip(filters)
                .map(|(slots, filter)| Shard { slots, filter })
                .collect();
            let each = SHARDS.div_ceil(threads);
            let mut running = Vec::new();
            let mut first = 0;
            while !shards.is_empty() {
                let own: Vec<_> = shards.drain(..each.min(shards.len())).collect();
                let filling = Filling { base, sparse, first, monitor };
                first += own.len();
                let thread = std::thread::Builder::new().name("lxd-image delta".into());
                let thread = thread.spawn_scoped(scope, move || filling.run(own));
                running.push(thread.map_err(|error| Error::io("a thread can't be started", error))?);
            }
            running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(super::lost())))
        })?;
        Ok(index)
    }

    /// Whether a hash is one of those that are entered.
    pub(super) fn is_entered(&self, hash: u64) -> bool {
        // The upper bits of the polynomial depend on all bytes.
        (hash >> 32) & self.sparse == 0
    }

    /// Offsets in the base of bytes with this hash, as far as it tells: at most four.
    pub(super) fn find(&self, hash: u64) -> Candidates {
        let mut found = Candidates { offsets: [0; MAX_SAME], count: 0 };
        let place = Place::new(hash);
        let (word, bit) = place.filter(self.shard_slots / FILTER_SLOTS);
        let words = place.shard * (self.shard_slots / FILTER_SLOTS);
        if self.filter.get(words + word).is_none_or(|word| word & bit == 0) {
            return found;
        }
        let start = place.shard * self.shard_slots;
        let slots = self.slots.get(start..start + self.shard_slots).unwrap_or_default();
        for entry in place.probes(slots.len()).map_while(|slot| slots.get(slot)) {
            if *entry == 0 {
                break;
            }
            if entry >> NUMBER_BITS == place.check
                && let Some(offset) = found.offsets.get_mut(found.count)
            {
                *offset = (entry & ((1 << NUMBER_BITS) - 1)) - 1;
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
    hash: u64,
    shard: usize,
    /// The bits of the hash that are kept in the entry.
    check: u64,
}

impl Place {
    fn new(hash: u64) -> Self {
        let hash = spread(hash);
        // Distinct bits for each: the upper 24, the next four, and the lower ones.
        Self { hash, shard: (hash >> (NUMBER_BITS - 4)) as usize % SHARDS, check: hash >> NUMBER_BITS }
    }

    /// The slots of a shard that the hash may be in. Their number is a power of two.
    fn probes(&self, slots: usize) -> impl Iterator<Item = usize> {
        let (first, mask) = (self.hash as usize, slots.wrapping_sub(1));
        (0..MAX_PROBES).map(move |probe| first.wrapping_add(probe) & mask)
    }

    /// The word and the bit of the hash in the filter of a shard. The number of words is a power of two.
    fn filter(&self, words: usize) -> (usize, u64) {
        let bit = self.hash >> 7;
        ((bit >> 6) as usize & words.wrapping_sub(1), 1 << (bit & 63))
    }
}

/// A part of the table.
struct Shard<'a> {
    slots: &'a mut [u64],
    filter: &'a mut [u64],
}

/// What one thread does: reads the whole base, and enters the hashes that belong to its shards.
struct Filling<'a> {
    base: &'a Blob,
    sparse: u64,
    first: usize,
    monitor: &'a Monitor,
}

impl Filling<'_> {
    fn run(&self, mut shards: Vec<Shard<'_>>) -> Result<()> {
        let length = self.base.len();
        // Each part begins with the last bytes of the one before, so that no place is left out.
        const OVERLAP: usize = HASHED_BYTES - 1;
        let mut buffer = vec![0; READ_BYTES + OVERLAP];
        let mut offset: u64 = 0;
        while length.saturating_sub(offset) >= HASHED_BYTES as u64 {
            self.monitor.check()?;
            let count = (length - offset).min((READ_BYTES + OVERLAP) as u64) as usize;
            let part = buffer.get_mut(..count).unwrap_or_default();
            self.base.read_exact_at(part, offset)?;
            self.enter_all(part, offset, &mut shards);
            offset = offset.saturating_add((count - OVERLAP) as u64);
        }
        Ok(())
    }

    /// Enters the hashes of all places of a part of the base.
    fn enter_all(&self, part: &[u8], offset: u64, shards: &mut [Shard<'_>]) {
        let Some(first) = part.first_chunk() else { return };
        let mut value = hash(first);
        let mut at = 0;
        let mut look = |value: u64, at: usize| {
            if (value >> 32) & self.sparse == 0 {
                // Runs are found without the index, and would be found everywhere by it.
                let bytes = part.get(at..at + HASHED_BYTES).unwrap_or_default();
                if bytes.iter().any(|byte| Some(byte) != bytes.first()) {
                    enter(shards, self.first, value, offset + at as u64);
                }
            }
        };
        for (old, new) in part.iter().zip(part.get(HASHED_BYTES..).unwrap_or_default()) {
            look(value, at);
            value = roll(value, *old, *new);
            at += 1;
        }
        // The last place has no byte after it.
        look(value, at);
    }
}

/// Enters a hash and its place, if it belongs to one of the shards from `first` on.
fn enter(shards: &mut [Shard<'_>], first: usize, hash: u64, offset: u64) {
    let place = Place::new(hash);
    let Some(shard) = place.shard.checked_sub(first).and_then(|at| shards.get_mut(at)) else { return };
    if offset + 1 >= 1 << NUMBER_BITS {
        return;
    }
    let mut same = 0;
    for slot in place.probes(shard.slots.len()) {
        let Some(slot) = shard.slots.get_mut(slot) else { return };
        if *slot == 0 {
            *slot = place.check << NUMBER_BITS | (offset + 1);
            let (word, bit) = place.filter(shard.filter.len());
            if let Some(word) = shard.filter.get_mut(word) {
                *word |= bit;
            }
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

    fn noise(count: u64) -> Vec<u8> {
        (0..count).map(|index| spread(index) as u8).collect()
    }

    fn at(bytes: &[u8], place: usize) -> u64 {
        hash(bytes[place..].first_chunk().unwrap())
    }

    #[test]
    fn rolled_hash_is_that_of_the_bytes() {
        let bytes = noise(200);
        let mut value = at(&bytes, 0);
        for place in 1..=bytes.len() - HASHED_BYTES {
            value = roll(value, bytes[place - 1], bytes[place + HASHED_BYTES - 1]);
            assert_eq!(value, at(&bytes, place));
        }
    }

    #[test]
    fn table_does_not_depend_on_the_number_of_threads() {
        let bytes: Vec<u8> = (0..3_000_000_u64).map(|index| (spread(index / 100) >> (index % 50)) as u8).collect();
        let base = Blob::from(bytes);
        let one = Index::new(&base, 1 << 20, 1, &Monitor::none()).unwrap();
        for threads in [2, 3, 16, 40] {
            assert_eq!(Index::new(&base, 1 << 20, threads, &Monitor::none()).unwrap().slots, one.slots);
        }
    }

    #[test]
    fn entered_bytes_are_found_at_their_offset() {
        let bytes = noise(2_500_000);
        let index = Index::new(&Blob::from(bytes.clone()), 16 << 20, 2, &Monitor::none()).unwrap();
        let entered = |place: &usize| index.is_entered(at(&bytes, *place));
        let last = bytes.len() - HASHED_BYTES;
        // Around the border between two reads, too.
        let places = (0..1000).chain(READ_BYTES - 100..READ_BYTES + 100).chain(last - 100..=last);
        let found: Vec<_> = places.filter(entered).map(|place| (place, index.find(at(&bytes, place)))).collect();
        assert!(found.len() > 100);
        // Of bytes that occur often only the first places are entered, so any place with the same bytes will do.
        for (place, candidates) in found {
            let same = |offset: &u64| {
                let offset = usize::try_from(*offset).unwrap();
                bytes.get(offset..offset + HASHED_BYTES) == bytes.get(place..place + HASHED_BYTES)
            };
            assert!(candidates.offsets().iter().any(same), "{place}");
        }
    }

    #[test]
    fn large_base_is_entered_sparsely() {
        let index = Index::new(&Blob::from(noise(1 << 16)), 16 << 10, 1, &Monitor::none()).unwrap();
        assert_eq!(index.sparse, (1 << 6) - 1);
    }
}
