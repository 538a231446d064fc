//! Files that are no images are named, with the command that helps.

use lxd_image::format::{Codec, Image, ImageSource, PackOptions, Rootfs, pack};
use lxd_image::{Error, ErrorKind, Metadata, Monitor};

use super::Place;
use super::forge::{Disk, archive, compressed, directory, file, metadata};

fn refused(place: &Place, name: &str) -> Error {
    place.write("meta.tar", archive(&[metadata()]));
    let path = place.at(name);
    let source = ImageSource::open(place.at("meta.tar"), Some(&path)).unwrap();
    let error = Image::open(source).and_then(|image| image.metadata()).unwrap_err();
    assert_eq!(error.file(), Some(&*path));
    error
}

/// A file of 70 KB with `magic` at `at`.
fn with(at: usize, magic: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8 | 1).collect();
    bytes[at..at + magic.len()].copy_from_slice(magic);
    bytes
}

#[test]
fn disk_of_another_format_is_named_with_what_helps() {
    let place = Place::new();
    for (at, magic, name, format) in [
        (0, &b"KDMV"[..], "VMDK", "vmdk"),
        (64, b"\x7f\x10\xda\xbe", "VDI", "vdi"),
        (0, b"vhdxfile", "VHDX", "vhdx"),
        (0, b"conectix", "VHD", "vpc"),
        (70_000 - 512, b"conectix", "VHD", "vpc"),
        (32_769, b"CD001", "ISO", "raw"),
        (510, b"\x55\xaa", "raw disk", "raw"),
        (512, b"EFI PART", "raw disk", "raw"),
        (1080, b"\x53\xef", "ext4", "raw"),
        (65_600, b"_BHRfS_M", "btrfs", "raw"),
    ] {
        place.write("my disk", with(at, magic));
        let error = refused(&place, "my disk");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(name), "{error}");
        let command = format!("`qemu-img convert -f {format} -O qcow2 '{}' '", place.at("my disk").display());
        assert!(error.hint().unwrap().contains(&command), "{:?}", error.hint());
        let options = PackOptions::new(Metadata::new("x86_64", 1).unwrap());
        let error =
            pack(&Rootfs::open(place.at("my disk")).unwrap(), place.at("out"), &options, &Monitor::none()).unwrap_err();
        match (at, format) {
            // Recognised, read, and found to be only the magic number.
            (0, "vmdk" | "vpc" | "vhdx") => assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}"),
            (_, "raw") => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(
                    error.message().contains(name) && error.hint().unwrap().contains("--disk-input raw"),
                    "{error}"
                );
            }
            _ => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.message().contains(name) && error.hint().unwrap().contains(&command), "{error}");
            }
        }
        assert!(!place.at("out").exists(), "{name}");
    }
}

#[test]
fn compressed_disk_is_named_with_the_command_that_decompresses_it() {
    let place = Place::new();
    let disk = Disk::default().bytes();
    for codec in Codec::ALL.iter().filter(|codec| codec.is_enabled() && **codec != Codec::None) {
        let name = format!("disk.qcow2.{}", codec.extension());
        place.write(&name, compressed(*codec, &disk));
        let error = refused(&place, &name);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("qcow2") && error.message().contains(codec.name()), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(&format!("> {}`", place.at("disk.qcow2").display())), "{hint}");
        // The command is tried where its program is there.
        let command = hint.split('`').nth(1).unwrap();
        if super::peers::have(command.split(' ').next().unwrap()) {
            let ran = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
            assert!(ran.success(), "{command}");
            assert!(std::fs::read(place.at("disk.qcow2")).unwrap() == disk);
        }
        place.write("disk.img.any", compressed(*codec, &with(510, b"\x55\xaa")));
        let error = refused(&place, "disk.img.any");
        assert!(error.message().contains("raw disk") && error.hint().unwrap().contains("qemu-img"), "{error}");
    }
}

#[test]
fn archives_and_pages_of_other_kinds_are_named() {
    let place = Place::new();
    for (magic, name) in [
        (&b"PK\x03\x04"[..], "zip"),
        (b"sqsh", "big-endian"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"{\"error\": 404}", "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"architecture: x86_64\n", "metadata.yaml"),
    ] {
        for bytes in [with(0, magic), magic.to_vec()] {
            place.write("file", bytes);
            let error = refused(&place, "file");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains(name) && error.hint().is_some(), "{error}");
        }
    }
}

#[test]
fn archive_that_is_no_image_is_named() {
    let place = Place::new();
    let root = [directory("bin/"), directory("dev/"), super::forge::Member::new(b'3', "dev/null").device(1, 3).bytes()];
    for (members, name) in [
        (vec![file("box.ovf", "<xml>"), file("box-disk1.vmdk", "KDMV")], "OVA"),
        (vec![file("manifest.json", "[]"), directory("0123abcd/")], "Docker"),
        (vec![directory("blobs/"), file("index.json", "{}"), file("oci-layout", "{}")], "OCI"),
        (root.to_vec(), "root file system"),
    ] {
        let path = place.write("file", archive(&members));
        let image = Image::open(ImageSource::open(path, None).unwrap()).unwrap();
        for error in [
            image.metadata().unwrap_err(),
            image
                .unpack_unverified(place.at("out"), &lxd_image::format::UnpackOptions::new(), &Monitor::none())
                .map(drop)
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            assert!(error.message().contains(name) && error.hint().is_some(), "{error}");
        }
    }
}
