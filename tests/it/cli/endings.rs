//! What an output's name promises is in it, or it is said that it is not.

use lxd_image::format::Codec;

use super::run;
use crate::format::Place;
use crate::format::forge::{file, image};

const PACK: &[&str] = &["--architecture", "amd64", "--creation-date", "1700000000"];

fn place() -> Place {
    let place = Place::new();
    place.directory("tree");
    place.write("tree/x", "x");
    place.write("source", image(&[file("rootfs/x", "x")]));
    place
}

fn codec(place: &Place, name: &str) -> Codec {
    Codec::detect(&std::fs::read(place.at(name)).unwrap()).unwrap_or(Codec::None)
}

const NAMES: &[(&str, Codec)] = &[
    ("a.tar", Codec::None),
    ("a.tar.gz", Codec::Gzip),
    ("a.tgz", Codec::Gzip),
    ("a.TAR.XZ", Codec::Xz),
    ("a.tar.bz2", Codec::Bzip2),
    ("a.tar.zst", Codec::Zstd),
    ("a.tar.lz4", Codec::Lz4),
];

#[test]
fn output_name_selects_the_codec() {
    let place = place();
    for (name, owed) in NAMES {
        run(&place, &[&["pack", "tree", name][..], PACK].concat()).good();
        assert_eq!(codec(&place, name), *owed, "{name}");
        let name = format!("converted-{name}");
        let ran = run(&place, &["convert", "source", &name]);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert_eq!(codec(&place, &name), *owed, "{name}");
    }
    run(&place, &[&["pack", "tree", "plain"][..], PACK].concat()).good();
    assert_eq!(codec(&place, "plain"), Codec::Zstd);
}

#[test]
fn explicit_codec_overrides_the_output_name_and_is_reported() {
    let place = place();
    for (verb, input) in [("pack", "tree"), ("convert", "source")] {
        let name = format!("{verb}.tar.gz");
        let more = if verb == "pack" { PACK } else { &[] };
        let ran = run(&place, &[&[verb, input, &name, "--compression", "xz"][..], more].concat());
        assert_eq!((ran.status, codec(&place, &name)), (0, Codec::Xz));
        assert!(ran.err.contains("`.gz`") || ran.err.contains(".gz"), "{}", ran.err);
        assert!(ran.err.contains("xz"), "{}", ran.err);
    }
}

#[test]
fn output_name_of_another_format_is_refused() {
    let place = place();
    for name in ["a.squashfs", "a.qcow2", "a.zip", "a.tar.Z", "a.tar.lzo", "a.tar.br"] {
        run(&place, &["convert", "source", name]).failed(1, "error[InvalidInput]: ");
        assert!(!place.at(name).exists());
    }
}

#[test]
fn squashfs_beside_an_uncompressed_archive_is_compressed() {
    let place = place();
    let all = [&["pack", "tree", "a.tar", "--split", "--rootfs-format", "squashfs"][..], PACK].concat();
    run(&place, &all).good();
    assert_eq!(codec(&place, "a.tar"), Codec::None);
    let shown = run(&place, &["inspect", "a.tar", "a.tar.root", "--format", "{{ rootfs_compression }}"]).good();
    assert_eq!(shown, "zstd\n");
}
