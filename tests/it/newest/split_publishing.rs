//! `publish` makes split images, as `incus publish --format split` does.

use std::fs;

use lxd_image::format::{ImageForm, PackOptions, Rootfs, RootfsFormat};
use lxd_image::store::{CheckOptions, ImportOptions, Store};
use lxd_image::{Fingerprint, Metadata, Monitor};

use crate::cli::run;
use crate::format::Place;
use crate::peers::Lxd;
use crate::store::Scratch;

const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Box\n";

/// The directory of an instance: `c1`.
fn instance(place: &Place) {
    fs::create_dir_all(place.at("c1/rootfs/etc")).unwrap();
    fs::create_dir_all(place.at("c1/templates")).unwrap();
    fs::write(place.at("c1/metadata.yaml"), METADATA).unwrap();
    fs::write(place.at("c1/templates/a.tpl"), "{{ a }}").unwrap();
    fs::write(place.at("c1/rootfs/etc/hostname"), "box\n").unwrap();
}

/// The type, first file and second file of an exported image.
fn exported(place: &Place, reference: &str) -> (Vec<u8>, Vec<u8>) {
    let files = run(place, &["--store", "store", "export", reference, "out/"]).good();
    let files: Vec<&str> = files.lines().collect();
    assert_eq!(files.len(), 2, "{files:?}");
    let read = |file: &str| fs::read(place.at(file)).unwrap();
    let both = (read(files[0]), read(files[1]));
    files.iter().for_each(|file| fs::remove_file(place.at(file)).unwrap());
    both
}

#[test]
fn publish_makes_a_split_image_of_either_rootfs_and_its_parts_make_the_fingerprint() {
    let place = Place::new();
    instance(&place);
    fs::create_dir(place.at("out")).unwrap();
    for (words, magic) in [
        (&["--split"][..], &b"\x28\xb5\x2f\xfd"[..]),
        (&["--format", "split", "--compression", "gzip"], b"\x1f\x8b"),
        (&["--split", "--rootfs-format", "squashfs"], b"hsqs"),
    ] {
        let publish = ["--store", "store", "publish", "c1", "a=b", "--alias", "x", "--reuse"];
        let fingerprint = run(&place, &[&publish, words].concat()).good();
        let (metadata, rootfs) = exported(&place, "x");
        assert!(rootfs.starts_with(magic), "{words:?}");
        assert_eq!(Fingerprint::of(&[metadata, rootfs].concat()).to_string(), fingerprint.trim(), "{words:?}");
        run(&place, &["--store", "store", "unpack", "x", "tree"]).good();
        assert_eq!(fs::read_to_string(place.at("tree/rootfs/etc/hostname")).unwrap(), "box\n");
        assert_eq!(fs::read_to_string(place.at("tree/templates/a.tpl")).unwrap(), "{{ a }}");
        assert!(fs::read_to_string(place.at("tree/metadata.yaml")).unwrap().contains("a: b"));
        fs::remove_dir_all(place.at("tree")).unwrap();
    }
    run(&place, &["--store", "store", "check"]).good();
}

#[test]
fn unified_is_the_other_format_and_a_squashfs_needs_a_split_image() {
    let place = Place::new();
    instance(&place);
    run(&place, &["--store", "store", "publish", "c1", "--format", "unified", "--alias", "x"]).good();
    let shown = run(&place, &["--store", "store", "export", "x", "one"]).good();
    assert_eq!(shown.lines().count(), 1, "{shown}");
    run(&place, &["--store", "store", "publish", "c1", "--rootfs-format", "squashfs"])
        .failed(1, "error[InvalidInput]: ");
}

#[test]
fn split_image_is_published_into_any_kind_of_store() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.join("root/etc")).unwrap();
    fs::write(scratch.join("root/etc/hostname"), "box\n").unwrap();
    let packing = PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap()).form(ImageForm::Split);
    let rootfs = Rootfs::open(scratch.join("root")).unwrap();
    for store in [Store::in_memory().unwrap(), Store::open(scratch.join("store")).unwrap()] {
        for format in [RootfsFormat::Tar, RootfsFormat::SquashFs] {
            let packing = packing.clone().rootfs_format(format);
            let (image, written) = store.publish(&rootfs, &packing, &ImportOptions::new(), &Monitor::none()).unwrap();
            assert_eq!((image.fingerprint, image.form()), (written.fingerprint, ImageForm::Split));
            assert_eq!(image.size, written.size);
        }
        assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().findings.is_empty());
    }
    let staged = fs::read_dir(scratch.join("store/staging")).unwrap().count();
    assert_eq!(staged, 0, "nothing is left");
}

#[test]
fn real_lxd_takes_what_publish_split_makes() {
    let Some(lxd) = Lxd::start() else { return };
    let place = Place::new();
    instance(&place);
    fs::create_dir(place.at("out")).unwrap();
    for words in [&["--split"][..], &["--split", "--rootfs-format", "squashfs"]] {
        let publish = ["--store", "store", "publish", "c1", "--alias", "x", "--reuse"];
        let fingerprint = run(&place, &[&publish, words].concat()).good();
        let (metadata, rootfs) = exported(&place, "x");
        fs::write(lxd.work().join("meta"), metadata).unwrap();
        fs::write(lxd.work().join("rootfs"), rootfs).unwrap();
        lxd.lxc(&["image", "import", "meta", "rootfs", "--alias", "x"]);
        assert_eq!(lxd.fingerprint("x"), fingerprint.trim(), "{words:?}");
        lxd.lxc(&["image", "delete", "x"]);
    }
}
