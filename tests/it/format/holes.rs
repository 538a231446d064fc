//! Holes stay holes: in trees, disks and archives, whatever they are turned into.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use lxd_image::format::{
    Compression, ConvertOptions, Image, ImageForm, ImageSource, PackOptions, Rootfs, UnpackOptions, VerifyOptions, pack,
};
use lxd_image::{Metadata, Monitor};

use super::Place;
use super::forge::{Disk, archive, file, metadata};

const SIZE: u64 = 64 << 20;

/// A disk of 64 MiB with two islands of data.
fn disk(place: &Place) -> std::path::PathBuf {
    let path = place.write("disk.qcow2", Disk::default().bytes());
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 5000], (20 << 20) + 123).unwrap();
    file.set_len(SIZE).unwrap();
    path
}

fn is_small(path: &Path) {
    let about = std::fs::metadata(path).unwrap();
    assert!(about.blocks() * 512 < 2 << 20, "{} takes {} bytes", path.display(), about.blocks() * 512);
}

fn same(one: &Path, other: &Path) {
    assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{} differs", other.display());
}

fn about() -> Metadata {
    Metadata::new("x86_64", 1_700_000_000).unwrap()
}

#[test]
fn disk_with_holes_keeps_them_when_it_is_unpacked() {
    let place = Place::new();
    let disk = disk(&place);
    let meta = place.write("meta", archive(&[metadata()]));
    let image = Image::open(ImageSource::open(meta, Some(&disk)).unwrap()).unwrap();
    image.unpack_unverified(place.at("out"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    is_small(&place.at("out/rootfs.img"));
    same(&disk, &place.at("out/rootfs.img"));
}

#[test]
fn zeros_of_a_disk_become_holes_and_other_files_stay_as_the_image_has_them() {
    let place = Place::new();
    let disk = disk(&place);
    let bytes = std::fs::read(&disk).unwrap();
    let mut tree = vec![0; 8 << 20];
    tree[5 << 20] = 1;
    let images = [
        archive(&[metadata(), file("rootfs.img", bytes)]),
        archive(&[metadata(), super::forge::directory("rootfs/"), file("rootfs/x", &tree)]),
    ];
    for (index, bytes) in images.iter().enumerate() {
        let (path, out) = (place.write("image", bytes), place.at(&format!("out{index}")));
        Image::open(ImageSource::open(path, None).unwrap())
            .unwrap()
            .unpack_unverified(&out, &UnpackOptions::new(), &Monitor::none())
            .unwrap();
    }
    is_small(&place.at("out0/rootfs.img"));
    same(&disk, &place.at("out0/rootfs.img"));
    assert!(std::fs::metadata(place.at("out1/rootfs/x")).unwrap().blocks() * 512 >= 8 << 20);
    assert!(std::fs::read(place.at("out1/rootfs/x")).unwrap() == tree);
}

#[test]
fn packing_and_converting_keep_the_holes_of_a_disk() {
    let place = Place::new();
    let disk = disk(&place);
    let options = PackOptions::new(about()).compression(Compression::NONE);
    pack(&Rootfs::open(&disk).unwrap(), place.at("one"), &options, &Monitor::none()).unwrap();
    is_small(&place.at("one"));
    assert!(std::fs::metadata(place.at("one")).unwrap().len() < 2 << 20, "an archive with holes");
    let split = ConvertOptions::new().form(ImageForm::Split);
    Image::open(ImageSource::open(place.at("one"), None).unwrap())
        .unwrap()
        .convert(place.at("two"), &split, &Monitor::none())
        .unwrap();
    is_small(&place.at("two.root"));
    same(&disk, &place.at("two.root"));
    let two = Image::open(ImageSource::open(place.at("two"), Some(&place.at("two.root"))).unwrap()).unwrap();
    let unified = ConvertOptions::new().form(ImageForm::Unified);
    two.convert(place.at("back"), &unified, &Monitor::none()).unwrap();
    same(&place.at("one"), &place.at("back"));
    assert_eq!(two.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().disk.unwrap().virtual_size, 1 << 20);
}
