//! VHD, Virtual PC's disk: fixed (the bytes and a footer) and dynamic (blocks by a table).
//! Format facts: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0.

use super::claims::Claims;
use super::opened::Opened;
use super::runs::{FlatMap, Run, RunMap, Source, TableCache};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;

/// The first bytes of the footer, which a dynamic disk also begins with.
pub(super) const MAGIC: &[u8] = b"conectix";
/// The first bytes of a dynamic disk's second header.
const DYNAMIC_MAGIC: &[u8] = b"cxsparse";
/// Bytes of the footer, and of a sector.
const SECTOR_BYTES: u64 = 512;
const FOOTER_BYTES: usize = 512;
/// Bytes of a dynamic disk's second header.
const DYNAMIC_HEADER_BYTES: usize = 1024;
/// The table entry of a block that is not there.
const UNUSED: u32 = u32::MAX;
/// Table entries that are read together.
const PAGE_ENTRIES: u64 = 16 << 10;

/// The kinds of disks by the footer's number.
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;

/// The footer of a fixed or dynamic disk, or the copy of it at the start.
struct Footer {
    kind: u32,
    virtual_size: u64,
    /// Where the second header is.
    next: u64,
}

/// A big-endian number of 4 or 8 bytes.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u32::from_be_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u64::from_be_bytes(*number))
}

/// The complement of the sum of all bytes but the checksum's own.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let own = at..at + 4;
    let sum = bytes.iter().enumerate().filter(|(index, _)| !own.contains(index));
    !sum.fold(0_u32, |sum, (_, &byte)| sum.wrapping_add(u32::from(byte)))
}

impl Footer {
    /// The footer in `bytes`; `None` where there is none.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let good = bytes.starts_with(MAGIC) && u32_at(bytes, 64) == checksum(bytes, 64);
        good.then(|| Self { kind: u32_at(bytes, 60), virtual_size: u64_at(bytes, 48), next: u64_at(bytes, 16) })
    }

    /// The footer at `offset`.
    fn read(blob: &Blob, offset: u64) -> Result<Option<Self>> {
        let mut bytes = [0; FOOTER_BYTES];
        blob.read_exact_at(&mut bytes, offset)?;
        Ok(Self::parse(&bytes))
    }

    /// The footer at the end of a file.
    fn at_end(blob: &Blob) -> Result<Option<Self>> {
        match blob.len().checked_sub(FOOTER_BYTES as u64) {
            Some(offset) => Self::read(blob, offset),
            None => Ok(None),
        }
    }
}

/// Whether a file ends with a VHD's footer.
///
/// # Errors
/// `Io`.
pub(super) fn has_footer(blob: &Blob) -> Result<bool> {
    Ok(Footer::at_end(blob)?.is_some())
}

/// Opens a VHD.
///
/// # Errors
/// `Unsupported` for a differencing disk and unknown kinds, `Malformed`, `LimitExceeded`, `Io`.
pub(super) fn open(blob: &Blob, limits: &Limits) -> Result<Opened> {
    let length = blob.len();
    // The copy at the start serves where the file was cut.
    let footer = match Footer::at_end(blob)? {
        Some(footer) => Some(footer),
        None if length >= FOOTER_BYTES as u64 => Footer::read(blob, 0)?.filter(|footer| footer.kind != FIXED),
        None => None,
    };
    let footer = footer.ok_or_else(|| Error::malformed("the VHD's footer is damaged"))?;
    match footer.kind {
        FIXED => {
            if footer.virtual_size > length.saturating_sub(FOOTER_BYTES as u64) {
                return Err(Error::malformed("the VHD is larger than its file"));
            }
            let map = FlatMap { start: 0, length: footer.virtual_size, data: None };
            Ok(Opened { map: Box::new(map), virtual_size: footer.virtual_size, variant: "fixed".into() })
        }
        DYNAMIC => open_dynamic(blob, &footer, limits),
        DIFFERENCING => {
            Err(Error::unsupported("the VHD is a differencing disk: its parent would be read from the host")
                .with_hint("where the parent is, make one disk of both: `qemu-img convert -f vpc -O qcow2 DISK NEW`"))
        }
        kind => Err(Error::unsupported(format!("the VHD is of the unknown kind {kind}"))),
    }
}

fn open_dynamic(blob: &Blob, footer: &Footer, limits: &Limits) -> Result<Opened> {
    let length = blob.len();
    let mut header = [0; DYNAMIC_HEADER_BYTES];
    let outside = |what: &str| Error::malformed(format!("{what} of the VHD lies outside of the file"));
    if footer.next.checked_add(DYNAMIC_HEADER_BYTES as u64).is_none_or(|end| end > length) {
        return Err(outside("the second header"));
    }
    blob.read_exact_at(&mut header, footer.next)?;
    if !header.starts_with(DYNAMIC_MAGIC) || u32_at(&header, 36) != checksum(&header, 36) {
        return Err(Error::malformed("the VHD's second header is damaged"));
    }
    let table = u64_at(&header, 16);
    let entries = u64::from(u32_at(&header, 28));
    let block = u64::from(u32_at(&header, 32));
    if !block.is_power_of_two() || block < SECTOR_BYTES {
        return Err(Error::malformed(format!("the VHD's blocks have {block} bytes, which is out of range")));
    }
    let table_bytes = entries * 4;
    if table_bytes > limits.l1_table {
        return Err(Error::limit(
            "l1_table",
            limits.l1_table,
            format_args!("an allocation table of {entries} entries"),
        ));
    }
    if table.checked_add(table_bytes).is_none_or(|end| end > length) {
        return Err(outside("the allocation table"));
    }
    if entries < footer.virtual_size.div_ceil(block) {
        return Err(Error::malformed("the VHD's allocation table is too short for its size"));
    }
    let mut claims = Claims::new(length, SECTOR_BYTES, limits)?;
    claims.exclusive(footer.next, DYNAMIC_HEADER_BYTES as u64, "the second header")?;
    claims.exclusive(table, table_bytes, "the allocation table")?;
    let virtual_size = footer.virtual_size;
    let map = DynamicMap { block, entries, table, cache: TableCache::default(), claims };
    Ok(Opened { map: Box::new(map), virtual_size, variant: "dynamic".into() })
}

/// The allocation table of a dynamic VHD.
#[derive(Debug)]
struct DynamicMap {
    /// Bytes of a block.
    block: u64,
    entries: u64,
    /// Where the table is.
    table: u64,
    cache: TableCache,
    claims: Claims,
}

impl DynamicMap {
    /// Bytes of the bitmap before each block: a bit for each sector, in whole sectors.
    fn bitmap(&self) -> u64 {
        (self.block / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES)
    }
}

impl RunMap for DynamicMap {
    fn run_at(&self, blob: &Blob, offset: u64, claims: Option<&mut Claims>) -> Result<Run> {
        let (index, within) = (offset / self.block, offset % self.block);
        let page = index - index % PAGE_ENTRIES;
        let count = self.entries.saturating_sub(page).min(PAGE_ENTRIES);
        let bytes = usize::try_from(count * 4).map_err(|_| Error::malformed("the allocation table is too large"))?;
        let table = self.cache.get(blob, self.table.saturating_add(page * 4), bytes)?;
        let rest = table.as_chunks::<4>().0;
        let rest = usize::try_from(index - page).ok().and_then(|at| rest.get(at..)).unwrap_or_default();
        let sector = rest.first().map_or(UNUSED, |entry| u32::from_be_bytes(*entry));
        if sector == UNUSED {
            let empty = rest.iter().take_while(|entry| u32::from_be_bytes(**entry) == UNUSED).count().max(1) as u64;
            let end = index.saturating_add(empty).saturating_mul(self.block);
            return Ok(Run { offset, length: end.saturating_sub(offset), source: Source::Hole });
        }
        let start = u64::from(sector) * SECTOR_BYTES;
        // The bitmap is for differencing disks; what was never written is zeros in the block, too.
        let host = start.saturating_add(self.bitmap());
        if host >= blob.len() {
            return Err(Error::malformed("a block of the VHD lies outside of the file").at_offset(start));
        }
        if let Some(claims) = claims
            && within == 0
        {
            claims.exclusive(start, self.bitmap().saturating_add(self.block), "a block")?;
        }
        Ok(Run { offset, length: self.block - within, source: Source::Stored(host.saturating_add(within)) })
    }

    fn claims(&self, _: &Blob) -> Result<Claims> {
        Ok(self.claims.clone())
    }

    fn cluster_size(&self) -> Option<u64> {
        Some(self.block)
    }
}
