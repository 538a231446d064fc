//! Against the tars of the field: every dialect that GNU tar and bsdtar write, by every codec's own program.
//! The owed tree is the one that GNU tar itself unpacks as root, compared entry by entry.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use lxd_image::format::{Codec, Image, ImageSource, PackOptions, Rootfs, UnpackOptions, VerifyOptions, pack};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, setxattr, utimensat,
};

use super::forge::METADATA;
use super::peers::have;
use super::{Place, is_root, tree};
use lxd_image::Monitor;

fn run(place: &Place, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(place.at("")).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What most dialects can hold, in `image/`: `metadata.yaml` and `rootfs/`.
fn plant(place: &Place) -> std::path::PathBuf {
    let root = place.directory("image/rootfs");
    place.write("image/metadata.yaml", METADATA);
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    std::fs::write(root.join("a"), "text\n").unwrap();
    std::fs::write(root.join("d/e/big"), vec![7; 100_000]).unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::hard_link(root.join("a"), root.join("d/hard")).unwrap();
    std::os::unix::fs::symlink("../a", root.join("d/link")).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    std::os::unix::fs::chown(root.join("d/e/big"), Some(1000), Some(100)).unwrap();
    std::fs::set_permissions(root.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(root.join("d"), std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
    root
}

/// What only some dialects can hold.
fn plant_more(root: &Path) {
    use std::os::unix::ffi::OsStrExt;
    for name in [&b"new\nline"[..], b"\xff\xfe", b"back\\slash", b" blank", b"%41=", "öä".as_bytes()] {
        std::fs::write(root.join(std::ffi::OsStr::from_bytes(name)), "odd").unwrap();
    }
    let deep = root.join("n".repeat(200)).join("m".repeat(150));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("deep"), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(300), root.join("far")).unwrap();
    std::fs::hard_link(deep.join("deep"), root.join("deep2")).unwrap();
    std::os::unix::fs::lchown(root.join("empty"), Some(3_000_000_000), Some(2_100_000)).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for number in 0..40_u64 {
        sparse.write_all_at(b"data", number << 17).unwrap();
    }
    sparse.set_len(6 << 20).unwrap();
}

fn set_attributes(root: &Path) {
    setxattr(root.join("a"), "user.bin", b"\0\n=\xff", XattrFlags::empty()).unwrap();
    setxattr(root.join("d"), "user.of a%dir=", b"v", XattrFlags::empty()).unwrap();
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    setxattr(root.join("d/e/big"), "security.capability", capability, XattrFlags::empty()).unwrap();
}

/// Gives everything below a directory, and that itself, times of long ago.
fn age(at: &Path) {
    if at.symlink_metadata().unwrap().is_dir() {
        std::fs::read_dir(at).unwrap().for_each(|entry| age(&entry.unwrap().path()));
    }
    let time = Timespec { tv_sec: 1_500_000_000 + at.as_os_str().len() as i64, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What of a tree's lines says nothing: both sides made the directories' parents just now.
fn comparable(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| !line.starts_with("metadata.yaml ")).collect()
}

/// Unpacks by GNU tar and by us, and compares.
#[track_caller]
fn same_as_gnu_tar(place: &Place, archive: &str) {
    place.directory("theirs");
    let restore = [
        "-xf",
        archive,
        "-C",
        "theirs",
        "--numeric-owner",
        "-p",
        "--xattrs",
        "--xattrs-include=*",
        "--same-owner",
        "--delay-directory-restore",
    ];
    run(place, "tar", &restore);
    let image = Image::open(ImageSource::open(place.at(archive), None).unwrap()).unwrap();
    let done = image.unpack_unverified(place.at("ours"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert!(done.report.is_complete(), "{archive}: {:?}", done.report);
    let (ours, theirs) = (tree(&place.at("ours")), tree(&place.at("theirs")));
    assert_eq!(comparable(ours), comparable(theirs), "{archive}");
    let image = Image::open(ImageSource::open(place.at(archive), None).unwrap()).unwrap();
    assert!(image.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().findings.is_empty());
    std::fs::remove_dir_all(place.at("ours")).unwrap();
    std::fs::remove_dir_all(place.at("theirs")).unwrap();
}

/// A place with a planted tree, unless this is no job for an ordinary user.
fn planted(more: bool) -> Option<(Place, std::path::PathBuf)> {
    if !is_root() {
        println!("skipped: only root can compare owners and devices");
        return None;
    }
    if !have("tar") {
        return None;
    }
    let place = Place::new();
    let root = plant(&place);
    if more {
        plant_more(&root);
    }
    Some((place, root))
}

#[test]
fn every_dialect_of_gnu_tar_comes_out_as_gnu_tar_unpacks_it() {
    let Some((place, root)) = planted(false) else { return };
    for format in ["v7", "ustar", "oldgnu", "gnu", "posix"] {
        let format = format!("--format={format}");
        age(&root);
        // Version 7 knows no devices.
        if format.ends_with("v7") {
            std::fs::rename(root.join("null"), place.at("null")).unwrap();
            std::fs::rename(root.join("fifo"), place.at("fifo")).unwrap();
            age(&root);
        }
        run(&place, "tar", &[&format, "-cf", "out.tar", "-C", "image", "metadata.yaml", "rootfs"]);
        same_as_gnu_tar(&place, "out.tar");
        if format.ends_with("v7") {
            std::fs::rename(place.at("null"), root.join("null")).unwrap();
            std::fs::rename(place.at("fifo"), root.join("fifo")).unwrap();
        }
    }
}

#[test]
fn sparse_files_attributes_and_odd_names_of_gnu_tar_come_out_as_it_unpacks_them() {
    let Some((place, root)) = planted(true) else { return };
    age(&root);
    for format in ["oldgnu", "gnu"] {
        run(&place, "tar", &[&format!("--format={format}"), "-S", "-cf", "out.tar", "-C", "image", "."]);
        same_as_gnu_tar(&place, "out.tar");
    }
    set_attributes(&root);
    for version in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={version}");
        let all =
            ["--format=posix", "-S", &sparse, "--xattrs", "--xattrs-include=*", "-cf", "out.tar", "-C", "image", "."];
        run(&place, "tar", &all);
        same_as_gnu_tar(&place, "out.tar");
    }
}

#[test]
fn every_dialect_of_bsdtar_comes_out_as_gnu_tar_unpacks_it() {
    let Some((place, root)) = planted(false) else { return };
    if !have("bsdtar") {
        return;
    }
    for format in ["ustar", "gnutar", "pax"] {
        if format == "pax" {
            // It names what it can in UTF-8 only, and holes only here.
            let sparse = std::fs::File::create(root.join("sparse")).unwrap();
            sparse.write_all_at(b"end", 3 << 20).unwrap();
            std::fs::write(root.join("n".repeat(200)), "long").unwrap();
            setxattr(root.join("a"), "user.bin", b"\0\n=\xff", XattrFlags::empty()).unwrap();
        }
        age(&root);
        run(&place, "bsdtar", &["--format", format, "-cf", "out.tar", "-C", "image", "metadata.yaml", "rootfs"]);
        same_as_gnu_tar(&place, "out.tar");
    }
}

#[test]
fn what_we_pack_gnu_tar_unpacks_to_the_same_tree() {
    let Some((place, root)) = planted(true) else { return };
    set_attributes(&root);
    age(&root);
    for codec in ["none", "gzip", "xz", "zstd", "bzip2"] {
        if !codec.parse::<Codec>().unwrap().is_enabled() || (codec != "none" && !have(codec)) {
            continue;
        }
        let options = PackOptions::from_metadata_bytes(METADATA.into(), &Default::default())
            .unwrap()
            .compression(codec.parse().unwrap());
        let _ = std::fs::remove_file(place.at("out.tar"));
        let written = pack(&Rootfs::open(&root).unwrap(), place.at("out.tar"), &options, &Monitor::none()).unwrap();
        assert!(written.omissions.is_empty());
        same_as_gnu_tar(&place, "out.tar");
    }
}

#[test]
fn output_of_every_codecs_program_is_decoded() {
    let Some((place, root)) = planted(false) else { return };
    let _ = root;
    run(&place, "tar", &["-cf", "plain.tar", "-C", "image", "metadata.yaml", "rootfs"]);
    for (codec, command) in [
        ("gzip", "gzip -9"),
        ("gzip", "pigz -p 3"),
        ("gzip", "pigz -i -b 128"),
        ("bzip2", "bzip2 -1"),
        ("xz", "xz -T2 --block-size=32KiB"),
        ("xz", "xz -0 -C sha256"),
        ("xz", "xz --format=lzma"),
        ("zstd", "zstd -T2"),
        ("zstd", "zstd --ultra -20 --long=27"),
        ("zstd", "zstd --no-check"),
        ("zstd", "pzstd -p 2"),
        ("lz4", "lz4 -1"),
        ("lz4", "lz4 -9 -B4 -BD --content-size"),
    ] {
        let program = command.split(' ').next().unwrap();
        if !codec.parse::<Codec>().unwrap().is_enabled() || !have(program) {
            continue;
        }
        let script = format!("{command} -c < plain.tar > out.tar");
        run(&place, "sh", &["-c", &script]);
        let open = |name: &str| Image::open(ImageSource::open(place.at(name), None).unwrap()).unwrap();
        let found = lxd_image::format::differences(
            &open("plain.tar"),
            &open("out.tar"),
            &VerifyOptions::new().threads(2),
            &Monitor::none(),
        );
        assert_eq!(found.unwrap(), [], "{command}");
    }
}
