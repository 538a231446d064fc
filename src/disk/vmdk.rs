//! VMDK: VMware's sparse disk in one file, `monolithicSparse` and `streamOptimized`.
//! Format facts: VMware's "Virtual Disk Format", version 5.0.

use super::claims::Claims;
use super::codec::PackedCodec;
use super::opened::Opened;
use super::runs::{Packed, Run, RunMap, Source, TableCache};
use crate::error::{Error, Escaped, Result};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;

/// The first bytes of a sparse disk.
pub(super) const MAGIC: &[u8] = b"KDMV";
/// The first bytes of a descriptor, a text that names the files of a disk.
pub(super) const DESCRIPTOR_MAGIC: &[u8] = b"# Disk DescriptorFile";

const SECTOR_BYTES: u64 = 512;
const HEADER_BYTES: usize = 512;
/// Where the footer is, from the end of the file: behind it is the marker of the stream's end.
const FOOTER_FROM_END: u64 = 1024;
/// The offset of the grain directory in a header whose footer has the real one.
const AT_END: u64 = u64::MAX;
/// Bytes of the largest embedded descriptor. Real ones stay below 2 KiB.
const MAX_DESCRIPTOR_BYTES: u64 = 64 << 10;
/// Bytes of the largest grain. Real ones have 64 KiB.
const MAX_GRAIN_BYTES: u64 = 2 << 20;
/// Bytes by which a compressed grain may exceed a grain: deflate adds a little to what can't be compressed.
const MAX_EXPANSION_BYTES: u64 = 64 << 10;
/// Bytes of the marker before a compressed grain: its first sector and its length.
const MARKER_BYTES: u64 = 12;

/// Flags of the header.
const REDUNDANT_TABLE: u32 = 1 << 1;
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// A sparse disk's header, which a footer repeats.
struct Header {
    version: u32,
    flags: u32,
    /// The following four in sectors.
    capacity: u64,
    grain: u64,
    descriptor: u64,
    descriptor_length: u64,
    /// Entries of a grain table.
    table_entries: u64,
    redundant_directory: u64,
    directory: u64,
    compression: u16,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let u32_at =
            |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
        let u64_at =
            |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
        if !bytes.starts_with(MAGIC) {
            return Err(Error::malformed("the VMDK's footer is damaged"));
        }
        Ok(Self {
            version: u32_at(4),
            flags: u32_at(8),
            capacity: u64_at(12),
            grain: u64_at(20),
            descriptor: u64_at(28),
            descriptor_length: u64_at(36),
            table_entries: u64::from(u32_at(44)),
            redundant_directory: u64_at(48),
            directory: u64_at(56),
            compression: bytes.get(77..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b)),
        })
    }

    fn read(blob: &Blob, offset: u64) -> Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        blob.read_exact_at(&mut bytes, offset)?;
        Self::parse(&bytes)
    }
}

/// Opens a VMDK.
///
/// # Errors
/// `Unsupported` for a disk in several files, one with a parent and unknown features; `Malformed`;
/// `LimitExceeded`; `Io`.
pub(super) fn open(blob: &Blob, limits: &Limits) -> Result<Opened> {
    let length = blob.len();
    let mut start = [0; DESCRIPTOR_MAGIC.len()];
    blob.read_exact_at(&mut start, 0).map_err(|_| Error::malformed("the VMDK ends in the middle of its header"))?;
    if start == *DESCRIPTOR_MAGIC {
        let mut text = vec![0; usize::try_from(length.min(MAX_DESCRIPTOR_BYTES)).unwrap_or(0)];
        blob.read_exact_at(&mut text, 0)?;
        return Err(other_files(&text));
    }
    if length < HEADER_BYTES as u64 {
        return Err(Error::malformed("the VMDK ends in the middle of its header"));
    }
    let first = Header::read(blob, 0)?;
    let descriptor = check_descriptor(blob, &first)?;
    let header = if first.directory == AT_END {
        let at = length.checked_sub(FOOTER_FROM_END).filter(|at| *at >= HEADER_BYTES as u64);
        Header::read(blob, at.ok_or_else(|| Error::malformed("the VMDK has no footer"))?)?
    } else {
        first
    };
    if !matches!(header.version, 1..=3) {
        return Err(Error::unsupported(format!("a VMDK of version {}; 1 to 3 are known", header.version)));
    }
    let grain = header.grain.checked_mul(SECTOR_BYTES).filter(|grain| grain.is_power_of_two());
    let grain = grain.filter(|grain| (SECTOR_BYTES..=MAX_GRAIN_BYTES).contains(grain));
    let grain = grain.ok_or_else(|| {
        Error::malformed(format!("the VMDK's grains have {} sectors, which is out of range", header.grain))
    })?;
    if !(1..=4096).contains(&header.table_entries) {
        return Err(Error::malformed(format!(
            "the VMDK's grain tables have {} entries, which is out of range",
            header.table_entries
        )));
    }
    let virtual_size = header.capacity.checked_mul(SECTOR_BYTES).ok_or_else(|| {
        Error::limit("qcow2_size", limits.qcow2_size, format_args!("a disk of {} sectors", header.capacity))
    })?;
    if virtual_size > limits.qcow2_size {
        return Err(Error::limit("qcow2_size", limits.qcow2_size, format_args!("a disk of {virtual_size} bytes")));
    }
    let compressed = header.flags & COMPRESSED != 0;
    match (compressed, header.compression) {
        (false, _) | (true, 1) => {}
        (true, other) => return Err(Error::unsupported(format!("the VMDK has the unknown compression {other}"))),
    }
    if compressed && header.flags & MARKERS == 0 {
        return Err(Error::unsupported("the VMDK has compressed grains without markers"));
    }
    let covered = header.table_entries * grain;
    let entries = virtual_size.div_ceil(covered);
    let directory_bytes = entries.saturating_mul(4);
    if directory_bytes > limits.l1_table {
        let what = format_args!("a grain directory of {entries} entries");
        return Err(Error::limit("l1_table", limits.l1_table, what));
    }
    // The second directory is a copy of the first; one of them is enough, and QEMU reads this one.
    let _ = (header.flags & REDUNDANT_TABLE, header.redundant_directory);
    let claims = Claims::new(length, SECTOR_BYTES, limits)?;
    let mut map = VmdkMap {
        grain,
        covered,
        table_bytes: usize::try_from(header.table_entries * 4).unwrap_or(0),
        compressed,
        zero_grains: header.flags & ZERO_GRAINS != 0,
        directory: Vec::new(),
        tables: TableCache::default(),
        claims,
    };
    map.claims.exclusive(0, HEADER_BYTES as u64, "the header")?;
    map.read_directory(blob, header.directory, entries)?;
    Ok(Opened { map: Box::new(map), virtual_size, variant: descriptor })
}

/// Reads the descriptor inside of a sparse disk, and refuses one that leads to other files. Returns
/// the disk's type.
fn check_descriptor(blob: &Blob, header: &Header) -> Result<String> {
    let outside = || Error::malformed("the VMDK's descriptor lies outside of the file");
    if header.descriptor == 0 {
        return Ok(String::new());
    }
    let at = header.descriptor.checked_mul(SECTOR_BYTES).ok_or_else(outside)?;
    let length = header.descriptor_length.checked_mul(SECTOR_BYTES).ok_or_else(outside)?;
    if at.checked_add(length).is_none_or(|end| end > blob.len()) {
        return Err(outside());
    }
    if length > MAX_DESCRIPTOR_BYTES {
        return Err(Error::malformed(format!("the VMDK's descriptor has {length} bytes, which is out of range")));
    }
    let mut text = vec![0; usize::try_from(length).map_err(|_| outside())?];
    blob.read_exact_at(&mut text, at)?;
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    let parent = value(text, "parentCID").is_some_and(|parent| !parent.eq_ignore_ascii_case("ffffffff"));
    if parent || value(text, "parentFileNameHint").is_some() {
        return Err(Error::unsupported("the VMDK has a parent, which would be read from the host")
            .with_hint("where the parent is, make one disk of both: `qemu-img convert -f vmdk -O qcow2 DISK NEW`"));
    }
    let kind = value(text, "createType").unwrap_or_default();
    if extents(text).count() > 1 {
        return Err(other_files(text));
    }
    match kind.as_str() {
        "" | "monolithicSparse" | "streamOptimized" => Ok(kind),
        _ => Err(other_files(text)),
    }
}

/// The value of `key=value` or `key="value"` in a descriptor.
fn value(text: &[u8], key: &str) -> Option<String> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (name, value) = line.split_once('=')?;
        (name.trim().eq_ignore_ascii_case(key)).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The lines of a descriptor that name extents: access, sectors, type, file.
fn extents(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| {
        let access = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        matches!(access, b"RW" | b"RDONLY" | b"NOACCESS")
    })
}

/// The refusal of a disk in several files, with the names of some.
fn other_files(text: &[u8]) -> Error {
    let names = extents(text).filter_map(|line| line.split(|&byte| byte == b'"').nth(1)).take(3);
    let names: Vec<String> = names.map(|name| format!("`{}`", Escaped(name))).collect();
    let named = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    Error::unsupported(format!("the VMDK keeps its data in other files, which would be read from the host{named}"))
        .with_hint(
            "where those files are, make one disk of them: `qemu-img convert -f vmdk -O qcow2 DISK NEW`; a file `-flat` \
             is a raw disk",
        )
}

/// The tables of a sparse VMDK.
#[derive(Debug)]
struct VmdkMap {
    /// Bytes of a grain.
    grain: u64,
    /// Bytes of the disk that a grain table stands for.
    covered: u64,
    table_bytes: usize,
    compressed: bool,
    /// Whether an entry of 1 stands for zeros.
    zero_grains: bool,
    /// The sectors of the grain tables; 0 where there is none.
    directory: Vec<u32>,
    tables: TableCache,
    claims: Claims,
}

impl VmdkMap {
    /// Reads the grain directory. Claims it and all grain tables.
    fn read_directory(&mut self, blob: &Blob, sector: u64, entries: u64) -> Result<()> {
        let outside = |what: &str| Error::malformed(format!("{what} of the VMDK lies outside of the file"));
        let bytes = entries.saturating_mul(4);
        let at = sector.checked_mul(SECTOR_BYTES).ok_or_else(|| outside("the grain directory"))?;
        if at.checked_add(bytes).is_none_or(|end| end > blob.len()) {
            return Err(outside("the grain directory"));
        }
        self.claims.exclusive(at, bytes, "the grain directory")?;
        let mut raw = vec![0; usize::try_from(bytes).map_err(|_| outside("the grain directory"))?];
        blob.read_exact_at(&mut raw, at)?;
        self.directory = raw.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        let table_bytes = self.table_bytes as u64;
        for &table in self.directory.iter().filter(|table| **table != 0) {
            let at = u64::from(table) * SECTOR_BYTES;
            if at.checked_add(table_bytes).is_none_or(|end| end > blob.len()) {
                return Err(outside("a grain table").at_offset(at));
            }
            self.claims.exclusive(at, table_bytes, "a grain table")?;
        }
        Ok(())
    }

    /// Where the compressed grain at `host` has its data: reads the marker before it.
    fn marker(&self, blob: &Blob, host: u64) -> Result<(u64, u64)> {
        let mut marker = [0; 12];
        blob.read_exact_at(&mut marker, host).map_err(|error| error.at_offset(host))?;
        let length = marker.last_chunk().map_or(0, |length| u64::from(u32::from_le_bytes(*length)));
        let start = host.saturating_add(MARKER_BYTES);
        if length == 0 || length > self.grain.saturating_add(MAX_EXPANSION_BYTES) {
            return Err(Error::malformed("a compressed grain of the VMDK has a length out of range").at_offset(host));
        }
        if start.saturating_add(length) > blob.len() {
            return Err(Error::malformed("a compressed grain of the VMDK lies outside of the file").at_offset(host));
        }
        Ok((start, length))
    }
}

impl RunMap for VmdkMap {
    fn run_at(&self, blob: &Blob, offset: u64, claims: Option<&mut Claims>) -> Result<Run> {
        let index = offset / self.covered;
        let tables = usize::try_from(index).ok().and_then(|index| self.directory.get(index..)).unwrap_or_default();
        let sector = tables.first().copied().unwrap_or(0);
        if sector == 0 {
            let empty = tables.iter().take_while(|&&table| table == 0).count().max(1) as u64;
            let end = index.saturating_add(empty).saturating_mul(self.covered);
            return Ok(Run { offset, length: end.saturating_sub(offset), source: Source::Hole });
        }
        let table = self.tables.get(blob, u64::from(sector) * SECTOR_BYTES, self.table_bytes)?;
        let within = offset % self.grain;
        let grains = table.as_chunks().0;
        let first = usize::try_from(offset % self.covered / self.grain).unwrap_or(usize::MAX);
        let entry = |entry: &[u8; 4]| u32::from_le_bytes(*entry);
        let rest = grains.get(first..).unwrap_or_default();
        let sector = rest.first().map_or(0, entry);
        if sector == 0 || (sector == 1 && self.zero_grains) {
            let count = rest.iter().take_while(|grain| entry(grain) == sector).count().max(1) as u64;
            let source = if sector == 0 { Source::Hole } else { Source::Zero };
            return Ok(Run { offset, length: count * self.grain - within, source });
        }
        let host = u64::from(sector) * SECTOR_BYTES;
        if host >= blob.len() {
            return Err(Error::malformed("a grain of the VMDK lies outside of the file").at_offset(host));
        }
        let (source, used) = if self.compressed {
            let (start, bytes) = self.marker(blob, host)?;
            let packed = Packed {
                host: start,
                bytes,
                unit: usize::try_from(self.grain).unwrap_or(usize::MAX),
                skip: usize::try_from(within).unwrap_or(usize::MAX),
                codec: PackedCodec::Zlib,
            };
            (Source::Packed(packed), MARKER_BYTES.saturating_add(bytes))
        } else {
            (Source::Stored(host.saturating_add(within)), self.grain)
        };
        if let Some(claims) = claims
            && within == 0
        {
            claims.exclusive(host, used, "a grain")?;
        }
        Ok(Run { offset, length: self.grain - within, source })
    }

    fn claims(&self, _: &Blob) -> Result<Claims> {
        Ok(self.claims.clone())
    }

    fn cluster_size(&self) -> Option<u64> {
        Some(self.grain)
    }
}
