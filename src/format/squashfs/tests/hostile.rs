//! Images that lie: each a good one with some bytes changed, each refused for its own reason.
//! The cases are those on SquashFS in the project's list of hostile inputs.

use std::io::Cursor;

use super::super::extract::{ExtractSink, FileTarget, extract};
use super::super::reader::SquashFsReader;
use super::super::superblock::METADATA_BLOCK;
use super::super::write::{Tails, WriteOptions, Writer};
use super::peers::text;
use super::trees::Scratchpad;
use super::writing::compressions;
use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::entry::{Entry, EntryKind};
use crate::format::{Image, ImageSource, Input, UnpackOptions, VerifyOptions};
use crate::limits::Limits;
use crate::progress::{Cancel, Monitor};

/// Takes everything and keeps nothing.
pub(super) struct Nowhere;

impl ExtractSink for Nowhere {
    type Target = Self;

    fn entry(&mut self, _: &Entry) -> Result<Option<Self>> {
        Ok(Some(Self))
    }
}

impl FileTarget for Nowhere {
    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// Opens, walks and decodes everything.
pub(super) fn unpack_all(image: Vec<u8>, limits: &Limits) -> Result<()> {
    extract(&SquashFsReader::open(image, limits)?, &mut Nowhere, 1, &Monitor::none()).map(drop)
}

/// A good image with stored tables, to be changed.
struct Forged(Vec<u8>);

const SMALL: EntryKind = EntryKind::File { size: 100 };
const BLOCK: u32 = 4096;

/// Fields of the superblock: where, and how many bytes.
const INODES: (usize, usize) = (4, 4);
const BLOCK_SIZE: (usize, usize) = (12, 4);
const FRAGMENTS: (usize, usize) = (16, 4);
const COMPRESSOR: (usize, usize) = (20, 2);
const BLOCK_LOG: (usize, usize) = (22, 2);
const IDS: (usize, usize) = (26, 2);
const MAJOR: (usize, usize) = (28, 2);
const ROOT: (usize, usize) = (32, 8);
const USED: (usize, usize) = (40, 8);
const ID_TABLE: (usize, usize) = (48, 8);
const XATTR_TABLE: (usize, usize) = (56, 8);
const INODE_TABLE: (usize, usize) = (64, 8);
const DIRECTORY_TABLE: (usize, usize) = (72, 8);
const FRAGMENT_TABLE: (usize, usize) = (80, 8);
const EXPORT_TABLE: (usize, usize) = (88, 8);

fn good() -> Option<Forged> {
    let compression = *compressions().first()?;
    let options = WriteOptions { block_size: BLOCK, stored: true, tails: Tails::All, ..WriteOptions::new(compression) };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    for (name, seed) in [("zz_evil", 1), ("etc/hostname", 2)] {
        writer.push_file(&Entry::new(name, SMALL, 0o644), &mut text(seed, 100).as_slice()).unwrap();
    }
    let big = EntryKind::File { size: 10_000 };
    writer.push_file(&Entry::new("big", big, 0o644), &mut text(3, 10_000).as_slice()).unwrap();
    let link = EntryKind::Symlink { target: b"/outside/of/it".to_vec() };
    writer.push(&Entry::new("dup1", link, 0o777)).unwrap();
    let mut directory = Entry::new("dup2", EntryKind::Directory, 0o755);
    directory.xattrs = vec![(b"user.mark".to_vec(), b"MARKED".to_vec())];
    writer.push(&directory).unwrap();
    writer.push_file(&Entry::new("dup2/pwn", SMALL, 0o644), &mut text(1, 100).as_slice()).unwrap();
    writer.push(&Entry::new("loop", EntryKind::Directory, 0o755)).unwrap();
    writer.push(&Entry::new("loop/inner", EntryKind::Directory, 0o755)).unwrap();
    let mut owned = Entry::new("owned", EntryKind::Fifo, 0o600);
    owned.uid = 0x5eed_0001;
    writer.push(&owned).unwrap();
    Some(Forged(writer.finish().unwrap().0.into_inner()))
}

impl Forged {
    fn get(&self, (at, length): (usize, usize)) -> u64 {
        self.0[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn set(mut self, (at, length): (usize, usize), value: u64) -> Self {
        self.0[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
        self
    }

    fn add(self, field: (usize, usize), more: i64) -> Self {
        let value = self.get(field).wrapping_add_signed(more);
        self.set(field, value)
    }

    /// Where `bytes` stand, from the table on that `table` points to.
    fn find(&self, table: (usize, usize), bytes: &[u8]) -> usize {
        let start = usize::try_from(self.get(table)).unwrap();
        start + self.0[start..].windows(bytes.len()).position(|window| window == bytes).unwrap()
    }

    fn swap(mut self, table: (usize, usize), old: &[u8], new: &[u8]) -> Self {
        assert_eq!(old.len(), new.len());
        let at = self.find(table, old);
        self.0[at..at + new.len()].copy_from_slice(new);
        self
    }

    /// Where the inode stands that the directory entry `name` points to. All tables are one block.
    fn inode(&self, name: &[u8]) -> usize {
        let entry = self.find(DIRECTORY_TABLE, name) - 8;
        let offset = usize::from(u16::from_le_bytes([self.0[entry], self.0[entry + 1]]));
        usize::try_from(self.get(INODE_TABLE)).unwrap() + 2 + offset
    }

    fn gives(self, what: &str, kinds: &[ErrorKind]) {
        match unpack_all(self.0, &Limits::default()) {
            Ok(()) => panic!("{what}: accepted"),
            Err(error) => assert!(kinds.contains(&error.kind()), "{what}: {error:?}"),
        }
    }
}

const BAD: &[ErrorKind] = &[ErrorKind::Malformed];
const UNSAFE: &[ErrorKind] = &[ErrorKind::UnsafePath];

#[test]
fn image_that_the_others_are_made_of_is_good() {
    if let Some(image) = good() {
        unpack_all(image.0, &Limits::default()).unwrap();
    }
}

#[test]
fn names_that_lead_elsewhere_are_unsafe() {
    // Row 107.
    for name in [b"../pwn1", b"zz/evil", b"zz_\0vil", b"/z_evil"] {
        let Some(image) = good() else { return };
        image.swap(DIRECTORY_TABLE, b"zz_evil", name).gives("a name", UNSAFE);
    }
    for name in [b"..".as_slice(), b"."] {
        let image = good().unwrap();
        let entry = image.find(DIRECTORY_TABLE, b"zz_evil");
        // The last of its listing: a shorter name leaves bytes over, which is judged after the name.
        let image = image.set((entry - 2, 2), name.len() as u64 - 1);
        image.swap(DIRECTORY_TABLE, &b"zz_evil"[..name.len()], name).gives("dots", UNSAFE);
    }
}

#[test]
fn link_and_a_directory_of_one_name_are_unsafe() {
    // Row 108; 109 is that the link itself is kept.
    let Some(image) = good() else { return };
    let target = SquashFsReader::open(image.0.clone(), &Limits::default()).unwrap().find(b"dup1").unwrap().entry.kind;
    assert_eq!(target, EntryKind::Symlink { target: b"/outside/of/it".to_vec() });
    image.swap(DIRECTORY_TABLE, b"dup2", b"dup1").gives("twice", UNSAFE);
    good().unwrap().swap(DIRECTORY_TABLE, b"dup1", b"dup3").gives("unsorted", BAD);
}

#[test]
fn cut_image_is_malformed_wherever_it_is_cut() {
    // Row 110.
    let Some(image) = good() else { return };
    let used = usize::try_from(image.get(USED)).unwrap();
    for length in (0..used).step_by(7) {
        Forged(image.0[..length].to_vec()).gives("cut", BAD);
    }
    unpack_all(image.0[..used].to_vec(), &Limits::default()).unwrap();
}

#[test]
fn tables_outside_the_file_or_out_of_order_are_malformed() {
    // Rows 111 and 118.
    let tables = [INODE_TABLE, DIRECTORY_TABLE, FRAGMENT_TABLE, EXPORT_TABLE, ID_TABLE, XATTR_TABLE];
    for table in tables {
        let Some(image) = good() else { return };
        let used = image.get(USED);
        for place in [0, 95, used - 1, used, used + 1, 1 << 40, u64::MAX - 1, u64::MAX - 7] {
            good().unwrap().set(table, place).gives(&format!("{table:?} at {place}"), BAD);
        }
    }
    for (one, other) in tables.iter().zip(&tables[1..]) {
        let image = good().unwrap();
        let (first, second) = (image.get(*one), image.get(*other));
        image.set(*one, second).set(*other, first).gives("swapped", BAD);
    }
    for used in [0, 95, 96, u64::MAX] {
        good().unwrap().set(USED, used).gives("used", BAD);
    }
    good().unwrap().add(USED, 1 << 20).gives("used over the file", BAD);
}

#[test]
fn root_inode_outside_the_table_or_of_another_kind_is_malformed() {
    // Row 112.
    for root in [u64::MAX, 1 << 40, 0xffff, 8191, 1 << 16, 9 << 16] {
        let Some(image) = good() else { return };
        image.set(ROOT, root).gives(&format!("root {root:x}"), BAD);
    }
    let image = good().unwrap();
    let offset = image.inode(b"zz_evil") as u64 - image.get(INODE_TABLE) - 2;
    image.set(ROOT, offset).gives("a file as root", BAD);
}

#[test]
fn superblocks_that_make_no_sense_are_refused() {
    // Rows 113, 114, 116 and 117.
    for (size, log) in [(0, 0), (1, 0), (5000, 12), (2048, 11), (2 << 20, 21), (u64::from(u32::MAX), 31), (4096, 13)] {
        let Some(image) = good() else { return };
        image.set(BLOCK_SIZE, size).set(BLOCK_LOG, log).gives(&format!("block {size}"), BAD);
    }
    for compressor in [0, 7, 65535] {
        good().unwrap().set(COMPRESSOR, compressor).gives("compressor", &[ErrorKind::Unsupported]);
    }
    good().unwrap().set(IDS, 0).gives("no ids", BAD);
    good().unwrap().set(IDS, 65535).gives("ids that are not there", BAD);
    good().unwrap().set(MAJOR, 3).gives("version", &[ErrorKind::Unsupported]);
    good().unwrap().set((0, 4), 0).gives("magic", BAD);
}

#[test]
fn counts_of_four_billion_allocate_nothing() {
    // Row 115.
    let Some(image) = good() else { return };
    image.set(FRAGMENTS, u64::from(u32::MAX)).gives("fragments", BAD);
    good().unwrap().set(INODES, u64::from(u32::MAX)).gives("inodes, with an export table", BAD);
    let none = good().unwrap().set(EXPORT_TABLE, u64::MAX).set(INODES, u64::from(u32::MAX));
    unpack_all(none.0, &Limits::default()).unwrap();
    good().unwrap().set(FRAGMENTS, 0).gives("fewer fragments than files say", BAD);
}

#[test]
fn directory_that_contains_itself_is_entered_once() {
    // Row 119: the inner directory's entry points to the outer one's inode.
    let Some(image) = good() else { return };
    let (outer, inner) = (image.find(DIRECTORY_TABLE, b"loop") - 8, image.find(DIRECTORY_TABLE, b"inner") - 8);
    let outer = u64::from(u16::from_le_bytes([image.0[outer], image.0[outer + 1]]));
    image.set((inner, 2), outer).gives("a loop", BAD);
}

#[test]
fn files_that_their_blocks_do_not_cover_are_malformed() {
    // Row 120. The basic file inode: 16 bytes of header, start, fragment, offset, size, blocks.
    let Some(image) = good() else { return };
    let big = image.inode(b"big");
    for size in [8_191u64, 10_001, 12_288, 1 << 31] {
        let kinds = [ErrorKind::Malformed, ErrorKind::LimitExceeded];
        good().unwrap().set((big + 28, 4), size).gives(&format!("size {size}"), &kinds);
    }
    good().unwrap().set((big + 16, 4), u64::from(u32::MAX)).gives("start", BAD);
    good().unwrap().set((big + 20, 4), 77).gives("fragment number", BAD);
    good().unwrap().set((big + 24, 4), 4000).gives("fragment offset", BAD);
    good().unwrap().set((big + 24, 4), u64::from(u32::MAX)).gives("fragment offset", BAD);
    for word in [1 << 24, 4097, 4097 | 1 << 24, 0x00ff_ffff, u64::from(u32::MAX), 100 | 1 << 24] {
        good().unwrap().set((big + 32, 4), word).gives(&format!("block {word:x}"), BAD);
    }
}

#[test]
fn inodes_of_no_kind_of_another_kind_or_without_owner_are_malformed() {
    let Some(image) = good() else { return };
    let evil = image.inode(b"zz_evil");
    for kind in [0, 1, 3, 15, 65535] {
        good().unwrap().set((evil, 2), kind).gives("kind", BAD);
    }
    good().unwrap().set((evil + 4, 2), 60_000).gives("uid number", BAD);
    let owner = 0x5eed_0001u32.to_le_bytes();
    let nobody = good().unwrap().swap(EXPORT_TABLE, &owner, &u32::MAX.to_le_bytes());
    nobody.gives("an owner of 2^32 - 1", BAD);
    let link = image.inode(b"dup1");
    good().unwrap().set((link + 20, 4), 0).gives("a link without target", BAD);
    good().unwrap().set((link + 20, 4), 5000).gives("a long target", &[ErrorKind::LimitExceeded]);
    good().unwrap().set((link + 24, 1), 0).gives("a target with NUL", BAD);
}

#[test]
fn metadata_blocks_that_claim_or_give_too_much_are_malformed() {
    // Row 121.
    let Some(image) = good() else { return };
    let block = usize::try_from(image.get(INODE_TABLE)).unwrap();
    for header in [0, 0x8000, 0x8000 | 8193, 0xffff, 8193, 8192] {
        good().unwrap().set((block, 2), header).gives(&format!("header {header:x}"), BAD);
    }
    #[cfg(feature = "gzip")]
    {
        use std::io::Write;
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(9));
        packed.write_all(&vec![0; METADATA_BLOCK + 1]).unwrap();
        let packed = packed.finish().unwrap();
        let mut image = good().unwrap().set((block, 2), packed.len() as u64);
        image.0[block + 2..block + 2 + packed.len()].copy_from_slice(&packed);
        image.gives("more than 8 KiB", BAD);
    }
    let _ = METADATA_BLOCK;
}

#[test]
fn extended_attributes_out_of_range_are_malformed() {
    // Row 122. The extended directory inode ends with the number of its set.
    let Some(image) = good() else { return };
    let directory = image.inode(b"dup2");
    for set in [1, 77, u64::from(u32::MAX) - 1] {
        good().unwrap().set((directory + 36, 4), set).gives("set", BAD);
    }
    let pair = image.find(ID_TABLE, b"mark\x06\0\0\0MARKED") - 4;
    good().unwrap().set((pair, 2), 3).gives("kind", BAD);
    good().unwrap().set((pair, 2), 0x200).gives("kind", BAD);
    good().unwrap().set((pair, 2), 0x100).gives("a value elsewhere that is none", BAD);
    good().unwrap().set((pair + 2, 2), 0).gives("an empty name", BAD);
    good().unwrap().set((pair + 2, 2), 251).gives("a long name", &[ErrorKind::LimitExceeded]);
    good().unwrap().set((pair + 4, 1), 0).gives("a name with NUL", BAD);
    good().unwrap().set((pair + 8, 4), 1 << 20).gives("a long value", &[ErrorKind::LimitExceeded]);
    good().unwrap().set((pair + 8, 4), 5000).gives("a value over the table", BAD);
    let table = usize::try_from(image.get(XATTR_TABLE)).unwrap();
    for count in [0, 600, u64::from(u32::MAX)] {
        good().unwrap().set((table + 8, 4), count).gives("sets", BAD);
    }
    for start in [0, u64::MAX, image.get(USED)] {
        good().unwrap().set((table, 8), start).gives("start of the pairs", BAD);
        good().unwrap().set((table + 16, 8), start).gives("place of the sets", BAD);
    }
    good().unwrap().set(XATTR_TABLE, u64::MAX).gives("a set without a table", BAD);
}

#[test]
fn limits_are_named_when_they_are_reached() {
    let Some(image) = good() else { return };
    for (name, value) in [
        ("entries", 5),
        ("path", 5),
        ("component", 5),
        ("link_target", 5),
        ("file_size", 5000),
        ("output", 5000),
        ("xattr_value", 5),
        ("xattr_name", 5),
        ("squashfs_block", 2048),
    ] {
        let mut limits = Limits::default();
        limits.set(name, value).unwrap();
        let error = unpack_all(image.0.clone(), &limits).unwrap_err();
        assert_eq!(error.limit_name(), Some(name), "{error:?}");
    }
}

/// What verifying and unpacking say of a unified image, each for itself.
fn verdicts(bytes: &[u8], limits: &Limits) -> (Result<Fingerprint>, Result<Fingerprint>) {
    let home = Scratchpad::new("verdicts");
    let path = home.join("image");
    std::fs::write(&path, bytes).unwrap();
    let open = || Image::open_with(ImageSource::unified(Input::open(&path).unwrap()), limits).unwrap();
    let verified = open().verify(&VerifyOptions::new(), &Monitor::none()).and_then(|mut verified| {
        let fingerprint = verified.fingerprint;
        verified.findings.drain(..).next().map_or(Ok(fingerprint), Err)
    });
    let options = UnpackOptions::new().skip_devices(true);
    let unpacked = open().unpack_unverified(home.join("out"), &options, &Monitor::none());
    (verified, unpacked.map(|unpacked| unpacked.fingerprint))
}

/// A unified image with a file of 10,000 bytes that is no part of it, and one with a hole that is.
fn with_a_stray() -> Option<Forged> {
    let compression = *compressions().first()?;
    let options = WriteOptions { block_size: BLOCK, stored: true, tails: Tails::All, ..WriteOptions::new(compression) };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    let metadata = b"architecture: x86_64\ncreation_date: 1\n";
    let file = |size| EntryKind::File { size };
    let mut push = |name: &str, content: &[u8]| {
        writer.push_file(&Entry::new(name, file(content.len() as u64), 0o644), &mut &*content).unwrap();
    };
    push("metadata.yaml", metadata);
    let mut part = text(4, 10_000);
    part[4096..8192].fill(0);
    push("rootfs/part", &part);
    push("zz_stray", &text(5, 10_000));
    Some(Forged(writer.finish().unwrap().0.into_inner()))
}

#[test]
fn verifying_and_unpacking_judge_what_is_no_part_of_an_image_alike() {
    let limits = Limits::default();
    let Some(image) = with_a_stray() else { return };
    let (verified, unpacked) = verdicts(&image.0, &limits);
    assert_eq!(verified.unwrap(), unpacked.unwrap());
    // The tail of what neither of them reads is outside of its fragment block.
    let stray = image.inode(b"zz_stray");
    let (verified, unpacked) = verdicts(&image.set((stray + 24, 4), 4000).0, &limits);
    assert_eq!(verified.unwrap(), unpacked.unwrap());
    // The same of what both do.
    let image = with_a_stray().unwrap();
    let part = image.inode(b"part");
    let (verified, unpacked) = verdicts(&image.set((part + 24, 4), 4000).0, &limits);
    assert_eq!((verified.unwrap_err().kind(), unpacked.unwrap_err().kind()), (BAD[0], BAD[0]));
}

#[test]
fn verifying_and_unpacking_count_files_and_segments_alike() {
    let Some(image) = with_a_stray() else { return };
    for (name, value) in [("file_size", 15_000), ("sparse_segments", 1)] {
        let mut limits = Limits::default();
        limits.set(name, value).unwrap();
        let (verified, unpacked) = verdicts(&image.0, &limits);
        assert_eq!(verified.unwrap_err().limit_name(), Some(name));
        assert_eq!(unpacked.unwrap_err().limit_name(), Some(name));
    }
}

#[test]
fn cancelled_call_stops() {
    let Some(image) = good() else { return };
    let cancel = Cancel::new();
    cancel.cancel();
    let reader = SquashFsReader::open(image.0, &Limits::default()).unwrap();
    for threads in [1, 3] {
        let monitor = Monitor::none().with_cancel(cancel.clone());
        let error = extract(&reader, &mut Nowhere, threads, &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn codec_that_is_compiled_out_is_named() {
    use super::super::superblock::{SquashFsCompression as Compression, Superblock};
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Lz4] {
        let superblock = Superblock {
            inodes: 1,
            mkfs_time: 0,
            block_size: BLOCK,
            fragments: 0,
            compression,
            flags: 0,
            ids: 1,
            root: 0,
            bytes_used: 4096,
            id_table: 300,
            xattr_table: None,
            inode_table: 96,
            directory_table: 200,
            fragment_table: None,
            export_table: None,
        };
        let mut image = superblock.encode().to_vec();
        image.resize(4096, 0);
        let error = SquashFsReader::open(image, &Limits::default()).err().unwrap();
        if compressions().contains(&compression) {
            assert_eq!(error.kind(), ErrorKind::Malformed);
        } else {
            assert_eq!(error.kind(), ErrorKind::FeatureDisabled);
            assert!(error.message().contains(compression.name()), "{error}");
        }
    }
}
