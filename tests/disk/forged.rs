//! Forged disks: each names the kind of error that it must end with, when it is opened or when it
//! is read to its end. Never a panic, never more than a few seconds, whatever sizes it claims.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lxd_image::ErrorKind::{self, LimitExceeded, Malformed, Unsupported};
use lxd_image::disk::{
    ClusterCompression, DiskFormat, DiskImage, DiskOptions, DiskTarget, Qcow2WriteOptions, RawWriteOptions,
};
use lxd_image::io::{Blob, ReadAt};
use lxd_image::{Limits, Monitor, Result};

use super::scratch::{Scratch, content, raw, to_qcow2};

/// Takes everything and keeps nothing but the count.
#[derive(Default)]
struct Nowhere(AtomicU64);

impl DiskTarget for Nowhere {
    fn write_bytes(&self, bytes: &[u8], _: u64) -> io::Result<()> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a disk in every way. The first error, of the first way that has one.
fn read(bytes: Vec<u8>, options: &DiskOptions) -> Result<()> {
    let disk = DiskImage::open(Blob::from(bytes), options)?;
    let converted = disk.write_raw(&Nowhere::default(), &RawWriteOptions::new().threads(2), &Monitor::none()).map(drop);
    // Reading without the check of the whole must not panic either.
    let mut part = vec![0; 9000];
    for at in [0, 4096, disk.virtual_size() / 2, disk.virtual_size().saturating_sub(9000), u64::MAX - 1] {
        let _ = disk.read_at(&mut part, at);
    }
    let _ = disk.allocated_bytes(&Monitor::none());
    let _ = disk.write_qcow2(&Nowhere::default(), &Qcow2WriteOptions::new().threads(2), &Monitor::none());
    converted
}

/// A change of a good disk.
struct Case {
    name: &'static str,
    kind: ErrorKind,
    bytes: Vec<u8>,
}

impl Case {
    /// The same with one more change.
    fn and(mut self, at: usize, value: &[u8]) -> Self {
        put(&mut self.bytes, at, value);
        self
    }
}

#[track_caller]
fn refused(cases: Vec<Case>) {
    for Case { name, kind, bytes } in cases {
        let begun = Instant::now();
        let error = read(bytes, &DiskOptions::new()).expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{name} took {:?}", begun.elapsed());
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Clusters of 4 KiB: 512 entries in an L2 table, 2 MiB of the disk.
const CLUSTER: usize = 4096;

/// A good disk of 6 MiB, and where its tables are.
struct Good {
    bytes: Vec<u8>,
    l1: usize,
    /// The first L2 table.
    l2: usize,
}

impl Good {
    fn new(compression: ClusterCompression) -> Self {
        let place = Scratch::new();
        let source = content(6 << 20).iter().map(|byte| byte | 1).collect();
        let options = Qcow2WriteOptions::new().cluster_size(CLUSTER as u64).compression(compression);
        to_qcow2(&raw(source), &place.at("disk"), &options);
        let bytes = std::fs::read(place.at("disk")).unwrap();
        let l1 = usize::try_from(be64(&bytes, 40)).unwrap();
        let l2 = usize::try_from(be64(&bytes, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
        Self { bytes, l1, l2 }
    }

    /// The disk with other bytes at a place.
    fn with(&self, name: &'static str, kind: ErrorKind, at: usize, value: &[u8]) -> Case {
        self.changed(name, kind, |bytes| put(bytes, at, value))
    }

    fn changed(&self, name: &'static str, kind: ErrorKind, change: impl FnOnce(&mut Vec<u8>)) -> Case {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        Case { name, kind, bytes }
    }
}

const COPIED: u64 = 1 << 63;

fn be(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn be32(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

#[test]
fn good_disks_are_read() {
    for compression in [ClusterCompression::None, ClusterCompression::Zlib(6), ClusterCompression::Zstd(3)] {
        read(Good::new(compression).bytes, &DiskOptions::new()).unwrap();
    }
}

#[test]
fn qcow2_headers_that_lie_are_refused() {
    let good = Good::new(ClusterCompression::None);
    let cut = |length: usize| move |bytes: &mut Vec<u8>| bytes.truncate(length);
    refused(vec![
        good.with("version 0", Unsupported, 4, &be32(0)),
        good.with("version 1", Unsupported, 4, &be32(1)),
        good.with("version 4", Unsupported, 4, &be32(4)),
        good.with("backing file", Unsupported, 8, &[be(512).to_vec(), be32(11).to_vec()].concat()),
        good.with("backing file without a name", Unsupported, 8, &be(512)),
        good.with("backing file's name without a place", Unsupported, 16, &be32(11)),
        good.with("clusters of 256 bytes", Malformed, 20, &be32(8)),
        good.with("clusters of 4 MiB", Malformed, 20, &be32(22)),
        good.with("clusters of 2^64 bytes", Malformed, 20, &be32(64)),
        good.with("clusters of 2^(2^32-1) bytes", Malformed, 20, &be32(u32::MAX)),
        good.with("virtual size of 2^63", LimitExceeded, 24, &be(1 << 63)),
        good.with("virtual size of 2^64-1", LimitExceeded, 24, &be(u64::MAX)),
        good.with("virtual size over the L1 table", Malformed, 24, &be(1 << 40)),
        good.with("AES", Unsupported, 32, &be32(1)),
        good.with("LUKS", Unsupported, 32, &be32(2)),
        good.with("L1 table of 2^32-1 entries", LimitExceeded, 36, &be32(u32::MAX)),
        good.with("L1 table without entries", Malformed, 36, &be32(0)),
        good.with("L1 table at an odd place", Malformed, 40, &be(good.l1 as u64 + 8)),
        good.with("L1 table past the end", Malformed, 40, &be(1 << 40)),
        good.with("L1 table at the end of all numbers", Malformed, 40, &be(u64::MAX - 4095)),
        good.with("L1 table over the header", Malformed, 40, &be(0)),
        good.with("L1 table over the refcount table", Malformed, 40, &good.bytes[48..56]),
        good.with("refcount table at an odd place", Malformed, 48, &be(12345)),
        good.with("refcount table past the end", Malformed, 48, &be(1 << 40)),
        good.with("refcount table of 2^32-1 clusters", Malformed, 56, &be32(u32::MAX)),
        good.with("refcount table over the header", Malformed, 48, &be(0)),
        good.with("marked as corrupt", Malformed, 72, &be(2)),
        good.with("external data file", Unsupported, 72, &be(4)),
        good.with("unknown incompatible feature 5", Unsupported, 72, &be(1 << 5)),
        good.with("unknown incompatible feature 63", Unsupported, 72, &be(1 << 63)),
        good.with("compression bit without a type", Malformed, 72, &be(8)),
        good.with("compression type without its bit", Malformed, 104, &[1]),
        good.changed("unknown compression type", Unsupported, |bytes| {
            put(bytes, 72, &be(8));
            put(bytes, 104, &[2]);
        }),
        good.changed("subclusters smaller than a sector", Malformed, |bytes| {
            put(bytes, 72, &be(16));
            put(bytes, 24, &be(1 << 20));
        }),
        good.with("reference counts of 128 bits", Malformed, 96, &be32(7)),
        good.with("header without a length", Malformed, 100, &be32(0)),
        good.with("header of 105 bytes", Malformed, 100, &be32(105)),
        good.with("header longer than a cluster", Malformed, 100, &be32(8192)),
        good.changed("extension past the cluster", Malformed, |bytes| {
            put(bytes, 112, &be32(0x1234_5678));
            put(bytes, 116, &be32(u32::MAX));
        }),
        good.changed("extension of a data file", Unsupported, |bytes| {
            put(bytes, 112, &be32(0x4441_5441));
            put(bytes, 116, &be32(11));
            put(bytes, 120, b"/etc/shadow");
        }),
        good.changed("extension of a backing format", Unsupported, |bytes| {
            put(bytes, 112, &be32(0xe279_2aca));
            put(bytes, 116, &be32(3));
        }),
        good.changed("extension of encryption", Unsupported, |bytes| put(bytes, 112, &be32(0x0537_be77))),
        good.changed("magic alone", Malformed, cut(4)),
        good.changed("71 bytes", Malformed, cut(71)),
        good.changed("103 bytes", Malformed, cut(103)),
        good.changed("header alone", Malformed, cut(CLUSTER)),
    ]);
}

#[test]
fn qcow2_tables_that_lie_are_refused() {
    let good = Good::new(ClusterCompression::None);
    let (l1, l2) = (good.l1, good.l2);
    let second = be64(&good.bytes, l1 + 8);
    let data = be64(&good.bytes, l2);
    refused(vec![
        good.with("L2 table at an odd place", Malformed, l1, &be(COPIED | (l2 as u64 + 512))),
        good.with("L2 table past the end", Malformed, l1, &be(COPIED | 1 << 40)),
        good.with("L2 table at the end of all numbers", Malformed, l1, &be(0x00ff_ffff_ffff_f000)),
        good.with("L2 table twice", Malformed, l1, &be(second)),
        good.with("L2 table is the L1 table", Malformed, l1, &be(COPIED | l1 as u64)),
        good.with("L2 table is the refcount table", Malformed, l1, &good.bytes[48..56]),
        good.with("L2 table is data", Malformed, l1, &be(data)),
        good.with("data at an odd place", Malformed, l2, &be(COPIED | (data + 512))),
        good.with("data past the end", Malformed, l2, &be(COPIED | 1 << 40)),
        good.with("data right at the end", Malformed, l2, &be(COPIED | good.bytes.len() as u64)),
        good.with("data at the end of all numbers", Malformed, l2, &be(0x00ff_ffff_ffff_f000)),
        good.with("data twice", Malformed, l2 + 8, &be(data)),
        good.with("data twice, in another table", Malformed, usize::try_from(second & !COPIED).unwrap(), &be(data)),
        good.with("data is the L1 table", Malformed, l2, &be(COPIED | l1 as u64)),
        good.with("data is its own L2 table", Malformed, l2, &be(COPIED | l2 as u64)),
        good.with("data is the next L2 table", Malformed, l2, &be(second)),
        good.with("data is the refcount table", Malformed, l2, &good.bytes[48..56]),
        good.with("zeros keep a cluster that is used", Malformed, l2 + 8, &be(data | 1)),
        good.with("compressed data past the end", Malformed, l2, &be(1 << 62 | 1 << 40)),
        good.with("compressed data in the L1 table", Malformed, l2, &be(1 << 62 | l1 as u64)),
        good.with("compressed data in other data", Malformed, l2 + 8, &be(1 << 62 | (data & !COPIED))),
        good.changed("zero bit in version 2", Malformed, |bytes| {
            put(bytes, 4, &be32(2));
            put(bytes, l2, &be(1));
        }),
    ]);
}

#[test]
fn qcow2_subclusters_that_lie_are_refused() {
    // A disk of one L2 table with clusters of 16 KiB, the smallest that has subclusters.
    let disk = |entry: u64, bitmap: u64| {
        let mut bytes = vec![0; 5 << 14];
        put(&mut bytes, 0, b"QFI\xfb");
        put(&mut bytes, 4, &be32(3));
        put(&mut bytes, 20, &be32(14));
        put(&mut bytes, 24, &be(1 << 14));
        put(&mut bytes, 36, &be32(1));
        put(&mut bytes, 40, &be(1 << 14));
        put(&mut bytes, 48, &be(2 << 14));
        put(&mut bytes, 56, &be32(1));
        put(&mut bytes, 72, &be(16));
        put(&mut bytes, 96, &be32(4));
        put(&mut bytes, 100, &be32(104));
        put(&mut bytes, 1 << 14, &be(COPIED | 3 << 14));
        put(&mut bytes, 3 << 14, &be(entry));
        put(&mut bytes, (3 << 14) + 8, &be(bitmap));
        bytes
    };
    for (entry, bitmap) in
        [(0, 0), (0, 0xffff_ffff << 32), (COPIED | 4 << 14, 0xffff_ffff), (COPIED | 4 << 14, 0b101 | 0b1010 << 32)]
    {
        read(disk(entry, bitmap), &DiskOptions::new()).unwrap();
    }
    let case = |name, entry, bitmap| Case { name, kind: Malformed, bytes: disk(entry, bitmap) };
    refused(vec![
        case("subcluster that is stored and zeros", COPIED | 4 << 14, 1 | 1 << 32),
        case("subcluster that is stored nowhere", 0, 1),
        case("compressed cluster with subclusters", 1 << 62 | 4 << 14, 1),
        case("cluster of subclusters past the end", COPIED | 9 << 14, 1),
        case("cluster of subclusters over the L2 table", COPIED | 3 << 14, 1),
    ]);
}

#[test]
fn compressed_clusters_that_lie_are_refused() {
    for compression in [ClusterCompression::Zlib(6), ClusterCompression::Zstd(3)] {
        let good = Good::new(compression);
        // The first compressed cluster.
        let first = (good.l2..).step_by(8).find(|&at| good.bytes[at] & 0x40 != 0).unwrap();
        let entry = be64(&good.bytes, first);
        let host = usize::try_from(entry & ((1 << 58) - 1)).unwrap();
        refused(vec![
            good.with("compressed cluster of noise", Malformed, host, &[0xff; 64]),
            good.with("compressed cluster of zeros", Malformed, host, &[0; 64]),
            good.with("compressed cluster that begins elsewhere", Malformed, first, &be(entry + 3)),
            good.changed("compressed cluster used a thousand times", Malformed, |bytes| {
                let tables = [0, 8, 16].map(|at| usize::try_from(be64(&good.bytes, good.l1 + at) & !COPIED).unwrap());
                let entries = tables.into_iter().flat_map(|table| (table..table + CLUSTER).step_by(8));
                // The one with the most sectors.
                let largest =
                    entries.clone().map(|at| be64(&good.bytes, at)).filter(|entry| entry >> 62 == 1).max().unwrap();
                for at in entries {
                    put(bytes, at, &be(largest));
                }
            }),
        ]);
    }
}

#[test]
fn compressed_cluster_that_is_too_short_is_refused() {
    let good = Good::new(ClusterCompression::Zlib(6));
    let first = (good.l2..).step_by(8).find(|&at| good.bytes[at] & 0x40 != 0).unwrap();
    let host = usize::try_from(be64(&good.bytes, first) & ((1 << 58) - 1)).unwrap();
    // A final block of deflate with fixed codes and nothing in it.
    refused(vec![good.with("empty deflate stream", Malformed, host, &[0x03, 0x00])]);
}

#[test]
fn small_file_cannot_claim_more_memory_than_its_limits() {
    let good = Good::new(ClusterCompression::None);
    let mut limits = Limits::default();
    limits.disk_map = 16;
    let error = read(good.bytes.clone(), &DiskOptions::new().limits(limits)).unwrap_err();
    assert_eq!(error.limit_name(), Some("disk_map"));
    let mut limits = Limits::default();
    limits.qcow2_size = 1 << 20;
    let error = read(good.bytes.clone(), &DiskOptions::new().limits(limits)).unwrap_err();
    assert_eq!(error.limit_name(), Some("qcow2_size"));
    let mut limits = Limits::default();
    limits.output = 1 << 20;
    let error = read(good.bytes.clone(), &DiskOptions::new().limits(limits)).unwrap_err();
    assert_eq!(error.limit_name(), Some("output"));
    let mut limits = Limits::default();
    limits.file_size = 1 << 20;
    let error = read(good.bytes, &DiskOptions::new().limits(limits)).unwrap_err();
    assert_eq!(error.limit_name(), Some("file_size"));
}

/// A `monolithicSparse` VMDK of 128 KiB: a header, a directory at sector 1, a grain table at sector 2
/// (512 entries), and two grains of 64 KiB from sector 128 on.
fn vmdk() -> Vec<u8> {
    let mut bytes = vec![0; 128 * 512 + 2 * 65536];
    put(&mut bytes, 0, b"KDMV");
    put(&mut bytes, 4, &1_u32.to_le_bytes());
    put(&mut bytes, 8, &1_u32.to_le_bytes());
    put(&mut bytes, 12, &256_u64.to_le_bytes());
    put(&mut bytes, 20, &128_u64.to_le_bytes());
    put(&mut bytes, 44, &512_u32.to_le_bytes());
    put(&mut bytes, 56, &1_u64.to_le_bytes());
    put(&mut bytes, 512, &2_u32.to_le_bytes());
    put(&mut bytes, 1024, &128_u32.to_le_bytes());
    put(&mut bytes, 1028, &256_u32.to_le_bytes());
    bytes[128 * 512..].fill(7);
    bytes
}

#[test]
fn vmdks_that_lie_are_refused() {
    read(vmdk(), &DiskOptions::new()).unwrap();
    let with = |name, kind, at, value: &[u8]| {
        let mut bytes = vmdk();
        put(&mut bytes, at, value);
        Case { name, kind, bytes }
    };
    let descriptor = |name, kind, text: &[u8]| {
        let mut bytes = vmdk();
        put(&mut bytes, 28, &20_u64.to_le_bytes());
        put(&mut bytes, 36, &1_u64.to_le_bytes());
        put(&mut bytes, 20 * 512, text);
        Case { name, kind, bytes }
    };
    let text = |text: &[u8]| Case { name: "descriptor alone", kind: Unsupported, bytes: text.to_vec() };
    let cut = |name, length| Case { name, kind: Malformed, bytes: vmdk()[..length].to_vec() };
    refused(vec![
        with("version 0", Unsupported, 4, &0_u32.to_le_bytes()),
        with("version 9", Unsupported, 4, &9_u32.to_le_bytes()),
        with("capacity of 2^64-1 sectors", LimitExceeded, 12, &u64::MAX.to_le_bytes()),
        with("capacity of 2^54 sectors", LimitExceeded, 12, &(1_u64 << 54).to_le_bytes()),
        with("capacity over the directory", Malformed, 12, &(1_u64 << 33).to_le_bytes()),
        with("grains without sectors", Malformed, 20, &0_u64.to_le_bytes()),
        with("grains of 3 sectors", Malformed, 20, &3_u64.to_le_bytes()),
        with("grains of 2^40 sectors", Malformed, 20, &(1_u64 << 40).to_le_bytes()),
        with("grains of 2^63 sectors", Malformed, 20, &(1_u64 << 63).to_le_bytes()),
        with("grain tables without entries", Malformed, 44, &0_u32.to_le_bytes()),
        with("grain tables of 2^32-1 entries", Malformed, 44, &u32::MAX.to_le_bytes()),
        with("directory past the end", Malformed, 56, &(1_u64 << 30).to_le_bytes()),
        with("directory at the end of all numbers", Malformed, 56, &(u64::MAX - 1).to_le_bytes()),
        with("directory in a footer that is not there", Malformed, 56, &u64::MAX.to_le_bytes()),
        with("directory over the header", Malformed, 56, &0_u64.to_le_bytes()),
        with("version 2^32-1", Unsupported, 4, &u32::MAX.to_le_bytes()),
        with("grains of 8 MiB", Malformed, 20, &(1_u64 << 14).to_le_bytes()),
        with("grain tables of 4097 entries", Malformed, 44, &4097_u32.to_le_bytes()),
        with("directory that begins in the file and ends behind it", Malformed, 12, &(1_u64 << 32).to_le_bytes()),
        with("grain table that begins in the file and ends behind it", Malformed, 512, &381_u32.to_le_bytes()),
        with("grain table twice", Malformed, 12, &(1_u64 << 17).to_le_bytes()).and(516, &2_u32.to_le_bytes()),
        with("grain table over the next one", Malformed, 12, &(1_u64 << 17).to_le_bytes())
            .and(516, &5_u32.to_le_bytes()),
        with("grain table in a grain", Malformed, 512, &256_u32.to_le_bytes()).and(256 * 512, &256_u32.to_le_bytes()),
        with("grain over the directory", Malformed, 1024, &1_u32.to_le_bytes()),
        with("grain right at the end", Malformed, 1024, &384_u32.to_le_bytes()),
        with("grain table past the end", Malformed, 512, &u32::MAX.to_le_bytes()),
        with("grain table over the directory", Malformed, 512, &1_u32.to_le_bytes()),
        with("grain past the end", Malformed, 1024, &u32::MAX.to_le_bytes()),
        with("grain twice", Malformed, 1024, &256_u32.to_le_bytes()),
        with("grain over another one", Malformed, 1024, &255_u32.to_le_bytes()),
        with("grain over its table", Malformed, 1024, &2_u32.to_le_bytes()),
        with("compressed without markers", Unsupported, 8, &0x1_0001_u32.to_le_bytes()),
        with("unknown compression", Unsupported, 8, &0x3_0001_u32.to_le_bytes()),
        descriptor("parent", Unsupported, b"parentCID=12345678\n"),
        descriptor("parent's file", Unsupported, b"parentFileNameHint=\"/etc/shadow\"\n"),
        descriptor("type in several files", Unsupported, b"createType=\"twoGbMaxExtentSparse\"\n"),
        descriptor("two extents", Unsupported, b"RW 1 SPARSE \"a.vmdk\"\nRW 1 SPARSE \"b.vmdk\"\n"),
        descriptor("custom type", Unsupported, b"createType=\"custom\"\n"),
        descriptor("raw device", Unsupported, b"createType=\"fullDevice\"\nRW 1 FLAT \"/dev/sda\" 0\n"),
        descriptor("flat extents of VMFS", Unsupported, b"createType = \"vmfs\"\n"),
        descriptor("parent in other letters", Unsupported, b"version=1\n PARENTCID = \"00000000\" \n"),
        descriptor("parent's file without a parent", Unsupported, b"parentCID=ffffffff\nparentFileNameHint=\"\"\n"),
        with("descriptor of 100 KiB", Malformed, 28, &20_u64.to_le_bytes()).and(36, &200_u64.to_le_bytes()),
        with("descriptor that ends behind the file", Malformed, 28, &20_u64.to_le_bytes())
            .and(36, &400_u64.to_le_bytes()),
        with("descriptor past the end", Malformed, 28, &(1_u64 << 50).to_le_bytes()),
        with("descriptor at the end of all numbers", Malformed, 28, &u64::MAX.to_le_bytes()),
        text(b"# Disk DescriptorFile\nRW 2048 FLAT \"/dev/sda\" 0\n"),
        text(b"# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"../../etc/shadow\" 0\n"),
        text(b"# Disk DescriptorFile\ncreateType=\"vmfsSparse\"\nparentFileNameHint=\"base.vmdk\"\n"),
        text(b"# Disk DescriptorFile"),
        cut("magic alone", 4),
        cut("header cut", 100),
        cut("header cut by a byte", 511),
        cut("file cut before the tables", 600),
    ]);
}

/// A `streamOptimized` VMDK with one compressed grain of 64 KiB.
fn stream() -> Vec<u8> {
    stream_of(&zlib(&noise(65536)))
}

/// Bytes that hardly compress.
fn noise(count: usize) -> Vec<u8> {
    let mut numbers = super::scratch::Numbers(7);
    (0..count).map(|_| u8::try_from(numbers.below(250)).unwrap()).collect()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A `streamOptimized` VMDK with these bytes as its compressed grain.
fn stream_of(grain: &[u8]) -> Vec<u8> {
    let mut bytes = vmdk();
    put(&mut bytes, 4, &3_u32.to_le_bytes());
    put(&mut bytes, 8, &0x3_0001_u32.to_le_bytes());
    put(&mut bytes, 77, &1_u16.to_le_bytes());
    put(&mut bytes, 1028, &0_u32.to_le_bytes());
    bytes.truncate(128 * 512 + 8);
    bytes.extend(u32::try_from(grain.len()).unwrap().to_le_bytes());
    bytes.extend(grain);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn compressed_grains_that_lie_are_refused() {
    read(stream(), &DiskOptions::new()).unwrap();
    let length = 128 * 512 + 8;
    let with = |name, at, value: &[u8]| {
        let mut bytes = stream();
        put(&mut bytes, at, value);
        Case { name, kind: Malformed, bytes }
    };
    let grain = |name, bytes: &[u8]| Case { name, kind: Malformed, bytes: stream_of(bytes) };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    io::Write::write_all(&mut gzip, &noise(65536)).unwrap();
    let packed = zlib(&noise(65536));
    let mut dictionary = packed.clone();
    put(&mut dictionary, 0, &[0x78, 0xbb]);
    refused(vec![
        grain("grain that decodes to one byte too many", &zlib(&noise(65537))),
        grain("grain that decodes to a hundred grains", &zlib(&vec![0; 100 << 16])),
        grain("grain that decodes to too few bytes", &zlib(&noise(65535))),
        grain("grain that decodes to nothing", &zlib(&[])),
        grain("grain without the header of zlib", &packed[2..]),
        grain("grain without its checksum", &packed[..packed.len() - 4]),
        grain("grain with a dictionary", &dictionary),
        grain("grain as a gzip member", &gzip.finish().unwrap()),
        with("grain in the directory", 1024, &1_u32.to_le_bytes()),
        with("grain without bytes", length, &0_u32.to_le_bytes()),
        with("grain of 4 GiB", length, &u32::MAX.to_le_bytes()),
        with("grain that runs past the end", length, &100_000_u32.to_le_bytes()),
        with("grain that is cut", length, &20_000_u32.to_le_bytes()),
        with("grain of noise", length + 4, &[0xff; 32]),
        with("grain with another checksum", length + 5000, &[0x55]),
        with("grain used twice", 1028, &128_u32.to_le_bytes()),
        with("grain whose marker is past the end", 1024, &u32::try_from(stream().len() / 512).unwrap().to_le_bytes()),
    ]);
}

#[test]
fn vmdk_footers_that_lie_are_refused() {
    // The header says that the directory is told at the end: the footer, and the marker of the stream's end.
    let good = || {
        let mut bytes = stream();
        let mut footer = bytes[..512].to_vec();
        put(&mut footer, 56, &1_u64.to_le_bytes());
        put(&mut bytes, 56, &u64::MAX.to_le_bytes());
        bytes.extend(footer);
        bytes.resize(bytes.len() + 512, 0);
        bytes
    };
    read(good(), &DiskOptions::new()).unwrap();
    let footer = |name, kind, at: usize, value: &[u8]| {
        let mut bytes = good();
        let start = bytes.len() - 1024;
        put(&mut bytes, start + at, value);
        Case { name, kind, bytes }
    };
    let cut = |name, length| Case { name, kind: Malformed, bytes: good()[..length].to_vec() };
    refused(vec![
        footer("footer without its magic number", Malformed, 0, b"VMDK"),
        footer("footer of version 9", Unsupported, 4, &9_u32.to_le_bytes()),
        footer("footer that says that it is elsewhere", Malformed, 56, &u64::MAX.to_le_bytes()),
        footer("footer with a directory past the end", Malformed, 56, &(1_u64 << 40).to_le_bytes()),
        footer("footer with a directory over the header", Malformed, 56, &0_u64.to_le_bytes()),
        footer("footer of 2^64-1 sectors", LimitExceeded, 12, &u64::MAX.to_le_bytes()),
        footer("footer with grains without sectors", Malformed, 20, &0_u64.to_le_bytes()),
        footer("footer with tables without entries", Malformed, 44, &0_u32.to_le_bytes()),
        footer("footer with an unknown compression", Unsupported, 77, &2_u16.to_le_bytes()),
        cut("file of the header alone", 512),
        cut("file that is cut before its footer", 66_000),
    ]);
}

/// A dynamic VHD of 4 MiB: the footer's copy, the second header at 512, the table at 1536 with two
/// blocks of 2 MiB, the first of which is there, from sector 4 on.
fn vhd() -> Vec<u8> {
    let mut footer = [0; 512];
    put(&mut footer, 0, b"conectix");
    put(&mut footer, 12, &be32(0x1_0000));
    put(&mut footer, 16, &be(512));
    put(&mut footer, 40, &be(4 << 20));
    put(&mut footer, 48, &be(4 << 20));
    put(&mut footer, 60, &be32(3));
    let mut header = [0; 1024];
    put(&mut header, 0, b"cxsparse");
    put(&mut header, 8, &be(u64::MAX));
    put(&mut header, 16, &be(1536));
    put(&mut header, 28, &be32(2));
    put(&mut header, 32, &be32(2 << 20));
    let mut bytes = [&footer[..], &header].concat();
    bytes.extend(be32(4));
    bytes.extend(be32(u32::MAX));
    bytes.resize(2048, 0xff);
    bytes.resize(2048 + 512, 0xff);
    bytes.extend(content(2 << 20));
    bytes.extend(footer);
    sum(&mut bytes);
    bytes
}

/// Puts the checksums right.
fn sum(bytes: &mut [u8]) {
    let end = bytes.len() - 512;
    for (start, length, at) in [(0, 512, 64), (end, 512, 64), (512, 1024, 36)] {
        let part = &mut bytes[start..start + length];
        part[at..at + 4].fill(0);
        let sum: u32 = part.iter().map(|&byte| u32::from(byte)).sum();
        put(part, at, &be32(!sum));
    }
}

#[test]
fn vhds_that_lie_are_refused() {
    read(vhd(), &DiskOptions::new()).unwrap();
    // In both copies of the footer.
    let footer = |name, kind, at: usize, value: &[u8]| {
        let mut bytes = vhd();
        let end = bytes.len() - 512;
        put(&mut bytes, at, value);
        put(&mut bytes, end + at, value);
        sum(&mut bytes);
        Case { name, kind, bytes }
    };
    let with = |name, kind, at, value: &[u8]| {
        let mut bytes = vhd();
        put(&mut bytes, at, value);
        sum(&mut bytes);
        Case { name, kind, bytes }
    };
    let damaged = |name, kind, at| {
        let mut bytes = vhd();
        bytes[at] ^= 0x55;
        Case { name, kind, bytes }
    };
    refused(vec![
        footer("differencing disk", Unsupported, 60, &be32(4)),
        footer("unknown kind", Unsupported, 60, &be32(9)),
        footer("fixed and larger than its file", Malformed, 60, &be32(2)),
        footer("virtual size of 2^64-1", Malformed, 48, &be(u64::MAX)),
        footer("virtual size over the table", Malformed, 48, &be(1 << 40)),
        footer("second header past the end", Malformed, 16, &be(1 << 40)),
        footer("second header at the end of all numbers", Malformed, 16, &be(u64::MAX - 8)),
        footer("second header somewhere else", Malformed, 16, &be(4096)),
        damaged("second header with another checksum", Malformed, 600),
        with("table past the end", Malformed, 512 + 16, &be(1 << 40)),
        with("table at the end of all numbers", Malformed, 512 + 16, &be(u64::MAX - 3)),
        with("table over the second header", Malformed, 512 + 16, &be(1024)),
        with("table of 2^32-1 entries", LimitExceeded, 512 + 28, &be32(u32::MAX)),
        with("table without entries", Malformed, 512 + 28, &be32(0)),
        with("blocks without bytes", Malformed, 512 + 32, &be32(0)),
        with("blocks of 3 MiB", Malformed, 512 + 32, &be32(3 << 20)),
        with("block past the end", Malformed, 1536, &be32(u32::MAX - 1)),
        with("block twice", Malformed, 1540, &be32(4)),
        with("block over the table", Malformed, 1536, &be32(3)),
        with("block over the second header", Malformed, 1536, &be32(1)),
    ]);
}

const VHDX_TABLE: usize = 2 << 20;
const VHDX_METADATA: usize = 3 << 20;
/// The first region, and the first item of the metadata.
const VHDX_REGION: usize = (192 << 10) + 16;
const VHDX_ITEM: usize = VHDX_METADATA + 32;
const VHDX_VALUES: usize = VHDX_METADATA + (64 << 10);
const UNKNOWN: u128 = 0x1234_5678_9abc_def0_0123_4567_89ab_cdef;

/// A dynamic VHDX of 3 MiB in blocks of 1 MiB: the log, the allocation table and the metadata have a
/// mebibyte each, behind them lie the first and the third block; the second was never written.
fn vhdx() -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    put(&mut bytes, 0, b"vhdxfile");
    for (at, sequence) in [(64 << 10, 7_u64), (128 << 10, 8)] {
        put(&mut bytes, at, b"head");
        put(&mut bytes, at + 8, &sequence.to_le_bytes());
        put(&mut bytes, at + 66, &1_u16.to_le_bytes());
        put(&mut bytes, at + 68, &(1_u32 << 20).to_le_bytes());
        put(&mut bytes, at + 72, &(1_u64 << 20).to_le_bytes());
    }
    for table in [192 << 10, 256 << 10] {
        put(&mut bytes, table, b"regi");
        put(&mut bytes, table + 8, &2_u32.to_le_bytes());
        for (number, guid, at) in [
            (0, 0x6677_c22d_23f6_0042_9d64_115e_9bfd_4a08, VHDX_TABLE),
            (1, 0x06a2_7c8b_9047_9a4b_b8fe_575f_050f_886e, VHDX_METADATA),
        ] {
            put(&mut bytes, table + 16 + 32 * number, &region(guid, at as u64, 1 << 20, 1));
        }
    }
    put(&mut bytes, VHDX_METADATA, b"metadata");
    put(&mut bytes, VHDX_METADATA + 10, &5_u16.to_le_bytes());
    let items: [(u128, &[u8]); 5] = [
        (0x3767_a1ca_36fa_434d_b3b6_33f0_aa44_e76b, &[0, 0, 16, 0, 0, 0, 0, 0]),
        (0x2442_a52f_1bcd_7648_b211_5dbe_d83b_f4b8, &[0, 0, 48, 0, 0, 0, 0, 0]),
        (0x1dbf_4181_6fa9_0947_ba47_f233_a8fa_ab5f, &[0, 2, 0, 0]),
        (0xc748_a3cd_5d44_7144_9cc9_e988_5251_c556, &[0, 16, 0, 0]),
        (0xab12_cabe_e6b2_2345_93ef_c309_e000_c746, &[7; 16]),
    ];
    for (number, (guid, value)) in items.into_iter().enumerate() {
        let item = region(guid, (64 << 10) + 8 * number as u64, 0, 6);
        put(&mut bytes, VHDX_ITEM + 32 * number, &item[..16]);
        put(&mut bytes, VHDX_ITEM + 32 * number + 16, &item[16..20]);
        put(&mut bytes, VHDX_ITEM + 32 * number + 20, &u32::try_from(value.len()).unwrap().to_le_bytes());
        put(&mut bytes, VHDX_ITEM + 32 * number + 24, &item[28..]);
        put(&mut bytes, VHDX_VALUES + 8 * number, value);
    }
    put(&mut bytes, VHDX_TABLE, &block(4, 6));
    put(&mut bytes, VHDX_TABLE + 16, &block(5, 6));
    bytes.extend(content(2 << 20));
    sum_vhdx(&mut bytes);
    bytes
}

/// An entry of a region table.
fn region(guid: u128, offset: u64, length: u32, flags: u32) -> Vec<u8> {
    [&guid.to_be_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes(), &flags.to_le_bytes()].concat()
}

/// An entry of a VHDX's allocation table.
fn block(mebibyte: u64, state: u64) -> [u8; 8] {
    (mebibyte << 20 | state).to_le_bytes()
}

/// Puts the checksums of a VHDX right.
fn sum_vhdx(bytes: &mut [u8]) {
    for (start, length) in [(64 << 10, 4 << 10), (128 << 10, 4 << 10), (192 << 10, 64 << 10), (256 << 10, 64 << 10)] {
        let part = &mut bytes[start..start + length];
        part[4..8].fill(0);
        let sum = part.iter().fold(u32::MAX, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
        });
        put(part, 4, &(!sum).to_le_bytes());
    }
}

/// A VHDX with other bytes, and the right checksums.
fn changed_vhdx(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vhdx();
    change(&mut bytes);
    sum_vhdx(&mut bytes);
    bytes
}

#[test]
fn vhdx_with_a_good_copy_of_what_is_damaged_is_read() {
    read(vhdx(), &DiskOptions::new()).unwrap();
    for at in [(64 << 10) + 100, (128 << 10) + 100, (192 << 10) + 100, (256 << 10) + 100] {
        let mut bytes = vhdx();
        bytes[at] ^= 0x55;
        read(bytes, &DiskOptions::new()).unwrap();
    }
    // The header of before has a log, and that of now has none.
    let bytes = changed_vhdx(|bytes| put(bytes, (64 << 10) + 48, &[1; 16]));
    read(bytes, &DiskOptions::new()).unwrap();
}

#[test]
fn vhdx_with_unknown_parts_that_nobody_needs_is_read() {
    let bytes = changed_vhdx(|bytes| {
        bytes.resize(7 << 20, 0);
        put(bytes, (192 << 10) + 8, &3_u32.to_le_bytes());
        put(bytes, VHDX_REGION + 64, &region(UNKNOWN, 6 << 20, 1 << 20, 0));
        put(bytes, VHDX_METADATA + 10, &6_u16.to_le_bytes());
        put(bytes, VHDX_ITEM + 160, &UNKNOWN.to_be_bytes());
    });
    read(bytes, &DiskOptions::new()).unwrap();
}

#[test]
fn vhdx_that_lacks_what_is_unknown_names_it() {
    let region = changed_vhdx(|bytes| {
        put(bytes, (192 << 10) + 8, &3_u32.to_le_bytes());
        put(bytes, VHDX_REGION + 64, &region(UNKNOWN, 6 << 20, 1 << 20, 1));
    });
    let item = changed_vhdx(|bytes| put(bytes, VHDX_ITEM + 96, &UNKNOWN.to_be_bytes()));
    for (bytes, what) in [(region, "required region"), (item, "required metadata")] {
        let error = read(bytes, &DiskOptions::new()).unwrap_err();
        assert_eq!(error.kind(), Unsupported);
        assert!(error.message().contains(what), "{error}");
        assert!(error.message().contains("78563412-bc9a-f0de-0123-456789abcdef"), "{error}");
    }
}

#[test]
fn vhdxs_that_lie_are_refused() {
    let case = |name, kind, bytes| Case { name, kind, bytes };
    let with = |name, kind, at, value: &[u8]| case(name, kind, changed_vhdx(|bytes| put(bytes, at, value)));
    let headers = |name, kind, at: usize, value: &[u8]| {
        let bytes =
            changed_vhdx(|bytes| [64 << 10, 128 << 10].iter().for_each(|header| put(bytes, header + at, value)));
        case(name, kind, bytes)
    };
    let regions = |name, kind, at: usize, value: &[u8]| {
        let bytes = changed_vhdx(|bytes| [192 << 10, 256 << 10].iter().for_each(|table| put(bytes, table + at, value)));
        case(name, kind, bytes)
    };
    let damaged = |name, places: [usize; 2]| {
        let mut bytes = vhdx();
        places.iter().for_each(|&at| bytes[at] ^= 0x55);
        case(name, Malformed, bytes)
    };
    let cut = |name, length| case(name, Malformed, vhdx()[..length].to_vec());
    let (mib, le64) = (1_u32 << 20, u64::to_le_bytes);
    refused(vec![
        damaged("both headers with another checksum", [(64 << 10) + 100, (128 << 10) + 100]),
        with("two headers of the same age that differ", Malformed, (64 << 10) + 8, &[8, 0, 0, 0, 0, 0, 0, 0, 1]),
        headers("version 2", Unsupported, 66, &2_u16.to_le_bytes()),
        headers("log that is not empty", Unsupported, 48, &[1; 16]),
        headers("log past the end", Malformed, 72, &le64(1 << 40)),
        headers("log at the end of all numbers", Malformed, 72, &le64(u64::MAX << 20)),
        headers("log at an odd place", Malformed, 72, &le64(3 << 19)),
        headers("log over the headers", Malformed, 72, &le64(0)),
        headers("log over the allocation table", Malformed, 72, &le64(VHDX_TABLE as u64)),
        damaged("both region tables with another checksum", [(192 << 10) + 100, (256 << 10) + 100]),
        regions("2048 regions", Malformed, 8, &2048_u32.to_le_bytes()),
        regions("no regions", Malformed, 8, &0_u32.to_le_bytes()),
        regions("no metadata", Malformed, 8, &1_u32.to_le_bytes()),
        regions("unknown required region", Unsupported, 16, &UNKNOWN.to_be_bytes()),
        regions(
            "allocation table twice",
            Malformed,
            48,
            &region(0x6677_c22d_23f6_0042_9d64_115e_9bfd_4a08, 3 << 20, mib, 1),
        ),
        regions("allocation table past the end", Malformed, 32, &le64(1 << 40)),
        regions("allocation table at the end of all numbers", Malformed, 32, &le64(u64::MAX << 20)),
        regions("allocation table at an odd place", Malformed, 32, &le64((2 << 20) + 512)),
        regions("allocation table without bytes", Malformed, 40, &0_u32.to_le_bytes()),
        regions("allocation table of an odd length", Malformed, 40, &(mib + 8).to_le_bytes()),
        regions("allocation table over the headers", Malformed, 32, &le64(0)),
        regions("allocation table over the metadata", Malformed, 32, &le64(VHDX_METADATA as u64)),
        regions("allocation table of 4 GiB", Malformed, 40, &(u32::MAX << 20).to_le_bytes()),
        with("metadata table without its magic number", Malformed, VHDX_METADATA, b"METADATA"),
        with("2048 items of metadata", Malformed, VHDX_METADATA + 10, &2048_u16.to_le_bytes()),
        with("no items of metadata", Malformed, VHDX_METADATA + 10, &0_u16.to_le_bytes()),
        with("no virtual size", Malformed, VHDX_METADATA + 10, &1_u16.to_le_bytes()),
        with("no sector size", Malformed, VHDX_METADATA + 10, &2_u16.to_le_bytes()),
        with("unknown required metadata", Unsupported, VHDX_ITEM + 96, &UNKNOWN.to_be_bytes()),
        with("virtual size twice", Malformed, VHDX_ITEM + 96, &vhdx()[VHDX_ITEM + 32..VHDX_ITEM + 64]),
        with("virtual size past the region", Malformed, VHDX_ITEM + 48, &(mib - 4).to_le_bytes()),
        with("virtual size at the end of all numbers", Malformed, VHDX_ITEM + 48, &u32::MAX.to_le_bytes()),
        with("virtual size in the table", Malformed, VHDX_ITEM + 48, &8_u32.to_le_bytes()),
        with("virtual size of 4 bytes", Malformed, VHDX_ITEM + 52, &4_u32.to_le_bytes()),
        with("parent by its flag", Unsupported, VHDX_VALUES + 4, &[2]),
        with(
            "parent by its place",
            Unsupported,
            VHDX_ITEM + 96,
            &0x2d5f_d3a8_0bb3_4d45_abf7_d3d8_4834_ab0c_u128.to_be_bytes(),
        ),
        with("blocks without bytes", Malformed, VHDX_VALUES, &0_u32.to_le_bytes()),
        with("blocks of 512 KiB", Malformed, VHDX_VALUES, &(mib / 2).to_le_bytes()),
        with("blocks of 3 MiB", Malformed, VHDX_VALUES, &(3 * mib).to_le_bytes()),
        with("blocks of 512 MiB", Malformed, VHDX_VALUES, &(512 * mib).to_le_bytes()),
        with("sectors of 1024 bytes", Malformed, VHDX_VALUES + 16, &1024_u32.to_le_bytes()),
        with("sectors without bytes", Malformed, VHDX_VALUES + 16, &0_u32.to_le_bytes()),
        with("size of half a sector", Malformed, VHDX_VALUES + 8, &le64((3 << 20) + 256)),
        with("virtual size over the table", Malformed, VHDX_VALUES + 8, &le64(1 << 38)),
        with("virtual size over the limit of tables", LimitExceeded, VHDX_VALUES + 8, &le64(1 << 50)),
        with("virtual size of 2^63", LimitExceeded, VHDX_VALUES + 8, &le64(1 << 63)),
        with("virtual size of 2^64-512", LimitExceeded, VHDX_VALUES + 8, &le64(u64::MAX - 511)),
        with("block past the end", Malformed, VHDX_TABLE, &block(6, 6)),
        with("block at the end of all numbers", Malformed, VHDX_TABLE, &block((1 << 44) - 1, 6)),
        with("block twice", Malformed, VHDX_TABLE, &block(5, 6)),
        with("block over the headers", Malformed, VHDX_TABLE, &block(0, 6)),
        with("block over the log", Malformed, VHDX_TABLE, &block(1, 6)),
        with("block over the allocation table", Malformed, VHDX_TABLE, &block(2, 6)),
        with("block over the metadata", Malformed, VHDX_TABLE, &block(3, 6)),
        with("block that is partly in a parent", Malformed, VHDX_TABLE, &block(4, 7)),
        with("block in the unknown state 4", Malformed, VHDX_TABLE, &block(4, 4)),
        cut("identifier alone", 8),
        cut("file cut between the headers and the regions", 150 << 10),
        cut("file cut before the metadata", 3 << 20),
        cut("file cut in its last block", (6 << 20) - 512),
    ]);
}

#[test]
fn archives_that_are_no_appliance_are_refused() {
    let tar = |members: &[(&str, &[u8])]| {
        let mut bytes = Vec::new();
        for (name, content) in members {
            let mut header = [0; 512];
            put(&mut header, 0, name.as_bytes());
            put(&mut header, 100, b"0000644\0");
            put(&mut header, 124, format!("{:011o}\0", content.len()).as_bytes());
            put(&mut header, 148, b"        ");
            header[156] = b'0';
            put(&mut header, 257, b"ustar\x0000");
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
            bytes.extend(header);
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    };
    let ovf = |disk: &str| format!("<Envelope><File id='f' href='{disk}'/><Disk fileRef='f'/></Envelope>").into_bytes();
    read(tar(&[("a.ovf", &ovf("a.vmdk")), ("a.vmdk", &vmdk())]), &DiskOptions::new()).unwrap();
    let case = |name, kind, bytes| Case { name, kind, bytes };
    let mut cut = tar(&[("a.ovf", &ovf("a.vmdk")), ("a.vmdk", &vmdk())]);
    cut.truncate(cut.len() - 70_000);
    let two = b"<Envelope><File id='f' href='a.vmdk'/><Disk fileRef='f'/><Disk fileRef='f'/></Envelope>";
    refused(vec![
        case("no descriptor", Unsupported, tar(&[("a.vmdk", &vmdk())])),
        case("no disk in the descriptor", Malformed, tar(&[("a.ovf", b"<Envelope/>")])),
        case("disk that is not there", Malformed, tar(&[("a.ovf", &ovf("b.vmdk")), ("a.vmdk", &vmdk())])),
        case("disk outside", Malformed, tar(&[("a.ovf", &ovf("../../etc/shadow"))])),
        case("two disks", Unsupported, tar(&[("a.ovf", two), ("a.vmdk", &vmdk())])),
        case("disk in no known format", Unsupported, tar(&[("a.ovf", &ovf("a.img")), ("a.img", &[1; 4096])])),
        case(
            "appliance in the appliance",
            Unsupported,
            tar(&[("a.ovf", &ovf("b.ova")), ("b.ova", &tar(&[("x", b"y")]))]),
        ),
        case("descriptor over the limit", LimitExceeded, tar(&[("a.ovf", &vec![b' '; 2 << 20])])),
        case("archive that is cut", Malformed, cut),
    ]);
}

#[test]
fn any_byte_of_a_good_disk_may_change() {
    // Where headers and tables are, which are changed more often than data.
    let disks = [
        (Good::new(ClusterCompression::None).bytes, 0),
        (Good::new(ClusterCompression::Zlib(6)).bytes, 0),
        (Good::new(ClusterCompression::Zstd(3)).bytes, 0),
        (vmdk(), 0),
        (stream(), 0),
        (vhd(), 0),
        (vhdx(), VHDX_METADATA),
    ];
    let mut numbers = super::scratch::Numbers(1);
    for (bytes, tables) in disks {
        let begun = Instant::now();
        for _ in 0..60 {
            let mut bytes = bytes.clone();
            let (start, bound) =
                if numbers.below(3) == 0 { (0, bytes.len()) } else { (tables, bytes.len().min(20_000)) };
            for _ in 0..=numbers.below(4) {
                let at = start + usize::try_from(numbers.below(bound as u64)).unwrap();
                bytes[at] = u8::try_from(numbers.below(256)).unwrap();
            }
            let _ = read(bytes, &DiskOptions::new());
        }
        assert!(begun.elapsed() < Duration::from_secs(120));
    }
}

#[test]
fn raw_disk_of_any_bytes_is_read() {
    read(content(70_001), &DiskOptions::new().format(DiskFormat::Raw)).unwrap();
}
