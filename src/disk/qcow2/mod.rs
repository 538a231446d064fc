//! qcow2, versions 2 and 3. Format facts: QEMU's `docs/interop/qcow2.rst`.

mod header;
mod read;
mod tally;
mod write;

pub(crate) use header::{HEAD_BYTES, Header, MAGIC};
pub(super) use read::open;
pub(crate) use tally::AllocationTally;
pub use write::{Qcow2WriteOptions, WrittenDisk};

/// The bits of a table entry that are an offset in the file: 9 to 55.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an entry: nobody else refers to the cluster, so it may be written in place.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: the cluster reads as zeros.
const ZERO: u64 = 1;
/// Sectors, in which the length of compressed clusters is counted.
const SECTOR_BYTES: u64 = 512;

/// How the bits of a compressed cluster's entry are divided: the lower ones are the offset in the
/// file, the ones above count further sectors.
const fn compressed_offset_bits(cluster_bits: u32) -> u32 {
    62 - (cluster_bits - 8)
}
