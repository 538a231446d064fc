//! Reads the tables of a qcow2 disk: L1, L2, and the entries of clusters and subclusters.

use super::{COMPRESSED, HEAD_BYTES, Header, OFFSET_MASK, SECTOR_BYTES, ZERO, compressed_offset_bits};
use crate::disk::claims::Claims;
use crate::disk::codec::PackedCodec;
use crate::disk::opened::Opened;
use crate::disk::runs::{Packed, Run, RunMap, Source, TableCache};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;

/// Clusters that are looked at together, so that a small read does not decode a whole table.
const MAX_COALESCED: u64 = 1024;
/// Subclusters of a cluster, where a disk has them.
const SUBCLUSTERS: u32 = 32;

/// The tables of a qcow2 disk.
#[derive(Debug)]
struct Qcow2Map {
    header: Header,
    codec: PackedCodec,
    /// The offsets of the L2 tables; 0 where there is none.
    l1: Vec<u64>,
    tables: TableCache,
    /// What the tables use of the file. L2 tables are known from the start, so an overlap with one shows early.
    claims: Claims,
}

/// What an L2 entry says of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    Hole,
    /// Zeros; where room is kept for them, its offset.
    Zero(Option<u64>),
    Stored(u64),
    Packed {
        host: u64,
        bytes: u64,
    },
    /// Subclusters, by two bits each: which are stored, and which are zeros.
    Divided {
        host: u64,
        stored: u32,
        zero: u32,
    },
}

/// Opens a qcow2 disk: reads its header and its L1 table, and checks both.
///
/// # Errors
/// `Unsupported`, `Malformed`, `LimitExceeded`, `Io`.
pub(in crate::disk) fn open(blob: &Blob, limits: &Limits) -> Result<Opened> {
    let length = blob.len();
    let mut head = vec![0; usize::try_from(length).unwrap_or(HEAD_BYTES).min(HEAD_BYTES)];
    blob.read_exact_at(&mut head, 0)?;
    let header = Header::parse(&head, length, limits)?;
    let codec = codec(&header)?;
    let cluster = header.cluster_size();
    if header.extended_l2 && cluster < u64::from(SUBCLUSTERS) * SECTOR_BYTES {
        return Err(Error::malformed("the disk has subclusters smaller than a sector"));
    }
    if header.refcount_order > 6 {
        return Err(Error::malformed(format!(
            "the disk's reference counts have 2^{} bits, which is out of range",
            header.refcount_order
        )));
    }
    let mut claims = Claims::new(length, cluster, limits)?;
    claims.exclusive(0, cluster, "the header")?;
    let refcounts = u64::from(header.refcount_clusters) * cluster;
    check_place("the refcount table", header.refcount_offset, refcounts, cluster, length)?;
    claims.exclusive(header.refcount_offset, refcounts, "the refcount table")?;
    let l1 = read_l1(blob, &header, &mut claims)?;
    let variant = format!(
        "version {}, {}{}",
        header.version,
        if codec == PackedCodec::Zstd { "zstd" } else { "zlib" },
        if header.extended_l2 { ", subclusters" } else { "" }
    );
    let virtual_size = header.virtual_size;
    let map = Qcow2Map { header, codec, l1, tables: TableCache::default(), claims };
    Ok(Opened { map: Box::new(map), virtual_size, variant })
}

/// The codec of compressed clusters, by the header's field and its feature bit.
fn codec(header: &Header) -> Result<PackedCodec> {
    match (header.compression, header.other_compression) {
        (0, false) => Ok(PackedCodec::Deflate),
        (1, true) => Ok(PackedCodec::Zstd),
        (0 | 1, _) => Err(Error::malformed("the disk's compression type and its feature bit contradict each other")),
        (other, _) => Err(Error::unsupported(format!("the disk's clusters have the unknown compression type {other}"))),
    }
}

/// Reads the L1 table. Claims it and all L2 tables.
fn read_l1(blob: &Blob, header: &Header, claims: &mut Claims) -> Result<Vec<u64>> {
    let cluster = header.cluster_size();
    // More entries than the size needs are allowed, and mean nothing.
    let entry_bytes = if header.extended_l2 { 16 } else { 8 };
    let needed = header.virtual_size.div_ceil(cluster * (cluster / entry_bytes));
    let entries = usize::try_from(needed).map_err(|_| Error::malformed("the disk's L1 table is too large"))?;
    let all = u64::from(header.l1_entries) * 8;
    claims.exclusive(header.l1_offset, all, "the L1 table")?;
    let mut l1 = vec![0; entries];
    let mut buffer = vec![0; (64 << 10).min(entries.saturating_mul(8))];
    let mut at = header.l1_offset;
    for part in l1.chunks_mut(8 << 10) {
        let (bytes, _) = buffer.split_at_mut(part.len().saturating_mul(8));
        blob.read_exact_at(bytes, at)?;
        at = at.saturating_add(bytes.len() as u64);
        for (entry, bytes) in part.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_be_bytes(*bytes) & OFFSET_MASK;
            if *entry != 0 {
                check_place("an L2 table", *entry, cluster, cluster, blob.len())?;
                claims.exclusive(*entry, cluster, "an L2 table")?;
            }
        }
    }
    Ok(l1)
}

/// Checks that a table begins at a cluster and lies in the file.
fn check_place(what: &str, offset: u64, bytes: u64, cluster: u64, length: u64) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    if !offset.is_multiple_of(cluster) {
        return Err(Error::malformed(format!("{what} of the disk does not begin at a cluster")).at_offset(offset));
    }
    if offset.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(Error::malformed(format!("{what} of the disk lies outside of the file")).at_offset(offset));
    }
    Ok(())
}

impl Qcow2Map {
    /// Entries of an L2 table.
    fn l2_entries(&self) -> u64 {
        self.header.cluster_size() / if self.header.extended_l2 { 16 } else { 8 }
    }

    /// What an entry of an L2 table says.
    ///
    /// # Errors
    /// `Malformed` for offsets that are not in the file or not at a cluster, and for combinations
    /// of bits that mean nothing.
    fn entry(&self, table: &[u8], index: u64, length: u64) -> Result<Cluster> {
        let number = |at: u64| {
            let bytes = usize::try_from(at).ok().and_then(|at| table.get(at..)?.first_chunk());
            bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        let (entry, bitmap) = if self.header.extended_l2 {
            (number(index.saturating_mul(16)), number(index.saturating_mul(16).saturating_add(8)))
        } else {
            (number(index.saturating_mul(8)), 0)
        };
        let cluster = self.header.cluster_size();
        if entry & COMPRESSED != 0 {
            if bitmap != 0 {
                return Err(Error::malformed("a compressed cluster of the disk has subclusters"));
            }
            let bits = compressed_offset_bits(self.header.cluster_bits);
            let host = entry & ((1 << bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            let first = host - host % SECTOR_BYTES;
            let end = first.saturating_add((sectors + 1) * SECTOR_BYTES);
            if host >= length {
                return Err(
                    Error::malformed("a compressed cluster of the disk lies outside of the file").at_offset(host)
                );
            }
            return Ok(Cluster::Packed { host, bytes: end - host });
        }
        let host = entry & OFFSET_MASK;
        if !host.is_multiple_of(cluster) {
            return Err(Error::malformed("a cluster of the disk is not where clusters are").at_offset(host));
        }
        if host >= length {
            return Err(Error::malformed("a cluster of the disk lies outside of the file").at_offset(host));
        }
        if self.header.extended_l2 {
            let (stored, zero) = (low(bitmap), low(bitmap >> 32));
            if stored & zero != 0 {
                return Err(Error::malformed("a subcluster of the disk is stored and zeros at once"));
            }
            return match (host, stored, zero) {
                (0, 0, 0) => Ok(Cluster::Hole),
                (0, 0, u32::MAX) => Ok(Cluster::Zero(None)),
                (0, 1.., _) => Err(Error::malformed("a subcluster of the disk is stored nowhere")),
                (host, u32::MAX, 0) => Ok(Cluster::Stored(host)),
                (host, stored, zero) => Ok(Cluster::Divided { host, stored, zero }),
            };
        }
        match (entry & ZERO != 0, host) {
            (true, _) if self.header.version < 3 => {
                Err(Error::malformed("a disk of version 2 has a cluster that is marked as zeros"))
            }
            (true, 0) => Ok(Cluster::Zero(None)),
            (true, host) => Ok(Cluster::Zero(Some(host))),
            (false, 0) => Ok(Cluster::Hole),
            (false, host) => Ok(Cluster::Stored(host)),
        }
    }

    /// The run of the subclusters from `within` the cluster on that have the same source.
    fn divided(&self, offset: u64, within: u64, (host, stored, zero): (u64, u32, u32)) -> Run {
        let bytes = self.header.cluster_size() / u64::from(SUBCLUSTERS);
        let kind = |index: u32| (stored >> index & 1, zero >> index & 1);
        let first = low(within / bytes).min(SUBCLUSTERS - 1);
        let last = (first..SUBCLUSTERS).take_while(|&index| kind(index) == kind(first)).last().unwrap_or(first);
        let source = match kind(first) {
            (1, _) => Source::Stored(host.saturating_add(within)),
            (_, 1) => Source::Zero,
            _ => Source::Hole,
        };
        Run { offset, length: (u64::from(last) + 1) * bytes - within, source }
    }
}

/// The lower half of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Claims what an entry uses.
fn claim(claims: &mut Claims, cluster: Cluster, size: u64) -> Result<()> {
    const WHAT: &str = "a cluster";
    match cluster {
        Cluster::Hole | Cluster::Zero(None) | Cluster::Divided { host: 0, .. } => Ok(()),
        Cluster::Zero(Some(host)) | Cluster::Stored(host) | Cluster::Divided { host, .. } => {
            claims.exclusive(host, size, WHAT)
        }
        Cluster::Packed { host, bytes } => claims.shared(host, bytes, WHAT),
    }
}

impl RunMap for Qcow2Map {
    fn run_at(&self, blob: &Blob, offset: u64, mut claims: Option<&mut Claims>) -> Result<Run> {
        let size = self.header.cluster_size();
        let (entries, within) = (self.l2_entries(), offset % size);
        let (table, first) = (offset / size / entries, offset / size % entries);
        let tables = usize::try_from(table).ok().and_then(|table| self.l1.get(table..)).unwrap_or_default();
        let at = tables.first().copied().unwrap_or(0);
        if at == 0 {
            // A large empty disk has millions of them.
            let empty = tables.iter().take_while(|&&at| at == 0).count().max(1) as u64;
            let end = table.saturating_add(empty).saturating_mul(entries).saturating_mul(size);
            return Ok(Run { offset, length: end.saturating_sub(offset), source: Source::Hole });
        }
        let length = usize::try_from(size).map_err(|_| Error::malformed("an L2 table is too large"))?;
        let table = self.tables.get(blob, at, length)?;
        let cluster = self.entry(&table, first, blob.len())?;
        if let Some(claims) = claims.as_deref_mut()
            && within == 0
        {
            claim(claims, cluster, size)?;
        }
        let source = match cluster {
            Cluster::Hole => Source::Hole,
            Cluster::Zero(_) => Source::Zero,
            Cluster::Stored(host) => Source::Stored(host.saturating_add(within)),
            Cluster::Divided { host, stored, zero } => return Ok(self.divided(offset, within, (host, stored, zero))),
            Cluster::Packed { host, bytes } => Source::Packed(Packed {
                host,
                bytes,
                unit: length,
                skip: usize::try_from(within).unwrap_or(usize::MAX),
                codec: self.codec,
            }),
        };
        // Further clusters of the table that continue this one.
        let mut count = 1;
        for index in first + 1..entries.min(first + MAX_COALESCED) {
            let next = self.entry(&table, index, blob.len())?;
            let continues = match (cluster, next) {
                (Cluster::Hole, Cluster::Hole) | (Cluster::Zero(_), Cluster::Zero(_)) => true,
                (Cluster::Stored(host), Cluster::Stored(next)) => host.saturating_add(count * size) == next,
                _ => false,
            };
            if !continues {
                break;
            }
            if let Some(claims) = claims.as_deref_mut() {
                claim(claims, next, size)?;
            }
            count += 1;
        }
        Ok(Run { offset, length: count * size - within, source })
    }

    fn claims(&self, _: &Blob) -> Result<Claims> {
        Ok(self.claims.clone())
    }

    fn cluster_size(&self) -> Option<u64> {
        Some(self.header.cluster_size())
    }
}
