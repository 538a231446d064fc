//! VHDX, Hyper-V's disk: fixed and dynamic, which differ in nothing but how much of the file is there.
//! Format facts: Microsoft's "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format".

use std::fmt;

use super::claims::Claims;
use super::opened::Opened;
use super::runs::{Run, RunMap, Source, TableCache};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;

/// The first bytes of the file identifier.
pub(super) const MAGIC: &[u8] = b"vhdxfile";
/// Everything that has a place in the file lies at a multiple of this, and takes a multiple of it. The
/// identifier, both headers and both region tables are in the first such unit.
const UNIT_BYTES: u64 = 1 << 20;

/// The two headers: the valid one with the higher sequence number counts.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const HEADER_MAGIC: &[u8] = b"head";
const HEADER_BYTES: usize = 4096;
/// The two copies of the region table.
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
const REGION_MAGIC: &[u8] = b"regi";
/// Bytes of a region table, and of the metadata table.
const TABLE_BYTES: usize = 64 << 10;
/// Bytes of a table's own header, of which the region table has 16.
const REGION_HEADER_BYTES: usize = 16;
const METADATA_MAGIC: &[u8] = b"metadata";
/// Bytes of the metadata table's own header, and of an entry in either table.
const ENTRY_BYTES: usize = 32;
/// Entries that fit into a table.
const MAX_ENTRIES: usize = 2047;
/// The version of headers that this module knows.
const VERSION: u16 = 1;

/// The regions.
const ALLOCATION_TABLE: Guid = Guid::new(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
const METADATA: Guid = Guid::new(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);

/// The items of the metadata.
const FILE_PARAMETERS: Guid = Guid::new(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
const VIRTUAL_SIZE: Guid = Guid::new(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
const PAGE_83_DATA: Guid = Guid::new(0xbeca_12ab, 0xb2e6, 0x4523, 0x93ef_c309_e000_c746);
const LOGICAL_SECTOR: Guid = Guid::new(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f);
const PHYSICAL_SECTOR: Guid = Guid::new(0xcda3_48c7, 0x445d, 0x4471, 0x9cc9_e988_5251_c556);
const PARENT_LOCATOR: Guid = Guid::new(0xa8d3_5f2d, 0xb30b, 0x454d, 0xabf7_d3d8_4834_ab0c);

/// Flags of the file parameters.
const ALL_BLOCKS_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 2;
/// The flag of a region or metadata item that every reader has to know.
const REQUIRED: u32 = 1;
const ITEM_REQUIRED: u32 = 1 << 2;

/// Bytes of a block. Both are powers of two, as every block size has to be.
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;
/// Sectors whose bitmap fits into a block of bitmaps, which has 1 MiB.
const BITMAP_SECTORS: u64 = 8 << 20;
/// Table entries that are read together.
const PAGE_ENTRIES: u64 = 16 << 10;

/// The states of a block, in the lowest bits of its entry. The last one is of drafts of the format, and QEMU takes it.
const NOT_PRESENT: u64 = 0;
const UNDEFINED: u64 = 1;
const ZERO: u64 = 2;
const UNMAPPED: u64 = 3;
const DRAFT_UNMAPPED: u64 = 5;
const PRESENT: u64 = 6;
const PARTIALLY_PRESENT: u64 = 7;

/// A number that names a region or an item: little-endian in its first three parts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Guid([u8; 16]);

impl Guid {
    const NONE: Self = Self([0; 16]);

    const fn new(first: u32, second: u16, third: u16, rest: u64) -> Self {
        let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
        let [i, j, k, l, m, n, o, p] = rest.to_be_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    fn at(bytes: &[u8], at: usize) -> Self {
        Self(bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.last_chunk().map_or(0, |rest| u64::from_be_bytes(*rest));
        let (first, second, third) = (u32_at(&self.0, 0), u16_at(&self.0, 4), u16_at(&self.0, 6));
        write!(f, "{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", rest >> 48, rest & 0xffff_ffff_ffff)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u16::from_le_bytes(*number))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u32::from_le_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u64::from_le_bytes(*number))
}

/// CRC-32C by byte. It runs over 136 KiB for each disk, so it need not be fast.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { (sum >> 1) ^ 0x82f6_3b78 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// The CRC-32C of bytes whose own checksum, at 4, counts as zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let own = 4..8;
    !bytes.iter().enumerate().fold(u32::MAX, |sum, (index, &byte)| {
        let byte = if own.contains(&index) { 0 } else { byte };
        let [low, ..] = sum.to_le_bytes();
        CRC_TABLE.get(usize::from(low ^ byte)).copied().unwrap_or(0) ^ (sum >> 8)
    })
}

/// The bytes at `offset`, if they begin with `magic` and have the checksum that they say.
fn read_checked(blob: &Blob, offset: u64, length: usize, magic: &[u8]) -> Result<Option<Vec<u8>>> {
    if offset.saturating_add(length as u64) > blob.len() {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    blob.read_exact_at(&mut bytes, offset)?;
    let good = bytes.starts_with(magic) && u32_at(&bytes, 4) == checksum(&bytes);
    Ok(good.then_some(bytes))
}

/// Opens a VHDX.
///
/// # Errors
/// `Unsupported` for a differencing disk, a log that has not been applied, and required regions and items that are not
/// known; `Malformed`; `LimitExceeded`; `Io`.
pub(super) fn open(blob: &Blob, limits: &Limits) -> Result<Opened> {
    let mut claims = Claims::new(blob.len(), UNIT_BYTES, limits)?;
    claims.exclusive(0, UNIT_BYTES, "the headers")?;
    check_header(blob, &mut claims)?;
    let regions = Regions::read(blob, &mut claims)?;
    let parameters = Parameters::read(blob, &regions.metadata)?;
    let Parameters { block, virtual_size, sector, .. } = parameters;
    let blocks = virtual_size.div_ceil(block);
    // A block of bitmaps follows each group of blocks, whether there are any bitmaps or not.
    let group = BITMAP_SECTORS * sector / block;
    let entries = blocks + blocks.saturating_sub(1) / group;
    let table_bytes = entries * 8;
    if table_bytes > limits.l1_table {
        let what = format_args!("an allocation table of {entries} entries");
        return Err(Error::limit("l1_table", limits.l1_table, what));
    }
    if table_bytes > regions.table.length {
        return Err(Error::malformed("the VHDX's allocation table is too short for its size"));
    }
    let map = VhdxMap {
        block,
        virtual_size,
        group,
        entries,
        table: regions.table.offset,
        cache: TableCache::default(),
        claims,
    };
    let variant = if parameters.is_fixed { "fixed" } else { "dynamic" };
    Ok(Opened { map: Box::new(map), virtual_size, variant: variant.into() })
}

/// Finds the header that counts. Claims the log, which has to be empty.
fn check_header(blob: &Blob, claims: &mut Claims) -> Result<()> {
    let mut current: Option<Vec<u8>> = None;
    for offset in HEADERS {
        let Some(header) = read_checked(blob, offset, HEADER_BYTES, HEADER_MAGIC)? else { continue };
        let sequence = u64_at(&header, 8);
        match &current {
            Some(other) if u64_at(other, 8) > sequence => {}
            Some(other) if u64_at(other, 8) == sequence && *other != header => {
                return Err(Error::malformed("the VHDX has two different headers of the same age"));
            }
            _ => current = Some(header),
        }
    }
    let header = current.ok_or_else(|| Error::malformed("both headers of the VHDX are damaged"))?;
    let version = u16_at(&header, 66);
    if version != VERSION {
        return Err(Error::unsupported(format!("a VHDX of version {version}; {VERSION} is known")));
    }
    if Guid::at(&header, 48) != Guid::NONE {
        // Without the log's changes the tables may be those of no disk that ever was.
        return Err(Error::unsupported("the VHDX has a log of changes that were not written to their place")
            .with_hint("let QEMU write them: `qemu-img check -r all -f vhdx DISK`"));
    }
    let log = Region { offset: u64_at(&header, 72), length: u64::from(u32_at(&header, 68)) };
    if log.length > 0 {
        log.claim(blob, claims, "the log")?;
    }
    Ok(())
}

/// A part of the file.
#[derive(Debug, Clone, Copy)]
struct Region {
    offset: u64,
    length: u64,
}

impl Region {
    /// Claims the part, which has to lie in the file, at whole units.
    fn claim(&self, blob: &Blob, claims: &mut Claims, what: &str) -> Result<()> {
        if !self.offset.is_multiple_of(UNIT_BYTES) || !self.length.is_multiple_of(UNIT_BYTES) {
            return Err(Error::malformed(format!("{what} of the VHDX does not lie at whole mebibytes")));
        }
        if self.length == 0 || self.offset.checked_add(self.length).is_none_or(|end| end > blob.len()) {
            return Err(Error::malformed(format!("{what} of the VHDX lies outside of the file")));
        }
        claims.exclusive(self.offset, self.length, what)
    }
}

/// What the region table says.
struct Regions {
    /// The block allocation table.
    table: Region,
    metadata: Region,
}

impl Regions {
    /// Reads the first copy of the region table that is not damaged, and claims all regions.
    fn read(blob: &Blob, claims: &mut Claims) -> Result<Self> {
        let [first, second] = REGION_TABLES;
        let regions = match read_checked(blob, first, TABLE_BYTES, REGION_MAGIC)? {
            Some(regions) => Some(regions),
            None => read_checked(blob, second, TABLE_BYTES, REGION_MAGIC)?,
        };
        let bytes = regions.ok_or_else(|| Error::malformed("both region tables of the VHDX are damaged"))?;
        let count = usize::try_from(u32_at(&bytes, 8)).unwrap_or(usize::MAX);
        if count > MAX_ENTRIES {
            return Err(Error::malformed(format!("the VHDX has {count} regions, which is out of range")));
        }
        let (mut table, mut metadata) = (None, None);
        for entry in bytes.get(REGION_HEADER_BYTES..).unwrap_or_default().chunks_exact(ENTRY_BYTES).take(count) {
            let id = Guid::at(entry, 0);
            let region = Region { offset: u64_at(entry, 16), length: u64::from(u32_at(entry, 24)) };
            let (what, found) = match id {
                ALLOCATION_TABLE => ("the allocation table", &mut table),
                METADATA => ("the metadata region", &mut metadata),
                _ if u32_at(entry, 28) & REQUIRED != 0 => {
                    return Err(Error::unsupported(format!("the VHDX has the unknown required region {id}")));
                }
                _ => {
                    region.claim(blob, claims, "an unknown region")?;
                    continue;
                }
            };
            region.claim(blob, claims, what)?;
            if found.replace(region).is_some() {
                return Err(Error::malformed(format!("the VHDX has {what} twice")));
            }
        }
        let missing = |what: &str| Error::malformed(format!("the VHDX has no {what}"));
        Ok(Self {
            table: table.ok_or_else(|| missing("allocation table"))?,
            metadata: metadata.ok_or_else(|| missing("metadata region"))?,
        })
    }
}

/// What the metadata says.
struct Parameters {
    /// Bytes of a block.
    block: u64,
    is_fixed: bool,
    virtual_size: u64,
    /// Bytes of a sector of the disk.
    sector: u64,
}

impl Parameters {
    fn read(blob: &Blob, region: &Region) -> Result<Self> {
        // A region takes whole mebibytes, so that the table fits.
        let mut table = vec![0; TABLE_BYTES];
        blob.read_exact_at(&mut table, region.offset)?;
        if !table.starts_with(METADATA_MAGIC) {
            return Err(Error::malformed("the VHDX's metadata table is damaged"));
        }
        let count = usize::from(u16_at(&table, 10));
        if count > MAX_ENTRIES {
            return Err(Error::malformed(format!("the VHDX has {count} items of metadata, which is out of range")));
        }
        let mut items = Items::default();
        for entry in table.get(ENTRY_BYTES..).unwrap_or_default().chunks_exact(ENTRY_BYTES).take(count) {
            items.add(blob, region, entry)?;
        }
        let missing = |what: &str| Error::malformed(format!("the VHDX's metadata does not tell its {what}"));
        let parameters = items.parameters.ok_or_else(|| missing("file parameters"))?;
        let flags = u32_at(&parameters, 4);
        if flags & HAS_PARENT != 0 || items.has_parent {
            return Err(Error::unsupported("the VHDX is a differencing disk: its parent would be read from the host")
                .with_hint("where the parent is, make one disk of both: `Convert-VHD DISK NEW -VHDType Dynamic`"));
        }
        let block = u64::from(u32_at(&parameters, 0));
        if !block.is_power_of_two() || !BLOCK_BYTES.contains(&block) {
            return Err(Error::malformed(format!("the VHDX's blocks have {block} bytes, which is out of range")));
        }
        let sector = u64::from(u32_at(&items.sector.ok_or_else(|| missing("sector size"))?, 0));
        if !matches!(sector, 512 | 4096) {
            return Err(Error::malformed(format!("the VHDX's sectors have {sector} bytes, which is out of range")));
        }
        let virtual_size = u64::from_le_bytes(items.virtual_size.ok_or_else(|| missing("virtual size"))?);
        if virtual_size % sector != 0 {
            return Err(Error::malformed("the VHDX ends in the middle of a sector"));
        }
        Ok(Self { block, is_fixed: flags & ALL_BLOCKS_ALLOCATED != 0, virtual_size, sector })
    }
}

/// The items of the metadata that are needed.
#[derive(Default)]
struct Items {
    parameters: Option<[u8; 8]>,
    virtual_size: Option<[u8; 8]>,
    sector: Option<[u8; 4]>,
    has_parent: bool,
}

impl Items {
    /// Reads the item of one entry of the metadata table.
    fn add(&mut self, blob: &Blob, region: &Region, entry: &[u8]) -> Result<()> {
        match Guid::at(entry, 0) {
            FILE_PARAMETERS => read_item(blob, region, entry, &mut self.parameters, "file parameters"),
            VIRTUAL_SIZE => read_item(blob, region, entry, &mut self.virtual_size, "virtual size"),
            LOGICAL_SECTOR => read_item(blob, region, entry, &mut self.sector, "sector size"),
            PARENT_LOCATOR => {
                self.has_parent = true;
                Ok(())
            }
            // They tell an operating system which disk it is, and on what it lies.
            PAGE_83_DATA | PHYSICAL_SECTOR => Ok(()),
            id if u32_at(entry, 24) & ITEM_REQUIRED != 0 => {
                Err(Error::unsupported(format!("the VHDX has the unknown required metadata {id}")))
            }
            _ => Ok(()),
        }
    }
}

/// Reads an item of `N` bytes that must be there once, behind the table in the metadata region.
fn read_item<const N: usize>(
    blob: &Blob,
    region: &Region,
    entry: &[u8],
    item: &mut Option<[u8; N]>,
    what: &str,
) -> Result<()> {
    let (offset, length) = (u64::from(u32_at(entry, 16)), u64::from(u32_at(entry, 20)));
    if offset < TABLE_BYTES as u64 || length < N as u64 || offset.saturating_add(length) > region.length {
        return Err(Error::malformed(format!("the {what} of the VHDX lies outside of its metadata region")));
    }
    let mut bytes = [0; N];
    blob.read_exact_at(&mut bytes, region.offset.saturating_add(offset))?;
    match item.replace(bytes) {
        None => Ok(()),
        Some(_) => Err(Error::malformed(format!("the VHDX's metadata tells its {what} twice"))),
    }
}

/// The allocation table of a VHDX.
#[derive(Debug)]
struct VhdxMap {
    /// Bytes of a block.
    block: u64,
    virtual_size: u64,
    /// Blocks between two entries of bitmaps.
    group: u64,
    entries: u64,
    /// Where the table is.
    table: u64,
    cache: TableCache,
    claims: Claims,
}

impl VhdxMap {
    /// Whether the entry at `index` is that of a block of bitmaps.
    fn is_bitmap(&self, index: u64) -> bool {
        index % (self.group + 1) == self.group
    }
}

impl RunMap for VhdxMap {
    fn run_at(&self, blob: &Blob, offset: u64, claims: Option<&mut Claims>) -> Result<Run> {
        let (number, within) = (offset / self.block, offset % self.block);
        let index = number + number / self.group;
        let page = index - index % PAGE_ENTRIES;
        let count = self.entries.saturating_sub(page).min(PAGE_ENTRIES);
        let bytes = usize::try_from(count * 8).map_err(|_| Error::malformed("the allocation table is too large"))?;
        let table = self.cache.get(blob, self.table.saturating_add(page * 8), bytes)?;
        let rest = table.as_chunks::<8>().0;
        let rest = usize::try_from(index - page).ok().and_then(|at| rest.get(at..)).unwrap_or_default();
        let entry = rest.first().map_or(NOT_PRESENT, |entry| u64::from_le_bytes(*entry));
        let state = |entry: u64| entry & 7;
        let source = match state(entry) {
            NOT_PRESENT | UNDEFINED | UNMAPPED | DRAFT_UNMAPPED => Source::Hole,
            ZERO => Source::Zero,
            PRESENT => {
                let length = self.block.min(self.virtual_size.saturating_sub(offset - within));
                let host = entry & !(UNIT_BYTES - 1);
                if host.checked_add(length).is_none_or(|end| end > blob.len()) {
                    return Err(Error::malformed("a block of the VHDX lies outside of the file").at_offset(host));
                }
                if let Some(claims) = claims
                    && within == 0
                {
                    claims.exclusive(host, self.block, "a block")?;
                }
                let source = Source::Stored(host.saturating_add(within));
                return Ok(Run { offset, length: self.block - within, source });
            }
            PARTIALLY_PRESENT => {
                return Err(Error::malformed("a block of the VHDX is in a parent, and there is none"));
            }
            state => return Err(Error::malformed(format!("a block of the VHDX is in the unknown state {state}"))),
        };
        let same = rest.iter().zip(index..).filter(|(_, index)| !self.is_bitmap(*index));
        let same = same.take_while(|(other, _)| state(u64::from_le_bytes(**other)) == state(entry)).count().max(1);
        let end = number.saturating_add(same as u64).saturating_mul(self.block);
        Ok(Run { offset, length: end.saturating_sub(offset), source })
    }

    fn claims(&self, _: &Blob) -> Result<Claims> {
        Ok(self.claims.clone())
    }

    fn cluster_size(&self) -> Option<u64> {
        Some(self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_standard() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn guid_is_shown_as_people_write_it() {
        assert_eq!(ALLOCATION_TABLE.to_string(), "2dc27766-f623-4200-9d64-115e9bfd4a08");
        assert_eq!(ALLOCATION_TABLE.0.first(), Some(&0x66));
    }
}
