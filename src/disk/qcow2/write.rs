//! Writes a qcow2 disk of version 3 in one pass: clusters in the order of the disk, tables when they
//! are complete.
//!
//! The layout: the header, the L1 table, then L2 tables and data as they come (a table before the
//! first of its clusters), reference count blocks between them, and the table of these at the end.
//! So memory holds the L1 table, one L2 table and one block, whatever the size.

use std::collections::VecDeque;

use super::{COMPRESSED, COPIED, MAGIC, SECTOR_BYTES, compressed_offset_bits};
use crate::disk::codec::{ClusterCompression, Loader, Packer};
use crate::disk::image::DiskImage;
use crate::disk::pieces::{MAX_WINDOW_BYTES, Piece, Pieces};
use crate::disk::raw::PackedBytes;
use crate::disk::target::DiskTarget;
use crate::error::{Error, Result};
use crate::format::{default_threads, is_zero};
use crate::progress::{Monitor, Phase};

/// How a qcow2 disk is written.
///
/// ```
/// use lxd_image::disk::{ClusterCompression, Qcow2WriteOptions};
///
/// let options = Qcow2WriteOptions::new().compression(ClusterCompression::Zstd(3)).cluster_size(1 << 17);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Qcow2WriteOptions {
    compression: ClusterCompression,
    cluster_size: u64,
    threads: usize,
}

impl Default for Qcow2WriteOptions {
    fn default() -> Self {
        Self { compression: ClusterCompression::default(), cluster_size: 64 << 10, threads: default_threads() }
    }
}

impl Qcow2WriteOptions {
    /// Clusters of 64 KiB, compressed with zlib, on all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How clusters are compressed.
    #[must_use]
    pub fn compression(mut self, compression: ClusterCompression) -> Self {
        self.compression = compression;
        self
    }

    /// Bytes of a cluster: a power of two from 512 to 2 MiB.
    #[must_use]
    pub fn cluster_size(mut self, bytes: u64) -> Self {
        self.cluster_size = bytes;
        self
    }

    /// How many threads read and compress, at most. The bytes don't depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }
}

/// The result of writing a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenDisk {
    /// The size that the virtual machine sees.
    pub virtual_size: u64,
    /// Bytes that were written: of a raw disk its data, of a qcow2 disk the whole file.
    pub bytes: u64,
}

/// The L1 table's largest size, in QEMU.
const MAX_L1_BYTES: u64 = 32 << 20;
/// Bytes of the header, with the compression type.
const HEADER_BYTES: u32 = 112;

impl DiskImage {
    /// Writes the disk as qcow2 version 3. The same disk and options give the same bytes, whatever
    /// the format it is read from and the number of threads.
    ///
    /// A virtual size that is no multiple of 512 is rounded up. Clusters of zeros are left out.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::disk::{DiskImage, DiskOptions, Qcow2WriteOptions};
    /// use lxd_image::io::Blob;
    ///
    /// let disk = DiskImage::open(Blob::file(std::fs::File::open("appliance.ova")?)?, &DiskOptions::new())?;
    /// let file = std::fs::File::create_new("disk.qcow2")?;
    /// disk.write_qcow2(&file, &Qcow2WriteOptions::new(), &Monitor::none())?;
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for options out of range; `FeatureDisabled`; `Malformed` for a source whose
    /// tables and clusters do not hold together; `LimitExceeded` for more than `output` allows;
    /// `Cancelled`; `StorageFull`; `Io`. After an error the target holds a part of the disk.
    pub fn write_qcow2(
        &self,
        target: &dyn DiskTarget,
        options: &Qcow2WriteOptions,
        monitor: &Monitor,
    ) -> Result<WrittenDisk> {
        let cluster = options.cluster_size;
        if !cluster.is_power_of_two() || !(512..=MAX_WINDOW_BYTES).contains(&cluster) {
            return Err(Error::invalid(format!(
                "a cluster of {cluster} bytes is not a power of two from 512 to 2 MiB"
            )));
        }
        // The options are checked before anything is written.
        Packer::new(options.compression)?;
        let size = self.virtual_size();
        let mut writer = Writer::new(target, size, cluster, options.compression)?;
        let mut packed = PackedBytes::new(self);
        let mut pieces = Pieces::new(self, cluster, |_: &_| Ok(()), monitor)?;
        let cluster_bytes = usize::try_from(cluster).unwrap_or(usize::MAX);
        pieces.crew(options.threads).run(
            || pieces.next(),
            || Ok(Encoder { loader: Loader::default(), packer: Packer::new(options.compression)?, window: Vec::new() }),
            |encoder, piece| {
                monitor.check()?;
                encoder.encode(self, &piece, cluster_bytes)
            },
            |encoded| {
                packed.add(encoded.used)?;
                writer.add(&encoded)?;
                if writer.bytes() > self.limits.output {
                    return Err(Error::limit("output", self.limits.output, "the disk"));
                }
                Ok(())
            },
        )?;
        let written = writer.finish()?;
        monitor.report(Phase::Convert, size, Some(size))?;
        Ok(written)
    }
}

/// What a worker keeps from one piece to the next.
struct Encoder {
    loader: Loader,
    packer: Packer,
    window: Vec<u8>,
}

/// A piece with its clusters compressed.
struct Encoded {
    /// The number of its first cluster on the disk.
    first: u64,
    clusters: Vec<EncodedCluster>,
    /// The bytes of all clusters that have any, one after the other.
    bytes: Vec<u8>,
    /// Bytes of compressed clusters that the source took.
    used: u64,
}

#[derive(Clone, Copy)]
enum EncodedCluster {
    Zero,
    Packed(usize),
    Stored,
}

impl Encoder {
    fn encode(&mut self, disk: &DiskImage, piece: &Piece, cluster: usize) -> Result<Encoded> {
        let length = piece.length.next_multiple_of(cluster);
        self.window.clear();
        self.window.resize(length, 0);
        let mut used = 0_u64;
        for run in &piece.runs {
            let start = usize::try_from(run.offset.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(run.length).unwrap_or(usize::MAX));
            let part = self.window.get_mut(start..end).unwrap_or_default();
            used = used.saturating_add(self.loader.load(&disk.blob, run, part)?);
        }
        let mut clusters = Vec::with_capacity(length / cluster);
        let mut bytes = Vec::with_capacity(length / 2);
        for content in self.window.chunks_exact(cluster) {
            if is_zero(content) {
                clusters.push(EncodedCluster::Zero);
            } else if let Some(packed) = self.packer.pack(content) {
                clusters.push(EncodedCluster::Packed(packed.len()));
                bytes.extend_from_slice(packed);
            } else {
                clusters.push(EncodedCluster::Stored);
                bytes.extend_from_slice(content);
            }
        }
        Ok(Encoded { first: piece.offset / cluster as u64, clusters, bytes, used })
    }
}

/// Gives clusters their places in the file and writes them, in the order of the disk.
struct Writer<'a> {
    target: &'a dyn DiskTarget,
    size: u64,
    cluster: u64,
    cluster_bits: u32,
    compression: ClusterCompression,
    /// The L1 table, and the cluster of the file where it begins.
    l1: Vec<u64>,
    l1_first: u64,
    /// The L2 table whose clusters are coming: its index, its offset in the file, its entries.
    l2: Option<(usize, u64, Vec<u64>)>,
    refcounts: Refcounts,
    /// The first free byte behind the last compressed cluster, where that is not at a cluster.
    free: Option<u64>,
    /// Bytes that are to be written at an offset, collected so that writes are large.
    pending: (u64, Vec<u8>),
}

/// How often each cluster of the file is used, from the first one whose count may still change.
struct Refcounts {
    /// Counts that a block holds.
    per_block: usize,
    /// The number of the cluster that `counts` begins with.
    base: u64,
    counts: VecDeque<u16>,
    /// The offsets of the blocks that were written.
    blocks: Vec<u64>,
}

impl Refcounts {
    /// The number of the next free cluster.
    fn next(&self) -> u64 {
        self.base.saturating_add(self.counts.len() as u64)
    }

    /// The count of a cluster; `None` for one that is not begun, and where it can't change any more.
    fn of(&mut self, cluster: u64) -> Option<&mut u16> {
        let index = usize::try_from(cluster.checked_sub(self.base)?).ok()?;
        self.counts.get_mut(index)
    }
}

/// Bytes that are collected before they are written.
const PENDING_BYTES: usize = 1 << 20;

impl<'a> Writer<'a> {
    fn new(target: &'a dyn DiskTarget, size: u64, cluster: u64, compression: ClusterCompression) -> Result<Self> {
        let too_large = || {
            Error::invalid(format!("a disk of {size} bytes needs larger clusters than {cluster} bytes"))
                .with_hint("QEMU's bound for the L1 table is 32 MiB: choose larger clusters")
        };
        let size = size.checked_next_multiple_of(512).ok_or_else(too_large)?;
        // QEMU wants at least one.
        let entries = size.div_ceil(cluster * (cluster / 8)).max(1);
        let l1_bytes = entries.saturating_mul(8);
        if l1_bytes > MAX_L1_BYTES {
            return Err(too_large());
        }
        let per_block = usize::try_from(cluster / 2).map_err(|_| too_large())?;
        let mut writer = Self {
            target,
            size,
            cluster,
            cluster_bits: cluster.trailing_zeros(),
            compression,
            l1: vec![0; usize::try_from(entries).map_err(|_| too_large())?],
            l1_first: 1,
            l2: None,
            refcounts: Refcounts { per_block, base: 0, counts: VecDeque::new(), blocks: Vec::new() },
            free: None,
            pending: (0, Vec::new()),
        };
        let tables = 1 + usize::try_from(l1_bytes.div_ceil(cluster)).map_err(|_| too_large())?;
        writer.refcounts.counts.extend(std::iter::repeat_n(1, tables));
        Ok(writer)
    }

    /// Bytes of the file so far.
    fn bytes(&self) -> u64 {
        self.refcounts.next().saturating_mul(self.cluster)
    }

    /// Takes the next piece.
    fn add(&mut self, encoded: &Encoded) -> Result<()> {
        let mut rest = &encoded.bytes[..];
        for (number, cluster) in (encoded.first..).zip(&encoded.clusters) {
            let (length, packed) = match *cluster {
                EncodedCluster::Zero => continue,
                EncodedCluster::Packed(length) => (length, true),
                EncodedCluster::Stored => (usize::try_from(self.cluster).unwrap_or(usize::MAX), false),
            };
            let Some((bytes, behind)) = rest.split_at_checked(length) else { break };
            rest = behind;
            self.open_l2(number)?;
            let entry = if packed { self.add_packed(bytes)? } else { self.add_stored(bytes)? };
            let entries = self.cluster / 8;
            let index = usize::try_from(number % entries).unwrap_or(usize::MAX);
            if let Some(place) = self.l2.as_mut().and_then(|(_, _, table)| table.get_mut(index)) {
                *place = entry;
            }
        }
        Ok(())
    }

    /// Writes a cluster as it is. Returns its entry.
    fn add_stored(&mut self, bytes: &[u8]) -> Result<u64> {
        let host = self.allocate()?;
        self.write(host, bytes)?;
        Ok(host | COPIED)
    }

    /// Writes a compressed cluster behind the one before, as far as there is room. Returns its entry.
    fn add_packed(&mut self, bytes: &[u8]) -> Result<u64> {
        self.write_blocks()?;
        let length = bytes.len() as u64;
        let host = match self.free {
            // It ends in the cluster where the one before ends, or that cluster is the file's last, so
            // that the next one follows it.
            Some(free) if self.room_behind(free) >= length || self.is_last(free) => free,
            _ => self.bytes(),
        };
        // A count has 16 bits.
        let is_full = self.refcounts.of(host / self.cluster).is_some_and(|count| *count == u16::MAX);
        let host = if is_full { self.bytes() } else { host };
        let end = host.saturating_add(length);
        let (first, last) = (host / self.cluster, end.saturating_sub(1) / self.cluster);
        for number in first..=last {
            match self.refcounts.of(number) {
                Some(count) => *count = count.saturating_add(1),
                None => self.refcounts.counts.push_back(1),
            }
        }
        self.free = (!end.is_multiple_of(self.cluster)).then_some(end);
        self.write(host, bytes)?;
        let bits = compressed_offset_bits(self.cluster_bits);
        if host >> bits != 0 {
            return Err(Error::invalid("the disk is too large for compressed clusters of this size"));
        }
        let sectors = end.saturating_sub(1) / SECTOR_BYTES - host / SECTOR_BYTES;
        Ok(COMPRESSED | sectors << bits | host)
    }

    /// Bytes from an offset to the end of its cluster.
    fn room_behind(&self, offset: u64) -> u64 {
        self.cluster - offset % self.cluster
    }

    /// Whether an offset lies in the last cluster of the file.
    fn is_last(&self, offset: u64) -> bool {
        offset / self.cluster + 1 == self.refcounts.next()
    }

    /// Makes the L2 table of a cluster the current one.
    fn open_l2(&mut self, number: u64) -> Result<()> {
        let entries = self.cluster / 8;
        let index = usize::try_from(number / entries).unwrap_or(usize::MAX);
        if self.l2.as_ref().is_some_and(|(current, ..)| *current == index) {
            return Ok(());
        }
        self.close_l2()?;
        let host = self.allocate()?;
        if let Some(place) = self.l1.get_mut(index) {
            *place = host | COPIED;
        }
        self.l2 = Some((index, host, vec![0; usize::try_from(entries).unwrap_or(0)]));
        Ok(())
    }

    /// Writes the current L2 table, which is complete.
    fn close_l2(&mut self) -> Result<()> {
        match self.l2.take() {
            Some((_, host, table)) => self.write_table(host, &table),
            None => Ok(()),
        }
    }

    /// A cluster for one user. Returns its offset.
    fn allocate(&mut self) -> Result<u64> {
        self.write_blocks()?;
        let host = self.bytes();
        self.refcounts.counts.push_back(1);
        Ok(host)
    }

    /// Writes the blocks whose counts are all known.
    fn write_blocks(&mut self) -> Result<()> {
        while self.refcounts.counts.len() >= self.refcounts.per_block {
            let host = self.bytes();
            self.refcounts.counts.push_back(1);
            self.write_block(host)?;
            // The counts of this block can't change any more.
            let base = self.refcounts.base.saturating_mul(self.cluster);
            self.free = self.free.filter(|&free| free >= base);
        }
        Ok(())
    }

    /// Writes the first block of counts to `host`, filled with zeros.
    fn write_block(&mut self, host: u64) -> Result<()> {
        let refcounts = &mut self.refcounts;
        let count = refcounts.per_block.min(refcounts.counts.len());
        let mut bytes: Vec<u8> = refcounts.counts.drain(..count).flat_map(u16::to_be_bytes).collect();
        bytes.resize(refcounts.per_block.saturating_mul(2), 0);
        refcounts.base = refcounts.base.saturating_add(count as u64);
        refcounts.blocks.push(host);
        self.write(host, &bytes)
    }

    /// Writes the remaining tables and the header.
    fn finish(mut self) -> Result<WrittenDisk> {
        self.close_l2()?;
        self.write_blocks()?;
        let (per_block, per_cluster) = (self.refcounts.per_block as u64, self.cluster / 8);
        // The blocks that are left and their table are counted by these blocks, too.
        let used = self.refcounts.next();
        let (mut blocks, mut table) = (0, 0);
        loop {
            let clusters = used.saturating_add(blocks).saturating_add(table);
            let all_blocks = clusters.div_ceil(per_block);
            let (more, larger) =
                (all_blocks.saturating_sub(self.refcounts.blocks.len() as u64), all_blocks.div_ceil(per_cluster));
            if (more, larger) == (blocks, table) {
                break;
            }
            (blocks, table) = (more, larger);
        }
        let further = usize::try_from(blocks.saturating_add(table)).unwrap_or(usize::MAX);
        self.refcounts.counts.extend(std::iter::repeat_n(1, further));
        let end = self.bytes();
        for number in used..used.saturating_add(blocks) {
            self.write_block(number.saturating_mul(self.cluster))?;
        }
        let table_at = used.saturating_add(blocks).saturating_mul(self.cluster);
        let mut entries = std::mem::take(&mut self.refcounts.blocks);
        entries.resize(usize::try_from(table.saturating_mul(per_cluster)).unwrap_or(usize::MAX), 0);
        self.write_table(table_at, &entries)?;
        let mut l1 = std::mem::take(&mut self.l1);
        let l1_entries = l1.len();
        l1.resize(l1_entries.next_multiple_of(usize::try_from(per_cluster).unwrap_or(1)), 0);
        self.write_table(self.l1_first.saturating_mul(self.cluster), &l1)?;
        let header = self.header(l1_entries, table_at, table)?;
        self.write(0, &header)?;
        self.flush()?;
        Ok(WrittenDisk { virtual_size: self.size, bytes: end })
    }

    fn header(&self, l1_entries: usize, table_at: u64, table_clusters: u64) -> Result<Vec<u8>> {
        let out_of_range = |_| Error::invalid("the disk is too large");
        let zstd = matches!(self.compression, ClusterCompression::Zstd(_));
        let mut header = Vec::with_capacity(usize::try_from(self.cluster).unwrap_or(0));
        header.extend(MAGIC);
        header.extend(3_u32.to_be_bytes());
        // No backing file: an offset and a length of zero.
        header.extend([0; 12]);
        header.extend(self.cluster_bits.to_be_bytes());
        header.extend(self.size.to_be_bytes());
        // No encryption.
        header.extend([0; 4]);
        header.extend(u32::try_from(l1_entries).map_err(out_of_range)?.to_be_bytes());
        header.extend(self.l1_first.saturating_mul(self.cluster).to_be_bytes());
        header.extend(table_at.to_be_bytes());
        header.extend(u32::try_from(table_clusters).map_err(out_of_range)?.to_be_bytes());
        // No snapshots.
        header.extend([0; 12]);
        // Incompatible features: bit 3 for another codec than deflate.
        header.extend((u64::from(zstd) << 3).to_be_bytes());
        // No compatible and no autoclear features.
        header.extend([0; 16]);
        // Reference counts of 16 bits.
        header.extend(4_u32.to_be_bytes());
        header.extend(HEADER_BYTES.to_be_bytes());
        header.push(u8::from(zstd));
        // Padding, and the end of the header's extensions.
        header.resize(usize::try_from(self.cluster).unwrap_or(usize::MAX), 0);
        Ok(header)
    }

    fn write_table(&mut self, host: u64, table: &[u64]) -> Result<()> {
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.write(host, &bytes)
    }

    /// Writes at an offset; collects what follows.
    fn write(&mut self, host: u64, bytes: &[u8]) -> Result<()> {
        let (start, pending) = &self.pending;
        if start.saturating_add(pending.len() as u64) != host || pending.len() >= PENDING_BYTES {
            self.flush()?;
            self.pending.0 = host;
        }
        self.pending.1.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let (start, pending) = &mut self.pending;
        if !pending.is_empty() {
            self.target.write_bytes(pending, *start).map_err(|error| Error::io("the disk can't be written", error))?;
            pending.clear();
        }
        Ok(())
    }
}
