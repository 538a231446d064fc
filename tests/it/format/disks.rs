//! Disks of virtual machines: rows 123 to 133 of the hostile inputs, and those that are good.
//! Only the header is judged; nothing in it may lead to another file.

use std::process::Command;

use lxd_image::ErrorKind;
use lxd_image::format::{
    Compression, Image, ImageForm, ImageSource, ImageType, PackOptions, Qcow2, Rootfs, UnpackOptions, VerifyOptions,
    differences, pack,
};
use lxd_image::{Limits, Metadata, Monitor};

use super::forge::{Disk, END, Member, archive, compressed, extension, file, image, metadata};
use super::verdict::{files, unified};
use super::{MALFORMED, Place, UNSUPPORTED};

fn split(disk: &Disk) -> [Vec<u8>; 2] {
    [archive(&[metadata()]), disk.bytes()]
}

/// The same verdict for a disk of its own and for one in a unified image.
#[track_caller]
fn refused(disk: &Disk, kinds: &[ErrorKind]) {
    files(split(disk)).refused(kinds);
    unified(archive(&[metadata(), file("rootfs.img", disk.bytes())])).refused(kinds);
}

#[test]
fn good_disk_is_unpacked_as_it_is() {
    for disk in [
        Disk::default(),
        Disk { version: 2, ..Disk::default() },
        Disk { cluster_bits: 9, size: 1 << 15, ..Disk::default() },
        Disk { snapshots: 2, ..Disk::default() },
        Disk { header_length: 112, extensions: vec![0; 8], ..Disk::default() },
        Disk { incompatible: 1 | 1 << 3 | 1 << 4, ..Disk::default() },
        Disk { extensions: extension(0x6803_f857, b"feature names"), ..Disk::default() },
    ] {
        let [meta, bytes] = split(&disk);
        for case in [
            files([meta.clone(), bytes.clone()]),
            files([bytes.clone(), meta]),
            unified(archive(&[metadata(), file("./rootfs.img", &bytes)])),
            unified(archive(&[file("rootfs.img", &bytes), metadata()])),
        ] {
            let left = case.run().unwrap();
            assert_eq!(left.unpacked.image_type, ImageType::VirtualMachine);
            assert_eq!(left.place.names("box/dest"), ["metadata.yaml", "rootfs.img"]);
            assert!(std::fs::read(left.place.at("box/dest/rootfs.img")).unwrap() == bytes);
        }
    }
}

#[test]
fn disk_that_leads_to_another_file_is_unsupported() {
    refused(&Disk { backing: (512, 11), ..Disk::default() }, UNSUPPORTED);
    refused(&Disk { backing: (512, 0), ..Disk::default() }, UNSUPPORTED);
    refused(&Disk { backing: (0, 11), ..Disk::default() }, UNSUPPORTED);
    refused(&Disk { version: 2, backing: (80, 11), ..Disk::default() }, UNSUPPORTED);
    refused(&Disk { incompatible: 1 << 2, ..Disk::default() }, UNSUPPORTED);
    refused(&Disk { extensions: extension(0x4441_5441, b"/etc/passwd"), ..Disk::default() }, UNSUPPORTED);
    refused(&Disk { extensions: extension(0xe279_2aca, b"raw"), ..Disk::default() }, UNSUPPORTED);
}

#[test]
fn disk_with_unknown_features_or_marked_corrupt_is_refused() {
    for bit in [5, 6, 31, 63] {
        refused(&Disk { incompatible: 1 << bit, ..Disk::default() }, UNSUPPORTED);
    }
    refused(&Disk { incompatible: 2, ..Disk::default() }, MALFORMED);
    refused(&Disk { version: 4, ..Disk::default() }, UNSUPPORTED);
}

#[test]
fn cluster_size_out_of_range_is_malformed() {
    for cluster_bits in [0, 8, 22, 63, u32::MAX] {
        refused(&Disk { cluster_bits, ..Disk::default() }, MALFORMED);
    }
}

#[test]
fn disk_that_is_too_large_or_whose_table_is_not_there_is_refused() {
    let kinds = &[ErrorKind::Malformed, ErrorKind::LimitExceeded, ErrorKind::Unsupported];
    refused(&Disk { size: 1 << 62, ..Disk::default() }, kinds);
    refused(&Disk { size: u64::MAX, ..Disk::default() }, kinds);
    refused(&Disk { l1: Some((u32::MAX, 3 << 16)), ..Disk::default() }, kinds);
    refused(&Disk { l1: Some((1, 1 << 40)), ..Disk::default() }, MALFORMED);
    refused(&Disk { l1: Some((1, u64::MAX - 7)), ..Disk::default() }, MALFORMED);
    refused(&Disk { l1: Some((1, (3 << 16) + 8)), ..Disk::default() }, MALFORMED);
    refused(&Disk { l1: Some((0, 0)), ..Disk::default() }, MALFORMED);
}

#[test]
fn encrypted_disk_is_unsupported() {
    for encryption in [1, 2, 99] {
        refused(&Disk { encryption, ..Disk::default() }, UNSUPPORTED);
    }
    refused(&Disk { extensions: extension(0x0537_be77, &[0; 16]), ..Disk::default() }, UNSUPPORTED);
}

#[test]
fn header_that_does_not_hold_together_is_malformed() {
    for header_length in [0, 72, 96, 105, 1 << 20, u32::MAX] {
        refused(&Disk { header_length, ..Disk::default() }, MALFORMED);
    }
    let beyond = [0x1234_5678_u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
    refused(&Disk { extensions: beyond, ..Disk::default() }, MALFORMED);
    let endless = extension(0x1234_5678, b"").repeat(8192);
    refused(&Disk { extensions: endless, ..Disk::default() }, MALFORMED);
}

#[test]
fn header_that_is_cut_is_malformed_wherever() {
    let bytes = Disk::default().bytes();
    for length in [4, 5, 7, 8, 20, 40, 71, 72, 99, 103, 104, 200] {
        let error = Qcow2::parse(&bytes[..length], length as u64, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{length}: {error}");
        files([archive(&[metadata()]), bytes[..length].to_vec()]).refused(MALFORMED);
    }
}

#[test]
fn other_kinds_of_disks_are_unsupported_and_never_guessed() {
    let mut raw = vec![0; 1 << 16];
    raw[510..512].copy_from_slice(b"\x55\xaa");
    for magic in [&b"KDMV"[..], b"# Disk DescriptorFile\n", b"\xeb\x63\x90", b"conectix", b"<<< Oracle VM"] {
        let mut disk = raw.clone();
        disk[..magic.len()].copy_from_slice(magic);
        files([archive(&[metadata()]), disk.clone()]).refused(UNSUPPORTED);
        unified(archive(&[metadata(), file("rootfs.img", disk)])).refused(UNSUPPORTED);
    }
    unified(archive(&[metadata(), file("rootfs.img", raw)])).refused(UNSUPPORTED);
    unified(archive(&[metadata(), file("rootfs.img", "")])).refused(UNSUPPORTED);
    unified(archive(&[metadata(), Member::new(b'2', "rootfs.img").link("/dev/sda").bytes()])).refused(super::UNSAFE);
}

#[test]
fn disk_alone_is_no_image() {
    unified(Disk::default().bytes()).refused(&[ErrorKind::InvalidInput]);
    let left = unified([&image(&[])[..], END].concat()).run().unwrap();
    assert_eq!(left.unpacked.image_type, ImageType::Container);
}

fn about() -> Metadata {
    Metadata::new("x86_64", 1_700_000_000).unwrap()
}

#[test]
fn disk_is_packed_converted_and_unpacked_without_a_change() {
    let place = Place::new();
    place.directory("box");
    let mut bytes = Disk::default().bytes();
    bytes.extend((0..300_000_u32).flat_map(u32::to_le_bytes));
    let disk = place.write("disk.qcow2", &bytes);
    let rootfs = || Rootfs::open(&disk).unwrap();
    let unified = pack(
        &rootfs(),
        place.at("unified"),
        &PackOptions::new(about()).compression(Compression::NONE),
        &Monitor::none(),
    )
    .unwrap();
    let split = pack(
        &rootfs(),
        place.at("split"),
        &PackOptions::new(about()).compression(Compression::NONE).form(ImageForm::Split),
        &Monitor::none(),
    )
    .unwrap();
    assert!(std::fs::read(place.at("split.root")).unwrap() == bytes);
    let open = |name: &str, root: Option<&str>| {
        let root = root.map(|name| place.at(name));
        Image::open(ImageSource::open(place.at(name), root.as_deref()).unwrap()).unwrap()
    };
    let (one, two) = (open("unified", None), open("split", Some("split.root")));
    assert_eq!(differences(&one, &two, &VerifyOptions::new(), &Monitor::none()).unwrap(), []);
    assert_eq!(one.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().disk.unwrap().virtual_size, 1 << 20);
    let options = lxd_image::format::ConvertOptions::new();
    one.convert(place.at("there"), &options.clone().form(ImageForm::Split), &Monitor::none()).unwrap();
    open("there", Some("there.root"))
        .convert(place.at("back"), &options.form(ImageForm::Unified), &Monitor::none())
        .unwrap();
    assert!(std::fs::read(place.at("back")).unwrap() == std::fs::read(place.at("unified")).unwrap());
    for (image, expected) in [(one, unified.fingerprint), (two, split.fingerprint)] {
        let dest = place.at("box/dest");
        let unpacked = image.unpack_verified(&dest, &expected, &UnpackOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(unpacked.image_type, ImageType::VirtualMachine);
        assert!(std::fs::read(dest.join("rootfs.img")).unwrap() == bytes);
        std::fs::remove_dir_all(dest).unwrap();
    }
    if lxd_image::format::Codec::Gzip.is_enabled() {
        let packed = compressed(lxd_image::format::Codec::Gzip, &archive(&[metadata(), file("rootfs.img", &bytes)]));
        super::verdict::unified(packed).run().unwrap();
    }
}

#[test]
fn what_qemu_img_makes_is_taken_or_refused_as_its_header_says() {
    let place = Place::new();
    let create = |name: &str, arguments: &[&str]| {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2"]).args(arguments).arg(place.at(name)).arg("64M");
        command.output().is_ok_and(|output| output.status.success()).then(|| std::fs::read(place.at(name)).unwrap())
    };
    if !super::peers::have("qemu-img") {
        return;
    }
    place.write("base.raw", vec![0; 1 << 20]);
    let base = place.at("base.raw").display().to_string();
    for (arguments, good) in [
        (vec![], true),
        (vec!["-o", "compat=0.10"], true),
        (vec!["-o", "cluster_size=4k"], true),
        (vec!["-o", "compression_type=zstd"], true),
        (vec!["-o", "extended_l2=on,cluster_size=128k"], true),
        (vec!["-o", "preallocation=metadata"], true),
        (vec!["-b", &base, "-F", "raw"], false),
        (vec!["-o", &format!("data_file={base}.data,data_file_raw=on")], false),
    ] {
        let Some(disk) = create("disk.qcow2", &arguments) else {
            println!("skipped: this qemu-img does not know {arguments:?}");
            continue;
        };
        let case = files([archive(&[metadata()]), disk]);
        if good {
            case.run().unwrap();
        } else {
            case.refused(UNSUPPORTED);
        }
    }
}
