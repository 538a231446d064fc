//! Any bytes as a disk: read at positions, written as raw and as qcow2, and each way shows the same disk.
#![no_main]

use std::io;
use std::sync::Mutex;

use libfuzzer_sys::{Corpus, fuzz_target};
use lxd_image::Monitor;
use lxd_image::disk::{
    ClusterCompression, DiskFormat, DiskImage, DiskOptions, DiskTarget, ExtentKind, Qcow2WriteOptions, RawWriteOptions,
};
use lxd_image::io::{Blob, ReadAt};

/// The largest disk of a run: a fuzzer learns nothing from the second mebibyte.
const MOST: u64 = 8 << 20;

/// A disk in memory.
#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("no writer panicked")
    }
}

impl DiskTarget for Memory {
    fn write_bytes(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut all = self.0.lock().expect("no writer panicked");
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        assert!(end as u64 <= 4 * MOST, "more is written than the disk can need");
        if all.len() < end {
            all.resize(end, 0);
        }
        all[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        assert!(size <= 4 * MOST, "a larger disk than the limits allow");
        self.0.lock().expect("no writer panicked").resize(usize::try_from(size).map_err(io::Error::other)?, 0);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    // The first byte chooses the format that the caller asks for, if any. A VHDX is put together out of its parts.
    let Some((&mode, data)) = data.split_first() else { return Corpus::Reject };
    let mut limits = lxd_image_fuzz::limits();
    limits.qcow2_size = MOST;
    limits.file_size = MOST;
    limits.output = MOST;
    let mut options = DiskOptions::new().limits(limits);
    let asked = DiskFormat::ALL.get(usize::from(mode));
    if let Some(format) = asked {
        options = options.format(*format);
    }
    let file = if asked == Some(&DiskFormat::Vhdx) { lxd_image_fuzz::vhdx(data) } else { data.to_vec() };
    let Ok(disk) = DiskImage::open(Blob::from(file), &options) else { return Corpus::Keep };
    assert!(disk.virtual_size() <= MOST, "a larger disk than the limits allow");
    let monitor = Monitor::none();

    let raw = Memory::default();
    let written = disk.write_raw(&raw, &RawWriteOptions::new().threads(1), &monitor);
    let Ok(extents) = disk.extents() else {
        assert!(written.is_err(), "tables that don't hold together are written");
        return Corpus::Keep;
    };
    let mut extents_hold = true;
    let mut end = 0;
    let mut holes = Vec::new();
    for extent in extents {
        let Ok(extent) = extent else {
            extents_hold = false;
            break;
        };
        assert_eq!(extent.offset, end, "extents follow each other");
        assert!(extent.length > 0, "an extent of nothing");
        end += extent.length;
        if extent.kind != ExtentKind::Data {
            holes.push(extent);
        }
    }
    if written.is_err() {
        return Corpus::Keep;
    }
    assert!(extents_hold, "tables that don't hold together are written");
    assert_eq!(end, disk.virtual_size(), "extents are the whole disk");
    let raw = raw.bytes();
    assert_eq!(raw.len() as u64, disk.virtual_size(), "a raw disk is as long as the disk");
    for hole in holes {
        let range = hole.offset as usize..(hole.offset + hole.length) as usize;
        assert!(raw[range].iter().all(|&byte| byte == 0), "a hole is zeros");
    }
    let mut read = vec![0; raw.len()];
    disk.read_exact_at(&mut read, 0).expect("what was written can be read");
    assert!(read == raw, "reading and writing show two disks");

    let compression = if mode & 1 == 0 { ClusterCompression::None } else { ClusterCompression::default() };
    let qcow2 = Memory::default();
    let options = Qcow2WriteOptions::new().threads(1).cluster_size(4096).compression(compression);
    disk.write_qcow2(&qcow2, &options, &monitor).expect("a disk that is read can be written");
    let again = DiskImage::open(Blob::from(qcow2.bytes()), &DiskOptions::new()).expect("what is written can be opened");
    // As documented: to whole sectors.
    assert_eq!(again.virtual_size(), (raw.len() as u64).next_multiple_of(512), "qcow2 keeps the size");
    let mut read = vec![0; again.virtual_size() as usize];
    again.read_exact_at(&mut read, 0).expect("what is written can be read");
    let (disk, padding) = read.split_at(raw.len());
    assert!(disk == raw && padding.iter().all(|&byte| byte == 0), "qcow2 shows another disk");
    Corpus::Keep
});
