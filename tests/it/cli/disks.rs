//! Disks of virtual machines through the command line, with `qemu-img` as the judge of what is written and read.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use lxd_image::format::Codec;

use super::{Ran, run};
use crate::format::forge::{Disk, archive, compressed, file, image, metadata};
use crate::format::{Place, is_root, peers};

const SIZE: u64 = 24 << 20;

/// A raw disk of 24 MiB with two islands of data.
fn raw(place: &Place) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    for (at, byte) in bytes.iter_mut().enumerate().skip(1 << 20).take(300_000) {
        *byte = u8::try_from((at * at / 7) % 251).unwrap();
    }
    bytes[20 << 20..(20 << 20) + 5000].fill(7);
    let file = std::fs::File::create(place.at("disk.img")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(&bytes[1 << 20..2 << 20], 1 << 20).unwrap();
    file.write_all_at(&bytes[20 << 20..21 << 20], 20 << 20).unwrap();
    bytes
}

#[track_caller]
fn qemu(place: &Place, arguments: &[&str]) {
    let ran = Command::new("qemu-img").args(arguments).current_dir(place.at("")).output().unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Packs a disk with what every image must have.
fn pack(place: &Place, disk: &str, out: &str, more: &[&str]) -> Ran {
    run(place, &[&["pack", disk, out, "--architecture", "amd64", "--creation-date", "1700000000"][..], more].concat())
}

fn is_sparse(place: &Place, name: &str) {
    let about = std::fs::metadata(place.at(name)).unwrap();
    assert!(about.blocks() * 512 < 4 << 20, "{name} takes {} bytes", about.blocks() * 512);
}

#[test]
fn every_disk_format_is_packed_and_unpacks_as_the_same_raw_disk() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    let bytes = raw(&place);
    pack(&place, "disk.img", "raw.tar", &[]).failed(1, "error[Unsupported]: ");
    for (format, options, input) in [
        ("raw", "", Some("raw")),
        ("qcow2", "compat=0.10", None),
        ("qcow2", "compression_type=zstd", Some("qcow2")),
        ("qcow2", "extended_l2=on", None),
        ("vmdk", "subformat=monolithicSparse", None),
        ("vmdk", "subformat=streamOptimized", Some("vmdk")),
        ("vpc", "subformat=dynamic,force_size=on", None),
        ("vpc", "subformat=fixed,force_size=on", Some("vhd")),
        ("vhdx", "subformat=dynamic", None),
        ("vhdx", "subformat=fixed,block_size=1M", Some("vhdx")),
    ] {
        let options = if options.is_empty() { vec![] } else { vec!["-o", options] };
        qemu(&place, &[&["convert", "-f", "raw", "-O", format][..], &options, &["disk.img", "made"]].concat());
        let input = input.map_or(vec![], |input| vec!["--disk-input", input]);
        pack(&place, "made", "vm.tar.zst", &input).good();
        run(&place, &["unpack", "vm.tar.zst", "keep", "--disk-format", "keep"]).good();
        run(&place, &["unpack", "vm.tar.zst", "vm"]).good();
        qemu(&place, &["check", "-q", "-f", "qcow2", "keep/rootfs.img"]);
        qemu(&place, &["compare", "-q", "-f", "qcow2", "-F", "raw", "keep/rootfs.img", "disk.img"]);
        assert!(std::fs::read(place.at("vm/rootfs.img")).unwrap() == bytes, "{format} {options:?}");
        is_sparse(&place, "vm/rootfs.img");
        if format == "qcow2" {
            let [made, kept] = ["made", "keep/rootfs.img"].map(|name| std::fs::read(place.at(name)).unwrap());
            assert!(made == kept, "a qcow2 disk is packed as it is");
        }
        for name in ["vm", "keep"] {
            std::fs::remove_dir_all(place.at(name)).unwrap();
        }
        std::fs::remove_file(place.at("vm.tar.zst")).unwrap();
    }
}

#[test]
fn appliance_is_packed_by_the_disk_in_it() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    let bytes = raw(&place);
    qemu(&place, &["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.img", "disk.vmdk"]);
    let disk = std::fs::read(place.at("disk.vmdk")).unwrap();
    let ovf = "<Envelope><File id=\"f\" href=\"box.vmdk\"/><Disk fileRef=\"f\"/></Envelope>";
    place.write("box.ova", archive(&[file("box.ovf", ovf), file("box.vmdk", disk)]));
    pack(&place, "box.ova", "vm.tar", &["--disk-input", "ova"]).good();
    run(&place, &["unpack", "vm.tar", "vm", "--disk-format", "raw"]).good();
    assert!(std::fs::read(place.at("vm/rootfs.img")).unwrap() == bytes);
}

#[test]
fn compressed_disk_is_packed() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    let bytes = raw(&place);
    qemu(&place, &["convert", "-f", "raw", "-O", "qcow2", "disk.img", "disk.qcow2"]);
    for (program, disk, ending, input) in [
        ("xz", "disk.qcow2", "xz", vec![]),
        ("gzip", "disk.img", "gz", vec!["--disk-input", "raw"]),
        ("zstd", "disk.qcow2", "zst", vec![]),
    ] {
        if !peers::have(program) {
            continue;
        }
        let ran = Command::new(program).args(["-k", "-q", disk]).current_dir(place.at("")).status().unwrap();
        assert!(ran.success());
        let out = format!("{ending}.tar");
        pack(&place, &format!("{disk}.{ending}"), &out, &input).good();
        run(&place, &["unpack", &out, ending]).good();
        assert!(std::fs::read(place.at(&format!("{ending}/rootfs.img"))).unwrap() == bytes, "{ending}");
    }
}

#[test]
fn compressed_raw_disk_is_packed_only_if_it_is_called_one() {
    let place = Place::new();
    let bytes = raw(&place);
    let mut bootable = bytes.clone();
    bootable[510..512].copy_from_slice(b"\x55\xaa");
    for (name, disk, told) in
        [("a.img.gz", &bytes, "in no known format"), ("b.img.gz", &bootable, "looks like a raw disk")]
    {
        place.write(name, compressed(Codec::Gzip, disk));
        let ran = pack(&place, name, "vm.tar", &[]);
        ran.failed(1, "error[Unsupported]: ");
        assert!([told, "gzip", "--disk-input raw"].iter().all(|part| ran.err.contains(part)), "{}", ran.err);
        assert!(!place.at("vm.tar").exists());
        pack(&place, name, "vm.tar", &["--disk-input", "raw"]).good();
        run(&place, &["unpack", "vm.tar", "vm"]).good();
        assert!(std::fs::read(place.at("vm/rootfs.img")).unwrap() == *disk, "{name}");
        std::fs::remove_dir_all(place.at("vm")).unwrap();
        std::fs::remove_file(place.at("vm.tar")).unwrap();
    }
}

#[test]
fn clusters_are_compressed_as_asked() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    raw(&place);
    qemu(&place, &["convert", "-f", "raw", "-O", "qcow2", "disk.img", "disk.qcow2"]);
    let compression = |disk: &str| {
        let told = Command::new("qemu-img").args(["info", "--output", "json", disk]).current_dir(place.at("")).output();
        let told: serde_json::Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
        qemu(&place, &["check", "-q", "-f", "qcow2", disk]);
        qemu(&place, &["compare", "-q", "-f", "qcow2", "-F", "raw", disk, "disk.img"]);
        told["format-specific"]["data"]["compression-type"].as_str().unwrap().to_owned()
    };
    for (asked, found) in [("zlib:1", "zlib"), ("zstd", "zstd"), ("zstd:9", "zstd"), ("none", "zlib")] {
        let with = ["--disk-compression", asked];
        run(&place, &[&["convert", "disk.qcow2", "a.qcow2", "--disk-format", "qcow2"], &with[..]].concat()).good();
        assert_eq!(compression("a.qcow2"), found, "a disk alone, {asked}");
        pack(&place, "disk.qcow2", "vm", &[&["--split"], &with[..]].concat()).good();
        assert_eq!(compression("vm.root"), found, "a packed disk, {asked}");
        let image = ["convert", "vm", "vm.root", "b", "--to", "split", "--disk-format", "qcow2"];
        run(&place, &[&image[..], &with].concat()).good();
        assert_eq!(compression("b.root"), found, "the disk of an image, {asked}");
        for name in ["a.qcow2", "vm", "vm.root", "b", "b.root"] {
            std::fs::remove_file(place.at(name)).unwrap();
        }
    }
}

#[test]
fn compression_of_clusters_without_a_qcow2_disk_is_refused() {
    let place = Place::new();
    raw(&place);
    place.directory("tree");
    place.write("vm.tar", archive(&[metadata(), file("rootfs.img", Disk::default().bytes())]));
    for bad in [
        &["pack", "tree", "out", "--architecture", "amd64", "--disk-compression", "zstd"][..],
        &["pack", "disk.img", "out", "--architecture", "amd64", "--disk-input", "raw", "--disk-compression", "lz4"],
        &["convert", "disk.img", "out", "--disk-input", "raw", "--disk-format", "raw", "--disk-compression", "zstd"],
        &["convert", "vm.tar", "out", "--disk-compression", "zstd"],
        &["convert", "vm.tar", "out", "--disk-format", "keep", "--disk-compression", "zstd"],
    ] {
        run(&place, bad).failed(1, "error[InvalidInput]: ");
        assert!(!place.at("out").exists(), "{bad:?}");
    }
}

#[test]
fn compressed_disk_of_another_program_is_named() {
    let place = Place::new();
    let mut vdi = vec![0; 4096];
    vdi[64..68].copy_from_slice(b"\x7f\x10\xda\xbe");
    place.write("disk.vdi.gz", compressed(Codec::Gzip, &vdi));
    let ran = pack(&place, "disk.vdi.gz", "vm.tar", &[]);
    ran.failed(1, "error[Unsupported]: ");
    assert!(ran.err.contains("VDI") && ran.err.contains("qemu-img convert -f vdi"), "{}", ran.err);
}

#[test]
fn published_disk_keeps_its_holes_through_the_store() {
    let place = Place::new();
    let bytes = raw(&place);
    place.directory("vm1");
    place.write("vm1/metadata.yaml", crate::format::forge::METADATA);
    std::fs::rename(place.at("disk.img"), place.at("vm1/rootfs.img")).unwrap();
    let store = ["--store", "store"];
    let publish = |more: &[&str]| {
        run(&place, &[&store[..], &["publish", "vm1", "--alias", "vm", "--compression", "none"], more].concat())
    };
    publish(&[]).failed(1, "error[Unsupported]: ");
    publish(&["--disk-input", "raw"]).good();
    run(&place, &[&store[..], &["unpack", "vm", "out", "--vm"]].concat()).good();
    assert!(std::fs::read(place.at("out/rootfs.img")).unwrap() == bytes);
    is_sparse(&place, "out/rootfs.img");
    run(&place, &[&store[..], &["export", "vm", "exported"]].concat()).good();
    is_sparse(&place, "exported.tar");
}

#[test]
fn disk_alone_is_converted_between_formats() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    raw(&place);
    run(&place, &["convert", "disk.img", "a.qcow2", "--disk-format", "qcow2", "--disk-input", "raw"]).good();
    qemu(&place, &["check", "-q", "-f", "qcow2", "a.qcow2"]);
    qemu(&place, &["convert", "-f", "qcow2", "-O", "vmdk", "a.qcow2", "a.vmdk"]);
    run(&place, &["convert", "a.vmdk", "b.img", "--disk-format", "raw"]).good();
    qemu(&place, &["compare", "-q", "-f", "raw", "-F", "raw", "b.img", "disk.img"]);
    is_sparse(&place, "b.img");
    run(&place, &["convert", "a.vmdk", "b.img", "--disk-format", "raw"]).failed(5, "error[AlreadyExists]: ");
    // Compressed as a whole.
    for (disk, input) in
        [("a.qcow2", &[][..]), ("disk.img", &["--disk-input", "raw"]), ("a.vmdk", &["--disk-input", "vmdk"])]
    {
        let name = format!("{disk}.gz");
        place.write(&name, compressed(Codec::Gzip, &std::fs::read(place.at(disk)).unwrap()));
        run(&place, &[&["convert", &name, "c.img", "--disk-format", "raw"], input].concat()).good();
        qemu(&place, &["compare", "-q", "-f", "raw", "-F", "raw", "c.img", "disk.img"]);
        is_sparse(&place, "c.img");
        std::fs::remove_file(place.at("c.img")).unwrap();
    }
    for bad in [&["--disk-format", "keep"][..], &["--disk-format", "vdi"], &["--disk-format", "raw", "--to", "split"]] {
        run(&place, &[&["convert", "a.vmdk", "c"][..], bad].concat()).failed(1, "error[InvalidInput]: ");
        assert!(!place.at("c").exists());
    }
}

#[test]
fn disk_of_an_image_is_written_anew() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    raw(&place);
    qemu(&place, &["convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10", "disk.img", "disk.qcow2"]);
    pack(&place, "disk.qcow2", "one.tar", &[]).good();
    run(&place, &["convert", "one.tar", "two", "--to", "split", "--disk-format", "qcow2"]).good();
    qemu(&place, &["check", "-q", "-f", "qcow2", "two.root"]);
    qemu(&place, &["compare", "-q", "-f", "qcow2", "-F", "raw", "two.root", "disk.img"]);
    let size = |name: &str| std::fs::metadata(place.at(name)).unwrap().len();
    assert!(size("two.root") < size("disk.qcow2"), "clusters are compressed");
    run(&place, &["convert", "one.tar", "three", "--disk-format", "raw"]).failed(1, "error[InvalidInput]: ");
    assert!(!place.at("three").exists());
}

#[test]
fn what_a_disk_is_and_takes_is_shown() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    raw(&place);
    qemu(&place, &["convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=128k", "disk.img", "disk.qcow2"]);
    pack(&place, "disk.qcow2", "vm.tar.zst", &[]).good();
    let shown = run(&place, &["inspect", "vm.tar.zst", "--format", "json"]).good();
    let disk = &serde_json::from_str::<serde_json::Value>(&shown).unwrap()["disk"];
    assert_eq!(disk["format"], "qcow2 version 3");
    assert_eq!((&disk["virtual_size"], &disk["cluster_size"]), (&SIZE.into(), &(128 << 10).into()));
    // 300,000 bytes are in three clusters, 5,000 in one.
    assert_eq!(disk["allocated_bytes"], 4 * (128 << 10));
}

#[test]
fn disk_alone_is_shown_as_a_disk() {
    if !peers::have("qemu-img") {
        return;
    }
    let place = Place::new();
    raw(&place);
    for (format, options, name, variant, cluster) in [
        ("qcow2", "cluster_size=128k,compression_type=zstd", "qcow2", "version 3, zstd", 128 << 10),
        ("vmdk", "subformat=streamOptimized", "vmdk", "streamOptimized", 64 << 10),
        ("vpc", "subformat=dynamic,force_size=on", "vhd", "dynamic", 2 << 20),
        ("vhdx", "subformat=dynamic,block_size=1M", "vhdx", "dynamic", 1 << 20),
    ] {
        qemu(&place, &["convert", "-f", "raw", "-O", format, "-o", options, "disk.img", "disk"]);
        let shown = run(&place, &["inspect", "disk", "--format", "json"]).good();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["type"], &shown["format"]), (&"disk".into(), &name.into()));
        assert_eq!((&shown["variant"], &shown["virtual_size"]), (&variant.into(), &SIZE.into()));
        assert_eq!(shown["cluster_size"], cluster, "{name}");
        let allocated = shown["allocated_bytes"].as_u64().unwrap();
        assert!((305_000..8 << 20).contains(&allocated), "{name}: {allocated}");
        std::fs::remove_file(place.at("disk")).unwrap();
    }
    let shown = run(&place, &["inspect", "disk.img", "--format", "json", "--disk-input", "raw"]).good();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["virtual_size"], SIZE);
    run(&place, &["inspect", "disk.img"]).failed(1, "error[");
    qemu(&place, &["convert", "-f", "raw", "-O", "qcow2", "disk.img", "disk"]);
    run(&place, &["inspect", "disk", "--entries"]).failed(1, "error[InvalidInput]: ");
}

#[test]
fn options_about_a_disk_are_refused_for_a_container() {
    let place = Place::new();
    place.write("box.tar", image(&[]));
    for bad in [
        &["unpack", "box.tar", "out", "--disk-format", "raw"][..],
        &["unpack", "box.tar", "out", "--disk-format", "qcow2"],
        &["convert", "box.tar", "out", "--disk-format", "qcow2"],
        &["convert", "box.tar", "out", "--disk-input", "raw"],
        &["unpack", "box.tar", "out", "--disk-format", "vdi"],
    ] {
        run(&place, bad).failed(1, "error[InvalidInput]: ");
        assert_eq!(place.names(""), ["box.tar"], "{bad:?}");
    }
    run(&place, &["unpack", "box.tar", "out", "--disk-format", "keep"]).good();
    place.directory("tree");
    pack(&place, "tree", "tree.tar", &["--disk-input", "raw"]).failed(1, "error[InvalidInput]: ");
}

/// A disk whose tables are changed after they were made.
fn forged(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Disk::default().bytes();
    change(&mut bytes);
    archive(&[metadata(), file("rootfs.img", bytes)])
}

#[test]
fn forged_disk_in_an_image_leaves_nothing_behind() {
    const L1: usize = 3 << 16;
    let entry = |bytes: &mut Vec<u8>, at: usize, value: u64| {
        bytes.resize(bytes.len().max(at + 8), 0);
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    };
    let cases: [(&str, Vec<u8>); 5] = [
        ("a table past the end", forged(|bytes| entry(bytes, L1, 1 << 40))),
        ("a table that is the first table", forged(|bytes| entry(bytes, L1, L1 as u64))),
        (
            "a cluster past the end",
            forged(|bytes| {
                entry(bytes, L1, 4 << 16);
                bytes.resize(5 << 16, 0);
                entry(bytes, 4 << 16, 1 << 50);
            }),
        ),
        (
            "one cluster twice",
            forged(|bytes| {
                entry(bytes, L1, 4 << 16);
                bytes.resize(6 << 16, 1);
                bytes[4 << 16..5 << 16].fill(0);
                entry(bytes, 4 << 16, 5 << 16);
                entry(bytes, (4 << 16) + 8, 5 << 16);
            }),
        ),
        (
            "a compressed cluster of noise",
            forged(|bytes| {
                entry(bytes, L1, 4 << 16);
                bytes.resize(6 << 16, 0xff);
                bytes[4 << 16..5 << 16].fill(0);
                entry(bytes, 4 << 16, 1 << 62 | 5 << 16);
            }),
        ),
    ];
    for (name, image) in cases {
        let place = Place::new();
        place.write("vm.tar", image);
        for verb in [&["unpack", "vm.tar", "out"][..], &["convert", "vm.tar", "out", "--disk-format", "qcow2"]] {
            let ran = run(&place, verb);
            ran.failed(1, "error[Malformed]: ");
            assert!(ran.err.contains("vm.tar") || ran.err.contains("rootfs.img"), "{name}: {}", ran.err);
            assert_eq!(place.names(""), ["vm.tar"], "{name}: {verb:?}");
        }
    }
}

#[test]
fn disk_that_leads_to_another_file_is_refused_in_every_verb() {
    let place = Place::new();
    place.write("secret", "top secret");
    let disk = Disk { backing: (512, 11), ..Disk::default() }.bytes();
    place.write("disk.qcow2", &disk);
    place.write("vm.tar", archive(&[metadata(), file("rootfs.img", disk)]));
    for verb in [
        &["unpack", "vm.tar", "out"][..],
        &["convert", "vm.tar", "out", "--disk-format", "qcow2"],
        &["convert", "disk.qcow2", "out", "--disk-format", "raw"],
        &["pack", "disk.qcow2", "out", "--architecture", "amd64"],
    ] {
        run(&place, verb).failed(1, "error[Unsupported]: ");
        assert!(!place.at("out").exists());
    }
}

/// A loop device over a file, for tests as root where the kernel has them.
struct Loop(String);

impl Loop {
    fn new(place: &Place, bytes: &[u8]) -> Option<Self> {
        if !is_root() {
            println!("skipped: only root makes loop devices");
            return None;
        }
        let made = Command::new("losetup").args(["--find", "--show"]).arg(place.write("backing", bytes)).output();
        match made {
            Ok(made) if made.status.success() => Some(Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())),
            _ => {
                println!("skipped: no loop device can be made here");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().unwrap();
    }
}

#[test]
fn disk_is_written_to_a_device_over_what_was_there() {
    let place = Place::new();
    let bytes = raw(&place);
    pack(&place, "disk.img", "vm.tar.zst", &["--disk-input", "raw"]).good();
    let Some(device) = Loop::new(&place, &vec![0xaa; usize::try_from(SIZE).unwrap() + 4096]) else { return };
    run(&place, &["unpack", "vm.tar.zst", "vm", "--to-device", &device.0]).good();
    let read = std::fs::read(&device.0).unwrap();
    assert!(read[..bytes.len()] == bytes, "zeros overwrite what was there");
    assert!(read[bytes.len()..].iter().all(|&byte| byte == 0xaa), "what is behind the disk stays");
    assert_eq!(place.names("vm"), ["metadata.yaml"]);
    run(&place, &["unpack", "vm.tar.zst", "--to-device", &device.0]).good();
}

#[test]
fn device_that_is_in_use_or_too_small_is_refused_and_not_written() {
    let place = Place::new();
    raw(&place);
    pack(&place, "disk.img", "vm.tar.zst", &["--disk-input", "raw"]).good();
    let Some(device) = Loop::new(&place, &vec![0xaa; 4 << 20]) else { return };
    let unpack =
        |more: &[&str]| run(&place, &[&["unpack", "vm.tar.zst", "vm", "--to-device", &device.0][..], more].concat());
    unpack(&[]).failed(1, "error[InvalidInput]: ");
    unpack(&["--fingerprint", &"0".repeat(64)]).failed(1, "error[Mismatch]: ");
    unpack(&["--disk-format", "qcow2"]).failed(1, "error[InvalidInput]: ");
    let holder = rustix::fs::open(
        device.0.as_str(),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    unpack(&[]).failed(1, "error[Busy]: ");
    drop(holder);
    assert!(std::fs::read(&device.0).unwrap().iter().all(|&byte| byte == 0xaa));
    assert!(!place.at("vm").exists());
}

#[test]
fn what_is_no_device_is_refused_before_the_image_is_read() {
    let place = Place::new();
    place.write("file", "x");
    for name in ["file", "/dev/null", "."] {
        run(&place, &["unpack", "missing.tar", "vm", "--to-device", name]).failed(1, "error[InvalidInput]: ");
    }
    run(&place, &["unpack", "missing.tar", "vm", "--to-device", "nowhere"]).failed(4, "error[NotFound]: ");
    assert_eq!(std::fs::read(place.at("file")).unwrap(), b"x");
}

#[test]
fn rewritten_disk_keeps_the_config_json_of_its_image() {
    let place = Place::new();
    let members = [metadata(), file("config.json", b"{\"process\":{}}"), file("rootfs.img", Disk::default().bytes())];
    place.write("vm.tar", archive(&members));
    run(&place, &["convert", "vm.tar", "again.tar", "--disk-format", "qcow2"]).good();
    run(&place, &["unpack", "again.tar", "out"]).good();
    assert_eq!(std::fs::read(place.at("out/config.json")).unwrap(), b"{\"process\":{}}");
}
