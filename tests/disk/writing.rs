//! What is written: equal content for every option, equal bytes for every number of threads, and
//! `qemu-img` finds nothing wrong with it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use lxd_image::disk::{ClusterCompression, DiskFormat, DiskImage, DiskOptions, ExtentKind, Qcow2WriteOptions};
use lxd_image::io::{Blob, ReadAt};
use lxd_image::{Cancel, ErrorKind, Monitor};

use super::scratch::{Scratch, content, have_qemu, open, open_raw, qemu, raw, to_qcow2, to_raw};

fn every_option() -> Vec<Qcow2WriteOptions> {
    let mut options = Vec::new();
    for size in [512, 4096, 1 << 16, 1 << 18, 2 << 20] {
        for compression in [ClusterCompression::None, ClusterCompression::Zlib(6), ClusterCompression::Zstd(3)] {
            options.push(Qcow2WriteOptions::new().cluster_size(size).compression(compression));
        }
    }
    options.push(Qcow2WriteOptions::new().compression(ClusterCompression::Zlib(1)));
    options.push(Qcow2WriteOptions::new().compression(ClusterCompression::Zlib(9)));
    options.push(Qcow2WriteOptions::new().compression(ClusterCompression::Zstd(1)));
    options.push(Qcow2WriteOptions::new().compression(ClusterCompression::Zstd(19)));
    options
}

#[test]
fn qcow2_of_every_option_reads_as_its_source() {
    let place = Scratch::new();
    let bytes = content(5_000_192);
    let source = raw(bytes.clone());
    for options in every_option() {
        to_qcow2(&source, &place.at("disk.qcow2"), &options);
        let disk = open(&place.at("disk.qcow2")).unwrap();
        assert_eq!(disk.virtual_size(), bytes.len() as u64, "{options:?}");
        assert!(to_raw(&disk, &place.at("back")).unwrap() == bytes, "{options:?}");
        let mut whole = vec![1; bytes.len()];
        disk.read_exact_at(&mut whole, 0).unwrap();
        assert!(whole == bytes, "{options:?}");
    }
}

#[test]
fn qemu_finds_nothing_wrong_with_qcow2_of_every_option() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let bytes = content(5_000_192);
    let source = place.write("raw", &bytes);
    for options in every_option() {
        to_qcow2(&open_raw(&source), &place.at("disk.qcow2"), &options);
        let (disk, source) = (place.at("disk.qcow2").display().to_string(), source.display().to_string());
        let told = qemu(&["check", "-f", "qcow2", &disk]);
        assert!(told.contains("No errors were found"), "{options:?}: {told}");
        qemu(&["compare", "-f", "raw", "-F", "qcow2", &source, &disk]);
    }
}

#[test]
fn qcow2_bytes_do_not_depend_on_threads() {
    let place = Scratch::new();
    let source = raw(content(20_000_000));
    for compression in [ClusterCompression::None, ClusterCompression::Zlib(6), ClusterCompression::Zstd(3)] {
        let options = Qcow2WriteOptions::new().compression(compression);
        to_qcow2(&source, &place.at("one"), &options.clone().threads(1));
        for threads in [2, 3, 16] {
            to_qcow2(&source, &place.at("many"), &options.clone().threads(threads));
            assert!(std::fs::read(place.at("one")).unwrap() == std::fs::read(place.at("many")).unwrap(), "{threads}");
        }
    }
}

#[test]
fn qcow2_bytes_do_not_depend_on_the_format_they_come_from() {
    let place = Scratch::new();
    let source = raw(content(3_000_320));
    let options = Qcow2WriteOptions::new();
    to_qcow2(&source, &place.at("direct"), &options);
    to_qcow2(
        &source,
        &place.at("between"),
        &Qcow2WriteOptions::new().compression(ClusterCompression::None).cluster_size(512),
    );
    to_qcow2(&open(&place.at("between")).unwrap(), &place.at("twice"), &options);
    assert!(std::fs::read(place.at("direct")).unwrap() == std::fs::read(place.at("twice")).unwrap());
}

#[test]
fn virtual_size_is_rounded_up_to_a_sector() {
    let place = Scratch::new();
    for (size, expected) in [(0, 0), (1, 512), (511, 512), (512, 512), (70_001, 70_144)] {
        to_qcow2(&raw(content(size)), &place.at("disk"), &Qcow2WriteOptions::new());
        assert_eq!(open(&place.at("disk")).unwrap().virtual_size(), expected);
        if have_qemu() {
            qemu(&["check", "-f", "qcow2", &place.at("disk").display().to_string()]);
        }
    }
}

#[test]
fn disk_of_many_refcount_blocks_is_sound() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    // 512-byte clusters have a block of counts for each 128 KiB of the file.
    let source = place.write("raw", &content(12_000_256));
    for compression in [ClusterCompression::None, ClusterCompression::Zlib(6)] {
        let options = Qcow2WriteOptions::new().cluster_size(512).compression(compression);
        to_qcow2(&open_raw(&source), &place.at("disk"), &options);
        let disk = place.at("disk").display().to_string();
        assert!(qemu(&["check", "-f", "qcow2", &disk]).contains("No errors were found"));
        qemu(&["compare", "-f", "raw", "-F", "qcow2", &source.display().to_string(), &disk]);
    }
}

#[test]
fn large_empty_disk_is_small_and_quick() {
    let place = Scratch::new();
    let file = File::create_new(place.at("raw")).unwrap();
    file.set_len(8 << 40).unwrap();
    let bytes = to_qcow2(&open_raw(&place.at("raw")), &place.at("disk"), &Qcow2WriteOptions::new());
    assert!(bytes < 1 << 20, "{bytes}");
    let disk = open(&place.at("disk")).unwrap();
    assert_eq!((disk.virtual_size(), disk.allocated_bytes(&Monitor::none()).unwrap()), (8 << 40, 0));
    to_raw_only(&disk, &place, "back");
    assert_eq!(std::fs::metadata(place.at("back")).unwrap().len(), 8 << 40);
}

fn to_raw_only(disk: &DiskImage, place: &Scratch, name: &str) {
    let file = File::create_new(place.at(name)).unwrap();
    disk.write_raw(&file, &lxd_image::disk::RawWriteOptions::new(), &Monitor::none()).unwrap();
}

#[test]
fn holes_stay_holes() {
    let place = Scratch::new();
    let mut bytes = vec![0; 64 << 20];
    bytes[10 << 20..11 << 20].copy_from_slice(&content(1 << 20).iter().map(|byte| byte | 1).collect::<Vec<_>>());
    to_qcow2(&raw(bytes.clone()), &place.at("disk"), &Qcow2WriteOptions::new());
    let disk = open(&place.at("disk")).unwrap();
    assert!(to_raw(&disk, &place.at("raw")).unwrap() == bytes);
    assert!(std::fs::metadata(place.at("raw")).unwrap().blocks() * 512 <= 1 << 21);
    assert_eq!(disk.allocated_bytes(&Monitor::none()).unwrap(), 1 << 20);
    let kinds: Vec<_> = disk.extents().unwrap().map(|extent| extent.unwrap().kind).collect();
    assert_eq!(kinds, [ExtentKind::Hole, ExtentKind::Data, ExtentKind::Hole]);
}

#[test]
fn cluster_sizes_out_of_range_are_refused() {
    let source = raw(vec![1; 4096]);
    let place = Scratch::new();
    for size in [0, 1, 256, 513, 4 << 20, u64::MAX] {
        let file = File::create(place.at("disk")).unwrap();
        let options = Qcow2WriteOptions::new().cluster_size(size);
        assert_eq!(source.write_qcow2(&file, &options, &Monitor::none()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn disk_that_needs_a_larger_l1_table_than_qemu_reads_is_refused() {
    let place = Scratch::new();
    File::create_new(place.at("raw")).unwrap().set_len(1 << 40).unwrap();
    let file = File::create(place.at("disk")).unwrap();
    let options = Qcow2WriteOptions::new().cluster_size(512);
    let error = open_raw(&place.at("raw")).write_qcow2(&file, &options, &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn cancelled_conversion_ends() {
    let place = Scratch::new();
    let cancel = Cancel::new();
    cancel.cancel();
    let monitor = Monitor::none().with_cancel(cancel);
    let source = raw(content(8 << 20));
    let file = File::create(place.at("disk")).unwrap();
    let error = source.write_qcow2(&file, &Qcow2WriteOptions::new(), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let file = File::create(place.at("raw")).unwrap();
    let options = lxd_image::disk::RawWriteOptions::new();
    assert_eq!(source.write_raw(&file, &options, &monitor).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn raw_is_never_guessed() {
    for bytes in
        [vec![], vec![0; 4096], content(4096), b"\x1f\x8b".repeat(300), [vec![0; 510], vec![0x55, 0xaa]].concat()]
    {
        assert_eq!(DiskFormat::detect(&Blob::from(bytes.clone())).unwrap(), None);
        let error = DiskImage::open(Blob::from(bytes), &DiskOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn raw_that_looks_like_qcow2_is_raw_when_the_caller_says_so() {
    let bytes = [b"QFI\xfb".to_vec(), vec![0; 508]].concat();
    let disk = DiskImage::open(Blob::from(bytes.clone()), &DiskOptions::new().format(DiskFormat::Raw)).unwrap();
    let mut read = vec![0; 512];
    disk.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn another_format_than_the_one_asked_for_is_refused() {
    let place = Scratch::new();
    to_qcow2(&raw(content(4096)), &place.at("disk"), &Qcow2WriteOptions::new());
    let blob = Blob::file(File::open(place.at("disk")).unwrap()).unwrap();
    let error = DiskImage::open(blob, &DiskOptions::new().format(DiskFormat::Vmdk)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn progress_reaches_the_virtual_size() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let place = Scratch::new();
    let seen = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&seen);
    let monitor = Monitor::none().with_progress(Arc::new(move |update: &lxd_image::Update| {
        shown.fetch_max(update.done, Ordering::Relaxed);
        std::ops::ControlFlow::Continue(())
    }));
    let source = raw(content(5 << 20));
    source.write_qcow2(&File::create(place.at("disk")).unwrap(), &Qcow2WriteOptions::new(), &monitor).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 5 << 20);
}
