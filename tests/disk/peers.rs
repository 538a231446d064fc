//! Disks that `qemu-img` makes, with every option: they read as `qemu-img` reads them.

use std::path::Path;

use lxd_image::disk::{DiskFormat, Qcow2WriteOptions};
use lxd_image::io::ReadAt;
use lxd_image::{ErrorKind, Monitor};

use super::scratch::{Scratch, content, have_qemu, open, qemu, to_qcow2, to_raw, try_qemu};

/// Reads a disk in both ways, and compares with what `qemu-img` makes of it.
#[track_caller]
fn reads_like_qemu(place: &Scratch, path: &Path, format: &str, about: &str) {
    let expected = place.at("expected");
    qemu(&["convert", "-f", format, "-O", "raw", &path.display().to_string(), &expected.display().to_string()]);
    let expected = std::fs::read(expected).unwrap();
    let disk = open(path).unwrap_or_else(|error| panic!("{about}: {error}"));
    assert_eq!(disk.virtual_size(), expected.len() as u64, "{about}");
    assert!(to_raw(&disk, &place.at("ours")).unwrap() == expected, "{about}: written");
    // Parts of any length, at any place.
    let mut at = 0;
    let mut part = vec![0; 77_777];
    while at < expected.len() {
        let end = expected.len().min(at + part.len());
        let part = &mut part[..end - at];
        disk.read_exact_at(part, at as u64).unwrap();
        assert!(*part == expected[at..end], "{about}: read at {at}");
        at = end;
    }
    let mut end = 0;
    for extent in disk.extents().unwrap() {
        let extent = extent.unwrap_or_else(|error| panic!("{about}: {error}"));
        assert_eq!(extent.offset, end, "{about}");
        end += extent.length;
    }
    assert_eq!(end, disk.virtual_size(), "{about}");
    to_qcow2(&disk, &place.at("again"), &Qcow2WriteOptions::new());
    qemu(&["check", "-f", "qcow2", &place.at("again").display().to_string()]);
    qemu(&[
        "compare",
        "-f",
        "raw",
        "-F",
        "qcow2",
        &place.at("expected").display().to_string(),
        &place.at("again").display().to_string(),
    ]);
}

#[test]
fn qcow2_of_every_option_of_qemu_reads_like_qemu() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let source = place.write("source", &content(9_000_448)).display().to_string();
    let disk = place.at("disk.qcow2");
    let path = disk.display().to_string();
    for options in [
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on",
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=2M",
        "compat=0.10,cluster_size=512",
        "refcount_bits=1",
        "refcount_bits=64",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=2M",
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full",
        "extended_l2=on,preallocation=metadata",
        "compression_type=zstd",
        "compression_type=zstd,cluster_size=4k",
        "compression_type=zstd,cluster_size=2M",
    ] {
        for compress in [&[][..], &["-c"], &["-S", "0"], &["-c", "-W", "-m", "4"]] {
            let _ = std::fs::remove_file(&disk);
            let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options];
            arguments.extend(compress);
            arguments.extend([source.as_str(), path.as_str()]);
            if try_qemu(&arguments).is_none() {
                continue;
            }
            reads_like_qemu(&place, &disk, "qcow2", &format!("{options} {compress:?}"));
        }
    }
}

#[test]
fn empty_qcow2_of_qemu_reads_as_zeros() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let disk = place.at("disk.qcow2");
    for options in
        ["compat=0.10", "cluster_size=512", "preallocation=metadata", "extended_l2=on", "compression_type=zstd"]
    {
        for size in ["0", "512", "3M", "100M"] {
            let _ = std::fs::remove_file(&disk);
            qemu(&["create", "-q", "-f", "qcow2", "-o", options, &disk.display().to_string(), size]);
            reads_like_qemu(&place, &disk, "qcow2", &format!("{options} {size}"));
        }
    }
}

#[test]
fn qcow2_with_zero_clusters_and_discarded_ones_reads_like_qemu() {
    if !have_qemu() || std::process::Command::new("qemu-io").arg("--version").output().is_err() {
        return;
    }
    let place = Scratch::new();
    let disk = place.at("disk.qcow2");
    for options in
        ["compat=1.1", "compat=0.10", "extended_l2=on,cluster_size=128k", "cluster_size=4k", "lazy_refcounts=on"]
    {
        let _ = std::fs::remove_file(&disk);
        qemu(&["create", "-q", "-f", "qcow2", "-o", options, &disk.display().to_string(), "20M"]);
        let script = [
            "write -P 1 0 9M",
            "write -z 1M 1M",
            "write -z -u 3M 1M",
            "discard 5M 1M",
            "write -P 2 3500k 10k",
            "write -z 7M 3k",
            "write -P 3 19M 1M",
            "write -z -u 6000k 70k",
            "write -c -P 9 12M 128k",
        ];
        let mut command = std::process::Command::new("qemu-io");
        command.args(["-f", "qcow2"]);
        for line in script {
            command.args(["-c", line]);
        }
        let output = command.arg(&disk).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        reads_like_qemu(&place, &disk, "qcow2", options);
    }
}

#[test]
fn internal_snapshots_are_passed_over() {
    if !have_qemu() || std::process::Command::new("qemu-io").arg("--version").output().is_err() {
        return;
    }
    let place = Scratch::new();
    let source = place.write("source", &content(3 << 20)).display().to_string();
    let disk = place.at("disk.qcow2").display().to_string();
    qemu(&["convert", "-f", "raw", "-O", "qcow2", &source, &disk]);
    qemu(&["snapshot", "-c", "before", &disk]);
    let output = std::process::Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 7 1M 1M", &disk]).output();
    assert!(output.unwrap().status.success());
    qemu(&["snapshot", "-c", "after", &disk]);
    reads_like_qemu(&place, &place.at("disk.qcow2"), "qcow2", "with snapshots");
}

#[test]
fn vmdk_of_every_option_of_qemu_reads_like_qemu() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let source = place.write("source", &content(9_000_448)).display().to_string();
    let disk = place.at("disk.vmdk");
    for options in [
        "subformat=monolithicSparse",
        "subformat=streamOptimized",
        "subformat=monolithicSparse,zeroed_grain=on",
        "subformat=monolithicSparse,compat6=on",
        "subformat=streamOptimized,adapter_type=lsilogic",
    ] {
        let _ = std::fs::remove_file(&disk);
        qemu(&["convert", "-f", "raw", "-O", "vmdk", "-o", options, &source, &disk.display().to_string()]);
        assert_eq!(open(&disk).unwrap().format(), DiskFormat::Vmdk);
        reads_like_qemu(&place, &disk, "vmdk", options);
    }
}

#[test]
fn vmdk_in_several_files_is_refused_by_name() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    for kind in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let disk = place.at(&format!("{kind}.vmdk"));
        let options = format!("subformat={kind}");
        qemu(&["create", "-q", "-f", "vmdk", "-o", &options, &disk.display().to_string(), "10M"]);
        let error = open(&disk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(kind), "{error}");
    }
}

#[test]
fn vhd_of_every_option_of_qemu_reads_like_qemu() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let source = place.write("source", &content(9_000_448)).display().to_string();
    let disk = place.at("disk.vhd");
    for options in
        ["subformat=dynamic", "subformat=fixed", "subformat=dynamic,force_size=on", "subformat=fixed,force_size=on"]
    {
        let _ = std::fs::remove_file(&disk);
        qemu(&["convert", "-f", "raw", "-O", "vpc", "-o", options, &source, &disk.display().to_string()]);
        assert_eq!(open(&disk).unwrap().format(), DiskFormat::Vhd);
        reads_like_qemu(&place, &disk, "vpc", options);
    }
}

#[test]
fn vhdx_of_every_option_of_qemu_reads_like_qemu() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let source = place.write("source", &content(9_000_448)).display().to_string();
    let disk = place.at("disk.vhdx");
    for options in [
        "subformat=dynamic",
        "subformat=dynamic,block_size=1M",
        "subformat=dynamic,block_size=2M,log_size=1M",
        "subformat=dynamic,block_size=16M,log_size=5M",
        "subformat=dynamic,block_size=256M",
        "subformat=dynamic,block_size=1M,block_state_zero=on",
        "subformat=dynamic,block_size=1M,block_state_zero=off",
        "subformat=fixed",
        "subformat=fixed,block_size=1M,log_size=3M",
        "subformat=fixed,block_size=1M,block_state_zero=off",
    ] {
        let _ = std::fs::remove_file(&disk);
        // `off` shows what was in the file before for zeros, as QEMU says; none are written with `-S 0`.
        let every =
            if options.ends_with("dynamic,block_size=1M,block_state_zero=off") { &["-S", "0"][..] } else { &[] };
        let path = disk.display().to_string();
        let arguments = [&["convert", "-f", "raw", "-O", "vhdx", "-o", options], every, &[&source, &path]].concat();
        qemu(&arguments);
        let opened = open(&disk).unwrap();
        assert_eq!(opened.format(), DiskFormat::Vhdx);
        assert!(options.contains(opened.variant()), "{options}: {}", opened.variant());
        reads_like_qemu(&place, &disk, "vhdx", options);
    }
}

#[test]
fn empty_vhdx_of_qemu_reads_as_zeros() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let disk = place.at("disk.vhdx");
    // 5 GiB in blocks of 1 MiB have an entry of bitmaps between their blocks.
    for (options, size) in
        [("block_size=1M", "512"), ("subformat=dynamic", "3M"), ("subformat=fixed", "3M"), ("block_size=1M", "5G")]
    {
        let _ = std::fs::remove_file(&disk);
        qemu(&["create", "-q", "-f", "vhdx", "-o", options, &disk.display().to_string(), size]);
        let opened = open(&disk).unwrap();
        // QEMU marks the blocks of a fixed one as zeros.
        assert_eq!(opened.allocated_bytes(&Monitor::none()).unwrap(), 0, "{options}");
        if size != "5G" {
            reads_like_qemu(&place, &disk, "vhdx", &format!("{options} {size}"));
        }
    }
}

#[test]
fn vhdx_blocks_behind_an_entry_of_bitmaps_read_like_qemu() {
    if !have_qemu() || std::process::Command::new("qemu-io").arg("--version").output().is_err() {
        return;
    }
    let place = Scratch::new();
    let disk = place.at("disk.vhdx");
    // A group has 4096 blocks of 1 MiB.
    qemu(&["create", "-q", "-f", "vhdx", "-o", "block_size=1M", &disk.display().to_string(), "9G"]);
    let script = ["write -P 1 4095M 1M", "write -P 2 4096M 1M", "write -P 3 8191M 3M", "write -P 4 9215M 1M"];
    let mut command = std::process::Command::new("qemu-io");
    command.args(["-f", "vhdx"]);
    for line in script {
        command.args(["-c", line]);
    }
    let output = command.arg(&disk).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let opened = open(&disk).unwrap();
    assert_eq!(opened.allocated_bytes(&Monitor::none()).unwrap(), 6 << 20);
    for (mebibyte, value) in
        [(0, 0), (4094, 0), (4095, 1), (4096, 2), (4097, 0), (8190, 0), (8191, 3), (8193, 3), (8194, 0), (9215, 4)]
    {
        let mut bytes = vec![9; 1 << 20];
        opened.read_exact_at(&mut bytes, mebibyte << 20).unwrap();
        assert!(bytes.iter().all(|&byte| byte == value), "{mebibyte} MiB");
    }
    to_qcow2(&opened, &place.at("again"), &Qcow2WriteOptions::new());
    let [theirs, ours] = [&disk, &place.at("again")].map(|path| path.display().to_string());
    qemu(&["compare", "-f", "vhdx", "-F", "qcow2", &theirs, &ours]);
}

#[test]
fn ova_reads_as_the_disk_inside() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let bytes = content(4 << 20);
    let source = place.write("source", &bytes).display().to_string();
    let disk = place.at("box-disk1.vmdk");
    qemu(&[
        "convert",
        "-f",
        "raw",
        "-O",
        "vmdk",
        "-o",
        "subformat=streamOptimized",
        &source,
        &disk.display().to_string(),
    ]);
    place.write(
        "box.ovf",
        br#"<?xml version="1.0"?><Envelope><References><File ovf:href="box-disk1.vmdk" ovf:id="file1"/></References>
            <DiskSection><Disk ovf:capacity="4" ovf:diskId="d" ovf:fileRef="file1"/></DiskSection></Envelope>"#,
    );
    let ova = place.at("box.ova");
    let mut command = std::process::Command::new("tar");
    command.arg("--format=ustar").arg("-cf").arg(&ova).arg("-C").arg(place.at("")).args(["box.ovf", "box-disk1.vmdk"]);
    assert!(command.status().unwrap().success());
    let disk = open(&ova).unwrap();
    assert_eq!((disk.format(), disk.disk_format()), (DiskFormat::Ova, DiskFormat::Vmdk));
    assert!(to_raw(&disk, &place.at("ours")).unwrap() == bytes);
}

#[test]
fn disks_with_another_file_behind_them_are_refused() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    let base = place.write("base", &content(1 << 20)).display().to_string();
    let disk = place.at("disk.qcow2").display().to_string();
    qemu(&["create", "-q", "-f", "qcow2", "-b", &base, "-F", "raw", &disk]);
    assert_eq!(open(&place.at("disk.qcow2")).unwrap_err().kind(), ErrorKind::Unsupported);
    std::fs::remove_file(&disk).unwrap();
    let options = format!("data_file={},data_file_raw=on", place.at("data").display());
    qemu(&["create", "-q", "-f", "qcow2", "-o", &options, &disk, "1M"]);
    assert_eq!(open(&place.at("disk.qcow2")).unwrap_err().kind(), ErrorKind::Unsupported);
    let vmdk = place.at("disk.vmdk").display().to_string();
    let parent = place.at("parent.vmdk").display().to_string();
    qemu(&["create", "-q", "-f", "vmdk", &parent, "1M"]);
    qemu(&["create", "-q", "-f", "vmdk", "-b", &parent, "-F", "vmdk", &vmdk]);
    assert_eq!(open(&place.at("disk.vmdk")).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn compressed_qcow2_has_the_size_of_qemus_within_two_percent() {
    if !have_qemu() {
        return;
    }
    let place = Scratch::new();
    // Programs and text: what disks hold.
    let mut bytes = Vec::new();
    for path in ["/usr/bin/git", "/bin/bash", "/usr/bin/perl", "/usr/bin/python3", "/etc/services", "/usr/bin/qemu-img"]
    {
        bytes.extend(std::fs::read(path).unwrap_or_default());
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
    }
    let source = place.write("source", &bytes).display().to_string();
    for (kind, options) in
        [("zlib", Qcow2WriteOptions::new()), ("zstd", Qcow2WriteOptions::new().compression("zstd".parse().unwrap()))]
    {
        let theirs = place.at("theirs").display().to_string();
        let _ = std::fs::remove_file(&theirs);
        let kind = format!("compression_type={kind}");
        qemu(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &kind, &source, &theirs]);
        let ours = to_qcow2(&super::scratch::open_raw(&place.at("source")), &place.at("ours"), &options);
        let theirs = std::fs::metadata(theirs).unwrap().len();
        println!("{kind}: {ours} and {theirs}");
        // A few clusters of tables on either side.
        assert!(ours.abs_diff(theirs) <= theirs / 50 + (256 << 10), "{kind}: {ours} and {theirs}");
    }
    let _ = Monitor::none();
}
